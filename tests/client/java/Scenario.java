import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import org.json.JSONArray;
import org.json.JSONObject;

/** The scenario of ../README.md with the official Java client. Each entry of {@code bothWays} is one promise of the contract. */
public final class Scenario {
  static final String URL = System.getenv("URGE_URL");
  static final String CONVERSATION = System.getenv("URGE_CONVERSATION");
  static final String[] TRANSPORTS =
      switch (System.getenv("URGE_TRANSPORT")) {
        case "websocket" -> new String[] {"websocket"};
        case "polling" -> new String[] {"polling"};
        default -> new String[] {"polling", "websocket"};
      };
  static final long WAIT_MS = 15_000;
  /** The shipped app tries five times in some eight seconds and then stays deaf; so do these clients. */
  static final long PATIENCE_MS = 8_500;

  static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

  /** A check between two users: the first acts, the second sees. */
  interface Check {
    void run(Person a, Person b) throws Exception;
  }

  record Named(String name, Check check) {}

  record Event(String name, Object data) {}

  /** One user: a socket whose events are kept until somebody asks for them, and another device that speaks REST. */
  static final class Person {
    final String name;
    final String restToken;
    final Socket socket;
    final List<Event> events = new ArrayList<>();
    String id;

    Person(String name) {
      this.name = name;
      restToken = System.getenv("URGE_REST_TOKEN_" + name);
      socket = IO.socket(URI.create(URL), options(System.getenv("URGE_TOKEN_" + name)));
      socket.onAnyIncoming(arguments -> keep(new Event((String) arguments[0], arguments.length > 1 ? arguments[1] : null)));
    }

    void keep(Event event) {
      synchronized (events) {
        events.add(event);
        events.notifyAll();
      }
    }

    /** The data of the first event of this name that {@code accept} takes; it is used up, the others stay. */
    Object next(String event, Predicate<Object> accept) throws InterruptedException {
      long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(WAIT_MS);
      synchronized (events) {
        while (true) {
          for (int at = 0; at < events.size(); at++) {
            if (events.get(at).name().equals(event) && accept.test(events.get(at).data())) {
              return events.remove(at).data();
            }
          }
          long left = TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime());
          check(left > 0, name + ": no " + event + "; there were " + events);
          events.wait(left);
        }
      }
    }

    JSONObject object(String event, Predicate<Object> accept) throws InterruptedException {
      return (JSONObject) next(event, accept);
    }

    void clear() {
      synchronized (events) {
        events.clear();
      }
    }

    void connect() throws InterruptedException {
      socket.connect();
      id = object("authenticated", any -> true).getString("userId");
    }

    /** Emits and returns what the ack carries. */
    Object emit(String event, Object data) throws Exception {
      CompletableFuture<Object> answer = new CompletableFuture<>();
      socket.emit(event, new Object[] {data}, (Ack) arguments -> answer.complete(arguments.length > 0 ? arguments[0] : null));
      Object got = answer.get(WAIT_MS, TimeUnit.MILLISECONDS);
      check(!(got instanceof JSONObject object && !object.isNull("error")), event + ": " + got);
      return got;
    }

    JSONObject send(String content) throws Exception {
      return (JSONObject) emit("message:sent", draft(content));
    }

    JSONObject rest(String method, String path, JSONObject body) throws Exception {
      HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(URL + "/api" + path)).header("Authorization", "Bearer " + restToken);
      if (body == null) {
        request.method(method, BodyPublishers.noBody());
      } else {
        request.header("Content-Type", "application/json").method(method, BodyPublishers.ofString(body.toString()));
      }
      var answer = HTTP.send(request.build(), BodyHandlers.ofString());
      check(answer.statusCode() < 300, method + " " + path + ": " + answer.statusCode() + " " + answer.body());
      return new JSONObject(answer.body());
    }
  }

  static IO.Options options(String token) {
    IO.Options options = new IO.Options();
    options.forceNew = true;
    options.transports = TRANSPORTS;
    options.auth = Map.of("token", token);
    options.reconnectionAttempts = 5;
    options.reconnectionDelay = 1_000;
    options.reconnectionDelayMax = 1_750;
    options.randomizationFactor = 0;
    return options;
  }

  static JSONObject draft(String content) {
    return conversation().put("content", content).put("messageType", "TEXT").put("clientMessageId", UUID.randomUUID().toString());
  }

  static JSONObject conversation() {
    return new JSONObject().put("conversationId", CONVERSATION);
  }

  static Predicate<Object> same(String id) {
    return data -> data instanceof JSONObject object && id.equals(object.optString("id", object.optString("messageId")));
  }

  static Predicate<Object> by(Person person) {
    return data -> person.id.equals(((JSONObject) data).getString("userId"));
  }

  static void check(boolean condition, String text) {
    if (!condition) {
      throw new AssertionError(text);
    }
  }

  static void say(JSONObject line) {
    System.out.println(line);
    System.out.flush();
  }

  static void message(Person a, Person b) throws Exception {
    JSONObject sent = a.send("hello");
    check(sent.getString("senderId").equals(a.id), "the ack is no message: " + sent);
    JSONObject got = b.object("message:received", same(sent.getString("id")));
    check(got.getLong("seq") == sent.getLong("seq") && got.getString("conversation_id").equals(CONVERSATION), "received: " + got);
  }

  static void delivered(Person a, Person b) throws Exception {
    JSONObject sent = a.send("delivered?");
    b.next("message:received", same(sent.getString("id")));
    JSONObject told = a.object("message:delivered", same(sent.getString("id")));
    check(told.getString("userId").equals(b.id) && told.getString("conversationId").equals(CONVERSATION), "delivered: " + told);
    b.emit("message:delivered", new JSONObject().put("messageId", sent.getString("id")));
  }

  static void read(Person a, Person b) throws Exception {
    JSONObject sent = a.send("read?");
    b.next("message:received", same(sent.getString("id")));
    b.emit("message:read", conversation().put("messageId", sent.getString("id")));
    JSONObject told = a.object("message:read", same(sent.getString("id")));
    check(told.getString("userId").equals(b.id) && told.getString("conversationId").equals(CONVERSATION), "read: " + told);
  }

  static void once(Person a, Person b) throws Exception {
    JSONObject draft = draft("once");
    String first = ((JSONObject) a.emit("message:sent", draft)).getString("id");
    check(first.equals(((JSONObject) a.emit("message:sent", draft)).getString("id")), "two messages");
  }

  static void typing(Person a, Person b) throws Exception {
    a.emit("typing:start", conversation());
    JSONObject started = b.object("typing:start", by(a));
    check(started.getString("conversationId").equals(CONVERSATION) && !started.getString("userName").isEmpty(), "typing: " + started);
    a.emit("typing:stop", conversation());
    b.next("typing:stop", by(a));
  }

  static void otherDevices(Person a, Person b) throws Exception {
    JSONObject body = new JSONObject().put("conversation_id", CONVERSATION).put("content", "by REST");
    String id = a.rest("POST", "/messages", body).getString("id");
    for (Person person : List.of(a, b)) {
      person.next("message:received", same(id));
    }
    a.rest("PUT", "/messages/" + id, new JSONObject().put("content", "edited"));
    for (Person person : List.of(a, b)) {
      JSONObject edited = person.object("message:updated", same(id));
      check(edited.getBoolean("isEdited") && edited.getString("content").equals("edited"), "updated: " + edited);
    }
    a.rest("DELETE", "/messages/" + id + "?scope=everyone", null);
    for (Person person : List.of(a, b)) {
      check(person.object("message:deleted", same(id)).getBoolean("isDeleted"), "not deleted");
    }
  }

  static void created(Person a, Person b) throws Exception {
    JSONObject body = new JSONObject().put("type", "GROUP").put("name", "Group").put("participant_ids", new JSONArray().put(b.id));
    JSONObject seen = b.object("conversation:created", same(a.rest("POST", "/conversations", body).getString("id")));
    check(seen.getString("type").equals("GROUP") && seen.getString("name").equals("Group"), "created: " + seen);
  }

  static void updated(Person a, Person b) throws Exception {
    for (boolean muted : new boolean[] {true, false}) {
      a.rest("PUT", "/conversations/" + CONVERSATION + (muted ? "/mute" : "/unmute"), null);
      a.next("conversation:updated", data -> same(CONVERSATION).test(data) && ((JSONObject) data).getBoolean("isMuted") == muted);
    }
  }

  static void presence(Person a, Person b) throws Exception {
    a.socket.disconnect();
    check(!b.object("user:offline", by(a)).getString("lastSeen").isEmpty(), "no lastSeen");
    a.connect();
    b.next("user:online", by(a));
  }

  static void resume(Person a, Person b) throws Exception {
    long known = a.send("before").getLong("seq");
    a.socket.disconnect();
    List<String> missed = new ArrayList<>();
    for (String content : List.of("one", "two", "three")) {
      missed.add(b.send(content).getString("id"));
    }
    a.clear();
    a.connect();
    JSONObject map = new JSONObject().put("known", new JSONObject().put(CONVERSATION, known));
    JSONObject answer = (JSONObject) a.emit("resume", map);
    check(answer.getBoolean("recovered") && answer.getInt("sent") >= 3, "resume: " + answer);
    // Delivered before the answer: what is here now is all that counts.
    List<String> got;
    synchronized (a.events) {
      got = a.events.stream().filter(one -> one.name().equals("message:received")).map(one -> ((JSONObject) one.data()).getString("id")).toList();
    }
    check(got.equals(missed), "missed " + missed + ", got " + got);
  }

  static void bareId(Person a, Person b) throws Exception {
    a.emit("leave:conversation", conversation());
    a.emit("join:conversation", CONVERSATION);
    String id = a.send("bare").getString("id");
    b.next("message:received", same(id));
    a.next("message:delivered", id::equals);
    a.emit("leave:conversation", CONVERSATION);
    a.emit("join:conversation", conversation());
  }

  static void badToken(Person a, Person b) throws Exception {
    Socket socket = IO.socket(URI.create(URL), options("nonsense"));
    CompletableFuture<Object> outcome = new CompletableFuture<>();
    socket.on(Socket.EVENT_CONNECT, arguments -> outcome.completeExceptionally(new AssertionError("connected")));
    socket.on(Socket.EVENT_CONNECT_ERROR, arguments -> outcome.complete(arguments[0]));
    socket.connect();
    Object refusal = outcome.get(WAIT_MS, TimeUnit.MILLISECONDS);
    check(refusal instanceof JSONObject object && !object.getString("message").isEmpty(), "refused without a word: " + refusal);
    socket.close();
  }

  static void connect(Person a, Person b) throws Exception {
    a.connect();
    b.connect();
    a.next("user:online", by(b));
    for (Person person : List.of(a, b)) {
      check(person.rest("GET", "/auth/me", null).getString("id").equals(person.id), "another user's id");
    }
  }

  static void join(Person a, Person b) throws Exception {
    for (Person person : List.of(a, b)) {
      person.emit("join:conversation", conversation());
    }
    boolean refused = false;
    try {
      a.emit("join:conversation", new JSONObject().put("conversationId", UUID.randomUUID().toString()));
    } catch (AssertionError expected) {
      refused = true;
    }
    check(refused, "joined a conversation that is not there");
  }

  static void restart(Person a, Person b) throws Exception {
    a.clear();
    b.clear();
    for (Person person : List.of(a, b)) {
      person.socket.once(Socket.EVENT_DISCONNECT, any -> person.keep(new Event("gone", System.nanoTime())));
    }
    say(new JSONObject().put("want", "restart"));
    for (Person person : List.of(a, b)) {
      long gone = (Long) person.next("gone", any -> true);
      check(person.object("authenticated", any -> true).getString("userId").equals(person.id), "another user's id");
      long took = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - gone);
      check(took < PATIENCE_MS, "back after " + took + " ms");
    }
    b.next("message:received", same(a.send("after the restart").getString("id")));
  }

  static List<Named> checks() {
    List<Named> bothWays =
        List.of(
            new Named("message:sent is acknowledged and received", Scenario::message),
            new Named("message:delivered, by itself and said again", Scenario::delivered),
            new Named("message:read", Scenario::read),
            new Named("the same client message id is one message", Scenario::once),
            new Named("typing:start and typing:stop", Scenario::typing),
            new Named("message:received on the sender's other devices, message:updated, message:deleted", Scenario::otherDevices),
            new Named("conversation:created", Scenario::created),
            new Named("conversation:updated, from another device", Scenario::updated),
            new Named("user:offline, user:online", Scenario::presence),
            new Named("resume brings what was missed", Scenario::resume),
            new Named("leave:conversation and join:conversation by bare id: receipts are the bare message id", Scenario::bareId));
    List<Named> checks = new ArrayList<>();
    checks.add(new Named("a bad token is a connect_error", Scenario::badToken));
    checks.add(new Named("connect and authenticated", Scenario::connect));
    checks.add(new Named("join:conversation", Scenario::join));
    for (Named one : bothWays) {
      checks.add(new Named(one.name() + " (A to B)", one.check()));
      checks.add(new Named(one.name() + " (B to A)", (a, b) -> one.check().run(b, a)));
    }
    checks.add(new Named("the server restarts: both come back by themselves, within the app's patience", Scenario::restart));
    return checks;
  }

  public static void main(String[] arguments) {
    Person a = new Person("A");
    Person b = new Person("B");
    int failed = 0;
    for (Named one : checks()) {
      JSONObject line = new JSONObject().put("check", one.name());
      try {
        one.check().run(a, b);
        say(line.put("ok", true));
      } catch (Exception | AssertionError error) {
        failed++;
        say(line.put("ok", false).put("error", error.toString()));
        if (a.id == null || b.id == null) {
          break;
        }
      }
    }
    a.socket.disconnect();
    b.socket.disconnect();
    // The client's threads would keep the process for a minute.
    System.exit(failed == 0 ? 0 : 1);
  }
}
