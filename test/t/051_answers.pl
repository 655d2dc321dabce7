# -------------------------------------------------------------------------
#
# 051_answers.pl
#		What each kind of answer means for a branch, and what people read
#		about it in last_error.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node(conf => "dtm.retry_interval = '50ms'");
my $service = start_service();

sub value { return $node->safe_psql($_[1] // 'postgres', $_[0]); }

# ---- answers: name, answer, outcome of the call, last_error (undef: none)

my $default = '{"dtm_result": "SUCCESS"}';
my $long = 'x' x 3000;
my @answers = (
	[ 'plain', {}, 'ok', undef ],
	[ 'empty', { body => '' }, 'ok', undef ],
	[ 'no json', { body => '<html>fine</html>' }, 'ok', undef ],
	[ 'lower', { body => 'failure ongoing Failure' }, 'ok', undef ],
	[ 'at the limit', { size => 65536 }, 'ok', undef ],
	[ 'chunked', { size => 5000, chunked => 1 }, 'ok', undef ],
	[ 'continue', { raw => "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" }, 'ok', undef ],
	[ 'closing', { body => 'fine', keep_alive => 0 }, 'ok', undef ],

	[ 'conflict', { status => 409, body => 'no stock' }, 'failure', '409: no stock' ],
	[ 'conflict empty', { status => 409, body => '' }, 'failure', '409' ],
	[ 'conflict json', { status => 409, body => '{"dtm_result": "FAILURE", "message": "sold out"}' }, 'failure',
		'409: {"dtm_result": "FAILURE", "message": "sold out"}' ],
	[ 'conflict huge', { status => 409, size => 100_000 }, 'failure', qr/^409: answer is longer than 65536 bytes$/ ],
	[ 'failure', { body => { dtm_result => 'FAILURE' } }, 'failure', '200: {"dtm_result": "FAILURE"}' ],
	[ 'failure inside', { body => 'xFAILUREx' }, 'failure', '200: xFAILUREx' ],
	[ 'failure 500', { status => 500, body => 'Internal FAILURE' }, 'failure', '500: Internal FAILURE' ],
	[ 'failure 404', { status => 404, body => 'FAILURE' }, 'failure', '404: FAILURE' ],
	[ 'failure at the end', { body => ('x' x 60_000) . 'FAILURE' }, 'failure', qr/^200: x{100,}/ ],
	[ 'failure until close', { raw => "HTTP/1.1 200 OK\r\n\r\nFAILURE" }, 'failure', '200: FAILURE' ],

	[ 'early', { status => 425, body => 'wait' }, 'ongoing', '425: wait' ],
	[ 'early empty', { status => 425, body => '' }, 'ongoing', '425' ],
	[ 'ongoing', { body => { dtm_result => 'ONGOING' } }, 'ongoing', '200: {"dtm_result": "ONGOING"}' ],
	[ 'ongoing 500', { status => 500, body => 'ONGOING' }, 'ongoing', '500: ONGOING' ],
	[ 'ongoing and failure', { body => 'FAILURE ONGOING' }, 'ongoing', '200: FAILURE ONGOING' ],
	[ 'conflict and ongoing', { status => 409, body => 'ONGOING' }, 'ongoing', '409: ONGOING' ],
	[ 'early and failure', { status => 425, body => 'FAILURE' }, 'ongoing', '425: FAILURE' ],

	[ 'created', { status => 201 }, 'error', "201: $default" ],
	[ 'accepted', { status => 202 }, 'error', "202: $default" ],
	[ 'no content', { status => 204, body => '' }, 'error', '204' ],
	[ 'moved', { status => 301, body => '', location => '/redirected' }, 'error', '301' ],
	[ 'found', { status => 302, body => '', location => '/redirected' }, 'error', '302' ],
	[ 'temporary', { status => 307, body => 'there', location => $service->url('/redirected') }, 'error', '307: there' ],
	[ 'bad request', { status => 400, body => 'what?' }, 'error', '400: what?' ],
	[ 'not found', { status => 404, body => "no\r\n\tsuch   page\n" }, 'error', '404: no such page' ],
	[ 'server error', { status => 500, body => 'busy' }, 'error', '500: busy' ],
	[ 'utf-8', { status => 500, body => "Lager f\x{fc}r \x{2603} leer" }, 'error', "500: Lager f\x{fc}r \x{2603} leer" ],
	[ 'latin-1', { raw => "HTTP/1.1 500 X\r\nContent-Length: 7\r\n\r\ncaf\xe9 \xff!" }, 'error', '500: caf? ?!' ],
	[ 'control', { raw => "HTTP/1.1 500 X\r\nContent-Length: 8\r\n\r\na\x00b\x01c\x1b[m" }, 'error', '500: a?b?c?[m' ],
	[ 'long', { status => 500, body => $long }, 'error', qr/^500: x{200,1100}$/ ],
	[ 'huge', { size => 65537 }, 'error', '200: answer is longer than 65536 bytes' ],
	[ 'huge chunked', { size => 300_000, chunked => 1 }, 'error', '200: answer is longer than 65536 bytes' ]);

# These say that the host is down, so they come one by one: several in a row would open its circuit.
my @broken = (
	[ 'garbage', { raw => "hello\r\n\r\n" }, 'error', qr/^answer is not HTTP: / ],
	[ 'bad status', { raw => "HTTP/1.1 abc OK\r\n\r\n" }, 'error', qr/\S/ ],
	[ 'truncated', { body => 'FAILURE and more', truncate => 9 }, 'error', 'connection lost in the middle of the answer' ],
	[ 'truncated chunks', { body => 'some text', chunked => 1, truncate => 4 }, 'error',
		'connection lost in the middle of the answer' ],
	[ 'headers', { raw => "HTTP/1.1 200 OK\r\n" . ("X-Long: $long\r\n" x 100) . "\r\n" }, 'error',
		qr/^headers of the answer are longer than \d+ bytes$/ ],
	[ 'unavailable', { status => 503, body => 'later' }, 'error', '503: later' ],
	[ 'hang', { hang => 1 }, 'error', 'timed out after 300 ms (request_timeout)' ],
	[ 'drip', { body => 'x' x 100, drip => 0.1 }, 'error', 'timed out after 300 ms (request_timeout)' ]);

sub submit
{
	my ($case) = @_;
	my $path = '/' . $case->[0] =~ s/ /-/gr;

	$service->script($path, { answers => [ $case->[1] ] });
	return submit_saga($node, [ { action => $service->url($path), payload => {} } ], gid => $case->[0],
		options => "request_timeout => '" . ($case->[0] =~ /hang|drip/ ? 0.3 : 10) . " s'");
}

sub check
{
	my ($name, undef, $outcome, $expected) = @{ $_[0] };

	wait_status($node, $name, $outcome eq 'failure' ? 'failed' : 'succeed');
	is(value("SELECT split_part(outcome, ':', 1) FROM dtm_timeline('$name') LIMIT 1"), $outcome, "$name: $outcome");
	my ($error, $attempts) = split /\|/,
	  value("SELECT coalesce(last_error, '-'), attempts FROM dtm.branches WHERE gid = '$name' AND op = 'action'");
	utf8::decode($error);
	is($attempts, $outcome =~ /ok|failure/ ? 1 : 2, "$name: number of calls");
	if (ref $expected)
	{
		like($error, $expected, "$name: last_error");
	}
	else
	{
		is($error, $expected // '-', "$name: last_error");
	}
	return;
}

submit($_) for @answers;
check($_) for @answers;
is(scalar($service->calls(path => '/redirected')), 0, 'redirects are not followed');
for my $case (@broken)
{
	submit($case);
	check($case);
}

# what a client of DTM looks for in the reason
my %reasons = (
	conflict => 'no stock FAILURE',
	'conflict empty' => '409 FAILURE',
	'failure inside' => 'xFAILUREx FAILURE',
	'failure 500' => 'Internal FAILURE',
	'failure 404' => 'FAILURE');
for my $gid (sort keys %reasons)
{
	is(value("SELECT rollback_reason FROM dtm.transactions WHERE gid = '$gid'"),
		'url:' . $service->url('/' . $gid =~ s/ /-/gr) . " return failed: $reasons{$gid}", "$gid: rollback_reason");
}

# ---- closed instead of an answer: on a new connection that is an error, on an old one, which the service
# may have closed before it saw the call, libcurl sends the call again by itself

my $fresh = start_service();
$fresh->script('/closed', { answers => [ { close => 1 } ] });
submit_saga($node, [ { action => $fresh->url('/closed') } ], gid => 'closed');
check([ 'closed', undef, 'error', 'connection lost before an answer came' ]);
$fresh->script('/reused', { answers => [ { close => 1 } ] });
submit_saga($node, [ { action => $fresh->url('/reused') } ], gid => 'reused');
wait_status($node, 'reused', 'succeed');
is(scalar($fresh->calls(path => '/reused')), 2, 'reused: called again');

# ---- nobody there

my $gone = start_service();
$gone->stop;
my %nowhere = (
	refused => [ $gone->url('/x'), qr/^could not connect to 127\.0\.0\.1:\d+: Connection refused$/ ],
	unknown => [ 'http://no-such-host.invalid/x',
		qr/^could not resolve host "no-such-host\.invalid"$|resolving host "no-such-host\.invalid" \(request_timeout\)$/ ]);
for my $gid (sort keys %nowhere)
{
	submit_saga($node, [ { action => $nowhere{$gid}[0] } ], gid => $gid, options => "retry_interval => '1 h'");
	wait_for($node, "SELECT attempts FROM dtm.branches WHERE gid = '$gid' AND op = 'action'", '1');
	like(value("SELECT last_error FROM dtm.branches WHERE gid = '$gid' AND op = 'action'"), $nowhere{$gid}[1],
		"$gid: last_error");
	is(value("SELECT dtm_status('$gid')"), 'submitted', "$gid: goes on");
}

# ---- a database that does not speak UTF-8

$node->safe_psql('postgres',
	"CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
install_extension($node, 'latin');
$service->script('/latin', { answers => [ { status => 500, body => "f\x{fc}r \x{2603}" },
	{ status => 409, body => "\x{fc} no" } ] });
$node->safe_psql('latin', "SELECT dtm_saga_submit(jsonb_build_array(dtm_step('" . $service->url('/latin')
	  . "', payload => jsonb_build_object('name', U&'Gr\\00fcn'), headers => '{\"X-Plain\": \"a\"}')), gid => U&'gr\\00fcn')");
wait_for($node, "SELECT status FROM dtm.transactions WHERE gid = U&'gr\\00fcn'", 'failed', dbname => 'latin');
my @calls = $service->calls(path => '/latin');
is($calls[0]{body}, qq({"name": "Gr\x{fc}n"}), 'LATIN1: the body is UTF-8');
is($calls[0]{query}{gid}, "gr\x{fc}n", 'LATIN1: the gid too');
like(value("SELECT last_error FROM dtm.branches WHERE op = 'action'", 'latin'), qr/^409: [^ ]{1,2} no$/,
	'LATIN1: the answer can be read');
like(value("SELECT rollback_reason FROM dtm.transactions", 'latin'), qr/^url:\S+ return failed: .* no FAILURE$/,
	'LATIN1: the reason too');
is(value("SELECT dtm_barrier('$calls[0]{query_string}')", 'latin'), 't', 'LATIN1: the barrier takes the query string');
is(value("SELECT count(*) FROM dtm.barrier WHERE gid = U&'gr\\00fcn'", 'latin'), 1, 'LATIN1: and reads the same gid');
$node->safe_psql('latin', 'CREATE TABLE got (p jsonb);'
	  . ' CREATE FUNCTION take(p jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO got VALUES (p) $$;'
	  . " SELECT dtm_saga_submit(jsonb_build_array(dtm_step('sql:take', payload => jsonb_build_object('name', U&'Gr\\00fcn'))))");
wait_for($node, "SELECT count(*) FROM got WHERE p->>'name' = U&'Gr\\00fcn'", '1', dbname => 'latin',
	name => 'LATIN1: a sql: branch gets its payload');

$node->stop;
done_testing();
