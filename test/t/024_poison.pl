# -------------------------------------------------------------------------
#
# 024_poison.pl
#		A transaction that cannot be read or written does not stop the
#		others: it is parked, shown with what to do, and taken up again.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node(conf => join "\n", "dtm.retry_interval = '100ms'", "dtm.request_timeout = '30s'");
my $service = start_service();

sub steps
{
	return [ map { { action => $service->url("/$_"), compensate => $service->url("/undo_$_") } } @_ ];
}

sub sql { return $node->safe_psql('postgres', @_); }

sub id_of
{
	my ($gid) = @_;

	return sql("SELECT id FROM dtm.trans WHERE gid = '$gid'");
}

# Others go through, and are not slow.
sub check_others
{
	my ($name) = @_;
	my $start = time();

	submit_saga($node, steps('a', 'b', 'c'), gid => "$name-$_") for 1 .. 3;
	wait_status($node, "$name-$_", 'succeed') for 1 .. 3;
	cmp_ok(time() - $start, '<', 8, "$name: the others are not held up");
	is($service->calls(gid => "$name-$_"), 3, "$name-$_: each step is called once") for 1 .. 3;
	return;
}

sub crashes
{
	open my $log, '<', $node->logfile or die "log: $!";
	my $n = grep { /PANIC|terminated by signal|starts anew/ } <$log>;
	close $log;
	return $n;
}

check_others('healthy');

# ----------------------------------------------------------- a damaged row
# Damaged before the coordinator sees it: submit and damage are one transaction.
sub submit_damaged
{
	my ($gid, $damage) = @_;

	sql("BEGIN; SELECT dtm_saga_submit(jsonb_build_array(dtm_step('" . $service->url("/$gid") . "')), gid => '$gid');"
		  . "CREATE TABLE \"kept-$gid\" AS SELECT t.id, t.spec, l.state, l.status FROM dtm.trans AS t JOIN dtm.live AS l USING (id)"
		  . " WHERE gid = '$gid'; $damage; COMMIT");
	return;
}

my %damage = (
	'empty' => q{UPDATE dtm.trans SET spec = '' WHERE gid = 'empty'},
	'cut' => q{UPDATE dtm.trans SET spec = substr(spec, 1, length(spec) - 3) WHERE gid = 'cut'},
	'future' => q{UPDATE dtm.trans SET spec = set_byte(spec, 0, 255) WHERE gid = 'future'},
	'random' => q{UPDATE dtm.trans SET spec = decode(repeat(md5('x'), 40), 'hex') WHERE gid = 'random'},
	'state' => q{UPDATE dtm.live SET state = '\xffffffff' WHERE id = (SELECT id FROM dtm.trans WHERE gid = 'state')},
	'status' => q{UPDATE dtm.live SET status = 77 WHERE id = (SELECT id FROM dtm.trans WHERE gid = 'status')},
);
for my $gid (sort keys %damage)
{
	submit_damaged($gid, $damage{$gid});
	wait_for($node, "SELECT count(*) FROM dtm.stuck WHERE gid = '$gid' AND reason LIKE '%cannot be read%'"
		  . " AND suggestion LIKE 'SELECT dtm_retry(%$gid%dtm_stop(%'", '1', name => "$gid: in dtm.stuck, with what to do");
}
check_others('damaged');
is(sql('SELECT count(*) FROM dtm.stuck'), scalar(keys %damage), 'all damaged ones are parked');

# every view can be read though they are damaged
for my $view (qw(transactions branches stuck statistics workers))
{
	my ($rc, $stdout, $stderr) = $node->psql('postgres', "SELECT v::text FROM dtm.$view AS v");

	is($rc, 0, "dtm.$view can be read") or diag($stderr);
}

# retry without mending: parked again; a restart changes nothing
sql(q{SELECT dtm_retry('cut')});
wait_for($node, q{SELECT count(*) FROM dtm.stuck WHERE gid = 'cut' AND reason LIKE '%cannot be read%'}, '1', name => 'parked again');
$node->restart;
wait_for($node, 'SELECT count(*) FROM dtm.stuck', scalar(keys %damage), name => 'still parked after a restart');
check_others('restarted');

for my $gid (sort grep { $_ ne 'random' } keys %damage)
{
	is($service->calls(gid => $gid), 0, "$gid: not called");
	sql("UPDATE dtm.trans AS t SET spec = k.spec FROM \"kept-$gid\" AS k WHERE k.id = t.id;"
		  . "UPDATE dtm.live AS l SET state = k.state, status = k.status FROM \"kept-$gid\" AS k WHERE k.id = l.id");
	sql("SELECT dtm_retry('$gid')");
	wait_status($node, $gid, 'succeed');
	is($service->calls(gid => $gid), 1, "$gid: mended, called once");
}
sql(q{SELECT dtm_stop('random', 'beyond repair')});
is(sql(q{SELECT status || ' ' || rollback_reason FROM dtm.transactions WHERE gid = 'random'}), 'failed beyond repair',
	'or stopped for good');
is(sql('SELECT count(*) FROM dtm.stuck'), '0', 'nothing is stuck any more');

# ------------------------------------------------ a row that cannot be written
# The trigger refuses progress; parking is let through.
sql(q{
	CREATE TABLE refused (id bigint, all_of_it boolean);
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM public.refused AS r WHERE r.id = OLD.id AND (r.all_of_it OR NOT coalesce(NEW.parked, false))) THEN
			RAISE EXCEPTION 'not this one';
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER refuse BEFORE UPDATE ON dtm.live FOR EACH ROW EXECUTE FUNCTION refuse();
});
$service->script('/held', { then => { gate => 'trigger' } });
submit_saga($node, steps('held', 'second'), gid => 'trigger');
submit_saga($node, steps('held', 'second'), gid => "beside-$_") for 1 .. 5;
$service->wait_calls(6, path => '/held');
sql('INSERT INTO refused VALUES (' . id_of('trigger') . ', false)');
$service->open_gate('trigger');
wait_for($node, q{SELECT reason FROM dtm.stuck WHERE gid = 'trigger'}, 'not this one', name => 'parked with the reason');
for my $i (1 .. 5)
{
	wait_status($node, "beside-$i", 'succeed');
	is($service->calls(gid => "beside-$i"), 2, "beside-$i: one step after the other, each once");
}
check_others('trigger');
sql('DELETE FROM refused');
sql(q{SELECT dtm_retry('trigger')});
wait_status($node, 'trigger', 'succeed');

# ... not even parked
$service->script('/held', { then => { gate => 'again' } });
submit_saga($node, steps('held', 'second'), gid => 'unparkable');
$service->wait_calls(1, gid => 'unparkable');
sql('INSERT INTO refused VALUES (' . id_of('unparkable') . ', true)');
my $offset = -s $node->logfile;
submit_saga($node, steps('second', 'second'), gid => 'hidden');
wait_status($node, 'hidden', 'succeed');
$service->open_gate('again');
wait_log($node, qr/WARNING:  transaction \d+ could not be parked: not this one/, $offset, 'the log says that it could not be parked');
check_others('unparkable');
usleep(2_000_000);
open my $log, '<', $node->logfile or die "log: $!";
seek $log, $offset, 0;
my $lines = grep { /not this one/ } <$log>;
close $log;
cmp_ok($lines, '<', 10, "the log is not flooded ($lines lines)");
sql('DELETE FROM refused');
sql(q{SELECT dtm_retry('unparkable')});
wait_status($node, 'unparkable', 'succeed');

# --------------------------------------------------------- a lock on a row
$service->script('/held', { then => { gate => 'lock' } });
submit_saga($node, steps('held', 'second'), gid => 'locked');
$service->wait_calls(1, gid => 'locked');
my $pid = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator'});
my $session = DtmSession->new($node);
$session->query('BEGIN; SELECT FROM dtm.live WHERE id = ' . id_of('locked') . ' FOR UPDATE');
$service->open_gate('lock');
wait_until(sub { return ($service->calls(gid => 'locked'))[0]->{end} }, 'answered while a user holds its row');
check_others('locked');
usleep(2_000_000);
check_others('locked-longer');
is($service->calls(gid => 'locked'), 1, 'the next step waits until this one is recorded');
$session->query('COMMIT');
$session->quit;
wait_status($node, 'locked', 'succeed', timeout => 10);
is($service->calls(gid => 'locked'), 2, 'and is called once');
is(sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator'}), $pid,
	'the coordinator is the same process');
is(sql('SELECT count(*) FROM dtm.stuck'), '0', 'a lock parks nothing');
is(crashes(), 0, 'no process ended because of all this');

done_testing();
