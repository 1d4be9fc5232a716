// The scenario of ../README.md with the official JavaScript client. Each entry of `checks` is one promise of the contract.
import { io } from "socket.io-client";

const env = (name) => process.env[name] ?? fail(`${name} is not set`);
const url = env("URGE_URL");
const conversationId = env("URGE_CONVERSATION");
const transports = { websocket: ["websocket"], polling: ["polling"], upgrade: ["polling", "websocket"] }[env("URGE_TRANSPORT")];
const WAIT_MS = 15_000;
// The shipped app tries five times in some eight seconds and then stays deaf; so do these clients.
const patience = { reconnectionAttempts: 5, reconnectionDelay: 1_000, reconnectionDelayMax: 1_750, randomizationFactor: 0 };
const PATIENCE_MS = 8_500;

function fail(text) {
  throw new Error(text);
}

const assert = (condition, text) => condition || fail(text);

/** One user: a socket whose events are kept until somebody asks for them, and another device that speaks REST. */
class Person {
  constructor(name) {
    this.name = name;
    this.restToken = env(`URGE_REST_TOKEN_${name}`);
    this.socket = io(url, { transports, auth: { token: env(`URGE_TOKEN_${name}`) }, autoConnect: false, forceNew: true, ...patience });
    this.events = [];
    this.waiting = new Set();
    this.socket.onAny((event, data) => {
      this.events.push({ event, data });
      for (const look of this.waiting) look();
    });
  }

  /** The data of the first event of this name that `accept` takes; it is used up, the others stay. */
  next(event, accept = () => true) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const at = this.events.findIndex((one) => one.event === event && accept(one.data));
        if (at < 0) return;
        clearTimeout(timer);
        this.waiting.delete(look);
        resolve(this.events.splice(at, 1)[0].data);
      };
      const late = () => {
        this.waiting.delete(look);
        reject(new Error(`${this.name}: no ${event}; there were ${JSON.stringify(this.events).slice(0, 2000)}`));
      };
      const timer = setTimeout(late, WAIT_MS);
      this.waiting.add(look);
      look();
    });
  }

  async connect() {
    this.socket.connect();
    this.id = (await this.next("authenticated")).userId;
  }

  /** Emits and returns what the ack carries. */
  async emit(event, data) {
    const answer = await this.socket.timeout(WAIT_MS).emitWithAck(event, data);
    if (answer?.error) fail(`${event}: ${JSON.stringify(answer.error)}`);
    return answer;
  }

  send(content) {
    return this.emit("message:sent", { conversationId, content, messageType: "TEXT", clientMessageId: crypto.randomUUID() });
  }

  async rest(method, path, body) {
    const headers = { authorization: `Bearer ${this.restToken}` };
    if (body) headers["content-type"] = "application/json";
    const answer = await fetch(`${url}/api${path}`, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    assert(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
    return JSON.parse(text);
  }
}

const same = (id) => (data) => (data.id ?? data.messageId) === id;
const from = (person) => (data) => data.userId === person.id;

/** The checks that hold in both directions; `from` acts, `to` sees. */
const bothWays = [
  ["message:sent is acknowledged and received", async (a, b) => {
    const sent = await a.send("hello");
    assert(sent.id && sent.content === "hello" && sent.senderId === a.id, `the ack is no message: ${JSON.stringify(sent)}`);
    const got = await b.next("message:received", same(sent.id));
    assert(got.seq === sent.seq && got.conversation_id === conversationId, `received: ${JSON.stringify(got)}`);
  }],
  ["message:delivered, by itself and said again", async (a, b) => {
    const sent = await a.send("delivered?");
    await b.next("message:received", same(sent.id));
    const told = await a.next("message:delivered", same(sent.id));
    assert(told.userId === b.id && told.conversationId === conversationId, `delivered: ${JSON.stringify(told)}`);
    await b.emit("message:delivered", { messageId: sent.id });
  }],
  ["message:read", async (a, b) => {
    const sent = await a.send("read?");
    await b.next("message:received", same(sent.id));
    await b.emit("message:read", { messageId: sent.id, conversationId });
    const told = await a.next("message:read", same(sent.id));
    assert(told.userId === b.id && told.conversationId === conversationId, `read: ${JSON.stringify(told)}`);
  }],
  ["the same client message id is one message", async (a) => {
    const draft = { conversationId, content: "once", clientMessageId: crypto.randomUUID() };
    const [first, second] = [await a.emit("message:sent", draft), await a.emit("message:sent", draft)];
    assert(first.id === second.id, "two messages");
  }],
  ["typing:start and typing:stop", async (a, b) => {
    await a.emit("typing:start", { conversationId });
    const started = await b.next("typing:start", from(a));
    assert(started.conversationId === conversationId && started.userName, `typing: ${JSON.stringify(started)}`);
    await a.emit("typing:stop", { conversationId });
    await b.next("typing:stop", from(a));
  }],
  ["message:received on the sender's other devices, message:updated, message:deleted", async (a, b) => {
    const sent = await a.rest("POST", "/messages", { conversation_id: conversationId, content: "by REST" });
    for (const person of [a, b]) await person.next("message:received", same(sent.id));
    await a.rest("PUT", `/messages/${sent.id}`, { content: "edited" });
    for (const person of [a, b]) {
      const edited = await person.next("message:updated", same(sent.id));
      assert(edited.isEdited && edited.content === "edited", `updated: ${JSON.stringify(edited)}`);
    }
    await a.rest("DELETE", `/messages/${sent.id}?scope=everyone`);
    for (const person of [a, b]) assert((await person.next("message:deleted", same(sent.id))).isDeleted, "not deleted");
  }],
  ["conversation:created", async (a, b) => {
    const group = await a.rest("POST", "/conversations", { type: "GROUP", name: "Group", participant_ids: [b.id] });
    const seen = await b.next("conversation:created", same(group.id));
    assert(seen.type === "GROUP" && seen.name === "Group", `created: ${JSON.stringify(seen)}`);
  }],
  ["conversation:updated, from another device", async (a) => {
    for (const [call, isMuted] of [["mute", true], ["unmute", false]]) {
      await a.rest("PUT", `/conversations/${conversationId}/${call}`);
      await a.next("conversation:updated", (data) => data.id === conversationId && data.isMuted === isMuted);
    }
  }],
  ["user:offline, user:online", async (a, b) => {
    a.socket.disconnect();
    assert((await b.next("user:offline", from(a))).lastSeen, "no lastSeen");
    await a.connect();
    await b.next("user:online", from(a));
  }],
  ["resume brings what was missed", async (a, b) => {
    const known = (await a.send("before")).seq;
    a.socket.disconnect();
    const missed = [];
    for (const content of ["one", "two", "three"]) missed.push((await b.send(content)).id);
    a.events.length = 0;
    await a.connect();
    const answer = await a.emit("resume", { known: { [conversationId]: known } });
    assert(answer.recovered === true && answer.sent >= 3, `resume: ${JSON.stringify(answer)}`);
    // Delivered before the answer: what is here now is all that counts.
    const got = a.events.filter((one) => one.event === "message:received").map((one) => one.data.id);
    assert(JSON.stringify(got) === JSON.stringify(missed), `missed ${missed}, got ${got}`);
  }],
  ["leave:conversation and join:conversation by bare id: receipts are the bare message id", async (a, b) => {
    await a.emit("leave:conversation", { conversationId });
    await a.emit("join:conversation", conversationId);
    const sent = await a.send("bare");
    await b.next("message:received", same(sent.id));
    await a.next("message:delivered", (data) => data === sent.id);
    await a.emit("leave:conversation", conversationId);
    await a.emit("join:conversation", { conversationId });
  }],
];

const checks = [
  ["a bad token is a connect_error", async () => {
    const socket = io(url, { transports, auth: { token: "nonsense" }, forceNew: true });
    const error = await new Promise((resolve, reject) => {
      socket.on("connect", () => reject(new Error("connected")));
      socket.on("connect_error", resolve);
      setTimeout(() => reject(new Error("no connect_error")), WAIT_MS);
    });
    assert(error.message && !socket.active, `the client would try again: ${error.message}`);
    socket.close();
  }],
  ["connect and authenticated", async (a, b) => {
    await a.connect();
    await b.connect();
    await a.next("user:online", from(b));
    for (const person of [a, b]) assert((await person.rest("GET", "/auth/me")).id === person.id, "another user's id");
  }],
  ["the transport is the one asked for", async (a) => {
    const wanted = transports.at(-1);
    const engine = a.socket.io.engine;
    if (engine.transport.name !== wanted) await new Promise((resolve) => engine.once("upgrade", resolve));
    assert(engine.transport.name === wanted, engine.transport.name);
  }],
  ["join:conversation", async (a, b) => {
    for (const person of [a, b]) await person.emit("join:conversation", { conversationId });
    const error = await a.emit("join:conversation", { conversationId: crypto.randomUUID() }).catch((refused) => refused);
    assert(error instanceof Error, "joined a conversation that is not there");
  }],
  ...bothWays.flatMap(([name, check]) => [
    [`${name} (A to B)`, (a, b) => check(a, b)],
    [`${name} (B to A)`, (a, b) => check(b, a)],
  ]),
  ["the server restarts: both come back by themselves, within the app's patience", async (a, b) => {
    a.events.length = b.events.length = 0;
    const back = [a, b].map(async (person) => {
      await new Promise((resolve) => person.socket.once("disconnect", resolve));
      const gone = Date.now();
      assert((await person.next("authenticated")).userId === person.id, "another user's id");
      assert(Date.now() - gone < PATIENCE_MS, `back after ${Date.now() - gone} ms`);
    });
    console.log(JSON.stringify({ want: "restart" }));
    await Promise.all(back);
    const sent = await a.send("after the restart");
    await b.next("message:received", same(sent.id));
  }],
];

const [a, b] = [new Person("A"), new Person("B")];
let failed = 0;
for (const [check, run] of checks) {
  try {
    await run(a, b);
    console.log(JSON.stringify({ check, ok: true }));
  } catch (error) {
    failed += 1;
    console.log(JSON.stringify({ check, ok: false, error: String(error.message) }));
    // Without connections nothing after this can say anything new.
    if (!a.id || !b.id) break;
  }
}
for (const person of [a, b]) person.socket.disconnect();
process.exit(failed === 0 ? 0 : 1);
