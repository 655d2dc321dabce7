/* XA over foreign servers */

CREATE FUNCTION dtm_xa_exec(server name, statement text, VARIADIC params text[] DEFAULT '{}')
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_xa_exec';
COMMENT ON FUNCTION dtm_xa_exec(name, text, text[]) IS 'run a statement on a foreign server as part of this transaction, which commits there and here or nowhere; returns its number of rows';

CREATE FUNCTION dtm_xa_query(server name, statement text, VARIADIC params text[] DEFAULT '{}')
RETURNS SETOF jsonb
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100
AS 'MODULE_PATHNAME', 'dtm_sql_xa_query';
COMMENT ON FUNCTION dtm_xa_query(name, text, text[]) IS 'run a statement on a foreign server as part of this transaction; returns each of its rows as an object';
