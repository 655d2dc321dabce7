-- Tokens of the HTTP API: making, showing, dropping them; what is refused.
\pset format unaligned
\pset tuples_only on
\pset null (null)
SET client_min_messages = warning;
CREATE SCHEMA tokens;
SET search_path = tokens, public;
CREATE ROLE regress_dtm_app;
CREATE ROLE regress_dtm_other;
CREATE ROLE regress_dtm_admin;
CREATE ROLE regress_dtm_gone;
CREATE ROLE regress_dtm_watcher IN ROLE pg_monitor;
GRANT regress_dtm_app TO regress_dtm_admin;
GRANT USAGE ON SCHEMA tokens, dtm TO regress_dtm_app, regress_dtm_other, regress_dtm_admin, regress_dtm_watcher;

-- The SQLSTATE and words of an error, or the answer without its secret.
CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE statement INTO answer;
	RETURN regexp_replace(answer, '^dtm_[0-9a-f]{64}$', 'a token');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || regexp_replace(SQLERRM, '\d{5,}', '(number)');
END $$;

--
-- What is stored: a hash that has nothing of the token
--
SELECT dtm_http_token_create('regress_dtm_app', 'orders') AS token \gset
SELECT :'token' ~ '^dtm_[0-9a-f]{64}$' AS form;
SELECT name, role, created_at > now() - interval '1 min', expires_at FROM dtm.http_tokens;
SELECT hash = sha256(:'token'::bytea), octet_length(hash), position(:'token' IN http_token::text) FROM dtm.http_token;
SELECT dtm_http_token_create(name => 'short', role => 'regress_dtm_app', expires_in => '1 hour') <> :'token' AS another;
SELECT name, expires_at - created_at BETWEEN interval '59 min' AND interval '61 min' AS soon FROM dtm.http_tokens WHERE name = 'short';
-- with its transaction
BEGIN;
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', 'never') $$);
ROLLBACK;
SELECT name FROM dtm.http_tokens ORDER BY name;

--
-- What is refused
--
SELECT outcome($$ SELECT dtm_http_token_create(NULL, 'a') $$);
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', NULL) $$);
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', '') $$);
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', repeat('x', 129)) $$);
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', E'a\nb') $$);
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_nobody', 'a') $$);
SELECT outcome($$ SELECT dtm_http_token_create('-', 'a') $$);
SELECT outcome($$ SELECT dtm_http_token_create('999999', 'a') $$);
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', 'orders') $$);
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', 'a', '0') $$);
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', 'a', '-1 s') $$);
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', 'a', '1000000 years') $$);
SELECT outcome($$ SELECT dtm_http_token_drop(NULL) $$);
SELECT outcome($$ SELECT dtm_http_token_drop('') $$);
SELECT outcome($$ SELECT dtm_http_token_drop('nobody') $$);
BEGIN READ ONLY;
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', 'a') $$);
SELECT outcome($$ SELECT dtm_http_token_drop('orders') $$);
COMMIT;
SELECT name FROM dtm.http_tokens ORDER BY name;

--
-- Privileges: nothing without a grant, dtm_grant gives none; then for roles that one may become
--
SELECT dtm_grant(r) FROM unnest('{regress_dtm_app, regress_dtm_admin, regress_dtm_other}'::regrole[]) AS r;
SET ROLE regress_dtm_app;
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', 'a') $$);
SELECT outcome($$ SELECT dtm_http_token_drop('orders') $$);
SELECT outcome($$ SELECT count(*) FROM dtm.http_tokens $$);
SELECT outcome($$ SELECT count(*) FROM dtm.http_token $$);
RESET ROLE;
GRANT EXECUTE ON FUNCTION dtm_http_token_create(regrole, text, interval), dtm_http_token_drop(text)
	TO regress_dtm_app, regress_dtm_admin, regress_dtm_other;
GRANT SELECT ON dtm.http_tokens TO regress_dtm_app, regress_dtm_admin, regress_dtm_other;
SET ROLE regress_dtm_app;
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', 'own') $$);
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_other', 'others') $$);
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_admin', 'higher') $$);
SELECT name FROM dtm.http_tokens ORDER BY name;
SET ROLE regress_dtm_other;
SELECT outcome($$ SELECT dtm_http_token_drop('own') $$);
SELECT count(*) FROM dtm.http_tokens;
SET ROLE regress_dtm_admin;
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', 'for app') $$);
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_admin', 'admin') $$);
SELECT name, role FROM dtm.http_tokens ORDER BY name;
SELECT dtm_http_token_drop('own');
SET ROLE regress_dtm_watcher;
SELECT name, role FROM dtm.http_tokens ORDER BY name;
SELECT outcome($$ SELECT dtm_http_token_drop('orders') $$);
RESET ROLE;

--
-- A role that is dropped takes its tokens with it
--
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_gone', 'gone') $$);
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_gone', 'gone too') $$);
DROP ROLE regress_dtm_gone;
SELECT name, role::text ~ '^\d+$' FROM dtm.http_tokens WHERE name LIKE 'gone%' ORDER BY name;
SET ROLE regress_dtm_other;
SELECT outcome($$ SELECT dtm_http_token_drop('gone') $$);
RESET ROLE;
SELECT dtm_http_token_drop('gone');
SELECT outcome($$ SELECT dtm_http_token_create('regress_dtm_app', 'gone too') $$);
SELECT name, role FROM dtm.http_tokens WHERE name LIKE 'gone%';

-- the statements behind it use no operator of whoever calls
CREATE SCHEMA trap;
CREATE TABLE trap.caught (who name);
GRANT ALL ON SCHEMA trap TO regress_dtm_app;
GRANT INSERT ON trap.caught TO PUBLIC;
CREATE FUNCTION trap.meets(text, text) RETURNS boolean LANGUAGE sql AS $$
	INSERT INTO trap.caught VALUES (current_user);
	SELECT $1 OPERATOR(pg_catalog.=) $2;
$$;
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.meets);
CREATE FUNCTION trap.meets(bytea, bytea) RETURNS boolean LANGUAGE sql AS $$
	INSERT INTO trap.caught VALUES (current_user);
	SELECT $1 OPERATOR(pg_catalog.=) $2;
$$;
CREATE OPERATOR trap.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = trap.meets);
\c -
SET client_min_messages = warning;
SET ROLE regress_dtm_app;
SET search_path = trap, pg_catalog, public, tokens;
SELECT tokens.outcome($$ SELECT dtm_http_token_create('regress_dtm_app', 'trapped') $$);
SELECT dtm_http_token_drop('trapped');
RESET ROLE;
SELECT who FROM trap.caught;

SET client_min_messages = error;
SELECT dtm_http_token_drop(name) FROM dtm.http_tokens ORDER BY name;
DROP SCHEMA tokens, trap CASCADE;
DROP OWNED BY regress_dtm_app, regress_dtm_other, regress_dtm_admin, regress_dtm_watcher;
DROP ROLE regress_dtm_app, regress_dtm_other, regress_dtm_admin, regress_dtm_watcher;
