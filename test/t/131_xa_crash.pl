# -------------------------------------------------------------------------
#
# 131_xa_crash.pl
#		Crashes at every point of an XA commit over two databases: of the
#		session, of the coordinating server, of the other server, of the line
#		between them.  Whatever happens, both commit or neither, and nothing
#		stays prepared anywhere.
#
# A proxy in front of one server stops the message that the crash shall be at.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmProxy;
use DtmSession;
use DtmTest;
use Test::More;
use XaFixture;

my $xa = XaFixture->new(fsync => 1,
	conf => "dtm.alert_retry_limit = 1\nrestart_after_crash = on\ndtm.request_timeout = '1s'");
my ($node, $remote) = ($xa->node, $xa->remote);
my $proxy = DtmProxy->new($remote);
my $orders = 0;

$xa->server('shop');
$xa->server('bank', proxy => $proxy);

# A session in the middle of a transaction over both; nothing of it is committed yet.
sub begin_order
{
	my $session = DtmSession->new($node);

	$orders++;
	$session->query(qq{BEGIN; INSERT INTO local VALUES ('order $orders');
		SELECT dtm_xa_exec('shop', 'INSERT INTO orders VALUES ($orders, ''paid'')');
		SELECT dtm_xa_exec('bank', 'INSERT INTO payments VALUES ($orders, 100)')});
	$session->{pid} = $session->query('SELECT pg_backend_pid()');
	return $session;
}

# What of the last order is there: local, shop, bank.
sub order
{
	return join ' ', $node->safe_psql('postgres', "SELECT count(*) FROM local WHERE note = 'order $orders'"),
	  $xa->shop("SELECT count(*) FROM orders WHERE order_no = $orders"),
	  $xa->bank("SELECT count(*) FROM payments WHERE order_no = $orders");
}

sub wait_prepared
{
	my ($n, $name) = @_;

	return wait_for($remote, 'SELECT count(*) FROM pg_prepared_xacts', $n, name => $name // "$n prepared");
}

# After kill -9 of a backend the postmaster restarts everything.
sub wait_restarted
{
	my ($before) = @_;

	return wait_for($node, "SELECT pg_postmaster_start_time() IS NOT NULL AND count(*) = 1 FROM pg_stat_activity"
		  . " WHERE backend_type = 'dtm_pg coordinator' AND pid <> $before", 't', name => 'restarted');
}

sub coordinator
{
	wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator'}, '1', name => 'a coordinator');
	return $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator'});
}

wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator'}, '1');

# -------------------------------------------- between PREPARE and the commit
for my $how ('kill -9 of the session', 'an immediate stop')
{
	my $session = begin_order();
	my $coordinator = coordinator();

	$proxy->rule('PREPARE TRANSACTION', 'mute');
	$session->send('COMMIT');
	wait_prepared(2, 'both have prepared, and one has not answered');
	if ($how =~ /kill/)
	{
		kill 'KILL', $session->{pid};
		wait_restarted($coordinator);
	}
	else
	{
		immediate_stop_start($node);
	}
	$proxy->clear;
	$session->quit;
	$xa->quiet("$how between PREPARE and commit");
	is(order(), '0 0 0', 'rolled back everywhere');
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM dtm.transactions'), '0', 'nothing was recorded of them');

# the same before the second server has got its PREPARE
{
	my $session = begin_order();
	my $coordinator = coordinator();

	$proxy->rule('PREPARE TRANSACTION', 'hold');
	$session->send('COMMIT');
	$proxy->wait_hits(1);
	wait_prepared(1, 'one has prepared');
	kill 'KILL', $session->{pid};
	wait_restarted($coordinator);
	$proxy->clear;
	$session->quit;
	$xa->quiet('kill -9 between two PREPAREs');
	is(order(), '0 0 0', 'rolled back everywhere');
}

# ------------------------------------------------ between two COMMIT PREPARED
for my $how ('kill -9 of the session', 'an immediate stop', 'kill -9 of the coordinator')
{
	my $session = begin_order();
	my $coordinator = coordinator();

	$proxy->rule('COMMIT PREPARED', 'hold');
	$session->send('COMMIT');
	$proxy->wait_hits(1);
	wait_prepared(1, 'one is committed, the other one is not yet');
	if ($how eq 'an immediate stop')
	{
		immediate_stop_start($node);
	}
	else
	{
		kill 'KILL', $how =~ /session/ ? $session->{pid} : $coordinator;
		wait_restarted($coordinator);
	}
	is(order(), '1 1 0', 'the decision was to commit');
	$proxy->clear;
	$session->quit;
	$xa->quiet("$how between two COMMIT PREPARED");
	is(order(), '1 1 1', 'committed everywhere');
}

# ------------------------------------------------------------- lost answers
# the PREPARE is done, its answer never comes: the session cannot know
{
	my $session = begin_order();

	$proxy->rule('PREPARE TRANSACTION', 'lose');
	$session->query('COMMIT');
	$proxy->clear;
	like($session->errors, qr/connection to server "bank" was lost/, 'the answer to PREPARE is lost: the commit fails');
	$session->quit;
	$xa->quiet('lost answer to PREPARE');
	is(order(), '0 0 0', 'and the coordinator rolls back what it prepared');
}

# the same with one that does not come to an end before the session gives up on it
{
	my $session = begin_order();

	$proxy->rule('PREPARE TRANSACTION', 'mute');
	$session->send('COMMIT');
	wait_prepared(2);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($session->{pid})");
	wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE pid = $session->{pid}", '0', name => 'the session has ended');
	$proxy->clear;
	$session->quit;
	$xa->quiet('session ended while it waited for a PREPARE');
	is(order(), '0 0 0', 'rolled back');
}

# the answer to COMMIT PREPARED is lost
{
	my $session = begin_order();

	$proxy->rule('COMMIT PREPARED', 'lose');
	$session->query('COMMIT');
	is($session->errors, '', 'the answer to COMMIT PREPARED is lost: the commit stands');
	$proxy->clear;
	$xa->quiet('lost answer to COMMIT PREPARED');
	is(order(), '1 1 1', 'committed everywhere');
	$session->quit;
}

# --------------------------------------- a transaction that is still in progress
# the coordinator starts, looks, and must not touch what a session has prepared
{
	my $session = begin_order();
	my $coordinator = coordinator();

	$proxy->rule("PREPARE TRANSACTION '.*-02'", 'mute');
	$session->send('COMMIT');
	wait_prepared(2);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($coordinator)");
	wait_restarted($coordinator);
	wait_for($remote, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'dtm_pg' AND query LIKE '%pg_prepared_xacts%' AND datname = 'shop' AND pid <> pg_backend_pid()},
		't', name => 'the new coordinator has looked at the server');
	is($xa->prepared, '2', 'and left what a session in progress has prepared');
	$proxy->clear;
	$session->result;
	is($session->errors, '', 'which then commits');
	$session->quit;
	$xa->quiet('sweep during a commit');
	is(order(), '1 1 1', 'everywhere');
}

# ------------------------------------------------------ servers that stay away
{
	my $session = begin_order();

	$proxy->rule('COMMIT PREPARED', 'cut');
	$session->query('COMMIT');
	is($session->errors, '', 'a server is lost right after the decision: the commit stands');
	$remote->stop('immediate');
	$proxy->clear;
	wait_for($node, q{SELECT trans_type || ' ' || status || ' ' || (reason ~ 'xa://(shop|bank): ') || ' ' || (suggestion ~ '^SELECT dtm_retry')
		FROM dtm.stuck WHERE gid IS NOT NULL}, 'xa submitted true true', name => 'dtm.stuck says which server and why');
	immediate_stop_start($node);
	wait_for($node, q{SELECT string_agg(reason, '') ~ 'server (bank|shop) cannot be asked' FROM dtm.stuck WHERE gid IS NULL}, 't',
		name => 'and, after a crash, that what it left cannot be looked for');
	$remote->start;
	$session->quit;
	$xa->quiet('server away and back, crashed');
	is(order(), '1 1 1', 'committed everywhere');
	wait_for($node, 'SELECT count(*) FROM dtm.stuck', '0', name => 'dtm.stuck is empty again');
}

# what a crash left, on a server that comes back after the coordinator has started
{
	my $session = begin_order();

	$proxy->rule('PREPARE TRANSACTION', 'mute');
	$session->send('COMMIT');
	wait_prepared(2);
	$node->stop('immediate');
	$proxy->clear;
	$remote->stop('immediate');
	$node->start;
	wait_for($node, q{SELECT count(*) FROM dtm.stuck WHERE gid IS NULL}, '2', name => 'both servers are away');
	is($node->safe_psql('postgres', q{SELECT DISTINCT trans_type || ' ' || submitted_by FROM dtm.stuck}),
		'xa ' . $node->safe_psql('postgres', 'SELECT current_user'), 'whose mapping it is about');
	$remote->start;
	$session->quit;
	$xa->quiet('swept later');
	is(order(), '0 0 0', 'rolled back everywhere');
}

# stopped by a person, and purged: it was decided, so it is not rolled back
{
	my $session = begin_order();

	$proxy->rule('COMMIT PREPARED', 'cut');
	$session->query('COMMIT');
	$session->quit;
	$node->safe_psql('postgres', q{SELECT dtm_stop(gid, 'test') FROM dtm.transactions WHERE status = 'submitted'});
	$proxy->clear;
	my $swept = sub {
		my $coordinator = coordinator();
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($coordinator)");
		wait_restarted($coordinator);
		$session = begin_order();
		$proxy->rule('PREPARE TRANSACTION', 'lose');
		$session->query('COMMIT');
		$proxy->clear;
		$session->quit;
		return;
	};
	$swept->();
	wait_prepared(1, 'what was stopped is left, what a session left later is swept');
	wait_for($node, q{SELECT dtm_purge('0 s') >= 0 AND count(*) = 0 FROM dtm.transactions WHERE status = 'failed'}, 't', name => 'purged');
	$swept->();
	wait_prepared(1, 'also when it is purged');
	my $xid = $remote->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts');
	$remote->safe_psql('bank', "COMMIT PREPARED '$xid'");
	$orders -= 2;
	is(order(), '1 1 1', 'for a person to finish');
	$orders += 2;
}

# paused: nothing is swept until it is resumed
{
	my $session = begin_order();

	$proxy->rule('PREPARE TRANSACTION', 'mute');
	$session->send('COMMIT');
	wait_prepared(2);
	$node->safe_psql('postgres', q{SELECT dtm_pause('test')});
	immediate_stop_start($node);
	$proxy->clear;
	$session->quit;
	wait_for($node, q{SELECT state FROM dtm.workers WHERE worker = 0 AND pid IS NOT NULL}, 'paused', name => 'paused');
	is($xa->prepared, '2', 'a paused coordinator does not sweep');
	$node->safe_psql('postgres', q{SELECT dtm_resume()});
	$xa->quiet('paused and resumed');
	is(order(), '0 0 0', 'rolled back everywhere');
}

# others' prepared transactions are left alone
$remote->safe_psql('shop', q{BEGIN; INSERT INTO orders VALUES (999, 'x'); PREPARE TRANSACTION 'dtmxa-0000000000000000-5-0000000000000001-00000000-01'});
$remote->safe_psql('shop', q{BEGIN; INSERT INTO orders VALUES (998, 'x'); PREPARE TRANSACTION 'mine'});
immediate_stop_start($node);
{
	my $session = begin_order();

	# a sweep that is asked for now comes after the one of the start
	$proxy->rule('PREPARE TRANSACTION', 'lose');
	$session->query('COMMIT');
	$proxy->clear;
	$session->quit;
	wait_prepared(2, 'only ours is rolled back');
}
$remote->safe_psql('shop', "ROLLBACK PREPARED 'mine'");
$remote->safe_psql('shop', "ROLLBACK PREPARED 'dtmxa-0000000000000000-5-0000000000000001-00000000-01'");

# what nobody here can know the end of is shown: a failover may have lost it, or given its number out again
{
	my $prefix = $node->safe_psql('postgres', q{SELECT 'dtmxa-' || lpad(to_hex(system_identifier), 16, '0') || '-' || (SELECT oid FROM pg_database WHERE datname = current_database())
		FROM pg_control_system()});
	my $past = $node->safe_psql('postgres', q{SELECT pg_current_xact_id()});

	for my $xid ($past, $past + 1000000)
	{
		my $name = sprintf('%s-%016x-0a0b0c0d-01', $prefix, $xid);

		$remote->safe_psql('bank', "BEGIN; INSERT INTO payments VALUES (999, 1); PREPARE TRANSACTION '$name'");
		immediate_stop_start($node);
		wait_for($node, q{SELECT reason FROM dtm.stuck}, qq(server bank holds a prepared transaction that nobody ends: "$name" is of no transaction that is known here),
			name => 'shown');
		is($xa->prepared, '1', 'and left alone');
		$remote->safe_psql('bank', "ROLLBACK PREPARED '$name'");
		wait_for($node, q{SELECT count(*) FROM dtm.stuck}, '0', name => 'until a person has ended it');
	}
}

# a sql: branch whose commit waits for a server that does not answer is given up after request_timeout, and done again
$node->safe_psql('postgres', q{CREATE FUNCTION pay(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO local VALUES ('pay');
	PERFORM dtm_xa_exec('bank', 'INSERT INTO payments VALUES (777, 1)');
END $$});
$proxy->rule('PREPARE TRANSACTION', 'hold');
$node->safe_psql('postgres', q{SELECT dtm_saga_submit('[{"action": "sql:pay"}]', gid => 'held')});
wait_for($node, q{SELECT last_error FROM dtm.branches WHERE gid = 'held' AND op = 'action' AND attempts > 0},
	'timed out after 1000 ms (request_timeout)', name => 'given up in its commit');
$proxy->clear;
wait_for($node, q{SELECT dtm_status('held')}, 'succeed', name => 'and done when the server answers');
is($node->safe_psql('postgres', q{SELECT count(*) FROM local WHERE note = 'pay'}) . $xa->bank('SELECT count(*) FROM payments WHERE order_no = 777'),
	'11', 'once');
$xa->quiet('a branch that uses dtm_xa_exec');

# a server that is dropped is forgotten, one whose mapping is dropped with nothing left, too
$node->safe_psql('postgres', 'DROP SERVER shop CASCADE');
immediate_stop_start($node);
wait_for($node, 'SELECT count(*) FROM dtm.xa_server', '1', name => 'a dropped server is forgotten');

$proxy->stop;
done_testing();
