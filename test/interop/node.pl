# -------------------------------------------------------------------------
#
# node.pl
#		What DTM's SDK for Node does: saga, message and TCC, the old route
#		registerTccBranch, by axios of the version that the SDK has.
#
# The SDK, "dtmcli", is not in its registry: node/dtm.js takes its place.
# DTM_NODE_SDK=FOLDER runs the same with the SDK itself, built by hand.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use utf8;
use FindBin;
use lib $FindBin::Bin;
use DtmInterop;
use DtmTest;
use File::Copy qw(copy);
use JSON::PP;
use Test::More;

my $nodejs = need_tool('node');
my $npm = need_tool('npm');
my $place = build_dir('node');

copy("$FindBin::Bin/node/$_", "$place/$_") or die "$_: $!"
  for qw(package.json package-lock.json dtm.js client.js);
copy("$FindBin::Bin/../../examples/node/dtm_token.js", $place) or die "dtm_token.js: $!";
run_step('install axios', [ $npm, 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', '--cache', cache_dir('npm') ],
	dir => $place, missing => "the packages of Node's registry");

# calls that take long on a busy machine must not be made twice
my $node = interop_node(conf => "dtm.request_timeout = '20s'");
my $service = start_service();
my $payload = '{"amount":30,"memo":"Gebühr a/b"}';

# One run of the client; what it says.
sub transact
{
	my ($scenario, %options) = @_;
	my $program = start_program("client $scenario", [ $nodejs, "$place/client.js", dtm_url($node), $service->url,
			$scenario, map { "$_=$options{$_}" } sort keys %options ], dir => $place);
	my $status = $program->finish(60);
	my ($last) = $program->output =~ /(\{.*\})\s*\z/;
	my $result = defined $last ? eval { decode_json($last) } : undef;

	die "client $scenario: exit status " . ($status // 'none') . "\n" . $program->output unless $result;
	return $result;
}

sub scenario
{
	my ($name, $arguments, %expected) = @_;
	my $result;

	subtest $name => sub {
		$result = transact(@$arguments);
		is($result->{raised}, undef, 'no error') or diag(explain($result)) unless $expected{http};
		is($result->{status}, $expected{http}, 'the error') if $expected{http};
		$expected{then}->($result) if $expected{then};
		wait_status($node, $result->{gid}, $expected{status}) if $expected{status};
		if ($expected{calls})
		{
			my @calls = $service->calls(gid => $result->{gid});
			my @ops = map { ($_->{query}{op} // 'branch_type=' . ($_->{query}{branch_type} // ''))
				  . " $_->{query}{branch_id} $_->{path}" } @calls;

			@ops = sort @ops if $expected{any_order};
			is_deeply(\@ops, $expected{calls}, 'calls') or diag(explain(\@ops));
			is_deeply([ grep { $_->{body} ne $payload } @calls ], [], 'payload as it was');
		}
		$expected{also}->($result) if $expected{also};
	};
	return $result;
}

my $there = [ 'action 01 /out', 'action 02 /in' ];
my $tried = [ 'branch_type=try 01 /out_try', 'branch_type=try 02 /in_try' ];

my $saga = scenario('saga', ['saga'], status => 'succeed', calls => $there,
	also => sub { like($_[0]{gid}, qr/^.{22}$/, 'mustGenGid'); });
$service->script('/out', { query => { op => 'action' }, answers => [ { gate => 'twice' } ] });
scenario('saga that is submitted twice', ['saga_twice'], status => 'succeed', calls => $there,
	then => sub { $service->open_gate('twice'); });
scenario('saga that is submitted again after its end: axios raises', [ 'saga', gid => $saga->{gid} ], http => 409,
	calls => $there, also => sub {
		is($_[0]{answer}{dtm_result}, 'FAILURE', 'dtm_result');
		like($_[0]{answer}{message}, qr/current status 'succeed'.* FAILURE$/, 'message');
	});
scenario('concurrent saga', ['saga_concurrent'], status => 'succeed', any_order => 1,
	calls => [ sort @$there, 'action 03 /mail' ],
	also => sub { is(($service->calls(gid => $_[0]{gid}))[2]{path}, '/mail', 'the third after both others'); });
subtest 'one after the other' => sub {
	my $result = transact('many', count => 20);

	is($result->{raised}, undef, 'no error');
	is(scalar @{ $result->{gids} }, 20, 'all were taken');
	wait_for($node, "SELECT count(*) FROM dtm.transactions WHERE status = 'succeed' AND gid IN ("
		  . join(', ', map { sql_literal($_) } @{ $result->{gids} }) . ')', 20, name => 'all have succeeded');
};
$service->script('/in', { query => { op => 'action' }, then => { status => 409, body => { error => 'no' } } });
scenario('saga that is refused', ['saga'], status => 'failed',
	calls => [ @$there, 'compensate 02 /in_undo', 'compensate 01 /out_undo' ]);
$service->reset;

scenario('message', ['msg'], status => 'succeed', calls => ['action 01 /in']);
scenario('message with a delay', ['msg_delay'], status => 'succeed', calls => ['action 01 /in'], also => sub {
	is($node->safe_psql('postgres', "SELECT b.finished_at >= t.created_at + interval '900 ms' FROM dtm.branches b"
		  . " JOIN dtm.transactions t USING (gid) WHERE gid = '$_[0]{gid}' AND op = 'action'"), 't', 'it has waited');
});
# the SDK's own limit is in milliseconds, the server's in seconds, and the number is the same
scenario('message with a time-out of 5000', ['msg_timeout'], status => 'succeed', calls => ['action 01 /in']);

scenario('TCC', ['tcc'], status => 'succeed', calls => [ @$tried, 'confirm 02 /in_confirm', 'confirm 01 /out_confirm' ],
	also => sub { is($_[0]{returned}, $_[0]{gid}, 'returns the gid'); });
my $aborted = scenario('TCC that is given up', [ 'tcc', fail => 1 ], status => 'failed',
	calls => [ @$tried, 'cancel 02 /in_cancel', 'cancel 01 /out_cancel' ],
	also => sub { is($_[0]{returned}, '', 'returns nothing'); });
scenario('nested TCC', [ 'tcc', nested => 1 ], status => 'succeed',
	calls => [ 'branch_type=try 01 /out_try', 'branch_type=try 0101 /in_try', 'confirm 0101 /in_confirm',
		'confirm 01 /out_confirm' ]);
scenario('a branch of a TCC that is over', [ 'tcc_late', gid => $aborted->{gid} ], http => 409, also => sub {
	is(scalar(() = $service->calls(path => '/out_try', gid => $aborted->{gid})), 1, 'its Try is not called');
});

my $token = $node->safe_psql('postgres', "SELECT dtm_http_token_create('shop', 'node')");
$node->safe_psql('postgres', "ALTER SYSTEM SET dtm.http_anonymous = off");
$node->reload;
wait_until(sub { return (dtm_request($node, GET => '/newGid'))[0] == 401; }, 'a token is needed');
scenario('saga without a token', [ 'saga', gid => 'no-token' ], http => 401, calls => []);
for my $mode (qw(saga msg tcc))
{
	scenario("$mode with a token", [ $mode, token => $token ], status => 'succeed', also => sub {
		my @calls = $service->calls(gid => $_[0]{gid});

		is_deeply([ grep { join(' ', keys %{ $_->{headers} }) =~ /authorization/i } @calls ], [],
			'the service has not seen it');
	});
}
done_testing();
