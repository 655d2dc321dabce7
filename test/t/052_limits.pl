# -------------------------------------------------------------------------
#
# 052_limits.pl
#		Bounds: transactions in memory, calls per host, hosts that hang or are
#		gone, addresses that may not be called, certificates.
#
# Not here: changing the settings while calls are out (022).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use File::Temp qw(tempdir);
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node(
	conf => "dtm.retry_interval = '100ms'\ndtm.max_host_calls = 4\ndtm.max_inflight = 40\ndtm.request_timeout = '30s'");
my ($busy, $busy2, $other) = (start_service(), start_service(), start_service());

sub value { return $node->safe_psql('postgres', $_[0]); }

# As many sagas of one call, in one statement.
sub submit_many
{
	my ($prefix, $n, $url, $options) = @_;

	return value("SELECT count(dtm_saga_submit(jsonb_build_array(dtm_step('$url')), gid => '$prefix-' || n"
		  . ($options ? ", $options" : '') . ")) FROM generate_series(1, $n) AS n");
}

sub wait_all
{
	my ($prefix, $n, %more) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_for($node, "SELECT count(*) FROM dtm.transactions WHERE gid LIKE '$prefix-%' AND status = 'succeed'",
		$n, name => "$prefix: all $n finish", %more);
}

# The most calls that a service saw at once.
sub most_at_once
{
	my @events = sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] }
	  map { ([ $_->{start}, 1 ], [ $_->{end} // 9e9, -1 ]) } @_;
	my ($now, $most) = (0, 0);

	for my $event (@events)
	{
		$now += $event->[1];
		$most = $now if $now > $most;
	}
	return $most;
}

# ---- many more than fit into memory, more than one host may have

$busy->script('/work', { then => { delay => 0.02 } });
submit_many('flood', 300, $busy->url('/work'));
wait_all('flood', 300);
my @calls = $busy->calls(path => '/work');
is(scalar @calls, 300, 'each is called once');
cmp_ok(most_at_once(@calls), '<=', 4, 'dtm.max_host_calls: no more at once');
cmp_ok(most_at_once(@calls), '>=', 3, 'and not one after the other');
my %connections = map { $_->{connection} => 1 } @calls;
cmp_ok(scalar(keys %connections), '<=', 8, 'over few connections');
cmp_ok(value('SELECT max(transactions_in_flight) FROM dtm.workers'), '<=', 40, 'dtm.max_inflight');

# ---- hosts that hang, with more work than fits, hold up nobody else

for my $host ($busy, $busy2)
{
	$host->script('/hang', { then => { gate => 'hang' } });
	submit_many($host == $busy ? 'hang' : 'hang2', 120, $host->url('/hang'));
	$host->wait_calls(4, path => '/hang');
}
submit_many('quick', 60, $other->url('/quick'));
wait_all('quick', 60, timeout => 20);
is(value("SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'hang%' AND status <> 'submitted'"), 0,
	'while the others still wait');
cmp_ok(value('SELECT max(transactions_in_flight) FROM dtm.workers'), '<=', 40, 'within dtm.max_inflight');
is(most_at_once($_->calls(path => '/hang')), 4, 'and dtm.max_host_calls') for $busy, $busy2;
$_->open_gate('hang') for $busy, $busy2;
wait_all($_, 120) for qw(hang hang2);
is(scalar($_->calls(path => '/hang')), 120, 'each was called once after all') for $busy, $busy2;

# ---- a host that is gone, and comes back

my $gone = start_service();
$gone->stop;
my $stopped = time();
submit_many('patient', 20, $gone->url('/later'), "retry_interval => '1 h'");
submit_many('eager', 10, $gone->url('/now'));
wait_for($node, "SELECT count(*) FROM dtm.branches WHERE gid LIKE 'patient-%' AND op = 'action' AND last_error IS NOT NULL",
	'20', name => 'the patient ones were tried, or heard that the host is gone');
wait_for($node, "SELECT count(*) > 0 FROM dtm.branches WHERE gid LIKE 'eager-%' AND op = 'action'"
	  . " AND last_error ~ 'failed \\d+ times in a row'", 't', name => 'the circuit of the host opens');
my $attempts = "SELECT sum(attempts) FROM dtm.branches WHERE gid LIKE 'eager-%' AND op = 'action'";
my ($before, $from) = (value($attempts), time());
usleep(2_500_000);
my $made = value($attempts) - $before;
cmp_ok($made, '<=', 3 + int((time() - $from) / 2), 'probes instead of the calls of all of them');
submit_many('quick2', 10, $other->url('/quick2'));
wait_all('quick2', 10, timeout => 20);
$gone->start;
wait_all('eager', 10, timeout => 40);
wait_all('patient', 20, timeout => 20);
cmp_ok(time() - $stopped, '<', 3000, 'well before their hour is over');
is(scalar($gone->calls(path => '/later')), 20, 'each was called once');

# ---- addresses that are never called

for my $host ('169.254.169.254', '[fd00:ec2::254]', 'metadata.google.internal', '0.0.0.0', '[::ffff:169.254.169.254]',
	'100.100.100.200')
{
	my ($rc, $stdout, $stderr) = $node->psql('postgres',
		"\\set VERBOSITY verbose\nSELECT dtm_saga_submit(jsonb_build_array(dtm_step('http://$host/latest')))");
	like($stderr, qr/ERROR:  42501: .*HINT:  .*dtm\.allowed_targets/s, "$host is refused at submit");
}
is(value("SELECT count(*) FROM dtm.transactions WHERE gid NOT SIMILAR TO '(flood|hang2?|quick2?|patient|eager)-%'"), 0,
	'and nothing is stored');

# a name that resolves to what is forbidden
$node->append_conf('postgresql.conf', "dtm.allowed_targets = '*, !127.0.0.0/8, ![::1]'");
$node->reload;
wait_for($node, 'SHOW dtm.allowed_targets', '*, !127.0.0.0/8, ![::1]');
submit_many('name', 1, 'http://localhost:' . $busy->port . '/secret', "retry_interval => '1 h'");
wait_for($node, "SELECT last_error ~ '^address (127\\.0\\.0\\.1|::1) of host \"localhost\" is not in dtm\\.allowed_targets\$'"
	  . " FROM dtm.branches WHERE gid = 'name-1' AND op = 'action'", 't', name => 'the address that a name resolves to counts');
is(scalar($busy->calls(path => '/secret')), 0, 'it is not called');
is(value("SELECT dtm_stop('name-1')"), 'failed', 'stopped');

# ---- TLS

my $dir = tempdir(CLEANUP => 1);

sub openssl
{
	my $log = "$dir/openssl.log";

	system("cd $dir && openssl @_ >>$log 2>&1") == 0 or die 'openssl: ' . `cat $log`;
	return;
}

sub write_file
{
	my ($name, $text) = @_;

	open my $file, '>', "$dir/$name" or die "$dir/$name: $!";
	print $file $text;
	close $file;
	return;
}

openssl('req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-authority -keyout ca.key -out ca.pem',
	'-addext basicConstraints=critical,CA:TRUE');
openssl('req -newkey rsa:2048 -nodes -subj /CN=test -keyout server.key -out server.csr');
write_file('names', "subjectAltName = IP:127.0.0.1\nbasicConstraints = CA:FALSE\n");
openssl('x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem');
write_file('server.py', <<'END');
import ctypes, http.server, ssl

ctypes.CDLL(None).prctl(1, 9)       # end with the test

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        print("called", self.path.partition("?")[0], flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print("port", server.server_port, flush=True)
server.serve_forever()
END
my $pid = open(my $tls, '-|', "cd $dir && exec /usr/bin/python3 server.py") or die "server.py: $!";
my ($port) = (readline $tls) =~ /^port (\d+)$/ or die 'the TLS server does not start';

$node->append_conf('postgresql.conf', "dtm.allowed_targets = '*'\ndtm.max_host_calls = 5");
$node->reload;
wait_for($node, 'SHOW dtm.allowed_targets', '*');
submit_many('tls', 1, "https://127.0.0.1:$port/unknown", "retry_interval => '1 h'");
wait_for($node, "SELECT attempts > 0 FROM dtm.branches WHERE gid = 'tls-1' AND op = 'action'", 't', name => 'an unknown authority');
like(value("SELECT last_error FROM dtm.branches WHERE gid = 'tls-1' AND op = 'action'"),
	qr/^TLS with 127\.0\.0\.1:$port failed: .*certificate/, 'is refused');
submit_many('plain', 1, "http://127.0.0.1:$port/plain", "retry_interval => '1 h'");
wait_for($node, "SELECT attempts > 0 FROM dtm.branches WHERE gid = 'plain-1' AND op = 'action'", 't', name => 'HTTP to it is an error');

chmod 0755, $dir;
$node->append_conf('postgresql.conf', "dtm.ca_file = '$dir/ca.pem'");
$node->reload;
wait_for($node, 'SHOW dtm.ca_file', "$dir/ca.pem");
# the coordinator may see it a little later than this session
wait_until(sub { value("SELECT dtm_retry('tls-1')"); usleep(100_000); return value("SELECT dtm_status('tls-1')") eq 'succeed' },
	'dtm.ca_file makes it known');
submit_many('wrong', 1, "https://127.0.0.2:$port/wrong", "retry_interval => '1 h'");
wait_for($node, "SELECT attempts > 0 FROM dtm.branches WHERE gid = 'wrong-1' AND op = 'action'", 't', name => 'a certificate for another name');
like(value("SELECT last_error FROM dtm.branches WHERE gid = 'wrong-1' AND op = 'action'"),
	qr/^TLS with 127\.0\.0\.2:$port failed: .*(certificate|name)/, 'is refused');
kill 'KILL', $pid;
my @seen = map { /called (\S+)/ ? $1 : () } readline $tls;
close $tls;
is("@seen", '/unknown', 'the server has seen the one call that trusted it');

$node->stop;
done_testing();
