-- pg:// targets at submit: the server, USAGE, the user mapping, the password.  Nobody is called.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
SET client_min_messages = error; -- nothing drives it: not said each time
SELECT dtm_pause();
CREATE EXTENSION postgres_fdw;
CREATE ROLE regress_dtm_pg;
SELECT dtm_grant('regress_dtm_pg');
CREATE SERVER regress_bank FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1');
CREATE SERVER "Regress Bank" FOREIGN DATA WRAPPER postgres_fdw;
CREATE FOREIGN DATA WRAPPER regress_other;
CREATE SERVER regress_other FOREIGN DATA WRAPPER regress_other;

-- How a submit of the target ends.
CREATE FUNCTION try(target text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	PERFORM dtm_saga_submit(jsonb_build_array(dtm_step(target)));
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ': ' || SQLERRM || coalesce(E'\n  detail: ' || nullif(detail, ''), '')
		|| coalesce(E'\n  hint: ' || nullif(hint, ''), '');
END $$;
GRANT EXECUTE ON FUNCTION try(text) TO regress_dtm_pg;

-- a superuser needs a mapping, too, but no password in it
SELECT try('pg://nowhere/f');
SELECT try('pg://regress_bank/f') ~ '^42704: step 0: "action": role ".*" has no user mapping for server "regress_bank"';
CREATE USER MAPPING FOR CURRENT_USER SERVER regress_bank;
SELECT try('pg://regress_bank/f');
SELECT try('PG://Regress_Bank/"Schema".f');
SELECT try('pg://"regress_bank"/f');
SELECT try('pg://"Regress_Bank"/f');
CREATE USER MAPPING FOR CURRENT_USER SERVER "Regress Bank";
SELECT try('pg://"Regress Bank"/f');
SELECT dtm_saga_submit('[{"action": "pg://regress_bank/f"}, {"action": "pg://regress_bank/f", "compensate": "pg://gone/f"}]');
SELECT dtm_msg_prepare('[{"action": "pg://regress_bank/f"}]', 'pg://gone/f');
SELECT dtm_tcc_submit('[{"try": "pg://regress_bank/f", "confirm": "pg://regress_bank/f", "cancel": "pg://gone/f"}]');
SELECT dtm_topic_subscribe('regress_pg', 'pg://gone/f');
SELECT dtm_topic_subscribe('regress_pg', 'xa://regress_bank');

-- others: USAGE, an own mapping or that of PUBLIC, a password
SET ROLE regress_dtm_pg;
SELECT try('pg://regress_bank/f');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER regress_bank, "Regress Bank", regress_other TO regress_dtm_pg;
SET ROLE regress_dtm_pg;
SELECT try('pg://regress_bank/f');
CREATE USER MAPPING FOR regress_dtm_pg SERVER regress_bank OPTIONS (user 'x');
SELECT try('pg://regress_bank/f');
ALTER USER MAPPING FOR regress_dtm_pg SERVER regress_bank OPTIONS (ADD password '');
SELECT try('pg://regress_bank/f');
ALTER USER MAPPING FOR regress_dtm_pg SERVER regress_bank OPTIONS (SET password 'secret');
SELECT try('pg://regress_bank/f');
RESET ROLE;
CREATE USER MAPPING FOR PUBLIC SERVER "Regress Bank" OPTIONS (user 'x', password 'y');
SET ROLE regress_dtm_pg;
SELECT try('pg://"Regress Bank"/f');
RESET ROLE;

-- only a superuser says that it goes without one, and only where somebody looks who says so
ALTER USER MAPPING FOR regress_dtm_pg SERVER regress_bank OPTIONS (DROP password, ADD password_required 'false');
SET ROLE regress_dtm_pg;
SELECT try('pg://regress_bank/f');
CREATE USER MAPPING FOR regress_dtm_pg SERVER regress_other OPTIONS (user 'x', password_required 'false');
SELECT try('pg://regress_other/f');
ALTER USER MAPPING FOR regress_dtm_pg SERVER regress_other OPTIONS (ADD password 'y');
SELECT try('pg://regress_other/f');
RESET ROLE;

-- the rights are those of the role that submits, also inside a function of another one
CREATE FUNCTION try_as_owner(target text) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT try($1)';
REVOKE USAGE ON FOREIGN SERVER regress_bank FROM regress_dtm_pg;
GRANT EXECUTE ON FUNCTION try_as_owner(text) TO regress_dtm_pg;
SET ROLE regress_dtm_pg;
SELECT try('pg://regress_bank/f');
SELECT try_as_owner('pg://regress_bank/f');
RESET ROLE;

SELECT count(dtm_stop(gid)) > 0 FROM dtm.transactions WHERE status = 'submitted'
	AND gid IN (SELECT b.gid FROM dtm.branches b WHERE b.url ILIKE 'pg://%');
DROP FUNCTION try_as_owner(text), try(text);
DROP SERVER regress_bank CASCADE;
DROP SERVER "Regress Bank" CASCADE;
DROP SERVER regress_other CASCADE;
DROP FOREIGN DATA WRAPPER regress_other;
DROP EXTENSION postgres_fdw;
DROP OWNED BY regress_dtm_pg;
DROP ROLE regress_dtm_pg;
SELECT dtm_resume();
