# -------------------------------------------------------------------------
#
# 250_http_fairness.pl
#		The HTTP API when it has more to do than it can: requests that meet
#		locks, and requests at fault, beside those of others; many long pages;
#		what is acknowledged, and what must not be.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use DtmWire;
use IO::Select;
use JSON::PP;
use Test::More;

my ($node, $wire) = wire_node(streaming => 1, conf => "dtm.retry_interval = '10s'\nwal_writer_delay = '10s'");
my $service = start_service();

sub sql { return $node->safe_psql('postgres', @_); }

sub saga
{
	my ($gid, %more) = @_;

	return { gid => $gid, trans_type => 'saga', steps => [ { action => $service->url('/ok') } ], payloads => ['{}'], %more };
}

# ------------------------------------- others' locks, and a lot of requests for them
is_success($wire->post(prepare => { gid => "held-$_", trans_type => 'tcc' }), "prepare $_") for 1 .. 60;
my $session = DtmSession->new($node);
$session->query('BEGIN');
$session->query("SELECT count(dtm_submit('held-' || i)) FROM generate_series(1, 60) AS i");
my @held = map { $wire->start(submit => { gid => "held-$_", trans_type => 'tcc' }) } 1 .. 60;
is_success($wire->post(submit => saga("beside-$_", wait_result => \1)), "others are served and driven meanwhile ($_)") for 1 .. 15;
my @told = IO::Select->new(@held)->can_read(0);
is(scalar @told, 0, 'long before the first is told to come again');
$session->query('COMMIT');
my @answers = map { $wire->finish($_) } @held;
is(scalar(grep { $_->{status} == 200 || $_->{content} =~ /current status 'succeed'/ } @answers), 60, 'without the locks each of them is answered')
  or diag(join "\n", map { "$_->{status} $_->{content}" } grep { $_->{status} != 200 } @answers);

# ------------------------------------------------------------ requests at fault
sub fault { return saga("fault-$_[0]", steps => [ { action => 'http://169.254.169.254/latest' } ]); }

for my $faults (1, 8, 30)
{
	my @sockets = map { $wire->start(submit => $_ % 2 == 0 && $_ / 2 <= $faults ? fault("$faults-$_") : saga("fine-$faults-$_")) } 1 .. 80;

	@answers = map { $wire->finish($_) } @sockets;
	is(scalar(grep { $_->{status} == 403 } @answers), $faults, "$faults of 80 are refused");
	is(scalar(grep { $_->{status} == 200 } @answers), 80 - $faults, 'the others are stored');
	is(sql("SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'fine-$faults-%'"), 80 - $faults, 'once each');
	is(sql("SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'fault-%'"), 0, 'and nothing of the refused');
}

# ------------------------------------------------------------- many long pages
sql(q{SELECT count(dtm_saga_submit(jsonb_build_array(dtm_step(} . sql_literal($service->url('/ok')) . q{, payload => to_jsonb(repeat('x', 2000)))),
	start_after => '1 day')) FROM generate_series(1, 3000)});
my @pages = map { $wire->raw("GET /api/dtmsvr/all?limit=1000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") } 1 .. 100;
is_success($wire->post(submit => saga('beside-pages', wait_result => \1)), 'a submit beside a hundred long pages');
@answers = map { $wire->finish($_) } @pages;
is(scalar(grep { $_->{status} == 200 && @{ decoded($_)->{transactions} } == 1000 } @answers), 100, 'which come all');

# ---------------------------------------- what is acknowledged has reached the disk
sql(q{SET synchronous_commit = off; SELECT dtm_tcc_begin(gid => 'lazy')});
my $lsn = sql('SELECT pg_current_wal_insert_lsn()');
is_success($wire->post(prepare => { gid => 'lazy', trans_type => 'tcc' }), 'prepare of one that a session has begun without waiting for the disk');
is(sql("SELECT pg_current_wal_flush_lsn() >= '$lsn'"), 't', 'it is there now');

# ------------------------------------- a standby that does not come: no answer
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
$node->reload;
wait_for($node, 'SHOW synchronous_standby_names', 'nobody');
my $waiting = $wire->start(submit => saga('not-replicated'));
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type LIKE 'dtm%'}, 1,
	name => 'the commit waits for the standby');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type LIKE 'dtm%'});
is($wire->finish($waiting)->{status}, 599, 'a coordinator that is ended meanwhile acknowledges nothing');
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
$node->reload;
$wire->wait_port('the next one listens');
is_success($wire->post(submit => saga('after', wait_result => \1)), 'and works');

done_testing();
