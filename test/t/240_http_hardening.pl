# -------------------------------------------------------------------------
#
# 240_http_hardening.pl
#		The attacks of DtmAttack.pm on the port of a database: the
#		coordinators stay, their memory and descriptors as well, transactions
#		go on meanwhile, and nothing is stored that was not well formed.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmAttack;
use DtmSession;
use DtmTest;
use Test::More;
use Time::HiRes qw(time);

my $port = 0;
my %limits = (max_connections => 50, max_body => 65536, read_ms => 1000);
my $node = new_node(conf => join "\n", "dtm.http_max_connections = $limits{max_connections}",
	"dtm.http_max_body = '64kB'", "dtm.http_read_timeout = '1s'", "dtm.retry_interval = '100ms'",
	"dtm.retention = '1h'");
my $service = start_service();

sub sql { return $node->safe_psql('postgres', $_[0]); }

# The process that has the port.
sub coordinators
{
	return split /\n/, sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator' AND datname = 'postgres' ORDER BY 1});
}

$port = ref($node)->can('get_free_port')->();
sql("ALTER DATABASE postgres SET dtm.http_listen = '127.0.0.1:$port'");
wait_log($node, qr/the HTTP API of database "postgres" listens on 127\.0\.0\.1, port $port/);
my $attack = DtmAttack->new(port => $port, %limits);
$attack->alive('before');
my @pids = coordinators();
is(scalar(@pids), 1, 'one coordinator');

# transactions that go on meanwhile
$service->script('/slow', { then => { delay => 0.05 } });
submit_saga($node, [ map { { action => $service->url('/slow') } } 1 .. 100 ], gid => 'long');

$attack->all;
wait_status($node, 'long', 'succeed');
$attack->is_flat(sub { $attack->all }, pids => \@pids, name => 'once more', max_kb => 8 * 1024);
is_deeply([ coordinators() ], \@pids, 'nobody had to be started anew');

# all that is stored was asked for as it should be
is(sql(q{SELECT count(*) FROM dtm.transactions WHERE gid !~ '^(attack-[0-9]+|long)$'}), 0, 'nothing else is stored');
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE status <> 'succeed'}, 0, name => 'and all of it is done');

# ---- what has to wait for a lock is answered, one way or the other, and others are served

my $session = DtmSession->new($node, 'postgres');
$session->query('BEGIN; LOCK TABLE dtm.live IN ACCESS EXCLUSIVE MODE');
my @waiting = map { $attack->dial } 1 .. 20;
DtmAttack::say_bytes($_, $attack->submit) for @waiting;
my ($ping) = $attack->exchange(DtmAttack::get('/api/dtmsvr/newGid'));
like($ping, qr{^HTTP/1\.1 200 }, 'who needs no table is served while one is locked');
$session->query('ROLLBACK');
my %seen;
for my $client (@waiting)
{
	my ($heard) = DtmAttack::hear($client, \&DtmAttack::whole);

	$seen{ $heard =~ /^HTTP\/1\.1 (\d+) / ? $1 : 'none' }++;
	fail('503 without Retry-After') if $heard =~ /^HTTP\/1\.1 503 / && $heard !~ /\r\nRetry-After: \d/i;
}
is(($seen{200} // 0) + ($seen{503} // 0), 20, 'who waits for a lock is served in the end, or told to come back')
  or diag(explain(\%seen));
close $_ for @waiting;

$attack->alive('after all');
is(sql('SELECT count(*) FROM dtm.workers WHERE last_error IS NOT NULL'), 0, 'no worker has anything to complain of');

done_testing();
