# -------------------------------------------------------------------------
#
# go_workflow.pl
#		Workflows of DTM's Go SDK against the HTTP API: all kinds of branches,
#		rollback, stored results, resumption; and scenario S16: the process
#		that runs the workflow is killed after each of its steps.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use DtmInterop;
use DtmTest;
use GoShop;
use HTTP::Tiny;
use JSON::PP;
use MIME::Base64;
use Test::More;

# On a busy machine, too, a workflow is to reach its end or its stop before it is
# resumed: then its steps are called once.
my $shop = GoShop->new('go_workflow', conf => "dtm.request_timeout = '20s'\ndtm.retry_interval = '3s'");
my $node = $shop->node;
my $held = build_dir('go') . "/held.$$";
# who takes part, and who runs the workflows: only the second one is killed
my $parties = $shop->serve('parties', '--hold-until', $held);
my $port = free_port();
my $flow = start_flow('flow');
my %standard = (product => 1, qty => 2, user => 1, amount => 100);

sub start_flow
{
	my ($name, @flags) = @_;

	return $shop->serve($name, '--listen', "127.0.0.1:$port", '--rm', $shop->rm, @flags);
}

sub address
{
	my ($workflow, $gid) = @_;

	return "http://127.0.0.1:$port/workflow/execute?name=$workflow&gid=$gid";
}

sub input { return encode_json({ %standard, @_ }); }

# Run a workflow: (HTTP status, its result or the text of its error).
sub execute
{
	my ($workflow, $gid, %more) = @_;
	my $answer = HTTP::Tiny->new(timeout => 60)->post(address($workflow, $gid), { content => input(%more) });
	my $value = eval { decode_json($answer->{content}) } // {};

	return ($answer->{status}, $value->{result} // $value->{error} // $answer->{content});
}

# The SDK's memory of a workflow, as it is told when it begins again: "branch_id op status".
sub progresses
{
	my ($gid) = @_;
	my ($status, $value, $body) = dtm_request($node, POST => '/prepareWorkflow',
		{ gid => $gid, trans_type => 'workflow', custom_data => '{"name":"any","data":null}' });

	diag("prepareWorkflow of $gid: $status $body") if $status != 200;
	return map { "$_->{branch_id} $_->{op} $_->{status}" } @{ $value->{progresses} };
}

# ----------------------------------------------------------- all kinds of steps

my ($status, $text) = execute('mixed', 'wf-mixed');
is($status, 200, 'mixed: succeeds');
is($text, "all kinds of it: \"\x{e4}\x{f6}\x{fc}\"", 'mixed: its result');
is($shop->status('wf-mixed'), 'succeed', 'mixed: stored');
$shop->is_state('98 0 2 | 900 0', 'mixed: sold and paid');
is($shop->kept('wf-mixed'), '1 1', 'mixed: shipped, with points');
is_deeply([ $shop->calls('wf-mixed') ],
	[ 'action 01 local:/stock/deduct', 'action 02 /ship/book', 'action 03 /account/try',
		'action 04 xa:/points/add', 'commit 03 /account/confirm' ], 'mixed: each called once');
is_deeply([ progresses('wf-mixed') ],
	[ '01 action succeed', '02 action succeed', '03 action succeed', '04 business succeed',
		'04 action succeed', '04 commit succeed', '03 commit succeed' ], 'mixed: what the SDK has stored');

($status, my $again) = execute('mixed', 'wf-mixed', amount => 7);
is("$status $again", "200 $text", 'mixed: a second execution gets the stored result');
is(scalar($shop->calls('wf-mixed')), 5, 'mixed: and calls nobody');

my ($http, $value) = dtm_request($node, GET => '/query?gid=wf-mixed');
SKIP:
{
	skip 'query is not there yet', 2 if $http == 503;
	is($value->{transaction}{status}, 'succeed', 'query: the status');
	is(decode_base64($value->{transaction}{result}), "all kinds of it: \"\xc3\xa4\xc3\xb6\xc3\xbc\"", 'query: the result');
}

# ------------------------------------------------------------------- roll back

$shop->fresh;
($status, $text) = execute('mixed', 'wf-back', fail => 'xa');
is($status, 409, 'rolled back: FAILURE');
like($text, qr/no points.*FAILURE/, 'rolled back: the error of the step');
is($shop->status('wf-back'), 'failed', 'rolled back: stored');
like($shop->reason('wf-back'), qr/no points/, 'rolled back: with its reason');
$shop->is_state('100 0 0 | 1000 0', 'rolled back: as before');
is($shop->kept('wf-back'), '0 0', 'rolled back: no shipment, no points');
is_deeply([ $shop->calls('wf-back', where => "op = 'rollback'") ],
	[ 'rollback 03 /account/cancel', 'rollback 02 /ship/cancel', 'rollback 01 local:/stock/return' ],
	'rolled back: backwards');
is_deeply([ grep { /^04/ } progresses('wf-back') ], [ '04 action failed', '04 rollback succeed' ],
	'rolled back: what the SDK has stored of the XA step');
($status, $text) = execute('mixed', 'wf-back');
is($status, 409, 'rolled back: a second execution fails as well');
like($text, qr/no points.*FAILURE/, 'rolled back: with the stored reason');

($status, $text) = execute('mixed', 'wf-try', amount => 5000);
is($status, 409, 'refused try: FAILURE');
is_deeply([ $shop->calls('wf-try', where => "op = 'rollback'") ],
	[ 'rollback 02 /ship/cancel', 'rollback 01 local:/stock/return' ], 'refused try: it is not cancelled');
($status, $text) = execute('order', 'wf-first', fail => 'local');
is($status, 409, 'refused first step: FAILURE');
is_deeply([ progresses('wf-first') ], ['01 action failed'], 'refused first step: nothing to roll back');
$shop->is_state('100 0 0 | 1000 0', 'refused: as before');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'refused: nothing stays prepared');

# ---------------------------------------------------------------------- resume

($status, $text) = execute('order', 'wf-late', pay => 'ongoing=1', ship => 'error=1');
is($status, 425, 'ongoing step: ONGOING in the client');
is($shop->status('wf-late'), 'prepared', 'ongoing step: not yet decided');
wait_status($node, 'wf-late', 'succeed');
is_deeply([ $shop->calls('wf-late') ],
	[ 'action 01 local:/stock/deduct', 'action 02 /account/pay', 'order 00 /workflow/resume', 'action 02 /account/pay',
		'action 03 /ship/book', 'order 00 /workflow/resume', 'action 03 /ship/book', 'action 04 xa:/points/add' ],
	'ongoing step: resumed twice, without what was done');
$shop->is_state('98 0 2 | 900 0', 'ongoing step: sold and paid');
($status, $text) = execute('order', 'wf-late');
like($text, qr{^local /stock/deduct, \{"branch":"02","done":"/account/pay"\}, \{"branch":"03".*\}, points$},
	'ongoing step: the result has the answers of all steps');

# a workflow that nobody has registered stays, and can be stopped
($status, $value) = dtm_request($node, POST => '/prepareWorkflow', { gid => 'wf-unknown', trans_type => 'workflow',
	query_prepared => "http://127.0.0.1:$port/workflow/resume", custom_data => '{"name":"nobody","data":"e30="}' });
is($status, 200, 'unregistered: stored');
wait_until(sub { return scalar($shop->calls('wf-unknown')) >= 2 }, 'unregistered: resumed again and again');
is(($shop->calls('wf-unknown'))[0], 'nobody 00 /workflow/resume', 'unregistered: by its name');
($status) = dtm_request($node, POST => '/forceStop', { gid => 'wf-unknown' });
is($status, 200, 'unregistered: stopped');
is($shop->status('wf-unknown'), 'failed', 'unregistered: failed');

# ------------------------------------------------------------------------- S16

# The shipping is to be called by gRPC once dtm_pg has it; here by HTTP.
my @steps = ('action 01 local:/stock/deduct', 'action 02 /account/pay', 'action 03 /ship/book', 'action 04 xa:/points/add');
my @memory = ([ '01 action succeed' ], [ '02 action succeed' ], [ '03 action succeed' ],
	[ '04 business succeed', '04 action succeed' ]);

for my $n (1 .. 4)
{
	my $gid = "s16-$n";

	$shop->fresh;
	$flow->kill('KILL');
	$flow = start_flow("flow that stops after step $n", '--stop-after', $n);
	my $client = start_program('execute', [ 'curl', '-s', '-d', input(), address('order', $gid) ]);
	$flow->wait_output(qr/^stopped: $gid after step $n$/m, "$gid: step $n is done");
	is_deeply([ progresses($gid) ], [ map { @$_ } @memory[ 0 .. $n - 1 ] ], "$gid: stored so far");
	is_deeply([ $shop->calls($gid, where => "path <> '/workflow/resume'") ], [ @steps[ 0 .. $n - 1 ] ], "$gid: called so far");
	$flow->kill('KILL');
	$client->finish(20);
	is($shop->status($gid), 'prepared', "$gid: killed, not decided");
	$flow = start_flow('flow again');
	wait_status($node, $gid, 'succeed');
	is_deeply([ $shop->calls($gid, where => "path <> '/workflow/resume'") ], \@steps, "$gid: no step was done twice");
	cmp_ok(scalar($shop->calls($gid, where => "path = '/workflow/resume'")), '>=', 1, "$gid: resumed");
	is_deeply([ progresses($gid) ], [ (map { @$_ } @memory), '04 commit succeed' ], "$gid: one progress for each step");
	$shop->is_state('98 0 2 | 900 0', "$gid: sold and paid once");
	is($shop->kept($gid), '1 1', "$gid: shipped once, points once");
}

# Worse: the payment has taken place and its answer is lost with the process.
$shop->fresh;
my $client = start_program('execute', [ 'curl', '-s', '-d', input(pay => 'hold=1'), address('order', 's16-lost') ]);
wait_until(sub { return $shop->state eq '98 0 2 | 900 0' }, 's16-lost: paid, and not answered');
$flow->kill('KILL');
$client->finish(20);
is_deeply([ progresses('s16-lost') ], ['01 action succeed'], 's16-lost: the payment is not stored');
open my $file, '>', $held or die "$held: $!";
close $file;
$flow = start_flow('flow after the loss');
wait_status($node, 's16-lost', 'succeed');
is(scalar($shop->calls('s16-lost', where => "path = '/account/pay'")), 2, 's16-lost: the payment was asked for again');
is(scalar($shop->calls('s16-lost', where => "path LIKE 'local:%'")), 1, 's16-lost: the local step was not');
$shop->is_state('98 0 2 | 900 0', 's16-lost: paid once');

# The database is gone and comes back while a workflow stands.
$shop->fresh;
$flow->kill('KILL');
$flow = start_flow('flow that outlives the server', '--stop-after', 2);
$client = start_program('execute', [ 'curl', '-s', '-d', input(), address('order', 's16-server') ]);
$flow->wait_output(qr/^stopped: s16-server/m, 's16-server: step 2 is done');
immediate_stop_start($node);
wait_port($node);
$flow->kill('KILL');
$client->finish(20);
$flow = start_flow('flow after the crash');
wait_status($node, 's16-server', 'succeed');
is_deeply([ $shop->calls('s16-server', where => "path <> '/workflow/resume'") ], \@steps, 's16-server: no step was done twice');
$shop->is_state('98 0 2 | 900 0', 's16-server: sold and paid once');

unlink $held;
$shop->is_quiet;
done_testing();
