-- The buyer's own database: purchase orders, and the functions by which they
-- are driven.  saga.sql and workflow.sql are two ways to do the same business.

CREATE EXTENSION dtm_pg;

CREATE TABLE purchase (
	order_no	int PRIMARY KEY,
	buyer		text NOT NULL,
	part		text NOT NULL,
	qty			int NOT NULL,
	amount		int NOT NULL,
	ship_to		text NOT NULL CHECK (ship_to IN ('town', 'island', 'abroad')),
	status		text NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'in work', 'shipped', 'cancelled')),
	carrier		text
);

-- Where the services are; run.sh fills it.
CREATE TABLE service (
	name		text PRIMARY KEY,
	url			text NOT NULL
);

-- The URL of /inventory/take is that of the service "inventory" with the path behind it.
CREATE FUNCTION service_url(path text) RETURNS text
LANGUAGE sql STABLE AS $$
	SELECT s.url || path FROM service s WHERE s.name = split_part(path, '/', 2)
$$;

-- The step of the purchase order, and its undo.  Being first, its undo runs
-- last: a purchase is cancelled only when all behind it has been undone.
CREATE FUNCTION open_purchase(data jsonb) RETURNS void
LANGUAGE sql AS $$
	UPDATE purchase SET status = 'in work' WHERE order_no = (data->>'order')::int
$$;

CREATE FUNCTION cancel_purchase(data jsonb) RETURNS void
LANGUAGE sql AS $$
	UPDATE purchase SET status = 'cancelled' WHERE order_no = (data->>'order')::int
$$;
