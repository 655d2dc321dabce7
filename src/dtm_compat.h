/* -------------------------------------------------------------------------
 *
 * dtm_compat.h
 *		Differences between the PostgreSQL majors 14 to 18: the only file
 *		that looks at PG_VERSION_NUM (scripts/check_compat.sh holds it).
 *
 * Wrappers have the newest form; each block says until when it is needed.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_COMPAT_H
#define DTM_COMPAT_H

#include "postgres.h"

#include "catalog/pg_database.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

#if PG_VERSION_NUM < 140000 || PG_VERSION_NUM >= 190000
#error "dtm_pg supports PostgreSQL 14 to 18"
#endif

/* until 14: materialised set-returning functions are set up by hand */
#if PG_VERSION_NUM < 150000
static inline void
InitMaterializedSRF(FunctionCallInfo fcinfo, int flags)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old;
	TupleDesc desc;

	(void) flags;
	if (info == NULL || !IsA(info, ReturnSetInfo) || !(info->allowedModes & SFRM_Materialize))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	old = MemoryContextSwitchTo(info->econtext->ecxt_per_query_memory);
	info->returnMode = SFRM_Materialize;
	info->setResult = tuplestore_begin_heap(true, false, work_mem);
	info->setDesc = CreateTupleDescCopy(desc);
	MemoryContextSwitchTo(old);
}

#define setup_parse_variable_parameters parse_variable_parameters
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#define DTM_HAS_SHMEM_REQUEST_HOOK 0
#else
#define DTM_HAS_SHMEM_REQUEST_HOOK 1
#endif

/* 15.0 has it under the name SetSingleFuncCall; the minor releases since have both */

/* until 15: ownership checks per object type */
#if PG_VERSION_NUM < 160000
#define dtm_database_ownercheck(dboid, roleid) pg_database_ownercheck((dboid), (roleid))
#else
#define dtm_database_ownercheck(dboid, roleid) \
	object_ownercheck(DatabaseRelationId, (dboid), (roleid))
#endif

/*
 * until 15: privileges per object type, no soft errors of the name parser,
 * and every member may SET ROLE
 */
#if PG_VERSION_NUM < 160000
#define dtm_function_aclcheck(function, roleid) pg_proc_aclcheck((function), (roleid), ACL_EXECUTE)
#define dtm_server_aclcheck(server, roleid) \
	pg_foreign_server_aclcheck((server), (roleid), ACL_USAGE)
#define dtm_qualified_names(text) stringToQualifiedNameList(text)
#define dtm_schema_aclcheck(schema, roleid) pg_namespace_aclcheck((schema), (roleid), ACL_USAGE)
#define dtm_may_become(member, role) is_member_of_role((member), (role))
#else
#define dtm_function_aclcheck(function, roleid) \
	object_aclcheck(ProcedureRelationId, (function), (roleid), ACL_EXECUTE)
#define dtm_server_aclcheck(server, roleid) \
	object_aclcheck(ForeignServerRelationId, (server), (roleid), ACL_USAGE)
#define dtm_qualified_names(text) stringToQualifiedNameList((text), NULL)
#define dtm_schema_aclcheck(schema, roleid) \
	object_aclcheck(NamespaceRelationId, (schema), (roleid), ACL_USAGE)
#define dtm_may_become(member, role) member_can_set_role((member), (role))
#endif

/* until 16: the number of a PGPROC */
#if PG_VERSION_NUM < 170000
#define DTM_MY_PROC_NUMBER (MyProc->pgprocno)
#else
#define DTM_MY_PROC_NUMBER (MyProcNumber)
#endif

/* until 16: a wait event set belongs to a memory context, later to a resource owner */
#if PG_VERSION_NUM < 170000
#define dtm_create_wait_event_set(n) CreateWaitEventSet(TopMemoryContext, (n))
#else
#define dtm_create_wait_event_set(n) CreateWaitEventSet(NULL, (n))
#endif

/* until 17: what never returns was said behind the declaration; GCC takes it in front, too */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* until 16: extensions share one wait event */
#if PG_VERSION_NUM < 170000
static inline uint32
dtm_wait_event(const char *name)
{
	(void) name;
	return PG_WAIT_EXTENSION;
}
#else
static inline uint32
dtm_wait_event(const char *name)
{
	return WaitEventExtensionNew(name);
}
#endif

#endif /* DTM_COMPAT_H */
