# -------------------------------------------------------------------------
#
# 221_http_tls_proxy.pl
#		The HTTP API behind nginx with TLS: the configuration is taken from
#		docs/http-security.md, ports and files apart.
#
# Not here: who may do what without a proxy (220_http_access.pl).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Cwd qw(getcwd);
use IO::Socket::INET;
use JSON::PP;
use Test::More;

# two that are free, and not the same
my @free = map { IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', ReuseAddr => 1) } 1 .. 2;
my ($port, $tls_port) = map { $_->sockport } @free;
@free = ();

my $node = new_node(conf => "dtm.http_listen = '127.0.0.1:$port'\ndtm.http_anonymous = off");
my $dir = $node->basedir . '/nginx';
my $nginx = -x '/usr/sbin/nginx' ? '/usr/sbin/nginx' : 'nginx';
my $pid;

sub value { return $node->safe_psql('postgres', $_[0]); }

sub slurp
{
	my ($name) = @_;

	open my $file, '<', $name or die "$name: $!";
	local $/;
	return <$file>;
}

sub spew
{
	my ($name, $content) = @_;

	open my $file, '>', $name or die "$name: $!";
	print $file $content;
	close $file;
	return;
}

# Status, headers and body of a request over TLS, with the certificate verified.
sub call
{
	my ($method, $path, $body, @headers) = @_;

	spew("$dir/body", $body) if defined $body;
	my @command = ('curl', '-sS', '-m', 30, '-i', '--noproxy', '*', '--cacert', "$dir/dtm.crt", '--resolve', "dtm.example.com:$tls_port:127.0.0.1", '-X', $method,
		(map { ('-H', $_) } @headers), (defined $body ? ('--data-binary', "\@$dir/body") : ()), "https://dtm.example.com:$tls_port$path");
	open my $curl, '-|', @command or die "curl: $!";
	local $/;
	my ($head, $content) = split /\r\n\r\n/, <$curl> // '', 2;
	close $curl;
	return (($head // '') =~ m{^HTTP/1\.1 (\d+)} ? $1 : 0, $content, $head);
}

# ---- the configuration of the docs, on free ports and as ourselves

mkdir $dir or die $!;
is(system("cd $dir && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=dtm.example.com"
	  . ' -addext subjectAltName=DNS:dtm.example.com -keyout dtm.key -out dtm.crt >openssl.log 2>&1'), 0, 'a certificate');
my ($config) = slurp(getcwd() . '/docs/http-security.md') =~ /```nginx\n(.*?)```/s;
ok(defined $config, 'the docs have a configuration');
is($config =~ s/127\.0\.0\.1:36789/127.0.0.1:$port/, 1, '... with our port');
is($config =~ s/listen 443 ssl/listen 127.0.0.1:$tls_port ssl/, 1, '... with its own');
is($config =~ s{/etc/nginx/dtm\.(crt|key)}{$dir/dtm.$1}g, 2, '... with certificate and key');
my $paths = join '', map { "${_}_temp_path $dir/$_;\n" } qw(client_body proxy fastcgi uwsgi scgi);
spew("$dir/nginx.conf", "daemon off;\nworker_processes 1;\npid $dir/nginx.pid;\nerror_log $dir/error.log;\n"
	  . "events { worker_connections 64; }\nhttp {\naccess_log $dir/access.log;\n$paths$config}\n");
$pid = fork // die $!;
if ($pid == 0)
{
	open STDOUT, '>', "$dir/out.log";
	open STDERR, '>&', \*STDOUT;
	exec $nginx, '-p', $dir, '-c', "$dir/nginx.conf" or exit 1;
}

END
{
	if (defined $pid && $pid > 0)
	{
		local $?;
		kill 'QUIT', $pid;
		waitpid $pid, 0;
	}
}

wait_until(sub { return (call('GET', '/api/ping'))[0] == 200; }, 'nginx has the port') or diag(slurp("$dir/out.log"));

# ---- tokens through it

value('CREATE ROLE app; SELECT dtm_grant(\'app\')');
my $token = value("SELECT dtm_http_token_create('app', 'app')");
my $service = start_service();

sub saga
{
	my ($gid, $more) = @_;
	return encode_json({ gid => $gid, trans_type => 'saga', wait_result => JSON::PP::true, steps => [ { action => $service->url('/do') } ],
		payloads => [ encode_json({ data => 'x' x ($more // 1) }) ] });
}

my ($status, $body) = call('POST', '/api/dtmsvr/submit', saga('through'), "Authorization: Bearer $token");
is($status, 200, 'submitted over TLS');
like($body, qr/"dtm_result":\s*"SUCCESS"/, 'and waited for');
is(value("SELECT submitted_by || ' ' || status FROM dtm.transactions WHERE gid = 'through'"), 'app succeed', 'it is the role\'s');
is(join(' ', $service->ops), 'action 01 /do', 'and was done');
is((call('POST', '/api/dtmsvr/submit', saga('large', 900_000), "Authorization: Bearer $token"))[0], 200, 'also a large one');
($status, undef, my $head) = call('POST', '/api/dtmsvr/submit', saga('without'));
is($status, 401, 'without a token it is refused');
like($head, qr/^WWW-Authenticate: Bearer\r?$/mi, 'and told why');
is((call('POST', '/api/dtmsvr/submit', saga('without'), 'Authorization: Bearer dtm_' . 'a' x 64))[0], 401, 'so it is with a wrong one');
is((call('GET', '/else'))[0], 404, 'nothing else is served');

# by mistake: the proxy is on this machine, its clients are not
value("ALTER SYSTEM SET dtm.http_anonymous = 'loopback'");
value('SELECT pg_reload_conf()');
wait_until(sub { return `curl -s -o /dev/null -w '%{http_code}' --noproxy '*' http://127.0.0.1:$port/api/dtmsvr/newGid` eq '200'; }, 'who is on this machine needs none now');
is((call('POST', '/api/dtmsvr/submit', saga('without')))[0], 401, 'through the proxy it takes a token all the same');
is(value("SELECT count(*) FROM dtm.transactions WHERE gid = 'without'"), 0, 'nothing was stored');

# the server comes back under the proxy
immediate_stop_start($node);
wait_until(sub { return (call('GET', '/api/ping'))[0] == 200; }, 'after a crash of the server it goes on');
is((call('POST', '/api/dtmsvr/submit', saga('after'), "Authorization: Bearer $token"))[0], 200, 'with the same token');

$node->stop;
done_testing();
