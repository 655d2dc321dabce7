# -------------------------------------------------------------------------
#
# 028_pg_upgrade.pl
#		pg_upgrade with the library preloaded on both sides: nothing is
#		called during it, and the upgraded cluster goes on after dtm_resume().
#
# From a major release to itself, which takes the same steps.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use IPC::Run qw(run);
use Test::More;
use Time::HiRes qw(usleep);

my $conf = join "\n", "dtm.retry_interval = '200ms'", "dtm.request_timeout = '30s'";
my $old = new_node(name => 'old', conf => $conf);
my $service = start_service();

sub steps { return [ map { { action => $service->url("/$_"), compensate => $service->url("/undo_$_") } } @_ ]; }

submit_saga($old, steps('a'), gid => 'finished');
wait_status($old, 'finished', 'succeed');
$service->script('/held', { then => { gate => 'held' } });
submit_saga($old, steps('held', 'b'), gid => 'open');
submit_saga($old, steps('c'), gid => 'later', options => q{start_after => '1 h'});
$service->wait_calls(1, gid => 'open');
$old->safe_psql('postgres', q{SELECT dtm_barrier('saga', 'g', '01', 'action')});
my $before = $old->safe_psql('postgres', 'SELECT gid, status, created_at FROM dtm.transactions ORDER BY gid');
$old->stop;
$service->reset;

my $new = new_node(name => 'new', conf => $conf, start => 0);
my $bindir = $old->config_data('--bindir');
my $directory = $new->basedir . '/upgrade';
mkdir $directory or die "$directory: $!";
my $output = '';
my $ok = do
{
	local $ENV{PGHOST} = $new->host;

	run([ "$bindir/pg_upgrade", '--old-datadir', $old->data_dir, '--new-datadir', $new->data_dir, '--old-bindir', $bindir,
			'--new-bindir', $bindir, '--socketdir', $new->host, '--old-port', $old->port, '--new-port', $new->port,
			'--username', $ENV{PGUSER} // scalar(getpwuid($<)) ],
		'init', sub { chdir $directory }, '>', \$output, '2>&1');
};
ok($ok, 'pg_upgrade') or diag($output);
is($service->calls, 0, 'nothing is called while it runs');

$new->start;
is($new->safe_psql('postgres', 'SELECT gid, status, created_at FROM dtm.transactions ORDER BY gid'), $before,
	'the transactions are there');
is($new->safe_psql('postgres', q{SELECT dtm_barrier('saga', 'g', '01', 'action')}), 'f', 'and the rows of the barrier');
wait_for($new, 'SELECT state FROM dtm.workers', 'paused', name => 'another system: paused');
my ($rc, $stdout, $stderr) = $new->psql('postgres', q{SELECT dtm_saga_submit('[{"action": ""}]', gid => 'fresh')});
is($stdout, 'fresh', 'a submit is taken, and its number is free');
like($stderr, qr/WARNING:.*paused.*dtm_resume/s, 'with a warning');
usleep(1_000_000);
is($service->calls, 0, 'nothing is called before somebody says that this is the one');
$new->safe_psql('postgres', 'SELECT dtm_resume()');
wait_status($new, $_, 'succeed') for qw(open fresh);
is($service->calls(gid => 'finished'), 0, 'what was finished is not called');
is($new->safe_psql('postgres', q{SELECT dtm_status('later')}), 'submitted', 'what is for later waits on');

done_testing();
