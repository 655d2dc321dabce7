/* -------------------------------------------------------------------------
 *
 * dtm_foreign.c
 *		Foreign servers and user mappings as connection parameters for libpq.
 *
 * Catalog look-ups only; connections are made in src/net/dtm_pq*.c by the
 * coordinator, and by the sessions that use dtm_xa_exec.  Runs in backends
 * and in the coordinator, in a transaction.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "common/hashfn.h"
#include "foreign/foreign.h"
#include "libpq-fe.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "dtm_compat.h"
#include "dtm_foreign.h"

#define APPLICATION_NAME "dtm_pg"
#define CONNECT_TIMEOUT "10" /* seconds, unless the server has its own */
#define OWN_PARAMETERS 4     /* those added here, and the NULL at the end */

/* Options of libpq, by who may set them. */
typedef enum OptionPlace
{
	OPTION_FOREIGN,   /* libpq does not know it, or it is ours to set */
	OPTION_OF_SERVER, /* where to, and how safely */
	OPTION_OF_MAPPING /* as whom */
} OptionPlace;

static OptionPlace
option_place(const PQconninfoOption *known, const char *name)
{
	for (; known->keyword != NULL; known++)
	{
		if (strcmp(known->keyword, name) != 0)
			continue;
		if (strchr(known->dispchar, 'D') != NULL || strcmp(name, "replication") == 0 ||
			strcmp(name, "client_encoding") == 0 || strcmp(name, "fallback_application_name") == 0)
			return OPTION_FOREIGN;
		if (strcmp(name, "user") == 0 || strchr(known->dispchar, '*') != NULL)
			return OPTION_OF_MAPPING;
		return OPTION_OF_SERVER;
	}
	return OPTION_FOREIGN;
}

/* Does somebody check who may write which option into a mapping? */
static bool
is_postgres_fdw(Oid wrapper)
{
	ForeignDataWrapper *fdw = GetForeignDataWrapper(wrapper);
	char *name = OidIsValid(fdw->fdwvalidator) ? get_func_name(fdw->fdwvalidator) : NULL;

	return name != NULL && strcmp(name, "postgres_fdw_validator") == 0;
}

/* The options of the role's mapping, or else of PUBLIC's; false when there is none. */
static bool
mapping_options(Oid server, Oid role, List **options)
{
	HeapTuple tuple =
		SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role), ObjectIdGetDatum(server));
	Datum datum;
	bool isnull;

	*options = NIL;
	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid),
								ObjectIdGetDatum(server));
	if (!HeapTupleIsValid(tuple))
		return false;
	datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		*options = untransformRelOptions(datum);
	ReleaseSysCache(tuple);
	return true;
}

static void
add_parameter(DtmForeign *foreign, int *n, const char *keyword, const char *value)
{
	foreign->keywords[*n] = keyword;
	foreign->values[*n] = value;
	(*n)++;
	foreign->keywords[*n] = foreign->values[*n] = NULL;
}

static bool
has_parameter(const DtmForeign *foreign, const char *keyword)
{
	for (int i = 0; foreign->keywords[i] != NULL; i++)
	{
		if (strcmp(foreign->keywords[i], keyword) == 0)
			return true;
	}
	return false;
}

static void
collect_parameters(DtmForeign *foreign, const ForeignServer *server, List *mapping, bool checked)
{
	PQconninfoOption *known = PQconndefaults();
	int n = 0;
	ListCell *cell;

	if (known == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	PG_TRY();
	{
		foreach (cell, server->options)
		{
			DefElem *option = lfirst(cell);

			if (option_place(known, option->defname) == OPTION_OF_SERVER)
				add_parameter(foreign, &n, option->defname, defGetString(option));
		}
		foreach (cell, mapping)
		{
			DefElem *option = lfirst(cell);
			bool is_secret = option_place(known, option->defname) == OPTION_OF_MAPPING;

			/* files of the server's host: postgres_fdw lets only superusers name them */
			bool is_file =
				strcmp(option->defname, "sslcert") == 0 || strcmp(option->defname, "sslkey") == 0;

			if ((is_secret && strcmp(option->defname, "passfile") != 0) || (is_file && checked))
				add_parameter(foreign, &n, option->defname, defGetString(option));
		}
	}
	PG_FINALLY();
	{
		PQconninfoFree(known);
	}
	PG_END_TRY();
	if (!has_parameter(foreign, "application_name"))
		add_parameter(foreign, &n, "application_name", APPLICATION_NAME);
	if (!has_parameter(foreign, "connect_timeout"))
		add_parameter(foreign, &n, "connect_timeout", CONNECT_TIMEOUT);
	add_parameter(foreign, &n, "client_encoding", "UTF8");
}

static bool
is_password_required(Oid role, List *mapping, bool checked)
{
	ListCell *cell;

	if (superuser_arg(role))
		return false;
	foreach (cell, mapping)
	{
		DefElem *option = lfirst(cell);

		if (checked && strcmp(option->defname, "password_required") == 0)
			return defGetBoolean(option);
	}
	return true;
}

static bool
has_password(const DtmForeign *foreign)
{
	for (int i = 0; foreign->keywords[i] != NULL; i++)
	{
		if (strcmp(foreign->keywords[i], "password") == 0)
			return foreign->values[i][0] != '\0';
	}
	return false;
}

static uint64
fingerprint(const DtmForeign *foreign)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) &foreign->password_required,
									  sizeof(foreign->password_required), foreign->server);

	for (int i = 0; foreign->keywords[i] != NULL; i++)
	{
		const char *parts[2] = {foreign->keywords[i], foreign->values[i]};

		for (int k = 0; k < 2; k++)
			hash = hash_bytes_extended((const unsigned char *) parts[k], (int) strlen(parts[k]) + 1,
									   hash);
	}
	return hash;
}

DtmForeign *
dtm_foreign_get(const char *server_name, Oid role, const char *prefix)
{
	DtmForeign *foreign = palloc0(sizeof(DtmForeign));
	ForeignServer *server;
	List *mapping;
	bool checked;
	int size;

	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%sthe role that submitted the transaction does not exist any more",
						prefix)));
	server = GetForeignServerByName(server_name, true);
	if (server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%sserver \"%s\" does not exist", prefix, server_name),
				 errhint("CREATE SERVER ... FOREIGN DATA WRAPPER postgres_fdw makes one.")));
	if (dtm_server_aclcheck(server->serverid, role) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%spermission denied for foreign server %s", prefix,
						quote_identifier(server->servername)),
				 errhint("GRANT USAGE ON FOREIGN SERVER %s TO %s;",
						 quote_identifier(server->servername),
						 quote_identifier(GetUserNameFromId(role, false)))));
	if (!mapping_options(server->serverid, role, &mapping))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%srole \"%s\" has no user mapping for server \"%s\"", prefix,
						GetUserNameFromId(role, false), server->servername),
				 errhint("CREATE USER MAPPING FOR %s SERVER %s OPTIONS (user '...', password '...');",
						 quote_identifier(GetUserNameFromId(role, false)),
						 quote_identifier(server->servername))));

	checked = is_postgres_fdw(server->fdwid);
	foreign->server = server->serverid;
	foreign->role = role;
	foreign->name = server->servername;
	size = list_length(server->options) + list_length(mapping) + OWN_PARAMETERS;
	foreign->keywords = palloc0(sizeof(char *) * size);
	foreign->values = palloc0(sizeof(char *) * size);
	collect_parameters(foreign, server, mapping, checked);
	foreign->password_required = is_password_required(role, mapping, checked);
	if (foreign->password_required && !has_password(foreign))
		ereport(ERROR,
				(errcode(ERRCODE_S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED),
				 errmsg("%sthe user mapping of role \"%s\" for server \"%s\" has no password",
						prefix, GetUserNameFromId(role, false), server->servername),
				 errdetail("Roles that are no superuser must not use the server's own identity."),
				 errhint("ALTER USER MAPPING FOR %s SERVER %s OPTIONS (ADD password '...');",
						 quote_identifier(GetUserNameFromId(role, false)),
						 quote_identifier(server->servername))));
	foreign->fingerprint = fingerprint(foreign);
	return foreign;
}
