-- Waits until the first coordinator of this database says :state; :include is this file.  Run with ECHO none.
SELECT EXISTS (SELECT FROM dtm.workers WHERE worker = 0 AND state = :'state') AS ready \gset
\if :ready
\else
SELECT pg_sleep(0.05) AS slept \gset
\i :include
\endif
