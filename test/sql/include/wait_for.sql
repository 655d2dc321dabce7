-- Waits until the SQL expression in :condition is true; :include is this file.  Run with ECHO none.
SELECT (:condition) AS ready \gset
\if :ready
\else
SELECT pg_sleep(0.02) AS slept \gset
\i :include
\endif
