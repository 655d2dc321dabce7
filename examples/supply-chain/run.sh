#!/bin/bash
#
# run.sh: purchases over inventory, payment and shipping, first as sagas, then
# as workflows.  Exit status 0 when all its checks hold.
#
# Wants what ../lib.sh says, and psycopg2.  Creates the databases supply,
# supply_inventory, supply_payment and supply_shipping, and leaves them there to
# look at.

home=supply
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

here=$examples/supply-chain

set_up()
{
	local name

	new_database supply "$here/supply.sql" "$here/saga.sql" "$here/workflow.sql"
	for name in inventory payment shipping; do
		new_database "supply_$name" "$examples/../sql/dtm_barrier_plain.sql" "$here/$name.sql"
		start_service "$name" "$here/services.py" "$name"
	done
}

# The books, in a line: for before and after.
books()
{
	printf '%s; %s; %s\n' \
		"$(sql supply_inventory "SELECT format('%s %ss left', quantity, part) FROM item")" \
		"$(sql supply_payment "SELECT format('%s: balance %s, held %s', buyer, balance, held) FROM account")" \
		"$(sql supply_shipping "SELECT format('%s shipments', count(*) FILTER (WHERE status = 'booked')) FROM shipment")"
}

status_of()				# ORDER
{
	sql supply "SELECT concat_ws(' ', status, 'by ' || carrier) FROM purchase WHERE order_no = $1"
}

# undone GID: names of the steps that were undone, in the order in which the calls began
undone()
{
	sql supply "SELECT string_agg(b.name, ', ' ORDER BY t.at)
		FROM dtm_timeline('$1') AS t JOIN dtm.branches AS b USING (branch_id, op)
		WHERE b.gid = '$1' AND op IN ('compensate', 'cancel')"
}

# --------------------------------------------------------------------- saga

act_saga()
{
	title "1. A saga: inventory and payment at once, shipping after both"
	show_sql "SELECT buy_by_saga(1001, 'acme', qty => 10, amount => 300, ship_to => 'town');"
	report saga-1001 succeed
	check "inventory and payment were called at the same time" t \
		"$(sql supply "SELECT max(at) < min(at + took) FROM dtm_timeline('saga-1001') WHERE branch_id IN ('02', '03')")"
	check "shipping was called after both" t \
		"$(sql supply "SELECT min(at) FILTER (WHERE branch_id = '04') >= max(at + took) FILTER (WHERE branch_id IN ('02', '03'))
			FROM dtm_timeline('saga-1001')")"
	check "purchase 1001" "shipped by truck" "$(status_of 1001)"
	check "the books" "90 bolts left; acme: balance 700, held 0; 1 shipments" "$(books)"
}

act_saga_refused()
{
	local before

	title "2. A saga that is refused: no truck goes to an island"
	before=$(books)
	show_sql "SELECT buy_by_saga(1002, 'acme', qty => 10, amount => 300, ship_to => 'island');"
	report saga-1002 failed
	check "rollback_reason has the words of the shipping service" 1 \
		"$(sql supply "SELECT count(*) FROM dtm.transactions WHERE gid = 'saga-1002' AND rollback_reason LIKE '%no road to: island%'")"
	check "undone in reverse order, inventory and payment at once" "shipping, inventory, payment, order" \
		"$(undone saga-1002 | sed 's/payment, inventory/inventory, payment/')"
	check "purchase 1002" cancelled "$(status_of 1002)"
	check "the books as before" "$before" "$(books)"
}

# ----------------------------------------------------------------- workflow

act_workflow()
{
	title "3. A workflow: no truck goes to the island, but a boat does"
	say "The same business, the same refusal; this time the function knows another way."
	show_sql "SELECT buy_by_workflow(1003, 'acme', qty => 10, amount => 300, ship_to => 'island');"
	report workflow-1003 succeed
	show_sql "SELECT dtm_result('workflow-1003');"
	check "the result has what shipping has answered" '{"carrier": "boat", "customs": "not asked"}' \
		"$(sql supply "SELECT dtm_result('workflow-1003')")"
	check "purchase 1003" "shipped by boat" "$(status_of 1003)"
	check "the books" "80 bolts left; acme: balance 400, held 0; 2 shipments" "$(books)"
}

# wait_for_customs GID: until the workflow has come to that point
wait_for_customs()
{
	wait_for_sql "EXISTS (SELECT FROM dtm.branches WHERE gid = '$1' AND op = 'await' AND status = 'prepared')"
}

act_customs()
{
	title "4. A workflow that waits for people: customs"
	show_sql "SELECT buy_by_workflow(1004, 'acme', qty => 10, amount => 300, ship_to => 'abroad');"
	wait_for_customs workflow-1004
	heading "It waits: the money is held and not yet taken, no transaction is open, no process is busy with it"
	show_sql "SELECT branch_id, name, op, status, next_run_at FROM dtm.branches
WHERE gid = 'workflow-1004' ORDER BY branch_id, op;"
	books | indent
	check "the books" "70 bolts left; acme: balance 400, held 300; 2 shipments" "$(books)"
	# looked at until it is so: a worker may just be doing something else
	check "no worker has a transaction open" t "$(wait_for_sql "NOT EXISTS (
			SELECT FROM pg_stat_activity WHERE datname = 'supply' AND backend_type LIKE 'dtm_pg%'
			AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL))" && echo t)"
	heading "Customs releases it, and says so in a transaction like any other"
	show_sql "SELECT dtm_signal('workflow-1004', 'customs', '{\"by\": \"ann\"}');"
	report workflow-1004 succeed
	check "the result has the payload of the signal" '{"carrier": "boat", "customs": "ann"}' \
		"$(sql supply "SELECT dtm_result('workflow-1004')")"
	check "purchase 1004" "shipped by boat" "$(status_of 1004)"
	check "the books" "70 bolts left; acme: balance 100, held 0; 3 shipments" "$(books)"
}

act_customs_late()
{
	local before

	title "5. A workflow that waits in vain: customs has a second"
	before=$(books)
	show_sql "SELECT buy_by_workflow(1005, 'acme', qty => 10, amount => 100, ship_to => 'abroad', customs_within => '1 s');"
	report workflow-1005 failed
	check "rollback_reason has the words of the function" 1 \
		"$(sql supply "SELECT count(*) FROM dtm.transactions WHERE gid = 'workflow-1005' AND rollback_reason LIKE '%customs has not released it in time%'")"
	check "undone in reverse order, a Cancel among the compensations" "payment, inventory, order" "$(undone workflow-1005)"
	check "purchase 1005" cancelled "$(status_of 1005)"
	check "the books as before" "$before" "$(books)"
}

need_psycopg2
need_server
title "A supply chain"
set_up
say ""
books

act_saga
act_saga_refused
act_workflow
act_customs
act_customs_late

title "The end"
books
sum_up
