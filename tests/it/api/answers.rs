//! The errors that the document lists for a call are those that the call answers with, and no others.
//! Each one is provoked here; what any test has seen beside them, a node that stops finds (`support::document`).

use std::sync::Arc;

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use urge::messages::{MAX_HIDDEN, MessageStore};

use crate::support::document::{Operation, operations};
use crate::support::{Human, People, TestServer, failure};

const UNKNOWN: &str = "0197a5a3-0000-7000-8000-000000000000";
const WRONG: &str = "0197a5a3-0000-7000-8000-000000000001";

/// Two nodes: one where everybody may do everything, and one where numbers must be verified and are American.
struct Stage {
    people: People,
    strict: People,
    ada: Human,
    /// Not verified, on the strict node.
    eve: Human,
    messages: Arc<dyn MessageStore>,
}

/// A request: its route, whose it is, its body, and the type that the body says it is of.
struct Request<'a> {
    people: &'a People,
    route: String,
    token: Option<&'a str>,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Stage {
    async fn set() -> Self {
        let messages = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&messages);
        let keep = move |backends: urge::app::Backends| {
            *kept.lock() = Some(Arc::clone(&backends.stores.messages));
            backends
        };
        let people = People::of(TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, keep).await);
        let strict = TestServer::with(|config| {
            config.auth.require_verified_phone = true;
            config.sms.countries = vec![urge::phone::Country::US];
        });
        let strict = People::of(strict.await);
        let (ada, eve) = (people.person("Ada").await, strict.person("Eve").await);
        let messages = messages.lock().take().unwrap();
        Self { people, strict, ada, eve, messages }
    }

    fn as_ada(&self, route: impl Into<String>, body: &Value) -> Request<'_> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        Request { people: &self.people, route: route.into(), token: Some(&self.ada.token), content_type: "application/json", body }
    }

    fn raw(&self, call: &Operation, content_type: &'static str, body: &[u8]) -> Request<'_> {
        Request { content_type, body: body.to_vec(), ..self.as_ada(call.with_id(UNKNOWN), &Value::Null) }
    }

    /// A message of Ada's to somebody new.
    async fn message(&self) -> urge::messages::Message {
        let bob = self.people.person("Bob").await;
        let conversation = self.people.direct(&self.ada, &bob).await;
        self.people.say(&self.ada, conversation, "hello").await
    }

    /// A request that this call answers with this error.
    async fn provoke(&self, call: &Operation, status: u16) -> Option<Request<'_>> {
        let reads_body = call.fields.is_some();
        Some(match (status, call.id.as_str()) {
            (413, _) => self.raw(call, "application/json", &vec![b' '; 1024 * 1024 + 1]),
            (415, _) => self.raw(call, "text/plain", b"hello"),
            (400, _) if reads_body => self.raw(call, "application/json", b"{"),
            (400, "block_user") => self.as_ada(call.with_id(&self.ada.id.to_string()), &Value::Null),
            (400, "star_message") => {
                let message = self.message().await;
                self.people.unsay(&self.ada, message.id).await;
                self.as_ada(call.with_id(&message.id.to_string()), &Value::Null)
            }
            (400, "delete_message") => {
                let message = self.message().await;
                let places: Vec<_> = (message.seq + 1..=message.seq + MAX_HIDDEN).collect();
                // As many at once as the store's queue takes with room to spare.
                for some in places.chunks(1_000) {
                    let hide = some.iter().map(|seq| self.messages.put_hidden(self.ada.id, message.conversation_id, *seq, false));
                    try_join_all(hide).await.unwrap();
                }
                self.as_ada(format!("{}?scope=me", call.with_id(&message.id.to_string())), &Value::Null)
            }
            (401, "login_user") => self.as_ada(call.route(), &json!({"phone_number": self.ada.phone, "password": "wrong horse"})),
            (401, "refresh_tokens") => self.as_ada(call.route(), &json!({"refresh_token": "nonsense"})),
            (401, "verify_phone") => {
                // Right, and the second factor is asked for.
                let phone = self.people.number();
                let verify = async || {
                    let code = super::auth::code_for(&self.people.server, &phone).await;
                    json!({"phone_number": phone, "code": code})
                };
                let made = self.people.send("POST /auth/register", None, &json!({"phone_number": phone})).await;
                let user = crate::support::json(made).await["user"]["id"].as_str().unwrap().parse().unwrap();
                self.people.send("POST /auth/verify-phone", None, &verify().await).await;
                let switch_on = |record: &mut urge::users::UserRecord| {
                    record.totp = Some(urge::users::Totp { enabled: true, ..urge::users::Totp::default() });
                    Ok(())
                };
                self.people.server.services.users.change(user, switch_on).await.unwrap();
                self.as_ada(call.route(), &verify().await)
            }
            (401, _) => Request { token: None, ..self.as_ada(call.with_id(UNKNOWN), &Value::Null) },
            (403, "send_code" | "send_verification" | "forgot_password") => {
                Request { people: &self.strict, token: None, ..self.as_ada(call.route(), &json!({"phone_number": "+4915123456789"})) }
            }
            (403, _) => Request { people: &self.strict, token: Some(&self.eve.token), ..self.as_ada(call.with_id(UNKNOWN), &Value::Null) },
            (404, "create_conversation") => self.as_ada(call.route(), &json!({"type": "DIRECT", "participant_ids": [UNKNOWN]})),
            (404, "send_message") => self.as_ada(call.route(), &json!({"conversation_id": UNKNOWN, "content": "x"})),
            (404, "forward_messages") => {
                let command = json!({"message_ids": [self.message().await.id], "conversation_id": UNKNOWN});
                self.as_ada(call.route(), &command)
            }
            (404, "read_messages") => self.as_ada(call.route(), &json!({"message_ids": [WRONG]})),
            (404, "search_messages") => self.as_ada(format!("{}?q=x&conversation_id={UNKNOWN}", call.route()), &Value::Null),
            (404, "edit_message") => self.as_ada(call.with_id(UNKNOWN), &json!({"content": "x"})),
            (404, "update_message_status") => self.as_ada(call.with_id(UNKNOWN), &json!({"status": "READ"})),
            (404, _) if !call.path_parameters.is_empty() => self.as_ada(call.with_id(UNKNOWN), &Value::Null),
            (422, _) if !call.path_parameters.is_empty() => self.as_ada(call.with_id("no-uuid"), &Value::Null),
            (422, _) if reads_body => self.raw(call, "application/json", b"[]"),
            (422, _) if call.query_parameters.iter().any(|name| name == "limit") => {
                self.as_ada(format!("{}?q=x&limit=ten", call.route()), &Value::Null)
            }
            _ => return None,
        })
    }
}

impl Request<'_> {
    async fn send(self) -> reqwest::Response {
        let (method, path) = self.route.split_once(' ').unwrap();
        let mut request = self.people.server.request(method.parse::<Method>().unwrap(), path);
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        if !self.body.is_empty() {
            request = request.header("content-type", self.content_type).body(self.body);
        }
        request.send().await.unwrap()
    }
}

/// Of these every call can have each: too much for now (here: none left of the address), a fault, a store that is away.
const OF_ALL: [u16; 3] = [429, 500, 503];

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_the_document_is_answered() {
    let stage = Box::pin(Stage::set()).await;
    let mut faults = Vec::new();
    for call in operations() {
        for status in call.errors.iter().filter(|status| !OF_ALL.contains(*status)) {
            let Some(request) = stage.provoke(&call, *status).await else {
                faults.push(format!("{}: nothing is known that it answers with {status}", call.route()));
                continue;
            };
            let response = request.send().await;
            if response.status() != *status {
                faults.push(format!("{}: {} instead of {status}: {}", call.route(), response.status(), response.text().await.unwrap()));
                continue;
            }
            let code = match (*status, call.id.as_str()) {
                (400, _) => "bad_request",
                (401, "verify_phone") => "totp_required",
                (401, _) => "unauthenticated",
                (403, "send_code" | "send_verification" | "forgot_password") => "forbidden",
                (403, _) => "phone_unverified",
                (404, _) => "not_found",
                (413, _) => "too_large",
                (415, _) => "unsupported_media_type",
                _ => "validation_error",
            };
            failure(response, *status, code).await;
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    stage.strict.server.stop().await;
    stage.people.server.stop().await;
}

#[tokio::test]
async fn a_login_is_asked_of_every_call_that_needs_one() {
    let people = People::start().await;
    let ada = people.person("Ada").await;
    people.call(&ada, "POST /auth/logout", &Value::Null).await;
    let stale = format!("{}x", ada.token);
    for call in operations() {
        for token in [None, Some("nonsense"), Some(ada.token.as_str()), Some(stale.as_str()), Some("")] {
            // An empty object: a call that looked at its body first would name a field.
            let body = if call.fields.is_some() { json!({}) } else { Value::Null };
            let response = people.send(&call.with_id(UNKNOWN), token, &body).await;
            if call.needs_login {
                assert_eq!(response.status(), 401, "{} with {token:?}", call.route());
                failure(response, 401, "unauthenticated").await;
            } else {
                // A stale token sent along with a public call is ignored.
                assert!(matches!(response.status().as_u16(), 200 | 422), "{}: {}", call.route(), response.status());
            }
        }
    }
    people.server.stop().await;
}

#[tokio::test]
async fn who_is_not_verified_can_do_nothing_but_log_out() {
    let people = People::of(TestServer::with(|config| config.auth.require_verified_phone = true).await);
    let ada = people.person("Ada").await;
    for call in operations().into_iter().filter(|call| call.needs_login && call.id != "logout_user") {
        let body = if call.fields.is_some() { json!({}) } else { Value::Null };
        let response = people.send(&call.with_id(UNKNOWN), Some(&ada.token), &body).await;
        assert_eq!(response.status(), 403, "{}", call.route());
        failure(response, 403, "phone_unverified").await;
    }
    people.get(&ada, "POST /auth/logout").await;
    people.server.stop().await;
}

#[tokio::test]
async fn every_call_but_three_counts_against_its_address() {
    // Each node counts for itself.
    let people = People::of(
        TestServer::alone(|config| {
            config.rate_limit = true;
            (config.server.requests_per_minute, config.server.request_burst) = (1, 1);
        })
        .await,
    );
    people.send("GET /", None, &Value::Null).await;
    for call in operations() {
        let response = people.send(&call.with_id(UNKNOWN), None, &Value::Null).await;
        assert_eq!(response.status() == 429, call.errors.contains(&429), "{}: {}", call.route(), response.status());
    }
    people.server.stop().await;
}
