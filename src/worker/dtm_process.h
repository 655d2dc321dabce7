/* -------------------------------------------------------------------------
 *
 * dtm_process.h
 *		Entry points of the background workers and what they have in common.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_PROCESS_H
#define DTM_PROCESS_H

#include "postgres.h"

#include "postmaster/bgworker.h"

#include "dtm_shmem.h"

/* Register the launcher; called by _PG_init while libraries are preloaded. */
extern void dtm_launcher_register(void);

/* Hook for DDL on databases; called by _PG_init while libraries are preloaded. */
extern void dtm_ddl_init(void);

extern PGDLLEXPORT void dtm_launcher_main(Datum arg);
extern PGDLLEXPORT void dtm_coordinator_main(Datum arg);
extern PGDLLEXPORT void dtm_executor_main(Datum arg);

/* Fill a registration of a dynamic worker of a database; it is never restarted by the postmaster. */
extern void dtm_process_worker(BackgroundWorker *worker, const char *function, const char *kind,
							   int database, int number);

/* The argument of a dynamic worker: slot of the database and number of the worker in it. */
#define DTM_PROCESS_ARG(database, number) Int32GetDatum(((database) << 8) | (number))
#define DTM_PROCESS_DATABASE(arg) (DatumGetInt32(arg) >> 8)
#define DTM_PROCESS_NUMBER(arg) (DatumGetInt32(arg) & 0xFF)

/* Signal handlers of all our workers. */
extern void dtm_process_signals(void);

/*
 * Between two pieces of work: end when asked to, take new settings; true when
 * there were any.  A cancel (pg_cancel_backend) finds no statement here and
 * is forgotten.
 */
extern bool dtm_process_interrupts(void);

/* Start executors when there is more to do than they can take. */
extern bool dtm_executor_ensure(int database);

#endif /* DTM_PROCESS_H */
