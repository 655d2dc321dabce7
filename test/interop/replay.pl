# -------------------------------------------------------------------------
#
# replay.pl
#		Requests of SDKs that do not run here, sent as those send them: C#,
#		PHP (both), Ruby, and Node's.
#
# Each file of replay/ is one request, derived from the SDK's source as its
# serialiser writes it, and what the SDK needs in the answer: a status, and members of the
# JSON object (further ones may be there).  In it @gid@, @branch@ and @busi@
# (host:port of the service that is called) are put in.  A value of the answer
# may be "<string>", "<int32>", "<time>", "<array>", "<any>", "<absent>" or
# "/a regular expression/".
#
# What is checked of every answer: its Content-Type (Go fills nothing without
# it), no word FAILURE in a success (Python, C# and Node look for it), no null
# where C# has a date that is not nullable, ids that fit into C#'s int.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use utf8;
use FindBin;
use lib $FindBin::Bin;
use DtmInterop;
use DtmTest;
use IO::Socket::INET;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

# calls that take long on a busy machine must not be made twice
my $node = interop_node(conf => "dtm.request_timeout = '20s'");
my $dtm = dtm_address($node);
my $service = start_service();
my $busi = $service->url('');
$busi =~ s{^http://}{};
my $folder = "$FindBin::Bin/replay";
my %replayed;

# ---- one request ----

# A file as request (bytes), status and shape.
sub read_replay
{
	my ($name, %with) = @_;

	open my $file, '<:raw', "$folder/$name.http" or die "$folder/$name.http: $!";
	local $/;
	my ($head, $body, $status, $shape) =
	  <$file> =~ /\A(?:##[^\n]*\n)+(.*?)\n\n(?:(.*)\n)?## answer (\d+)\n(.*)\z/s
	  or die "$name: not in the form of a replay";
	my %values = (busi => $busi, dtm => $dtm, branch => '', large => '', %with);

	for my $text ($head, $shape, defined $body ? $body : ())
	{
		$text =~ s/\@(busi|dtm|gid|branch|large)\@/$values{$1}/g;
	}
	$body =~ s/\n/$with{line_end}/g if defined $with{line_end};
	my $length = length($body // '');
	$head =~ s/\@length\@/$length/;
	$head =~ s/\n/\r\n/g;
	return ("$head\r\n\r\n" . ($body // ''), $status, decode_json($shape));
}

# Status, headers and body of the answer.
sub send_bytes
{
	my ($bytes) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => $dtm, Timeout => 10) or die "could not connect to $dtm: $!";
	my $answer = '';

	my $read_head = sub {
		until ($answer =~ /\r\n\r\n/)
		{
			sysread($socket, $answer, 65536, length $answer) or die "no whole answer: $answer";
		}
	};
	$socket->autoflush(1);
	if ($bytes =~ /^Expect: 100-Continue\r$/m)
	{
		$bytes =~ s/^(.*?\r\n\r\n)//s;
		print $socket $1 or die "could not send: $!";
		$read_head->();
		$answer =~ s{^HTTP/1\.1 100 .*?\r\n\r\n}{}s or die "not asked to continue: $answer";
	}
	print $socket $bytes or die "could not send: $!";
	$read_head->();
	my ($head, $body) = split /\r\n\r\n/, $answer, 2;
	my ($length) = $head =~ /^Content-Length:\s*(\d+)/mi or die "no Content-Length: $head";
	while (length $body < $length)
	{
		sysread($socket, $body, 65536, length $body) or die "no whole body: $body";
	}
	close $socket;
	my ($status) = $head =~ m{^HTTP/1\.1 (\d+)};
	return ($status, $head, $body);
}

# ---- what the answer must have ----

my %kinds = (
	'<any>' => sub { 1 },
	'<string>' => sub { defined $_[0] && !ref $_[0] && $_[0] ne '' },
	'<array>' => sub { ref $_[0] eq 'ARRAY' },
	'<int32>' => sub { defined $_[0] && $_[0] =~ /^\d+$/ && $_[0] < 2**31 },
	'<time>' => sub {
		defined $_[0] && $_[0] =~ /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/;
	});

# What is wrong, or ''.
sub mismatch
{
	my ($got, $wanted, $path) = @_;

	if (ref $wanted eq 'HASH')
	{
		return "$path is no object" unless ref $got eq 'HASH';
		for my $key (sort keys %$wanted)
		{
			my $problem;

			if (!ref $wanted->{$key} && ($wanted->{$key} // '') eq '<absent>')
			{
				$problem = exists $got->{$key} ? "$path.$key is there" : '';
			}
			elsif (!exists $got->{$key})
			{
				$problem = "$path.$key is missing";
			}
			else
			{
				$problem = mismatch($got->{$key}, $wanted->{$key}, "$path.$key");
			}
			return $problem if $problem;
		}
		return '';
	}
	if (ref $wanted eq 'ARRAY')
	{
		return "$path is no array of " . @$wanted unless ref $got eq 'ARRAY' && @$got == @$wanted;
		for my $i (0 .. $#$wanted)
		{
			my $problem = mismatch($got->[$i], $wanted->[$i], "$path\[$i]");
			return $problem if $problem;
		}
		return '';
	}
	return defined $got ? "$path is not null" : '' unless defined $wanted;
	return $kinds{$wanted}->($got) ? '' : "$path is not $wanted" if $kinds{$wanted};
	return "$path is null" unless defined $got;
	return $got =~ /$1/ ? '' : "$path does not match $wanted" if $wanted =~ m{^/(.*)/$};
	return ($got eq $wanted) ? '' : "$path is $got instead of $wanted";
}

# What no client could bear anywhere in an answer; '' when all is well.
sub unbearable
{
	my ($value, $path) = @_;
	my @inner = ref $value eq 'HASH' ? map { [ $_, $value->{$_} ] } sort keys %$value
	  : ref $value eq 'ARRAY' ? map { [ $_, $value->[$_] ] } 0 .. $#$value
	  : ();

	for my $pair (@inner)
	{
		my ($key, $inner) = @$pair;

		return "$path.$key is null" if $key =~ /^(finish|rollback|next_cron|update)_time$/ && !defined $inner;
		return "$path.$key is $inner" if $key eq 'id' && $path =~ /transaction|branches|progresses/
		  && !$kinds{'<int32>'}->($inner);
		my $problem = unbearable($inner, "$path.$key");
		return $problem if $problem;
	}
	return '';
}

# Send one, a test.  The answer.
sub replay
{
	my ($name, %with) = @_;
	my ($bytes, $wanted_status, $shape) = read_replay($name, %with);
	my ($status, $head, $body) = send_bytes($bytes);
	my $answer = eval { decode_json($body) };
	my @problems;

	$replayed{$name} = 1;
	push @problems, "status $status instead of $wanted_status" if $status != $wanted_status;
	push @problems, 'content type' unless $head =~ m{^Content-Type: application/json; charset=utf-8\r?$}mi;
	push @problems, 'the body is no JSON' unless defined $answer;
	push @problems, mismatch($answer, $shape, '$') || (), unbearable($answer, '$') || () if defined $answer;
	push @problems, 'FAILURE in a success'
	  if $status == 200 && $body =~ /FAILURE/ && !$with{failed} && $bytes !~ m{^POST /api/json-rpc };
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!@problems, "$name" . ($with{branch} ? " $with{branch}" : ''))
	  or diag(join("\n", @problems, "answer: $status $body"));
	return $answer;
}

# ---- several of one transaction ----

my $number = 0;

# Replays [ name or [ name, branch ], ... ] of one SDK with one gid, then:
#   status => what it becomes, calls => [ 'POST action 01 /out', ... ],
#   body => what each call but check-backs brings
# Gives the gid.
sub sequence
{
	my ($name, $sdk, $requests, %expected) = @_;
	my $gid = 'replay-' . ++$number . "-$sdk";

	subtest "$sdk: $name" => sub {
		for my $request (@$requests)
		{
			my ($file, $branch) = ref $request ? @$request : ($request);

			replay("$sdk/$file", gid => $gid, branch => $branch // '', %{ $expected{with} // {} });
		}
		wait_status($node, $gid, $expected{status}) if $expected{status};
		if ($expected{calls})
		{
			my @calls = $service->calls(gid => $gid);
			my @lines = map { "$_->{method} $_->{query}{op} $_->{query}{branch_id} $_->{path}" } @calls;

			@lines = sort @lines if $expected{any_order};
			is_deeply(\@lines, $expected{calls}, 'calls') or diag(explain(\@lines));
			is_deeply([ grep { $_->{method} eq 'POST' && $_->{body} ne $expected{body} } @calls ], [], 'payload as it was')
			  if defined $expected{body};
		}
		$expected{also}->($gid) if $expected{also};
	};
	return $gid;
}

sub answers_of
{
	my ($path, $op, $status) = @_;

	$service->script($path, { query => { op => $op }, then => { status => $status, body => { error => 'no' } } });
	return;
}

# ---- C# ----

my $csharp = '{"amount":30,"memo":"M\u00FCller \u0026 S\u00F6hne, 5 \u003C 6"}';
my $both = [ 'POST action 01 /out', 'POST action 02 /in' ];

sequence('a gid', 'csharp', ['new-gid']);
my $saga = sequence('saga, nulls everywhere', 'csharp', ['saga'], status => 'succeed', calls => $both, body => $csharp);
replay('csharp/query', gid => $saga);
sequence('saga, from Windows', 'csharp', ['saga'], with => { line_end => "\r\n" }, status => 'succeed', calls => $both,
	body => $csharp);
sequence('saga without steps', 'csharp', ['saga-empty'], status => 'succeed', calls => []);
sequence('saga that is waited for', 'csharp', ['saga-wait'], calls => $both, also => sub {
	is($node->safe_psql('postgres', "SELECT dtm_status('$_[0]')"), 'succeed', 'the answer came after the end');
});
answers_of('/in', 'action', 409);
my $failed = sequence('saga that is refused', 'csharp', ['saga-wait-refused'], status => 'failed', calls => [ @$both,
	'POST compensate 02 /in_undo', 'POST compensate 01 /out_undo' ]);
# C#'s Query of it throws, for the reason has the word FAILURE: so it is with DTM
replay('csharp/query', gid => $failed, failed => 1);
$service->reset;
sequence('concurrent saga with an order', 'csharp', ['saga-concurrent'], status => 'succeed', also => sub {
	my @calls = $service->calls(gid => $_[0]);

	is_deeply([ map { $_->{path} } grep { $_->{query}{branch_id} eq '03' } @calls ], ['/mail'], 'the third step');
	is($calls[2]{path}, '/mail', 'after both others');
	is_deeply([ grep { ($_->{headers}{'x-shop'} // $_->{headers}{'X-Shop'} // '') ne '7' } @calls ], [], 'branch header');
});
sequence('msg, the delay comes with the submit', 'csharp', [ 'msg-prepare', 'msg-submit' ], status => 'succeed',
	calls => ['POST action 01 /in'], body => $csharp, also => sub {
		is($node->safe_psql('postgres', "SELECT b.finished_at >= t.created_at + interval '900 ms'"
			  . " FROM dtm.branches b JOIN dtm.transactions t USING (gid) WHERE gid = '$_[0]' AND op = 'action'"), 't', 'it has waited');
	});
sequence('msg that is aborted', 'csharp', [ 'msg-prepare', 'msg-abort' ], status => 'failed', calls => []);
sequence('msg of an old client', 'csharp', [ 'msg-prepare-old', 'msg-abort' ], status => 'failed', calls => []);
sequence('tcc', 'csharp', [ 'tcc-prepare', [ 'tcc-register', '01' ], [ 'tcc-register', '02' ], 'tcc-submit' ],
	status => 'succeed', calls => [ 'POST confirm 02 /out_confirm', 'POST confirm 01 /out_confirm' ], body => $csharp);
my $aborted = sequence('tcc that is aborted', 'csharp', [ 'tcc-prepare', [ 'tcc-register', '01' ], 'tcc-abort' ],
	status => 'failed', calls => ['POST cancel 01 /out_cancel'], body => $csharp, also => sub {
		replay('csharp/tcc-submit-late', gid => $_[0]);
		replay('csharp/tcc-register-late', gid => $_[0], branch => '02');
	});
is(replay('csharp/query', gid => $aborted)->{transaction}{rollback_reason},
	'Object reference not set to an instance of an object.', 'reason of the abort');
sequence('xa', 'csharp', [ 'xa-prepare', [ 'xa-register', '01' ], [ 'xa-register', '02' ], 'xa-submit' ],
	status => 'succeed', calls => [ 'POST commit 01 /xa', 'POST commit 02 /xa' ], body => '');
sequence('xa that is aborted', 'csharp', [ 'xa-prepare', [ 'xa-register', '01' ], 'xa-abort' ],
	status => 'failed', calls => ['POST rollback 01 /xa'], body => '');
sequence('workflow', 'csharp', [ 'wf-prepare', [ 'wf-register', '01' ], 'wf-prepare-again', 'wf-submit', 'wf-prepare-done' ],
	status => 'succeed', calls => []);
sequence('workflow that fails', 'csharp', [ 'wf-prepare', 'wf-submit-failed', 'wf-prepare-failed' ],
	status => 'failed', calls => []);
replay('csharp/query-unknown', gid => 'there-is-none');

# ---- PHP, old ----

my $php = '{"amount":30,"memo":"Gebühr a\/b"}';
my @nine = map { [ 'tcc-register', $_ . '0' ] } 1 .. 9;
my $no_more = [ 'tcc-register-tenth', '10' ];

sequence('a gid', 'php', ['new-gid']);
sequence('tcc of nine branches', 'php', [ 'tcc-prepare', @nine, 'tcc-submit' ], status => 'succeed',
	calls => [ map { "POST confirm ${_}0 /confirm" } reverse 1 .. 9 ], body => $php);
sequence('the tenth branch is no second version of the first', 'php', [ 'tcc-prepare', @nine, $no_more, 'tcc-abort' ],
	status => 'failed', calls => [ map { "POST cancel ${_}0 /cancel" } reverse 1 .. 9 ], body => $php);

# ---- dtm-php: HTTP ----

my $context = '{"amount":30}';
my $mail = [ sort @$both, 'POST action 03 /mail' ];

sequence('a gid', 'dtm-php', ['new-gid']);
my $known = sequence('saga', 'dtm-php', ['saga'], status => 'succeed', calls => $both, body => $context);
replay('dtm-php/query', gid => $known);
replay('dtm-php/query-all', gid => $known);
sequence('saga with everything in the context', 'dtm-php', ['saga-extra'], status => 'succeed', calls => $both);
for my $orders (qw(list map))
{
	sequence("saga, orders as a $orders", 'dtm-php', ["saga-orders-$orders"], status => 'succeed', calls => $mail,
		any_order => 1, also => sub { is(($service->calls(gid => $_[0]))[2]{path}, '/mail', 'in order'); });
}
for my $orders (qw(empty null))
{
	sequence("saga, orders $orders", 'dtm-php', ["saga-orders-$orders"], status => 'succeed', any_order => 1,
		calls => [ sort @$both ], body => $context);
}
my $large = 'x' x 600_000;
sequence('saga of more than 1 MiB', 'dtm-php', ['saga-large'], with => { large => $large }, status => 'succeed',
	calls => $both, body => "{\"memo\":\"$large\"}");
sequence('msg', 'dtm-php', [ 'msg-prepare', 'msg-submit' ], status => 'succeed', calls => ['POST action 01 /in']);
sequence('msg that is aborted', 'dtm-php', [ 'msg-prepare', 'msg-abort' ], status => 'failed', calls => []);
sequence('tcc', 'dtm-php', [ 'tcc-prepare', [ 'tcc-register', '01' ], 'tcc-submit' ], status => 'succeed',
	calls => ['POST confirm 01 /confirm'], body => $context, also => sub { replay('dtm-php/tcc-abort-late', gid => $_[0]); });
sequence('tcc that is aborted', 'dtm-php', [ 'tcc-prepare', [ 'tcc-register', '01' ], 'tcc-abort' ], status => 'failed',
	calls => ['POST cancel 01 /cancel'], body => $context);
sequence('xa', 'dtm-php', [ 'xa-prepare', [ 'xa-register', '01' ], 'xa-submit' ], status => 'succeed',
	calls => ['POST commit 01 /xa'], body => '');

# ---- dtm-php: JSON-RPC ----

sequence('a gid by JSON-RPC', 'dtm-php', ['rpc-new-gid']);
sequence('saga by JSON-RPC', 'dtm-php', ['rpc-saga'], status => 'succeed', calls => $both, body => $context);
sequence('tcc by JSON-RPC', 'dtm-php', [ 'rpc-prepare', [ 'rpc-register', '01' ], 'rpc-submit' ], status => 'succeed',
	calls => ['POST confirm 01 /confirm'], body => $context, also => sub {
		replay('dtm-php/rpc-abort-late', gid => $_[0]);
		replay('dtm-php/rpc-register-late', gid => $_[0], branch => '02');
		replay('dtm-php/rpc-unknown-method', gid => $_[0]);
	});
sequence('tcc by JSON-RPC that is aborted', 'dtm-php', [ 'rpc-prepare', [ 'rpc-register', '01' ], 'rpc-abort' ],
	status => 'failed', calls => ['POST cancel 01 /cancel']);

# ---- Ruby and Node ----

my $plain = '{"amount":30,"memo":"Gebühr a/b"}';

for my $sdk (qw(ruby node))
{
	my $first = $sdk eq 'ruby' ? 1 : '01';
	my $second = $sdk eq 'ruby' ? 11 : '02';

	sequence('a gid', $sdk, ['new-gid']);
	sequence('saga', $sdk, ['saga'], status => 'succeed', calls => $both, body => $plain);
	sequence('msg', $sdk, [ 'msg-prepare', 'msg-submit' ], status => 'succeed', calls => ['POST action 01 /in'], body => $plain);
	sequence('tcc', $sdk, [ 'tcc-prepare', [ 'tcc-register', $first ], [ 'tcc-register', $second ], 'tcc-submit' ],
		status => 'succeed', calls => [ "POST confirm $second /confirm", "POST confirm $first /confirm" ], body => $plain);
	sequence('tcc that is aborted', $sdk, [ 'tcc-prepare', [ 'tcc-register', $first ], 'tcc-abort' ],
		status => 'failed', calls => ["POST cancel $first /cancel"], body => $plain);
}
sequence('msg without a prepare', 'ruby', ['msg-submit-only'], status => 'succeed', calls => ['POST action 01 /in']);
my $xa = sequence('xa by the old route', 'ruby', [ 'xa-prepare', [ 'xa-register', '1' ], 'xa-submit' ],
	status => 'succeed', calls => ['POST commit 1 /xa'], body => '');
replay('ruby/query', gid => $xa);
sequence('concurrent saga', 'node', ['saga-concurrent'], status => 'succeed', calls => $mail, any_order => 1);
sequence('msg that is aborted', 'node', [ 'msg-prepare', 'msg-abort' ], status => 'failed', calls => []);

my @files = map { s{^\Q$folder\E/(.*)\.http$}{$1}r } glob("$folder/*/*.http");
is_deeply([ grep { !$replayed{$_} } @files ], [], 'every file was replayed');
done_testing();
