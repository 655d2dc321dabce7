/*
 * Access to the HTTP API: tokens, each bound to a role.  docs/http-security.md
 *
 * What is stored of a token is its SHA-256: the token itself is 256 random
 * bits, which nobody finds again from it.  So the table may be in dumps, and
 * services go on with their tokens after a restore.
 */
CREATE TABLE dtm.http_token (
	hash		bytea NOT NULL,
	name		text COLLATE "C" NOT NULL,
	role		regrole NOT NULL,
	created_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	expires_at	timestamptz,
	CONSTRAINT http_token_pkey PRIMARY KEY (hash),
	CONSTRAINT http_token_name_key UNIQUE (name)
);
COMMENT ON TABLE dtm.http_token IS 'tokens of the HTTP API, as their SHA-256, and the roles they stand for; read dtm.http_tokens instead';
SELECT pg_catalog.pg_extension_config_dump('dtm.http_token', '');

CREATE FUNCTION dtm_http_token_create(role regrole, name text, expires_in interval DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_http_token_create';
COMMENT ON FUNCTION dtm_http_token_create(regrole, text, interval) IS 'make a token with which requests to the HTTP API are this role''s; it is shown this once';

CREATE FUNCTION dtm_http_token_drop(name text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_http_token_drop';
COMMENT ON FUNCTION dtm_http_token_drop(text) IS 'from the next request on, the token of this name is none';
