-- Waits until this session has the setting :name at :value; :include is this file.  Run with ECHO none.
SELECT current_setting(:'name') = :'value' AS ready \gset
\if :ready
\else
SELECT pg_sleep(0.05) AS slept \gset
\i :include
\endif
