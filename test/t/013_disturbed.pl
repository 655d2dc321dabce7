# -------------------------------------------------------------------------
#
# 013_disturbed.pl
#		Under load, at random: ended and cancelled workers, locked tables,
#		changed settings, pauses.  Each saga ends as it must.
#
# DTM_TEST_SEED repeats a run, DTM_TEST_SECONDS makes it longer.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmLoad;
use DtmSession;
use DtmTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $seed = $ENV{DTM_TEST_SEED} // int(rand(1_000_000));
my $seconds = $ENV{DTM_TEST_SECONDS} // 12;

srand($seed);
note("seed $seed");

my $node = new_node(conf => join "\n", "dtm.retry_interval = '200ms'", "dtm.retry_max_interval = '500ms'");
my $service = start_service(node => $node);
my $session = DtmSession->new($node);

sub sql
{
	my ($query) = @_;

	return $node->psql('postgres', $query);
}

sub one_of { return $_[ int(rand(@_)) ]; }

sub set
{
	my ($name, $value) = @_;

	sql("ALTER SYSTEM SET $name = $value");
	sql('SELECT pg_reload_conf()');
	return;
}

my @disturbances = (
	sub {
		my $type = one_of(qw(coordinator executor launcher));

		sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dtm_pg $type'");
	},
	sub { sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'dtm_pg%'}); },
	sub { set('dtm.workers', 1 + int(rand(3))); },
	sub { set('dtm.max_inflight', 3 + int(rand(30))); },
	sub { set('dtm.max_host_calls', 1 + int(rand(10))); },
	sub {
		$session->query('BEGIN; LOCK TABLE dtm.' . one_of(qw(trans live done timer node barrier)));
		usleep(int(rand(700_000)));
		$session->query('COMMIT');
	},
	sub {
		sql('SELECT dtm_pause()');
		usleep(int(rand(300_000)));
		sql('SELECT dtm_resume()');
	},
	sub { sql('VACUUM FULL dtm.live'); },
	sub { sql(q{SELECT dtm_retry(gid) FROM dtm.transactions WHERE finished_at IS NULL}); });

my $load = DtmLoad->new($node, $service);
my $end = time() + $seconds;
my $rounds = 0;
my $each = 5 * $seconds;

$load->start(4, $each, 150_000);
while (time() < $end)
{
	one_of(@disturbances)->();
	usleep(int(rand(300_000)));
	$rounds++;
}
$load->finish;
sql('SELECT dtm_resume()');
cmp_ok($rounds, '>', 5, "disturbed $rounds times");
is(scalar($load->acknowledged), 4 * $each, 'no submit was refused');
$load->check;

open my $log, '<', $node->logfile or die "log: $!";
is(scalar(grep { /PANIC|terminated by signal|TRAP:/ } <$log>), 0, 'no process crashed');

done_testing();
