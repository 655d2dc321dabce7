import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.Executors;

/** Stands between the SDK and the coordinator, passes everything on as it is, and remembers it. */
final class Recorder {
    final List<Map<String, Object>> seen = new CopyOnWriteArrayList<>();
    final String address;
    private final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    private final String target;

    Recorder(String target) throws IOException {
        this.target = target;
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 100);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", this::handle);
        server.start();
        address = "127.0.0.1:" + server.getAddress().getPort();
    }

    private void handle(HttpExchange http) throws IOException {
        byte[] body = http.getRequestBody().readAllBytes();
        HttpRequest request = HttpRequest.newBuilder(URI.create("http://" + target + http.getRequestURI()))
                .header("Content-Type", String.valueOf(http.getRequestHeaders().getFirst("Content-Type")))
                .method(http.getRequestMethod(), HttpRequest.BodyPublishers.ofByteArray(body))
                .build();
        try {
            HttpResponse<byte[]> response = client.send(request, HttpResponse.BodyHandlers.ofByteArray());
            seen.add(Map.of(
                    "method", http.getRequestMethod(), "uri", http.getRequestURI().toString(),
                    "body", new String(body, StandardCharsets.UTF_8), "status", response.statusCode(),
                    "answer", new String(response.body(), StandardCharsets.UTF_8)));
            response.headers().firstValue("Content-Type")
                    .ifPresent(type -> http.getResponseHeaders().set("Content-Type", type));
            http.sendResponseHeaders(response.statusCode(), response.body().length == 0 ? -1 : response.body().length);
            http.getResponseBody().write(response.body());
        } catch (InterruptedException problem) {
            Thread.currentThread().interrupt();
        } finally {
            http.close();
        }
    }
}
