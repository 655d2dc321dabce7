# -------------------------------------------------------------------------
#
# 101_msg_prepare.pl
#		Two-phase messages whose local transaction lives in another database:
#		scenarios S11, S12 and S13, the check-back over HTTP and as a sql:
#		function, crashes in each phase.
#
# The business (database "shop") does what DTM's SDKs do: prepare, the local
# transaction behind the barrier (branch 00, op msg), submit.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node(conf => "dtm.retry_interval = '200ms'\ndtm.retry_max_interval = '1s'\ndtm.request_timeout = '1s'",
	fsync => 1);
$node->safe_psql('postgres', 'CREATE DATABASE shop');
install_extension($node, 'shop');
my $service = start_service(node => $node, dbname => 'shop');

sub value { return $node->safe_psql('postgres', $_[0]); }
sub shop { return $node->safe_psql('shop', $_[0]); }

shop('CREATE TABLE stock (id int PRIMARY KEY, quantity int); CREATE TABLE orders (gid text PRIMARY KEY);'
	  . 'INSERT INTO stock VALUES (1, 100)');

sub prepare
{
	my ($gid, $query, $more) = @_;
	my @steps = map { { action => $service->url("/effect/$_"), payload => { gid => $gid }, name => $_ } }
	  qw(pay ship points);

	return value('SELECT dtm_msg_prepare(' . sql_literal(encode_json(\@steps)) . ', '
		  . sql_literal($query // $service->url('/query_prepared')) . ", gid => '$gid'"
		  . ($more ? ", $more" : '') . ')');
}

# The local transaction; its barrier row and its business commit together.
sub local_part
{
	my ($gid) = @_;

	return "BEGIN; SELECT dtm_barrier('msg', '$gid', '00', 'msg', '01');"
	  . ' UPDATE stock SET quantity = quantity - 2 WHERE id = 1;'
	  . " INSERT INTO orders VALUES ('$gid');";
}

sub books { return shop("SELECT quantity || ' ' || (SELECT count(*) FROM orders) FROM stock"); }

sub branches
{
	return value("SELECT string_agg(branch_id || ' ' || status, ', ' ORDER BY branch_id) FROM dtm.branches"
		  . " WHERE gid = '$_[0]'");
}

sub asked { return scalar $service->calls(path => '/query_prepared', gid => $_[0]); }
sub delivered { return join(', ', effects($node, $_[0], dbname => 'shop')); }

my $three = 'action 01, action 02, action 03';

# ---- S11: all goes well

prepare('s11');
is(branches('s11'), '00 prepared, 01 prepared, 02 prepared, 03 prepared', 'S11: prepared, with its branches');
shop(local_part('s11') . ' COMMIT');
is(value("SELECT dtm_submit('s11')"), 'submitted', 'S11: submitted');
wait_status($node, 's11', 'succeed');
is(branches('s11'), '00 prepared, 01 succeed, 02 succeed, 03 succeed', 'S11: three branches; the check-back was not needed');
is(delivered('s11'), $three, 'S11: three deliveries');
is(shop("SELECT count(DISTINCT x) FROM (SELECT xmin::text AS x FROM orders WHERE gid = 's11' UNION ALL"
	  . " SELECT xmin::text FROM stock UNION ALL SELECT xmin::text FROM dtm.barrier"
	  . " WHERE gid = 's11' AND branch_id = '00' AND op = 'msg' AND barrier_id = '01' AND reason = 'msg') AS all_of_them"),
	1, 'S11: stock, order and barrier row of one transaction');
is(asked('s11'), 0, 'S11: nobody had to ask');
is(books(), '98 1', 'S11: the books');

# the local part fails: the client aborts, and nothing is delivered
prepare('s11-abort');
is(value("SELECT dtm_abort('s11-abort', 'no stock')"), 'failed', 'aborted');
is(branches('s11-abort'), '00 prepared, 01 prepared, 02 prepared, 03 prepared', 'no branch was called');
is(value("SELECT rollback_reason FROM dtm.transactions WHERE gid = 's11-abort'"), 'no stock', 'the reason is kept');

# ---- S12: the client dies after its commit

my $start = time();
prepare('s12', undef, "timeout_to_fail => '2 s'");
shop(local_part('s12') . ' COMMIT');
wait_status($node, 's12', 'succeed');
cmp_ok(($service->calls(path => '/query_prepared', gid => 's12'))[0]{start} - $start, '>=', 2,
	'S12: asked once the time is over');
is(($service->calls(path => '/query_prepared', gid => 's12'))[0]{method} . ' '
	  . ($service->calls(path => '/query_prepared', gid => 's12'))[0]{query_string},
	'GET branch_id=00&gid=s12&op=msg&trans_type=msg', 'S12: how it is asked');
is(asked('s12'), 1, 'S12: asked once');
is(value("SELECT concat_ws(' ', op, url, status, attempts) FROM dtm.branches WHERE gid = 's12' AND branch_id = '00'"),
	'msg ' . $service->url('/query_prepared') . ' succeed 1', 'S12: and it is a row of dtm.branches');
is(delivered('s12'), $three, 'S12: three deliveries');
is(books(), '96 2', 'S12: one more order');

# ---- S13: the client dies before its commit; its local part may even come later

prepare('s13', undef, "timeout_to_fail => '1 s'");
wait_status($node, 's13', 'failed');
is(delivered('s13'), '', 'S13: nothing is delivered');
is(shop("SELECT reason FROM dtm.barrier WHERE gid = 's13' AND branch_id = '00' AND op = 'msg'"), 'rollback',
	'S13: the check-back has left its row');
like(value("SELECT rollback_reason FROM dtm.transactions WHERE gid = 's13'"), qr/FAILURE$/, 'S13: rollback_reason');
my ($rc, $stdout, $stderr) = $node->psql('shop', local_part('s13') . ' COMMIT', on_error_stop => 1);
isnt($rc, 0, 'S13: the late local transaction is refused');
like($stderr, qr/DUPLICATED/i, 'S13: as DTM does it');
is(books(), '96 2', 'S13: and leaves nothing');
($rc, $stdout, $stderr) = $node->psql('postgres', "SELECT dtm_submit('s13')");
like($stderr, qr/cannot be submitted: its status is "failed"/, 'S13: the late submit too');

# the local transaction is still open when the question comes: it is waited for
my $session = DtmSession->new($node, 'shop');
prepare('open', undef, "timeout_to_fail => '500 ms', retry_interval => '100 ms'");
$session->query(local_part('open'));
wait_until(sub { asked('open') }, 'asked while the local transaction is open');
is(value("SELECT dtm_status('open')"), 'prepared', 'no answer yet');
$session->query('COMMIT');
wait_status($node, 'open', 'succeed');
is(delivered('open'), $three, 'the open transaction counts once it has committed');
is(books(), '94 3', 'its books');

# the client dies in the middle of its local transaction, with the question waiting for it
my $dying = DtmSession->new($node, 'shop');
prepare('dying', undef, "timeout_to_fail => '300 ms', retry_interval => '100 ms'");
$dying->query(local_part('dying'));
wait_until(sub { asked('dying') }, 'asked while the client is alive');
$dying->quit;
wait_status($node, 'dying', 'failed');
is(delivered('dying') . books(), '94 3', 'nothing is delivered, nothing is left');

# ---- answers to the check-back

$service->script('/query_prepared', { query => { gid => 'moody' }, answers => [ map { { %$_, before => 1 } }
	{ status => 500 }, { status => 425 }, { body => 'ONGOING' }, { close => 1 } ],
	then => { body => { dtm_result => 'SUCCESS' }, before => 1 } });
prepare('moody', undef, "timeout_to_fail => '100 ms', retry_interval => '50 ms'");
wait_status($node, 'moody', 'succeed');
is(asked('moody'), 5, 'asked until there is an answer');
$service->script('/query_prepared', { query => { gid => 'body' }, then => { body => { dtm_result => 'FAILURE' }, before => 1 } });
prepare('body', undef, "timeout_to_fail => '100 ms'");
wait_status($node, 'body', 'failed');
is(asked('body'), 1, 'FAILURE in the body is an answer');

# ---- a submit while the check-back is on its way: the owner has decided

$service->script('/query_prepared', { query => { gid => 'race' }, then => { status => 409, gate => 'race', before => 1 } });
prepare('race', undef, "timeout_to_fail => '100 ms', request_timeout => '20 s'");
wait_until(sub { asked('race') }, 'the check-back is out');
shop(local_part('race') . ' COMMIT');
is(value("SELECT dtm_submit('race')"), 'submitted', 'submitted meanwhile');
$service->control(POST => '/_open', { gate => 'race' });
wait_status($node, 'race', 'succeed');
is(delivered('race'), $three, 'the late answer decides nothing');
$service->script('/query_prepared', { query => { gid => 'race-2' }, then => { gate => 'race-2', before => 1 } });
prepare('race-2', undef, "timeout_to_fail => '100 ms', request_timeout => '20 s'");
wait_until(sub { asked('race-2') }, 'another check-back is out');
is(value("SELECT dtm_abort('race-2', 'no')"), 'failed', 'aborted meanwhile');
$service->control(POST => '/_open', { gate => 'race-2' });
is(value("SELECT dtm_status('race-2')") . delivered('race-2'), 'failed', 'and stays so');

# ---- a sql: function that asks the other database

value(q{CREATE EXTENSION dblink; CREATE FUNCTION shop_committed(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF (SELECT answer FROM dblink('dbname=shop port=' || current_setting('port') || ' host='
			|| split_part(current_setting('unix_socket_directories'), ',', 1),
			format('SELECT dtm_barrier_query_prepared(%L)', format('gid=%s&trans_type=msg&branch_id=00&op=msg', p->>'gid')))
			AS t (answer text)) = 'FAILURE' THEN
		PERFORM dtm_fail('the local part did not commit');
	END IF;
END $$});
# the local part first: a slow machine must not be asked before it
shop(local_part('sql-yes') . ' COMMIT');
prepare($_, 'sql:shop_committed', "timeout_to_fail => '300 ms'") for 'sql-yes', 'sql-no';
wait_status($node, 'sql-yes', 'succeed');
wait_status($node, 'sql-no', 'failed');
is(delivered('sql-yes') . delivered('sql-no'), $three, 'sql: check-backs decide as those over HTTP');
like(value("SELECT rollback_reason FROM dtm.transactions WHERE gid = 'sql-no'"), qr/did not commit/, 'reason of the function');

# ---- the default time-out

value("ALTER SYSTEM SET dtm.timeout_to_fail = '1s'");
value('SELECT pg_reload_conf()');
wait_for($node, 'SHOW dtm.timeout_to_fail', '1s');
prepare('default');
wait_status($node, 'default', 'failed');
is(asked('default'), 1, 'asked after dtm.timeout_to_fail');

# ---- what fails by the hand of its owner is notified, too

value("ALTER SYSTEM SET dtm.notify = on");
value('SELECT pg_reload_conf()');
wait_for($node, 'SHOW dtm.notify', 'on');
prepare('told', undef, "timeout_to_fail => '1 min'");
prepare('told-2', undef, "timeout_to_fail => '1 min'");
like(value("LISTEN dtm; SELECT dtm_abort('told')"), qr/notification "dtm" with payload "told failed"/, 'of an abort');
like(value("LISTEN dtm; SELECT dtm_stop('told-2')"), qr/notification "dtm" with payload "told-2 failed"/, 'of a stop');

# ---- crashes: prepared; asked; between the deliveries

my $before = books();
prepare('crash-1', undef, "timeout_to_fail => '3 s'");
shop(local_part('crash-1') . ' COMMIT');
immediate_stop_start($node);
is(value("SELECT dtm_status('crash-1')"), 'prepared', 'prepared outlives a crash');
wait_status($node, 'crash-1', 'succeed');
is(delivered('crash-1'), $three, 'and its check-back comes');

$service->script('/query_prepared', { query => { gid => 'crash-2' }, answers => [ { hang => 1, before => 1 } ] });
prepare('crash-2', undef, "timeout_to_fail => '100 ms', request_timeout => '20 s'");
shop(local_part('crash-2') . ' COMMIT');
wait_until(sub { asked('crash-2') }, 'the check-back is out');
immediate_stop_start($node);
wait_status($node, 'crash-2', 'succeed');
is(asked('crash-2'), 2, 'asked again after the crash');
is(delivered('crash-2'), $three, 'delivered once');

$service->script('/effect/ship', { query => { gid => 'crash-3' }, answers => [ { hang => 1 } ] });
prepare('crash-3');
shop(local_part('crash-3') . ' COMMIT');
value("SELECT dtm_submit('crash-3')");
wait_until(sub { delivered('crash-3') eq 'action 01, action 02' }, 'the second is on its way');
immediate_stop_start($node);
wait_status($node, 'crash-3', 'succeed');
is(delivered('crash-3'), $three, 'each effect once after a crash between the deliveries');
is(asked('crash-3'), 0, 'a submitted message is not asked about');

# the submit is as durable as its transaction
prepare('crash-4');
shop(local_part('crash-4') . ' COMMIT');
$service->script('/effect/pay', { query => { gid => 'crash-4' }, answers => [ { hang => 1, before => 1 } ] });
value("SELECT dtm_submit('crash-4')");
immediate_stop_start($node);
wait_status($node, 'crash-4', 'succeed');
is(asked('crash-4'), 0, 'the submit has outlived the crash');
my ($quantity, $orders) = split / /, $before;
is(books(), ($quantity - 8) . ' ' . ($orders + 4), 'the books after all crashes');
is(value("SELECT count(*) FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed')"), 0, 'nothing is left open');

$session->quit;
$node->stop;
done_testing();
