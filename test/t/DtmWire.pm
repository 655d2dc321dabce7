# -------------------------------------------------------------------------
#
# DtmWire.pm
#		A client of DTM's HTTP API that knows no SDK: requests as they go over
#		the wire, and what their answers have to look like.
#
#	use DtmWire;
#	my ($node, $wire) = wire_node(conf => "dtm.retry_interval = '200ms'");
#	my $gid = $wire->gid;
#	is_success($wire->post(submit => { gid => $gid, trans_type => 'saga', ... }), 'submit');
#	$wire->wait_status($gid, 'succeed');
#	is_deeply([ $wire->branches($gid) ], [ '01 compensate prepared', '01 action succeed' ], 'branches');
#
# An answer is HTTP::Tiny's: a hash with status, headers and content.  It is
# looked at through the route "query" as a client would, not through SQL.
#
# -------------------------------------------------------------------------
package DtmWire;

use strict;
use warnings;
use DtmTest qw(new_node wait_until);
use Encode;
use Exporter 'import';
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(wire_node free_port is_answer is_success is_failure is_ongoing is_error decoded step
  steps saga_rows);

# Numbers stay numbers and texts stay texts in its output, so that two values can be compared as text.
my $json = JSON::PP->new->canonical->allow_nonref;

sub free_port
{
	my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 0)
	  or die "no free port: $!";

	return $socket->sockport;
}

# A cluster whose database postgres answers on a free port, and a client of
# that port.  Options: those of new_node, and port.
sub wire_node
{
	my %opts = @_;
	my $port = delete $opts{port} // free_port();
	my $conf = delete $opts{conf} // '';
	my $node = new_node(%opts, conf => "dtm.http_listen = '127.0.0.1:$port'\n$conf");
	my $wire = DtmWire->new($port);

	$wire->wait_port;
	return ($node, $wire);
}

sub new
{
	my ($class, $port) = @_;

	return bless {
		port => $port,
		http => HTTP::Tiny->new(timeout => 60, max_redirect => 0, agent => '')
	}, $class;
}

sub port { return $_[0]->{port}; }

sub url { return "http://127.0.0.1:$_[0]->{port}" . ($_[1] // ''); }

sub answers
{
	my ($self) = @_;
	my $answer = HTTP::Tiny->new(timeout => 2, keep_alive => 0)->get($self->url('/api/ping'));

	return $answer->{status} == 200;
}

# Until it answers; a test.
sub wait_port
{
	my ($self, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until(sub { $self->answers }, $name // 'the port answers');
}

# Any request; the path with its query string.
sub request
{
	my ($self, $method, $path, $content, $headers) = @_;

	return $self->{http}->request($method, $self->url($path),
		{ headers => $headers // {}, defined $content ? (content => $content) : () });
}

# A body as text: a string as it is, anything else as JSON.
sub body
{
	my ($value) = @_;

	return ref $value ? encode_json($value) : $value;
}

# POST to a route; the body a string (as it is) or anything else (as JSON).
sub post
{
	my ($self, $route, $body, %headers) = @_;

	return $self->request('POST', "/api/dtmsvr/$route", body($body),
		{ 'Content-Type' => 'application/json', %headers });
}

# GET of a route with parameters.
sub get
{
	my ($self, $route, @parameters) = @_;
	my $query = join '&', map { (my $x = $_) =~ s/([^A-Za-z0-9_.~=-])/sprintf '%%%02X', ord $1/ge; $x }
	  map { "$parameters[ 2 * $_ ]=$parameters[ 2 * $_ + 1 ]" } 0 .. $#parameters / 2;

	return $self->request('GET', "/api/dtmsvr/$route" . ($query ne '' ? "?$query" : ''));
}

sub rpc
{
	my ($self, $method, $params) = @_;

	return $self->request('POST', '/api/json-rpc',
		body({ jsonrpc => '2.0', id => 'no-use', method => $method, params => $params // {} }),
		{ 'Content-Type' => 'application/json' });
}

# Send a request and do not wait: finish() gives the answer.
sub start
{
	my ($self, $route, $body) = @_;
	my $content = body($body);

	return $self->raw("POST /api/dtmsvr/$route HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
		  . 'Content-Length: ' . length($content) . "\r\n\r\n$content");
}

# These characters on a connection of its own.
sub raw
{
	my ($self, $characters) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}, Timeout => 10)
	  or die "no connection: $!";

	print $socket $characters;
	$socket->flush;
	return $socket;
}

# The answer, as HTTP::Tiny gives it; status 599 when there is none.
sub finish
{
	my ($self, $socket) = @_;
	my $all = '';

	eval {
		local $SIG{ALRM} = sub { die "time\n" };
		alarm $DtmTest::timeout;
		while (sysread $socket, my $piece, 65536) { $all .= $piece; }
		alarm 0;
	};
	alarm 0;
	my ($head, $content) = split /\r\n\r\n/, $all, 2;
	my ($status) = ($head // '') =~ m{^HTTP/1\.[01] (\d+)};
	my %headers = map { /^([^:]+):\s*(.*)$/ ? (lc $1 => $2) : () } split /\r\n/, $head // '';
	return { status => $status // 599, headers => \%headers, content => $content // $all };
}

sub decoded
{
	my ($answer) = @_;

	return eval { $json->decode(Encode::decode('UTF-8', $answer->{content})) };
}

my $counter = 0;

# A new gid; made here, but for one that newGid gives when it is asked for none.
sub gid
{
	my ($self, $name) = @_;

	return defined $name ? sprintf('%s-%d', $name, ++$counter) : decoded($self->get('newGid'))->{gid};
}

# ------------------------------------------------------- what query shows

sub query
{
	my ($self, $gid) = @_;
	my $answer = $self->get('query', gid => $gid);

	die "query of $gid: $answer->{status} $answer->{content}" unless $answer->{status} == 200;
	return decoded($answer);
}

# The transaction as a hash; undef: there is none.
sub trans { return $_[0]->query($_[1])->{transaction}; }

sub status
{
	my ($self, $gid) = @_;
	my $trans = $self->trans($gid);

	return $trans ? $trans->{status} : 'none';
}

# "01 action succeed", in the order of the answer.
sub branches
{
	my ($self, $gid) = @_;

	return map { "$_->{branch_id} $_->{op} $_->{status}" } @{ $self->query($gid)->{branches} };
}

# Poll until it has the status; a test.
sub wait_status
{
	my ($self, $gid, $status, $name) = @_;
	my $last = '';

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $found =
	  wait_until(sub { $last = eval { $self->status($gid) } // $@; return $last eq $status; },
		$name // "$gid: $status");
	if (!$found)
	{
		diag("last: $last");
		diag(eval { $self->get('query', gid => $gid)->{content} } // $@);
	}
	return $found;
}

# ------------------------------------------------------------ assertions

sub shown
{
	my ($answer) = @_;

	return diag("answer: $answer->{status} " . substr($answer->{content} // '', 0, 1000));
}

# Status and body, the latter as JSON of equal value.
sub is_answer
{
	my ($answer, $status, $body, $name) = @_;
	my $value = decoded($answer);
	my $ok = $answer->{status} == $status && defined $value
	  && $json->encode($value) eq $json->encode($json->decode($body));

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($ok, $name) or shown($answer);
	return $ok;
}

sub is_success
{
	my ($answer, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_answer($answer, 200, '{"dtm_result":"SUCCESS"}', $name);
}

# An object of exactly these members whose message fits.
sub is_refusal
{
	my ($answer, $status, $result, $message, $name) = @_;
	my $value = decoded($answer);
	my $ok = $answer->{status} == $status && ref $value eq 'HASH'
	  && join(' ', sort keys %$value) eq (defined $result ? 'dtm_result message' : 'message')
	  && (!defined $result || $value->{dtm_result} eq $result)
	  && (ref $message ? $value->{message} =~ $message : $value->{message} eq $message);

	$ok &&= $value->{message} =~ / FAILURE\z/ if ($result // '') eq 'FAILURE';
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($ok, $name) or do { shown($answer); diag("expected: $status $message"); };
	return $ok;
}

sub is_failure
{
	my ($answer, $message, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_refusal($answer, 409, 'FAILURE', $message, $name);
}

sub is_ongoing
{
	my ($answer, $message, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_refusal($answer, 425, 'ONGOING', $message, $name);
}

# Any other error: no dtm_result.  Not a word that means FAILURE or ONGOING to a client.
sub is_error
{
	my ($answer, $message, $name, $status) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_refusal($answer, $status // 500, undef, $message, $name);
}

# ------------------------------------------------------------- test data

# A step of a saga whose two URLs are <service>/<name> and <service>/<name>-undo.
sub step
{
	my ($service, $name) = @_;

	return { action => $service->url("/$name"), compensate => $service->url("/$name-undo") };
}

# "steps" and "payloads" of a saga with these steps, for the body of a request.
sub steps
{
	my ($service, @names) = @_;

	return (steps => [ map { step($service, $_) } @names ], payloads => [ map { qq({"for":"$_"}) } @names ]);
}

# What query shows of a saga: the statuses of compensate 1, action 1, compensate 2, ...
sub saga_rows
{
	my @statuses = @_;

	return map { sprintf '%02d %s %s', $_ / 2 + 1, $_ % 2 ? 'action' : 'compensate', $statuses[$_] } 0 .. $#statuses;
}

1;
