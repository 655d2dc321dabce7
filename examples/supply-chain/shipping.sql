-- The shipping service's own table, in database supply_shipping.

CREATE TABLE shipment (
	order_no	int PRIMARY KEY,
	carrier		text NOT NULL CHECK (carrier IN ('truck', 'boat')),
	status		text NOT NULL CHECK (status IN ('booked', 'cancelled'))
);
