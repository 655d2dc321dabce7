/* -------------------------------------------------------------------------
 *
 * dtm_pg.c
 *		Entry of the library: settings, and, when it is preloaded, shared
 *		memory, the launcher and the hook for DDL on databases.
 *
 * Never raises when it is not preloaded: tables, submits and the barrier
 * work without the workers.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "dtm_process.h"
#include "dtm_serve.h"
#include "dtm_settings.h"
#include "dtm_shmem.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	dtm_settings_define();
	if (!process_shared_preload_libraries_in_progress)
		return;
	dtm_shmem_init();
	dtm_coordinator_server = &dtm_server;
	dtm_ddl_init();
	dtm_launcher_register();
}
