//! `/messages`: one file a group of calls, and what they share. Searching is `search.rs`.

mod change;
mod forward;
mod groups;
mod history;
mod mark;
mod marks_kept;
mod search;
mod send;
mod star;

use serde_json::{Value, json};

use super::auth::{Person, call, failed, ok, sign_up};
use crate::support::TestServer;

/// An id of nothing.
pub const UNKNOWN: &str = "0197a5a3-0000-7000-8000-000000000000";

impl Person {
    /// His id.
    pub fn id(&self) -> &str {
        self.user["id"].as_str().unwrap()
    }
}

/// Two people who talk, and one who does not belong.
pub struct Chat {
    pub server: TestServer,
    pub ada: Person,
    pub bob: Person,
    pub eve: Person,
    /// The DIRECT conversation of Ada and Bob.
    pub id: String,
}

impl Chat {
    pub async fn start() -> Self {
        Self::on(TestServer::start().await).await
    }

    pub async fn on(server: TestServer) -> Self {
        let person = |n: u32, name: &str| {
            let command = json!({"phone_number": format!("+1202555{n:04}"), "password": "correct horse", "display_name": name});
            let server = &server;
            async move { sign_up(server, &command).await }
        };
        let (ada, bob, eve) = (person(101, "Ada").await, person(102, "Bob").await, person(103, "Eve").await);
        let id = text(&create(&server, &ada, &json!({"type": "DIRECT", "participant_ids": [bob.id()]})).await["id"]);
        Self { server, ada, bob, eve, id }
    }

    /// A group of Ada's, with Bob and perhaps Eve.
    pub async fn group(&self, members: &[&Person]) -> String {
        let ids: Vec<_> = members.iter().map(|member| member.id()).collect();
        text(&create(&self.server, &self.ada, &json!({"type": "GROUP", "name": "Friends", "participant_ids": ids})).await["id"])
    }

    /// Sends this content to the conversation of Ada and Bob.
    pub async fn send(&self, from: &Person, content: &str) -> Value {
        self.send_to(from, &self.id, content).await
    }

    pub async fn send_to(&self, from: &Person, conversation: &str, content: &str) -> Value {
        self.tell(from, "POST /messages", &json!({"conversation_id": conversation, "content": content})).await
    }

    /// The body of a call that succeeds.
    pub async fn tell(&self, caller: &Person, route: &str, command: &Value) -> Value {
        ok(call(&self.server, route, Some(&caller.token), command).await).await
    }

    /// The body of a call without a body that succeeds.
    pub async fn ask(&self, caller: &Person, route: &str) -> Value {
        self.tell(caller, route, &Value::Null).await
    }

    /// The body of a call that fails.
    pub async fn refuse(&self, caller: &Person, route: &str, command: &Value, status: u16, code: &str) -> Value {
        failed(call(&self.server, route, Some(&caller.token), command).await, status, code).await
    }

    /// What this person reads in the conversation of Ada and Bob, oldest first.
    pub async fn history(&self, reader: &Person) -> Value {
        self.ask(reader, &format!("GET /conversations/{}/messages", self.id)).await
    }
}

async fn create(server: &TestServer, caller: &Person, command: &Value) -> Value {
    ok(call(server, "POST /conversations", Some(&caller.token), command).await).await
}

/// A string out of an answer.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}")).to_owned()
}

/// The contents of `messages`.
pub fn contents(answer: &Value) -> Vec<&str> {
    answer["messages"].as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_call_asks_who_calls_and_whose_the_message_is() {
    let chat = Chat::start().await;
    let id = text(&chat.send(&chat.bob, "hello").await["id"]);
    let send = json!({"conversation_id": chat.id, "content": "x"});
    let forward = json!({"message_ids": [id], "conversation_id": chat.id});
    let read = json!({"message_ids": [id]});
    let routes = [
        (format!("GET /messages/{id}"), Value::Null),
        (format!("PUT /messages/{id}"), json!({"content": "x"})),
        (format!("DELETE /messages/{id}"), Value::Null),
        (format!("POST /messages/{id}/star"), Value::Null),
        (format!("DELETE /messages/{id}/star"), Value::Null),
        (format!("PUT /messages/{id}/status"), json!({"status": "READ"})),
        (format!("GET /messages/{id}/receipts"), Value::Null),
    ];
    for (route, command) in &routes {
        failed(call(&chat.server, route, None, command).await, 401, "unauthenticated").await;
        chat.refuse(&chat.eve, route, command, 403, "forbidden").await;
        chat.refuse(&chat.ada, &route.replace(&id, UNKNOWN), command, 404, "not_found").await;
        chat.refuse(&chat.ada, &route.replace(&id, "no-uuid"), command, 422, "validation_error").await;
    }
    let others = [
        ("POST /messages", &send),
        ("POST /messages/forward", &forward),
        ("POST /messages/read", &read),
        ("GET /messages/starred", &Value::Null),
        ("GET /messages/search?q=hello", &Value::Null),
    ];
    for (route, command) in others {
        failed(call(&chat.server, route, None, command).await, 401, "unauthenticated").await;
        failed(call(&chat.server, route, Some("nonsense"), command).await, 401, "unauthenticated").await;
        if !command.is_null() {
            chat.refuse(&chat.eve, route, command, 403, "forbidden").await;
        }
    }
    chat.server.stop().await;
}
