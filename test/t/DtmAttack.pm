# -------------------------------------------------------------------------
#
# DtmAttack.pm
#		Clients of the HTTP API that are slow, rude, too many, or no clients
#		of HTTP at all; and what must be true of the server afterwards.
#
#	use DtmAttack;
#	my $attack = DtmAttack->new(port => $port, max_connections => 50, max_body => 65536, read_ms => 1000);
#	$attack->garbage;
#	$attack->all;
#	$attack->is_flat(sub { $attack->all }, pids => [ $pid ], name => 'everything');
#
# Used on the port of a database (240_http_hardening.pl) and on the server
# that was built with AddressSanitizer (241_http_asan.pl).  Every method is a
# number of tests.  A polite client is served after each of the attacks.
#
# -------------------------------------------------------------------------
package DtmAttack;

use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use Socket qw(SOL_SOCKET SO_LINGER);
use Test::More;
use Time::HiRes qw(time usleep);

our $patience = $ENV{DTM_TEST_TIMEOUT} || 60;

# Options: port, and the limits of the server as it was set up; path and gid
# prefix of the submits (gid => 'a').
sub new
{
	my ($class, %opts) = @_;

	return bless { gid => 'attack', serial => 0, max_connections => 50, max_body => 65536,
		read_ms => 1000, %opts }, $class;
}

# ---------------------------------------------------------------- clients

sub dial
{
	my ($self) = @_;
	my $deadline = time() + $patience;

	while (1)
	{
		my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port},
			Proto => 'tcp', Timeout => $patience);

		if ($socket)
		{
			$socket->autoflush(1);
			return $socket;
		}
		die "cannot connect to port $self->{port}: $!" if time() > $deadline;
		usleep(20_000);
	}
}

# As much as the server takes; it may have closed.
sub say_bytes
{
	my ($socket, $bytes) = @_;

	local $SIG{PIPE} = 'IGNORE';
	return defined syswrite($socket, $bytes) if length $bytes < 60_000;
	my $offset = 0;
	$socket->blocking(0);
	my $writable = IO::Select->new($socket);
	my $deadline = time() + $patience;
	while ($offset < length $bytes && time() < $deadline)
	{
		next unless $writable->can_write(0.2);
		my $n = syswrite($socket, $bytes, length($bytes) - $offset, $offset);
		last unless defined $n || $!{EAGAIN};
		$offset += $n // 0;
	}
	$socket->blocking(1);
	return $offset == length $bytes;
}

# What comes until the condition holds of it, the end, or the time is over; (text, ended).
sub hear
{
	my ($socket, $enough, $seconds) = @_;
	my ($heard, $deadline) = ('', time() + ($seconds // $patience));
	my $readable = IO::Select->new($socket);

	while (!($enough && $enough->($heard)))
	{
		my $left = $deadline - time();
		return ($heard, 0) unless $readable->can_read($left > 0 ? $left : 0);
		my $n = sysread($socket, $heard, 65536, length $heard);
		return ($heard, 1) unless $n;
	}
	return ($heard, 0);
}

# A whole answer, by its Content-Length?
sub whole
{
	my $heard = $_[0] =~ s/^HTTP\/1\.1 100 .*?\r\n\r\n//sr;

	return $heard =~ /^HTTP\/1\.1 [^\n]*\r\n(.*?\r\n)\r\n(.*)$/s
	  && do { my ($headers, $body) = ($1, $2); $headers =~ /^Content-Length: (\d+)\r/mi && length $body >= $1 };
}

# Bytes to send, without regard for what they are; what is answered, until one answer is whole.
sub exchange
{
	my ($self, $bytes, %opts) = @_;
	my $socket = $self->dial;

	say_bytes($socket, $bytes);
	shutdown($socket, 1) if $opts{half};
	my ($heard, $ended) = hear($socket, $opts{enough} // \&whole, $opts{seconds});
	close $socket;
	return ($heard, $ended);
}

sub get { return "GET $_[0] HTTP/1.1\r\nHost: localhost\r\n\r\n"; }

sub post
{
	my ($path, $body, $headers) = @_;

	return "POST $path HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	  . ($headers // '') . 'Content-Length: ' . length($body) . "\r\n\r\n$body";
}

# A submit that does nothing: its step has no target.
sub saga
{
	my ($self, %more) = @_;

	return encode_json({ gid => "$self->{gid}-" . ++$self->{serial}, trans_type => 'saga',
			steps => [ { action => '', compensate => '' } ], payloads => ['{}'], %more });
}

sub submit { return post('/api/dtmsvr/submit', $_[0]->saga(@_[ 1 .. $#_ ])); }

# A polite client is served: within seconds, whatever the others do.
sub alive
{
	my ($self, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($ping) = $self->exchange(get('/api/ping'));
	my ($submit) = $self->exchange($self->submit);
	return like("$ping$submit", qr/^HTTP\/1\.1 200 .*HTTP\/1\.1 200 .*SUCCESS/s, "$name: others are served");
}

# ---------------------------------------------------------------- attacks

# Bytes, and what the answer must begin with; undef: whatever it is, also none.
sub rubbish
{
	my ($self) = @_;
	my $body = $self->saga;
	my $head = "POST /api/dtmsvr/submit HTTP/1.1\r\nHost: h\r\n";
	my $length = 'Content-Length: ' . length($body) . "\r\n";
	my $chunk = sprintf("%x\r\n%s\r\n0\r\n\r\n", length $body, $body);
	my $chunked = "Transfer-Encoding: chunked\r\n";
	my ($pieces, $expecting) = ($self->saga, $self->saga);

	srand 42;    # the same bytes each time
	return (
		(map { [ "random bytes $_", join('', map { chr int rand 256 } 1 .. 50 * $_) . "\r\n\r\n", undef ] } 1 .. 10),
		[ 'TLS', "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" . 'U' x 160, undef ],
		[ 'NUL', "\0" x 5000, undef ],
		[ 'blank lines', "\r\n" x 2000, undef ],
		[ 'no HTTP', "hello\r\n\r\n", undef ],
		[ 'HTTP/0.9', "GET /api/ping\r\n\r\n", 400 ],
		[ 'HTTP/2', "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505 ],
		[ 'HTTP/9.9', "GET /api/ping HTTP/9.9\r\n\r\n", 505 ],
		[ 'a long line', 'GET /api/ping?' . 'a' x 40_000 . " HTTP/1.1\r\n\r\n", 414 ],
		[ 'a long header', "GET /api/ping HTTP/1.1\r\nX: " . 'a' x 40_000 . "\r\n\r\n", 431 ],
		[ 'many headers', "GET /api/ping HTTP/1.1\r\n" . "X: a\r\n" x 10_000 . "\r\n", 431 ],
		[ 'a header without colon', "GET /api/ping HTTP/1.1\r\nHost: h\r\nxyz\r\n\r\n", 400 ],
		[ 'NUL in a header', "GET /api/ping HTTP/1.1\r\nHo\0st: h\r\n\r\n", 400 ],
		[ 'NUL in the path', "GET /api/dtmsvr/x\0/ping HTTP/1.1\r\nHost: h\r\n\r\n", 404 ],
		[ 'a line end of one character', "GET /api/ping HTTP/1.1\nHost: h\n\n", undef ],
		[ 'a long method', 'A' x 5000 . " /api/ping HTTP/1.1\r\nHost: h\r\n\r\n", undef ],
		[ 'escapes', "GET /api/%00%zz%f?gid=%00&gid=%ff HTTP/1.1\r\nHost: h\r\n\r\n", 404 ],
		[ 'query with escapes', "GET /api/dtmsvr/query?gid=%00%ff%zz HTTP/1.1\r\nHost: h\r\n\r\n", qr/[45]../ ],

		# where a body ends
		[ 'Content-Length twice', "$head$length${length}\r\n$body", 400 ],
		[ 'two Content-Lengths', "${head}Content-Length: 3\r\n$length\r\n$body", 400 ],
		[ 'a list of lengths', "${head}Content-Length: 3, 3\r\n\r\n$body", 400 ],
		[ 'length and chunked', "$head$length$chunked\r\n$chunk", 400 ],
		[ 'length 0 and chunked', "${head}Content-Length: 0\r\n$chunked\r\n$chunk", 400 ],
		[ 'chunked twice', "$head$chunked$chunked\r\n$chunk", 400 ],
		[ 'another encoding', "${head}Transfer-Encoding: gzip\r\n\r\n$body", 400 ],
		[ 'a blank before the colon', "${head}Content-Length : 5\r\n\r\n$body", 400 ],
		[ 'a negative length', "${head}Content-Length: -1\r\n\r\n$body", 400 ],
		[ 'a length in hex', "${head}Content-Length: 0x10\r\n\r\n$body", 400 ],
		[ 'no length', "${head}Content-Length: \r\n\r\n$body", 400 ],
		[ 'a huge length', "${head}Content-Length: 99999999999999999999999\r\n\r\n$body", 413 ],
		[ '2^63', "${head}Content-Length: 9223372036854775807\r\n\r\n$body", 413 ],
		[ 'no chunk', "$head$chunked\r\nzz\r\n$body", 400 ],
		[ 'a negative chunk', "$head$chunked\r\n-1\r\n$body", 400 ],
		[ 'a huge chunk', "$head$chunked\r\nffffffffffffffffff\r\n$body", 413 ],
		[ 'a chunk without end', "$head$chunked\r\n" . sprintf("%x\r\n%sXX0\r\n\r\n", length $body, $body), 400 ],

		# well formed, and unusual
		[ 'chunked', "$head$chunked\r\n$chunk", 200 ],
		[ 'chunked in pieces', "$head$chunked\r\n" . join('', map { sprintf("1;x=y\r\n%s\r\n", $_) } split //, $pieces) . "0\r\nT: t\r\n\r\n", 200 ],
		[ 'HTTP/1.0', "GET /api/ping HTTP/1.0\r\n\r\n", 200 ],
		[ 'HEAD', "HEAD /api/ping HTTP/1.1\r\nHost: h\r\n\r\n", 200 ],
		[ 'OPTIONS', "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 404 ],
		[ 'CONNECT', "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 404 ],
		[ 'TRACE', "TRACE /api/dtmsvr/newGid HTTP/1.1\r\nHost: h\r\n\r\n", 404 ],
		[ 'an absolute URI', "GET http://example.org:1/api/ping HTTP/1.1\r\nHost: h\r\n\r\n", 200 ],
		[ 'an upgrade', "GET /api/ping HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 200 ],
		[ 'expectations', post('/api/dtmsvr/submit', $expecting, "Expect: 100-continue\r\n"), 100 ],
		[ 'other expectations', post('/api/dtmsvr/submit', $self->saga, "Expect: wonders\r\n"), undef ]);
}

sub garbage
{
	my ($self) = @_;

	for my $case ($self->rubbish)
	{
		my ($name, $bytes, $expected) = @$case;
		my $enough = $name eq 'HEAD' ? sub { $_[0] =~ /\r\n\r\n$/ } : undef;
		my ($heard) = $self->exchange($bytes, enough => $enough, seconds => defined $expected ? $patience : 0.05);

		like($heard, qr{^HTTP/1\.1 $expected }, "$name is answered with $expected") if defined $expected;
		unlike($heard, qr{^HTTP/1\.1 200 }, "$name is not taken for a request") if !defined $expected && $name =~ /random|TLS|NUL/;
	}
	$self->alive('garbage');
	return;
}

# What is no request of ours, though it is HTTP.
sub bodies
{
	my ($self) = @_;
	my $pad = sub {
		my ($size) = @_;
		my $body = $self->saga(pad => '');
		return $body =~ s/"pad":""/'"pad":"' . 'x' x ($size - length $body) . '"'/er;
	};

	for my $case (
		[ 'deep arrays', '[' x 30_000, qr/500/ ],
		[ 'deep objects', '{"a":' x 10_000, qr/500/ ],
		[ 'deep and closed', '{"gid":' . '[' x 3000 . ']' x 3000 . '}', qr/500/ ],
		[ 'deep custom_data', $self->saga(custom_data => '[' x 20_000), qr/500/ ],
		[ 'deep payload', $self->saga(payloads => [ '[' x 20_000 ]), qr/[25]00/ ],
		[ 'a deep payload by JSON-RPC', $self->saga(protocol => 'json-rpc', payloads => [ '[' x 20_000 ],
				steps => [ { action => 'http://127.0.0.1:1/?method=a' } ]), qr/500/ ],
		[ 'many values', '[' . '1,' x 30_000 . '1]', qr/500/ ],
		[ 'many members', '{' . join(',', map { "\"k$_\":1" } 1 .. 4000) . '}', qr/500/ ],
		[ 'a huge number', '{"gid":"n","trans_type":"saga","steps":[],"timeout_to_fail":1' . '0' x 5000 . '}', qr/500/ ],
		[ 'a huge exponent', '{"gid":"n","trans_type":"saga","steps":[],"timeout_to_fail":1e999999}', qr/500/ ],
		[ 'the smallest integer', '{"gid":"n","trans_type":"saga","steps":[],"timeout_to_fail":-9223372036854775808}', qr/500/ ],
		[ 'no UTF-8', "{\"gid\":\"\xff\xfe\xc0\x80\",\"trans_type\":\"saga\",\"steps\":[]}", qr/500/ ],
		[ 'half a surrogate', '{"gid":"\ud800","trans_type":"saga","steps":[]}', qr/500/ ],
		[ 'NUL in a string', '{"gid":"a\u0000b","trans_type":"saga","steps":[]}', qr/500/ ],
		[ 'NUL in the text', "{\"gid\":\"a\0b\"}", qr/500/ ],
		[ 'a long gid', '{"gid":"' . 'g' x 10_000 . '","trans_type":"saga","steps":[]}', qr/500/ ],
		[ 'nothing', '', qr/500/ ],
		[ 'null', 'null', qr/500/ ],
		[ 'the longest', $pad->($self->{max_body}), qr/200/ ],
		[ 'longer', $pad->($self->{max_body} + 1), qr/413/ ],
		[ 'much longer', 'x' x ($self->{max_body} + 500_000), qr/413/ ])
	{
		my ($name, $body, $status) = @$case;
		my ($heard) = $self->exchange(post('/api/dtmsvr/submit', $body));

		like($heard, qr{^HTTP/1\.1 $status }, "$name: $status") or diag(substr($heard, 0, 300));
		unlike($heard, qr/"dtm_result":"SUCCESS"/, "$name: no success") unless $status =~ /2/;
	}
	$self->alive('bodies');
	return;
}

# A byte now and then, and never an end; others are served meanwhile.
sub slow
{
	my ($self) = @_;
	my $body = $self->saga;
	my $head = "POST /api/dtmsvr/submit HTTP/1.1\r\nHost: h\r\nContent-Length: " . length($body) . "\r\n\r\n";
	my $step = $self->{read_ms} / 10_000;
	my $count = int($self->{max_connections} / 4);
	my @slow;

	for my $i (0 .. $count - 1)
	{
		# none has a request line only, or headers, or a body to come
		my $bytes = $i % 3 == 0 ? "GET /api/ping HTTP/1.1\r\n" . 'X: ' . 'y' x 1000 : "$head$body";
		my $socket = $self->dial;
		my $first = $i % 3 == 2 ? length($head) : $i % 3 == 1 ? 40 : 30;

		say_bytes($socket, substr($bytes, 0, $first));
		push @slow, { socket => $socket, rest => substr($bytes, $first), heard => '' };
	}
	my $deadline = time() + $patience;
	my $served = 0;
	while ((grep { !$_->{ended} } @slow) && time() < $deadline)
	{
		for my $client (grep { !$_->{ended} } @slow)
		{
			say_bytes($client->{socket}, substr($client->{rest}, 0, 1, '')) if length $client->{rest} > 20;
			my ($heard, $ended) = hear($client->{socket}, sub { 0 }, 0);
			$client->{heard} .= $heard;
			$client->{ended} = $ended;
		}
		my ($ping) = $self->exchange(get('/api/ping'));
		$served += $ping =~ /^HTTP\/1\.1 200 /;
		usleep($step * 1_000_000);
	}
	cmp_ok($served, '>', 2, 'slow clients: others are served meanwhile');
	is(scalar(grep { $_->{ended} && $_->{heard} =~ /^HTTP\/1\.1 408 / } @slow), $count, 'slow clients: all are told 408');

	# who does not read his answers holds nobody up
	my @deaf = map { $self->dial } 1 .. 5;
	say_bytes($_, get('/api/ping') x 200) for @deaf;
	$self->alive('deaf clients');
	close $_ for @deaf;
	return;
}

# More connections than there may be: each is served or told to come back.
sub flood
{
	my ($self) = @_;
	my $count = 3 * $self->{max_connections};
	my (@clients, %seen);

	# who is within a request keeps his place, once the server has seen that
	for my $i (1 .. $count)
	{
		push @clients, $self->dial;
		say_bytes($clients[-1], "GET /api/ping HTTP/1.1\r\nHost: h\r\n");
		usleep(5_000);
	}
	for my $client (@clients)
	{
		say_bytes($client, "\r\n");
		my ($heard) = hear($client, \&whole);
		my $status = $heard =~ /^HTTP\/1\.1 (\d+) / ? $1 : 'none';

		$seen{$status}++;
		$seen{'without Retry-After'}++ if $status eq '503' && $heard !~ /\r\nRetry-After: \d+\r\n/i;
	}
	close $_ for @clients;
	cmp_ok($seen{200} // 0, '>=', 1, 'more connections than there may be: some are served');
	cmp_ok($seen{503} // 0, '>=', 1, 'others are told 503');
	ok(!$seen{'without Retry-After'}, '... and when to come back');
	is(($seen{200} // 0) + ($seen{503} // 0) + ($seen{408} // 0) + ($seen{none} // 0), $count, 'nothing else') or diag(explain(\%seen));
	cmp_ok($seen{none} // 0, '<=', $count / 10, 'nearly nobody is left without an answer') or diag(explain(\%seen));

	# idle ones make place
	@clients = map { $self->dial } 1 .. $count;
	$self->alive('idle connections');
	close $_ for @clients;

	# many requests on few connections, all at once
	my @bursts = map { $self->dial } 1 .. 10;
	say_bytes($_, join('', map { $self->submit } 1 .. 50)) for @bursts;
	my $answers = 0;
	for my $client (@bursts)
	{
		my ($heard) = hear($client, sub { (() = $_[0] =~ /HTTP\/1\.1 \d/g) >= 50 && $_[0] =~ /\}$/ });
		$answers += () = $heard =~ /HTTP\/1\.1 (?:200|503) /g;
		close $client;
	}
	is($answers, 500, 'pipelined requests are answered one by one');
	$self->alive('flood');
	return;
}

# Clients that go away in the midst of it.
sub vanish
{
	my ($self) = @_;
	my @stages = (
		'', 'GET', "GET /api/ping HTTP/1.1\r\nHo", substr($self->submit, 0, -10), get('/api/ping'),
		$self->submit, $self->submit(wait_result => JSON::PP::true), get('/api/ping') x 20);

	for my $round (1 .. 3)
	{
		my @gone;

		for my $bytes (@stages)
		{
			for my $abruptly (0, 1)
			{
				my $socket = $self->dial;

				say_bytes($socket, $bytes);
				# a reset instead of a farewell
				setsockopt($socket, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0)) if $abruptly;
				push @gone, $socket;
			}
		}
		usleep(20_000) if $round == 2;
		close $_ for @gone;
	}
	$self->alive('clients that vanish');

	# half closed: they still listen; some versions of libmicrohttpd close, when they see that first
	my ($heard) = $self->exchange(get('/api/ping'), half => 1);
	like($heard, qr{^(?:HTTP/1\.1 200 |$)}, 'who only listens any more is answered, or the connection closed');
	($heard) = $self->exchange(substr($self->submit, 0, -10), half => 1);
	unlike($heard, qr{^HTTP/1\.1 2}, 'half a request is none');

	# the waiting ones are not forgotten
	my @waiting = map { $self->dial } 1 .. 10;
	say_bytes($_, $self->submit(wait_result => JSON::PP::true)) for @waiting;
	my $answered = grep { (hear($_, \&whole))[0] =~ /^HTTP\/1\.1 200 / } @waiting;
	is($answered, 10, 'who waits is answered');
	close $_ for @waiting;
	return;
}

sub all
{
	my ($self) = @_;

	$self->garbage;
	$self->bodies;
	$self->slow;
	$self->flood;
	$self->vanish;
	return;
}

# ------------------------------------------------------------ measurements

# Files do not count: PostgreSQL keeps those of tables open, up to a number of its own.
sub descriptors
{
	return scalar(grep { (readlink($_) // '/') !~ m{^/} } glob "/proc/$_[0]/fd/*");
}

# Memory of its own, kB: without what it shares with others.
sub private_kb
{
	my ($pid) = @_;

	open my $file, '<', "/proc/$pid/statm" or return 0;
	my (undef, $resident, $shared) = split / /, scalar <$file>;
	return ($resident - $shared) * 4;
}

# Code that was run before uses no more descriptors or memory (max_kb => 4096) of these processes
# when it is run again.  Connections of ours that are closed may take a moment to be noticed.
sub is_flat
{
	my ($self, $code, %opts) = @_;
	my @pids = @{ $opts{pids} };
	my %before = map { $_ => { fds => descriptors($_), kb => private_kb($_) } } @pids;

	$code->();
	for my $pid (@pids)
	{
		my $deadline = time() + $patience;
		my ($fds, $kb);

		do
		{
			usleep(100_000);
			$fds = descriptors($pid);
		} while ($fds > $before{$pid}{fds} && time() < $deadline);
		$kb = private_kb($pid);
		cmp_ok($fds, '>', 1, "$opts{name}: process $pid is there");
		cmp_ok($fds, '<=', $before{$pid}{fds}, "$opts{name}: descriptors of $pid");
		next unless $opts{max_kb};
		cmp_ok($kb, '<=', $before{$pid}{kb} + $opts{max_kb}, "$opts{name}: memory of $pid");
		note("$opts{name}: process $pid, descriptors $before{$pid}{fds} -> $fds, memory $before{$pid}{kb} -> $kb kB");
	}
	return;
}

1;
