# -------------------------------------------------------------------------
#
# 070_sql_branches.pl
#		Functions as branches: exactly once also when the executor is ended,
#		time-outs, whose rights and search_path, several at once, errors.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node(conf => "dtm.retry_interval = '100ms'\ndtm.sql_workers = 2\ndtm.request_timeout = '20s'");
my $service = start_service();

sub value { return $node->safe_psql('postgres', $_[0]); }

sub submit
{
	my ($gid, $steps, $options, %more) = @_;

	return submit_saga($node, [ map { ref $_ ? $_ : { action => "sql:$_", payload => { n => 1 } } } @$steps ],
		gid => $gid, options => $options, %more);
}

sub last_error
{
	my ($gid, $op) = @_;

	return value('SELECT last_error FROM dtm.branches WHERE gid = ' . sql_literal($gid) . " AND op = '"
		  . ($op // 'action') . "' ORDER BY branch_id DESC LIMIT 1");
}

# Rows that functions left behind, one letter each.
sub ledger { return value("SELECT string_agg(what, '' ORDER BY id) FROM ledger WHERE gid = '$_[0]'"); }

$node->safe_psql('postgres', <<'END');
CREATE TABLE ledger (id bigserial PRIMARY KEY, gid text, what text);
CREATE SEQUENCE tries;
CREATE FUNCTION note(what text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO ledger (gid, what) VALUES (dtm_context()->>'gid', what);
$$;
CREATE FUNCTION quick(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT note('q') $$;
CREATE FUNCTION undo(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT note('u') $$;
CREATE FUNCTION slow_once(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM note('s');
	IF nextval('tries') % 2 = 1 THEN
		PERFORM pg_sleep(60);
	END IF;
END $$;
CREATE FUNCTION slow(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM note('s');
	PERFORM pg_sleep((p->>'s')::float8);
END $$;
CREATE FUNCTION never(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM note('n');
	RAISE EXCEPTION 'boom' USING ERRCODE = 'P1234', DETAIL = 'all of it';
END $$;
CREATE FUNCTION divide(p jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(1 / 0) $$;
CREATE TABLE only_one (n int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
INSERT INTO only_one VALUES (1);
CREATE FUNCTION deferred(p jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO only_one VALUES (1) $$;
CREATE FUNCTION long_error(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '%', repeat(U&'\00fc', 5000); END $$;
CREATE FUNCTION commits(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
CREATE FUNCTION gone(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT $$;
CREATE FUNCTION refuse(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM note('r'); PERFORM dtm_fail('no more'); END $$;
CREATE FUNCTION refuse_mute(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT dtm_fail() $$;
CREATE FUNCTION caught(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	BEGIN PERFORM note('x'); PERFORM dtm_fail('caught'); EXCEPTION WHEN SQLSTATE 'DTM01' THEN PERFORM note('c'); END;
END $$;
CREATE FUNCTION twice_ongoing(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM note('o');
	IF nextval('ongoing') <= 2 THEN PERFORM dtm_ongoing('not yet'); END IF;
END $$;
CREATE SEQUENCE ongoing;
CREATE FUNCTION context(p jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO ledger (gid, what) VALUES (dtm_context()->>'gid', dtm_context()::text || ' ' || coalesce(p::text, 'NULL')) $$;
CREATE FUNCTION together(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	until timestamptz := clock_timestamp() + interval '15 s';
BEGIN
	PERFORM pg_advisory_xact_lock_shared(77);
	WHILE clock_timestamp() < until LOOP
		IF nextval('tries') > 0 AND (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77) >= 2 THEN
			PERFORM pg_sleep(0.3);		-- the other one has to see it too
			RETURN;
		END IF;
		PERFORM pg_sleep(0.02);
	END LOOP;
	PERFORM dtm_fail('nobody else came');
END $$;
END

my $executors = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor'";

# ---- exactly once

submit('killed', ['slow_once']);
wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND wait_event = 'PgSleep'",
	'1', name => 'the function has written and sleeps');
value("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND wait_event = 'PgSleep'");
wait_status($node, 'killed', 'succeed');
is(ledger('killed'), 's', 'its executor is terminated: one effect');
is(value("SELECT attempts FROM dtm.branches WHERE gid = 'killed' AND op = 'action'"), 2, 'of two attempts');
is(last_error('killed'), 'the executor was ended', 'and says why');

submit('cancelled', ['slow_once']);
wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND wait_event = 'PgSleep'",
	'1', name => 'the function has written and sleeps');
value("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND wait_event = 'PgSleep'");
wait_status($node, 'cancelled', 'succeed');
is(ledger('cancelled'), 's', 'its query is cancelled: one effect');
like(last_error('cancelled'), qr/^57014: canceling statement due to user request/, 'and says why');

# executors and coordinators are terminated at any moment
submit("storm-$_", [ 'quick', 'quick', 'quick' ]) for 1 .. 25;
for my $round (1 .. 12)
{
	my $kind = $round % 4 ? 'executor' : 'coordinator';

	value("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dtm_pg $kind' AND datname = 'postgres'");
	usleep(30_000);
}
wait_for($node, "SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'storm-%' AND status = 'succeed'", '25');
is(value("SELECT string_agg(DISTINCT n::text, ' ') FROM (SELECT count(*) AS n FROM ledger WHERE gid LIKE 'storm-%' GROUP BY gid) AS x"),
	'3', 'each function of each saga once, whoever is terminated');

# ---- time-out

submit('timeout', [ 'quick', { action => 'sql:slow', compensate => 'sql:undo', payload => { s => 20 } } ],
	"request_timeout => '300 ms', retry_limit => 1");
wait_status($node, 'timeout', 'failed');
is(last_error('timeout', 'action'), 'timed out after 300 ms (request_timeout)', 'request_timeout ends a slow function');
is(value("SELECT attempts FROM dtm.branches WHERE gid = 'timeout' AND branch_id = '02' AND op = 'action'"), 2, 'twice');
is(ledger('timeout'), 'q', 'which leaves nothing, and so there is nothing to undo');
is(value("SELECT status FROM dtm.branches WHERE gid = 'timeout' AND branch_id = '02' AND op = 'compensate'"), 'succeed',
	'the null compensation is a success');

# ---- failures and errors

submit('refuse', [ { action => 'sql:quick', compensate => 'sql:undo' }, { action => 'sql:refuse', compensate => 'sql:undo' } ]);
wait_status($node, 'refuse', 'failed');
is(ledger('refuse'), 'qu', 'dtm_fail: its own effect is rolled back, the others are undone');
is(last_error('refuse'), 'DTM01: no more', 'its words');
is(value("SELECT rollback_reason FROM dtm.transactions WHERE gid = 'refuse'"),
	'url:sql:refuse return failed: no more FAILURE', 'in DTM\'s form');
submit('mute', ['refuse_mute']);
wait_status($node, 'mute', 'failed');
like(last_error('mute'), qr/^DTM01: \S/, 'dtm_fail without a reason');
submit('caught', ['caught']);
wait_status($node, 'caught', 'succeed');
is(ledger('caught'), 'c', 'dtm_fail that is caught is none');
submit('ongoing', ['twice_ongoing'], "retry_interval => '50 ms'");
wait_status($node, 'ongoing', 'succeed');
is(ledger('ongoing'), 'o', 'dtm_ongoing: what the earlier runs did is rolled back');
is(value("SELECT string_agg(outcome, ', ') FROM dtm_timeline('ongoing')"),
	'ongoing: DTM02: not yet, ongoing: DTM02: not yet, ok', 'and it is called again');

my %errors = (
	never => qr/^P1234: boom - all of it - PL\/pgSQL function (public\.)?never\(jsonb\) line 4 at RAISE$/,
	divide => qr/^22012: division by zero - SQL function "divide" /,
	deferred => qr/^23505: duplicate key value violates unique constraint "only_one_pkey" - Key \(n\)=\(1\) already exists\./,
	long_error => qr/^P0001: \x{fc}{200,500}$/,
	commits => qr/^2D000: invalid transaction termination/);
submit("error-$_", [$_], "retry_interval => '1 h'") for sort keys %errors;
$errors{gone} = qr/^42883: function public\.gone\(jsonb\) does not exist/;
value('SELECT dtm_pause()');
submit('error-gone', ['gone'], "retry_interval => '1 h'");
value('DROP FUNCTION gone(jsonb)');
value('SELECT dtm_resume()');
for my $name (sort keys %errors)
{
	wait_for($node, "SELECT attempts FROM dtm.branches WHERE gid = 'error-$name' AND op = 'action'", '1');
	my $error = last_error("error-$name");
	utf8::decode($error);
	like($error, $errors{$name}, "$name: last_error");
	is(value("SELECT dtm_status('error-$name')"), 'submitted', "$name: is not a business failure");
}
is(ledger('error-never'), '', 'an error leaves nothing');

# ---- what the function sees

submit('context', [ { action => 'sql:context', payload => { a => [ 1, 'x' ] } }, { action => 'sql:context' } ]);
wait_status($node, 'context', 'succeed');
is(ledger('context'), join('', map { '{"op": "action", "gid": "context", "branch_id": "0' . $_->[0] . '", "trans_type": "saga"} ' . $_->[1] }
	  [ 1, '{"a": [1, "x"]}' ], [ 2, '{}' ]), 'dtm_context() and the payload');
is(value('SELECT dtm_context() IS NULL'), 't', 'there is none elsewhere');

$node->safe_psql('postgres', <<'END');
CREATE ROLE app LOGIN;
SELECT dtm_grant('app');
GRANT INSERT ON ledger TO app;
GRANT USAGE ON SEQUENCE ledger_id_seq TO app;
CREATE TABLE secret (x int);
CREATE SCHEMA one;
CREATE SCHEMA two;
GRANT USAGE ON SCHEMA one, two TO app;
CREATE TABLE one.place AS SELECT 'one' AS name;
CREATE TABLE two.place AS SELECT 'two' AS name;
GRANT SELECT ON one.place, two.place TO app;
CREATE FUNCTION one.where_am_i(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM public.note('function one'); END $$;
CREATE FUNCTION two.where_am_i(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM public.note('two: ' || (SELECT name FROM place) || ' ' || current_user || ' ' || current_setting('search_path'));
END $$;
CREATE FUNCTION sneak(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN EXECUTE p->>'sql'; END $$;
CREATE FUNCTION set_path(p jsonb) RETURNS void LANGUAGE sql AS $$
	SELECT set_config('search_path', 'one', false), set_config('work_mem', '77kB', false) $$;
CREATE FUNCTION lock_it(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(78) $$;
CREATE FUNCTION show_path(p jsonb) RETURNS void LANGUAGE sql AS $$
	SELECT note(current_setting('search_path') || ' ' || (current_setting('work_mem') = '77kB')) $$;
CREATE FUNCTION for_app(p jsonb) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
	PERFORM FROM secret;
	PERFORM note('definer ' || current_user);
END $$;
END
my $as_app = 'SET search_path = two, public';
$node->safe_psql('postgres', "$as_app; SELECT dtm_saga_submit('[{\"action\": \"sql:where_am_i\"}]', gid => 'path')",
	extra_params => [ '-U', 'app' ]);
wait_status($node, 'path', 'succeed');
is(ledger('path'), 'two: two app two, public', 'search_path and role of the submitter');
submit('definer', ['for_app'], undef, user => 'app');
wait_status($node, 'definer', 'succeed');
is(ledger('definer'), 'definer postgres', 'SECURITY DEFINER works as ever');
submit('leak', [ 'set_path', 'show_path' ]);
wait_status($node, 'leak', 'succeed');
is(ledger('leak'), '"$user", public false', 'a setting does not outlive the function');
submit('lock', ['lock_it']);
wait_status($node, 'lock', 'succeed');
is(value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 78"), 0,
	'nor does a lock of the session');

my %sneaky = (
	'SELECT FROM secret' => qr/^42501: permission denied for table secret/,
	'RESET ROLE' => qr/^42501: cannot set parameter "role" within security-/,
	'SET SESSION AUTHORIZATION postgres' =>
	  qr/^42501: cannot set parameter "session_authorization" within security-/,
	'CREATE TEMP TABLE t (x int)' => qr/^42501: cannot create temporary table within security-restricted operation/,
	'LISTEN x' => qr/^42501: cannot execute LISTEN within /,
	'DECLARE c CURSOR WITH HOLD FOR SELECT 1' => qr/^42501: cannot create a cursor WITH HOLD within security-restricted/,
	'PREPARE p AS SELECT 1' => qr/^42501: cannot execute PREPARE within security-restricted operation/,
	'DELETE FROM dtm.live' => qr/^42501: permission denied for table live/);
for my $sql (sort keys %sneaky)
{
	submit("sneak $sql", [ { action => 'sql:sneak', payload => { sql => $sql } } ], "retry_interval => '1 h'",
		user => 'app');
	wait_for($node, "SELECT attempts FROM dtm.branches WHERE gid = 'sneak $sql' AND op = 'action'", '1');
	like(last_error("sneak $sql"), $sneaky{$sql}, "refused: $sql");
}

# the role is dropped while its saga is under way
$node->safe_psql('postgres', "CREATE ROLE leaver LOGIN; SELECT dtm_grant('leaver'); GRANT INSERT ON ledger TO leaver;"
	  . ' GRANT USAGE ON SEQUENCE ledger_id_seq TO leaver');
submit('left', ['quick'], "start_after => '1 h'", user => 'leaver');
$node->safe_psql('postgres', 'DROP OWNED BY leaver; DROP ROLE leaver');
value("SELECT dtm_retry('left')");
wait_for($node, "SELECT attempts > 0 FROM dtm.branches WHERE gid = 'left' AND op = 'action'", 't', name => 'asked nevertheless');
is(last_error('left'), '42704: the role that submitted the transaction does not exist any more',
	'a function does not run for a role that is gone');
is(value("SELECT status FROM dtm.transactions WHERE gid = 'left'"), 'submitted', 'the views still work');
is(value("SELECT dtm_stop('left')"), 'failed', 'and it can be stopped');

# ---- the forward call was somebody else's: the barrier of a sql: target did not see it, and it is undone all the same

sub undone
{
	my ($gid, $expected, $name) = @_;

	wait_status($node, $gid, 'failed');
	is(ledger($gid), $expected, $name);
	return;
}
my $refuse = { action => 'sql:refuse' };
submit('undo-http', [ { action => $service->url('/action'), compensate => 'sql:undo' }, $refuse ]);
undone('undo-http', 'u', 'a sql: compensation of an HTTP action');
submit('undo-empty', [ { action => '', compensate => 'sql:undo' }, $refuse ]);
undone('undo-empty', 'u', 'of an empty action');
submit('undo-none', [ $refuse, { action => $service->url('/never'), compensate => 'sql:undo' } ]);
undone('undo-none', '', 'not of an action that was not called');
value('SELECT dtm_tcc_submit(' . sql_literal('[{"try": "' . $service->url('/try') . '", "confirm": "", "cancel": "sql:undo"},'
	  . ' {"try": "sql:refuse", "confirm": "", "cancel": "sql:undo"}]') . ", gid => 'undo-tcc')");
undone('undo-tcc', 'u', 'a sql: Cancel of an HTTP Try, but not of a sql: Try that refused');

# repeated: the first one is ended after its work, or says that it comes again
$node->safe_psql('postgres', <<'END');
CREATE FUNCTION undo_slowly(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	PERFORM note('u');
	IF nextval('undone') = 1 THEN PERFORM pg_sleep(60); END IF;
END $$;
CREATE SEQUENCE undone;
END
submit('undo-twice', [ { action => $service->url('/action'), compensate => 'sql:undo_slowly' }, $refuse ]);
wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND wait_event = 'PgSleep'",
	'1', name => 'the compensation has written and sleeps');
value("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND wait_event = 'PgSleep'");
undone('undo-twice', 'u', 'a compensation that is called twice has one effect');
is(value("SELECT attempts FROM dtm.branches WHERE gid = 'undo-twice' AND branch_id = '01' AND op = 'compensate'"), 2, 'of two attempts');

# done already, and called again, as after a lost answer
is(value("SELECT string_agg(op || ' ' || reason, ', ' ORDER BY op) FROM dtm.barrier WHERE gid = 'undo-http' AND branch_id = '01'"),
	'action action, compensate compensate', 'its rows in the barrier');
submit('undo-again', [ { action => $service->url('/action'), compensate => 'sql:undo' }, $refuse ], "start_after => '1 hour'");
value("INSERT INTO dtm.barrier (trans_type, gid, branch_id, op, barrier_id, reason) SELECT 'saga', 'undo-again', '01', op, 'sql', op"
	  . " FROM unnest(ARRAY['action', 'compensate']) AS op");
value("SELECT dtm_retry('undo-again')");
undone('undo-again', '', 'a compensation whose row is there is not run again');

# ---- several at once

submit("together-$_", ['together']) for 1, 2;
wait_status($node, "together-$_", 'succeed') for 1, 2;
submit('together', [ 'together', 'together' ], undef, concurrent => 1);
wait_status($node, 'together', 'succeed');

# five times as many slow ones as executors: HTTP goes on
submit("slow-$_", [ { action => 'sql:slow', payload => { s => 0.5 } } ]) for 1 .. 10;
wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND wait_event = 'PgSleep'",
	'2', name => 'both executors are busy');
submit_saga($node, [ map { { action => $service->url("/$_") } } 1 .. 3 ], gid => 'http');
wait_status($node, 'http', 'succeed');
cmp_ok(value("SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'slow-%' AND status = 'submitted'"), '>=', 5,
	'most of the slow ones still wait');
is(scalar(my @pids = split /\n/, value($executors)), 2, 'dtm.sql_workers is the limit');
wait_for($node, "SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'slow-%' AND status = 'succeed'", '10');

# one that is stopped while it runs: its effect is kept or not, but it is not called again
submit('stopped', [ { action => 'sql:slow', payload => { s => 0.5 } }, 'quick' ]);
wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND wait_event = 'PgSleep'",
	'1', name => 'it runs');
is(value("SELECT dtm_stop('stopped', 'enough')"), 'failed', 'dtm_stop does not wait for a function');
wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND wait_event = 'PgSleep'",
	'0', name => 'the function comes to its end');
unlike(ledger('stopped'), qr/q/, 'nothing else is called');

$node->stop;
done_testing();
