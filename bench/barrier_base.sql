-- The yardstick of the barrier's cost: the business transaction without it, one UPDATE.
-- barrier_with.sql says how to run both.
\set aid random(1, 100000 * :scale)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
COMMIT;
