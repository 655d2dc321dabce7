-- The settings: names, units, defaults, bounds, what is refused.
\pset format unaligned
SELECT name, setting, unit, context, vartype, min_val, max_val, boot_val FROM pg_settings WHERE name LIKE 'dtm.%' ORDER BY name COLLATE "C";
-- each says what it is for
SELECT name FROM pg_settings WHERE name LIKE 'dtm.%' AND (coalesce(short_desc, '') = '' OR category <> 'Customized Options');
\pset tuples_only on
SHOW dtm.alert_retry_limit;
SHOW dtm.alert_webhook;
SHOW dtm.allowed_targets;
SHOW dtm.ca_file;
SHOW dtm.max_databases;
SHOW dtm.max_host_calls;
SHOW dtm.max_inflight;
SHOW dtm.max_response_size;
SHOW dtm.notify;
SHOW dtm.request_timeout;
SHOW dtm.retention;
SHOW dtm.retry_interval;
SHOW dtm.retry_max_interval;
SHOW dtm.sql_workers;
SHOW dtm.timeout_to_fail;
SHOW dtm.workers;

-- none can be set in a session, a database or a role; none that is not known
SET dtm.request_timeout = '1s';
SET dtm.allowed_targets = '';
\set VERBOSITY sqlstate
SET dtm.no_such_setting = 1;
\set VERBOSITY default
ALTER ROLE CURRENT_USER SET dtm.retention = 0;
SELECT set_config('dtm.workers', '2', false);


-- bad values
\pset tuples_only off
\set VERBOSITY sqlstate
ALTER SYSTEM SET dtm.workers = 0;
ALTER SYSTEM SET dtm.workers = 5;
ALTER SYSTEM SET dtm.sql_workers = 9;
ALTER SYSTEM SET dtm.max_inflight = 0;
ALTER SYSTEM SET dtm.max_host_calls = -1;
ALTER SYSTEM SET dtm.max_response_size = '17MB';
ALTER SYSTEM SET dtm.request_timeout = 0;
ALTER SYSTEM SET dtm.request_timeout = '3 parsecs';
ALTER SYSTEM SET dtm.retry_interval = '-1s';
ALTER SYSTEM SET dtm.retention = '-1d';
ALTER SYSTEM SET dtm.notify = 'sometimes';
\set VERBOSITY default
ALTER SYSTEM SET dtm.alert_webhook = 'pager';
ALTER SYSTEM SET dtm.alert_webhook = 'ftp://127.0.0.1/';
ALTER SYSTEM SET dtm.alert_webhook = 'sql:page_me';
ALTER SYSTEM SET dtm.alert_webhook = 'http://user:secret@127.0.0.1/';
ALTER SYSTEM SET dtm.allowed_targets = '10.0.0.0/33';
ALTER SYSTEM SET dtm.allowed_targets = '10.0.0.999';
ALTER SYSTEM SET dtm.allowed_targets = '*, 10.0.0.1/8';
ALTER SYSTEM SET dtm.allowed_targets = 'ftp://*';
ALTER SYSTEM SET dtm.allowed_targets = 'sql:*';
ALTER SYSTEM SET dtm.allowed_targets = 'a.*.example.com';
ALTER SYSTEM SET dtm.allowed_targets = '*example.com';
ALTER SYSTEM SET dtm.allowed_targets = 'example.com:http';
ALTER SYSTEM SET dtm.allowed_targets = 'example.com:70000';
ALTER SYSTEM SET dtm.allowed_targets = '[::1';
ALTER SYSTEM SET dtm.allowed_targets = 'fd00::/129';
ALTER SYSTEM SET dtm.allowed_targets = 'http://example.com/path';
ALTER SYSTEM SET dtm.allowed_targets = 'http://';
ALTER SYSTEM SET dtm.allowed_targets = '!';
SET dtm.no_such_setting = 1;

-- only a superuser sees what could help an attacker, and changes anything
CREATE ROLE regress_dtm_settings;
SELECT dtm_grant('regress_dtm_settings');
SET ROLE regress_dtm_settings;
SELECT string_agg(name, ' ' ORDER BY name COLLATE "C") FROM pg_settings WHERE name LIKE 'dtm.%';
\set VERBOSITY sqlstate
SHOW dtm.allowed_targets;
SHOW dtm.alert_webhook;
SHOW dtm.request_timeout;
ALTER SYSTEM SET dtm.notify = on;
\set VERBOSITY default
RESET ROLE;

--
-- dtm.allowed_targets holds at submit, for those who may not read it too.
-- Where networks are listed, names are judged when they are resolved, before the call.
--
\set include `echo "$PG_ABS_SRCDIR/sql/include/wait_for.sql"`
CREATE FUNCTION allowed(VARIADIC urls text[]) RETURNS TABLE (url text, allowed text) LANGUAGE plpgsql AS $$
BEGIN
	FOREACH url IN ARRAY urls LOOP
		BEGIN
			PERFORM dtm_saga_submit(jsonb_build_array(dtm_step(url)), start_after => '1 day');
			allowed := 'yes';
			RAISE division_by_zero;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		WHEN OTHERS THEN
			allowed := SQLSTATE;
		END;
		RETURN NEXT;
	END LOOP;
END $$;
ALTER SYSTEM SET dtm.allowed_targets = '10.0.0.0/8 https://*.example.com, shop.example.org:8443 !10.6.6.6 [::1]:8080';
SELECT pg_reload_conf();
\set condition 'current_setting(''dtm.allowed_targets'') = ''10.0.0.0/8 https://*.example.com, shop.example.org:8443 !10.6.6.6 [::1]:8080'''
\set ECHO none
\i :include
\set ECHO all
SET ROLE regress_dtm_settings;
SELECT * FROM allowed('http://10.1.2.3/', 'https://10.1.2.3:9/', 'http://10.6.6.6/', 'http://11.1.2.3/', 'http://may-resolve-to-it.example.net/',
	'http://[::1]:8080/', 'http://[::1]:8081/', 'http://[::ffff:10.1.2.3]/', 'http://[::ffff:11.1.2.3]/', 'http://169.254.169.254/', '');
RESET ROLE;
-- no network, and so the name alone decides
ALTER SYSTEM SET dtm.allowed_targets = 'https://*.example.com, shop.example.org:8443';
SELECT pg_reload_conf();
\set condition 'current_setting(''dtm.allowed_targets'') = ''https://*.example.com, shop.example.org:8443'''
\set ECHO none
\i :include
\set ECHO all
SELECT * FROM allowed('https://a.example.com/', 'https://a.b.example.com/', 'https://A.Example.COM/', 'http://a.example.com/', 'https://example.com/',
	'https://aexample.com/', 'https://a.example.com.net/', 'http://shop.example.org:8443/', 'https://shop.example.org:8443/', 'http://shop.example.org/',
	'http://10.1.2.3/');
-- nothing at all allows no calls; sql: and empty targets make none
ALTER SYSTEM SET dtm.allowed_targets = '';
SELECT pg_reload_conf();
\set condition 'current_setting(''dtm.allowed_targets'') = '''''
\set ECHO none
\i :include
\set ECHO all
SELECT * FROM allowed('http://10.1.2.3/', 'http://localhost/', 'http://[::1]/', '', 'sql:nowhere');
-- a link-local address has to be named
ALTER SYSTEM SET dtm.allowed_targets = '*, 169.254.1.2, !localhost';
SELECT pg_reload_conf();
\set condition 'current_setting(''dtm.allowed_targets'') = ''*, 169.254.1.2, !localhost'''
\set ECHO none
\i :include
\set ECHO all
SELECT * FROM allowed('http://10.1.2.3/', 'http://169.254.1.2/', 'http://169.254.1.3/', 'http://localhost/', 'http://LOCALHOST./', 'http://example.com/');
ALTER SYSTEM RESET dtm.allowed_targets;
SELECT pg_reload_conf();
\set condition 'current_setting(''dtm.allowed_targets'') = ''*'''
\set ECHO none
\i :include
\set ECHO all
SELECT * FROM allowed('http://localhost/', 'http://169.254.1.2/');

-- defaults of a submit are the settings' at the time of the call: nothing of them is stored
BEGIN;
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'settings-none', start_after => '1 day');
SELECT options FROM dtm.transactions WHERE gid = 'settings-none';
ROLLBACK;

DROP FUNCTION allowed(text[]);
DROP OWNED BY regress_dtm_settings;
DROP ROLE regress_dtm_settings;
