/* dtm_pg 0.1.0: PostgreSQL as the coordinator of distributed transactions */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION dtm_pg" to load this file. \quit

CREATE SCHEMA dtm;
COMMENT ON SCHEMA dtm IS 'dtm_pg: tables and views of distributed transactions';
