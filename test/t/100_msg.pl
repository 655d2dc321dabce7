# -------------------------------------------------------------------------
#
# 100_msg.pl
#		Messages: what a service sees of them, delays (scenario S14) and
#		crashes.
#
# Not here: arguments and what is refused (test/sql/msg.sql).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node(conf => "dtm.retry_interval = '200ms'\ndtm.retry_max_interval = '1s'", fsync => 1);
my $service = start_service(node => $node);

sub value { return $node->safe_psql('postgres', $_[0]); }

sub submit_msg
{
	my ($gid, $steps, $more) = @_;

	return value('SELECT dtm_msg_submit(' . sql_literal(JSON::PP->new->canonical->encode($steps))
		  . ", gid => '$gid'" . ($more ? ", $more" : '') . ')');
}

sub step
{
	my ($path, %more) = @_;

	return { action => $service->url($path), payload => { n => 1 }, %more };
}

sub branches
{
	return value("SELECT string_agg(branch_id || ' ' || status, ', ' ORDER BY branch_id) FROM dtm.branches"
		  . " WHERE gid = '$_[0]'");
}

# ---- the outbox: the business and its message in one transaction

value('CREATE TABLE orders (id int PRIMARY KEY, state text)');
my $steps = sql_literal(encode_json([ step('/effect/pay'), step('/effect/ship', payload => undef) ]));
value("BEGIN; INSERT INTO orders VALUES (1, 'new'); SELECT dtm_msg_submit($steps, gid => 'gone'); ROLLBACK");
value("BEGIN; INSERT INTO orders VALUES (1, 'new'); SELECT dtm_msg_submit($steps, gid => 'box'); COMMIT");
wait_status($node, 'box', 'succeed');
my @calls = $service->calls(gid => 'box');
is(join(', ', map { "$_->{method} $_->{path} $_->{query_string}" } @calls),
	'POST /effect/pay branch_id=01&gid=box&op=action&trans_type=msg, '
	  . 'GET /effect/ship branch_id=02&gid=box&op=action&trans_type=msg',
	'in order; POST with a payload, GET without one');
is(join(', ', effects($node, 'box')), 'action 01, action 02', 'each behind the barrier once');
is(scalar($service->calls(gid => 'gone')), 0, 'nothing of what was rolled back');

# ---- a service that is away, refuses, does not know yet: delivered again, in order, never given up

$service->script('/stubborn', { answers => [ { status => 500 }, { status => 409, body => 'no' },
	{ status => 425 }, { body => { dtm_result => 'FAILURE' } }, { close => 1 } ] });
submit_msg('stubborn', [ step('/stubborn'), step('/after') ], "retry_interval => '50 ms', timeout_to_fail => '100 ms'");
wait_status($node, 'stubborn', 'succeed');
is(join(' ', map { $_->{path} } $service->calls(gid => 'stubborn')), join(' ', ('/stubborn') x 6, '/after'),
	'six times, and the next only then');
is(value("SELECT coalesce(rollback_reason, '-') FROM dtm.transactions WHERE gid = 'stubborn'"), '-',
	'neither a refusal nor a time-out ends a message');

# ---- S14: close the unpaid order later; a restart and a crash in between

for my $how (qw(fast immediate))
{
	my ($unpaid, $paid) = ("unpaid-$how", "paid-$how");
	my $start = time();

	value("CREATE OR REPLACE FUNCTION close_order(p jsonb) RETURNS void LANGUAGE sql AS \$\$"
		  . " UPDATE orders SET state = 'cancelled' WHERE id = (p->>'id')::int AND state = 'new' \$\$;"
		  . " TRUNCATE orders; INSERT INTO orders VALUES (1, 'new'), (2, 'new')");
	submit_msg($unpaid, [ { action => 'sql:close_order', payload => { id => 1 } }, step('/late') ], "delay => '4 s'");
	submit_msg($paid, [ { action => 'sql:close_order', payload => { id => 2 } }, step('/late') ], "delay => '4 s'");
	value("UPDATE orders SET state = 'paid' WHERE id = 2");
	is(branches($unpaid), '01 prepared, 02 prepared', "$how: nothing is called yet");
	$node->stop($how);
	$node->start;
	is(value("SELECT dtm_status('$unpaid') || ' ' || count(*) FROM dtm.timer AS i JOIN dtm.trans USING (id) WHERE gid = '$unpaid'"),
		'submitted 1', "$how: it waits in a timer after the restart");
	cmp_ok(time() - $start, '<', 4, "$how: in time to look");
	is(scalar($service->calls(gid => $unpaid)), 0, "$how: still nothing is called");
	wait_status($node, $_, 'succeed') for $unpaid, $paid;
	cmp_ok(($service->calls(gid => $unpaid))[0]{start} - $start, '>=', 4, "$how: not before the delay");
	cmp_ok(($service->calls(gid => $unpaid))[0]{start} - $start, '<', 8, "$how: and soon after it");
	is(scalar($service->calls(gid => $unpaid)), 1, "$how: one call");
	is(value('SELECT string_agg(state, \' \' ORDER BY id) FROM orders'), 'cancelled paid',
		"$how: closed when it is not paid");
}

# ---- a crash between two deliveries

$service->script('/effect/slow', { answers => [ { gate => 'slow' } ] });
submit_msg('crash', [ step('/effect/one'), step('/effect/slow'), step('/effect/three') ]);
wait_until(sub { scalar $service->calls(path => '/effect/slow') }, 'the second is called');
immediate_stop_start($node);
$service->control(POST => '/_open', { gate => 'slow' });
wait_status($node, 'crash', 'succeed');
is(join(', ', effects($node, 'crash')), 'action 01, action 02, action 03', 'each effect once, in order');
is(branches('crash'), '01 succeed, 02 succeed, 03 succeed', 'all delivered');

$node->stop;
done_testing();
