//! `/auth`: one file a group of calls, and what they share.

mod limits;
mod login;
mod register;
mod repeat;
mod second_factor;
mod secret;
mod send;
mod sessions;
mod takeover;
mod twilio;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{TestServer, failure, json as body};

/// Somebody who is logged in.
pub struct Person {
    pub user: Value,
    pub token: String,
    pub refresh: String,
}

impl Person {
    /// Of the answer to a login.
    pub fn of(login: &Value) -> Self {
        let text = |field: &str| login[field].as_str().unwrap().to_owned();
        Self { user: login["user"].clone(), token: text("access_token"), refresh: text("refresh_token") }
    }
}

/// What ends logins, of which other nodes hear a moment later.
const ENDS: [&str; 3] = ["POST /auth/logout", "DELETE /auth/sessions", "POST /auth/reset-password"];

/// Calls `route` (`POST /auth/login`); a null command is no body.
pub async fn call(server: &TestServer, route: &str, token: Option<&str>, command: &Value) -> Response {
    let (method, path) = route.split_once(' ').unwrap();
    let mut request = server.request(method.parse::<Method>().unwrap(), path);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if !command.is_null() {
        request = request.header("content-type", "application/json").body(command.to_string());
    }
    let response = request.send().await.unwrap();
    if ENDS.iter().any(|ends| route.starts_with(ends)) {
        server.settled().await;
    }
    response
}

/// The body of a success.
pub async fn ok(response: Response) -> Value {
    let status = response.status();
    let body = body(response).await;
    assert_eq!(status, 200, "{body}");
    body
}

/// The body of a failure.
pub async fn failed(response: Response, status: u16, code: &str) -> Value {
    failure(response, status, code).await
}

/// Registers somebody.
pub async fn sign_up(server: &TestServer, command: &Value) -> Person {
    Person::of(&ok(call(server, "POST /auth/register", None, command).await).await)
}

/// Asks for a code and receives it.
pub async fn code_for(server: &TestServer, phone: &str) -> String {
    ok(call(server, "POST /auth/send-code", None, &json!({"phone_number": phone})).await).await;
    server.sms.last(phone).unwrap()
}
