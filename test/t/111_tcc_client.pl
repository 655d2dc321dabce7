# -------------------------------------------------------------------------
#
# 111_tcc_client.pl
#		TCC whose Try calls the client makes: scenarios S07, S08 and S09 with
#		services over HTTP and with business of this database; registrations
#		that survive a rollback and a crash; restarts in each phase.
#
# This test is the client: it registers a branch, then makes the Try call with
# DTM's query parameters, or runs it behind dtm_barrier.
#
# Not here: arguments and what is refused (test/sql/register.sql); sessions,
# executors and the extension that go away (113_register_disturbed.pl).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use HTTP::Tiny;
use JSON::PP;
use ShopFixture;
use Test::More;

my $node = new_node(conf => "dtm.retry_interval = '100ms'\ndtm.retry_max_interval = '1s'", fsync => 1);
my $http = HTTP::Tiny->new(timeout => 60);
my $json = JSON::PP->new->canonical;

sub value { return $node->safe_psql('postgres', $_[0]); }

value(<<'END');
CREATE TABLE stock (quantity int, locked int CHECK (locked >= 0), sold int);
CREATE TABLE orders (id int PRIMARY KEY, state text);
CREATE TABLE account (balance int, locked int CHECK (locked >= 0));
CREATE TABLE call_log (seq bigserial PRIMARY KEY, gid text, branch_id text, op text, url text,
	at timestamptz DEFAULT clock_timestamp(), ended timestamptz);
CREATE TABLE effects (id bigserial PRIMARY KEY, gid text, branch_id text, op text, url text,
	UNIQUE (gid, branch_id, op));
INSERT INTO stock VALUES (100, 0, 0);
INSERT INTO account VALUES (1000, 0);
CREATE SCHEMA shop;
CREATE FUNCTION shop.stock_try(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	UPDATE stock SET locked = locked + (p->>'qty')::int WHERE quantity - locked >= (p->>'qty')::int;
	IF NOT FOUND THEN PERFORM dtm_fail('not enough stock'); END IF; END $$;
CREATE FUNCTION shop.stock_confirm(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE stock SET quantity = quantity - (p->>'qty')::int, locked = locked - (p->>'qty')::int, sold = sold + (p->>'qty')::int $$;
CREATE FUNCTION shop.stock_cancel(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE stock SET locked = locked - (p->>'qty')::int $$;
CREATE FUNCTION shop.orders_try(p jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO orders VALUES ((p->>'order')::int, 'new') $$;
CREATE FUNCTION shop.orders_confirm(p jsonb) RETURNS void LANGUAGE sql AS $$ UPDATE orders SET state = 'paid' WHERE id = (p->>'order')::int $$;
CREATE FUNCTION shop.orders_cancel(p jsonb) RETURNS void LANGUAGE sql AS $$ UPDATE orders SET state = 'cancelled' WHERE id = (p->>'order')::int $$;
CREATE FUNCTION shop.account_try(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	UPDATE account SET locked = locked + (p->>'amount')::int WHERE balance - locked >= (p->>'amount')::int;
	IF NOT FOUND THEN PERFORM dtm_fail('balance not enough'); END IF; END $$;
CREATE FUNCTION shop.account_confirm(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE account SET balance = balance - (p->>'amount')::int, locked = locked - (p->>'amount')::int $$;
CREATE FUNCTION shop.account_cancel(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE account SET locked = locked - (p->>'amount')::int $$;

-- What a sql: Confirm and Cancel call.  The Try was the client's, behind dtm_barrier, so Cancel asks the same barrier.
CREATE SCHEMA branch;
CREATE FUNCTION branch.run(name text, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	c jsonb := dtm_context();
BEGIN
	INSERT INTO call_log (gid, branch_id, op, url) VALUES (c->>'gid', c->>'branch_id', c->>'op', 'sql');
	IF c->>'op' = 'cancel' AND NOT dtm_barrier(c->>'trans_type', c->>'gid', c->>'branch_id', 'cancel') THEN
		RETURN;
	END IF;
	EXECUTE format('SELECT shop.%I($1)', name) USING p;
	INSERT INTO effects (gid, branch_id, op, url) VALUES (c->>'gid', c->>'branch_id', c->>'op', 'sql');
END $$;
-- The Try of the client; true when it had its effect now.
CREATE FUNCTION branch.try(name text, gid text, branch_id text, p jsonb) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
	IF NOT dtm_barrier('tcc', gid, branch_id, 'try') THEN RETURN false; END IF;
	EXECUTE format('SELECT shop.%I($1)', name || '_try') USING p;
	INSERT INTO effects (gid, branch_id, op, url) VALUES ($2, $3, 'try', 'sql');
	RETURN true; END $$;
END
for my $name (qw(stock orders account))
{
	value("CREATE FUNCTION branch.${name}_$_(p jsonb) RETURNS void LANGUAGE sql AS \$\$ SELECT branch.run('${name}_$_', p) \$\$")
	  for qw(confirm cancel);
}
my $service = bless {
	port => 0, arguments => [ '--db', $node->connstr('postgres'), '--schema', 'public' ],
	program => 'shop.py' }, 'ShopFixture::Service';
$service->start;

# ---- the client

sub begin_tcc
{
	my ($gid, $timeout) = @_;

	return value("SELECT dtm_tcc_begin('$gid', timeout_to_fail => '" . ($timeout // '60 s') . "')");
}

sub registration
{
	my ($gid, $branch_id, $name, $kind, $payload) = @_;
	my ($confirm, $cancel) = map { $kind eq 'sql' ? "sql:branch.${name}_$_" : $service->url("/effect/$name/$_") } qw(confirm cancel);

	return "SELECT dtm_tcc_register('$gid', '$branch_id', '$confirm', '$cancel', " . sql_literal($json->encode($payload)) . ')';
}

# The answer's status, and body.
sub http_try
{
	my ($gid, $branch_id, $name, $payload) = @_;
	my $answer = $http->post($service->url("/effect/$name/try?gid=$gid&trans_type=tcc&branch_id=$branch_id&op=try"),
		{ content => $json->encode($payload), headers => { 'content-type' => 'application/json' } });

	return ($answer->{status}, $answer->{content});
}

sub local_try
{
	my ($gid, $branch_id, $name, $payload) = @_;

	return "SELECT branch.try('$name', '$gid', '$branch_id', " . sql_literal($json->encode($payload)) . ')';
}

# Register and try one branch; undef, or why it refused.
sub branch
{
	my ($gid, $branch_id, $name, $kind, $payload) = @_;

	value(registration($gid, $branch_id, $name, $kind, $payload));
	if ($kind eq 'http')
	{
		my ($status, $body) = http_try($gid, $branch_id, $name, $payload);
		return $status == 200 ? undef : $body;
	}
	my ($rc, $stdout, $stderr) = $node->psql('postgres', local_try($gid, $branch_id, $name, $payload));
	return $rc == 0 ? undef : ($stderr =~ /ERROR:  (.*)/)[0];
}

# All of it: begin, the branches, the decision.
sub client
{
	my ($gid, $kinds, $payload) = @_;
	my @names = qw(stock orders account);

	begin_tcc($gid);
	for my $i (0 .. $#names)
	{
		my $refusal = branch($gid, '0' . ($i + 1), $names[$i], $kinds->[$i], $payload);
		return value("SELECT dtm_abort('$gid', " . sql_literal($refusal) . ')') if defined $refusal;
	}
	return value("SELECT dtm_submit('$gid')");
}

sub effects_of { return value("SELECT string_agg(op || ' ' || branch_id, ', ' ORDER BY id) FROM effects WHERE gid = '$_[0]'"); }
sub reason { return value("SELECT rollback_reason FROM dtm.transactions WHERE gid = '$_[0]'"); }

sub books
{
	return value("SELECT format('%s locked %s sold %s, balance %s locked %s', s.quantity, s.locked, s.sold, a.balance, a.locked)"
		  . ' FROM stock AS s, account AS a');
}

sub rows
{
	return value("SELECT string_agg(op || ' ' || status || ' ' || n, ', ' ORDER BY op, status) FROM"
		  . " (SELECT op, status, count(*) AS n FROM dtm.branches WHERE gid = '$_[0]' GROUP BY op, status) AS b");
}

my $confirmed = 'try 01, try 02, try 03, confirm 03, confirm 02, confirm 01';
my %kinds = (http => [qw(http http http)], sql => [qw(sql sql sql)], mixed => [qw(http sql http)]);
my ($order, $quantity, $sold, $balance) = (0, 100, 0, 1000);

sub books_are
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(books(), "$quantity locked 0 sold $sold, balance $balance locked 0", $name);
}

wait_for($node, "SELECT count(*) FROM dtm.workers WHERE state = 'running'", '1', name => 'the coordinator is there');

# ---- S07

for my $name (qw(http sql mixed))
{
	my $gid = "s07-$name";

	is(client($gid, $kinds{$name}, { order => ++$order, qty => 2, amount => 60 }), 'submitted', "S07 $name: every Try has agreed");
	wait_status($node, $gid, 'succeed');
	($quantity, $sold, $balance) = ($quantity - 2, $sold + 2, $balance - 60);
	books_are("S07 $name: the books");
	is(value("SELECT state FROM orders WHERE id = $order"), 'paid', "S07 $name: the order");
	is(effects_of($gid), $confirmed, "S07 $name: Confirm in reverse order of registration");
	is(rows($gid), 'cancel prepared 3, confirm succeed 3', "S07 $name: two rows per branch");
}
my @calls = $service->calls(gid => 's07-http', op => 'confirm');
is("$calls[0]{method} $calls[0]{query_string} $calls[0]{body}",
	'POST branch_id=03&gid=s07-http&op=confirm&trans_type=tcc {"qty": 2, "order": 1, "amount": 60}', 'how Confirm is called');

# after Try the stock is locked and not taken, and nobody is called before the decision
begin_tcc('held');
is(branch('held', '01', 'stock', 'http', { qty => 2 }), undef, 'the stock agrees');
is(books(), "$quantity locked 2 sold $sold, balance $balance locked 0", 'locked only');
is(value("SELECT dtm_status('held')"), 'prepared', 'prepared');
is(value("SELECT dtm_submit('held')"), 'submitted', 'decided');
wait_status($node, 'held', 'succeed');
($quantity, $sold) = ($quantity - 2, $sold + 2);

# ---- S08

for my $name (qw(http sql mixed))
{
	my $gid = "s08-$name";

	is(client($gid, $kinds{$name}, { order => ++$order, qty => 2, amount => 5000 }), 'aborting', "S08 $name: the account refuses");
	wait_status($node, $gid, 'failed');
	books_are("S08 $name: nothing is left");
	is(value("SELECT state FROM orders WHERE id = $order"), 'cancelled', "S08 $name: the order");
	is(value("SELECT string_agg(op || ' ' || branch_id, ', ' ORDER BY seq) FROM call_log WHERE gid = '$gid' AND op = 'cancel'"),
		'cancel 03, cancel 02, cancel 01', "S08 $name: every registered branch is cancelled, the last first");
	is(effects_of($gid), 'try 01, try 02, cancel 02, cancel 01', "S08 $name: what was not tried is not undone");
	like(reason($gid), qr/balance not enough/, "S08 $name: rollback_reason");
}

# ---- S09: the client dies after the first Try

begin_tcc('s09', '3 s');
is(branch('s09', '01', 'stock', 'http', { qty => 2 }), undef, 'S09: the first Try');
wait_status($node, 's09', 'failed');
is(reason('s09'), 'Timeout after 3 seconds', 'S09: the reason');
is(effects_of('s09'), 'try 01, cancel 01', 'S09: cancelled');
books_are('S09: nothing is left');

# in the middle of a local transaction that has registered; the Try comes late, as of a client that only was slow
begin_tcc('s09-local', '3 s');
my $session = DtmSession->new($node);
$session->query('BEGIN');
is($session->query(registration('s09-local', '01', 'stock', 'sql', { qty => 2 })), 's09-local', 'S09: registered');
is($session->query(local_try('s09-local', '01', 'stock', { qty => 2 })), 't', 'S09: the local Try');
my $pid = $session->query('SELECT pg_backend_pid()');
value("SELECT pg_terminate_backend($pid)");
wait_status($node, 's09-local', 'failed');
is(effects_of('s09-local'), '', 'S09: a Try that was rolled back is not undone');
is(value(q{SELECT count(*) FROM call_log WHERE gid = 's09-local'}), '1', 'S09: though its Cancel was called');
is(value(local_try('s09-local', '01', 'stock', { qty => 2 })), 'f', 'S09: a late Try is kept out');
books_are('S09: nothing is left');

# a Try that waits for the barrier while its transaction is cancelled: Cancel waits for it, and undoes it
begin_tcc('s09-slow', '3 s');
$session = DtmSession->new($node);
value(registration('s09-slow', '01', 'stock', 'sql', { qty => 2 }));
$session->query('BEGIN');
is($session->query(local_try('s09-slow', '01', 'stock', { qty => 2 })), 't', 'a Try in an open transaction');
wait_status($node, 's09-slow', 'aborting');
$session->query('COMMIT');
$session->quit;
wait_status($node, 's09-slow', 'failed');
is(effects_of('s09-slow'), 'try 01, cancel 01', 'its Cancel comes after it');
books_are('nothing is left');

# too late to register: neither Try nor Cancel
for my $gid (qw(s09 s08-http s07-http))
{
	my ($rc, $stdout, $stderr) = $node->psql('postgres', registration($gid, '09', 'stock', 'sql', { qty => 2 }));
	like($stderr, qr/ERROR:  tcc transaction "$gid" takes no more branches: its status is "(failed|succeed)"\nHINT:  Do not call/,
		"$gid takes no more branches");
}

# ---- a registration stays: after a rollback, and after a crash right behind it

begin_tcc('rolled-back', '60 s');
value('BEGIN; ' . registration('rolled-back', '01', 'stock', 'http', { qty => 3 }) . '; ROLLBACK');
is((http_try('rolled-back', '01', 'stock', { qty => 3 }))[0], 200, 'the Try of a registration that was rolled back');
is(value(q{SELECT dtm_abort('rolled-back')}), 'aborting', 'given up');
wait_status($node, 'rolled-back', 'failed');
is(effects_of('rolled-back'), 'try 01, cancel 01', 'its Cancel is called all the same');
books_are('nothing is left');

for my $n (1 .. 3)
{
	my $gid = "crash-$n";

	$session = DtmSession->new($node);
	$session->query('SET synchronous_commit = off');
	is($session->query("SELECT dtm_tcc_begin('$gid', timeout_to_fail => '" . ($n == 3 ? 5 : 60) . " s')"), $gid, "$gid: begun");
	$session->query('BEGIN') if $n > 1;
	is($session->query(registration($gid, '01', 'stock', 'http', { qty => 1 })), $gid, "$gid: registered");
	immediate_stop_start($node);
	$session->quit;
	is(value("SELECT count(*) FROM dtm.branches WHERE gid = '$gid'"), '2', "$gid: the branch is there after the crash");
	is((http_try($gid, '01', 'stock', { qty => 1 }))[0], 200, "$gid: its Try");
	value("SELECT dtm_submit('$gid')") if $n < 3;
	wait_status($node, $gid, $n < 3 ? 'succeed' : 'failed');
	($quantity, $sold) = ($quantity - 1, $sold + 1) if $n < 3;
	books_are("$gid: the books");
}

# ---- crashes in the second phase, and a coordinator that is terminated between the steps

for my $op (qw(confirm cancel))
{
	my $gid = "crash-$op";

	$service->script("/effect/orders/$op", { query => { gid => $gid }, answers => [ { hang => 1 } ] });
	client($gid, $kinds{http}, { order => ++$order, qty => 1, amount => $op eq 'cancel' ? 5000 : 10 });
	wait_until(sub { effects_of($gid) =~ /$op 02\z/ }, "$op 02 is on its way");
	immediate_stop_start($node);
	wait_status($node, $gid, $op eq 'cancel' ? 'failed' : 'succeed');
	is(effects_of($gid), $op eq 'cancel' ? 'try 01, try 02, cancel 02, cancel 01' : $confirmed, "crash during $op: each effect once");
	($quantity, $sold, $balance) = ($quantity - 1, $sold + 1, $balance - 10) if $op eq 'confirm';
	books_are("crash during $op: the books");
}

sub end_coordinator
{
	return value(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator'});
}
begin_tcc('restarted', '60 s');
end_coordinator();
is(branch('restarted', '01', 'stock', 'http', { qty => 1 }), undef, 'a branch while the coordinator comes back');
end_coordinator();
is(branch('restarted', '02', 'account', 'sql', { amount => 10 }), undef, 'another one');
value(q{SELECT dtm_submit('restarted')});
end_coordinator();
wait_status($node, 'restarted', 'succeed');
is(effects_of('restarted'), 'try 01, try 02, confirm 02, confirm 01', 'all of it');
($quantity, $sold, $balance) = ($quantity - 1, $sold + 1, $balance - 10);
books_are('the books at the end');

$node->stop;
done_testing();
