"""The barrier of DTM's Python SDK on PostgreSQL: it knows MySQL only.

Import it once.  BranchBarrier(...).call(cursor, function) and
.query_prepared(cursor) then work with a cursor of psycopg, on the table
dtm.barrier of dtm_pg.
"""
from dtmcli import barrier, utils


def insert_barrier(cursor, trans_type, gid, branch_id, op, barrier_id, reason):
    if op == "":
        return 0
    cursor.execute("INSERT INTO dtm.barrier (trans_type, gid, branch_id, op, barrier_id, reason)"
                   " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING",
                   (trans_type, gid, branch_id, op, barrier_id, reason))
    return cursor.rowcount


def query_prepared(self, cursor):
    insert_barrier(cursor, self.trans_type, self.gid, "00", "msg", "01", "rollback")
    cursor.connection.commit()
    cursor.execute("SELECT reason FROM dtm.barrier WHERE gid = %s AND branch_id = '00'"
                   " AND op = 'msg' AND barrier_id = '01'", (self.gid,))
    if cursor.fetchone()[0] == "rollback":
        raise utils.DTMFailureError("msg rollback")


barrier.insert_barrier = insert_barrier
barrier.BranchBarrier.query_prepared = query_prepared
