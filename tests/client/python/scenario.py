"""The scenario of ../README.md with the official Python client. Each entry of `checks` is one promise of the contract."""

import json
import os
import sys
import threading
import time
import uuid

import requests
import socketio

URL = os.environ["URGE_URL"]
CONVERSATION = os.environ["URGE_CONVERSATION"]
TRANSPORTS = {"websocket": ["websocket"], "polling": ["polling"], "upgrade": ["polling", "websocket"]}[os.environ["URGE_TRANSPORT"]]
WAIT_S = 15
# The shipped app tries five times in some eight seconds and then stays deaf; so do these clients.
PATIENCE = {"reconnection_attempts": 5, "reconnection_delay": 1, "reconnection_delay_max": 1.75, "randomization_factor": 0}
PATIENCE_S = 8.5


def say(**line):
    print(json.dumps(line), flush=True)


class Person:
    """One user: a socket whose events are kept until somebody asks for them, and another device that speaks REST."""

    def __init__(self, name):
        self.name = name
        self.id = None
        self.token = os.environ[f"URGE_TOKEN_{name}"]
        self.headers = {"authorization": f"Bearer {os.environ[f'URGE_REST_TOKEN_{name}']}"}
        self.events = []
        self.changed = threading.Condition()
        self.socket = None

    def keep(self, event, data=None):
        with self.changed:
            self.events.append((event, data))
            self.changed.notify_all()

    def next(self, event, accept=lambda data: True):
        """The data of the first event of this name that `accept` takes; it is used up, the others stay."""
        deadline = time.monotonic() + WAIT_S
        with self.changed:
            while True:
                for at, (name, data) in enumerate(self.events):
                    if name == event and accept(data):
                        del self.events[at]
                        return data
                if not self.changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"{self.name}: no {event}; there were {str(self.events)[:2000]}")

    def connect(self):
        self.socket = socketio.Client(**PATIENCE)
        self.socket.on("*", self.keep)
        self.socket.on("disconnect", lambda *_: self.keep("disconnect", time.monotonic()))
        self.socket.connect(URL, transports=TRANSPORTS, auth={"token": self.token}, wait_timeout=WAIT_S)
        self.id = self.next("authenticated")["userId"]

    def disconnect(self):
        self.socket.disconnect()

    def emit(self, event, data):
        """Emits and returns what the ack carries."""
        answer = self.socket.call(event, data, timeout=WAIT_S)
        if isinstance(answer, dict) and answer.get("error"):
            raise AssertionError(f"{event}: {answer['error']}")
        return answer

    def send(self, content):
        draft = {"conversationId": CONVERSATION, "content": content, "messageType": "TEXT", "clientMessageId": str(uuid.uuid4())}
        return self.emit("message:sent", draft)

    def rest(self, method, path, body=None):
        answer = requests.request(method, f"{URL}/api{path}", headers=self.headers, json=body, timeout=WAIT_S)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()


def same(wanted):
    return lambda data: isinstance(data, dict) and (data.get("id") or data.get("messageId")) == wanted


def sent_by(person):
    return lambda data: data["userId"] == person.id


# Checks that hold in both directions: `a` acts, `b` sees.


def message(a, b):
    sent = a.send("hello")
    assert sent["content"] == "hello" and sent["senderId"] == a.id, f"the ack is no message: {sent}"
    got = b.next("message:received", same(sent["id"]))
    assert got["seq"] == sent["seq"] and got["conversation_id"] == CONVERSATION, f"received: {got}"


def delivered(a, b):
    sent = a.send("delivered?")
    b.next("message:received", same(sent["id"]))
    told = a.next("message:delivered", same(sent["id"]))
    assert told["userId"] == b.id and told["conversationId"] == CONVERSATION, f"delivered: {told}"
    b.emit("message:delivered", {"messageId": sent["id"]})


def read(a, b):
    sent = a.send("read?")
    b.next("message:received", same(sent["id"]))
    b.emit("message:read", {"messageId": sent["id"], "conversationId": CONVERSATION})
    told = a.next("message:read", same(sent["id"]))
    assert told["userId"] == b.id and told["conversationId"] == CONVERSATION, f"read: {told}"


def once(a, _b):
    draft = {"conversationId": CONVERSATION, "content": "once", "clientMessageId": str(uuid.uuid4())}
    assert a.emit("message:sent", draft)["id"] == a.emit("message:sent", draft)["id"], "two messages"


def typing(a, b):
    a.emit("typing:start", {"conversationId": CONVERSATION})
    started = b.next("typing:start", sent_by(a))
    assert started["conversationId"] == CONVERSATION and started["userName"], f"typing: {started}"
    a.emit("typing:stop", {"conversationId": CONVERSATION})
    b.next("typing:stop", sent_by(a))


def other_devices(a, b):
    sent = a.rest("POST", "/messages", {"conversation_id": CONVERSATION, "content": "by REST"})
    for person in (a, b):
        person.next("message:received", same(sent["id"]))
    a.rest("PUT", f"/messages/{sent['id']}", {"content": "edited"})
    for person in (a, b):
        edited = person.next("message:updated", same(sent["id"]))
        assert edited["isEdited"] and edited["content"] == "edited", f"updated: {edited}"
    a.rest("DELETE", f"/messages/{sent['id']}?scope=everyone")
    for person in (a, b):
        assert person.next("message:deleted", same(sent["id"]))["isDeleted"], "not deleted"


def created(a, b):
    group = a.rest("POST", "/conversations", {"type": "GROUP", "name": "Group", "participant_ids": [b.id]})
    seen = b.next("conversation:created", same(group["id"]))
    assert seen["type"] == "GROUP" and seen["name"] == "Group", f"created: {seen}"


def updated(a, _b):
    for call, muted in (("mute", True), ("unmute", False)):
        a.rest("PUT", f"/conversations/{CONVERSATION}/{call}")
        a.next("conversation:updated", lambda data, muted=muted: data["id"] == CONVERSATION and data["isMuted"] is muted)


def presence(a, b):
    a.disconnect()
    assert b.next("user:offline", sent_by(a))["lastSeen"], "no lastSeen"
    a.connect()
    b.next("user:online", sent_by(a))


def resume(a, b):
    known = a.send("before")["seq"]
    a.disconnect()
    missed = [b.send(content)["id"] for content in ("one", "two", "three")]
    a.events.clear()
    a.connect()
    answer = a.emit("resume", {"known": {CONVERSATION: known}})
    assert answer["recovered"] is True and answer["sent"] >= 3, f"resume: {answer}"
    # This client runs each handler on a thread of its own, so that only the set is certain.
    got = {a.next("message:received", same(one))["id"] for one in missed}
    assert got == set(missed), f"missed {missed}, got {got}"


def bare_id(a, b):
    a.emit("leave:conversation", {"conversationId": CONVERSATION})
    a.emit("join:conversation", CONVERSATION)
    sent = a.send("bare")
    b.next("message:received", same(sent["id"]))
    a.next("message:delivered", lambda data: data == sent["id"])
    a.emit("leave:conversation", CONVERSATION)
    a.emit("join:conversation", {"conversationId": CONVERSATION})


BOTH_WAYS = [
    ("message:sent is acknowledged and received", message),
    ("message:delivered, by itself and said again", delivered),
    ("message:read", read),
    ("the same client message id is one message", once),
    ("typing:start and typing:stop", typing),
    ("message:received on the sender's other devices, message:updated, message:deleted", other_devices),
    ("conversation:created", created),
    ("conversation:updated, from another device", updated),
    ("user:offline, user:online", presence),
    ("resume brings what was missed", resume),
    ("leave:conversation and join:conversation by bare id: receipts are the bare message id", bare_id),
]


def bad_token(_a, _b):
    refusals = []
    client = socketio.Client()
    client.on("connect_error", refusals.append)
    try:
        client.connect(URL, transports=TRANSPORTS, auth={"token": "nonsense"}, wait_timeout=WAIT_S, retry=False)
    except socketio.exceptions.ConnectionError:
        assert refusals and refusals[0].get("message"), f"refused without a word: {refusals}"
        return
    raise AssertionError("connected")


def connect(a, b):
    a.connect()
    b.connect()
    a.next("user:online", sent_by(b))
    for person in (a, b):
        assert person.rest("GET", "/auth/me")["id"] == person.id, "another user's id"


def transport(a, _b):
    assert a.socket.transport() == TRANSPORTS[-1], a.socket.transport()


def join(a, b):
    for person in (a, b):
        person.emit("join:conversation", {"conversationId": CONVERSATION})
    try:
        a.emit("join:conversation", {"conversationId": str(uuid.uuid4())})
    except AssertionError:
        return
    raise AssertionError("joined a conversation that is not there")


def restart(a, b):
    for person in (a, b):
        person.events.clear()
    say(want="restart")
    for person in (a, b):
        gone = person.next("disconnect")
        assert person.next("authenticated")["userId"] == person.id, "another user's id"
        assert time.monotonic() - gone < PATIENCE_S, f"back after {time.monotonic() - gone} s"
    sent = a.send("after the restart")
    b.next("message:received", same(sent["id"]))


def checks(a, b):
    yield "a bad token is a connect_error", bad_token, (a, b)
    yield "connect and authenticated", connect, (a, b)
    yield "the transport is the one asked for", transport, (a, b)
    yield "join:conversation", join, (a, b)
    for name, check in BOTH_WAYS:
        yield f"{name} (A to B)", check, (a, b)
        yield f"{name} (B to A)", check, (b, a)
    yield "the server restarts: both come back by themselves, within the app's patience", restart, (a, b)


def main():
    a, b = Person("A"), Person("B")
    failed = 0
    for name, check, people in checks(a, b):
        try:
            check(*people)
            say(check=name, ok=True)
        except Exception as error:  # any failure of the client library is a failed check
            failed += 1
            say(check=name, ok=False, error=f"{type(error).__name__}: {error}")
            if a.id is None or b.id is None:
                break
    for person in (a, b):
        if person.socket:
            person.disconnect()
    sys.exit(1 if failed else 0)


main()
