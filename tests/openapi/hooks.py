"""What schemathesis sends is made to mean something: ids in it are of people, conversations and messages that exist, codes are those
that were sent, and what ends a login is done to one that nobody needs. Of what fits the document every fourth case is left as it was
made, and so is everything that does not fit it. Each answer is counted, for `verdict.py`."""

import atexit
import itertools
import json
import os
import re
import time
from collections import Counter, defaultdict
from pathlib import Path

import requests
import schemathesis
from schemathesis.core.parameters import ParameterLocation

URL = os.environ["URGE_URL"]
LOG = Path(os.environ["URGE_LOG_FILE"])
ANSWERS = Path(os.environ["URGE_ANSWERS"])
PASSWORD = "correct horse"
PICTURE = "https://example.com/picture.png"

numbers = itertools.count(2_000_000)


def ask(route, token=None, body=None):
    """The answer to a call that succeeds."""
    method, path = route.split(" ")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = requests.request(method, URL + path, headers=headers, json=body, timeout=10)
    answer.raise_for_status()
    return answer.json()


def number():
    """A number that nobody has."""
    return f"+1212{next(numbers)}"


class Person:
    """Somebody new."""

    def __init__(self, name="Hello", password=None):
        self.phone = number()
        login = ask("POST /auth/register", body={"phone_number": self.phone, "display_name": name, "password": password})
        self.id, self.token, self.refresh_token = login["user"]["id"], login["access_token"], login["refresh_token"]

    def sends(self, conversation):
        """The id of a new message."""
        return ask("POST /messages", self.token, {"conversation_id": conversation, "content": "hello"})["id"]


def code(route, phone):
    """The code that this call sends there, after it has answered or before."""
    ask(route, body={"phone_number": phone})
    line, until = re.compile(rf"phone={re.escape(phone)} code=(\d{{6}})"), time.monotonic() + 10
    while time.monotonic() < until:
        if sent := line.findall(LOG.read_text()):
            return sent[-1]
        time.sleep(0.01)
    raise TimeoutError(f"no code was sent to {phone}")


ada, ben, cleo = Person("Ada"), Person("Ben"), Person("Cleo")
# Many logins end the least used of one's own: somebody else's.
dan = Person("Dan", PASSWORD)
group = {"type": "GROUP", "name": "Talk", "participant_ids": [ben.id, cleo.id]}
# What is cleared, archived and deleted is not where messages are looked for.
direct = ask("POST /conversations", ada.token, {"type": "DIRECT", "participant_ids": [ben.id]})["id"]
talk = ask("POST /conversations", ada.token, group)["id"]

# What stands in a field of this name, in a body or a query.
FIELDS = {
    "after": lambda: ben.sends(direct),
    "avatar": lambda: PICTURE,
    "avatar_url": lambda: PICTURE,
    "before": lambda: ben.sends(direct),
    "conversation_id": lambda: talk,
    "conversation_ids": lambda: [talk, direct],
    "email": lambda: "ada@example.com",
    "known": lambda: {talk: 1, direct: 0},
    "media_url": lambda: PICTURE,
    "message_ids": lambda: [ben.sends(talk)],
    "message_type": lambda: "IMAGE",
    "participant_ids": lambda: [ben.id],
    "phone_numbers": lambda: [ben.phone, number()],
    "q": lambda: "hello",
    "reply_to_id": lambda: ben.sends(talk),
    "thumbnail_url": lambda: PICTURE,
    "user_ids": lambda: [ben.id, cleo.id],
}

# What else the body of an operation needs; a null is like a field that is not there.
BODIES = {
    "create_conversation": lambda: {"name": "Talk"},
    "edit_message": lambda: {"content": "hello again"},
    "forward_messages": lambda: {"conversation_id": talk},
    "login_user": lambda: {"phone_number": dan.phone, "password": PASSWORD, "verification_code": None},
    "refresh_tokens": lambda: {"refresh_token": Person().refresh_token},
    "register_user": lambda: {"phone_number": number(), "password": None, "verification_code": None, "registration_token": None},
    "reset_password": lambda: coded("POST /auth/forgot-password", Person().phone) | {"new_password": PASSWORD},
    "send_message": lambda: {"conversation_id": talk, "type": None},
    "update_message_status": lambda: {"status": "READ"},
    "verify_phone": lambda: coded("POST /auth/send-verification", number()),
    "verify_reset_code": lambda: coded("POST /auth/forgot-password", Person().phone),
} | dict.fromkeys(["forgot_password", "send_code", "send_verification"], lambda: {"phone_number": ben.phone})

# What else its query needs.
QUERIES = {"search_messages": {"q": "hello"}}

# Whose message it is that an operation below `/messages/{id}` is about; Ada's own unless said here.
SENDERS = {"update_message_status": ben, "star_message": ben}

# Blocked by turns; who is written to is not.
BLOCKS = {"block_user", "unblock_user", "check_block"}

# Operations that end logins.
ENDS = {"end_other_sessions", "end_session", "logout_user"}

calls = defaultdict(itertools.count)
answers = defaultdict(Counter)


def coded(route, phone):
    """A number and the code that has been sent to it."""
    return {"phone_number": phone, "code": code(route, phone)}


def session_of(person):
    """The id of his login."""
    return ask("GET /auth/sessions", person.token)["sessions"][0]["id"]


def path_of(operation, name, who):
    """The path parameters that lead to something."""
    if operation.path.startswith("/messages/"):
        return {"id": SENDERS.get(name, ada).sends(talk)}
    if operation.path.startswith("/conversations/"):
        return {"id": direct}
    if operation.path.startswith("/auth/sessions/"):
        return {"id": session_of(who)}
    if name == "unblock_user":
        ask(f"POST /settings/privacy/block/{cleo.id}", who.token)
    if "{user_id}" in operation.path:
        return {"user_id": cleo.id if name in BLOCKS else ben.id}
    return {}


def second_page(path):
    """The cursor to the second of its pages; nothing when there is but one."""
    cursor = ask(f"GET {path}?limit=1&q=hello", ada.token)["next_cursor"]
    return {"cursor": cursor} if cursor else {}


def fits(case, location):
    """Whether this part of it is as the document has it; examples are."""
    return case.meta is None or not case.meta.is_negative_at(location)


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = case.operation
    name = operation.definition.raw["operationId"]
    who = Person() if name in ENDS else ada
    case.headers["Authorization"] = f"Bearer {who.token}"
    if next(calls[name]) % 4 == 3:
        return
    leads_somewhere = fits(case, ParameterLocation.PATH)
    if case.path_parameters and leads_somewhere:
        case.path_parameters = case.path_parameters | path_of(operation, name, who)
    if case.query and fits(case, ParameterLocation.QUERY):
        known = {field: FIELDS[field]() for field in case.query if field in FIELDS} | QUERIES.get(name, {})
        cursor = second_page(case.formatted_path) if "cursor" in case.query and leads_somewhere else {}
        case.query = {field: value for field, value in case.query.items() if field != "cursor"} | known | cursor
    if isinstance(case.body, dict) and fits(case, ParameterLocation.BODY):
        known = {field: FIELDS[field]() for field in case.body if field in FIELDS}
        case.body = case.body | known | BODIES.get(name, dict)()


@schemathesis.hook
def after_call(context, case, response):
    # Also methods that a path does not have are tried.
    if case.method.upper() == case.operation.method.upper():
        answers[case.operation.label][response.status_code] += 1


@atexit.register
def write_answers():
    ask("GET /auth/me", ada.token)
    ANSWERS.write_text(json.dumps(answers))
