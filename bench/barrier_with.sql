-- The transaction of barrier_base.sql behind the barrier, as a service runs it that receives a branch call,
-- one round trip per statement.  Compare with barrier_base.sql in the same run:
--   pgbench -i -s 20
--   pgbench -n -M prepared -c 16 -j 2 -T 20 -f bench/barrier_base.sql
--   pgbench -n -M prepared -c 16 -j 2 -T 20 -f bench/barrier_with.sql
\set aid random(1, 100000 * :scale)
\set delta random(-5000, 5000)
\set call random(1, 1000000000000)
BEGIN;
SELECT dtm_barrier('saga', 'bench-' || :call, '01', 'action');
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
COMMIT;
