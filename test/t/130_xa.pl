# -------------------------------------------------------------------------
#
# 130_xa.pl
#		dtm_xa_exec and dtm_xa_query over two databases of another cluster:
#		commit and rollback, savepoints, errors, cancelled statements, lost
#		connections, privileges, what is seen of it.
#
# What crashes leave behind is in 131_xa_crash.pl.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use Test::More;
use XaFixture;

my $xa = XaFixture->new(conf => "dtm.alert_retry_limit = 1");
my ($node, $remote) = ($xa->node, $xa->remote);
my ($out, $err);

$xa->server('shop');
$xa->server('bank');

# ------------------------------------------------------------- S10, success
($out, $err) = $xa->sql(q{
	BEGIN;
	SELECT dtm_xa_exec('shop', 'UPDATE stock SET quantity = quantity - $1::int, sold = sold + $1::int WHERE product_id = $2', '2', '1');
	SELECT dtm_xa_exec('shop', 'INSERT INTO orders VALUES ($1, $2)', '1', 'paid');
	SELECT dtm_xa_query('bank', 'UPDATE accounts SET balance = balance - $1 WHERE user_id = $2 RETURNING user_id, balance', '100', '1');
	SELECT dtm_xa_exec('bank', 'INSERT INTO payments VALUES (1, 100), (2, 0)');
	INSERT INTO local VALUES ('order 1');
	COMMIT;
});
is($err, '', 'a transaction over two databases commits');
is($out, qq(1\n1\n{"balance": 900, "user_id": 1}\n2), 'with the rows that each statement says');
is($xa->shop('SELECT quantity, sold FROM stock') . $xa->bank('SELECT balance FROM accounts'), '98|2900',
	'both are committed when COMMIT returns');
$xa->quiet('S10');
is($node->safe_psql('postgres', q{SELECT trans_type, status, submitted_by = current_user::regrole FROM dtm.transactions}),
	'xa|succeed|t', 'dtm.transactions has it');
is($node->safe_psql('postgres', q{SELECT branch_id, op, url, status FROM dtm.branches ORDER BY 1, 2}),
	"01|commit|xa://shop|succeed\n01|rollback|xa://shop|prepared\n02|commit|xa://bank|succeed\n02|rollback|xa://bank|prepared",
	'dtm.branches has its branches');

is($node->safe_psql('postgres', q{SELECT sum(calls) FROM dtm.workers WHERE state = 'running'}), '0',
	'what the session has finished is not asked again');

# the gids are as documented: caught while they are prepared
$remote->safe_psql('bank', q{
	CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER seen AFTER INSERT ON payments DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION seen()});
my $lock = DtmSession->new($remote, 'bank');
my $session = DtmSession->new($node);
$lock->query('SELECT pg_advisory_lock(7)');
$session->query(q{BEGIN; INSERT INTO local VALUES ('order 2');
	SELECT dtm_xa_exec('shop', 'INSERT INTO orders VALUES (2, ''paid'')');
	SELECT dtm_xa_exec('bank', 'INSERT INTO payments VALUES (20, 100)')});
$session->send('COMMIT');
wait_for($remote, 'SELECT count(*) FROM pg_prepared_xacts', '1', name => 'the first server has prepared, the second one has not');
like($remote->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts'), qr/^dtmxa-[0-9a-f]{16}-\d+-[0-9a-f]{16}-[0-9a-f]{8}-01$/,
	'under <gid>-01');
is($xa->shop('SELECT count(*) FROM orders WHERE order_no = 2'), '0', 'not visible there before the commit');
is($node->safe_psql('postgres', q{SELECT count(*) FROM local WHERE note = 'order 2'}), '0', 'nor here');
$lock->query('SELECT pg_advisory_unlock(7)');
$session->result;
is($xa->shop('SELECT count(*) FROM orders WHERE order_no = 2'), '1', 'committed');
$xa->quiet('deferred trigger');

# a statement of the coordinator's: cancelled while a server prepares
$lock->query('SELECT pg_advisory_lock(7)');
$session->query(q{BEGIN; SELECT dtm_xa_exec('shop', 'INSERT INTO orders VALUES (3, ''paid'')');
	SELECT dtm_xa_exec('bank', 'INSERT INTO payments VALUES (30, 100)')});
$session->send('COMMIT');
wait_for($remote, 'SELECT count(*) FROM pg_prepared_xacts', '1', name => 'one has prepared');
$node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT;' AND state = 'active'});
$session->result;
like($session->errors, qr/canceling statement/, 'a COMMIT can be cancelled while servers prepare');
$lock->query('SELECT pg_advisory_unlock(7)');
$xa->quiet('cancelled COMMIT');
is($xa->shop('SELECT count(*) FROM orders WHERE order_no = 3'), '0', 'and is then rolled back everywhere');

# ------------------------------------------------------------- S10, failure
my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM dtm.transactions');
($out, $err) = $xa->sql(q{
	BEGIN;
	INSERT INTO local VALUES ('order 4');
	SELECT dtm_xa_exec('shop', 'UPDATE stock SET quantity = quantity - 2');
	SELECT dtm_xa_exec('bank', 'UPDATE accounts SET balance = balance - 5000');
	COMMIT;
});
like($err, qr/ERROR:  23514: new row for relation "accounts" violates check constraint "accounts_balance_check"/,
	'an error comes through as it is');
like($err, qr/DETAIL:  Failing row contains \(1, -4100\)\./, 'with its detail');
like($err, qr/CONTEXT:  on server "bank": UPDATE accounts SET balance = balance - 5000/, 'and where it happened');
like($err, qr/CONSTRAINT NAME:  accounts_balance_check/, 'and the constraint');
is($xa->shop('SELECT quantity FROM stock') . $xa->bank('SELECT balance FROM accounts'), '98900', 'neither is visible');
$xa->quiet('failure');
is($node->safe_psql('postgres', 'SELECT count(*) FROM dtm.transactions'), $before, 'no transaction was recorded');

# one that fails to prepare
$remote->safe_psql('bank', 'CREATE TABLE refs (order_no int REFERENCES payments DEFERRABLE INITIALLY DEFERRED)');
($out, $err) = $xa->sql(q{
	BEGIN;
	SELECT dtm_xa_exec('shop', 'UPDATE stock SET quantity = quantity - 2');
	SELECT dtm_xa_exec('bank', 'INSERT INTO refs VALUES (4711)');
	INSERT INTO local VALUES ('order 5');
	COMMIT;
});
like($err, qr/ERROR:  23503: .*\n(.*\n)?.*on server "bank": PREPARE TRANSACTION/, 'a server that cannot prepare fails the COMMIT');
is($xa->shop('SELECT quantity FROM stock'), '98', 'and what another one has prepared is rolled back');
$xa->quiet('failing PREPARE');

# --------------------------------------------------------------- savepoints
($out, $err) = $xa->sql(q{
	BEGIN;
	SELECT dtm_xa_exec('shop', 'INSERT INTO orders VALUES (10, ''a'')');
	SAVEPOINT one;
	SELECT dtm_xa_exec('shop', 'INSERT INTO orders VALUES (11, ''b'')');
	SELECT dtm_xa_exec('bank', 'INSERT INTO payments VALUES (11, 1)');
	ROLLBACK TO one;
	SELECT dtm_xa_exec('shop', 'INSERT INTO orders VALUES (12, ''c'')');
	SAVEPOINT two;
	SELECT dtm_xa_exec('shop', 'INSERT INTO orders VALUES (13, ''d'')');
	RELEASE one;
	COMMIT;
});
is($err, '', 'savepoints');
is($xa->shop(q{SELECT string_agg(order_no::text, ' ' ORDER BY order_no) FROM orders WHERE order_no >= 10}), '10 12 13',
	'work of a savepoint goes and stays with it');
is($xa->bank('SELECT count(*) FROM payments WHERE order_no = 11'), '0', 'also where nothing else was done');
$xa->quiet('savepoints');
is($node->safe_psql('postgres', q{SELECT count(*) FROM dtm.branches WHERE op = 'commit' AND gid = (SELECT max(gid) FROM dtm.transactions)}), '1',
	'a server without surviving work takes no part');

($out, $err) = $xa->sql(q{
	DO $$ BEGIN
		PERFORM dtm_xa_exec('shop', 'INSERT INTO orders VALUES (20, ''a'')');
		BEGIN
			PERFORM dtm_xa_exec('shop', 'INSERT INTO orders VALUES (20, ''again'')');
		EXCEPTION WHEN unique_violation THEN
			PERFORM dtm_xa_exec('shop', 'INSERT INTO orders VALUES (21, $1)', SQLERRM);
		END;
	END $$;
});
is($err, '', 'an error in a block with an EXCEPTION clause');
is($xa->shop('SELECT count(*) FROM orders WHERE order_no IN (20, 21)'), '2', 'the work around it goes on');

# all of it in one statement, without a transaction block
is($node->safe_psql('postgres', q{SELECT sum(dtm_xa_exec(s, 'UPDATE ' || t || ' SET status = status')) FROM (VALUES ('shop', 'orders')) AS v (s, t)}) > 0,
	1, 'in a single statement');
$xa->quiet('single statement');

# ------------------------------------------------- what is refused, and says why
sub refused
{
	my ($sql, $pattern, $name) = @_;
	my ($stdout, $stderr) = $xa->sql($sql, on_error_stop => 0);

	like($stderr, $pattern, $name);
	return;
}
refused(q{SELECT dtm_xa_exec(NULL, 'x')}, qr/22004: "server" must not be NULL/, 'server NULL');
refused(q{SELECT dtm_xa_exec('shop', NULL)}, qr/22004: "statement" must not be NULL/, 'statement NULL');
refused(q{SELECT dtm_xa_exec('shop', ' ; -- nothing')}, qr/22023: "statement" is empty/, 'empty statement');
refused(q{SELECT dtm_xa_exec('nowhere', 'SELECT 1')}, qr/42704: server "nowhere" does not exist/, 'no such server');
refused(q{SELECT dtm_xa_exec('shop', $_$ SELECT 1; SELECT 2 $_$)}, qr/42601: cannot insert multiple commands/, 'several statements');
for my $command ('COMMIT', 'rollback to savepoint s2', '/* /* */ */ begin', '; End', 'SAVEPOINT x', "-- x\nprepare /**/ transaction 'x'",
	'release s2', 'ABORT', 'start transaction')
{
	refused("BEGIN; SELECT dtm_xa_exec('shop', \$_\$$command\$_\$)", qr/2D000: "statement" must not be a transaction command/,
		"transaction command: $command");
}
refused(q{SELECT dtm_xa_exec('shop', 'DO $_$ BEGIN COMMIT; END $_$')}, qr/2D000: invalid transaction termination/, 'COMMIT in a DO block');
refused(q{SELECT dtm_xa_exec('shop', 'COPY orders FROM STDIN')}, qr/0A000: COPY to or from the client/, 'COPY');
refused(q{BEGIN READ ONLY; SELECT dtm_xa_exec('shop', 'SELECT 1')}, qr/25006: cannot execute dtm_xa_exec\(\) in a read-only transaction/,
	'read-only transaction');
refused(q{BEGIN; SELECT dtm_xa_exec('shop', 'UPDATE stock SET quantity = 0'); PREPARE TRANSACTION 'mine'},
	qr/0A000: cannot PREPARE a transaction that has used dtm_xa_exec/, 'PREPARE TRANSACTION here');
is($xa->shop('SELECT quantity FROM stock'), '98', 'none of them did anything');
refused(q{SELECT dtm_xa_exec('shop', 'SELECT $1', 'a', 'b')}, qr/08P01|42P18|42P02/, 'too many parameters');
is($node->safe_psql('postgres', q{SELECT dtm_xa_query('shop', 'SELECT $1::text IS NULL AS a, $2::int + 1 AS b', NULL, '41')}),
	'{"a": true, "b": 42}', 'NULL as a parameter');
is($node->safe_psql('postgres', q{SELECT dtm_xa_query('shop', 'SELECT 1 AS a WHERE false')}), '', 'no rows');
is($node->safe_psql('postgres', q{SELECT dtm_xa_exec('shop', 'SELECT * FROM generate_series(1, 100000)')}), '100000', 'rows that are only counted');
is($node->safe_psql('postgres', q{SELECT count(*) FROM dtm_xa_query('shop', 'SELECT g, repeat(''x'', 1000) FROM generate_series(1, 20000) AS g')}),
	'20000', 'many rows');
is($node->safe_psql('postgres', q{SELECT dtm_xa_query('shop', $$WITH x AS (INSERT INTO orders VALUES (30, 'é"') RETURNING *)
	SELECT *, ARRAY[order_no] AS list, timestamptz '2026-01-02 03:04:05+00' AS at, 1.50 AS n, NULL AS nothing FROM x$$)}),
	'{"n": 1.50, "at": "2026-01-02T03:04:05+00:00", "list": [30], "status": "é\"", "nothing": null, "order_no": 30}', 'WITH that writes');
is($node->safe_psql('postgres', q{SELECT dtm_xa_query('shop', 'SHOW max_prepared_transactions')}), '{"max_prepared_transactions": "40"}', 'SHOW');
is($node->safe_psql('postgres', q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT dtm_xa_query('shop', 'SHOW transaction_isolation'); COMMIT}),
	'{"transaction_isolation": "repeatable read"}', 'the isolation level is the local one');

# a role that a statement has set does not own what is prepared
$remote->safe_psql('shop', 'CREATE ROLE other; GRANT ALL ON orders TO other');
($out, $err) = $xa->sql(q{BEGIN; SELECT dtm_xa_exec('shop', 'SET ROLE other'); SELECT dtm_xa_exec('shop', 'INSERT INTO orders VALUES (31, current_user)'); COMMIT});
is($err . $xa->shop('SELECT status FROM orders WHERE order_no = 31'), 'other', 'SET ROLE there');
$xa->quiet('SET ROLE');

# -------------------------------------------------- cancelled, lost, not there
($out, $err) = $xa->sql(q{
	BEGIN;
	SELECT dtm_xa_exec('shop', 'UPDATE stock SET quantity = 0');
	SET LOCAL statement_timeout = '200ms';
	SELECT dtm_xa_exec('shop', 'SELECT pg_sleep(60)');
});
like($err, qr/57014: canceling statement due to statement timeout/, 'statement_timeout');
is($remote->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()}),
	'0', 'ends the statement there');
is($xa->shop('SELECT quantity FROM stock'), '98', 'rolled back');
($out, $err) = $xa->sql(q{
	BEGIN;
	SET LOCAL statement_timeout = '500ms';
	DO $$ BEGIN
		PERFORM dtm_xa_exec('shop', 'UPDATE stock SET quantity = 97');
		BEGIN
			PERFORM dtm_xa_exec('shop', 'SELECT pg_sleep(60)');
			RAISE 'not cancelled';
		EXCEPTION WHEN query_canceled THEN
			NULL;
		END;
	END $$;
	COMMIT;
});
is($err . $xa->shop('SELECT quantity FROM stock'), '97', 'a cancelled statement that is caught leaves the work before it');

# in the middle of rows that keep coming
($out, $err) = $xa->sql(q{SET statement_timeout = '700ms'; BEGIN;
	SELECT dtm_xa_exec('shop', 'UPDATE stock SET sold = sold + 1000');
	SAVEPOINT s;
	SELECT dtm_xa_exec('shop', 'SELECT 1 FROM generate_series(1, 10000) AS a, generate_series(1, 1000000) AS b');
	ROLLBACK TO s;
	SELECT dtm_xa_exec('shop', 'UPDATE stock SET sold = sold - 1000');
	COMMIT}, on_error_stop => 0);
like($err, qr/canceling statement due to statement timeout/, 'cancelled in the middle of rows');
unlike($err, qr/08006/, 'leaves the connection as it was');

# a server that hangs: nothing answers, not even a connection
my $postmaster = $remote->{_pid};
$session->query(q{BEGIN; SELECT dtm_xa_exec('bank', 'UPDATE accounts SET balance = 3'); SET LOCAL statement_timeout = '200ms'});
kill 'STOP', $postmaster;
$session->query(q{SELECT dtm_xa_exec('bank', 'SELECT pg_sleep(60)')});
like($session->errors, qr/canceling statement due to statement timeout/, 'a server that hangs can be left');
is($session->query('SELECT 1'), '', 'the session is in a failed transaction');
$session->query('ROLLBACK');
kill 'CONT', $postmaster;
$remote->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()});
wait_for($remote, q{SELECT balance FROM accounts}, '900', dbname => 'bank', name => 'nothing of it stays');

my $kill = q{PERFORM dtm_xa_exec('bank', 'SELECT pg_terminate_backend(pg_backend_pid())')};
($out, $err) = $xa->sql(qq{DO \$\$ BEGIN
	PERFORM dtm_xa_exec('shop', 'UPDATE stock SET quantity = 1');
	PERFORM dtm_xa_exec('bank', 'UPDATE accounts SET balance = 1');
	BEGIN $kill; EXCEPTION WHEN connection_failure THEN NULL; END; END \$\$});
like($err, qr/08006: cannot commit: connection to server "bank" was lost in this transaction/, 'a lost connection fails the commit, if not before');
($out, $err) = $xa->sql(qq{DO \$\$ BEGIN
	PERFORM dtm_xa_exec('shop', 'UPDATE stock SET quantity = 96');
	BEGIN $kill; EXCEPTION WHEN connection_failure THEN NULL; END;
	PERFORM dtm_xa_exec('bank', 'UPDATE accounts SET balance = 901'); END \$\$});
is($err, '', 'one that was lost with nothing but what is rolled back is made again');
is($xa->shop('SELECT quantity FROM stock') . $xa->bank('SELECT balance FROM accounts'), '96901', 'and all is there');
$session->query(q{BEGIN; SELECT dtm_xa_exec('shop', 'UPDATE stock SET quantity = 2'); SELECT dtm_xa_exec('bank', 'UPDATE accounts SET balance = 2')});
$remote->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dtm_pg' AND datname = 'bank'});
$session->query('COMMIT');
like($session->errors, qr/connection to server "bank" was lost/, 'a connection that is lost before the commit fails it');
$session->query(q{SELECT dtm_xa_exec('bank', 'UPDATE accounts SET balance = 902')});
is($xa->shop('SELECT quantity FROM stock') . $xa->bank('SELECT balance FROM accounts'), '96902', 'the next transaction gets a new one');
$remote->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dtm_pg'});
$session->query(q{SELECT dtm_xa_exec('bank', 'UPDATE accounts SET balance = 903')});
is($xa->bank('SELECT balance FROM accounts'), '903', 'also when it was lost between transactions');
$xa->quiet('lost connections');

$node->safe_psql('postgres', q{ALTER SERVER bank OPTIONS (SET dbname 'shop')});
like($session->query(q{SELECT dtm_xa_query('bank', 'SELECT current_database()')}), qr/shop/, 'changed options count from the next transaction on');
$node->safe_psql('postgres', q{ALTER SERVER bank OPTIONS (SET dbname 'bank')});

# max_prepared_transactions = 0 there (here it is 0 all the time)
$xa->server('postgres', name => 'self', remote => $node);
refused(q{SELECT dtm_xa_exec('self', 'SELECT 1')}, qr/55000: server "self" cannot prepare transactions\n.*max_prepared_transactions is 0.*\n.*Set max_prepared_transactions/s,
	'max_prepared_transactions = 0 there');
is($node->safe_psql('postgres', 'SHOW max_prepared_transactions'), '0', 'here it needs none');
$node->safe_psql('postgres', q{CREATE SERVER closed FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', dbname 'x');
	CREATE USER MAPPING FOR CURRENT_USER SERVER closed});
refused(q{SELECT dtm_xa_exec('closed', 'SELECT 1')}, qr/08001: could not connect to server "closed"\nDETAIL:  .*refused/, 'nobody listens');
is($node->safe_psql('postgres', q{SELECT count(*) FROM dtm.xa_server AS x JOIN pg_foreign_server AS s ON s.oid = x.server WHERE srvname = 'closed'}),
	'0', 'and nothing is looked for there');

# --------------------------------------------------------------- privileges
$remote->safe_psql('bank', q{CREATE ROLE ann LOGIN PASSWORD 'secret'; GRANT ALL ON accounts TO ann});
$node->safe_psql('postgres', q{
	CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN;
	SELECT dtm_grant('ann'); SELECT dtm_grant('bob');
	CREATE USER MAPPING FOR ann SERVER bank OPTIONS (user 'ann', password 'secret')});
($out, $err) = $xa->sql(q{SELECT dtm_xa_exec('bank', 'SELECT 1')}, user => 'ann');
like($err, qr/42501: permission denied for foreign server bank/, 'a role without USAGE on the server');
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER bank TO ann, bob');
($out, $err) = $xa->sql(q{SELECT dtm_xa_exec('bank', 'SELECT 1')}, user => 'bob');
like($err, qr/42704: role "bob" has no user mapping/, 'without a mapping: nobody else\'s is used');
($out, $err) = $xa->sql(q{SELECT dtm_xa_exec('bank', 'SELECT 1')}, user => 'ann');
like($err, qr/2F003: password is required/, 'a server that does not ask for the password (trust)');
my $hba = $remote->data_dir . '/pg_hba.conf';
open my $file, '<', $hba or die $!;
my @lines = <$file>;
close $file;
open $file, '>', $hba or die $!;
print $file "local all ann scram-sha-256\n", @lines;
close $file;
$remote->reload;
($out, $err) = $xa->sql(q{SELECT dtm_xa_query('bank', 'UPDATE accounts SET balance = balance - 3 RETURNING current_user AS u, balance')}, user => 'ann');
is($out, '{"u": "ann", "balance": 900}', 'its own mapping and password');
$xa->quiet('privileges');
is($node->safe_psql('postgres', q{SELECT count(*) FROM dtm.transactions}, extra_params => [ '-U', 'ann' ]), '1', 'a role sees its own transactions');
is($node->safe_psql('postgres', q{SELECT count(*) FROM dtm.transactions}, extra_params => [ '-U', 'bob' ]), '0', 'and nobody else\'s');

# within SECURITY DEFINER it is the function's owner, and each role has a transaction of its own
$node->safe_psql('postgres', q{
	CREATE FUNCTION pay() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
		$$ SELECT public.dtm_xa_exec('bank', 'UPDATE accounts SET balance = balance - 1') $$;
	ALTER FUNCTION pay() OWNER TO ann;
	GRANT EXECUTE ON FUNCTION pay() TO bob;
	CREATE USER MAPPING FOR bob SERVER shop OPTIONS (user 'bob', password 'x', password_required 'false')});
$remote->safe_psql('shop', 'CREATE ROLE bob LOGIN; GRANT ALL ON orders TO bob');
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER shop TO bob');
($out, $err) = $xa->sql(q{BEGIN; SELECT pay(); SELECT dtm_xa_exec('shop', 'INSERT INTO orders VALUES (40, current_user)'); COMMIT}, user => 'bob');
is($err, '', 'two roles in one transaction');
$xa->quiet('two roles');
is($xa->bank('SELECT balance FROM accounts') . $xa->shop('SELECT status FROM orders WHERE order_no = 40'), '899bob', 'each with its own mapping');
is($node->safe_psql('postgres', q{SELECT string_agg(submitted_by::text, ' ' ORDER BY submitted_by::text) FROM (SELECT submitted_by FROM dtm.transactions ORDER BY created_at DESC LIMIT 2) AS t}),
	'ann bob', 'each with its own transaction');

# in a function that the coordinator runs, as the role that submitted
$node->safe_psql('postgres', q{CREATE FUNCTION pay_later(payload jsonb) RETURNS void LANGUAGE sql AS
	$$ SELECT public.dtm_xa_exec('bank', 'UPDATE accounts SET balance = balance - 1'); $$});
$node->safe_psql('postgres', q{SELECT dtm_saga_submit('[{"action": "sql:pay_later"}]', 'from-a-branch')}, extra_params => [ '-U', 'ann' ]);
wait_status($node, 'from-a-branch', 'succeed');
is($xa->bank('SELECT balance FROM accounts'), '898', 'in a sql: branch');
$xa->quiet('sql: branch');

# xa:// is for these transactions alone
refused(q{SELECT dtm_saga_submit('[{"action": "xa://bank"}]')}, qr/0A000|22023/, 'xa:// cannot be submitted');
refused(q{SELECT dtm_xa_register(dtm_xa_begin(), '01', 'xa://bank')}, qr/0A000|22023/, 'nor registered');

# nor is such a name for anybody else: the sweep goes by them
for my $submit (q{dtm_saga_submit('[{"action": "sql:pay_later"}]', 'GID')}, q{dtm_msg_submit('[{"action": "sql:pay_later"}]', gid => 'GID')},
	q{dtm_xa_begin('GID')}, q{dtm_workflow_submit('pay_later', '{}', 'GID')})
{
	my $sql = $submit =~ s/GID/dtmxa-0000000000000001-5-0000000000000002-00000003/r;

	refused("SELECT $sql", qr/22023: gid must not begin with "dtmxa-"/, $submit =~ s/\(.*//r . ' with such a gid');
}

# settings without which rows and parameters would be misread
for my $setting ('client_encoding = latin1', 'datestyle = german')
{
	($out, $err) = $xa->sql(qq{BEGIN; SELECT dtm_xa_exec('shop', 'SELECT 1'); SAVEPOINT s; SELECT dtm_xa_exec('shop', 'SET $setting'); ROLLBACK TO s;
		SELECT dtm_xa_query('shop', 'WITH x AS (INSERT INTO orders SELECT 60 WHERE false) SELECT date ''2024-03-04'' AS d, length(''é'') AS l'); ROLLBACK}, on_error_stop => 0);
	like($err, qr/0A000: "statement" must not change/, "SET $setting is refused");
	is($out, qq(1\n{"d": "2024-03-04", "l": 1}), 'and is taken back');
}

# a database of another encoding: the wire is UTF-8
$node->safe_psql('postgres', q{CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0});
$node->safe_psql('latin', 'CREATE EXTENSION dtm_pg; CREATE EXTENSION postgres_fdw');
$node->safe_psql('latin', sprintf(q{CREATE SERVER shop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%s', dbname 'shop');
	CREATE USER MAPPING FOR CURRENT_USER SERVER shop}, $remote->host, $remote->port));
my $latin = q{SET client_encoding = 'UTF8'; SELECT dtm_xa_query('shop', 'INSERT INTO orders VALUES (50, ''é'' || $1) RETURNING status', 'ü')};
is($node->safe_psql('latin', $latin), qq({"status": "éü"}), 'statement, parameters and rows of a LATIN1 database');
is($xa->shop('SELECT status FROM orders WHERE order_no = 50'), 'éü', 'arrive as they are');
my (undef, undef, $problem) = $node->psql('latin', q{SELECT dtm_xa_query('shop', 'SELECT chr(26085)')});
like($problem, qr/has no equivalent in encoding "LATIN1"/, 'what LATIN1 has not is an error');
($out, $err) = $xa->sql(q{SELECT dtm_xa_query('shop', 'SELECT 1 AS a')});
is($out, '{"a": 1}', 'and nothing else is disturbed');

# without the library in memory nobody would finish it
my $bare = new_node(name => 'bare', preload => 0);
(undef, undef, $problem) = $bare->psql('postgres', q{SELECT dtm_xa_exec('x', 'SELECT 1')});
like($problem, qr/needs a preloaded dtm_pg.*HINT:  Add shared_preload_libraries = 'dtm_pg'/s, 'not preloaded');

$lock->quit;
$session->quit;
done_testing();
