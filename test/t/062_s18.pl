# -------------------------------------------------------------------------
#
# 062_s18.pl
#		Scenario S18, the anomalies that the barrier is for: (a) a delivery that
#		comes twice at the same time, (b) a compensation that overtakes its
#		action, (c) the action that comes after all.  With the functions, and
#		with services that get the calls over HTTP.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use HTTP::Tiny;
use IPC::Open2;
use ShopFixture;
use Test::More;

my $node = new_node();
my $shop = ShopFixture->new($node);
my $service = $shop->service;

sub value { return $shop->value($_[0]); }

# A session that is told what to do, line by line; what it says comes one line at a time.
sub session
{
	my ($name) = @_;
	local $ENV{PGAPPNAME} = $name;
	my $pid = open2(my $out, my $in, 'psql', '-XAtq', '-d', $node->connstr('postgres'));

	return { pid => $pid, out => $out, in => $in, name => $name };
}

sub enter
{
	my ($session, $sql) = @_;

	print { $session->{in} } "$sql\n";
	$session->{in}->flush;
	return;
}

sub answer
{
	my ($session) = @_;
	local $SIG{ALRM} = sub { die "session \"$session->{name}\" does not answer" };
	alarm 60;
	my $line = readline $session->{out};
	alarm 0;
	chomp $line if defined $line;
	return $line;
}

sub leave
{
	my ($session) = @_;

	close $session->{in};
	close $session->{out};
	waitpid $session->{pid}, 0;
	return;
}

my $take = 'UPDATE stock SET quantity = quantity - 2, sold = sold + 2';

# ---- (a) with the functions

for my $end (qw(COMMIT ROLLBACK))
{
	my $first = session("first $end");
	my $second = session("second $end");

	enter($first, "BEGIN; SELECT dtm_barrier('saga', 'a-$end', '01', 'action'); $take;");
	is(answer($first), 't', 'first delivery: run');
	enter($second, "BEGIN; SELECT dtm_barrier('saga', 'a-$end', '01', 'action');");
	wait_for($node, "SELECT wait_event_type FROM pg_stat_activity WHERE application_name = 'second $end'", 'Lock',
		name => 'the second one waits for it');
	enter($first, "$end;");
	is(answer($second), $end eq 'COMMIT' ? 'f' : 't',
		$end eq 'COMMIT' ? 'and is a no-op' : 'and runs, when the first was rolled back');
	enter($second, $end eq 'COMMIT' ? 'COMMIT;' : "$take; COMMIT;");
	leave($_) for $first, $second;
}
is($shop->books, '96 sold 4, balance 1000, points 0', 'one effect of each');
value('UPDATE stock SET quantity = 100, sold = 0');

# the action and its compensation at the same time
{
	my $action = session('action');
	my $undo = session('undo');

	enter($action, "BEGIN; SELECT dtm_barrier('tcc', 'a-both', '01', 'try');");
	is(answer($action), 't', 'a Try that takes its time');
	enter($undo, "BEGIN; SELECT dtm_barrier('tcc', 'a-both', '01', 'cancel');");
	wait_for($node, "SELECT wait_event_type FROM pg_stat_activity WHERE application_name = 'undo'", 'Lock',
		name => 'its Cancel waits');
	enter($action, 'COMMIT;');
	is(answer($undo), 't', 'and has something to undo');
	enter($undo, 'COMMIT;');
	leave($_) for $action, $undo;
}

# ---- (b) and (c) with the functions, in all their forms

my %forms = (
	arguments => sub { return "dtm_barrier('$_[0]', '$_[1]', '01', '$_[2]')" },
	url => sub { return "dtm_barrier('http://h/x?gid=$_[1]&trans_type=$_[0]&branch_id=01&op=$_[2]')" },
	query => sub { return "dtm_barrier('branch_id=01&gid=$_[1]&op=$_[2]&trans_type=$_[0]&x=1')" });
for my $case ([qw(saga action compensate)], [qw(tcc try cancel)], [qw(xa action rollback)])
{
	my ($type, $forward, $undo) = @$case;

	for my $form (sort keys %forms)
	{
		my $gid = "bc-$type-$form";

		is(value('SELECT ' . $forms{$form}->($type, $gid, $undo)), 'f', "$type, $form: $undo before $forward is a no-op");
		is(value("SELECT string_agg(op || ' ' || reason, ', ' ORDER BY op) FROM dtm.barrier WHERE gid = '$gid'"),
			join(', ', sort "$forward $undo", "$undo $undo"), "$type, $form: and leaves its mark");
		is(value('SELECT ' . $forms{$form}->($type, $gid, $forward)), 'f', "$type, $form: the late $forward is one too");
		is(value('SELECT ' . $forms{$form}->($type, $gid, $undo)), 'f', "$type, $form: and the $undo again");

		is(value('SELECT ' . $forms{$form}->($type, "$gid-2", $forward)), 't', "$type, $form: in order: $forward runs");
		is(value('SELECT ' . $forms{$form}->($type, "$gid-2", $forward)), 'f', "$type, $form: once");
		is(value('SELECT ' . $forms{$form}->($type, "$gid-2", $undo)), 't', "$type, $form: $undo runs");
		is(value('SELECT ' . $forms{$form}->($type, "$gid-2", $undo)), 'f', "$type, $form: once");
	}
}

# one statement behind the barrier
my $request = 'gid=run&trans_type=saga&branch_id=01&op=';
is(value("SELECT dtm_barrier_run('${request}compensate', \$\$$take\$\$) IS NULL"), 't', 'dtm_barrier_run: skipped');
is(value("SELECT dtm_barrier_run('${request}action', \$\$$take\$\$) IS NULL"), 't', 'the late action too');
is(value("SELECT dtm_barrier_run('gid=run2&trans_type=saga&branch_id=01&op=action',"
		  . " 'UPDATE stock SET quantity = quantity - \$1::int, sold = sold + \$1::int', '2')"), 1, 'else it runs');
is(value("SELECT dtm_barrier_run('gid=run2&trans_type=saga&branch_id=01&op=compensate',"
		  . " 'UPDATE stock SET quantity = quantity + \$1::int, sold = sold - \$1::int', '2')"), 1, 'and is undone');
is($shop->books, '100 sold 0, balance 1000, points 0', 'stock unchanged');

# what the barrier let through and the business refused is as if it had not come
is(value("DO \$\$ BEGIN PERFORM dtm_barrier('saga', 'refused', '01', 'action'); PERFORM 1 / 0;"
		  . " EXCEPTION WHEN division_by_zero THEN NULL; END \$\$; SELECT dtm_barrier('saga', 'refused', '01', 'action')"),
	't', 'a savepoint that is rolled back takes the row with it');

# ---- the same with a service: somebody else delivers

my $http = HTTP::Tiny->new(timeout => 30);

sub deliver
{
	my ($gid, $branch_id, $op, $path, $body) = @_;
	my $answer = $http->post($service->url("/effect/$path?branch_id=$branch_id&gid=$gid&op=$op&trans_type=saga"),
		{ content => $body });

	return $answer->{status};
}

my $payload = '{"gid": "direct", "order": 1, "qty": 2, "amount": 10}';

# (a) two at the same time, by two processes
my @pids = map {
	my $pid = fork;
	die "fork: $!" unless defined $pid;
	if (!$pid)
	{
		require POSIX;
		POSIX::_exit(deliver('direct', '01', 'action', 'stock/deduct', $payload) == 200 ? 0 : 1);
	}
	$pid;
} 1 .. 4;
my $bad = 0;
for my $pid (@pids)
{
	waitpid $pid, 0;
	$bad++ if $?;
}
is($bad, 0, 'four deliveries at once are all answered with success');
is(scalar($service->calls(gid => 'direct')), 4, 'they all arrived');
is($shop->books, '98 sold 2, balance 1000, points 0', 'one effect');
is(deliver('direct', '01', 'compensate', 'stock/restore', $payload), 200, 'undone');
is(deliver('direct', '01', 'compensate', 'stock/restore', $payload), 200, 'and again');
is(deliver('direct', '01', 'action', 'stock/deduct', $payload), 200, 'and done once more, late');
is($shop->books, '100 sold 0, balance 1000, points 0', 'stock unchanged');

# (b), (c)
is(deliver('direct', '02', 'compensate', 'stock/restore', $payload), 200, 'compensation first: success');
is(deliver('direct', '02', 'action', 'stock/deduct', $payload), 200, 'the late action: success');
is($shop->books, '100 sold 0, balance 1000, points 0', 'no effect of either');

# ---- a whole saga, and every delivery of it once more, in the wrong order

$shop->submit('replay', [ ('http') x 5 ], { order => 7, qty => 3, amount => 30 });
wait_status($node, 'replay', 'succeed');
my $books = $shop->books;
my @again = reverse $service->calls(gid => 'replay');
is(deliver('replay', $_->{query}{branch_id}, $_->{query}{op}, $_->{path} =~ s{^/effect/}{}r, $_->{body}), 200,
	"$_->{path} again") for @again;
is($shop->books, $books, 'nothing happens twice');

# the coordinator's own barrier row of a sql: branch keeps a late run out as well
$shop->submit('replaysql', [ ('sql') x 5 ], { order => 8, qty => 1, amount => 10 });
wait_status($node, 'replaysql', 'succeed');
is(value("SELECT count(*) FROM dtm.barrier WHERE gid = 'replaysql' AND op = 'action' AND reason = 'action'"), 5,
	'a sql: branch leaves a row in dtm.barrier too');
my ($rc, $stdout, $stderr) = $node->psql('postgres', "SELECT dtm_barrier('saga', 'replaysql', '01', 'action', 'sql')");
like($stderr, qr/ERROR:  "barrier_id" "sql" is reserved/, 'which nobody else may write');

$shop->check_books('after all');
$node->stop;
done_testing();
