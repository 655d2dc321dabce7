# -------------------------------------------------------------------------
#
# python.pl
#		DTM's SDK for Python, from its registry: saga, message and TCC by its
#		own functions, and its barrier on PostgreSQL and tokens by what is in
#		examples/python.
#
# python/client.py makes one transaction a run, python/service.py is the bank
# that is called.  What the bank has seen is in the table interop_calls.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use DtmInterop;
use DtmTest;
use JSON::PP;
use Test::More;

my $source = "$FindBin::Bin/python";
my $python = need_tool('python3');
my %env = (PYTHONPATH => "$FindBin::Bin/../../examples/python");
my $venv = build_dir('python') . '/venv';

run_step('make a virtual environment (python3-venv)', [ $python, '-m', 'venv', $venv ], missing => 'python3-venv')
  unless -x "$venv/bin/pip";

# from the wheels of last time, which need no network, or from the registry
my $wheels = cache_dir('python-wheels');
my @pip = ("$venv/bin/pip", '--quiet', '--disable-pip-version-check');
my @install = (@pip, 'install', '--no-index', '--find-links', $wheels, '--requirement', "$source/requirements.txt");
if (start_program('look for wheels', \@install)->finish(300))
{
	run_step('fetch the SDK', [ @pip, '--no-cache-dir', 'wheel', '--wheel-dir', $wheels, '--requirement', "$source/requirements.txt" ],
		missing => "the packages of Python's registry");
	run_step('install the SDK', \@install);
}

# calls that take long on a busy machine must not be made twice
my $node = interop_node(role => 'bank', conf => "dtm.request_timeout = '20s'");
my $dsn = $node->connstr('postgres') . ' user=bank';

# what an SDK's own barrier needs, see docs/barrier.md
$node->safe_psql('postgres', <<'END');
GRANT USAGE ON SCHEMA dtm TO bank;
GRANT SELECT, INSERT ON dtm.barrier TO bank;
GRANT USAGE ON SEQUENCE dtm.barrier_seq TO bank;
SET ROLE bank;
CREATE TABLE bank.account (id text PRIMARY KEY, balance int NOT NULL, frozen int NOT NULL DEFAULT 0);
INSERT INTO bank.account VALUES ('out', 1000), ('in', 1000);
CREATE TABLE bank.interop_calls (seq bigserial PRIMARY KEY, method text, path text, gid text, trans_type text,
	branch_id text, op text, body text, headers text, status int);
CREATE TABLE bank.interop_open (gid text);
END
my $bank = start_program('bank', [ "$venv/bin/python", "$source/service.py", $dsn ], env => \%env, ready => qr/^port (\d+)/);
my $url = 'http://127.0.0.1:' . $bank->match;

# One run of the client; what it says.
sub transact
{
	my ($scenario, %options) = @_;
	my $program = start_program("client $scenario", [ "$venv/bin/python", "$source/client.py", dtm_url($node), $url,
			$dsn, $scenario, map { "$_=" . (ref $options{$_} ? encode_json($options{$_}) : $options{$_}) } sort keys %options ], env => \%env);
	my $status = $program->finish(60);
	my ($last) = $program->output =~ /(\{.*\})\s*\z/;
	my $result = defined $last ? eval { decode_json($last) } : undef;

	die "client $scenario: exit status " . ($status // 'none') . "\n" . $program->output unless $result;
	return $result;
}

# Balances: "out in", and what is frozen when something is.
sub money
{
	return $node->safe_psql('postgres',
		"SELECT string_agg(balance || CASE frozen WHEN 0 THEN '' ELSE '/' || frozen END, ' ' ORDER BY id DESC) FROM bank.account");
}

sub restart_money
{
	$node->safe_psql('postgres', 'UPDATE bank.account SET balance = 1000, frozen = 0');
	return;
}

# "action 01 /out 200" in the order of arrival.
sub calls
{
	my ($gid) = @_;

	return [ rows($node, "SELECT concat_ws(' ', op, branch_id, path, status) FROM bank.interop_calls WHERE gid = "
			  . sql_literal($gid) . ' ORDER BY seq') ];
}

# A scenario: name, arguments of the client, and what is expected.
sub scenario
{
	my ($name, $arguments, %expected) = @_;
	my $result;

	subtest $name => sub {
		restart_money();
		$result = transact(@$arguments);
		is($result->{raised}, $expected{raises}, defined $expected{raises} ? 'raised' : 'nothing raised')
		  or diag(explain($result));
		$expected{then}->($result) if $expected{then};
		wait_status($node, $result->{gid}, $expected{status}) if $expected{status};
		is_deeply(calls($result->{gid}), $expected{calls}, 'calls') or diag(explain(calls($result->{gid})))
		  if $expected{calls};
		is(money(), $expected{money}, 'money') if $expected{money};
		$expected{also}->($result) if $expected{also};
	};
	return $result;
}

# A call that arrives late changes nothing and is answered well.
sub late
{
	my ($gid, $trans_type, $branch_id, $op, $path) = @_;
	my $before = money();

	is(transact('call', gid => $gid, trans_type => $trans_type, branch_id => $branch_id, op => $op, path => $path)->{status},
		200, "late $op: answered");
	is(money(), $before, "late $op: nothing happens");
	return;
}

# ---- saga ----

my $there = [ 'action 01 /out 200', 'action 02 /in 200' ];

my $saga = scenario('saga', ['saga'], status => 'succeed', calls => $there, money => '970 1030', also => sub {
	my ($result) = @_;

	like($result->{gid}, qr/^[2-9A-HJ-NP-Za-km-z]{22}$/, 'gen_gid');
	is_deeply([ rows($node, "SELECT DISTINCT method || ' ' || body FROM bank.interop_calls WHERE gid = '$result->{gid}'") ],
		['POST {"amount": 30}'], 'the payload as the SDK wrote it');
	my (undef, $answer) = dtm_request($node, GET => "/query?gid=$result->{gid}");
	is(decode_json($answer->{transaction}{options} // '{}')->{request_timeout}, 8, 'request_timeout of 8 s for every call');
});
scenario('saga that is refused', [ 'saga', payload => { refuse => ['/in'] } ], status => 'failed', money => '1000 1000',
	calls => [ 'action 01 /out 200', 'action 02 /in 409', 'compensate 02 /in_undo 200', 'compensate 01 /out_undo 200' ]);
scenario('saga that is waited for', [ 'saga', wait => 1 ], calls => $there, money => '970 1030');
scenario('refused saga that is waited for', [ 'saga', wait => 1, payload => { refuse => ['/in'] } ], money => '1000 1000',
	raises => 'DTMFailureError', also => sub {
		is($node->safe_psql('postgres', "SELECT dtm_status('$_[0]{gid}')"), 'failed', 'the answer came after the end');
	});
scenario('saga that is submitted twice', [ 'saga_twice', payload => { hold => ['/out'] } ], status => 'succeed',
	calls => $there, money => '970 1030', then => sub {
		$node->safe_psql('postgres', "INSERT INTO bank.interop_open VALUES ('$_[0]{gid}')");
	});
scenario('saga that is submitted again after its end', [ 'saga', gid => $saga->{gid} ], raises => 'DTMFailureError',
	calls => $there, money => '1000 1000');
scenario('saga whose gid is too long', [ 'saga', gid => 'x' x 129 ], raises => 'Exception', calls => [],
	also => sub { is($_[0]{message}, 'bad result', 'neither 200 nor 409'); });
scenario('saga with branch headers', [ 'saga', headers => { 'X-Shop' => '7' } ], status => 'succeed', also => sub {
	is($node->safe_psql('postgres', "SELECT count(*) FROM bank.interop_calls WHERE gid = '$_[0]{gid}'"
		  . " AND headers ~* 'x-shop: 7'"), 2, 'both calls have it');
});
scenario('concurrent saga by the SDK: it cannot', ['saga_concurrent'], raises => 'AttributeError', calls => [], also => sub {
	is($node->safe_psql('postgres', "SELECT count(*) FROM dtm.transactions WHERE gid = '$_[0]{gid}'"), 0, 'nothing was submitted');
});
scenario('concurrent saga by a request of its own', ['saga_concurrent_raw'], status => 'succeed', money => '970 1060',
	also => sub {
		my @calls = @{ calls($_[0]{gid}) };
		my ($first) = grep { $calls[$_] =~ /01/ } 0 .. $#calls;
		my ($third) = grep { $calls[$_] =~ /03/ } 0 .. $#calls;

		cmp_ok($first, '<', $third, 'the third after the first');
	});

# ---- the barrier: what goes wrong between the coordinator and the bank ----

scenario('an action whose answer is lost happens once', [ 'saga', payload => { lose_answer => ['/out'] } ],
	status => 'succeed', calls => [ 'action 01 /out 500', @$there ], money => '970 1030');
scenario('a compensation whose answer is lost happens once',
	[ 'saga', payload => { refuse => ['/in'], lose_answer => ['/out_undo'] } ], status => 'failed', money => '1000 1000',
	calls => [ 'action 01 /out 200', 'action 02 /in 409', 'compensate 02 /in_undo 200', 'compensate 01 /out_undo 500',
		'compensate 01 /out_undo 200' ]);
scenario('a compensation without an action undoes nothing', [ 'saga', payload => { lose_call => ['/in'] } ],
	status => 'failed', money => '1000 1000', also => sub {
		late($_[0]{gid}, 'saga', '02', 'action', '/in');
		late($_[0]{gid}, 'saga', '02', 'compensate', '/in_undo');
	});

# ---- message ----

scenario('message', ['msg'], status => 'succeed', calls => ['action 01 /in 200'], money => '1000 1030');
scenario('message that is waited for', ['msg_wait'], calls => ['action 01 /in 200'], money => '1000 1030');
scenario('prepared message without a local part', [ 'msg_prepare', timeout_to_fail => 1 ], status => 'failed',
	calls => ['msg 00 /check 409'], money => '1000 1000', also => sub {
		is(transact('msg_local', gid => $_[0]{gid})->{raised}, 'DTMFailureError', 'the local part comes too late');
		is(money(), '1000 1000', 'and does nothing');
	});
scenario('prepared message whose local part is committed', [ 'msg_prepare_local', timeout_to_fail => 4 ],
	status => 'succeed', calls => [ 'msg 00 /check 200', 'action 01 /in 200' ], money => '970 1030');
scenario('do_and_submit_db', ['msg_local'], status => 'succeed', calls => ['action 01 /in 200'], money => '970 1030');
scenario('do_and_submit_db, and the business says no', [ 'msg_local', fail => 'refuse' ], status => 'failed',
	raises => 'DTMFailureError', calls => [], money => '1000 1000');
scenario('do_and_submit_db, and something else happens: the SDK asks', [ 'msg_local', fail => 'crash' ],
	status => 'failed', raises => 'RuntimeError', calls => ['msg 00 /check 409'], money => '1000 1000');

# ---- TCC ----

my $tried = [ 'try 01 /out_try 200', 'try 02 /in_try 200' ];

my $tcc = scenario('TCC', ['tcc'], status => 'succeed', money => '970 1030',
	calls => [ @$tried, 'confirm 02 /in_confirm 200', 'confirm 01 /out_confirm 200' ],
	also => sub { is($_[0]{returned}, $_[0]{gid}, 'returns the gid'); });
scenario('TCC that is given up', [ 'tcc', fail => 1 ], status => 'failed', money => '1000 1000',
	calls => [ @$tried, 'cancel 02 /in_cancel 200', 'cancel 01 /out_cancel 200' ],
	also => sub { is($_[0]{returned}, '', 'returns nothing'); });
scenario('TCC with a Try that is refused', [ 'tcc', payload => { refuse => ['/in_try'] } ], status => 'failed',
	money => '1000 1000', calls => [ 'try 01 /out_try 200', 'try 02 /in_try 409', 'cancel 02 /in_cancel 200',
		'cancel 01 /out_cancel 200' ], also => sub { is($_[0]{returned}, '', 'returns nothing'); });
scenario('TCC with a Try that does not arrive in time', [ 'tcc', payload => { lose_call => ['/in_try'] } ],
	status => 'failed', money => '1000 1000', also => sub {
		late($_[0]{gid}, 'tcc', '02', 'try', '/in_try');
		late($_[0]{gid}, 'tcc', '02', 'cancel', '/in_cancel');
	});
scenario('TCC with a Confirm whose answer is lost', [ 'tcc', payload => { lose_answer => ['/in_confirm'] } ],
	status => 'succeed', money => '970 1030', calls => [ @$tried, 'confirm 02 /in_confirm 500', 'confirm 02 /in_confirm 200',
		'confirm 01 /out_confirm 200' ]);
scenario('nested TCC', [ 'tcc', nested => 1 ], status => 'succeed', money => '970 1030',
	calls => [ 'try 01 /out_try 200', 'try 0101 /in_try 200', 'confirm 0101 /in_confirm 200', 'confirm 01 /out_confirm 200' ]);
scenario('a branch of a TCC that is over', [ 'tcc_late', gid => $tcc->{gid} ], raises => 'DTMFailureError',
	money => '1000 1000');

# ---- with a token ----

my $token = $node->safe_psql('postgres', "SELECT dtm_http_token_create('bank', 'python')");
$node->safe_psql('postgres', "ALTER SYSTEM SET dtm.http_anonymous = off");
$node->reload;
wait_until(sub { return (dtm_request($node, GET => '/newGid'))[0] == 401; }, 'a token is needed');
scenario('saga without a token', [ 'saga', gid => 'no-token' ], raises => 'Exception', calls => []);
for my $mode (qw(saga tcc))
{
	scenario("$mode with a token", [ $mode, token => $token ], status => 'succeed', money => '970 1030', also => sub {
		is($node->safe_psql('postgres', "SELECT count(*) FROM bank.interop_calls WHERE gid = '$_[0]{gid}'"
			  . " AND headers ~* 'authorization'"), 0, 'the bank has not seen it');
	});
}
done_testing();
