//! A node and the people who use it: they register, call, and talk to each other.

use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::{Method, Response};
use serde_json::{Value, json as value};
use urge::event::Origin;
use urge::id::{ConversationId, MessageId, UserId};
use urge::messages::{Message, SendMessage, Sent};

use super::{TestServer, failure, json};

/// A node with people.
pub struct People {
    /// The node.
    pub server: TestServer,
    numbers: AtomicU32,
}

/// Somebody who is logged in.
pub struct Human {
    /// His id.
    pub id: UserId,
    /// His name.
    pub name: String,
    /// His number.
    pub phone: String,
    /// His access token.
    pub token: String,
}

impl People {
    /// A fresh development node.
    pub async fn start() -> Self {
        Self::of(TestServer::start().await)
    }

    /// People of this node.
    pub fn of(server: TestServer) -> Self {
        Self { server, numbers: AtomicU32::new(1) }
    }

    /// A number that nobody has.
    pub fn number(&self) -> String {
        format!("+1202555{:04}", self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    /// Somebody new.
    pub async fn person(&self, name: &str) -> Human {
        let phone = self.number();
        let command = value!({"phone_number": phone, "display_name": name});
        let login = self.ok_of(self.send("POST /auth/register", None, &command).await).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Human { id: login["user"]["id"].as_str().unwrap().parse().unwrap(), name: name.to_owned(), phone, token: text(&login["token"]) }
    }

    /// The answer to `route` (`GET /conversations`); a null body is none.
    pub async fn send(&self, route: &str, token: Option<&str>, body: &Value) -> Response {
        let (method, path) = route.split_once(' ').unwrap();
        let mut request = self.server.request(method.parse::<Method>().unwrap(), path);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await.unwrap()
    }

    /// The body of a success.
    pub async fn call(&self, who: &Human, route: &str, body: &Value) -> Value {
        let answer = self.ok_of(self.send(route, Some(&who.token), body).await).await;
        if route.contains("/settings/privacy") {
            // What is asked of another node next is about what he changed.
            self.server.settled().await;
        }
        answer
    }

    /// The body of a success of a body that is sent as it is.
    pub async fn call_with(&self, who: &Human, route: &str, body: &str) -> Value {
        let (method, path) = route.split_once(' ').unwrap();
        let request = self.server.request(method.parse::<Method>().unwrap(), path).bearer_auth(&who.token);
        self.ok_of(request.header("content-type", "application/json").body(body.to_owned()).send().await.unwrap()).await
    }

    /// The same without a body.
    pub async fn get(&self, who: &Human, route: &str) -> Value {
        self.call(who, route, &Value::Null).await
    }

    /// The body of a refusal.
    pub async fn refused(&self, who: &Human, route: &str, body: &Value, status: u16, code: &str) -> Value {
        failure(self.send(route, Some(&who.token), body).await, status, code).await
    }

    async fn ok_of(&self, response: Response) -> Value {
        let status = response.status();
        let body = json(response).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The DIRECT conversation of two people.
    pub async fn direct(&self, a: &Human, b: &Human) -> ConversationId {
        let made = self.call(a, "POST /conversations", &value!({"type": "DIRECT", "participant_ids": [b.id]})).await;
        made["id"].as_str().unwrap().parse().unwrap()
    }

    /// A group.
    pub async fn group(&self, founder: &Human, others: &[&Human], name: &str) -> ConversationId {
        let ids: Vec<_> = others.iter().map(|human| human.id).collect();
        let made = self.call(founder, "POST /conversations", &value!({"type": "GROUP", "participant_ids": ids, "name": name})).await;
        made["id"].as_str().unwrap().parse().unwrap()
    }

    /// Says something.
    pub async fn say(&self, who: &Human, conversation: ConversationId, text: &str) -> Message {
        let command = SendMessage { conversation_id: Some(conversation), content: Some(text.to_owned()), ..SendMessage::default() };
        self.server.services.messages.send(who.id, command, Sent::default()).await.unwrap()
    }

    /// Changes what he said.
    pub async fn edit(&self, who: &Human, message: MessageId, text: &str) -> Message {
        self.server.services.messages.edit(who.id, message, Some(text.to_owned()), Origin::default()).await.unwrap()
    }

    /// Takes back what he said.
    pub async fn unsay(&self, who: &Human, message: MessageId) -> Message {
        self.server.services.messages.delete_for_everyone(who.id, message, Origin::default()).await.unwrap()
    }
}
