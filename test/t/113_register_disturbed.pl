# -------------------------------------------------------------------------
#
# 113_register_disturbed.pl
#		Registrations while everything that they need is busy or goes away:
#		slow functions, the waiting session, the executor that writes, the
#		coordinator, the extension, the preloaded library.
#
# A registration is written by an executor while the session waits.  To hold
# it up, another session locks the row of its transaction.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node(
	conf => "dtm.retry_interval = '100ms'\ndtm.sql_workers = 1\ndtm.request_timeout = '10min'\nrestart_after_crash = on",
	fsync => 1);

sub value { return $node->safe_psql('postgres', $_[0]); }
sub begin_tcc { return value("SELECT dtm_tcc_begin('$_[0]', timeout_to_fail => '1 hour')"); }
sub registration { return "SELECT dtm_tcc_register('$_[0]', '$_[1]', '', '')"; }
sub branches { return value("SELECT coalesce(string_agg(branch_id, ' ' ORDER BY length(branch_id), branch_id), '') FROM dtm.branches WHERE gid = '$_[0]' AND op = 'confirm'"); }

# A session that holds the row of a transaction.
sub lock_row
{
	my ($gid) = @_;
	my $session = DtmSession->new($node);

	$session->query('BEGIN');
	$session->query("SELECT FROM dtm.live JOIN dtm.trans USING (id) WHERE gid = '$gid' FOR UPDATE OF live");
	return $session;
}

my $serving = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND query LIKE '%another session%' AND state = 'active'};

# A session whose registration is with an executor, which waits for the row; its pid.
sub start_registering
{
	my ($gid, $branch_id) = @_;
	my $session = DtmSession->new($node);
	my $pid = $session->query('SELECT pg_backend_pid()');

	$session->send(registration($gid, $branch_id));
	wait_for($node, "SELECT count(*) FROM ($serving) AS s", '1', name => "$gid $branch_id: an executor is at it");
	return ($session, $pid);
}

sub server_is_there
{
	my ($name) = @_;

	return wait_for($node, "SELECT count(*) FROM dtm.workers WHERE state = 'running'", '1', name => $name);
}

value(<<'END');
CREATE TABLE gate (open boolean);
INSERT INTO gate VALUES (false);
CREATE FUNCTION wait_at_gate(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	WHILE NOT (SELECT open FROM gate) LOOP PERFORM pg_sleep(0.02); END LOOP; END $$;
END
server_is_there('the coordinator is there');

# ---- all executors are busy with slow functions, and more of those wait than there is room for

sub busy
{
	my ($name, $executors, $sagas) = @_;

	value('UPDATE gate SET open = false');
	submit_saga($node, [ { action => 'sql:wait_at_gate' } ], gid => "$name-$_") for 1 .. $sagas;
	wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND wait_event = 'PgSleep'},
		$executors, name => "$name: every executor is busy");
	begin_tcc($name);

	# the gate is closed until they have returned
	is(value(join '; ', map { registration($name, $_) } 1 .. 20), join("\n", ($name) x 20), "$name: registrations go on");
	is(branches($name), join(' ', 1 .. 20), "$name: all are there");
	is(value(q{SELECT count(*) FROM dtm.transactions WHERE trans_type = 'saga' AND status = 'succeed' AND gid LIKE '} . $name . q{-%'}), 0,
		"$name: and no slow one has come to its end");
	value('UPDATE gate SET open = true');
	wait_for($node, "SELECT count(*) FROM dtm.transactions WHERE gid LIKE '$name-%' AND status = 'succeed'", $sagas,
		name => "$name: then the slow ones end");
	value("SELECT dtm_submit('$name')");
	wait_status($node, $name, 'succeed');
	return;
}
busy('busy', 1, 100);
$node->append_conf('postgresql.conf', 'dtm.sql_workers = 8');
$node->reload;
wait_for($node, 'SHOW dtm.sql_workers', '8');
busy('busy8', 8, 12);
$node->append_conf('postgresql.conf', 'dtm.sql_workers = 1');
$node->reload;

# ---- the waiting session is cancelled or terminated: nothing else is disturbed

for my $how (qw(cancel terminate))
{
	begin_tcc($how);
	my $locker = lock_row($how);
	my ($session, $pid) = start_registering($how, '01');
	value("SELECT pg_${how}_backend($pid)");
	wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND state = 'active'", '0', name => "$how: the session is gone");
	$locker->query('COMMIT');
	$locker->quit;
	$session->quit;
	is(value(registration($how, '02')), $how, "$how: the next registration");
	like(branches($how), qr/^(01 )?02$/, "$how: it is there, the disturbed one or not");
	is(value(registration($how, '01')), $how, "$how: the disturbed one again");
	like(branches($how), qr/^01 02$/, "$how: both, once each");
}

# ---- the executor is terminated while it writes: another one does it, and the session does not notice

begin_tcc('executor');
my $locker = lock_row('executor');
my ($session) = start_registering('executor', '01');
my $executor = value($serving);
value("SELECT pg_terminate_backend($executor)");
wait_for($node, "SELECT count(*) FROM ($serving) AS s WHERE pid <> $executor", '1', name => 'another executor takes it up');
$locker->query('COMMIT');
is($session->result, 'executor', 'the executor is terminated: registered nevertheless');
is(branches('executor'), '01', 'once');

# ---- the coordinator is terminated

$locker = lock_row('executor');
$session->send(registration('executor', '02'));
wait_for($node, "SELECT count(*) FROM ($serving) AS s", '1', name => 'an executor is at it');
value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator'});
$locker->query('COMMIT');
is($session->result, 'executor', 'the coordinator is terminated: registered');
server_is_there('the coordinator comes back');
is(branches('executor'), '01 02', 'once');

# ---- somebody holds the row for too long

$locker = lock_row('executor');
is($session->query(registration('executor', '03')), '', 'the row is locked: refused after a while');
like($session->errors, qr/ERROR:  canceling statement due to lock timeout\nHINT:  An open transaction/, 'and says why');
$locker->query('COMMIT');
is($session->query(registration('executor', '03')), 'executor', 'then it works');

# ---- the same branch by two sessions at once

$locker = lock_row('executor');
my $second = DtmSession->new($node);
$_->send(registration('executor', 'twice')) for $session, $second;
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%twice%' AND state = 'active' AND pid <> pg_backend_pid()},
	'2', name => 'two at once');
$locker->query('COMMIT');
is($_->result, 'executor', 'both are registered') for $session, $second;
is(branches('executor'), '01 02 03 twice', 'which is one branch');

# ---- paused

value(q{SELECT dtm_pause('for a test')});
wait_for($node, q{SELECT count(*) FROM dtm.workers WHERE state = 'paused'}, '1', name => 'paused');
is(value(registration('executor', '04')), 'executor', 'paused: registered all the same');
value('SELECT dtm_resume()');
is(branches('executor'), '01 02 03 04 twice', 'it is there');
value(q{SELECT dtm_submit('executor')});
wait_status($node, 'executor', 'succeed');

# ---- kill -9 of the executor: the server starts anew, and what was promised is there

begin_tcc('killed');
value(registration('killed', '01'));
$locker = lock_row('killed');
(my $victim) = start_registering('killed', '02');
kill 'KILL', value($serving);
$locker->quit;
$victim->quit;
server_is_there('the server comes back');
is(branches('killed'), '01', 'kill -9 of the executor: the finished registration is there, the other one not');
is(value(registration('killed', '02')), 'killed', 'registered again');
value(q{SELECT dtm_submit('killed')});
wait_status($node, 'killed', 'succeed');

# ---- the extension is dropped while a registration waits

begin_tcc('dropped');
$locker = lock_row('dropped');
($session) = start_registering('dropped', '01');
my $dropper = DtmSession->new($node);
$dropper->send('DROP EXTENSION dtm_pg CASCADE');
is($session->result, '', 'DROP EXTENSION: the registration is refused');
like($session->errors, qr/^ERROR:  \S/, 'with an error');
$locker->query('ROLLBACK');
$dropper->result;
is(value(q{SELECT count(*) FROM pg_extension WHERE extname = 'dtm_pg'}), '0', 'and the extension is dropped');
is($session->query(registration('dropped', '01')), '', 'dropped: refused');
like($session->errors, qr/ERROR:  function dtm_tcc_register\S* does not exist|ERROR: .*not installed|ERROR:  function dtm_tcc_register/, 'and says why');
value('CREATE EXTENSION dtm_pg');
server_is_there('created again');
begin_tcc('again');
is($session->query(registration('again', '01')), 'again', 'created again: registered');
is(branches('again'), '01', 'it is there');
$_->quit for $session, $locker, $dropper;

# ---- many disturbed ones: more than there are tasks, so none may be lost

begin_tcc('many');
$locker = lock_row('many');
$session = DtmSession->new($node);
$session->query("SET statement_timeout = '15ms'");
for my $n (1 .. 170)
{
	$session->send(registration('many', "cancelled $n"));
	$session->result;
}
is(() = $session->errors =~ /ERROR:  canceling statement due to statement timeout/g, 170, '170 registrations are cancelled');
my @victims = map { DtmSession->new($node) } 1 .. 30;
my @pids = map { $_->query('SELECT pg_backend_pid()') } @victims;
$victims[$_]->send(registration('many', "terminated $_")) for 0 .. $#victims;
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%terminated %' AND query LIKE '%register%' AND state = 'active' AND pid <> pg_backend_pid()},
	'30', name => 'thirty wait');
value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor'});
value('SELECT ' . join ', ', map { "pg_terminate_backend($_)" } @pids);
$_->quit for @victims;
$locker->query('COMMIT');
$locker->quit;
$session->query('RESET statement_timeout');
begin_tcc('after');
is($session->query(join '; ', map { registration('after', $_) } 1 .. 70), join("\n", ('after') x 70), 'new ones work');
is(branches('after'), join(' ', 1 .. 70), 'all of them');

# all at once: as many as there are connections
my @crowd = map { DtmSession->new($node) } 1 .. 35;
$crowd[$_]->send(registration('after', "crowd $_")) for 0 .. $#crowd;
is(scalar(grep { $_->result eq 'after' } @crowd), 35, 'many sessions at once');
is(value(q{SELECT count(DISTINCT branch_id) FROM dtm.branches WHERE gid = 'after'}), 105, 'each has its branch');
$_->quit for @crowd, $session;
value(q{SELECT dtm_abort('after')});
wait_status($node, 'after', 'failed');

# ---- the library is not preloaded: with the session's transaction, and it says so

begin_tcc('bare');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
my ($rc, $stdout, $stderr) = $node->psql('postgres', registration('bare', '01'));
is("$stdout $stderr", 'bare ', 'not preloaded: registered when the statement commits');
($rc, $stdout, $stderr) = $node->psql('postgres', 'BEGIN; ' . registration('bare', '02') . '; ROLLBACK');
like($stderr, qr/WARNING:  the branch is registered with this transaction only, because dtm_pg does not run here\nHINT:  Commit before/,
	'in a transaction with a warning');
is(branches('bare'), '01', 'which is rolled back with it');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'dtm_pg'");
$node->restart;
server_is_there('preloaded again');
value(registration('bare', '03'));
value(q{SELECT dtm_submit('bare')});
wait_status($node, 'bare', 'succeed');
is(branches('bare'), '01 03', 'and goes on');

$node->stop;
done_testing();
