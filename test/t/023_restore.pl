# -------------------------------------------------------------------------
#
# 023_restore.pl
#		pg_dump and restore with unfinished transactions: the copy never
#		calls anybody by itself, and drives all of it after dtm_resume().
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use IPC::Run qw(run);
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node(conf => join "\n", "dtm.retry_interval = '200ms'", "dtm.request_timeout = '60s'");
my $service = start_service(node => $node);

sub step
{
	my ($name) = @_;

	return { action => $service->url("/effect/$name"), compensate => $service->url("/effect/undo_$name") };
}

sub shell_ok
{
	my ($name, @command) = @_;
	my ($out, $err) = ('', '');
	my $ok = run(\@command, '>', \$out, '2>', \$err);

	ok($ok, $name) or diag($err);
	unlike($err, qr/ERROR|error/, "$name: no complaints");
	return $out;
}

# ------------------------------------------------- what is to be preserved
$node->safe_psql('postgres', q{
	CREATE ROLE shop LOGIN;
	SELECT dtm_grant('shop');
	GRANT SELECT, INSERT ON effects TO shop;
	CREATE TABLE notes (gid text, who text);
	GRANT INSERT ON notes TO shop;
	CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO public.notes SELECT public.dtm_context()->>'gid', current_user $$;
});
submit_saga($node, [ step('a'), { action => 'sql:note' } ], gid => 'finished');
wait_status($node, 'finished', 'succeed');
$service->script('/effect/refuse', { then => { status => 409, body => 'no stock', before => 1 } });
submit_saga($node, [ step('a'), step('refuse') ], gid => 'rolled-back');
wait_status($node, 'rolled-back', 'failed');

# one waits for an answer, one for a later time, one was not begun, one is in the middle of rolling back
$service->script('/effect/held', { then => { gate => 'held' } });
submit_saga($node, [ step('a'), step('held'), { action => 'sql:note' } ], gid => 'held', user => 'shop');
$service->wait_calls(1, gid => 'held', path => '/effect/held');
$service->script('/effect/broken', { then => { status => 500, before => 1 } });
submit_saga($node, [ step('a'), step('broken') ], gid => 'waiting', options => q{retry_interval => '1 h'});
$service->wait_calls(1, gid => 'waiting', path => '/effect/broken');
submit_saga($node, [ step('a') ], gid => 'later', options => q{start_after => '1 h'});
$service->script('/effect/undo_a', { query => { gid => 'aborting' }, then => { gate => 'undo' } });
submit_saga($node, [ step('a'), step('refuse') ], gid => 'aborting');
$service->wait_calls(1, gid => 'aborting', op => 'compensate');
wait_for($node, q{SELECT count(*) FROM dtm.timer}, '2', name => 'two wait for a later time');

my $compared = q{
	SELECT gid, trans_type, status, submitted_by, created_at, finished_at, options, rollback_reason
	FROM dtm.transactions ORDER BY gid};
my $barrier = 'SELECT trans_type, gid, branch_id, op, barrier_id, reason FROM dtm.barrier ORDER BY 1, 2, 3, 4, 5';
my @dumps = (
	[ 'plain', 'pg_dump', '--no-sync', '-f', $node->basedir . '/plain.sql', '-d', $node->connstr('postgres') ],
	[ 'custom', 'pg_dump', '--no-sync', '-Fc', '-f', $node->basedir . '/custom.dump', '-d', $node->connstr('postgres') ]);
shell_ok("pg_dump $_->[0]", @$_[ 1 .. $#$_ ]) for @dumps;
my ($transactions, $rows) = map { $node->safe_psql('postgres', $_) } $compared, $barrier;

# in the middle of a restore: what says where the transactions are from is not there yet
my $partial = $node->basedir . '/partial.list';
my $list = shell_ok('pg_restore --list', 'pg_restore', '--list', $node->basedir . '/custom.dump');
$list =~ s/^.* TABLE DATA dtm node .*\n//m or die 'no data of dtm.node in the dump';
open my $file, '>', $partial or die "$partial: $!";
print $file $list;
close $file;

# ------------------------------------------------------------- the restores
my $other = new_node(name => 'other', extension => 0, conf => join "\n", "dtm.retry_interval = '200ms'",
	"dtm.request_timeout = '60s'");
$other->safe_psql('postgres', 'CREATE ROLE shop LOGIN');
$_->safe_psql('postgres', 'CREATE DATABASE restored') for $node, $other;
$other->safe_psql('postgres', "CREATE DATABASE $_") for qw(partial parallel);
my $calls = scalar $service->calls;

shell_ok('psql restores into a database of the same system', 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1',
	'-f', $node->basedir . '/plain.sql', '-d', $node->connstr('restored'));
shell_ok('pg_restore into another system', 'pg_restore', '--exit-on-error',
	'-d', $other->connstr('restored'), $node->basedir . '/custom.dump');

shell_ok('pg_restore without dtm.node', 'pg_restore', '--exit-on-error', '-L', $partial,
	'-d', $other->connstr('partial'), $node->basedir . '/custom.dump');
shell_ok('pg_restore with two jobs', 'pg_restore', '--exit-on-error', '-j', '2',
	'-d', $other->connstr('parallel'), $node->basedir . '/custom.dump');
wait_for($other, 'SELECT state FROM dtm.workers', 'paused', dbname => 'parallel', name => 'with two jobs: paused');

# the effects of the restored one go to its own database
my $theirs = start_service(node => $other, dbname => 'restored', port => 0);

for my $copy ([ $node, 'same system' ], [ $other, 'other system' ])
{
	my ($there, $name) = @$copy;

	is($there->safe_psql('restored', $compared), $transactions, "$name: the transactions");
	is($there->safe_psql('restored', $barrier), $rows, "$name: the rows of the barrier");
	is($there->safe_psql('restored', 'SELECT count(*) FROM dtm.timer'), '2', "$name: what waits for later");
	is($there->safe_psql('restored', q{SELECT submitted_by FROM dtm.transactions WHERE gid = 'held'}), 'shop',
		"$name: who submitted");
	is($there->safe_psql('restored', q{SELECT (last_value >= (SELECT max(id) FROM dtm.trans)) FROM dtm.trans_id_seq}), 't',
		"$name: the sequence goes on");
	wait_for($there, 'SELECT state FROM dtm.workers', 'paused', dbname => 'restored', name => "$name: starts paused");
	like($there->safe_psql('restored', 'SELECT last_error FROM dtm.workers'),
		qr/^restored or cloned from database \d+ of system -?\d+$/, "$name: and says why");

	my ($rc, $stdout, $stderr) = $there->psql('restored',
		"SELECT dtm_saga_submit(jsonb_build_array(dtm_step('" . $service->url('/fresh') . "')), gid => 'fresh')");
	is($stdout, 'fresh', "$name: a submit is taken");
	like($stderr, qr/WARNING:.*paused.*HINT:.*dtm_resume/s, "$name: with a warning");
	($rc, $stdout, $stderr) = $there->psql('restored', q{SELECT dtm_retry('waiting')});
	is($rc, 0, "$name: dtm_retry is taken too");
}
is($node->safe_psql('postgres', 'SELECT state FROM dtm.workers ORDER BY state DESC LIMIT 1'), 'running', 'the original goes on');

# a restart of the copy is no reason to begin
$other->restart;
wait_for($other, 'SELECT state FROM dtm.workers', 'paused', dbname => 'restored', name => 'paused after a restart');
wait_for($other, 'SELECT state FROM dtm.workers', 'paused', dbname => 'partial', name => 'paused without dtm.node');
is($other->safe_psql('partial', 'SELECT last_error FROM dtm.workers'), 'restored: its transactions were not submitted here',
	'and says why');
my ($code, $gid, $warning) = $other->psql('partial',
	"SELECT dtm_saga_submit(jsonb_build_array(dtm_step('" . $service->url('/fresh') . "')), gid => 'fresh')");
like($warning, qr/WARNING:.*paused/, 'a submit there does not claim what came with the restore');
usleep(1_500_000);
is($other->safe_psql('partial', 'SELECT state FROM dtm.workers'), 'paused', 'still paused');
is(scalar($service->calls), $calls, 'nothing was called by the copies');

# --------------------------------------------------------------- dtm_resume
# The original is gone for good, as after a disaster: its calls are cut.
$node->stop('immediate');
my $old_port = $service->port;
$service->stop;
$theirs->stop;
my $moved = bless { port => $old_port, arguments => $theirs->{arguments} }, 'DtmTest::Service';
$moved->start;
$moved->script('/effect/refuse', { then => { status => 409, body => 'no stock', before => 1 } });
$other->safe_psql('restored', 'SELECT dtm_resume()');
wait_status($other, $_, 'succeed', dbname => 'restored') for qw(held fresh waiting);
wait_status($other, 'aborting', 'failed', dbname => 'restored');
wait_for($other, 'SELECT state FROM dtm.workers WHERE worker = 0 AND state IN (\'running\', \'paused\')', 'running',
	dbname => 'restored', name => 'running');
is_deeply([ effects($other, 'held', dbname => 'restored') ], [ 'action 01', 'action 02' ],
	'effects of before and after, each once');
is($other->safe_psql('restored', q{SELECT who FROM notes WHERE gid = 'held'}), 'shop', 'functions run as who submitted');
is_deeply([ effects($other, 'aborting', dbname => 'restored') ], [ 'action 01', 'compensate 01' ],
	'what was rolling back is rolled back');
is($other->safe_psql('restored', q{SELECT dtm_status('later')}), 'submitted', 'what is for later waits on');
submit_saga($other, [ { action => 'sql:note' } ], gid => 'granted', dbname => 'restored', user => 'shop');
wait_status($other, 'granted', 'succeed', dbname => 'restored', user => 'shop');
is($other->safe_psql('restored', q{SELECT who FROM notes WHERE gid = 'granted'}), 'shop', 'the grants of dtm_grant() are there');
is(scalar(grep { $_->{query}{gid} eq 'finished' || $_->{query}{gid} eq 'rolled-back' } $moved->calls), 0,
	'what was finished is not touched');
submit_saga($other, [ { action => $moved->url('/fresh') } ], gid => 'after', dbname => 'restored');
wait_status($other, 'after', 'succeed', dbname => 'restored');

# once more out and in: nothing in the dump stands in the way
shell_ok('pg_dump of the restored database', 'pg_dump', '--no-sync', '-f', $other->basedir . '/again.sql',
	'-d', $other->connstr('restored'));
$other->safe_psql('postgres', 'CREATE DATABASE again');
shell_ok('and its restore', 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', $other->basedir . '/again.sql',
	'-d', $other->connstr('again'));
wait_for($other, 'SELECT state FROM dtm.workers', 'paused', dbname => 'again', name => 'paused again');

done_testing();
