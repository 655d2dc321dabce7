#!/bin/bash
#
# run.sh: orders, the messages that follow from them, and orders that nobody
# pays.  Exit status 0 when all its checks hold.
#
# Wants what ../lib.sh says.  Creates the database order_outbox, and leaves it
# there to look at.

home=order_outbox
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

here=$examples/order-outbox

set_up()
{
	new_database order_outbox "$here/order.sql"
	start_service consumers "$here/consumers.py" --lose-answer paid-1001 --away placed-1003
	heading "Who wants to know what"
	sql "$home" "SELECT dtm_topic_subscribe(topic, url || path)
		FROM service, (VALUES ('order.placed', '/index'), ('order.paid', '/mail'), ('order.paid', '/index'),
			('order.closed', '/mail'), ('order.closed', '/index')) AS v (topic, path)" >/dev/null
	show_sql "SELECT dtm_topic_subscribe('order.paid', 'sql:public.add_points');
SELECT topic, url FROM dtm.topics ORDER BY topic, created_at;"
}

# ended GID: wait for it, and count its end
ended()
{
	check "dtm_wait('$1'): succeed" succeed "$(sql "$home" "SELECT dtm_wait('$1')")"
}

# count_calls GID WORDS: calls of it whose line in the log has these words
count_calls()
{
	calls_of "$1" | grep -c -- "$2" || true
}

act_rollback()
{
	title "1. A transaction that rolls back has sent nothing"
	show_sql "BEGIN;
SELECT place_order(1000, 'ann', 60);
SELECT gid, status FROM dtm.transactions;
ROLLBACK;"
	heading "Checks"
	check "messages: 0" 0 "$(sql "$home" "SELECT count(*) FROM dtm.transactions")"
}

act_paid()
{
	title "2. An order that is paid in time, and one that is not"
	say "Both have 3 s. The mail about the first one is sent, but the answer is lost."
	show_sql "SELECT place_order(1001, 'ann', 60, pay_within => '3 s');
SELECT place_order(1002, 'bob', 40, pay_within => '3 s');
SELECT pay_order(1001);"
	report paid-1001 succeed
	check "mails about it that were sent: 1" 1 "$(count_calls paid-1001 'sent: dear ann')"
	at_least "calls that were a repetition: 1" 1 "$(count_calls paid-1001 'sent before')"
	check "points of ann: 60" 60 "$(sql "$home" "SELECT balance FROM points WHERE customer = 'ann'")"
}

act_closed()
{
	title "3. Three seconds are over"
	show_sql "SELECT dtm_wait('close-1001'), dtm_wait('close-1002');
SELECT * FROM orders ORDER BY order_no;"
	ended closed-1002
	heading "What the services saw of order 1002"
	calls_of closed-1002 | indent
	heading "Checks"
	ended close-1001
	check "order 1001 is paid" paid "$(sql "$home" "SELECT status FROM orders WHERE order_no = 1001")"
	check "order 1002 is closed" closed "$(sql "$home" "SELECT status FROM orders WHERE order_no = 1002")"
	check "nobody is told that order 1001 is closed" 0 \
		"$(sql "$home" "SELECT count(*) FROM dtm.transactions WHERE gid = 'closed-1001'")"
	check "bob is told" 1 "$(count_calls closed-1002 'sent: dear bob, order 1002 is closed')"
}

act_order()
{
	title "4. Two messages of one transaction arrive in order"
	say "The index is out for maintenance when it is told of the new order, and what comes after that waits."
	show_sql "BEGIN;
SELECT place_order(1003, 'ann', 25, pay_within => '3 s');
SELECT pay_order(1003);
COMMIT;
SELECT gid, status, waits_for FROM dtm.transactions
WHERE gid IN ('placed-1003', 'paid-1003', 'close-1003') ORDER BY created_at, gid;"
	ended placed-1003
	ended paid-1003
	heading "What the services saw"
	grep -e '  placed-1003  ' -e '  paid-1003  ' "$work/calls" | indent
	heading "Checks"
	at_least "calls to the index about the new order: 3" 3 "$(count_calls placed-1003 /index)"
	check "the first call about the payment comes after the last about the new order" \
		"200 order 1003 is new" \
		"$(grep -B 1 -m 1 -e '  paid-1003  ' "$work/calls" | sed -n '1s/.*\/index *//p')"
	check "the index has it as paid" "200 order 1003 is paid" \
		"$(grep '/index.*order 1003' "$work/calls" | sed -n '$s/.*\/index *//p')"
	check "points of ann: 85" 85 "$(sql "$home" "SELECT balance FROM points WHERE customer = 'ann'")"
	ended close-1003
	check "order 1003 is paid" paid "$(sql "$home" "SELECT status FROM orders WHERE order_no = 1003")"
}

need_server
title "Orders and an outbox"
set_up
act_rollback
act_paid
act_closed
act_order

title "The end"
sum_up
