# -------------------------------------------------------------------------
#
# 104_msg_scenarios.pl
#		Scenarios S11, S12, S13 and S15 in the shop, with branches over HTTP,
#		as sql: functions, and mixed; the client is a process that is killed.
#
# Not here: S14 (100_msg.pl), the local part in another database and answers
# of the check-back (101_msg_prepare.pl), more about topics (102_topics.pl).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use JSON::PP;
use ShopFixture;
use Test::More;

my $node = new_node(conf => "dtm.retry_interval = '200ms'\ndtm.retry_max_interval = '1s'");
my $shop = ShopFixture->new($node);

# The question must not be asked in a transaction that dtm_fail() rolls back: the barrier's row is the answer.
$shop->value(q{CREATE FUNCTION local_committed(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF (SELECT answer FROM dblink(format('host=%s port=%s dbname=%s',
			split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database()),
			format('SELECT dtm_barrier_query_prepared(%L)', format('gid=%s&trans_type=msg&branch_id=00&op=msg', p->>'gid')))
			AS t (answer text)) = 'FAILURE' THEN
		PERFORM dtm_fail('the local part did not commit');
	END IF;
END $$});

my %kinds = (http => [qw(http http http)], sql => [qw(sql sql sql)], mixed => [qw(http sql http)]);
my $order = 0;
my $three = 'action 01, action 02, action 03';

# pay, ship, points: what is delivered once stock and order have committed.
sub deliver
{
	my ($gid, $kind) = @_;
	my @steps = @{ $shop->steps($gid, [ 'sql', 'sql', @{ $kinds{$kind} } ], { order => $order, qty => 2, amount => 10 }) };

	delete $_->{compensate} for @steps;
	return [ @steps[ 2 .. 4 ] ];
}

sub prepare_sql
{
	my ($gid, $kind, $timeout) = @_;
	my $query = $kind eq 'sql' ? 'sql:local_committed' : $shop->service->url('/query_prepared');

	return 'SELECT dtm_msg_prepare(' . sql_literal(encode_json(deliver($gid, $kind)))
	  . ", '$query', gid => '$gid', timeout_to_fail => '$timeout')";
}

# The local transaction of the client, without its end.
sub local_sql
{
	my ($gid) = @_;

	return "BEGIN; SELECT dtm_barrier('msg', '$gid', '00', 'msg', '01');"
	  . ' UPDATE stock SET quantity = quantity - 2, sold = sold + 2 WHERE product_id = 1;'
	  . " INSERT INTO orders VALUES ($order, '$gid', 1, 1, 2, 'pending')";
}

sub barrier_reason
{
	return $shop->value("SELECT reason FROM dtm.barrier WHERE gid = '$_[0]' AND branch_id = '00' AND op = 'msg' AND barrier_id = '01'");
}

sub check_back
{
	return $shop->value("SELECT concat_ws(' ', status, attempts > 0) FROM dtm.branches WHERE gid = '$_[0]' AND branch_id = '00' AND op = 'msg'");
}

for my $kind (sort keys %kinds)
{
	# S11: prepare, local transaction, submit
	my $gid = "s11-$kind";
	$order++;
	my $client = DtmSession->new($node);
	$client->query(prepare_sql($gid, $kind, '1 min'));
	$client->query(local_sql($gid) . '; COMMIT');
	is($client->query("SELECT dtm_submit('$gid')"), 'submitted', "S11 $kind: submitted");
	wait_status($node, $gid, 'succeed');
	is($shop->deliveries($gid, 'action'), $three, "S11 $kind: three deliveries");
	is($shop->order($order), 'paid paid booked', "S11 $kind: paid and shipped");
	is(barrier_reason($gid), 'msg', "S11 $kind: the barrier's row");
	is(check_back($gid), 'prepared f', "S11 $kind: nobody had to ask");

	# S12: killed between its local commit and the submit
	$gid = "s12-$kind";
	$order++;
	$client->query(prepare_sql($gid, $kind, '3 s'));
	$client->query(local_sql($gid) . '; COMMIT');
	$client->kill;
	is($shop->value("SELECT dtm_status('$gid')"), 'prepared', "S12 $kind: prepared while nobody asks");
	wait_status($node, $gid, 'succeed');
	is(check_back($gid), 'succeed t', "S12 $kind: by the check-back");
	is($shop->deliveries($gid, 'action'), $three, "S12 $kind: three deliveries");
	is($shop->order($order), 'paid paid booked', "S12 $kind: paid and shipped");
	is($shop->value("SELECT count(*) FROM orders WHERE request_id = '$gid'"), 1, "S12 $kind: one order");

	# S13: killed before its local commit, in the middle of the transaction
	$gid = "s13-$kind";
	$order++;
	my $books = $shop->books;
	$client = DtmSession->new($node);
	$client->query(prepare_sql($gid, $kind, '1 s'));
	$client->query(local_sql($gid));
	$client->kill;
	wait_status($node, $gid, 'failed');
	is(check_back($gid), 'failed t', "S13 $kind: by the check-back");
	is(barrier_reason($gid), 'rollback', "S13 $kind: which has left its row");
	is($shop->deliveries($gid, 'action'), '', "S13 $kind: nothing is delivered");
	my ($rc, $stdout, $stderr) = $node->psql('postgres', local_sql($gid) . '; COMMIT', on_error_stop => 1);
	isnt($rc, 0, "S13 $kind: a late retry of the local transaction is refused");
	like($stderr, qr/DUPLICATED/, "S13 $kind: as DTM does it");
	is($shop->books, $books, "S13 $kind: and leaves nothing");
	is($shop->order($order), '', "S13 $kind: no order");
	$shop->check_books("S11 to S13 $kind");
}

# ---- S15: the topic of the paid order; a fourth subscriber comes, one leaves, the topic goes

sub publish
{
	my ($gid) = @_;

	$order++;
	$shop->value("INSERT INTO orders VALUES ($order, '$gid', 1, 1, 0, 'pending')");
	return $shop->value("SELECT dtm_msg_submit(jsonb_build_array(dtm_step('topic://order.paid', payload =>"
		  . " jsonb_build_object('gid', '$gid', 'order', $order, 'qty', 0, 'amount', 0))), gid => '$gid')");
}

sub target { return $_[0] eq 'sql' ? "sql:branch.$_[1]_$_[2]" : $shop->service->url("/effect/$_[1]/$_[2]"); }
sub ids { return $shop->value("SELECT string_agg(branch_id, ' ' ORDER BY branch_id) FROM dtm.branches WHERE gid = '$_[0]'"); }

$shop->value(q{CREATE FUNCTION branch.mail_send(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT branch.run('mail', 'send', p) $$});
$shop->value('CREATE TABLE mails (gid text UNIQUE);'
	  . ' CREATE FUNCTION shop.mail_send(p jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO mails VALUES (p->>\'gid\') $$');
for my $kind (sort keys %kinds)
{
	my @subscribers = ([ payment => 'charge' ], [ shipping => 'book' ], [ points => 'add' ], [ mail => 'send' ]);
	my @urls = map { target($kinds{$kind}[ $_ % 3 ], @{ $subscribers[$_] }) } 0 .. 3;

	$shop->value("SELECT dtm_topic_subscribe('order.paid', '$_')") for @urls[ 0 .. 2 ];
	publish("s15-$kind-3");
	wait_status($node, "s15-$kind-3", 'succeed');
	is(ids("s15-$kind-3"), '01-01 01-02 01-03', "S15 $kind: three subscribers");
	is($shop->deliveries("s15-$kind-3"), 'action 01-01, action 01-02, action 01-03', "S15 $kind: three deliveries");
	is($shop->order($order), 'paid paid booked', "S15 $kind: their effects");

	$shop->value("SELECT dtm_topic_subscribe('order.paid', '$urls[3]')");
	publish("s15-$kind-4");
	wait_status($node, "s15-$kind-4", 'succeed');
	is($shop->deliveries("s15-$kind-4"), 'action 01-01, action 01-02, action 01-03, action 01-04', "S15 $kind: then four");
	is($shop->value("SELECT count(*) FROM mails WHERE gid LIKE 's15-$kind-%'"), 1, "S15 $kind: the fourth only then");

	$shop->value("SELECT dtm_topic_unsubscribe('order.paid', '$urls[3]')");
	publish("s15-$kind-less");
	wait_status($node, "s15-$kind-less", 'succeed');
	is(ids("s15-$kind-less"), '01-01 01-02 01-03', "S15 $kind: then three");
	is($shop->value("SELECT count(*) FROM mails WHERE gid LIKE 's15-$kind-%'"), 1, "S15 $kind: not the one that left");

	$shop->value("SELECT dtm_topic_drop('order.paid')");
	my ($rc, $stdout, $stderr) = $node->psql('postgres',
		"SELECT dtm_msg_submit(jsonb_build_array(dtm_step('topic://order.paid')), gid => 's15-$kind-none')");
	like($stderr, qr/topic not found/, "S15 $kind: nobody is left");
	is($shop->value("SELECT count(*) FROM dtm.transactions WHERE gid = 's15-$kind-none'"), 0, "S15 $kind: nothing is stored");
	$shop->check_books("S15 $kind");
}

$node->stop;
done_testing();
