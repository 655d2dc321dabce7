/*
 * Reservations: stock that many buyers want at once.
 *
 * A resource is some free units in several buckets, one row each, so that buyers need not queue for one row.
 * Who reserves takes from a bucket that nobody has locked, and leaves a row in dtm.reservation: confirmed or
 * released later, or given back after its time.  docs/reservations.md has the rules; those of locking:
 *
 * 1. Who reserves inserts his row first, and always a new one: nobody waits for it who has any lock of this resource.
 * 2. A bucket, and reservations whose time is over, are taken with SKIP LOCKED, which never waits.
 * 3. Who must wait for a single bucket, or for such a reservation, waits without any other lock of this resource.
 *    Each attempt is a savepoint: a row that was changed meanwhile stays locked although it does not qualify any
 *    more, until it is rolled back.
 * 4. Who needs all buckets takes them in the order of their numbers, after the reservations and the row in dtm.stock.
 * 5. Resources are settled in the order of their names, one after the other.
 *
 * So buyers of one resource never deadlock, nor do those of several who take them in the order of their names.
 *
 * The functions ..._as run as the owner of these tables, called by C functions that tell them who asks: nobody
 * else may execute them.  src/sql/dtm_sql_reserve.c
 */
CREATE TABLE dtm.stock (
	resource	text COLLATE "C" NOT NULL,
	owner		regrole NOT NULL,
	buckets		integer NOT NULL,
	created_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT stock_pkey PRIMARY KEY (resource)
);
COMMENT ON TABLE dtm.stock IS 'resources that can be reserved, and whose they are; read dtm.stocks instead';

-- Many versions of few rows: room for them on the page, so that every change is a HOT update.
CREATE TABLE dtm.stock_bucket (
	resource	text COLLATE "C" NOT NULL,
	bucket		integer NOT NULL,
	available	bigint NOT NULL,
	sold		bigint NOT NULL DEFAULT 0,
	CONSTRAINT stock_bucket_pkey PRIMARY KEY (resource, bucket),
	CONSTRAINT stock_bucket_available_check CHECK (available OPERATOR(pg_catalog.>=) 0)
) WITH (
	fillfactor = 25,
	autovacuum_vacuum_scale_factor = 0,
	autovacuum_vacuum_threshold = 2000,
	autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE dtm.stock_bucket IS 'free units of a resource, spread over its buckets; read dtm.stocks instead';
COMMENT ON COLUMN dtm.stock_bucket.sold IS 'sold units whose rows in dtm.reservation are deleted already';

CREATE TABLE dtm.reservation (
	gid			text COLLATE "C" NOT NULL,
	resource	text COLLATE "C" NOT NULL,
	branch_id	text COLLATE "C" NOT NULL,
	attempt		integer NOT NULL DEFAULT 1,
	quantity	bigint NOT NULL,
	state		text COLLATE "C" NOT NULL DEFAULT 'reserved',
	expires_at	timestamptz NOT NULL,
	settled_at	timestamptz,
	xid			xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
	CONSTRAINT reservation_pkey PRIMARY KEY (gid, resource, branch_id, attempt)
) WITH (
	fillfactor = 90,
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX reservation_expires_at_idx ON dtm.reservation (resource, expires_at)
	WHERE state OPERATOR(pg_catalog.=) 'reserved';
CREATE INDEX reservation_settled_at_idx ON dtm.reservation USING brin (settled_at) WITH (pages_per_range = 32, autosummarize = on);
COMMENT ON TABLE dtm.reservation IS 'who has reserved what, and what became of it; read dtm.reservations instead';
COMMENT ON COLUMN dtm.reservation.branch_id IS 'branch that has reserved it, empty outside of a sql: branch';
COMMENT ON COLUMN dtm.reservation.attempt IS 'reserved again after it was given back: a row of its own; only the last one can be reserved or sold';
COMMENT ON COLUMN dtm.reservation.state IS 'reserved, sold, released (by its gid) or expired (given back after expires_at)';
COMMENT ON COLUMN dtm.reservation.xid IS 'local transaction that has reserved it: it neither repeats nor reclaims its own';

SELECT pg_catalog.pg_extension_config_dump('dtm.stock', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.stock_bucket', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.reservation', '');

/* ---- stock ---- */

-- What is said of a resource that is not there, or is not the caller's.  lock: nobody else changes its buckets meanwhile.
CREATE FUNCTION dtm.stock_check(caller oid, item text, lock boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	owned_by oid;
BEGIN
	IF item IS NULL THEN
		RAISE EXCEPTION '"resource" must not be NULL' USING ERRCODE = '22004';
	ELSIF item = '' THEN
		RAISE EXCEPTION '"resource" must not be empty' USING ERRCODE = '22023';
	ELSIF octet_length(item) > 128 THEN
		RAISE EXCEPTION '"resource" is longer than 128 bytes' USING ERRCODE = '22023';
	END IF;
	IF lock THEN
		SELECT s.owner INTO owned_by FROM dtm.stock AS s WHERE s.resource = item FOR NO KEY UPDATE;
	ELSE
		SELECT s.owner INTO owned_by FROM dtm.stock AS s WHERE s.resource = item;
	END IF;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'resource not found: "%"', item
			USING ERRCODE = '42704', HINT = 'dtm_stock_set() makes one; dtm.stocks has those you may reserve.';
	ELSIF NOT pg_has_role(caller, owned_by, 'USAGE') THEN
		RAISE EXCEPTION 'permission denied for resource "%"', item
			USING ERRCODE = '42501', HINT = format('It belongs to role %s; only its members may use it.', owned_by::regrole);
	END IF;
END $$;
COMMENT ON FUNCTION dtm.stock_check(oid, text, boolean) IS 'errors of a resource that does not exist or is not the caller''s; internal';

-- Make a resource's free units so many in all, the same in each bucket.  All buckets are locked by the caller.
CREATE FUNCTION dtm.stock_spread(item text, total bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	n bigint;
BEGIN
	SELECT count(*) INTO n FROM dtm.stock_bucket AS b WHERE b.resource = item;
	UPDATE dtm.stock_bucket AS b SET available = w.available
	FROM (SELECT c.bucket, total / n + (c.bucket < total % n)::integer AS available
		FROM dtm.stock_bucket AS c WHERE c.resource = item) AS w
	WHERE b.resource = item AND b.bucket = w.bucket AND b.available <> w.available;
END $$;
COMMENT ON FUNCTION dtm.stock_spread(text, bigint) IS 'spread the free units of a resource over its buckets; internal';

-- Lock all buckets in the order of their numbers, and that there are no others; what is free in them.
CREATE FUNCTION dtm.stock_lock(item text)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
	PERFORM FROM dtm.stock AS s WHERE s.resource = item FOR NO KEY UPDATE;
	RETURN (SELECT coalesce(sum(l.available), 0) FROM (
		SELECT b.available FROM dtm.stock_bucket AS b WHERE b.resource = item ORDER BY b.bucket FOR NO KEY UPDATE) AS l);
END $$;
COMMENT ON FUNCTION dtm.stock_lock(text) IS 'lock all buckets of a resource and say what is free; internal';

CREATE FUNCTION dtm.stock_set_as(caller oid, item text, amount bigint, n_buckets integer)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	n integer;
BEGIN
	IF amount IS NULL THEN
		RAISE EXCEPTION '"quantity" must not be NULL' USING ERRCODE = '22004';
	ELSIF amount < 0 THEN
		RAISE EXCEPTION '"quantity" must not be negative: %', amount USING ERRCODE = '22023';
	ELSIF n_buckets NOT BETWEEN 1 AND 1024 THEN
		RAISE EXCEPTION '"buckets" must be between 1 and 1024: %', n_buckets
			USING ERRCODE = '22023', HINT = 'As many as buyers at the same moment: 1 for what hardly anybody wants, 16 to 64 for a flash sale.';
	END IF;
	IF item <> '' AND octet_length(item) <= 128 THEN
		INSERT INTO dtm.stock (resource, owner, buckets) VALUES (item, caller, coalesce(n_buckets, 16)) ON CONFLICT DO NOTHING;
	END IF;
	PERFORM dtm.stock_check(caller, item, lock => true);
	PERFORM dtm.stock_lock(item);
	UPDATE dtm.stock AS s SET buckets = coalesce(n_buckets, s.buckets) WHERE s.resource = item RETURNING s.buckets INTO n;
	WITH gone AS (
		DELETE FROM dtm.stock_bucket AS b WHERE b.resource = item AND b.bucket >= n RETURNING b.sold
	)
	UPDATE dtm.stock_bucket AS b SET sold = b.sold + (SELECT coalesce(sum(g.sold), 0) FROM gone AS g)
	WHERE b.resource = item AND b.bucket = 0;
	INSERT INTO dtm.stock_bucket (resource, bucket, available)
	SELECT item, i, 0 FROM generate_series(0, n - 1) AS i ON CONFLICT DO NOTHING;
	PERFORM dtm.stock_spread(item, amount);
	RETURN amount;
END $$;
COMMENT ON FUNCTION dtm.stock_set_as(oid, text, bigint, integer) IS 'body of dtm_stock_set; internal';

CREATE FUNCTION dtm.stock_add_as(caller oid, item text, amount bigint)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	total bigint;
BEGIN
	IF amount IS NULL THEN
		RAISE EXCEPTION '"quantity" must not be NULL' USING ERRCODE = '22004';
	END IF;
	PERFORM dtm.stock_check(caller, item, lock => true);
	total := dtm.stock_lock(item);
	IF total + amount < 0 THEN
		RAISE EXCEPTION 'not enough free: "%"', item
			USING ERRCODE = 'DTM01', DETAIL = format('%s to take away, %s free.', - amount, total);
	END IF;
	PERFORM dtm.stock_spread(item, total + amount);
	RETURN total + amount;
END $$;
COMMENT ON FUNCTION dtm.stock_add_as(oid, text, bigint) IS 'body of dtm_stock_add; internal';

CREATE FUNCTION dtm.stock_drop_as(caller oid, item text)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	n bigint;
BEGIN
	PERFORM dtm.stock_check(caller, item, lock => true);
	PERFORM dtm.stock_lock(item);
	SELECT count(*) INTO n FROM dtm.reservation AS r WHERE r.resource = item AND r.state = 'reserved';
	IF n > 0 THEN
		RAISE EXCEPTION 'resource "%" has % reservations that are neither confirmed nor released', item, n
			USING ERRCODE = '55006', HINT = 'dtm.reservations has them; dtm_reserve_release() gives one back.';
	END IF;
	DELETE FROM dtm.reservation AS r WHERE r.resource = item;
	DELETE FROM dtm.stock_bucket AS b WHERE b.resource = item;
	DELETE FROM dtm.stock AS s WHERE s.resource = item;
	RETURN n;
END $$;
COMMENT ON FUNCTION dtm.stock_drop_as(oid, text) IS 'body of dtm_stock_drop; internal';

/* ---- reserving ---- */

/*
 * What becomes of a reservation whose time is over.  It goes the way of the transaction with its gid, when a member of
 * the resource's owner has submitted one: "pinned" while that is unfinished, so that its Confirm never comes too late;
 * "sold" when it has succeeded without a Confirm of its own.  Else "expired".
 */
CREATE FUNCTION dtm.reservation_fate(of_gid text, item text)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	trans record;
BEGIN
	SELECT l.id IS NOT NULL AS unfinished, d.status INTO trans
	FROM dtm.trans AS t
		LEFT JOIN dtm.live AS l ON l.id = t.id
		LEFT JOIN dtm.done AS d ON d.id = t.id
	WHERE t.gid = of_gid
		AND pg_has_role(t.owner, (SELECT s.owner FROM dtm.stock AS s WHERE s.resource = item), 'USAGE');
	RETURN CASE WHEN trans.unfinished THEN 'pinned' WHEN trans.status = 4 THEN 'sold' ELSE 'expired' END;
END $$;
COMMENT ON FUNCTION dtm.reservation_fate(text, text) IS 'what becomes of a reservation whose time is over; internal';

CREATE FUNCTION dtm.stock_sold_out(item text, amount bigint, free numeric)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'sold out: "%"', item
		USING ERRCODE = 'DTM01', DETAIL = format('%s asked for, %s free.', amount, free);
END $$;
COMMENT ON FUNCTION dtm.stock_sold_out(text, bigint, numeric) IS 'raises DTM01; internal';

CREATE FUNCTION dtm.stock_not_certain(item text, amount bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'others are taking what is left: "%"', item
		USING ERRCODE = 'DTM02', DETAIL = format('%s asked for.', amount), HINT = 'Ask again, or wait for them: wait => true.';
END $$;
COMMENT ON FUNCTION dtm.stock_not_certain(text, bigint) IS 'raises DTM02; internal';

/*
 * Take some units for good or not at all: from one bucket if one has enough, else from all of them, with what
 * expired reservations give back.  Sold out is only said when it is certain: the free units that are committed do not
 * suffice, even if everybody who is taking some right now rolled back.
 */
CREATE FUNCTION dtm.stock_take(item text, n_buckets integer, amount bigint, may_wait boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	instant timestamptz := clock_timestamp();
	lock_timeout text := current_setting('lock_timeout');
	free numeric;
	largest bigint;
	due numeric;
	gids text[];
	branches text[];
	other dtm.reservation;
	start integer;
	chosen integer;
BEGIN
	LOOP
		-- one that nobody has locked, from a random one on
		start := floor(random() * n_buckets);
		BEGIN
			UPDATE dtm.stock_bucket AS b SET available = b.available - amount
			WHERE b.resource = item AND b.bucket = coalesce(
				(SELECT c.bucket FROM dtm.stock_bucket AS c
				WHERE c.resource = item AND c.bucket >= start AND c.available >= amount
				ORDER BY c.bucket LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED),
				(SELECT c.bucket FROM dtm.stock_bucket AS c
				WHERE c.resource = item AND c.bucket < start AND c.available >= amount
				ORDER BY c.bucket LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED));
			IF FOUND THEN
				RETURN;
			END IF;
			RAISE EXCEPTION 'none' USING ERRCODE = 'DTM0W';
		EXCEPTION WHEN SQLSTATE 'DTM0W' THEN
			NULL;
		END;

		SELECT coalesce(sum(b.available), 0), max(b.available) INTO free, largest
		FROM dtm.stock_bucket AS b WHERE b.resource = item;
		IF largest >= amount THEN
			-- enough is there, but in the hands of others: wait for one of them, and look again if he takes it
			IF NOT may_wait THEN
				PERFORM dtm.stock_not_certain(item, amount);
			END IF;
			SELECT b.bucket INTO chosen FROM dtm.stock_bucket AS b
			WHERE b.resource = item AND b.available >= amount ORDER BY random() LIMIT 1;
			BEGIN
				UPDATE dtm.stock_bucket AS b SET available = b.available - amount
				WHERE b.resource = item AND b.bucket = chosen AND b.available >= amount;
				IF FOUND THEN
					RETURN;
				END IF;
				RAISE EXCEPTION 'taken' USING ERRCODE = 'DTM0W';
			EXCEPTION WHEN SQLSTATE 'DTM0W' THEN
				CONTINUE;
			END;
		END IF;

		SELECT coalesce(sum(r.quantity), 0) INTO due FROM dtm.reservation AS r
		WHERE r.resource = item AND r.state = 'reserved' AND r.expires_at <= instant
			AND r.xid <> pg_current_xact_id() AND dtm.reservation_fate(r.gid, item) = 'expired';
		IF free + due < amount THEN
			PERFORM dtm.stock_sold_out(item, amount, free);
		END IF;

		-- scattered over the buckets, or to be given back: lock it all, to know for certain
		BEGIN
			IF NOT may_wait THEN
				PERFORM set_config('lock_timeout', '1', true);
			END IF;
			SELECT array_agg(l.gid), array_agg(l.branch_id), coalesce(sum(l.quantity), 0) INTO gids, branches, due
			FROM (SELECT r.gid, r.branch_id, r.quantity FROM dtm.reservation AS r
				WHERE r.resource = item AND r.state = 'reserved' AND r.expires_at <= instant
					AND r.xid <> pg_current_xact_id() AND dtm.reservation_fate(r.gid, item) = 'expired'
				ORDER BY r.expires_at LIMIT greatest(amount, 1000)
				FOR NO KEY UPDATE SKIP LOCKED) AS l;
			free := dtm.stock_lock(item);
			IF free < amount AND due > 0 THEN
				UPDATE dtm.reservation AS r SET state = 'expired', settled_at = instant
				FROM unnest(gids, branches) AS o (gid, branch_id)
				WHERE r.gid = o.gid AND r.resource = item AND r.branch_id = o.branch_id AND r.state = 'reserved';
				free := free + due;
			END IF;
			IF free < amount THEN
				RAISE EXCEPTION 'not all of it' USING ERRCODE = 'DTM0W';
			END IF;
			PERFORM dtm.stock_spread(item, (free - amount)::bigint);
			IF NOT may_wait THEN
				PERFORM set_config('lock_timeout', lock_timeout, true);
			END IF;
			RETURN;
		EXCEPTION
			WHEN SQLSTATE 'DTM0W' THEN
				NULL;
			WHEN lock_not_available THEN
				IF may_wait THEN
					RAISE;
				END IF;
				PERFORM dtm.stock_not_certain(item, amount);
		END;

		-- somebody confirms or releases right now what is due: wait for him, and look again
		IF NOT may_wait THEN
			PERFORM dtm.stock_not_certain(item, amount);
		END IF;
		SELECT r.* INTO other FROM dtm.reservation AS r
		WHERE r.resource = item AND r.state = 'reserved' AND r.expires_at <= instant
			AND r.xid <> pg_current_xact_id() AND dtm.reservation_fate(r.gid, item) = 'expired'
		ORDER BY random() LIMIT 1;
		BEGIN
			PERFORM FROM dtm.reservation AS r
			WHERE r.gid = other.gid AND r.resource = item AND r.branch_id = other.branch_id AND r.attempt = other.attempt
			FOR NO KEY UPDATE;
			RAISE EXCEPTION 'look again' USING ERRCODE = 'DTM0W';
		EXCEPTION WHEN SQLSTATE 'DTM0W' THEN
			NULL;
		END;
	END LOOP;
END $$;
COMMENT ON FUNCTION dtm.stock_take(text, integer, bigint, boolean) IS 'take free units of a resource, or DTM01; internal';

CREATE FUNCTION dtm.reservation_last(of_gid text, item text, of_branch text)
RETURNS dtm.reservation
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
	SELECT r.* FROM dtm.reservation AS r
	WHERE r.gid = of_gid AND r.resource = item AND r.branch_id = of_branch
	ORDER BY r.attempt DESC LIMIT 1
$$;
COMMENT ON FUNCTION dtm.reservation_last(text, text, text) IS 'the last attempt of a branch to reserve a resource; internal';

CREATE FUNCTION dtm.reserve_as(caller oid, item text, amount bigint, of_gid text, of_branch text, ttl interval, may_wait boolean)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	life interval := coalesce(ttl, '15 min');
	owned_by oid;
	n_buckets integer;
	free numeric;
	prior dtm.reservation;
BEGIN
	IF amount IS NULL THEN
		RAISE EXCEPTION '"quantity" must not be NULL' USING ERRCODE = '22004';
	ELSIF amount <= 0 THEN
		RAISE EXCEPTION '"quantity" must be at least 1: %', amount USING ERRCODE = '22023';
	ELSIF life < '0' THEN
		RAISE EXCEPTION '"ttl" must not be negative: %', ttl USING ERRCODE = '22023';
	ELSIF may_wait IS NULL THEN
		RAISE EXCEPTION '"wait" must not be NULL' USING ERRCODE = '22004';
	END IF;
	SELECT s.owner, s.buckets INTO owned_by, n_buckets FROM dtm.stock AS s WHERE s.resource = item;
	IF owned_by IS NULL OR NOT pg_has_role(caller, owned_by, 'USAGE') THEN
		PERFORM dtm.stock_check(caller, item, lock => false);
	END IF;

	-- the buyer has reserved it before he submitted: there is nothing left for the Try to do
	IF of_branch <> '' THEN
		prior := dtm.reservation_last(of_gid, item, '');
		IF prior.state = ANY ('{reserved,sold}') AND prior.quantity >= amount THEN
			RETURN amount;
		END IF;
		prior := NULL;
	END IF;

	-- many come after it is sold out: they write nothing
	IF NOT EXISTS (SELECT FROM dtm.stock_bucket AS b WHERE b.resource = item AND b.available >= amount) THEN
		SELECT coalesce(sum(b.available), 0) INTO free FROM dtm.stock_bucket AS b WHERE b.resource = item;
		IF free < amount
			AND NOT EXISTS (SELECT FROM dtm.reservation AS r
				WHERE r.resource = item AND r.state = 'reserved' AND r.expires_at <= statement_timestamp())
			AND NOT EXISTS (SELECT FROM dtm.reservation AS r
				WHERE r.gid = of_gid AND r.resource = item AND r.branch_id = of_branch)
		THEN
			PERFORM dtm.stock_sold_out(item, amount, free);
		END IF;
	END IF;

	-- the row first: a repeated call ends here and takes nothing, also while the first one is under way
	LOOP
		INSERT INTO dtm.reservation AS r (gid, resource, branch_id, attempt, quantity, expires_at)
		VALUES (of_gid, item, of_branch, coalesce(prior.attempt + 1, 1), amount, clock_timestamp() + life)
		ON CONFLICT ON CONSTRAINT reservation_pkey DO NOTHING;
		IF FOUND THEN
			PERFORM dtm.stock_take(item, n_buckets, amount, may_wait);
			RETURN amount;
		END IF;
		prior := dtm.reservation_last(of_gid, item, of_branch);
		EXIT WHEN prior.state = ANY ('{reserved,sold}');
	END LOOP;
	IF prior.quantity <> amount THEN
		RAISE EXCEPTION '"%" has reserved % of "%" already', of_gid, prior.quantity, item
			USING ERRCODE = '23505', DETAIL = format('%s asked for.', amount),
				HINT = 'The same call again has no effect; for another quantity release it first.';
	ELSIF prior.xid = pg_current_xact_id() THEN
		RAISE EXCEPTION '"%" has reserved "%" in this transaction already', of_gid, item
			USING ERRCODE = '23505', HINT = 'Reserve the sum in one call.';
	END IF;
	RETURN amount;
END $$;
COMMENT ON FUNCTION dtm.reserve_as(oid, text, bigint, text, text, interval, boolean) IS 'body of dtm_reserve; internal';

/* ---- settling ---- */

-- Give units to a bucket of the resource that nobody has locked.  When there is none: wait, or DTM0W.
CREATE FUNCTION dtm.stock_give(item text, amount bigint, of_sold bigint, may_wait boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	chosen integer;
BEGIN
	SELECT b.bucket INTO chosen FROM dtm.stock_bucket AS b
	WHERE b.resource = item ORDER BY b.bucket LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		IF NOT may_wait THEN
			RAISE EXCEPTION 'all buckets are locked' USING ERRCODE = 'DTM0W';
		END IF;
		-- the first one is always there
		chosen := 0;
	END IF;
	UPDATE dtm.stock_bucket AS b SET available = b.available + amount, sold = b.sold + of_sold
	WHERE b.resource = item AND b.bucket = chosen;
END $$;
COMMENT ON FUNCTION dtm.stock_give(text, bigint, bigint, boolean) IS 'add units to a bucket of a resource; internal';

/*
 * The last attempts of a gid to reserve of the caller's resources.  42501 when it has only others'.  lock: only those that are reserved
 * or sold; those that were given back do not change any more, unless they are reserved anew.
 */
CREATE FUNCTION dtm.reservations_of(caller oid, of_gid text, item text, lock boolean)
RETURNS SETOF dtm.reservation
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	foreign_item text;
BEGIN
	IF of_gid IS NULL THEN
		RAISE EXCEPTION '"gid" must not be NULL' USING ERRCODE = '22004';
	END IF;
	IF lock THEN
		RETURN QUERY
			SELECT r.* FROM dtm.reservation AS r JOIN dtm.stock AS s ON s.resource = r.resource
			WHERE r.gid = of_gid AND (item IS NULL OR r.resource = item) AND pg_has_role(caller, s.owner, 'USAGE')
				AND r.state = ANY ('{reserved,sold}')
			ORDER BY r.resource, r.branch_id
			FOR NO KEY UPDATE OF r;
		RETURN;
	END IF;
	RETURN QUERY
		SELECT DISTINCT ON (r.resource, r.branch_id) r.*
		FROM dtm.reservation AS r JOIN dtm.stock AS s ON s.resource = r.resource
		WHERE r.gid = of_gid AND (item IS NULL OR r.resource = item) AND pg_has_role(caller, s.owner, 'USAGE')
		ORDER BY r.resource, r.branch_id, r.attempt DESC;
	IF NOT FOUND THEN
		SELECT r.resource INTO foreign_item FROM dtm.reservation AS r
		WHERE r.gid = of_gid AND (item IS NULL OR r.resource = item) LIMIT 1;
		IF FOUND THEN
			PERFORM dtm.stock_check(caller, foreign_item, lock => false);
		END IF;
	END IF;
END $$;
COMMENT ON FUNCTION dtm.reservations_of(oid, text, text, boolean) IS 'what a gid has reserved; internal';

CREATE FUNCTION dtm.confirm_as(caller oid, of_gid text, item text)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	r dtm.reservation;
	total bigint := 0;
BEGIN
	PERFORM dtm.reservations_of(caller, of_gid, item, lock => true);
	FOR r IN SELECT * FROM dtm.reservations_of(caller, of_gid, item, lock => false) LOOP
		IF r.state = ANY ('{released,expired}') THEN
			RAISE EXCEPTION 'the reservation of "%" by "%" has %', r.resource, r.gid,
				CASE WHEN r.state = 'expired' THEN 'expired' ELSE 'been released' END
				USING ERRCODE = 'DTM01', DETAIL = format('%s given back at %s.', r.quantity, r.settled_at),
					HINT = 'Reserve in the transaction that submits the saga or TCC with the same gid, or in its Try: while that is unfinished, nothing expires.';
		END IF;
		UPDATE dtm.reservation AS u SET state = 'sold', settled_at = clock_timestamp()
		WHERE u.gid = r.gid AND u.resource = r.resource AND u.branch_id = r.branch_id AND u.state = 'reserved';
		total := total + r.quantity;
	END LOOP;
	IF total = 0 THEN
		RAISE EXCEPTION 'no reservation of "%"%', of_gid, CASE WHEN item IS NULL THEN '' ELSE format(' for "%s"', item) END
			USING ERRCODE = '42704', HINT = 'dtm.reservations has them.';
	END IF;
	RETURN total;
END $$;
COMMENT ON FUNCTION dtm.confirm_as(oid, text, text) IS 'body of dtm_reserve_confirm; internal';

CREATE FUNCTION dtm.release_as(caller oid, of_gid text, item text, also_sold boolean)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	of_item text;
	back bigint;
	total bigint := 0;
BEGIN
	-- one resource after the other, as buyers take them
	FOR of_item IN SELECT DISTINCT r.resource FROM dtm.reservations_of(caller, of_gid, item, lock => false) AS r ORDER BY 1 LOOP
		WITH u AS (
			UPDATE dtm.reservation AS u SET state = 'released', settled_at = clock_timestamp()
			FROM dtm.reservations_of(caller, of_gid, of_item, lock => true) AS o
			WHERE u.gid = o.gid AND u.resource = o.resource AND u.branch_id = o.branch_id
				AND (u.state = 'reserved' OR (also_sold AND u.state = 'sold'))
			RETURNING u.quantity
		)
		SELECT sum(u.quantity)::bigint INTO back FROM u;
		IF back > 0 THEN
			PERFORM dtm.stock_give(of_item, back, 0, may_wait => true);
			total := total + back;
		END IF;
	END LOOP;
	RETURN total;
END $$;
COMMENT ON FUNCTION dtm.release_as(oid, text, text, boolean) IS 'body of dtm_reserve_release; internal';

/*
 * Settle reservations whose time is over, of one resource after the other, and delete the rows of those that were
 * settled before dtm.retention.  Never waits: what is locked is left for the next time.  caller NULL: of all roles.
 * At most so many; returns how many.
 */
CREATE FUNCTION dtm.reserve_sweep_as(caller oid, at_most bigint)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
	instant timestamptz := clock_timestamp();
	retention interval := coalesce(current_setting('dtm.retention', true), '7d');
	item text := '';
	batch record;
	done bigint := 0;
BEGIN
	WHILE done < at_most LOOP
		SELECT r.resource INTO item FROM dtm.reservation AS r
		WHERE r.state = 'reserved' AND r.resource > item ORDER BY r.resource LIMIT 1;
		EXIT WHEN NOT FOUND;
		CONTINUE WHEN NOT EXISTS (SELECT FROM dtm.stock AS s
			WHERE s.resource = item AND (caller IS NULL OR pg_has_role(caller, s.owner, 'USAGE')));
		BEGIN
			WITH over AS (
				SELECT r.gid, r.branch_id, dtm.reservation_fate(r.gid, item) AS fate FROM dtm.reservation AS r
				WHERE r.resource = item AND r.state = 'reserved' AND r.expires_at <= instant
				ORDER BY r.expires_at LIMIT at_most - done
				FOR NO KEY UPDATE SKIP LOCKED
			), u AS (
				-- what is pinned is put off, so that whoever is short does not look at it each time
				UPDATE dtm.reservation AS r SET state = CASE WHEN o.fate = 'pinned' THEN r.state ELSE o.fate END,
					settled_at = CASE WHEN o.fate = 'pinned' THEN NULL ELSE instant END,
					expires_at = CASE WHEN o.fate = 'pinned' THEN instant + '1 min' ELSE r.expires_at END
				FROM over AS o
				WHERE r.gid = o.gid AND r.resource = item AND r.branch_id = o.branch_id AND r.state = 'reserved'
				RETURNING r.quantity, o.fate
			)
			SELECT count(*) AS n, sum(u.quantity) FILTER (WHERE u.fate = 'expired')::bigint AS back INTO batch FROM u;
			IF batch.back > 0 THEN
				PERFORM dtm.stock_give(item, batch.back, 0, may_wait => false);
			END IF;
			done := done + batch.n;
		EXCEPTION WHEN SQLSTATE 'DTM0W' THEN
			NULL;
		END;
	END LOOP;

	IF retention > '0' AND done < at_most THEN
		BEGIN
			FOR batch IN
				WITH old AS (
					SELECT r.gid, r.resource, r.branch_id, r.attempt FROM dtm.reservation AS r
					WHERE r.settled_at < instant - retention
						AND (caller IS NULL OR EXISTS (SELECT FROM dtm.stock AS s
							WHERE s.resource = r.resource AND pg_has_role(caller, s.owner, 'USAGE')))
						AND NOT EXISTS (SELECT FROM dtm.trans AS t JOIN dtm.live AS l ON l.id = t.id WHERE t.gid = r.gid)
					LIMIT at_most - done
					FOR UPDATE OF r SKIP LOCKED
				), gone AS (
					DELETE FROM dtm.reservation AS r USING old AS x
					WHERE r.gid = x.gid AND r.resource = x.resource AND r.branch_id = x.branch_id AND r.attempt = x.attempt
					RETURNING r.resource, r.state, r.quantity
				)
				SELECT g.resource, count(*) AS n, coalesce(sum(g.quantity) FILTER (WHERE g.state = 'sold'), 0)::bigint AS sold
				FROM gone AS g GROUP BY g.resource ORDER BY g.resource
			LOOP
				IF batch.sold > 0 THEN
					PERFORM dtm.stock_give(batch.resource, 0, batch.sold, may_wait => false);
				END IF;
				done := done + batch.n;
			END LOOP;
		EXCEPTION WHEN SQLSTATE 'DTM0W' THEN
			NULL;
		END;
	END IF;
	RETURN done;
END $$;
COMMENT ON FUNCTION dtm.reserve_sweep_as(oid, bigint) IS 'body of dtm_reserve_sweep, also called by the coordinator; internal';

/* ---- the public face ---- */

CREATE FUNCTION dtm_stock_set(resource text, quantity bigint, buckets integer DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_stock_set';
COMMENT ON FUNCTION dtm_stock_set(text, bigint, integer) IS 'so many units of the resource are free now; makes it when it is new';

CREATE FUNCTION dtm_stock_add(resource text, quantity bigint)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_stock_add';
COMMENT ON FUNCTION dtm_stock_add(text, bigint) IS 'put units in stock, or take free ones away with a negative quantity; returns what is free then';

CREATE FUNCTION dtm_stock_drop(resource text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_stock_drop';
COMMENT ON FUNCTION dtm_stock_drop(text) IS 'forget a resource of which nothing is reserved, and what was sold of it';

CREATE FUNCTION dtm_reserve(
	resource text,
	quantity bigint DEFAULT 1,
	gid text DEFAULT NULL,
	ttl interval DEFAULT '15 min',
	wait boolean DEFAULT true)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_reserve';
COMMENT ON FUNCTION dtm_reserve(text, bigint, text, interval, boolean) IS 'reserve units in this transaction, or raise DTM01 when sold out; returns the gid';

CREATE FUNCTION dtm_reserve_confirm(gid text, resource text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_reserve_confirm';
COMMENT ON FUNCTION dtm_reserve_confirm(text, text) IS 'what the gid has reserved is sold; may be repeated; returns how many units';

CREATE FUNCTION dtm_reserve_release(gid text, resource text DEFAULT NULL, sold boolean DEFAULT false)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_reserve_release';
COMMENT ON FUNCTION dtm_reserve_release(text, text, boolean) IS 'give back what the gid has reserved, and with sold => true what was sold; may be repeated; returns how many units came back';

CREATE FUNCTION dtm_reserve_sweep()
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_reserve_sweep';
COMMENT ON FUNCTION dtm_reserve_sweep() IS 'settle reservations of own resources whose time is over; returns how many; the coordinator does it each minute';

-- The same as targets of sql: branches; payload: {"resource": "A1", "quantity": 1, "ttl": "15 min"}.
CREATE FUNCTION dtm.branch_gid()
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	gid text := @extschema@.dtm_context() ->> 'gid';
BEGIN
	IF gid IS NULL THEN
		RAISE EXCEPTION 'this function is for sql: branches'
			USING ERRCODE = '55000', HINT = 'Elsewhere: dtm_reserve(), dtm_reserve_confirm(gid), dtm_reserve_release(gid).';
	END IF;
	RETURN gid;
END $$;
COMMENT ON FUNCTION dtm.branch_gid() IS 'the gid that a sql: branch belongs to; 55000 elsewhere';

CREATE FUNCTION dtm_reserve_try(payload jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM @extschema@.dtm_reserve(payload ->> 'resource', coalesce((payload ->> 'quantity')::bigint, 1), dtm.branch_gid(),
		(payload ->> 'ttl')::interval);
END $$;
COMMENT ON FUNCTION dtm_reserve_try(jsonb) IS 'Try of a tcc or action of a saga: reserve {"resource", "quantity", "ttl"}; sold out fails the branch';

CREATE FUNCTION dtm_reserve_confirm(payload jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM @extschema@.dtm_reserve_confirm(dtm.branch_gid(), payload ->> 'resource');
END $$;
COMMENT ON FUNCTION dtm_reserve_confirm(jsonb) IS 'Confirm of a tcc, or last action of a saga: what its gid has reserved of {"resource"}, or of all, is sold';

CREATE FUNCTION dtm_reserve_cancel(payload jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- a saga compensates in reverse, what it has confirmed as well
	PERFORM @extschema@.dtm_reserve_release(dtm.branch_gid(), payload ->> 'resource',
		sold => @extschema@.dtm_context() ->> 'op' = 'compensate');
END $$;
COMMENT ON FUNCTION dtm_reserve_cancel(jsonb) IS 'Cancel of a tcc or compensation of a saga: give back what its gid has of {"resource"}, or of all';
