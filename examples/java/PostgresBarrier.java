import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.Map;
import pub.dtm.client.barrier.BranchBarrier;
import pub.dtm.client.interfaces.dtm.DtmConsumer;

/**
 * The branch barrier of DTM's Java SDK (dtmcli-java) on PostgreSQL: its own one speaks MySQL. Copy this file, and in a
 * handler use it as the SDK's documentation uses BranchBarrier:
 *
 * <pre>
 *     new PostgresBarrier(request.getParameterMap()).call(connection, barrier -> deduct(connection, order));
 * </pre>
 *
 * One transaction is begun, which has the rows of the barrier and what the business does with the same connection, and
 * committed. The business is left out, and all is well, when the call has been here before, when there is nothing to
 * undo, and when its undoing was here first. Whatever the business throws rolls back and comes out of call(): answer
 * 409 for "no", 500 for "try again".
 *
 * The role needs USAGE on schema dtm, INSERT and SELECT on dtm.barrier, USAGE on dtm.barrier_seq. READ COMMITTED, which
 * is PostgreSQL's default, is the isolation level that gives a definite answer each time.
 */
public class PostgresBarrier extends BranchBarrier {
    /** DTM's own script makes "dtm_barrier.barrier"; its columns and the constraint are the same. */
    private final String table;

    private static final Map<String, String> UNDOES =
            Map.of("cancel", "try", "compensate", "action", "rollback", "action");

    public PostgresBarrier(Map<String, String[]> parameters) throws Exception {
        this(parameters, "dtm.barrier");
    }

    public PostgresBarrier(Map<String, String[]> parameters, String table) throws Exception {
        super(parameters);
        this.table = table;
        if (getTransTypeEnum() == null || getGid() == null || getBranchId() == null || getOp() == null) {
            throw new IllegalArgumentException("the request must have trans_type, gid, branch_id and op");
        }
    }

    /* No @Override: releases of the SDK differ in what of this they have. */
    public void call(Connection connection, DtmConsumer<BranchBarrier> business) throws Exception {
        setBarrierId(getBarrierId() + 1);
        connection.setAutoCommit(false);
        try {
            // the op that is undone comes first: this waits for one that is at work
            String undone = UNDOES.get(getOp());
            boolean nothingToUndo = undone != null && insert(connection, undone);
            boolean first = insert(connection, getOp());
            if (first && !nothingToUndo) {
                business.accept(this);
            }
            connection.commit();
        } catch (Throwable problem) {
            connection.rollback();
            throw problem;
        } finally {
            connection.setAutoCommit(true);
        }
    }

    /** Whether there was no such row yet. */
    private boolean insert(Connection connection, String op) throws SQLException {
        String sql = "INSERT INTO " + table + " (trans_type, gid, branch_id, op, barrier_id, reason)"
                + " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            statement.setString(1, getTransTypeEnum().getValue());
            statement.setString(2, getGid());
            statement.setString(3, getBranchId());
            statement.setString(4, op);
            statement.setString(5, String.format("%02d", getBarrierId()));
            statement.setString(6, getOp());
            return statement.executeUpdate() > 0;
        }
    }
}
