# -------------------------------------------------------------------------
#
# 026_no_preload.pl
#		Without shared_preload_libraries everything but the driving works,
#		and says what is missing; preloaded later, all of it is driven.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use IPC::Run qw(run);
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node(preload => 0, conf => "dtm.request_timeout = '5s'");
my $service = start_service(node => $node);

sub sql { return $node->safe_psql('postgres', @_); }

sub submit_sql
{
	my ($gid, $path) = @_;

	return "SELECT dtm_saga_submit(jsonb_build_array(dtm_step('" . $service->url($path) . "')), gid => '$gid')";
}

my ($rc, $stdout, $stderr) = $node->psql('postgres', submit_sql('early', '/effect/a'));
is($stdout, 'early', 'a submit is taken');
like($stderr, qr/WARNING:.*not preloaded.*HINT:.*shared_preload_libraries = 'dtm_pg'.*postgresql\.conf.*restart/s,
	'with a warning that has the line to add');
($rc, $stdout, $stderr) = $node->psql('postgres', 'BEGIN; ' . submit_sql('undone', '/effect/a') . '; ROLLBACK');
is($rc, 0, 'also one that is rolled back');

is(sql(q{SELECT gid, status FROM dtm.transactions}), 'early|submitted', 'dtm.transactions');
is(sql(q{SELECT branch_id, op, status, attempts FROM dtm.branches WHERE op = 'action'}), '01|action|prepared|0', 'dtm.branches');
for my $query ('SELECT * FROM dtm.workers', 'SELECT * FROM dtm.stuck', 'SELECT * FROM dtm.statistics',
	q{SELECT dtm_status('early')}, q{SELECT * FROM dtm_timeline('early')}, q{SELECT dtm_retry('early')}, q{SELECT dtm_gid()},
	q{SELECT dtm_purge('1 s')}, q{SELECT dtm_pause('x')}, q{SELECT dtm_resume()}, q{SELECT dtm_gid(); SHOW dtm.workers},
	'DROP DATABASE IF EXISTS nothing', 'CREATE DATABASE other', 'DROP DATABASE other')
{
	($rc, $stdout, $stderr) = $node->psql('postgres', $query);
	is($rc, 0, $query) or diag($stderr);
}
($rc, $stdout, $stderr) = $node->psql('postgres', q{SELECT dtm_wait('early', '300 ms')});
is($rc, 0, 'dtm_wait comes back') or diag($stderr);
is($stdout, 'submitted', 'with the status after its time');

# the barrier needs no worker
is(sql(q{SELECT dtm_barrier('saga', 'g', '01', 'action')}), 't', 'dtm_barrier: to be done');
is(sql(q{SELECT dtm_barrier('saga', 'g', '01', 'action')}), 'f', 'dtm_barrier: done already');
is(sql(q{SELECT dtm_barrier('saga', 'h', '01', 'compensate')}), 'f', 'dtm_barrier: nothing to undo');
is(sql(q{SELECT dtm_barrier('saga', 'h', '01', 'action')}), 'f', 'dtm_barrier: too late');

sql(q{SELECT dtm_stop(dtm_saga_submit(jsonb_build_array(dtm_step('}
	  . $service->url('/effect/never') . q{')), gid => 'stopped'), 'not wanted')});
is(sql(q{SELECT dtm_status('stopped')}), 'failed', 'dtm_stop');

# settings of a server that does not preload it are no obstacle
($rc, $stdout, $stderr) = $node->psql('postgres', q{SELECT dtm_gid(); SET dtm.workers = 3});
like($stderr, qr/ERROR:.*dtm\.workers/, 'a setting of the workers cannot be set in a session, preloaded or not');

# pg_dump and restore
my $dump = $node->basedir . '/dump.sql';
my ($out, $err) = ('', '');
ok(run([ 'pg_dump', '--no-sync', '-f', $dump, '-d', $node->connstr('postgres') ], '2>', \$err), 'pg_dump') or diag($err);
sql('CREATE DATABASE restored');
ok(run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], '>', \$out, '2>', \$err),
	'restore') or diag($err);
is($err, '', 'without complaints');
is($node->safe_psql('restored', q{SELECT gid, status FROM dtm.transactions ORDER BY gid}), "early|submitted\nstopped|failed",
	'the transactions are in it');
my $log = sub {
	open my $file, '<', $node->logfile or die "log: $!";
	local $/;
	return scalar <$file>;
};
unlike($log->(), qr/FATAL|PANIC|terminated by signal/, 'no complaints in the log');
usleep(500_000);
is($service->calls, 0, 'nobody was called');

# ----------------------------------------------------------------- preloaded
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dtm_pg'");
$node->restart;
wait_status($node, 'early', 'succeed');
is_deeply([ effects($node, 'early') ], ['action 01'], 'preloaded: what was submitted before is driven');
($rc, $stdout, $stderr) = $node->psql('postgres', submit_sql('late', '/effect/a'));
is($stderr, '', 'no warning any more');
wait_status($node, 'late', 'succeed');
wait_for($node, q{SELECT state FROM dtm.workers}, 'paused', dbname => 'restored', name => 'the restored copy is paused');
is($node->safe_psql('restored', q{SELECT dtm_status('early')}), 'submitted', 'and is not driven');

# and taken away again: back to storing
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
($rc, $stdout, $stderr) = $node->psql('postgres', submit_sql('again', '/effect/a'));
is($stdout, 'again', 'not preloaded any more: a submit is taken');
like($stderr, qr/not preloaded/, 'with the warning');

done_testing();
