# -------------------------------------------------------------------------
#
# 120_pg_branches.pl
#		Functions in other databases as branches: a second database of the
#		same cluster with the plain barrier, and a second cluster with the
#		extension.  Answers, exactly once over lost connections and crashes,
#		servers that stay away, whose user mapping, many at once.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Test::More;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;

my $node = new_node(conf => "dtm.retry_interval = '100ms'\ndtm.request_timeout = '20s'\ndtm.max_host_calls = 5");
my $far = new_node(name => 'far', preload => 0, conf => "listen_addresses = '127.0.0.1'");
my $plain = abs_path(dirname(__FILE__) . '/../../sql/dtm_barrier_plain.sql');

sub value { return $node->safe_psql('postgres', $_[0]); }
sub far_value { return $far->safe_psql('postgres', $_[0]); }

sub submit
{
	my ($gid, $steps, $options, %more) = @_;

	return submit_saga($node,
		[ map { ref $_ ? $_ : { action => "pg://$_", payload => { gid => $gid, n => 1 } } } @$steps ],
		gid => $gid, options => $options, %more);
}

sub last_error
{
	my ($gid, $op) = @_;

	return value('SELECT last_error FROM dtm.branches WHERE gid = ' . sql_literal($gid) . " AND op = '"
		  . ($op // 'action') . "' ORDER BY branch_id DESC LIMIT 1");
}

sub attempts
{
	return value("SELECT attempts FROM dtm.branches WHERE gid = '$_[0]' AND op = '" . ($_[1] // 'action')
		  . "' ORDER BY branch_id LIMIT 1");
}

my $ledger_query = "SELECT coalesce(string_agg(what, '' ORDER BY id), '') FROM ledger WHERE gid = ";
sub far_ledger { return far_value($ledger_query . sql_literal($_[0])); }
sub near_ledger { return $node->safe_psql('bank', $ledger_query . sql_literal($_[0])); }

my $fixture = <<'END';
CREATE TABLE ledger (id bigserial PRIMARY KEY, gid text, what text);
CREATE SEQUENCE tries;
CREATE FUNCTION note(p jsonb, what text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO public.ledger (gid, what) VALUES (p->>'gid', what);
$$;
CREATE FUNCTION act(p jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT public.note(p, 'a'); SELECT p $$;
CREATE FUNCTION undo(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT public.note(p, 'u') $$;
CREATE FUNCTION confirm(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT public.note(p, 'c') $$;
CREATE FUNCTION refuse(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM note(p, 'r'); RAISE EXCEPTION 'no more' USING ERRCODE = 'DTM01'; END $$;
CREATE FUNCTION twice_ongoing(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM note(p, 'o');
	IF nextval('tries') <= 2 THEN RAISE EXCEPTION 'not yet' USING ERRCODE = 'DTM02'; END IF;
END $$;
CREATE FUNCTION never(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM note(p, 'n'); RAISE EXCEPTION 'boom' USING ERRCODE = 'P1234', DETAIL = 'all of it'; END $$;
CREATE TABLE only_one (n int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
INSERT INTO only_one VALUES (1);
CREATE FUNCTION deferred(p jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO only_one VALUES (1) $$;
CREATE FUNCTION several(p jsonb) RETURNS SETOF jsonb LANGUAGE sql AS $$
	SELECT public.note(p, 's'); SELECT p UNION ALL SELECT p $$;
CREATE FUNCTION slow(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM note(p, 's'); PERFORM pg_sleep((p->>'s')::float8); END $$;
CREATE SEQUENCE slow_tries;
CREATE FUNCTION slow_once(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM note(p, 's');
	IF nextval('slow_tries') % 2 = 1 THEN PERFORM pg_sleep(60); END IF;
END $$;
CREATE FUNCTION leave_behind(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('search_path', 'nowhere', false), set_config('work_mem', '77kB', false);
	PERFORM pg_advisory_lock(78);
	CREATE TEMP TABLE ledger (id bigserial, gid text, what text);
	EXECUTE 'LISTEN dtm_test';
END $$;
CREATE FUNCTION look_behind(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM public.note(p, current_setting('search_path') || ' ' || (current_setting('work_mem') = '77kB')
		|| ' ' || (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 78)
		|| ' ' || coalesce(to_regclass('pg_temp.ledger')::text, '-')
		|| ' ' || (SELECT count(*) FROM pg_listening_channels())
		|| ' ' || current_setting('application_name') || ' ' || current_setting('client_encoding'));
END $$;
CREATE SCHEMA "My Schema";
CREATE FUNCTION "My Schema"."do ""it"".now"(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT public.note(p, p->>'t') $$;
CREATE FUNCTION "Act"(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT public.note(p, 'A') $$;
CREATE FUNCTION whoami(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT public.note(p, session_user::text) $$;
CREATE FUNCTION is_tls(p jsonb) RETURNS void LANGUAGE sql AS $$
	SELECT public.note(p, ssl::text) FROM pg_stat_ssl WHERE pid = pg_backend_pid() $$;
CREATE FUNCTION is_sent(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM note(p, 'q');
	IF p->>'gid' LIKE 'msg-no%' THEN RAISE EXCEPTION 'never' USING ERRCODE = 'DTM01'; END IF;
END $$;
END

value('CREATE DATABASE bank');
$node->safe_psql('bank', $fixture);
far_value($fixture);
value('CREATE EXTENSION postgres_fdw');
value('CREATE SERVER near FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '
	  . sql_literal($node->host) . ", port '" . $node->port . "', dbname 'bank')");
value('CREATE SERVER "Far" FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '
	  . sql_literal($far->host) . ", port '" . $far->port . "', dbname 'postgres', fetch_size '7')");
my $superuser = value('SELECT current_user');
value("CREATE USER MAPPING FOR CURRENT_USER SERVER $_ OPTIONS (user '$superuser')") for 'near', '"Far"';

# ---- no barrier there yet

submit('no-barrier', ['near/act'], "retry_interval => '1 h'");
wait_for($node, "SELECT attempts FROM dtm.branches WHERE gid = 'no-barrier' AND op = 'action'", '1');
is(last_error('no-barrier'),
	'server "near" has no barrier in its database "bank": CREATE EXTENSION dtm_pg, or run dtm_barrier_plain.sql there',
	'a database without a barrier');
is(near_ledger('no-barrier'), '', 'is not called');
$node->safe_psql('bank', 'CREATE SCHEMA trap; CREATE ROLE trapper; ALTER SCHEMA trap OWNER TO trapper;'
	  . ' CREATE FUNCTION trap.dtm_barrier(text, text, text, text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;'
	  . ' ALTER FUNCTION trap.dtm_barrier(text, text, text, text, text) OWNER TO trapper');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('bank'), '-f', $plain ],
	'dtm_barrier_plain.sql');
value("SELECT dtm_retry('no-barrier')");
wait_status($node, 'no-barrier', 'succeed');
is(near_ledger('no-barrier'), 'a', 'and is, once it has one');
is($node->safe_psql('bank', "SELECT trans_type, branch_id, op, barrier_id FROM dtm.barrier WHERE gid = 'no-barrier'"),
	'saga|01|action|pg', 'the row of the barrier, which is not that of somebody else');

# ---- a saga over two databases

submit('both', [ 'near/act', '"Far"/public.act' ]);
wait_status($node, 'both', 'succeed');
is(near_ledger('both') . far_ledger('both'), 'aa', 'a saga over two databases');
submit('both-fail', [
	{ action => 'pg://near/act', compensate => 'pg://NEAR/public.undo', payload => { gid => 'both-fail' } },
	{ action => 'pg://"Far"/refuse', compensate => 'pg://"Far"/undo', payload => { gid => 'both-fail' } } ]);
wait_status($node, 'both-fail', 'failed');
is(near_ledger('both-fail'), 'au', 'what one did is undone');
is(far_ledger('both-fail'), '', 'what the other refused is not: the barrier knows that it has no effect');
is(last_error('both-fail'), 'DTM01: no more', 'the reason of DTM01');
is(value("SELECT rollback_reason FROM dtm.transactions WHERE gid = 'both-fail'"),
	'url:pg://"Far"/refuse return failed: no more FAILURE', 'rollback_reason');
is($far->safe_psql('postgres', "SELECT string_agg(op || ' ' || reason, ', ' ORDER BY id) FROM dtm.barrier WHERE gid = 'both-fail'"),
	'action compensate, compensate compensate', 'rows of an empty compensation are committed');

# what did not run behind the barrier there is undone there nevertheless, and once
# what is recorded as done here must be durable there, whatever the default is there
far_value('CREATE FUNCTION commits_how(p jsonb) RETURNS void LANGUAGE sql AS $$'
	  . " SELECT public.note(p, current_setting('synchronous_commit')) \$\$");
for my $setting ([ 'off', 'local' ], [ 'remote_apply', 'remote_apply' ])
{
	my ($default, $used) = @$setting;

	far_value("ALTER DATABASE postgres SET synchronous_commit = $default");
	far_value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dtm_pg'});
	submit("flushed-$default", ['"Far"/commits_how']);
	wait_status($node, "flushed-$default", 'succeed');
	is(far_ledger("flushed-$default"), $used, "synchronous_commit = $default there: $used");
}
far_value('ALTER DATABASE postgres RESET synchronous_commit');
far_value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dtm_pg'});

value('CREATE FUNCTION local_act(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT $$');
submit('elsewhere', [
	{ action => 'sql:local_act', compensate => 'pg://near/undo', payload => { gid => 'elsewhere' } },
	{ action => '', compensate => 'pg://"Far"/undo', payload => { gid => 'elsewhere' } },
	{ action => 'pg://"Far"/refuse', payload => { gid => 'elsewhere' } } ]);
wait_status($node, 'elsewhere', 'failed');
is(near_ledger('elsewhere') . ' ' . far_ledger('elsewhere'), 'u u', 'undoing what ran elsewhere');

submit('ongoing', ['"Far"/twice_ongoing'], "retry_interval => '50 ms'");
wait_status($node, 'ongoing', 'succeed');
is(far_ledger('ongoing'), 'o', 'DTM02: what the earlier calls did is rolled back');
is(value("SELECT string_agg(outcome, ', ') FROM dtm_timeline('ongoing')"),
	'ongoing: DTM02: not yet, ongoing: DTM02: not yet, ok', 'and it is asked again');

my %errors = (
	never => qr/^P1234: boom - all of it - PL\/pgSQL function (public\.)?never\(jsonb\) line 2 at RAISE$/,
	deferred => qr/^23505: duplicate key value violates unique constraint "only_one_pkey" - Key \(n\)=\(1\)/,
	several => qr/^21000: more than one row/,
	missing => qr/^42883: function missing\(jsonb\) does not exist/,
	Act => qr/^$/);
for my $name (sort keys %errors)
{
	submit("error-$name", ["\"Far\"/$name"], "retry_interval => '1 h'");
	wait_for($node, "SELECT attempts FROM dtm.branches WHERE gid = 'error-$name' AND op = 'action'", '1',
		name => "$name: one attempt");
	like(last_error("error-$name"), $errors{$name}, "$name: last_error");
	is(far_ledger("error-$name"), $name eq 'Act' ? 'a' : '', "$name: what is there afterwards");
}
my $text = "it''s \\ \"x\" \x{fc} \$1 %s";
utf8::encode($text);
value("SELECT dtm_saga_submit(jsonb_build_array(dtm_step('pg://\"Far\"/\"My Schema\".\"do \"\"it\"\".now\"',"
	  . " payload => jsonb_build_object('gid', 'it''s', 't', '$text'))), gid => 'it''s')");
wait_status($node, "it's", 'succeed');
$text =~ s/''/'/g;
is(far_ledger("it's"), $text, 'quoted names, and a payload with quotes and backslashes');
submit('folded', [ '"Far"/"Act"', '"Far"/ACT' ]);
wait_status($node, 'folded', 'succeed');
is(far_ledger('folded'), 'Aa', 'names are folded as in SQL');

# larger than any buffer on the way, and an answer larger than dtm.max_response_size
value("SELECT dtm_saga_submit(jsonb_build_array(dtm_step('pg://\"Far\"/act',"
	  . " payload => jsonb_build_object('gid', 'large', 'x', repeat(chr(8364), 300000)))), gid => 'large')");
wait_status($node, 'large', 'succeed');
is(far_ledger('large'), 'a', 'a large payload');
is(attempts('large'), 1, 'and an answer that is too long does not matter');

# the same over TLS, whose records are not what a read takes
SKIP:
{
	my $dir = $far->data_dir;
	my $made = system("openssl req -new -x509 -days 2 -nodes -subj /CN=far -out $dir/server.crt -keyout $dir/server.key >$dir/openssl.log 2>&1");

	skip 'no openssl', 3 if $made != 0;
	chmod 0600, "$dir/server.key";
	$far->append_conf('postgresql.conf', 'ssl = on');
	$far->reload;
	skip 'the server has no TLS', 3 if far_value('SHOW ssl') ne 'on';
	value("CREATE SERVER tls FOREIGN DATA WRAPPER postgres_fdw OPTIONS (hostaddr '127.0.0.1', port '"
		  . $far->port . "', dbname 'postgres', sslmode 'require')");
	value("CREATE USER MAPPING FOR CURRENT_USER SERVER tls OPTIONS (user '$superuser')");
	value("SELECT dtm_saga_submit(jsonb_build_array("
		  . "dtm_step('pg://tls/act', payload => jsonb_build_object('gid', 'tls', 'x', repeat(chr(8364), 300000))),"
		  . "dtm_step('pg://tls/is_tls', payload => '{\"gid\": \"tls\"}')), gid => 'tls')");
	wait_status($node, 'tls', 'succeed');
	is(far_ledger('tls'), 'atrue', 'TLS');
	is(attempts('tls'), 1, 'at the first attempt');
}

# a coordinator in a database of another encoding: on the wire everything is UTF-8
value(q{CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'});
$node->safe_psql('latin', 'CREATE EXTENSION dtm_pg; CREATE EXTENSION postgres_fdw;'
	  . ' CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host ' . sql_literal($far->host)
	  . ", port '" . $far->port . "', dbname 'postgres');"
	  . " CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user '$superuser')");
$node->safe_psql('latin', "SELECT dtm_saga_submit(jsonb_build_array(dtm_step('pg://far/\"My Schema\".\"do \"\"it\"\".now\"',"
	  . " payload => jsonb_build_object('gid', 'latin', 't', chr(252)))), gid => 'latin')");
wait_status($node, 'latin', 'succeed', dbname => 'latin');
is(far_value("SELECT string_agg(ascii(what)::text, ' ') FROM ledger WHERE gid = 'latin'"), '252', 'texts are converted');

# ---- a session is left as it was found

submit('leave', [ '"Far"/leave_behind', '"Far"/look_behind' ]);
wait_status($node, 'leave', 'succeed');
is(far_ledger('leave'), '"$user", public false 0 - 0 dtm_pg UTF8', 'nothing of a function stays in the session');
my $backends = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dtm_pg'";
$node->safe_psql('latin', 'SELECT dtm_pause()');
wait_for($far, $backends . ' AND NOT EXISTS (SELECT FROM pg_stat_ssl AS s WHERE s.pid = pg_stat_activity.pid AND s.ssl)', '1',
	name => 'connections are kept and used again');

# ---- time-outs

submit('slow', [ { action => 'pg://"Far"/slow', payload => { gid => 'slow', s => 60 }, request_timeout => 0.3 } ],
	"retry_interval => '1 h'");
wait_for($node, "SELECT attempts FROM dtm.branches WHERE gid = 'slow' AND op = 'action'", '1');
is(last_error('slow'), 'timed out after 300 ms (request_timeout)', 'request_timeout');
wait_for($far, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", '0',
	name => 'is a statement_timeout there');
is(far_ledger('slow'), '', 'and nothing was done');

# ---- exactly once over lost connections

# Passes on what it gets; when told to, it swallows the answer of the next COMMIT and hangs up.
my $listener = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1', Proto => 'tcp') or die $!;
my $flag = $node->basedir . '/swallow_commit';
my $proxy = fork() // die $!;
if ($proxy == 0)
{
	my $select = IO::Select->new($listener);
	my %peer;
	while (my @ready = $select->can_read)
	{
		for my $from (@ready)
		{
			if ($from == $listener)
			{
				my $client = $listener->accept or next;
				my $server = IO::Socket::UNIX->new(Peer => $far->host . '/.s.PGSQL.' . $far->port);
				if (!$server) { close $client; next; }
				@peer{ $client, $server } = ($server, $client);
				$select->add($client, $server);
				next;
			}
			my $to = $peer{$from} or next;
			my $n = sysread($from, my $data, 65536);
			my $end = !$n;
			if (!$end && $from->isa('IO::Socket::UNIX') && $data =~ /COMMIT\0/ && unlink($flag)) { $end = 1; }
			elsif (!$end) { syswrite($to, $data); }
			next unless $end;
			$select->remove($from, $to);
			delete @peer{ $from, $to };
			close $from;
			close $to;
		}
	}
	require POSIX;
	POSIX::_exit(0);
}
value("CREATE SERVER proxy FOREIGN DATA WRAPPER postgres_fdw OPTIONS (hostaddr '127.0.0.1', port '"
	  . $listener->sockport . "', dbname 'postgres')");
value("CREATE USER MAPPING FOR CURRENT_USER SERVER proxy OPTIONS (user '$superuser')");
submit('through', ['proxy/act']);
wait_status($node, 'through', 'succeed');
open(my $touched, '>', $flag) or die $!;
close $touched;
submit('swallowed', [ 'proxy/act', 'proxy/act' ]);
wait_status($node, 'swallowed', 'succeed');
ok(!-e $flag, 'an answer of COMMIT was swallowed');
is(far_ledger('swallowed'), 'aa', 'each function had its effect once');
is(attempts('swallowed'), 2, 'over two attempts');
like(last_error('through'), qr/^$/, 'no error through it otherwise');
like(value("SELECT last_error FROM dtm.branches WHERE gid = 'swallowed' AND branch_id = '01' AND op = 'action'"),
	qr/^the connection to server "proxy" was lost: /, 'and the reason is kept');

submit('killed', ['"Far"/slow_once']);
wait_for($far, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", '1', name => 'it runs');
far_value("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
wait_status($node, 'killed', 'succeed');
is(far_ledger('killed'), 's', 'its backend is terminated: one effect');

far_value("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dtm_pg'");
submit('idle-killed', ['"Far"/act']);
wait_status($node, 'idle-killed', 'succeed');
is(attempts('idle-killed'), 1, 'an idle connection that was ended costs no attempt');

submit('coordinator', ['"Far"/slow_once']);
wait_for($far, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", '1', name => 'it runs');
immediate_stop_start($node);
far_value("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
wait_status($node, 'coordinator', 'succeed');
is(far_ledger('coordinator'), 's', 'a crash of the server of the coordinator: one effect');

# ---- a server that stays away, and comes back

submit('far-crash', [ map { { action => 'pg://"Far"/slow', payload => { gid => 'far-crash', s => 0.5 } } } 1 .. 3 ]);
wait_for($far, $ledger_query . "'far-crash'", 's', name => 'the first of three steps is done');
$far->stop('immediate');
submit("away-$_", ['"Far"/act'], "retry_interval => '1 h'") for 1 .. 3;
wait_for($node, "SELECT count(*) FROM dtm.branches WHERE gid LIKE 'away-%' AND op = 'action' AND attempts = 1", '3',
	name => 'the server is away');
like(last_error('away-1'), qr/^connection to server .* failed: /, 'and last_error says so');
$far->start;
submit('knock', ['"Far"/act']);
wait_status($node, $_, 'succeed') for qw(knock far-crash);
is(far_ledger('far-crash'), 'sss', 'a crash of the other server: each step once');
wait_status($node, "away-$_", 'succeed') for 1 .. 3;
pass('what waited for it is pulled forward');

# ---- whose mapping

far_value("CREATE ROLE clerk LOGIN PASSWORD 'secret'; CREATE ROLE chief LOGIN PASSWORD 'other';"
	  . ' GRANT USAGE ON SCHEMA public TO clerk, chief;'
	  . " SELECT dtm_grant('clerk'); SELECT dtm_grant('chief'); GRANT INSERT ON ledger TO clerk, chief;"
	  . ' GRANT USAGE ON SEQUENCE ledger_id_seq TO clerk, chief');
{
	my $hba = $far->data_dir . '/pg_hba.conf';
	open(my $in, '<', $hba) or die $!;
	my @lines = <$in>;
	close $in;
	open(my $out, '>', $hba) or die $!;
	print $out "local all clerk,chief scram-sha-256\n", @lines;
	close $out;
	$far->reload;
}
value("CREATE ROLE $_ LOGIN; SELECT dtm_grant('$_')") for qw(app boss guest trusting);
value('GRANT USAGE ON FOREIGN SERVER "Far" TO app, boss, trusting');
value(q{CREATE USER MAPPING FOR app SERVER "Far" OPTIONS (user 'clerk', password 'secret')});
value(q{CREATE USER MAPPING FOR boss SERVER "Far" OPTIONS (user 'chief', password 'other')});
value(qq{CREATE USER MAPPING FOR trusting SERVER "Far" OPTIONS (user '$superuser', password 'anything')});
submit('as-app', ['"Far"/whoami'], undef, user => 'app');
submit('as-boss', ['"Far"/whoami'], undef, user => 'boss');
wait_status($node, "as-$_", 'succeed') for qw(app boss);
is(far_ledger('as-app') . ' ' . far_ledger('as-boss'), 'clerk chief', 'each role has its own mapping');
my ($rc, $out, $err) = $node->psql('postgres',
	q{SELECT dtm_saga_submit('[{"action": "pg://\"Far\"/whoami"}]')}, extra_params => [ '-U', 'guest' ]);
like($err, qr/step 0: "action": permission denied for foreign server "Far"/, 'without USAGE it is refused at submit');
value('GRANT USAGE ON FOREIGN SERVER "Far" TO guest');
($rc, $out, $err) = $node->psql('postgres',
	q{SELECT dtm_saga_submit('[{"action": "pg://\"Far\"/whoami"}]')}, extra_params => [ '-U', 'guest' ]);
like($err, qr/step 0: "action": role "guest" has no user mapping for server "Far"/, 'and without a mapping');

submit('trusting', ['"Far"/whoami'], "retry_interval => '1 h'", user => 'trusting');
wait_for($node, "SELECT attempts FROM dtm.branches WHERE gid = 'trusting' AND op = 'action'", '1');
like(last_error('trusting'), qr/^server "Far" does not ask for the password of the user mapping/,
	'a server that trusts the host lets nobody in but superusers');
is(far_ledger('trusting'), '', 'and nothing was called');

value(q{ALTER USER MAPPING FOR app SERVER "Far" OPTIONS (SET password 'wrong')});
submit('wrong', ['"Far"/whoami'], "retry_interval => '1 h', retry_limit => 0", user => 'app');
wait_for($node, "SELECT last_error LIKE '%password authentication failed%' FROM dtm.branches WHERE gid = 'wrong' AND op = 'action'",
	't', name => 'a wrong password, though connections with the right one are open');

submit('dropped', ['"Far"/whoami'], "start_after => '1 h', retry_interval => '1 h'", user => 'boss');
value('DROP USER MAPPING FOR boss SERVER "Far"');
value("SELECT dtm_retry('dropped')");
wait_for($node, "SELECT attempts FROM dtm.branches WHERE gid = 'dropped' AND op = 'action'", '1');
is(last_error('dropped'), '42704: role "boss" has no user mapping for server "Far"', 'a mapping dropped after the submit');
for (1 .. 4)
{
	value("SELECT dtm_retry('dropped')");
	wait_for($node, "SELECT attempts FROM dtm.branches WHERE gid = 'dropped' AND op = 'action'", $_ + 1);
}
like(value("SELECT reason FROM dtm.stuck WHERE gid = 'dropped'"), qr/no user mapping for server "Far"/, 'dtm.stuck says it');
value(q{CREATE USER MAPPING FOR PUBLIC SERVER "Far" OPTIONS (user 'chief', password 'other')});
value("SELECT dtm_retry('dropped')");
wait_status($node, 'dropped', 'succeed');
is(far_ledger('dropped'), 'chief', q{PUBLIC's mapping serves those without their own});

# ---- the other modes

value(q{SELECT dtm_tcc_submit('[{"try": "pg://near/act", "confirm": "pg://near/confirm", "cancel": "pg://near/undo", "payload": {"gid": "tcc"}},
	{"try": "pg://\"Far\"/act", "confirm": "pg://\"Far\"/confirm", "cancel": "pg://\"Far\"/undo", "payload": {"gid": "tcc"}}]', gid => 'tcc')});
wait_status($node, 'tcc', 'succeed');
is(near_ledger('tcc') . far_ledger('tcc'), 'acac', 'a TCC');
value(q{SELECT dtm_tcc_submit('[{"try": "pg://near/act", "confirm": "pg://near/confirm", "cancel": "pg://near/undo", "payload": {"gid": "tcc-no"}},
	{"try": "pg://\"Far\"/refuse", "confirm": "pg://\"Far\"/confirm", "cancel": "pg://\"Far\"/undo", "payload": {"gid": "tcc-no"}}]', gid => 'tcc-no')});
wait_status($node, 'tcc-no', 'failed');
is(near_ledger('tcc-no') . far_ledger('tcc-no'), 'au', 'one that is cancelled');
value(q{SELECT dtm_msg_submit('[{"action": "pg://near/act", "payload": {"gid": "msg"}}]', gid => 'msg')});
wait_status($node, 'msg', 'succeed');
is(near_ledger('msg'), 'a', 'a message');
for my $gid (qw(msg-yes msg-no))
{
	value(qq{SELECT dtm_msg_prepare('[{"action": "pg://near/act", "payload": {"gid": "$gid"}}]', 'pg://near/is_sent',
		gid => '$gid', timeout_to_fail => '100 ms')});
	wait_status($node, $gid, $gid eq 'msg-yes' ? 'succeed' : 'failed');
}
is(near_ledger('msg-yes'), 'qa', 'a check-back that says yes');
is(near_ledger('msg-no'), '', 'and one that says no');
is($node->safe_psql('bank', "SELECT count(*) FROM dtm.barrier WHERE gid = 'msg-yes' AND op = 'msg'"), 0,
	'a check-back leaves no row in the barrier');

# the local part behind the barrier there: whoever comes first decides, for good
$node->safe_psql('bank', q{CREATE FUNCTION is_committed(p jsonb) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT to_jsonb(dtm_barrier_query_prepared('trans_type=msg&branch_id=00&op=msg&gid=' || (p->>'gid'))) $$});
for my $gid (qw(local-yes local-no))
{
	value(qq{SELECT dtm_msg_prepare('[{"action": "pg://near/act", "payload": {"gid": "$gid"}}]', 'pg://near/is_committed',
		gid => '$gid', timeout_to_fail => '1 h')});
	$node->safe_psql('bank', "SELECT dtm_barrier('msg', '$gid', '00', 'msg')") if $gid eq 'local-yes';
	value("SELECT dtm_retry('$gid')");
	wait_status($node, $gid, $gid eq 'local-yes' ? 'succeed' : 'failed');
}
is(near_ledger('local-yes') . near_ledger('local-no'), 'a', 'a check-back that asks the barrier');
($rc, $out, $err) = $node->psql('bank', "SELECT dtm_barrier('msg', 'local-no', '00', 'msg')");
like($err, qr/DUPLICATED/, 'whose no is final');
like(value("SELECT rollback_reason FROM dtm.transactions WHERE gid = 'local-no'"), qr/FAILURE/, 'and is the reason');
value(q{SELECT dtm_topic_subscribe('deliver', 'pg://near/act')});
value(q{SELECT dtm_msg_submit('[{"action": "topic://deliver", "payload": {"gid": "topic"}}]', gid => 'topic')});
wait_status($node, 'topic', 'succeed');
is(near_ledger('topic'), 'a', 'a subscriber of a topic');

# ---- steps of a workflow: their answers, and undoing there

value(<<'END');
CREATE FUNCTION workflow(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE answers jsonb := '[]'; BEGIN
	answers := answers || dtm_call('pg://near/act', data || '{"x": "\u00c4"}', compensate => 'pg://near/undo');
	PERFORM dtm_call_tcc('pg://"Far"/act', 'pg://"Far"/confirm', 'pg://"Far"/undo', data);
	answers := answers || dtm_call('pg://near/confirm', data);
	IF data ? 'fail' THEN PERFORM dtm_call('pg://near/refuse', data, compensate => 'pg://near/undo'); END IF;
	RETURN answers;
END $$
END
value(q{SELECT dtm_workflow_submit('workflow', '{"gid": "wf"}', 'wf')});
value(q{SELECT dtm_workflow_submit('workflow', '{"gid": "wf-fail", "fail": 1}', 'wf-fail')});
wait_status($node, 'wf', 'succeed');
wait_status($node, 'wf-fail', 'failed');
is(value(q{SELECT dtm_result('wf')}), "[{\"x\": \"\xc3\x84\", \"gid\": \"wf\"}, {}]", 'a step of a workflow has the answer of the function');
is(near_ledger('wf') . ' ' . far_ledger('wf'), 'ac ac', 'and is confirmed there');
is(near_ledger('wf-fail') . ' ' . far_ledger('wf-fail'), 'acu au', 'or undone, but for the one that refused');

# ---- many at once over few connections

submit("many-$_", [ { action => 'pg://near/slow', payload => { gid => "many-$_", s => 0.1 } } ]) for 1 .. 50;
my $most = 0;
wait_until(
	sub {
		my $now = value("SELECT count(*) FROM pg_stat_activity WHERE datname = 'bank' AND application_name = 'dtm_pg'");
		$most = $now if $now > $most;
		return value("SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'many-%' AND status = 'succeed'") == 50;
	},
	'50 calls at once');
is($most, 5, 'over dtm.max_host_calls connections');
is($node->safe_psql('bank', "SELECT count(*) || ' ' || count(DISTINCT gid) FROM ledger WHERE gid LIKE 'many-%'"), '50 50',
	'each once');

# one that is stopped while it runs
submit('stopped', [ { action => 'pg://near/slow', payload => { gid => 'stopped', s => 60 } } ]);
wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'bank' AND wait_event = 'PgSleep'", '1',
	name => 'it runs');
is(value("SELECT dtm_stop('stopped', 'enough')"), 'failed', 'dtm_stop does not wait for it');
submit('after', ['near/act']);
wait_status($node, 'after', 'succeed');

kill 'KILL', $proxy;
waitpid($proxy, 0);
$far->stop;
$node->stop;
done_testing();
