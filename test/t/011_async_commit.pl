# -------------------------------------------------------------------------
#
# 011_async_commit.pl
#		A submit with synchronous_commit = off is made durable before its
#		first call: a crash right after the call does not forget it.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use Test::More;
use Time::HiRes qw(usleep);

# Without these the WAL writer would make it durable by itself.
my $node = new_node(fsync => 1, conf => join "\n", "wal_writer_delay = '10s'", "wal_writer_flush_after = '1GB'",
	'autovacuum = off', "dtm.retry_interval = '200ms'", "dtm.request_timeout = '30s'");
my $service = start_service();

$node->safe_psql('postgres', 'CREATE TABLE lost (id int)');
$service->script('/held', { then => { gate => 'held' } });

sub submit_sql
{
	my ($gid) = @_;

	return "SELECT dtm_saga_submit(jsonb_build_array(dtm_step('" . $service->url('/held') . "')), gid => '$gid')";
}

sub crash_at_first_call
{
	my ($gid, $name, $before) = @_;
	my $session = DtmSession->new($node);

	$session->query('SET synchronous_commit = off');
	$before->() if $before;
	is($session->query(submit_sql($gid)), $gid, "$name: submitted");
	my $deadline = time() + 30;
	usleep(2_000) until $service->calls(gid => $gid) || time() > $deadline;

	# what is committed now in the same way is lost: so much for the flush
	$session->query("INSERT INTO lost VALUES (1)");
	$node->stop('immediate');
	$session->quit;
	$node->start;
	is($node->safe_psql('postgres', 'SELECT count(*) FROM lost'), '0', "$name: what nobody flushed is lost");
	is($node->safe_psql('postgres', "SELECT count(*) FROM dtm.transactions WHERE gid = '$gid'"), '1',
		"$name: what was called is there");
	$service->wait_calls(2, gid => $gid);
	return;
}

crash_at_first_call("async-$_", "crash $_") for 1 .. 3;

# Committed while no coordinator is there that could be told of it.
crash_at_first_call('unattended', 'without coordinator', sub {
	my $coordinator = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator'};

	wait_for($node, "SELECT count(*) FROM ($coordinator) AS c", '1', name => 'coordinator');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM ($coordinator) AS c");
	wait_for($node, "SELECT count(*) FROM ($coordinator) AS c", '0', name => 'no coordinator');
});

$service->open_gate('held');
wait_status($node, $_, 'succeed') for 'async-1', 'async-2', 'async-3', 'unattended';

done_testing();
