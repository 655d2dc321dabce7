/* -------------------------------------------------------------------------
 *
 * dtm_version.h
 *		The version of the extension that this library drives; the control
 *		file and META.json have the same.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_VERSION_H
#define DTM_VERSION_H

#define DTM_VERSION "0.1.0"

#endif /* DTM_VERSION_H */
