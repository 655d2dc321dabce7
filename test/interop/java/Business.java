import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The services of the test: accounts with money, behind the barrier of the SDK.
 *
 * <p>The last part of a path says what is done to the account of the body, {"account": "a", "amount": 30}. What stands
 * before it is trouble: /flaky-2/out answers 500 twice, /ongoing-2/out 425 twice, /gate/out does its work when the test
 * says so, /meet-2/out when two such calls of the transaction are there at the same time, and no sooner; /refuse/out
 * does its work and then says no, which takes it back.
 */
public final class Business {
    static final class Refused extends Exception {
        private static final long serialVersionUID = 1;

        Refused(String reason) {
            super(reason);
        }
    }

    /** What each op does to (balance, frozen). A forward op needs that much money. */
    private static final Map<String, int[]> MOVES = Map.of(
            "out", new int[] {-1, 0}, "outBack", new int[] {1, 0},
            "in", new int[] {1, 0}, "inBack", new int[] {-1, 0},
            "tryOut", new int[] {-1, 1}, "confirmOut", new int[] {0, -1}, "cancelOut", new int[] {1, -1},
            "tryIn", new int[] {0, 1}, "confirmIn", new int[] {1, -1}, "cancelIn", new int[] {0, -1});

    private final ObjectMapper json = new ObjectMapper();
    private final String database;
    private final HttpServer server;
    private final Map<String, AtomicInteger> troubles = new ConcurrentHashMap<>();
    private final Map<String, Gate> gates = new ConcurrentHashMap<>();
    private final Map<String, CountDownLatch> meetings = new ConcurrentHashMap<>();

    Business(String database) throws IOException {
        this.database = database;
        server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 100);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", this::handle);
        server.start();
    }

    String url(String path) {
        return "http://127.0.0.1:" + server.getAddress().getPort() + path;
    }

    /** As a servlet's getParameterMap. */
    static Map<String, String[]> parameters(String query) {
        Map<String, String[]> found = new HashMap<>();
        for (String pair : query == null ? new String[0] : query.split("&")) {
            int equals = pair.indexOf('=');
            found.put(
                    pair.substring(0, Math.max(equals, 0)),
                    new String[] {URLDecoder.decode(pair.substring(equals + 1), StandardCharsets.UTF_8)});
        }
        return found;
    }

    private void handle(HttpExchange http) throws IOException {
        int status = 200;
        String answer = "{\"dtm_result\":\"SUCCESS\"}";
        try {
            String body = new String(http.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
            work(http, body);
        } catch (Refused refused) {
            status = 409;
            answer = "{\"error\":\"" + refused.getMessage() + "\"}";
        } catch (Exception problem) {
            status = "not yet".equals(problem.getMessage()) ? 425 : 500;
            answer = "{\"error\":\"" + problem.getMessage() + "\"}";
        }
        byte[] bytes = answer.getBytes(StandardCharsets.UTF_8);
        http.getResponseHeaders().set("Content-Type", "application/json");
        http.sendResponseHeaders(status, bytes.length);
        http.getResponseBody().write(bytes);
        http.close();
    }

    private void work(HttpExchange http, String body) throws Exception {
        String path = http.getRequestURI().getPath();
        String query = http.getRequestURI().getRawQuery();
        Map<String, String[]> parameters = parameters(query);
        String gid = parameters.containsKey("gid") ? parameters.get("gid")[0] : "";
        boolean refuse = false;
        Gate gate = null;

        try (Connection db = DriverManager.getConnection(database)) {
            log(db, http, parameters, query, body);
            String[] parts = path.substring(1).split("/");
            for (int i = 0; i < parts.length - 1; i++) {
                String[] trouble = parts[i].split("-");
                int number = trouble.length > 1 ? Integer.parseInt(trouble[1]) : 0;
                switch (trouble[0]) {
                    case "flaky":
                        if (again(gid + query) <= number) {
                            throw new IllegalStateException("out of order");
                        }
                        break;
                    case "ongoing":
                        if (again(gid + query) <= number) {
                            throw new IllegalStateException("not yet");
                        }
                        break;
                    case "gate":
                        gate = gate(gid);
                        gate.opened.await(60, TimeUnit.SECONDS);
                        break;
                    case "meet":
                        meet(gid, number);
                        break;
                    case "refuse":
                        refuse = true;
                        break;
                    default:
                        throw new IllegalArgumentException("no such trouble: " + parts[i]);
                }
            }
            protectedMove(db, parameters, parts[parts.length - 1], json.readTree(body), refuse);
        } finally {
            if (gate != null) {
                gate.passed.countDown();
            }
        }
    }

    private static final class Gate {
        final CountDownLatch opened = new CountDownLatch(1);
        final CountDownLatch passed = new CountDownLatch(1);
    }

    private Gate gate(String gid) {
        return gates.computeIfAbsent(gid, k -> new Gate());
    }

    /** Let the call behind the gate go on, and wait until its work is over. */
    void open(String gid) throws InterruptedException {
        gate(gid).opened.countDown();
        if (!gate(gid).passed.await(60, TimeUnit.SECONDS)) {
            throw new IllegalStateException("nobody was at the gate of " + gid);
        }
    }

    private void protectedMove(
            Connection db, Map<String, String[]> parameters, String op, JsonNode order, boolean refuse)
            throws Exception {
        int[] move = MOVES.get(op);
        if (move == null) {
            throw new IllegalArgumentException("no such op: " + op);
        }
        new PostgresBarrier(parameters).call(db, barrier -> {
            String sql = "UPDATE account SET balance = balance + ?, frozen = frozen + ? WHERE name = ?";
            try (PreparedStatement statement = db.prepareStatement(sql)) {
                statement.setInt(1, move[0] * order.get("amount").asInt());
                statement.setInt(2, move[1] * order.get("amount").asInt());
                statement.setString(3, order.get("account").asText());
                if (statement.executeUpdate() == 0) {
                    throw new Refused("no such account");
                }
            } catch (SQLException problem) {
                if ("23514".equals(problem.getSQLState())) {
                    throw new Refused("not enough money");
                }
                throw problem;
            }
            if (refuse) {
                throw new Refused("we do not want to");
            }
        });
    }

    private int again(String key) {
        return troubles.computeIfAbsent(key, k -> new AtomicInteger()).incrementAndGet();
    }

    private void meet(String gid, int number) throws Exception {
        CountDownLatch latch = meetings.computeIfAbsent(gid, k -> new CountDownLatch(number));
        latch.countDown();
        if (!latch.await(20, TimeUnit.SECONDS)) {
            throw new IllegalStateException("nobody else came");
        }
    }

    /** In a transaction of its own: each call is known, whatever becomes of it. */
    private static void log(
            Connection db, HttpExchange http, Map<String, String[]> parameters, String query, String body)
            throws SQLException {
        String sql = "INSERT INTO call (gid, branch_id, op, method, path, query, note, body)"
                + " VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        try (PreparedStatement statement = db.prepareStatement(sql)) {
            String[] none = {""};
            statement.setString(1, parameters.getOrDefault("gid", none)[0]);
            statement.setString(2, parameters.getOrDefault("branch_id", none)[0]);
            statement.setString(3, parameters.getOrDefault("op", none)[0]);
            statement.setString(4, http.getRequestMethod());
            statement.setString(5, http.getRequestURI().getPath());
            statement.setString(6, query);
            statement.setString(7, http.getRequestHeaders().getFirst("X-Note"));
            statement.setString(8, body);
            statement.executeUpdate();
        }
    }
}
