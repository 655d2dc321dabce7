/* -------------------------------------------------------------------------
 *
 * dtm_process.c
 *		What the background workers have in common: registration, signals.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"

#include "dtm_process.h"

void
dtm_process_worker(BackgroundWorker *worker, const char *function, const char *kind, int database,
				   int number)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;

	/*
	 * Never restarted by the postmaster: a dropped database would haunt the
	 * log for ever.  The launcher starts them anew, with back-off.
	 */
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker->bgw_library_name, BGW_MAXLEN, "dtm_pg");
	snprintf(worker->bgw_function_name, BGW_MAXLEN, "%s", function);
	snprintf(worker->bgw_type, BGW_MAXLEN, "dtm_pg %s", kind);
	snprintf(worker->bgw_name, BGW_MAXLEN, "dtm_pg %s %d of database %u", kind, number,
			 dtm_shared->databases[database].dboid);
	worker->bgw_main_arg = DTM_PROCESS_ARG(database, number);
	worker->bgw_notify_pid = 0;
}

void
dtm_process_signals(void)
{
	/* die sets flags that CHECK_FOR_INTERRUPTS acts upon; nothing of ours runs in a handler */
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
}

bool
dtm_process_interrupts(void)
{
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	if (!ConfigReloadPending)
		return false;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	return true;
}
