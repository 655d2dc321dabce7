import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import feign.Feign;
import feign.jackson.JacksonDecoder;
import feign.jackson.JacksonEncoder;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import pub.dtm.client.DtmClient;
import pub.dtm.client.enums.TransTypeEnum;
import pub.dtm.client.interfaces.stub.IDtmServerStub;
import pub.dtm.client.model.param.OperatorParam;
import pub.dtm.client.model.param.SagaOperatorParam;
import pub.dtm.client.model.param.TccOperatorParam;
import pub.dtm.client.model.responses.DtmResponse;
import pub.dtm.client.saga.Saga;
import pub.dtm.client.stub.DtmFeignClient;
import pub.dtm.client.tcc.Tcc;

/**
 * Does with DTM's Java SDK what java.pl asks for: a POST with a JSON object, answered by {"gid": "..."} or
 * {"error": "...", "cause": "..."}. Arguments: HOST:PORT of the coordinator, JDBC URL of the services' database.
 * Prints the port that it is asked on.
 */
public final class Interop {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final String endpoint;
    private final Business business;
    private final Recorder recorder;
    private final Map<Boolean, DtmClient> clients = new HashMap<>();
    private final Map<String, Tcc> open = new ConcurrentHashMap<>();

    private Interop(String endpoint, String database) throws Exception {
        this.endpoint = endpoint;
        business = new Business(database);
        recorder = new Recorder(endpoint);
        clients.put(false, new DtmClient(endpoint));
        clients.put(true, new DtmClient(recorder.address));
    }

    public static void main(String[] args) throws Exception {
        Interop interop = new Interop(args[0], args[1]);
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 100);

        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", interop::handle);
        server.start();
        System.out.println("port " + server.getAddress().getPort());
    }

    private void handle(HttpExchange http) throws IOException {
        Map<String, Object> answer = new LinkedHashMap<>();
        try {
            perform(JSON.readTree(http.getRequestBody()), answer);
        } catch (Throwable problem) {
            answer.put("error", String.valueOf(problem));
            answer.put("cause", String.valueOf(problem.getCause()));
        }
        byte[] bytes = JSON.writeValueAsBytes(answer);
        http.sendResponseHeaders(200, bytes.length);
        http.getResponseBody().write(bytes);
        http.close();
    }

    private void perform(JsonNode what, Map<String, Object> answer) throws Exception {
        DtmClient client = what.has("token") ? withToken(what.get("token").asText())
                : clients.get(what.path("record").asBoolean());
        IDtmServerStub stub = client.newSaga().getDtmServerStub();

        switch (what.get("do").asText()) {
            case "saga":
                answer.put("gid", saga(client, what));
                break;
            case "tcc":
                answer.put("gid", tcc(client, what));
                break;
            case "late branch":
                call(open.get(what.get("gid").asText()), what);
                break;
            case "newGid":
                answer(stub.newGid(), answer);
                break;
            case "ping":
                answer(stub.ping(), answer);
                break;
            case "prepare":
                answer(stub.prepare(parameter(what)), answer);
                break;
            case "submit":
                answer(stub.submit(parameter(what)), answer);
                break;
            case "abort":
                answer(stub.abort(parameter(what)), answer);
                break;
            case "registerBranch":
                answer(stub.registerBranch(parameter(what)), answer);
                break;
            case "open":
                business.open(what.get("gid").asText());
                break;
            case "recorded":
                answer.put("requests", recorder.seen);
                break;
            case "url":
                answer.put("url", business.url(""));
                break;
            default:
                throw new IllegalArgumentException("do what?");
        }
    }

    /** The SDK's own stub, with a header that it does not know of. */
    private DtmClient withToken(String token) {
        return new DtmClient(Feign.builder()
                .decoder(new JacksonDecoder())
                .encoder(new JacksonEncoder())
                .requestInterceptor(request -> request.header("Authorization", "Bearer " + token))
                .target(DtmFeignClient.class, "http://" + endpoint));
    }

    private static void answer(DtmResponse response, Map<String, Object> answer) {
        answer.put("dtm_result", response.getDtmResult());
        answer.put("gid", response.getGid());
    }

    private OperatorParam parameter(JsonNode what) {
        String gid = what.get("gid").asText();
        TransTypeEnum type = TransTypeEnum.parseString(what.path("type").asText("tcc"));

        if (!what.has("branch_id")) {
            return new OperatorParam(gid, type);
        }
        return new TccOperatorParam(
                gid, type, what.get("branch_id").asText(), "prepared", what.get("payload").toString(),
                url(what, "confirm"), url(what, "cancel"));
    }

    private String saga(DtmClient client, JsonNode what) throws Exception {
        Saga saga = what.has("gid") ? client.newSaga(what.get("gid").asText()) : client.newSaga();

        for (JsonNode step : what.get("steps")) {
            saga.add(url(step, "action"), url(step, "compensate"), step.get("payload"));
        }
        if (what.path("concurrent").asBoolean()) {
            saga.enableConcurrent();
        }
        what.path("orders").fields().forEachRemaining(order -> {
            List<Integer> before = new ArrayList<>();
            order.getValue().forEach(index -> before.add(index.asInt()));
            saga.addBranchOrder(Integer.valueOf(order.getKey()), before);
        });
        if (what.path("wait").asBoolean()) {
            saga.enableWaitResult();
        }
        if (what.has("note")) {
            saga.getBranchHeaders().put("X-Note", what.get("note").asText());
        }
        return what.has("options") ? submit(saga, what.get("options")) : saga.submit();
    }

    /** Of this release setTimeoutToFail and setRetryInterval call themselves without end; what they are for works. */
    private static String submit(Saga saga, JsonNode options) {
        saga.getDtmServerStub().submit(new SagaOperatorParam(
                saga.getGid(), TransTypeEnum.SAGA, saga.getSteps(), saga.getPayloads(), saga.getCustomData(),
                saga.isWaitResult(), options.path("timeout_to_fail").asLong(), options.path("retry_interval").asLong(),
                saga.getPassthroughHeaders(), saga.getBranchHeaders()));
        return saga.getGid();
    }

    private String tcc(DtmClient client, JsonNode what) throws Exception {
        return client.tccGlobalTransaction(what.path("gid").asText(null), tcc -> {
            open.put(tcc.getGid(), tcc);
            for (JsonNode branch : what.get("branches")) {
                call(tcc, branch);
            }
            if (what.has("throw")) {
                throw new IllegalStateException(what.get("throw").asText());
            }
        });
    }

    private void call(Tcc tcc, JsonNode branch) throws Exception {
        tcc.callBranch(branch.get("payload"), url(branch, "try"), url(branch, "confirm"), url(branch, "cancel"));
    }

    private String url(JsonNode from, String name) {
        String path = from.path(name).asText("");
        return path.isEmpty() ? "" : business.url(path);
    }
}
