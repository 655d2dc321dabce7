/*
 * The store.  The public face is the views (50-views.sql); the tables may
 * change by upgrade scripts.  docs/how-it-works.md says why they look so.
 */

CREATE SEQUENCE dtm.trans_id_seq AS bigint;
COMMENT ON SEQUENCE dtm.trans_id_seq IS 'numbers of transactions; dtm_saga_submit draws from it';

-- What was submitted: one row per transaction, written once.
CREATE TABLE dtm.trans (
	id			bigint NOT NULL,
	gid			text COLLATE "C" NOT NULL,
	trans_type	smallint NOT NULL,
	owner		regrole NOT NULL,
	created_at	timestamptz NOT NULL,
	spec		bytea NOT NULL,
	CONSTRAINT trans_pkey PRIMARY KEY (id),
	CONSTRAINT trans_gid_key UNIQUE (gid)
) WITH (
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE dtm.trans IS 'what was submitted: one immutable row per transaction; read dtm.transactions and dtm.branches instead';

-- Branches that came after the submit: of a tcc or xa that its client runs, and steps of a workflow.
CREATE TABLE dtm.branch (
	id			bigint NOT NULL,
	seq			integer NOT NULL,
	spec		bytea NOT NULL,
	answer		text,
	CONSTRAINT branch_pkey PRIMARY KEY (id, seq)
) WITH (
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE dtm.branch IS 'branches that were registered after the submit, and what steps of a workflow answered; read dtm.branches instead';

-- Signals that came before a workflow waited for them.
CREATE TABLE dtm.signal (
	id			bigint NOT NULL,
	seq			integer NOT NULL,
	event		text COLLATE "C" NOT NULL,
	payload		text NOT NULL,
	CONSTRAINT signal_pkey PRIMARY KEY (id, seq)
) WITH (
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE dtm.signal IS 'signals kept for a workflow that does not wait for them yet; see dtm_signal()';

/*
 * How far it is: one narrow row per unfinished transaction.  No changing
 * column is indexed, so that every progress is a HOT update; a finished
 * transaction leaves the table, so that looking for work never meets it.
 *
 * A message that is to be delivered after another one names it in after_id,
 * and waits as long as its next_run_at is infinity.
 */
CREATE TABLE dtm.live (
	id			bigint NOT NULL,
	ver			integer NOT NULL DEFAULT 0,
	status		smallint NOT NULL,
	parked		boolean NOT NULL DEFAULT false,
	failures	integer NOT NULL DEFAULT 0,
	attempts	integer NOT NULL DEFAULT 0,
	next_run_at	timestamptz NOT NULL,
	updated_at	timestamptz NOT NULL,
	state		bytea,
	reason		text,
	problem		text,
	result		jsonb,
	after_id	bigint,
	CONSTRAINT live_pkey PRIMARY KEY (id)
) WITH (
	fillfactor = 50,
	autovacuum_vacuum_scale_factor = 0,
	autovacuum_vacuum_threshold = 2000,
	autovacuum_vacuum_cost_delay = 0,
	autovacuum_analyze_scale_factor = 0,
	autovacuum_analyze_threshold = 20000
);
CREATE INDEX live_after_id_idx ON dtm.live (after_id) WHERE after_id IS NOT NULL;
COMMENT ON TABLE dtm.live IS 'state of unfinished transactions; read dtm.transactions and dtm.branches instead';

-- What became of it: one row per finished transaction, until the retention ends.
CREATE TABLE dtm.done (
	id			bigint NOT NULL,
	trans_type	smallint NOT NULL,
	status		smallint NOT NULL,
	created_at	timestamptz NOT NULL,
	finished_at	timestamptz NOT NULL,
	attempts	integer NOT NULL,
	retries		integer NOT NULL,
	state		bytea,
	reason		text,
	result		jsonb,
	CONSTRAINT done_pkey PRIMARY KEY (id)
) WITH (
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX done_finished_at_idx ON dtm.done USING brin (finished_at) WITH (pages_per_range = 32, autosummarize = on);
COMMENT ON TABLE dtm.done IS 'outcome of finished transactions until dtm.retention; read dtm.transactions instead';

-- What waits for a later time, so that waiting costs no memory and no scan.
CREATE TABLE dtm.timer (
	due_at		timestamptz NOT NULL,
	id			bigint NOT NULL,
	CONSTRAINT timer_pkey PRIMARY KEY (due_at, id)
) WITH (
	autovacuum_vacuum_scale_factor = 0,
	autovacuum_vacuum_threshold = 2000,
	autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE dtm.timer IS 'transactions that wait for a later time (backoff, start_after)';

-- Who gets the messages that are sent to a topic; looked up once, when a message is submitted.
CREATE TABLE dtm.topic (
	topic		text COLLATE "C" NOT NULL,
	url			text COLLATE "C" NOT NULL,
	remark		text,
	created_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT topic_pkey PRIMARY KEY (topic, url)
);
COMMENT ON TABLE dtm.topic IS 'subscribers of topics; read dtm.topics instead';

-- A topic, which outlives its last subscriber: DTM's clients see it with its version, over the HTTP API.
CREATE SEQUENCE dtm.topic_id_seq AS bigint;
COMMENT ON SEQUENCE dtm.topic_id_seq IS 'numbers of topics';
CREATE TABLE dtm.topic_version (
	topic		text COLLATE "C" NOT NULL,
	id			bigint NOT NULL DEFAULT nextval('dtm.topic_id_seq'),
	version		bigint NOT NULL DEFAULT 1,
	created_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	updated_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT topic_version_pkey PRIMARY KEY (topic),
	CONSTRAINT topic_version_id_key UNIQUE (id)
);
COMMENT ON TABLE dtm.topic_version IS 'topics, also those without a subscriber: version counts the changes of their subscribers; locked while they change';

/*
 * Where dtm_xa_exec may have left something prepared: written, in a
 * transaction of its own, before a role first prepares on a server.  Not in
 * dumps: it names objects by their numbers, and what is prepared under the
 * name of one database is for no other to finish.
 */
CREATE TABLE dtm.xa_server (
	server		oid NOT NULL,
	role		oid NOT NULL,
	failures	integer NOT NULL DEFAULT 0,
	next_try_at	timestamptz,
	since		timestamptz,
	problem		text,
	CONSTRAINT xa_server_pkey PRIMARY KEY (server, role)
);
COMMENT ON TABLE dtm.xa_server IS 'foreign servers that dtm_xa_exec has used, and by whose user mapping; problems with them are in dtm.stuck';

/*
 * Which database of which system these rows belong to.  A row that names
 * another one came with a restore or a clone, and pauses the worker; so does
 * one with system_identifier 0, which dtm_pause() writes.
 */
CREATE TABLE dtm.node (
	system_identifier	bigint NOT NULL,
	database_oid		oid NOT NULL,
	noted_at			timestamptz NOT NULL DEFAULT now(),
	note				text
);
COMMENT ON TABLE dtm.node IS 'identity of the database that may drive these transactions; see dtm_resume()';
INSERT INTO dtm.node (system_identifier, database_oid, note)
SELECT c.system_identifier, d.oid, 'CREATE EXTENSION'
FROM pg_catalog.pg_control_system() AS c, pg_catalog.pg_database AS d
WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database();

SELECT pg_catalog.pg_extension_config_dump('dtm.trans', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.trans_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.branch', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.signal', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.live', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.done', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.timer', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.node', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.topic', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.topic_version', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.topic_id_seq', '');
