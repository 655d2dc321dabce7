# -------------------------------------------------------------------------
#
# java.pl
#		DTM's Java SDK (dtmcli-java, as it is published) against the HTTP API:
#		sagas and TCC, with the barrier of examples/java on dtm.barrier.
#
# Maven fetches the jars, javac builds java/*.java; Interop.java does what is
# asked for here, Business.java are the services.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use DtmTest;
use DtmInterop;
use HTTP::Tiny;
use JSON::PP;
use Test::More;

# ---------------------------------------------------------------- build

my ($java, $javac, $mvn) = map { need_tool($_) } qw(java javac mvn);
my $source = "$FindBin::Bin/java";
my ($cache, $build) = (cache_dir('java'), build_dir('java'));

# releases only: what is in the cache is not asked for again, and a second run needs no network
run_step('Maven fetches the SDK',
	[ $mvn, '-q', '-B', "-Dmaven.repo.local=$cache/repository", "-Dinterop.build=$build", '-f', "$source/pom.xml", 'validate' ],
	missing => 'the SDK from the Maven repository', timeout => 600);
run_step('javac',
	[ $javac, '-proc:none', '-Xlint:all', '-Werror', '-d', "$build/classes", '-cp', "$build/lib/*",
		glob("$source/*.java"), "$FindBin::Bin/../../examples/java/PostgresBarrier.java" ])
  // die 'the program does not compile';

# ---------------------------------------------------------------- start

my $node = interop_node(name => 'java', tcp => 1, conf => "dtm.request_timeout = '3s'");

$node->safe_psql('postgres', q{
	GRANT USAGE ON SCHEMA dtm TO shop;
	GRANT SELECT, INSERT ON dtm.barrier TO shop;
	GRANT USAGE ON SEQUENCE dtm.barrier_seq TO shop;
	SET ROLE shop;
	CREATE TABLE account (name text PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0),
		frozen int NOT NULL DEFAULT 0);
	CREATE TABLE call (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
		gid text, branch_id text, op text, method text, path text, query text, note text, body text);
});

my $program = start_program('java',
	[ $java, '-cp', "$build/classes:$build/lib/*", 'Interop', dtm_address($node),
		'jdbc:postgresql://127.0.0.1:' . $node->port . '/postgres?user=shop' ],
	ready => qr/^port (\d+)/m);
my $http = HTTP::Tiny->new(timeout => 60);

# Ask the program for something; what it answers.
sub ask
{
	my (%what) = @_;
	my $answer = $http->post('http://127.0.0.1:' . $program->match . '/', { content => encode_json(\%what) });

	die "the program does not answer: $answer->{status} $answer->{content}" unless $answer->{success};
	return decode_json($answer->{content});
}

my $services = ask(do => 'url')->{url};

sub value { return $node->safe_psql('postgres', "SET search_path = shop, public; $_[0]"); }

# Two accounts of their own for a transaction.
sub accounts
{
	my ($name, $balance) = @_;

	value("INSERT INTO account VALUES ('$name.a', $balance), ('$name.b', 0)");
	return;
}

# "a|b" of the two, and what is frozen there.
sub money
{
	my ($name) = @_;

	return join ' ', split /\n/, value("SELECT balance || '/' || frozen FROM account WHERE name IN ('$name.a', '$name.b') ORDER BY name");
}

sub step
{
	my ($account, $op, %opts) = @_;
	my ($action, $compensate) = @opts{qw(action compensate)};

	return { action => $action // "/$op", compensate => $compensate // "/${op}Back",
		payload => { account => $account, amount => $opts{amount} // 30 } };
}

sub transfer { return [ step("$_[0].a", 'out'), step("$_[0].b", 'in') ]; }

# What was called, in order.
sub calls
{
	my ($gid, $columns, $where) = @_;

	$columns //= "op || ' ' || branch_id || ' ' || path";
	return split /\n/, value("SELECT $columns FROM call WHERE gid = '$gid' AND " . ($where // 'true') . ' ORDER BY id');
}

# "branch op reason", as the barrier has them.
sub barrier
{
	my ($gid) = @_;

	return rows($node, "SELECT branch_id || ' ' || op || ' ' || barrier_id || ' ' || reason FROM dtm.barrier WHERE gid = '$gid' ORDER BY branch_id, op");
}

sub branches
{
	my ($gid) = @_;

	return join ' ', rows($node, "SELECT branch_id || op || ':' || status FROM dtm.branches WHERE gid = '$gid' ORDER BY branch_id, op");
}

# ---------------------------------------------------------------- ping, newGid

{
	my $answer = ask(do => 'ping');
	ok(!exists $answer->{error}, 'ping') or diag(explain($answer));
	$answer = ask(do => 'newGid');
	is($answer->{dtm_result}, 'SUCCESS', 'newGid says SUCCESS');
	like($answer->{gid}, qr/^\S{10,128}$/, 'newGid has a gid');
	isnt(ask(do => 'newGid')->{gid}, $answer->{gid}, 'newGid has another one each time');
}

# ---------------------------------------------------------------- saga

{
	accounts('good', 100);
	my $answer = ask(do => 'saga', record => JSON::PP::true, steps => transfer('good'));
	my $gid = $answer->{gid} // diag(explain($answer));
	wait_status($node, $gid, 'succeed');
	is(money('good'), '70/0 30/0', 'saga: the money has moved');
	is_deeply([ calls($gid) ], [ 'action 01 /out', 'action 02 /in' ], 'saga: each called once, in order');
	is_deeply([ calls($gid, "method || ' ' || (body::jsonb = jsonb_build_object('account', CASE branch_id WHEN '01' THEN 'good.a' ELSE 'good.b' END, 'amount', 30))") ],
		[ 'POST true', 'POST true' ], 'saga: each with its payload');
	is_deeply([ barrier($gid) ], [ '01 action 01 action', '02 action 01 action' ], 'saga: the rows of the barrier');
	is(value("SELECT trans_type || ' ' || status FROM dtm.transactions WHERE gid = '$gid'"), 'saga succeed', 'saga: as the views show it');

	my ($sent) = grep { $_->{uri} =~ /submit$/ && $_->{body} =~ /$gid/ } @{ ask(do => 'recorded')->{requests} };
	is(() = ($sent->{body} =~ /"subType"/g), 2, 'saga: the SDK still sends its type tag twice');
	like($sent->{body}, qr/^\{\n/, 'saga: and with line breaks');
	is($sent->{status}, 200, 'saga: which is accepted');
}

{
	accounts('waited', 100);
	my $answer = ask(do => 'saga', gid => 'waited', wait => JSON::PP::true, steps => transfer('waited'));
	is($answer->{gid}, 'waited', 'saga, waiting: a gid of our own');
	is(value("SELECT dtm_status('waited')"), 'succeed', 'saga, waiting: finished when submit comes back');
	is(money('waited'), '70/0 30/0', 'saga, waiting: the money has moved');
}

{
	accounts('poor', 10);
	my $answer = ask(do => 'saga', gid => 'poor', wait => JSON::PP::true,
		steps => [ step('poor.b', 'in'), step('poor.a', 'out') ]);
	like($answer->{error} // '', qr/FailureException/, 'saga refused, waiting: the SDK throws');
	like($answer->{cause} // '', qr/\b409\b.*not enough money/s, 'saga refused, waiting: with the words of the service');
	wait_status($node, 'poor', 'failed');
	is(money('poor'), '10/0 0/0', 'saga refused: all is as before');
	is_deeply([ calls('poor') ],
		[ 'action 01 /in', 'action 02 /out', 'compensate 02 /outBack', 'compensate 01 /inBack' ],
		'saga refused: compensated backwards, the refusing branch as well');
	is_deeply([ barrier('poor') ],
		[ '01 action 01 action', '01 compensate 01 compensate', '02 action 01 compensate', '02 compensate 01 compensate' ],
		'saga refused: what it did was undone, what it did not do was not');
	is(branches('poor'), '01action:succeed 01compensate:succeed 02action:failed 02compensate:succeed',
		'saga refused: as the views show it');
}

{
	accounts('many', 100);
	my $answer = ask(do => 'saga', gid => 'many', concurrent => JSON::PP::true, wait => JSON::PP::true,
		orders => { 2 => [ 0, 1 ], 3 => [2] },
		steps => [ step('many.a', 'out', action => '/meet-2/out'), step('many.a', 'out', action => '/meet-2/out'),
			step('many.b', 'in'), step('many.b', 'in') ]);
	is($answer->{gid}, 'many', 'concurrent saga: succeeds: two steps were out at once') or diag(explain($answer));
	my @order = calls('many', 'branch_id');
	is_deeply([ sort @order[0, 1] ], [ '01', '02' ], 'concurrent saga: those without order first');
	is_deeply([ @order[2 .. $#order] ], [ '03', '04' ], 'concurrent saga: the others after what they wait for');
	is(money('many'), '40/0 60/0', 'concurrent saga: the money has moved');
}

{
	accounts('undo', 100);
	my $answer = ask(do => 'saga', gid => 'undo', concurrent => JSON::PP::true, orders => { 2 => [ 0, 1 ] },
		steps => [ step('undo.a', 'out'), step('undo.b', 'in'), step('undo.b', 'in', action => '/refuse/in') ]);
	is($answer->{gid}, 'undo', 'concurrent saga refused: submit does not wait');
	wait_status($node, 'undo', 'failed');
	is(money('undo'), '100/0 0/0', 'concurrent saga refused: all is as before');
	is((calls('undo', 'branch_id', "op = 'compensate'"))[0], '03', 'concurrent saga refused: compensated against the order');
	is_deeply([ sort(calls('undo', 'branch_id', "op = 'compensate'")) ], [qw(01 02 03)], 'concurrent saga refused: each compensated once');
}

{
	accounts('note', 100);
	ask(do => 'saga', gid => 'note', options => { retry_interval => 1 }, note => 'from Java',
		steps => [ step('note.a', 'out', action => '/flaky-2/out?kept=this'), step('note.b', 'in', action => '/ongoing-1/in') ]);
	wait_status($node, 'note', 'succeed');
	is(money('note'), '70/0 30/0', 'options: done once, however often called');
	is_deeply([ calls('note', 'branch_id') ], [qw(01 01 01 02 02)], 'options: called again after 500 and after 425');
	is(join(',', do { my %seen; grep { !$seen{$_}++ } calls('note', 'note') }), 'from Java', 'options: branch_headers reach every call');
	like((calls('note', 'query'))[0], qr/^kept=this&/, "options: the URL's own query is kept");
}

{
	accounts('slow', 100);
	my $answer = ask(do => 'saga', gid => 'slow', options => { timeout_to_fail => 2, retry_interval => 1 },
		steps => [ step('slow.a', 'out'), step('slow.b', 'in', action => '/ongoing-1000/in') ]);
	wait_status($node, 'slow', 'failed');
	is(money('slow'), '100/0 0/0', 'timeout_to_fail: all is as before');
	like(value("SELECT rollback_reason FROM dtm.transactions WHERE gid = 'slow'"), qr/Timeout after 2 seconds/, 'timeout_to_fail: the reason');
}

# ---------------------------------------------------------------- tcc

sub branch
{
	my ($account, $op, %opts) = @_;

	return { try => $opts{try} // "/try$op", confirm => $opts{confirm} // "/confirm$op", cancel => $opts{cancel} // "/cancel$op",
		payload => { account => $account, amount => 30 } };
}

{
	accounts('tcc', 100);
	my $answer = ask(do => 'tcc', record => JSON::PP::true, branches => [ branch('tcc.a', 'Out'), branch('tcc.b', 'In') ]);
	my $gid = $answer->{gid} // diag(explain($answer));
	wait_status($node, $gid, 'succeed');
	is(money('tcc'), '70/0 30/0', 'tcc: the money has moved');
	is_deeply([ calls($gid) ],
		[ 'try 01 /tryOut', 'try 02 /tryIn', 'confirm 02 /confirmIn', 'confirm 01 /confirmOut' ],
		'tcc: confirmed in reverse order');
	my @sent = grep { $_->{uri} =~ /registerBranch$/ && $_->{body} =~ /$gid/ } @{ ask(do => 'recorded')->{requests} };
	is(scalar @sent, 2, 'tcc: two branches registered');
	is(() = ($sent[0]{body} =~ /"subType"/g), 2, 'tcc: the SDK still sends its type tag twice');
	is($sent[0]{answer} && decode_json($sent[0]{answer})->{dtm_result}, 'SUCCESS', 'tcc: which is accepted');
	is(branches($gid), '01cancel:prepared 01confirm:succeed 02cancel:prepared 02confirm:succeed', 'tcc: as the views show it')
	  or diag(branches($gid));

	$answer = ask(do => 'late branch', gid => $gid, %{ branch('tcc.a', 'Out') });
	like($answer->{error}, qr/\b409\b.*FAILURE/s, 'tcc: a branch that comes when all is over is refused');
	is_deeply([ calls($gid, 'op', "branch_id = '03'") ], [], 'tcc: and its try not called');
}

{
	accounts('tccno', 10);
	my $answer = ask(do => 'tcc', gid => 'tccno', branches => [ branch('tccno.b', 'In'), branch('tccno.a', 'Out') ]);
	like($answer->{error} // '', qr/FailureException/, 'tcc refused: the SDK throws');
	wait_status($node, 'tccno', 'failed');
	is(money('tccno'), '10/0 0/0', 'tcc refused: all is as before');
	is_deeply([ calls('tccno') ], [ 'try 01 /tryIn', 'try 02 /tryOut', 'cancel 02 /cancelOut', 'cancel 01 /cancelIn' ],
		'tcc refused: cancelled in reverse order, the refusing branch as well');
	is_deeply([ barrier('tccno') ], [ '01 cancel 01 cancel', '01 try 01 try', '02 cancel 01 cancel', '02 try 01 cancel' ],
		'tcc refused: what it did was undone, what it did not do was not');
}

{
	accounts('thrown', 100);
	my $answer = ask(do => 'tcc', gid => 'thrown', throw => 'we think better of it', branches => [ branch('thrown.a', 'Out') ]);
	like($answer->{error} // '', qr/we think better of it/, 'tcc thrown: the SDK passes it on');
	wait_status($node, 'thrown', 'failed');
	is(money('thrown'), '100/0 0/0', 'tcc thrown: cancelled');
}

{
	accounts('again', 100);
	my %register = (do => 'registerBranch', gid => 'again', branch_id => '01', %{ branch('again.a', 'Out') });

	is(ask(do => 'prepare', gid => 'again')->{dtm_result}, 'SUCCESS', 'by hand: prepare');
	is(ask(do => 'prepare', gid => 'again')->{dtm_result}, 'SUCCESS', 'by hand: prepare again');
	is(ask(%register)->{dtm_result}, 'SUCCESS', 'by hand: registerBranch');
	like(ask(%register)->{error}, qr/\b500\b/, 'by hand: the same branch again is refused');
	like(ask(do => 'abort', gid => 'nobody')->{error}, qr/\b500\b.*no TransGlobal/s, 'by hand: abort of what is not there');
	is(ask(do => 'submit', gid => 'again')->{dtm_result}, 'SUCCESS', 'by hand: submit');
	wait_status($node, 'again', 'succeed');
	like(ask(do => 'submit', gid => 'again')->{error}, qr/\b409\b.*'succeed'.*FAILURE/s, 'by hand: submit of what is final');
	like(ask(do => 'abort', gid => 'again')->{error}, qr/\b409\b.*FAILURE/s, 'by hand: abort of what is final');
	like(ask(do => 'prepare', gid => 'again')->{error}, qr/\b409\b.*FAILURE/s, 'by hand: prepare of what is final');

	# begun over the wire, ended by SQL
	is(ask(do => 'prepare', gid => 'sql')->{dtm_result}, 'SUCCESS', 'SQL and wire: prepare by the SDK');
	accounts('sql', 100);
	is(ask(%register, gid => 'sql', payload => { account => 'sql.a', amount => 30 })->{dtm_result}, 'SUCCESS', 'SQL and wire: a branch by the SDK');
	$node->safe_psql('postgres', q{SET ROLE shop; SELECT dtm_abort('sql')});
	wait_status($node, 'sql', 'failed');
	is_deeply([ calls('sql') ], ['cancel 01 /cancelOut'], 'SQL and wire: cancelled by dtm_abort');
	is(money('sql'), '100/0 0/0', 'SQL and wire: there was nothing to undo');
}

# ---------------------------------------------------------------- token

{
	$node->safe_psql('postgres', q{CREATE ROLE bank; SELECT dtm_grant('bank')});
	my $token = $node->safe_psql('postgres', q{SELECT dtm_http_token_create('bank', 'java')});

	accounts('token', 100);
	my $answer = ask(do => 'saga', gid => 'token', token => $token, wait => JSON::PP::true, steps => transfer('token'));
	is($answer->{gid}, 'token', 'token: accepted') or diag(explain($answer));
	is(value("SELECT submitted_by FROM dtm.transactions WHERE gid = 'token'"), 'bank', 'token: the transaction is its role\'s');
	$answer = ask(do => 'saga', gid => 'forged', token => "${token}x", steps => transfer('token'));
	like($answer->{cause}, qr/\b401\b/, 'token: an unknown one is refused');
	is(value("SELECT count(*) FROM dtm.transactions WHERE gid = 'forged'"), 0, 'token: and nothing stored');
	like(ask(do => 'abort', gid => 'token')->{error}, qr/\b40[39]\b/, "token: others do not steer it");
}

# ---------------------------------------------------------------- anomalies

# A call of a service as the coordinator makes it.
sub call
{
	my ($path, $gid, $op, %opts) = @_;
	my $type = $opts{type} // 'saga';

	return $http->post("$services$path?gid=$gid&trans_type=$type&branch_id=01&op=$op",
		{ content => encode_json({ account => "$gid.a", amount => 30 }) })->{status};
}

for my $case ([ 'saga', 'out', 'action', 'outBack', 'compensate' ], [ 'tcc', 'tryOut', 'try', 'cancelOut', 'cancel' ])
{
	my ($type, $do, $op, $undo, $undo_op) = @$case;
	my @type = (type => $type);

	accounts("$type-rep", 100);
	is(call("/$do", "$type-rep", $op, @type), 200, "$type: $op") for 1 .. 2;
	is(value("SELECT balance FROM account WHERE name = '$type-rep.a'"), 70, "$type: a repeated $op does it once");
	is(call("/$undo", "$type-rep", $undo_op, @type), 200, "$type: $undo_op") for 1 .. 2;
	is(money("$type-rep"), '100/0 0/0', "$type: a repeated $undo_op undoes it once");
	is(call("/$do", "$type-rep", $op, @type), 200, "$type: $op after $undo_op");
	is(money("$type-rep"), '100/0 0/0', "$type: $op after $undo_op does nothing");

	accounts("$type-null", 100);
	is(call("/$undo", "$type-null", $undo_op, @type), 200, "$type: $undo_op of what was not done");
	is(call("/$do", "$type-null", $op, @type), 200, "$type: its $op comes after all");
	is(money("$type-null"), '100/0 0/0', "$type: neither does anything");
	is_deeply([ barrier("$type-null") ], [ sort "01 $undo_op 01 $undo_op", "01 $op 01 $undo_op" ], "$type: the barrier knows why");

	accounts("$type-no", 100);
	is(call("/refuse/$do", "$type-no", $op, @type), 409, "$type: a refused $op");
	is(call("/$do", "$type-no", $op, @type), 200, "$type: leaves nothing behind: it may be tried again");
	is(value("SELECT balance FROM account WHERE name = '$type-no.a'"), 70, "$type: and does it then");
}

# End to end: the action hangs, is given up and compensated, and goes on afterwards.
{
	accounts('hang', 100);
	ask(do => 'saga', gid => 'hang', options => { timeout_to_fail => 1, retry_interval => 60 },
		steps => [ step('hang.a', 'out', action => '/gate/out') ]);
	wait_status($node, 'hang', 'failed');
	is(scalar(calls('hang', 'op', "op = 'compensate'")), 1, 'hanging: compensated while the action is at work');
	ok(!exists ask(do => 'open', gid => 'hang')->{error}, 'hanging: the action goes on');
	is(money('hang'), '100/0 0/0', 'hanging: and does nothing');
	is_deeply([ barrier('hang') ], [ '01 action 01 compensate', '01 compensate 01 compensate' ], 'hanging: the barrier knows why');
}

# ---------------------------------------------------------------- a crash in between

{
	accounts('crash', 100);
	is(ask(do => 'saga', gid => 'crash', options => { retry_interval => 1 }, steps => [ step('crash.a', 'out'), step('crash.b', 'in', action => '/flaky-2/in') ])->{gid},
		'crash', 'crash: submitted');
	immediate_stop_start($node);
	wait_status($node, 'crash', 'succeed');
	is(money('crash'), '70/0 30/0', 'crash: what was answered goes on, and is done once');
	wait_port($node);
	like(ask(do => 'newGid')->{gid}, qr/^\S+$/, 'crash: the SDK gets answers again');
}

done_testing();
