# -------------------------------------------------------------------------
#
# 132_xa_load.pl
#		Eight sessions move money between two databases, while sessions, the
#		coordinating server and the other server are crashed: no money is made
#		or lost, and the local record of a transfer is there exactly when the
#		transfer is.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use IPC::Run qw(start);
use Test::More;
use XaFixture;

my $xa = XaFixture->new(fsync => 1, conf => "restart_after_crash = on", remote_conf => 'restart_after_crash = on');
my ($node, $remote) = ($xa->node, $xa->remote);

$xa->server('shop');
$xa->server('bank');
$remote->safe_psql($_, q{
	CREATE TABLE purse (id int PRIMARY KEY, money bigint);
	INSERT INTO purse SELECT g, 1000000 FROM generate_series(1, 200) AS g;
	CREATE TABLE moves (no bigint PRIMARY KEY, amount int)}) for qw(shop bank);
$node->safe_psql('postgres', 'CREATE TABLE moves (no bigint PRIMARY KEY, amount int)');

# One transfer in five is rolled back by its session in the end, one in five to a savepoint.
my $script = $node->basedir . '/transfer.sql';
open my $file, '>', $script or die $!;
print $file <<'SQL';
\set a random(1, 200)
\set b random(1, 200)
\set amount random(1, 100)
\set luck random(1, 5)
\set no random(1, 9000000000000000)
BEGIN;
INSERT INTO moves VALUES (:no, :amount);
SELECT dtm_xa_exec('shop', 'WITH m AS (INSERT INTO moves VALUES ($1::bigint, $2::int)) UPDATE purse SET money = money - $2::int WHERE id = $3::int', :no::text, :amount::text, :a::text);
\if :luck = 1
SAVEPOINT s;
SELECT dtm_xa_exec('bank', 'UPDATE purse SET money = 0 WHERE id = $1::int', :b::text);
ROLLBACK TO s;
\endif
SELECT dtm_xa_exec('bank', 'WITH m AS (INSERT INTO moves VALUES ($1::bigint, $2::int)) UPDATE purse SET money = money + $2::int WHERE id = $3::int', :no::text, :amount::text, :b::text);
\if :luck = 2
ROLLBACK;
\else
COMMIT;
\endif
SQL
close $file;

my $load;
my ($out, $err);

sub start_load
{
	$out = $err = '';
	$load = start([ 'pgbench', '-n', '-f', $script, '-c', '8', '-j', '2', '-T', '60', $node->connstr('postgres') ],
		'>', \$out, '2>', \$err);
	return;
}

sub moves
{
	return $node->safe_psql('postgres', 'SELECT count(*) FROM moves');
}

# It goes on: that many further transfers.
sub wait_moves
{
	my ($n, $name) = @_;
	my $before = moves();

	return wait_for($node, "SELECT count(*) >= $before + $n FROM moves", 't', name => $name) || diag($err);
}

sub stop_load
{
	$load->kill_kill;
	return;
}

sub check
{
	my ($name) = @_;

	$xa->quiet($name);
	my $set = q{SELECT count(*) || ' ' || coalesce(md5(string_agg(no || ' ' || amount, ',' ORDER BY no)), '') FROM moves};
	my @sets = ($node->safe_psql('postgres', $set), map { $remote->safe_psql($_, $set) } qw(shop bank));

	is($sets[1], $sets[0], "$name: the first database has the transfers that are recorded here");
	is($sets[2], $sets[0], "$name: so has the second");
	is($remote->safe_psql('shop', 'SELECT sum(money) FROM purse') + $remote->safe_psql('bank', 'SELECT sum(money) FROM purse'),
		400000000, "$name: no money is made or lost");
	return;
}

start_load();
wait_moves(200, 'transfers');
stop_load();
check('clients killed in the middle');

start_load();
wait_moves(50, 'transfers again');
my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1});
kill 'KILL', $pid;
wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator'", '1', name => 'up again');
stop_load();
check('kill -9 of a session');

for my $round (1 .. 3)
{
	start_load();
	wait_moves(30, 'transfers again');
	immediate_stop_start($node);
	stop_load();
	check("immediate stop $round");
}

start_load();
wait_moves(50, 'transfers again');
immediate_stop_start($remote);
stop_load();
check('crash of the other server');

done_testing();
