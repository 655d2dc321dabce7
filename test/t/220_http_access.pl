# -------------------------------------------------------------------------
#
# 220_http_access.pl
#		Who may use the HTTP API: requests without a token, tokens, roles and
#		their privileges, requests of web pages.
#
# Not here: making tokens (test/sql/http_token.sql), a proxy with TLS
# (221_http_tls_proxy.pl).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP;
use Test::More;

my $free = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', ReuseAddr => 1);
my $port = $free->sockport;
close $free;

my $node = new_node(conf => "dtm.http_listen = '*:$port'\ndtm.retry_interval = '1h'\ndtm.retry_max_interval = '1h'");
my $http = HTTP::Tiny->new(timeout => 30);

sub value { return $node->safe_psql('postgres', $_[0]); }

# A request; headers as pairs.  Returns status and body.
sub call
{
	my ($method, $path, $body, @headers) = @_;
	my $answer = $http->request($method, "http://127.0.0.1:$port$path", {
		headers => {@headers}, defined $body ? (content => ref $body ? encode_json($body) : $body) : () });

	return ($answer->{status}, $answer->{content}, $answer->{headers});
}

sub bearer { return (Authorization => "Bearer $_[0]"); }

sub post { my ($route, $body, @headers) = @_; return call('POST', "/api/dtmsvr/$route", $body, @headers); }

# Over a raw socket, for headers that a client does not let through.  The status.
sub raw
{
	my ($method, $path, $body, @lines) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 30) or die "no connection: $!";
	my ($answer, $length) = ('', length $body);

	print $socket join("\r\n", "$method $path HTTP/1.1", 'Connection: close', "Content-Length: $length", @lines, '', $body);
	while (my $n = sysread($socket, my $piece, 65536)) { $answer .= $piece; }
	return $answer =~ m{^HTTP/1\.1 (\d+)} ? $1 : "no status: $answer";
}

my $serial = 0;

sub saga
{
	my ($gid, $action) = @_;

	return { gid => $gid, trans_type => 'saga', payloads => ['{}'],
		steps => [ { action => $action // 'http://127.0.0.1:9/', compensate => '' } ] };
}

# Submit a saga and say what came of it: "200 app_a" (whose it is), "401 -" (nothing is stored).
sub submit
{
	my ($action, @headers) = @_;
	my $gid = 'g' . ++$serial;
	my ($status) = post('submit', saga($gid, $action), @headers);

	return "$status " . stored($gid);
}

sub stored { return value("SELECT coalesce((SELECT submitted_by::text FROM dtm.transactions WHERE gid = '$_[0]'), '-')"); }

sub token { my ($role, $name, $more) = @_; return value("SELECT dtm_http_token_create('$role', '$name'" . ($more // '') . ')'); }

# Change settings, and wait until the port goes by them: the answer to a request without a token.
sub set
{
	my ($expected, %settings) = @_;

	value("ALTER SYSTEM SET $_ = '$settings{$_}'") for keys %settings;
	value('SELECT pg_reload_conf()');
	wait_until(sub { return (call('GET', '/api/dtmsvr/newGid'))[0] == $expected; },
		join(', ', map { "$_ = '$settings{$_}'" } sort keys %settings) . ": without a token $expected");
	return;
}

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE app_a;
CREATE ROLE app_b;
CREATE ROLE app_none;
CREATE ROLE app_gone;
SELECT dtm_grant(r) FROM unnest('{app_a, app_b}'::regrole[]) AS r;
CREATE TABLE ran (who text);
GRANT INSERT ON ran TO app_a, app_b;
CREATE FUNCTION note(data jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran VALUES (current_user) $$;
REVOKE EXECUTE ON FUNCTION note(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION note(jsonb) TO app_a;
SQL
my ($a, $b, $none) = (token('app_a', 'a'), token('app_b', 'b'), token('app_none', 'none'));

# ---- without a token, from this machine: the default

wait_until(sub { return (call('GET', '/api/ping'))[0] == 200; }, 'the port is open');
my $owner = value("SELECT extowner::regrole FROM pg_extension WHERE extname = 'dtm_pg'");
is(submit(), "200 $owner", 'is the owner\'s');
is(submit('sql:public.note'), '403 -', 'who may not call functions of the database');
is(submit('pg://server/public.note'), '403 -', 'nor of others');
is(value('SELECT count(*) FROM ran'), 0, 'none was called');
is((call('GET', '/api/dtmsvr/subscribe?topic=t&url=sql:public.note'))[0], 403, 'nor subscribe them');
is(value('SELECT count(*) FROM dtm.topic_version'), 0, 'no topic is there');

# by no other way
my %msg = (trans_type => 'msg', payloads => ['{}'], steps => [ { action => 'http://127.0.0.1:9/' } ], query_prepared => 'http://127.0.0.1:9/q');
is((post('prepare', { gid => 'asks-sql', %msg, query_prepared => 'sql:public.note' }))[0], 403, 'nor let them be asked');
is(stored('asks-sql'), '-', 'nothing is stored');
for my $resume ('sql:public.note', 'public.note', 'pg://server/public.note')
{
	for my $route (qw(prepareWorkflow prepare submit))
	{
		isnt((post($route, { gid => 'resumed', trans_type => 'workflow', query_prepared => $resume, custom_data => '{"name":"w","data":null}' }))[0], 200,
			"$route: nor resume a workflow by $resume");
	}
}
is(stored('resumed'), '-', 'nothing is stored');
value("SELECT dtm_topic_subscribe('led', 'sql:public.note')");
is((post('submit', { gid => 'led', %msg, steps => [ { action => 'topic://led' } ], query_prepared => '' }))[0], 403, 'nor be led to one by a topic');
is(stored('led'), '-', 'nothing is stored');
value("SELECT dtm_topic_drop('led')");
is((post('prepare', { gid => 'tcc', trans_type => 'tcc' }))[0], 200, 'prepared');
my %branch = (gid => 'tcc', trans_type => 'tcc', branch_id => '01', confirm => 'http://127.0.0.1:9/', cancel => 'http://127.0.0.1:9/');
is((post('registerBranch', { %branch, $_ => 'sql:public.note' }))[0], 403, "nor have one as $_") for qw(confirm cancel);
is(value("SELECT count(*) FROM dtm.branches WHERE gid = 'tcc'"), 0, 'no branch is there');
is((post('abort', { gid => 'tcc', trans_type => 'tcc' }))[0], 200, 'aborted');

# this machine by the address that others use
SKIP:
{
	my $way_out = IO::Socket::INET->new(Proto => 'udp', PeerAddr => '192.0.2.1', PeerPort => 9);
	my $address = $way_out ? $way_out->sockhost : '127.0.0.1';
	skip 'this machine has no other address', 3 if $address =~ /^127\./;
	my %request = (content => encode_json(saga('from-outside')));
	is($http->post("http://$address:$port/api/dtmsvr/submit", \%request)->{status}, 401, 'from elsewhere it takes a token');
	is(stored('from-outside'), '-', 'nothing is stored');
	is($http->post("http://$address:$port/api/dtmsvr/submit", { %request, headers => { bearer($a) } })->{status}, 200, 'this is one');
}

# ---- what browsers send on behalf of anybody's page

is(submit(undef, Origin => 'http://evil.example'), '403 -', 'a page of another origin is refused');
is(submit(undef, Origin => 'null'), '403 -', 'or of none');
is((call('GET', '/api/dtmsvr/subscribe?topic=t&url=http://evil.example/', undef, 'Sec-Fetch-Site' => 'cross-site'))[0], 403,
	'an image of such a page, too');
is((call('GET', '/api/dtmsvr/newGid', undef, 'Sec-Fetch-Site' => 'none'))[0], 200, 'a person who has typed the address is not');
is(value('SELECT count(*) FROM dtm.topic_version'), 0, 'no topic is there');
my $body = encode_json(saga('rebound'));
is(raw('POST', '/api/dtmsvr/submit', $body, "Host: evil.example:$port"), 403, 'a name of the attacker\'s that leads here is refused');
is(raw('POST', '/api/dtmsvr/submit', $body, "Host: 127.0.0.1.evil.example:$port"), 403, 'whatever it looks like');
is(raw('POST', '/api/dtmsvr/submit', $body, 'Host: 127.0.0.1', 'X-Forwarded-For: 10.1.2.3'), 401, 'through a proxy it does not come from here');
is(raw('POST', '/api/dtmsvr/submit', $body, 'Host: 127.0.0.1', 'Via: 1.1 proxy'), 401, 'neither by this header');
is(stored('rebound'), '-', 'nothing is stored');
is(raw('GET', '/api/dtmsvr/newGid', '', "Host: $_"), 200, "Host: $_") for "localhost:$port", "127.0.0.1:$port", "[::1]:$port", 'dtm';
is(raw('GET', '/api/dtmsvr/newGid', '', 'Host: evil.example', "Authorization: Bearer $a", 'Origin: http://evil.example', 'X-Forwarded-For: 10.1.2.3'), 200,
	'a token is as good from anywhere');

# ---- what is no token

my $unknown = 'dtm_' . '0' x 64;
for my $header ('Basic YTpi', 'Bearer', 'Bearer ', 'Bearer nonsense', "Bearer $unknown", "bearer$a", "Basic $a", $a, "Bearer $a x", "Bearer \U$a",
	"Bearer $a" . '0', 'Bearer ' . 'x' x 5000, '')
{
	is(raw('POST', '/api/dtmsvr/submit', $body, 'Host: 127.0.0.1', "Authorization: $header"), 401,
		'no token: "' . (length $header > 80 ? substr($header, 0, 20) . '..."' : $header =~ s/\Q$a\E/TOKEN/ir . '"'));
}
is(stored('rebound'), '-', 'nothing is stored');
my (undef, $content, $headers) = post('submit', saga('x'), bearer($unknown));
is($headers->{'www-authenticate'}, 'Bearer', 'it is said what is missing');
unlike($content, qr/FAILURE|SUCCESS|dtm_[0-9a-f]/, 'and neither a result nor the token');
is((raw('GET', '/api/dtmsvr/newGid', '', 'Host: 127.0.0.1', "Authorization: bearer  $a ")), 200, 'blanks and case do not matter');

# ---- tokens are roles

is(submit(undef, bearer($a)), '200 app_a', 'with a token it is the role\'s');
is(submit('sql:public.note', bearer($a)), '200 app_a', 'who may call what he may call');
wait_for($node, 'SELECT string_agg(who, \',\') FROM ran', 'app_a', name => 'as himself');
is(submit('sql:public.note', bearer($b)), '403 -', 'another one may not');
is(submit(undef, bearer($none)), '403 -', 'who has no rights in SQL has none here');
is((call('GET', '/api/dtmsvr/newGid', undef, bearer($none)))[0], 403, 'for anything');
is((call('GET', '/api/dtmsvr/all', undef, bearer($none)))[0], 403, 'not for looking, either');
is((call('GET', $_, undef, bearer($none)))[0], 200, "but for $_") for '/api/ping', '/api/dtmsvr/version';
is((call('GET', '/api/dtmsvr/subscribe?topic=t&url=http://127.0.0.1:9/', undef, bearer($a)))[0], 403, 'dtm_grant does not give topics');

is((split ' ', submit('sql:note', bearer($a)))[0], 500, 'a name without its schema is looked up nowhere');

# one role's transactions are not for others
is((post('prepare', { gid => 'of-a', %msg }, bearer($a)))[0], 200, 'prepared');
is((post('prepare', { gid => 'tcc-of-a', trans_type => 'tcc' }, bearer($a)))[0], 200, 'prepared');
for my $route (qw(abort submit forceStop resetNextCronTime prepare))
{
	is((post($route, { gid => 'of-a', %msg }, bearer($b)))[0], 403, "$route by another is refused");
	is((post($route, { gid => 'of-a', %msg }))[0], 403, '... and without a token');
}
is((post('registerBranch', { gid => 'tcc-of-a', trans_type => 'tcc', branch_id => '01', confirm => 'http://127.0.0.1:9/', cancel => 'http://127.0.0.1:9/' }, bearer($b)))[0],
	403, 'so is a branch');
is((post('registerBranch', { %branch, gid => 'tcc-of-a' }))[0], 403, '... and without a token');
is(value("SELECT string_agg(status, ',') FROM dtm.transactions WHERE gid IN ('of-a', 'tcc-of-a')"), 'prepared,prepared', 'nothing has changed');
is(value("SELECT count(*) FROM dtm.branches WHERE gid = 'tcc-of-a'"), 0, 'no branch was added');
is((post('abort', { gid => 'of-a', %msg }, bearer($a)))[0], 200, 'its own role may');
value("SELECT dtm_saga_submit('[{\"action\": \"http://127.0.0.1:9/\"}]', 'later-of-a', start_after => '1 day')");
value("UPDATE dtm.trans SET owner = 'app_a' WHERE gid = 'later-of-a'");
my $due = "SELECT next_run_at > now() + interval '1 hour' FROM dtm.transactions WHERE gid = 'later-of-a'";
like((call('GET', '/api/dtmsvr/resetCronTime?timeout=7200', undef, bearer($b)))[1], qr/"succeed_count":\s*0/, 'another does not hurry it');
is(value($due), 't', 'it waits');
like((call('GET', '/api/dtmsvr/resetCronTime?timeout=7200', undef, bearer($a)))[1], qr/"succeed_count":\s*1/, 'its own role does');
value('GRANT app_a TO app_b');
is((post('abort', { gid => 'tcc-of-a', trans_type => 'tcc' }, bearer($b)))[0], 200, 'so may one that has its privileges');
value('REVOKE app_a FROM app_b');

# ---- nothing is remembered that is over

value('REVOKE EXECUTE ON FUNCTION dtm_saga_submit FROM app_a');
is(submit(undef, bearer($a)), '403 -', 'a right that was revoked is gone');
my ($status, $why) = post('submit', saga('x'), bearer($a));
like($why, qr/"role \\"app_a\\" needs EXECUTE on dtm_saga_submit"/, 'and named');
is((post('prepare', { gid => 'still', %msg }, bearer($a)))[0], 200, 'others are not');
value('GRANT EXECUTE ON FUNCTION dtm_saga_submit TO app_a');
is(submit(undef, bearer($a)), '200 app_a', 'until it is granted again');
value('CREATE SCHEMA elsewhere; CREATE FUNCTION elsewhere.dtm_saga_submit(int) RETURNS int LANGUAGE sql AS \'SELECT 1\'');
value('GRANT USAGE ON SCHEMA elsewhere TO app_none; ALTER ROLE app_none SET search_path = elsewhere');
is(submit(undef, bearer($none)), '403 -', 'a function of that name elsewhere does not count');

value('SELECT dtm_http_token_drop(\'a\')');
is(submit(undef, bearer($a)), '401 -', 'a token that was dropped is none, over the same connection');
my $again = token('app_a', 'a');
is(submit(undef, bearer($again)), '200 app_a', 'the new one is');
is(submit(undef, bearer($a)), '401 -', 'the old one is not');
my $short = token('app_a', 'short', ", '1 hour'");
is(submit(undef, bearer($short)), '200 app_a', 'one that expires later');
value("UPDATE dtm.http_token SET expires_at = clock_timestamp() WHERE name = 'short'");
is(submit(undef, bearer($short)), '401 -', 'has expired');
value('SELECT dtm_grant(\'app_gone\')');
my $gone = token('app_gone', 'gone');
is(submit(undef, bearer($gone)), '200 app_gone', 'a role');
value('DROP OWNED BY app_gone; DROP ROLE app_gone');
is((post('submit', saga('after-gone'), bearer($gone)))[0], 401, 'is gone');
is(stored('after-gone'), '-', 'nothing is stored');

# ---- who may come without

set(401, 'dtm.http_anonymous' => 'off');
is(submit(), '401 -', 'nothing is stored');
is(submit(undef, bearer($again)), '200 app_a', 'with a token');
is((call('GET', $_))[0], 200, "$_ is open") for '/api/ping', '/api/dtmsvr/version';
is((call('GET', '/api/metrics'))[0], 401, 'metrics are not');

set(200, 'dtm.http_anonymous' => 'on');
is(raw('GET', '/api/dtmsvr/newGid', '', 'Host: db.example', 'X-Forwarded-For: 10.1.2.3'), 200, 'on: from anywhere, by any name');
is(submit(undef, Origin => 'http://evil.example'), '403 -', 'but not for web pages');
is(submit('sql:public.note'), '403 -', 'nor functions of the owner');

set(403, 'dtm.http_role' => 'app_none');
is(submit(), '403 -', 'a role without rights');
set(200, 'dtm.http_role' => 'app_a');
value('TRUNCATE ran');
is(submit('sql:public.note'), '200 app_a', 'a role with rights');
wait_for($node, 'SELECT string_agg(who, \',\') FROM ran', 'app_a', name => 'also for functions');
is(submit(undef, bearer($b)), '200 app_b', 'a token comes first');
is(submit(undef, bearer($unknown)), '401 -', 'also when it is none');

my $offset = -s $node->logfile;
set(503, 'dtm.http_role' => 'nobody');
is(submit(), '503 -', 'a role that does not exist');
is(submit(undef, bearer($b)), '200 app_b', 'is no matter with a token');
wait_log($node, qr/role "nobody" does not exist/, $offset, 'it is in the log');

# ---- a dump takes tokens along

my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-f', $dump, '-d', $node->connstr('restored') ], 'restored');
is($node->safe_psql('restored', "SELECT role FROM dtm.http_token WHERE hash = sha256('$again'::bytea)"), 'app_a', 'with its tokens');
open my $file, '<', $dump or die $!;
my $dumped = do { local $/; <$file> };
unlike($dumped, qr/\Q$again\E/, 'not as they are');

$node->stop;
done_testing();
