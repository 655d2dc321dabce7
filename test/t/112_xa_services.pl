# -------------------------------------------------------------------------
#
# 112_xa_services.pl
#		XA whose branches services hold: scenario S10 over two databases, a
#		client that dies, services that answer 500, first phases that come
#		late.  Nothing prepared is left at the end of any of it.
#
# This test is the client, and makes the first phase itself: business SQL and
# PREPARE TRANSACTION '<gid>-<branch_id>'.  test/service/xa.py is the second.
#
# Not here: arguments and what is refused (test/sql/register.sql).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use Cwd qw(abs_path);
use DtmSession;
use DtmTest;
use File::Basename qw(dirname);
use ShopFixture;
use Test::More;

my $node = new_node(
	conf => "dtm.retry_interval = '100ms'\ndtm.retry_max_interval = '500ms'\nmax_prepared_transactions = 20",
	fsync => 1);
my $plain = abs_path(dirname(__FILE__) . '/../../sql/dtm_barrier_plain.sql');

sub value { return $node->safe_psql('postgres', $_[0]); }

value('CREATE DATABASE shop');
value('CREATE DATABASE bank');
for my $dbname (qw(shop bank))
{
	open my $file, '<', $plain or die "$plain: $!";
	local $/;
	$node->safe_psql($dbname, scalar <$file>);
}
$node->safe_psql('shop', <<'END');
CREATE TABLE stock (quantity int CHECK (quantity >= 0));
CREATE TABLE orders (gid text, state text);
INSERT INTO stock VALUES (100);
END
$node->safe_psql('bank', <<'END');
CREATE TABLE accounts (balance int CHECK (balance >= 0));
CREATE TABLE payments (gid text, amount int);
INSERT INTO accounts VALUES (1000);
END
my $service = bless {
	port => 0, arguments => [ '--db', $node->connstr('postgres'), '--schema', 'public' ],
	program => 'xa.py' }, 'ShopFixture::Service';
$service->start;

# ---- the client

sub begin_xa
{
	my ($gid, $timeout) = @_;

	return value("SELECT dtm_xa_begin('$gid', timeout_to_fail => '" . ($timeout // '60 s') . "')");
}

sub register
{
	my ($gid, $branch_id, $dbname) = @_;

	return value("SELECT dtm_xa_register('$gid', '$branch_id', " . sql_literal($service->url("/effect/$dbname")) . ')');
}

sub business
{
	my ($gid, $dbname, $n) = @_;

	return "UPDATE stock SET quantity = quantity - $n; INSERT INTO orders VALUES ('$gid', 'paid')" if $dbname eq 'shop';
	return "UPDATE accounts SET balance = balance - $n; INSERT INTO payments VALUES ('$gid', $n)";
}

sub barrier { return "SELECT dtm_barrier('xa', '$_[0]', '$_[1]', 'action')"; }

# The first phase; undef, or why it refused.
sub first_phase
{
	my ($gid, $branch_id, $dbname, $n) = @_;
	my ($rc, $stdout, $stderr) = $node->psql($dbname, 'BEGIN; ' . barrier($gid, $branch_id) . '; ' . business($gid, $dbname, $n)
		  . "; PREPARE TRANSACTION '$gid-$branch_id'");

	return $rc == 0 ? undef : ($stderr =~ /ERROR:  (.*)/)[0];
}

sub prepared { return value(q{SELECT coalesce(string_agg(gid || ' in ' || database, ', ' ORDER BY gid), 'none') FROM pg_prepared_xacts}); }
sub reason { return value("SELECT rollback_reason FROM dtm.transactions WHERE gid = '$_[0]'"); }
sub ops { return join ', ', $service->ops(gid => $_[0]); }
my ($quantity, $balance) = (100, 1000);

# The end of each: the books of both databases, and nothing prepared.
sub clean_end
{
	my ($name, $gid, $rows) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('shop', 'SELECT quantity FROM stock') . ' '
		  . $node->safe_psql('shop', "SELECT count(*) FROM orders WHERE gid = '$gid'") . ' '
		  . $node->safe_psql('bank', 'SELECT balance FROM accounts') . ' '
		  . $node->safe_psql('bank', "SELECT count(*) FROM payments WHERE gid = '$gid'"),
		"$quantity $rows $balance $rows", "$name: the books");
	is(prepared(), 'none', "$name: nothing is left prepared");
	return;
}

wait_for($node, "SELECT count(*) FROM dtm.workers WHERE state = 'running'", '1', name => 'the coordinator is there');

# ---- S10: success

begin_xa('s10');
register('s10', '01', 'shop');
is(first_phase('s10', '01', 'shop', 2), undef, 'S10: the shop is prepared');
register('s10', '02', 'bank');
is(first_phase('s10', '02', 'bank', 60), undef, 'S10: the bank is prepared');
is(prepared(), 's10-01 in shop, s10-02 in bank', 'S10: under these gids');
is(value(q{SELECT dtm_submit('s10')}), 'submitted', 'S10: decided');
wait_status($node, 's10', 'succeed');
($quantity, $balance) = ($quantity - 2, $balance - 60);
clean_end('S10', 's10', 1);
is(ops('s10'), 'commit 01 /effect/shop, commit 02 /effect/bank', 'S10: committed in the order of registration');
my @calls = $service->calls(gid => 's10');
is("$calls[0]{method} $calls[0]{query_string} $calls[0]{body}", 'POST branch_id=01&gid=s10&op=commit&trans_type=xa ', 'S10: how it is called');
is(value(q{SELECT string_agg(branch_id || ' ' || op || ' ' || status, ', ' ORDER BY branch_id, op) FROM dtm.branches WHERE gid = 's10'}),
	'01 commit succeed, 01 rollback prepared, 02 commit succeed, 02 rollback prepared', 'S10: rows of the branches');

# ---- S10: the second branch fails

begin_xa('s10-fails');
register('s10-fails', '01', 'shop');
is(first_phase('s10-fails', '01', 'shop', 2), undef, 'S10 failure: the shop is prepared');
register('s10-fails', '02', 'bank');
my $refusal = first_phase('s10-fails', '02', 'bank', 5000);
like($refusal, qr/violates check constraint/, 'S10 failure: the bank refuses');
is(value(q{SELECT dtm_abort('s10-fails', } . sql_literal($refusal) . ')'), 'aborting', 'S10 failure: given up');
wait_status($node, 's10-fails', 'failed');
clean_end('S10 failure', 's10-fails', 0);
is(ops('s10-fails'), 'rollback 01 /effect/shop, rollback 02 /effect/bank', 'S10 failure: both are rolled back, the one that has nothing, too');
like(reason('s10-fails'), qr/violates check constraint/, 'S10 failure: the reason');

# ---- the client dies

begin_xa('dies', '3 s');
register('dies', '01', 'shop');
is(first_phase('dies', '01', 'shop', 2), undef, 'one branch is prepared, then the client dies');
register('dies', '02', 'bank');
wait_status($node, 'dies', 'failed');
is(reason('dies'), 'Timeout after 3 seconds', 'the reason');
clean_end('time-out', 'dies', 0);

# a first phase that comes after all: not registered yet, and registered but rolled back already
my ($rc, $stdout, $stderr) = $node->psql('postgres', q{SELECT dtm_xa_register('dies', '03', 'http://127.0.0.1:9/')});
like($stderr, qr/ERROR:  xa transaction "dies" takes no more branches: its status is "failed"\nHINT:  Do not call the first phase/,
	'too late to register');
is($node->safe_psql('bank', 'BEGIN; ' . barrier('dies', '02') . '; ROLLBACK'), 'f', 'too late to prepare: the barrier keeps it out');

# rolled back while the first phase is under way: asked for until that has come to its end
begin_xa('overtaken', '3 s');
register('overtaken', '01', 'bank');
my $session = DtmSession->new($node, 'bank');
$session->query('BEGIN');
is($session->query(barrier('overtaken', '01')), 't', 'a slow first phase');
$session->query(business('overtaken', 'bank', 60));
wait_for($node, q{SELECT attempts > 1 FROM dtm.branches WHERE gid = 'overtaken' AND op = 'rollback'}, 't', name => 'is rolled back meanwhile, in vain');
$session->query(q{PREPARE TRANSACTION 'overtaken-01'});
$session->quit;
wait_status($node, 'overtaken', 'failed');
clean_end('overtaken', 'overtaken', 0);

# ---- a service that answers 500 for a while

for my $op (qw(commit rollback))
{
	my $gid = "stubborn-$op";

	$service->script('/effect/bank', { query => { gid => $gid },
		answers => [ { status => 500, before => 1 }, { status => 500 }, { close => 1 }, { status => 409, before => 1 } ] });
	begin_xa($gid);
	register($gid, '01', 'bank');
	first_phase($gid, '01', 'bank', 10);
	register($gid, '02', 'shop');
	first_phase($gid, '02', 'shop', 1);
	value('SELECT dtm_' . ($op eq 'commit' ? 'submit' : 'abort') . "('$gid')");
	wait_status($node, $gid, $op eq 'commit' ? 'succeed' : 'failed');
	is(scalar($service->calls(gid => $gid, path => '/effect/bank')), 5, "$op: called until it succeeds");
	($quantity, $balance) = ($quantity - 1, $balance - 10) if $op eq 'commit';
	clean_end("$op by a service that fails", $gid, $op eq 'commit' ? 1 : 0);
}

# ---- crashes: between the phases, and while a branch is committed

begin_xa('crash-1');
register('crash-1', '01', 'shop');
first_phase('crash-1', '01', 'shop', 1);
immediate_stop_start($node);
register('crash-1', '02', 'bank');
first_phase('crash-1', '02', 'bank', 10);
$service->script('/effect/bank', { query => { gid => 'crash-1' }, answers => [ { hang => 1 } ] });
value(q{SELECT dtm_submit('crash-1')});
$service->wait_calls(1, gid => 'crash-1', path => '/effect/bank');
immediate_stop_start($node);
wait_status($node, 'crash-1', 'succeed');
($quantity, $balance) = ($quantity - 1, $balance - 10);
clean_end('crash', 'crash-1', 1);

begin_xa('crash-2', '4 s');
register('crash-2', '01', 'shop');
first_phase('crash-2', '01', 'shop', 1);
immediate_stop_start($node);
wait_status($node, 'crash-2', 'failed');
clean_end('crash and time-out', 'crash-2', 0);

# ---- nothing registered: both ways end at once

for my $how (qw(submit abort))
{
	begin_xa("empty-$how");
	value("SELECT dtm_$how('empty-$how')");
	wait_status($node, "empty-$how", $how eq 'submit' ? 'succeed' : 'failed');
}
is(scalar($service->calls(gid => 'empty-submit')) + scalar($service->calls(gid => 'empty-abort')), 0, 'nobody is called for it');

$node->stop;
done_testing();
