//! For every call of the document a request that it takes: what is good, for tests that spoil it or take away what it needs.

use reqwest::Response;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::auth::{Person, code_for, ok, sign_up};
use crate::support::document::{Operation, operations};
use crate::support::{Human, People, TestServer};

/// Ada and Bob, who talk; Eve, who does not belong.
pub struct Stage {
    pub people: People,
    pub ada: Human,
    pub bob: Human,
    pub eve: Human,
    /// The DIRECT conversation of Ada and Bob.
    pub conversation: String,
    /// What Ada said there.
    pub message: String,
    /// How somebody logs in by password: made once, for hashing is most of it.
    login: OnceCell<Value>,
}

/// A request: `PUT /messages/<id>`, whose token it carries, and its body; null is none.
#[derive(Clone)]
pub struct Good {
    pub route: String,
    pub token: Option<String>,
    pub body: Value,
}

impl Stage {
    pub async fn set() -> Self {
        Self::on(TestServer::start().await).await
    }

    pub async fn on(server: TestServer) -> Self {
        let people = People::of(server);
        let (ada, bob, eve) = (people.person("Ada").await, people.person("Bob").await, people.person("Eve").await);
        let conversation = people.direct(&ada, &bob).await;
        let message = people.say(&ada, conversation, "hello").await.id.to_string();
        Self { people, ada, bob, eve, conversation: conversation.to_string(), message, login: OnceCell::new() }
    }

    /// A fresh request that this call takes: what one changed or used up stands in no other's way. Its body has the fields
    /// that must be there.
    pub async fn good(&self, call: &Operation) -> Good {
        let token = if call.needs_login { Some(self.ada.token.clone()) } else { None };
        let id = match call.path.split('/').nth(1).unwrap_or_default() {
            "conversations" => &self.conversation,
            "messages" => &self.message,
            _ => &self.bob.id.to_string(),
        };
        let usual = Good { route: call.with_id(id), token, body: self.body(&call.id).await };
        match call.id.as_str() {
            // Of somebody else: Ada's login goes on, and a block would end her and Bob's talking.
            "logout_user" | "end_other_sessions" | "block_user" => Good { token: Some(self.new_login().await.token), ..usual },
            "end_session" => {
                let login = self.new_login().await;
                let listed = self.people.send("GET /auth/sessions", Some(&login.token), &Value::Null).await;
                let session = ok(listed).await["sessions"][0]["id"].as_str().unwrap().to_owned();
                Good { route: call.with_id(&session), token: Some(login.token), ..usual }
            }
            "unblock_user" => {
                let (one, other) = (self.new_login().await, self.new_login().await);
                let other = other.user["id"].as_str().unwrap().to_owned();
                let block = format!("POST /settings/privacy/block/{other}");
                ok(self.people.send(&block, Some(&one.token), &Value::Null).await).await;
                Good { route: call.with_id(&other), token: Some(one.token), ..usual }
            }
            // What is taken away by them is needed elsewhere.
            "delete_message" => {
                let message = self.people.say(&self.ada, self.conversation.parse().unwrap(), "gone soon").await.id;
                Good { route: call.with_id(&message.to_string()), ..usual }
            }
            "delete_conversation" | "clear_conversation" => {
                let group = self.people.group(&self.ada, &[&self.bob], "Gone soon").await;
                Good { route: call.with_id(&group.to_string()), ..usual }
            }
            "search_messages" | "search_users" => Good { route: format!("{}?q=hello", usual.route), ..usual },
            _ => usual,
        }
    }

    /// Somebody new, for what would change Ada or Bob.
    async fn new_login(&self) -> Person {
        sign_up(&self.people.server, &json!({"phone_number": self.people.number()})).await
    }

    /// Sends the request.
    pub async fn send(&self, good: &Good) -> Response {
        self.people.send(&good.route, good.token.as_deref(), &good.body).await
    }

    async fn body(&self, call: &str) -> Value {
        let phone = self.people.number();
        match call {
            "register_user" | "send_code" | "send_verification" | "forgot_password" => json!({"phone_number": phone}),
            "login_user" => {
                let command = json!({"phone_number": phone, "password": "correct horse"});
                let made = async {
                    sign_up(&self.people.server, &command).await;
                    command.clone()
                };
                self.login.get_or_init(|| made).await.clone()
            }
            "verify_phone" => json!({"phone_number": phone, "code": code_for(&self.people.server, &phone).await}),
            "verify_reset_code" | "reset_password" => {
                let command = json!({"phone_number": phone});
                sign_up(&self.people.server, &command).await;
                ok(self.people.send("POST /auth/forgot-password", None, &command).await).await;
                let code = self.people.server.sms.wait(&phone, 1).await;
                let mut command = json!({"phone_number": phone, "code": code});
                if call == "reset_password" {
                    command["new_password"] = json!("another horse");
                }
                command
            }
            "refresh_tokens" => json!({"refresh_token": self.new_login().await.refresh}),
            "fetch_users" => json!({"user_ids": [self.bob.id]}),
            "lookup_users" => json!({"phone_numbers": [self.bob.phone]}),
            "create_conversation" => json!({"type": "GROUP", "participant_ids": [self.bob.id], "name": "Two"}),
            "send_message" => json!({"conversation_id": self.conversation, "content": "hello", "client_message_id": Uuid::now_v7()}),
            "forward_messages" => {
                let to = &self.conversation;
                json!({"message_ids": [self.message], "conversation_id": to, "conversation_ids": [to]})
            }
            "read_messages" => json!({"message_ids": [self.message]}),
            "edit_message" => json!({"content": format!("hello {}", Uuid::now_v7())}),
            "update_message_status" => json!({"status": "READ"}),
            _ if operations().iter().any(|one| one.id == call && one.fields.is_some()) => json!({}),
            _ => Value::Null,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_takes_what_is_good() {
    let stage = Stage::set().await;
    for call in operations() {
        let response = stage.send(&stage.good(&call).await).await;
        let status = response.status();
        assert_eq!(status, 200, "{}: {}", call.route(), response.text().await.unwrap());
    }
    stage.people.server.stop().await;
}
