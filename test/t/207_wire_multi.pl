# -------------------------------------------------------------------------
#
# 207_wire_multi.pl
#		More than one process at the port of the HTTP API: coordinators of
#		one database that share it, databases that both want it, and processes
#		that go and come.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use DtmWire;
use JSON::PP;
use Test::More;

my ($node, $wire) = wire_node(
	conf => "dtm.workers = 2\ndtm.retry_interval = '200ms'\ndtm.retry_max_interval = '1s'\nmax_worker_processes = 32");
my $service = start_service();
my $true = JSON::PP::true;
my $running = q{SELECT count(*) FROM dtm.workers WHERE state = 'running'};

sub value { return $node->safe_psql('postgres', @_); }

# Processes that listen: sockets of that port in state LISTEN (0A).
sub listeners
{
	my ($port) = @_;
	my $hex = sprintf ':%04X', $port;

	open my $table, '<', '/proc/net/tcp' or return 0;
	return scalar grep { (split)[1] =~ /\Q$hex\E$/ && (split)[3] eq '0A' } <$table>;
}

# Requests that each open a connection, so that they land on any of the processes.
sub fresh { return DtmWire->new($_[0] // $wire->port); }

# ---------------------------------------- two coordinators, one port

wait_for($node, $running, '2', name => 'two coordinators');
wait_until(sub { listeners($wire->port) == 2 }, 'both listen');

my @gids = map { $wire->gid('multi') } 1 .. 40;
my @open = map { [ $_, $wire->start(submit => { gid => $_, trans_type => 'saga', wait_result => $true, steps($service, qw(a b)) }) ] } @gids;
my @bad = grep { my $answer = $wire->finish($_->[1]); $answer->{status} != 200 } @open;
is(join(' ', map { $_->[0] } @bad), '', 'forty waiting submits: all are answered, whoever drives them');
is(scalar(grep { $service->calls(gid => $_) != 2 } @gids), 0, 'each branch is called once');
is(value(q{SELECT count(*) FROM dtm.workers WHERE state = 'running' AND finished > 0}), '2', 'both have driven some');

# one that fails, one that is not finished: told by the other coordinator, too
$service->script('/no', { then => { status => 409, body => 'no' } });
$service->script('/later', { then => { status => 425 } });
my (@failing, @later);
for my $i (1 .. 10)
{
	my @body = (trans_type => 'saga', wait_result => $true, retry_interval => 100);

	push @failing, $wire->start(submit => { @body, gid => "failing-$i", steps($service, qw(a no)) });
	push @later, $wire->start(submit => { @body, gid => "later-$i", steps($service, qw(a later)) });
}
is_failure($wire->finish($_), qr/return failed: no FAILURE$/, 'a failure, told') for @failing;
is_failure($wire->finish($_), 'wait result not return success: FAILURE', 'an unfinished one, told') for @later;

# the steps of one transaction over many connections
for my $i (1 .. 10)
{
	my $gid = "tcc-$i";

	is_success(fresh()->post(prepare => { gid => $gid, trans_type => 'tcc', wait_result => $true }), "$gid: prepare");
	is_success(fresh()->post(registerBranch => { gid => $gid, trans_type => 'tcc', branch_id => "0$_", data => '{}',
		confirm => $service->url('/confirm'), cancel => $service->url('/cancel') }), "$gid: register $_") for 1, 2;
	is(fresh()->status($gid), 'prepared', "$gid: seen by any");
	if ($i % 2)
	{
		is_success(fresh()->post(submit => { gid => $gid, trans_type => 'tcc', wait_result => $true }), "$gid: submit");
		is(join(', ', $service->ops(gid => $gid)), 'confirm 02 /confirm, confirm 01 /confirm', "$gid: confirms");
	}
	else
	{
		is_success(fresh()->post(abort => { gid => $gid, trans_type => 'tcc' }), "$gid: abort");
		is(join(', ', $service->ops(gid => $gid)), 'cancel 02 /cancel, cancel 01 /cancel', "$gid: cancels");
	}
}

# the same gid to both
for my $i (1 .. 5)
{
	my $gid = "same-$i";
	my @both = map { $wire->start(submit => { gid => $gid, trans_type => 'saga', steps($service, qw(a b)) }) } 1 .. 6;
	my %statuses;

	$statuses{ $wire->finish($_)->{status} }++ for @both;
	is(join(' ', grep { $_ != 200 && $_ != 409 } keys %statuses), '', "$gid: six times at once");
	$wire->wait_status($gid, 'succeed');
	is(scalar $service->calls(gid => $gid), 2, "$gid: once");
}

# topics are fresh in both
is_success(fresh()->get('subscribe', topic => 'news', url => $service->url('/news'), remark => ''), 'subscribe');
for my $i (1 .. 6)
{
	is_success(fresh()->post(submit => { gid => "news-$i", trans_type => 'msg', steps => [ { action => 'topic://news' } ],
		payloads => ['{}'], wait_result => $true }), 'a new topic is known to any');
}

# -------------------------------------------------------------- restarts

# Killed while a client waits: the port comes back, the saga goes on.
$service->script('/held', { then => { gate => 'held' } });
my @held = map { $wire->start(submit => { gid => "held-$_", trans_type => 'saga', wait_result => $true, steps($service, qw(held after)) }) } 1 .. 4;
$service->wait_calls(1, gid => "held-$_") for 1 .. 4;
value(q{SELECT count(pg_terminate_backend(pid)) FROM dtm.workers WHERE state = 'running'});
for my $held (@held)
{
	my $answer = $wire->finish($held);

	ok($answer->{status} == 599 || $answer->{status} >= 500, 'who waited gets an error or nothing, never a success') or diag($answer->{content});
}
$service->open_gate('held');
wait_for($node, $running, '2', name => 'two coordinators again');
$wire->wait_port('the port is back');
fresh()->wait_status("held-$_", 'succeed') for 1 .. 4;

# another number of coordinators
value(q{ALTER SYSTEM SET dtm.workers = 1});
value(q{SELECT pg_reload_conf()});
wait_until(sub { listeners($wire->port) == 1 && $wire->answers }, 'one listens');
is_success(fresh()->post(submit => { gid => 'one', trans_type => 'saga', wait_result => $true, steps($service, 'a') }), 'one coordinator');
value(q{ALTER SYSTEM SET dtm.workers = 3});
value(q{SELECT pg_reload_conf()});
wait_until(sub { listeners($wire->port) == 3 && $wire->answers }, 'three listen');
my @three = map { $wire->start(submit => { gid => "three-$_", trans_type => 'saga', wait_result => $true, steps($service, qw(a b)) }) } 1 .. 30;
is(scalar(grep { $wire->finish($_)->{status} == 200 } @three), 30, 'three coordinators');
value(q{ALTER SYSTEM RESET dtm.workers});
value(q{SELECT pg_reload_conf()});
wait_until(sub { listeners($wire->port) == 2 && $wire->answers }, 'two listen');

# ------------------------------------------- two databases, one port

# The port of this cluster is that of postgres: another one for two databases
# that both name it.
my $port = free_port();
my $shared = fresh($port);
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(one two);
$node->safe_psql('postgres', "ALTER DATABASE $_ SET dtm.http_listen = '127.0.0.1:$port'") for qw(one two);
install_extension($node, 'one');
$shared->wait_port('ALTER DATABASE ... SET dtm.http_listen: the first database has the port');
is_success($shared->post(prepare => { gid => 'mine', trans_type => 'tcc' }), 'prepare');
is($node->safe_psql('one', q{SELECT dtm_status('mine')}), 'prepared', 'it is in the first database');

my $offset = -s $node->logfile;
install_extension($node, 'two');
wait_for($node, $running, '2', dbname => 'two', name => 'the second database has its coordinators');
wait_log($node, qr/WARNING: .*"two".*127\.0\.0\.1:$port.*in use/, $offset, 'the log says that the port is taken');
my @landed = map { fresh($port)->status('mine') } 1 .. 30;
is(scalar(grep { $_ eq 'prepared' } @landed), 30, 'all requests land in the first database');
submit_saga($node, [ step($service, 'two') ], gid => 'without-port', dbname => 'two');
wait_status($node, 'without-port', 'succeed', dbname => 'two');
is_success($wire->post(prepare => { gid => 'elsewhere', trans_type => 'tcc' }), 'the port of the third database is another');
is(fresh($port)->status('elsewhere'), 'none', 'and so are its transactions');

# the first goes: the second takes over
$node->safe_psql('one', 'DROP EXTENSION dtm_pg CASCADE');
wait_until(sub { my $got = eval { fresh($port)->status('without-port') } // ''; $got eq 'succeed' }, 'the second database takes the port over');
is_success(fresh($port)->post(submit => { gid => 'taken-over', trans_type => 'saga', wait_result => $true, steps($service, 'a') }), 'submit');
is($node->safe_psql('two', q{SELECT dtm_status('taken-over')}), 'succeed', 'it is in the second database');
my @over = map { fresh($port)->status('without-port') } 1 .. 20;
is(scalar(grep { $_ eq 'succeed' } @over), 20, 'all requests land there');

# given up
$node->safe_psql('postgres', 'ALTER DATABASE two RESET dtm.http_listen');
$node->restart;
$wire->wait_port('after a restart the port of the setting is back');

# a port that a stranger has
my $stranger = start_service();
$node->safe_psql('postgres', "ALTER DATABASE two SET dtm.http_listen = '127.0.0.1:" . $stranger->port . q{'});
$offset = -s $node->logfile;
$node->restart;
my $strange = $stranger->port;
wait_log($node, qr/127\.0\.0\.1:$strange/, $offset, 'the log names the port that a stranger has');
submit_saga($node, [ step($service, 'two') ], gid => 'strange', dbname => 'two');
wait_status($node, 'strange', 'succeed', dbname => 'two');
$stranger->stop;
fresh($strange)->wait_port('when the stranger is gone the port is taken');
is(fresh($strange)->status('strange'), 'succeed', 'by the database that waits for it');

done_testing();
