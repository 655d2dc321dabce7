# -------------------------------------------------------------------------
#
# 140_workflow.pl
#		Workflows with steps over HTTP: answers, rollback of mixed steps,
#		handlers and loops, steps that fail or are not finished, waiting over
#		restarts, signals against time-outs, what is held meanwhile.
#
# Not here: arguments, sql: steps, functions that change (test/sql/workflow.sql),
# crashes (141_workflow_crash.pl).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node(conf => "dtm.retry_interval = '200ms'\ndtm.retry_max_interval = '1s'");
my $service = start_service();
my $url = $service->url;

sub value { return $node->safe_psql('postgres', $_[0]); }

# Create the function of that name and body, "URL" standing for the service.
sub workflow
{
	my ($name, $body) = @_;

	$body =~ s/URL/$url/g;
	value("CREATE OR REPLACE FUNCTION $name(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$\n$body\n\$\$");
	return;
}

sub submit
{
	my ($function, $gid, $data, $more) = @_;

	return value('SELECT dtm_workflow_submit(' . sql_literal($function) . ', ' . sql_literal($data) . ', '
		  . sql_literal($gid) . ($more ? ", $more" : '') . ')');
}

sub result { return value('SELECT dtm_result(' . sql_literal($_[0]) . ')'); }
sub reason { return value("SELECT rollback_reason FROM dtm.transactions WHERE gid = '$_[0]'"); }
sub ledger { return value("SELECT coalesce(string_agg(what, ' ' ORDER BY id), '') FROM ledger WHERE gid = '$_[0]'"); }
sub ops { return [ map { s/^(\S+ \S+) \S+$/$1/r } $service->ops(gid => $_[0]) ]; }

# A step of this kind waits: its row is there, and not decided.
sub wait_step
{
	my ($gid, $step, $op) = @_;

	return wait_for($node, "SELECT count(*) FROM dtm.branches WHERE gid = '$gid' AND branch_id = '$step' AND op = '$op' AND status = 'prepared'",
		'1', name => "$gid waits in step $step");
}

value(<<'END');
CREATE TABLE ledger (id bigserial PRIMARY KEY, gid text, what text);
CREATE FUNCTION note(what text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO public.ledger (gid, what) VALUES (public.dtm_context()->>'gid', what) $$;
CREATE FUNCTION act(p jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT public.note('act'); SELECT '{"did": "act"}'::jsonb $$;
CREATE FUNCTION unact(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT public.note('unact') $$;
END

# ----------------------------------------------------------------- answers
$service->script('/json', { then => { body => { price => 30, tags => [ 'a', undef ] } } });
$service->script('/text', { then => { body => "plain \x{c4}\n\"text\"" } });
$service->script('/empty', { then => { body => '' } });
$service->script('/broken', { then => { body => '{"not": json' } });
$service->script('/nul', { then => { body => '{"a": "\u0000"}' } });
$service->script('/raw', { then => { raw => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x{ff}a\x{00}b\x{fe}" } });
workflow('answers', <<'BODY');
DECLARE all_of jsonb := '[]'; path text; BEGIN
	FOREACH path IN ARRAY ARRAY['json', 'text', 'empty', 'broken', 'nul', 'raw', 'big'] LOOP
		all_of := all_of || jsonb_build_array(dtm_call('URL/' || path));
	END LOOP;
	RETURN all_of;
END
BODY
$service->script('/big', { then => { body => { big => 'x' x 30_000 } } });
submit('answers', 'answers');
wait_status($node, 'answers', 'succeed');
is(value("SELECT dtm_result('answers') - 6"),
	"[{\"tags\": [\"a\", null], \"price\": 30}, \"plain \xc3\x84\\n\\\"text\\\"\", {}, \"{\\\"not\\\": json\", \"{\\\"a\\\": \\\"\\\\u0000\\\"}\", \"?a?b?\"]",
	'JSON comes back as it is, text as a string, nothing as {}, bytes that are no text with ?');
is(value("SELECT length(dtm_result('answers')->6->>'big')"), '30000', 'a long answer is kept whole');
is(scalar($service->calls(gid => 'answers')), 7, 'each step is called once, however often the function runs');

# in another encoding: converted, or ? for what does not exist there
value(q{CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
install_extension($node, 'latin');
$service->script('/latin', { then => { body => "\x{c4}" } });
$service->script('/snow', { then => { body => "\x{2603}!" } });
$node->safe_psql('latin', qq{CREATE FUNCTION answers(data jsonb) RETURNS jsonb LANGUAGE sql AS
	\$\$ SELECT dtm_call('$url/latin') || dtm_call('$url/snow') \$\$});
$node->safe_psql('latin', q{SELECT dtm_workflow_submit('answers', gid => 'latin')});
wait_status($node, 'latin', 'succeed', dbname => 'latin');
is($node->safe_psql('latin', q{SELECT encode(convert_to(dtm_result('latin')::text, 'UTF8'), 'escape')}),
	'["\\303\\204", "???!"]', 'answers in a database of another encoding');

# what is sent: payload, headers, the parameters of the step
workflow('sends', <<'BODY');
BEGIN
	PERFORM dtm_call('URL/sent?own=1', '{"n": 1}', headers => '{"X-Step": "one"}', name => 'first');
	PERFORM dtm_call_tcc('URL/try', 'URL/confirm', 'URL/cancel', '{"n": 2}');
	RETURN NULL;
END
BODY
submit('sends', 'sends', undef, q{headers => '{"X-All": "yes", "X-Step": "no"}'});
wait_status($node, 'sends', 'succeed');
my ($sent) = $service->calls(gid => 'sends', path => '/sent');
is_deeply([ @$sent{qw(method body)}, @{ $sent->{query} }{qw(own gid branch_id op trans_type)}, @{ $sent->{headers} }{qw(x-step x-all)} ],
	[ 'POST', '{"n": 1}', '1', 'sends', '01', 'action', 'workflow', 'one', 'yes' ], 'payload, parameters and headers');
is_deeply(ops('sends'), [ 'action 01', 'try 02', 'confirm 02' ], 'a try is confirmed when the function has ended');
is(result('sends'), '', 'NULL is no result');

# ---------------------------------------------------------------- rollback
workflow('mixed', <<'BODY');
BEGIN
	PERFORM note('local');
	PERFORM dtm_call('URL/one', compensate => 'URL/undo_one');
	PERFORM dtm_call_tcc('URL/two', 'URL/confirm_two', 'URL/cancel_two');
	PERFORM dtm_call('sql:act', compensate => 'sql:unact');
	PERFORM dtm_call('URL/no_undo');
	PERFORM dtm_call_tcc('URL/five', 'URL/confirm_five', 'URL/cancel_five');
	PERFORM dtm_call('URL/six', compensate => 'URL/undo_six');
	RETURN '"done"';
END
BODY
$service->script('/six', { query => { gid => 'mixed-fails' }, then => { status => 409, body => 'sold out' } });
submit('mixed', 'mixed');
submit('mixed', 'mixed-fails');
wait_status($node, 'mixed', 'succeed');
is_deeply(ops('mixed'), [ 'action 01', 'try 02', 'action 04', 'try 05', 'action 06', 'confirm 05', 'confirm 02' ],
	'confirms come at the end, last first');
is(ledger('mixed'), 'act local', 'local writes are there once, with the end');
wait_status($node, 'mixed-fails', 'failed');
is_deeply(ops('mixed-fails'),
	[ 'action 01', 'try 02', 'action 04', 'try 05', 'action 06', 'cancel 05', 'cancel 02', 'compensate 01' ],
	'what was done is undone, last first; what refused is not');
is(ledger('mixed-fails'), 'act unact', 'local writes of a workflow that fails are not there');
is(reason('mixed-fails'), "url:sql:mixed return failed: sold out - step 06, $url/six FAILURE", 'the reason names the step');

# ------------------------------------------------- handlers and savepoints
workflow('handlers', <<'BODY');
DECLARE seen text[] := '{}'; BEGIN
	FOR i IN 1 .. 3 LOOP
		BEGIN
			PERFORM note('loop ' || i);
			PERFORM dtm_call('URL/handled', jsonb_build_object('i', i));
			IF i = 2 THEN RAISE 'an error of its own'; END IF;
		EXCEPTION WHEN OTHERS THEN
			seen := seen || SQLERRM;
		END;
	END LOOP;
	BEGIN
		PERFORM dtm_call('URL/refuses', compensate => 'URL/undo');
	EXCEPTION WHEN OTHERS THEN
		seen := seen || (SQLSTATE || ' ' || SQLERRM);
	END;
	RETURN to_jsonb(seen);
END
BODY
$service->script('/refuses', { then => { status => 409, body => 'no way' } });
submit('handlers', 'handlers');
wait_status($node, 'handlers', 'succeed');
is(result('handlers'), '["an error of its own", "DTM01 no way"]', 'WHEN OTHERS catches errors, and never the end of a run');
is(ledger('handlers'), 'loop 1 loop 3', 'savepoints undo local writes, not steps');
is_deeply(ops('handlers'), [ map { "action $_" } qw(01 02 03 04) ], 'a step that failed and was caught is not undone');

# who catches the end of a run by name gains nothing by it
workflow('stubborn', <<'BODY');
DECLARE tries int := 0; answer jsonb; BEGIN
	LOOP
		BEGIN
			answer := dtm_call('URL/stubborn');
			EXIT;
		EXCEPTION WHEN query_canceled THEN
			tries := tries + 1;
			PERFORM note('caught');
			IF tries = 3 THEN RETURN '"gave up"'; END IF;
		END;
	END LOOP;
	BEGIN
		PERFORM dtm_call('URL/again');
	EXCEPTION WHEN query_canceled THEN
		RAISE 'turned into another error';
	END;
	RETURN answer;
END
BODY
$service->script('/stubborn', { then => { body => '7' } });
submit('stubborn', 'stubborn');
wait_status($node, 'stubborn', 'succeed');
is(result('stubborn'), '7', 'a handler of query_canceled does not end the workflow');
is(ledger('stubborn'), '', 'nor leave anything');
is(scalar($service->calls(gid => 'stubborn')), 2, 'nor call anything twice');

# ------------------------------------------- not finished, errors, limits
$service->script('/busy', { answers => [ { status => 425 }, { status => 500 } ] });
workflow('busy', "BEGIN RETURN dtm_call('URL/busy'); END");
submit('busy', 'busy', undef, q{retry_interval => '0.05 s'});
wait_status($node, 'busy', 'succeed');
is(value("SELECT attempts FROM dtm.branches WHERE gid = 'busy' AND op = 'action'"), '3', 'a step is asked until it is decided');
$service->script('/down', { then => { status => 500, body => 'out of order' } });
workflow('limited', <<'BODY');
BEGIN
	PERFORM dtm_call('URL/one', compensate => 'URL/undo_one');
	PERFORM dtm_call('URL/down', compensate => 'URL/undo_down', retry_limit => 1, request_timeout => '5 s');
	RETURN NULL;
END
BODY
submit('limited', 'limited', undef, q{retry_interval => '0.05 s'});
wait_status($node, 'limited', 'failed');
is_deeply(ops('limited'), [ 'action 01', 'action 02', 'action 02', 'compensate 02', 'compensate 01' ],
	'a step that is not decided within its limit is undone, too');
workflow('stuck', "BEGIN PERFORM dtm_call('URL/one'); RETURN to_jsonb(1 / (data->>'n')::int); END");
submit('stuck', 'stuck', '{"n": 0}', q{retry_interval => '0.05 s'});
wait_for($node, q{SELECT reason ~ '^branch 00 workflow sql:stuck: 22012: division by zero.*failures in a row' FROM dtm.stuck WHERE gid = 'stuck'},
	't', name => 'an error of the function is seen in dtm.stuck');
workflow('stuck', "BEGIN PERFORM dtm_call('URL/one'); PERFORM dtm_await('go'); RETURN '\"mended\"'; END");
value(q{SELECT dtm_retry('stuck')});
wait_step('stuck', '02', 'await');
is(value(q{SELECT count(*) FROM dtm.stuck WHERE gid = 'stuck'}), '0', 'and forgotten with the next step');
value(q{SELECT dtm_signal('stuck', 'go')});
wait_status($node, 'stuck', 'succeed');
is(result('stuck'), '"mended"', 'a function that was mended goes on where it was');

# a run is bounded by the request_timeout, and that is an error, not a wait
workflow('slow', "BEGIN PERFORM note('slow'); PERFORM pg_sleep(60); RETURN NULL; END");
submit('slow', 'slow', undef, q{request_timeout => '0.2 s', retry_interval => '0.05 s', retry_limit => 1});
wait_status($node, 'slow', 'failed');
is(value(q{SELECT string_agg(outcome, ', ') FROM dtm_timeline('slow')}),
	join(', ', ('error: timed out after 200 ms (request_timeout)') x 2), 'a run that takes too long is an error');

# ------------------------------------------------------- dtm_abort, time-out
$service->script('/held', { query => { op => 'action' }, then => { gate => 'held' } });
workflow('held', <<'BODY');
BEGIN
	PERFORM note('held');
	PERFORM dtm_call('URL/one', compensate => 'URL/undo_one');
	PERFORM dtm_call('URL/held', compensate => 'URL/undo_held', request_timeout => '1 min');
	PERFORM note('after');
	RETURN NULL;
END
BODY
submit('held', 'abort');
$service->wait_calls(1, path => '/held', gid => 'abort');
is(value(q{SELECT dtm_abort('abort', 'changed my mind')}), 'aborting', 'a running workflow can be aborted');
wait_status($node, 'abort', 'failed');
is_deeply(ops('abort'), [ 'action 01', 'action 02', 'compensate 02', 'compensate 01' ], 'it is rolled back');
is(reason('abort'), 'changed my mind', 'with the reason given');
submit('held', 'timeout', undef, q{timeout_to_fail => '0.5 s'});
$service->wait_calls(1, path => '/held', gid => 'timeout');
wait_status($node, 'timeout', 'aborting');
$service->open_gate('held');
wait_status($node, 'timeout', 'failed');
is_deeply(ops('timeout'), [ 'action 01', 'action 02', 'compensate 02', 'compensate 01' ],
	'a time-out rolls back once the call under way has ended');
is(reason('timeout'), 'Timeout after 0.5 seconds', 'and says so');
is(ledger('abort') . ledger('timeout'), '', 'no local write is left');

# the function runs while it is aborted: what it did is rolled back with it
workflow('while_running', "BEGIN PERFORM note('never'); PERFORM pg_advisory_xact_lock(4711); RETURN '1'; END");
for my $how (qw(abort stop))
{
	my $lock = DtmSession->new($node);

	$lock->query('SELECT pg_advisory_lock(4711)');
	submit('while_running', "running-$how");
	wait_for($node, q{SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
		WHERE l.locktype = 'advisory' AND NOT l.granted AND a.backend_type = 'dtm_pg executor'}, '1', name => 'the function runs');
	value("SELECT dtm_$how('running-$how', 'enough')");
	$lock->quit;
	wait_status($node, "running-$how", 'failed');
	wait_for($node, q{SELECT count(*) FROM dtm.workers WHERE state = 'executor running'}, '0', name => 'the run has ended');
	is(ledger("running-$how"), '', "dtm_$how wins against a function that has not ended");
	is(result("running-$how"), '', 'which leaves no result');
}

# ---------------------------------------------------------------- waiting
workflow('waits', <<'BODY');
DECLARE signal jsonb; BEGIN
	PERFORM dtm_call('URL/before', compensate => 'URL/undo_before');
	PERFORM dtm_sleep('1.5 s');
	signal := dtm_await('approved', '1 day');
	PERFORM dtm_call('URL/after', signal);
	PERFORM note('end');
	RETURN signal;
END
BODY
submit('waits', 'waits');
wait_step('waits', '02', 'sleep');
is(value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dtm_pg%' AND xact_start IS NOT NULL}), '0',
	'a workflow that waits holds no transaction open');
wait_for($node, 'SELECT transactions_in_flight FROM dtm.workers WHERE worker = 0 AND state = \'running\'', '0',
	name => 'and takes no memory of the coordinator');
$node->restart;
wait_step('waits', '03', 'await');
is(value(q{SELECT now() - t.created_at > '1.5 s' FROM dtm.transactions AS t WHERE gid = 'waits'}), 't', 'a sleep goes on over a restart');
immediate_stop_start($node);
is(value(q{SELECT op || ' ' || name || ' ' || (next_run_at > now() + '23 hours') FROM dtm.branches WHERE gid = 'waits' AND status = 'prepared' AND op = 'await'}),
	'await approved true', 'what it waits for is seen in dtm.branches');
value(q{SELECT dtm_signal('waits', 'approved', '{"by": "ann"}')});
wait_status($node, 'waits', 'succeed');
is(result('waits'), '{"by": "ann"}', 'the payload of the signal is the answer');
is_deeply(ops('waits'), [ 'action 01', 'action 04' ], 'no step is called twice because of restarts');
is(ledger('waits'), 'end', 'nor is anything written twice');

# one that waits for ever is asleep: the sweep does not meet it, a signal finds it
workflow('for_ever', "BEGIN RETURN dtm_await('go'); END");
submit('for_ever', 'for-ever');
wait_step('for-ever', '01', 'await');
wait_for($node, q{SELECT next_run_at FROM dtm.live JOIN dtm.trans USING (id) WHERE gid = 'for-ever'}, 'infinity', name => 'no time to look at it again');
$node->restart;
is(value(q{SELECT next_run_at FROM dtm.live JOIN dtm.trans USING (id) WHERE gid = 'for-ever'}), 'infinity', 'not after a restart either');
value(q{SELECT dtm_signal('for-ever', 'go', '"now"')});
wait_status($node, 'for-ever', 'succeed');
is(result('for-ever'), '"now"', 'the signal wakes it');

# signals and time-outs at once: each signal is the answer of one await, or kept
workflow('race', <<'BODY');
DECLARE seen jsonb := '[]'; one jsonb; BEGIN
	FOR i IN 1 .. 20 LOOP
		one := dtm_await('tick', '0.03 s');
		IF one IS NOT NULL THEN seen := seen || one; END IF;
	END LOOP;
	LOOP
		one := dtm_await('tick');
		EXIT WHEN one = '"last"';
		seen := seen || one;
	END LOOP;
	RETURN seen;
END
BODY
submit('race', 'race');
for my $i (1 .. 30)
{
	value("SELECT dtm_signal('race', 'tick', '$i')");
	usleep(rand(40_000));
}
value(q{SELECT dtm_signal('race', 'tick', '"last"')});
wait_status($node, 'race', 'succeed');
is(result('race'), '[' . join(', ', 1 .. 30) . ']', 'each of 30 signals is seen once, in order, whatever times out meanwhile');

# ------------------------------------------------------------ many at once
workflow('many', <<'BODY');
DECLARE n int := (data->>'n')::int; BEGIN
	PERFORM dtm_call('URL/many', jsonb_build_object('n', n), compensate => 'URL/undo_many');
	PERFORM dtm_call('sql:act', compensate => 'sql:unact');
	PERFORM note('end');
	IF n % 3 = 0 THEN PERFORM dtm_fail('third'); END IF;
	RETURN to_jsonb(n);
END
BODY
value(q{SELECT dtm_workflow_submit('many', jsonb_build_object('n', n), 'many-' || n) FROM generate_series(1, 60) AS n});
wait_for($node, q{SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM dtm.transactions WHERE gid LIKE 'many-%' GROUP BY status) AS s},
	'failed 20, succeed 40', name => 'sixty at once come to their ends');
is(value(q{SELECT string_agg(what || ' ' || n, ', ' ORDER BY what) FROM (SELECT what, count(*) AS n FROM ledger WHERE gid LIKE 'many-%' GROUP BY what) AS s}),
	'act 60, end 40, unact 20', 'with each effect once');
is(value(q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'many-%' AND status = 'succeed' AND result::text <> replace(gid, 'many-', '')}),
	'0', 'and the right results');

# two coordinators, and as many executors as allowed
$node->append_conf('postgresql.conf', "dtm.workers = 2\ndtm.sql_workers = 4");
$node->restart;
value(q{SELECT dtm_workflow_submit('many', jsonb_build_object('n', n), 'more-' || n) FROM generate_series(1, 30) AS n});
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'more-%' AND finished_at IS NOT NULL}, '30', name => 'two coordinators');
is(value(q{SELECT string_agg(what || ' ' || n, ', ' ORDER BY what) FROM (SELECT what, count(*) AS n FROM ledger WHERE gid LIKE 'more-%' GROUP BY what) AS s}),
	'act 30, end 20, unact 10', 'with each effect once');

# whoever is in the middle of a run when its executor is ended begins again
$service->script('/many', { then => { delay => 0.02 } });
value(q{SELECT dtm_workflow_submit('many', jsonb_build_object('n', n), 'killed-' || n, retry_interval => '0.05 s') FROM generate_series(1, 40) AS n});
for (1 .. 5)
{
	usleep(100_000);
	value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type IN ('dtm_pg executor', 'dtm_pg coordinator')});
}
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'killed-%' AND finished_at IS NOT NULL}, '40', name => 'ended executors and coordinators');
is(value(q{SELECT string_agg(what || ' ' || n, ', ' ORDER BY what) FROM (SELECT what, count(*) AS n FROM ledger WHERE gid LIKE 'killed-%' GROUP BY what) AS s}),
	'act 40, end 27, unact 13', 'with each effect once');

# what a function leaves in the session of an executor is not there for another role
value(<<'END');
CREATE EXTENSION dblink;
CREATE ROLE eve;
SELECT dtm_grant('eve');
CREATE FUNCTION opens(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	PERFORM public.dblink_connect('left', format('host=%s port=%s dbname=postgres', split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port')));
	PERFORM pg_sleep(0.1);
END $$;
CREATE FUNCTION finds(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
	PERFORM pg_sleep(0.05);
	RETURN (SELECT to_jsonb(who) FROM public.dblink('left', 'SELECT session_user::text') AS d (who text));
EXCEPTION WHEN OTHERS THEN
	RETURN to_jsonb(SQLSTATE);
END $$;
END
value(q{SELECT dtm_workflow_submit('opens', gid => 'opens-' || n) FROM generate_series(1, 4) AS n});
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'opens-%' AND status = 'succeed'}, '4', name => 'connections are opened');
value(q{SET ROLE eve; SELECT dtm_workflow_submit('finds', gid => 'finds-' || n) FROM generate_series(1, 8) AS n});
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'finds-%' AND status = 'succeed'}, '8', name => 'another role has looked for them');
is(value(q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'finds-%' AND result = '"postgres"'}), '0', 'and finds none');

# a function that takes its time-out for an error of its own does not keep the executor
value(<<'END');
CREATE FUNCTION hogs(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	LOOP
		BEGIN
			LOOP PERFORM pg_sleep(0.01); END LOOP;
		EXCEPTION WHEN query_canceled THEN NULL;
		END;
	END LOOP;
END $$;
END
value(q{SELECT dtm_workflow_submit('hogs', gid => 'hogs-' || n, request_timeout => '0.2 s', retry_limit => 0) FROM generate_series(1, 8) AS n});
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'hogs-%' AND status = 'failed'}, '8', name => 'functions that cannot be cancelled are ended');
like(value(q{SELECT last_error FROM dtm.branches WHERE gid = 'hogs-8'}), qr/did not end when it was cancelled/, 'and it is said why');

# a database that reads by default: the executors write all the same
value(q{ALTER DATABASE postgres SET default_transaction_read_only = on});
value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor'});
value(q{BEGIN READ WRITE; SELECT dtm_workflow_submit('many', '{"n": 1}', 'reading'); COMMIT});
wait_status($node, 'reading', 'succeed');
is(ledger('reading'), 'act end', 'where transactions are read-only by default');
value(q{BEGIN READ WRITE; ALTER DATABASE postgres RESET default_transaction_read_only; COMMIT});

is(value(q{SELECT count(*) FROM dtm.live}), '0', 'nothing is left unfinished');
$node->stop;
done_testing();
