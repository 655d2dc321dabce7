# -------------------------------------------------------------------------
#
# 251_http_disturbed.pl
#		The port under load while coordinators end, settings change and the
#		port moves: what was acknowledged is there, nothing is lost on the way
#		down, descriptors do not add up.  And a database that is not UTF-8.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use DtmWire;
use HTTP::Tiny;
use JSON::PP;
use Test::More;
use Time::HiRes qw(usleep);

my ($node, $wire) = wire_node(conf => "dtm.workers = 2\ndtm.retry_interval = '1s'");
my $other = free_port();
my $service = start_service();

sub sql { return $node->safe_psql('postgres', @_); }

# A process that submits to both ports until it is told to end, and writes down what was acknowledged.
my $dir = $node->basedir;

sub client
{
	my ($n) = @_;
	my $pid = fork;

	return $pid if $pid;
	my $end = 0;
	local $SIG{TERM} = sub { $end = 1 };
	my $http = HTTP::Tiny->new(timeout => 10);
	open my $log, '>', "$dir/acked-$n" or POSIX::_exit(1);
	$log->autoflush(1);
	for (my $i = 0; !$end; $i++)
	{
		my $gid = "load-$n-$i";
		my $port = $i % 2 ? $other : $wire->port;
		my $answer = $http->post("http://127.0.0.1:$port/api/dtmsvr/submit", { content => encode_json({
			gid => $gid, trans_type => 'saga', steps => [ { action => $service->url('/ok') } ], payloads => ['{}'] }) });

		print $log "$gid\n" if $answer->{status} == 200;
		usleep(2000) if $answer->{status} == 599;
	}
	POSIX::_exit(0);
}

require POSIX;
my @clients = map { client($_) } 1 .. 6;
my $parent = $$;

END { kill KILL => @clients if defined $parent && $$ == $parent; }
my $workers = q{SELECT count(*) FROM dtm.workers WHERE state = 'running'};

sub descriptors
{
	my $n = 0;

	for my $pid (split /\n/, sql(q{SELECT pid FROM dtm.workers WHERE state = 'running'}))
	{
		my @open = glob "/proc/$pid/fd/*";
		$n += @open;
	}
	return $n;
}

sub listen_at
{
	my ($port) = @_;

	sql("ALTER SYSTEM SET dtm.http_listen = '127.0.0.1:$port'");
	sql('SELECT pg_reload_conf()');
	wait_until(sub { HTTP::Tiny->new(timeout => 2, keep_alive => 0)->get("http://127.0.0.1:$port/api/ping")->{status} == 200 }, "the port is $port");
	return;
}

# the port moves
listen_at($other);
listen_at($wire->port);
my $before = descriptors();
for (1 .. 6) { listen_at($other); listen_at($wire->port); }
my $after = descriptors();
cmp_ok($after, '<', $before + 30, "descriptors do not add up ($before, then $after)");

# coordinators end
for my $round (1 .. 5)
{
	sql(q{SELECT pg_terminate_backend(pid) FROM dtm.workers WHERE state = 'running'});
	wait_for($node, $workers, 2, name => "they are back, round $round");
	sql(q{SELECT pg_cancel_backend(pid) FROM dtm.workers});
	$wire->wait_port('and listen');
}
sql(q{ALTER DATABASE postgres SET dtm.http_idle_timeout = '50s'});
wait_for($node, $workers, 2, name => 'started anew by ALTER DATABASE');
$wire->wait_port('and listening');

kill TERM => @clients;
waitpid $_, 0 for @clients;
my @acked = map { my $file = "$dir/acked-$_"; open my $in, '<', $file or die; my @lines = <$in>; chomp @lines; @lines } 1 .. 6;
cmp_ok(scalar @acked, '>', 50, scalar(@acked) . ' were acknowledged');
is(sql('SELECT count(*) FROM unnest(' . sql_literal('{' . join(',', @acked) . '}') . '::text[]) AS g WHERE g NOT IN (SELECT gid FROM dtm.transactions)'),
	0, 'and each of them is there');
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE status <> 'succeed'}, 0, name => 'and comes to its end');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/libmicrohttpd gives up|PANIC|terminated by signal/, 'nothing in the log is alarming');

# ------------------------------------------------------------------ LATIN1
sql(q{CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'});
my $latin = DtmWire->new(free_port());
sql("ALTER DATABASE latin SET dtm.http_listen = '127.0.0.1:" . $latin->port . q{'});
$node->safe_psql('latin', 'CREATE EXTENSION dtm_pg');
$latin->wait_port('a LATIN1 database listens');
my %saga = (trans_type => 'saga', steps => [ { action => $service->url('/ok') } ], payloads => ['{}']);
is_success($latin->post(submit => { gid => 'plain', %saga, wait_result => \1 }), 'ASCII is taken');
is($latin->post(submit => qq({"gid":"gr\xc3\xbcn","trans_type":"saga","steps":[{"action":"http://127.0.0.1:9/"}],"payloads":["{}"]}))->{status}, 500, 'the rest is refused');
is($latin->post(submit => q({"gid":"gr\\u00fcn","trans_type":"saga","steps":[{"action":"http://127.0.0.1:9/"}],"payloads":["{}"]}))->{status}, 500, 'also when it is escaped');
$node->safe_psql('latin', q{SELECT dtm_saga_submit(jsonb_build_array(dtm_step('http://127.0.0.1:9/', payload => to_jsonb(U&'\00fc'::text))), gid => U&'gr\00fcn')});
is(decoded($latin->get(query => gid => "gr\xc3\xbcn"))->{transaction}{gid}, "gr\x{fc}n", 'what SQL has submitted is shown in UTF-8');
is(decoded($latin->get(query => gid => "\xe2\x82\xac"))->{transaction}, undef, 'what cannot be there is not');
is(decoded($latin->get(query => gid => "gr\xfcn"))->{transaction}, undef, 'nor what is no UTF-8');
is_success($latin->request('GET', '/api/dtmsvr/subscribe?topic=t&url=http://127.0.0.1:9/&remark=gr%C3%BCn'), 'a remark of that encoding');
like($latin->request('GET', '/api/dtmsvr/scanKV')->{content}, qr/gr\xc3\xbcn/, 'is shown so');
isnt($latin->request('GET', '/api/dtmsvr/subscribe?topic=t&url=http://127.0.0.1:8/&remark=%E2%82%AC')->{status}, 200, 'another one is refused');
isnt($latin->request('GET', '/api/dtmsvr/subscribe?topic=t&url=http://127.0.0.1:8/&remark=%FF%FE')->{status}, 200, 'and what is no text');
is(scalar(@{ decoded($latin->get('all'))->{transactions} }), 2, 'all of them');

done_testing();
