//! The contract's calls that tests and load make often, by name.
//! Answers stay JSON (`serde_json::Value`): a test of the wire must see the wire, not a struct that forgives.

use std::fmt::Display;

use serde_json::{Value, json};

use super::{Rest, RestError};

/// Somebody logged in.
#[derive(Clone, Debug)]
pub struct Account {
    /// Who.
    pub user_id: String,
    /// The token of this login.
    pub access_token: String,
    /// What renews it.
    pub refresh_token: String,
    /// The whole answer of register, login or verify-phone.
    pub answer: Value,
}

impl Account {
    /// Reads the answer of register, login, verify-phone or refresh.
    pub fn from_answer(answer: Value) -> Result<Self, RestError> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let read = || Some((text(&answer["user"]["id"])?, text(&answer["access_token"])?, text(&answer["refresh_token"])?));
        match read() {
            Some((user_id, access_token, refresh_token)) => Ok(Self { user_id, access_token, refresh_token, answer }),
            None => Err(RestError::Body("the answer of a login lacks user.id, access_token or refresh_token".to_owned())),
        }
    }
}

/// A new message, as POST /messages and `message:sent` take it.
pub fn draft(conversation_id: impl Display, content: &str, client_message_id: Option<&str>) -> Value {
    let mut draft = json!({"conversation_id": conversation_id.to_string(), "content": content, "message_type": "TEXT"});
    if let Some(id) = client_message_id {
        draft["client_message_id"] = id.into();
    }
    draft
}

impl Rest {
    /// The same client, as this account.
    #[must_use]
    pub fn as_account(&self, account: &Account) -> Self {
        self.with_token(&account.access_token)
    }

    /// POST /auth/register without a password: no hashing, so the quick way to many users.
    pub async fn register(&self, phone_number: &str, display_name: &str) -> Result<Account, RestError> {
        let body = json!({"phone_number": phone_number, "display_name": display_name});
        Account::from_answer(self.post("/auth/register", &body).await?)
    }

    /// POST /auth/register with a password.
    pub async fn register_with_password(&self, phone_number: &str, display_name: &str, password: &str) -> Result<Account, RestError> {
        let body = json!({"phone_number": phone_number, "display_name": display_name, "password": password});
        Account::from_answer(self.post("/auth/register", &body).await?)
    }

    /// POST /auth/login with a password.
    pub async fn login(&self, phone_number: &str, password: &str) -> Result<Account, RestError> {
        let body = json!({"phone_number": phone_number, "password": password});
        Account::from_answer(self.post("/auth/login", &body).await?)
    }

    /// POST /auth/login with a one-time code.
    pub async fn login_with_code(&self, phone_number: &str, code: &str) -> Result<Account, RestError> {
        let body = json!({"phone_number": phone_number, "verification_code": code});
        Account::from_answer(self.post("/auth/login", &body).await?)
    }

    /// POST /auth/refresh.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Account, RestError> {
        Account::from_answer(self.post("/auth/refresh", &json!({"refresh_token": refresh_token})).await?)
    }

    /// POST /auth/logout of this token's session.
    pub async fn logout(&self) -> Result<Value, RestError> {
        self.post_empty("/auth/logout").await
    }

    /// GET /auth/me.
    pub async fn me(&self) -> Result<Value, RestError> {
        self.get("/auth/me").await
    }

    /// POST /auth/socket-ticket: the ticket itself.
    pub async fn socket_ticket(&self) -> Result<String, RestError> {
        let answer = self.post_empty("/auth/socket-ticket").await?;
        answer["ticket"].as_str().map(str::to_owned).ok_or_else(|| RestError::Body("the answer lacks ticket".to_owned()))
    }

    /// POST /conversations of type DIRECT.
    pub async fn create_direct(&self, peer_id: &str) -> Result<Value, RestError> {
        self.post("/conversations", &json!({"type": "DIRECT", "participant_ids": [peer_id]})).await
    }

    /// POST /conversations of type GROUP.
    pub async fn create_group(&self, name: &str, member_ids: &[&str]) -> Result<Value, RestError> {
        self.post("/conversations", &json!({"type": "GROUP", "name": name, "participant_ids": member_ids})).await
    }

    /// GET /conversations, the first page.
    pub async fn conversations(&self) -> Result<Value, RestError> {
        self.get("/conversations").await
    }

    /// GET /conversations/{id}.
    pub async fn conversation(&self, conversation_id: &str) -> Result<Value, RestError> {
        self.get(&format!("/conversations/{conversation_id}")).await
    }

    /// POST /messages: a text.
    pub async fn send_text(&self, conversation_id: &str, content: &str, client_message_id: Option<&str>) -> Result<Value, RestError> {
        self.post("/messages", &draft(conversation_id, content, client_message_id)).await
    }

    /// GET /messages/{id}.
    pub async fn message(&self, message_id: &str) -> Result<Value, RestError> {
        self.get(&format!("/messages/{message_id}")).await
    }

    /// PUT /messages/{id}.
    pub async fn edit(&self, message_id: &str, content: &str) -> Result<Value, RestError> {
        self.put(&format!("/messages/{message_id}"), &json!({"content": content})).await
    }

    /// DELETE /messages/{id}, for everyone.
    pub async fn delete_message(&self, message_id: &str) -> Result<Value, RestError> {
        self.delete(&format!("/messages/{message_id}?scope=everyone")).await
    }

    /// GET /conversations/{id}/messages; `query` without the question mark, such as `limit=20&before_seq=7`.
    pub async fn history(&self, conversation_id: &str, query: &str) -> Result<Value, RestError> {
        self.get(&format!("/conversations/{conversation_id}/messages?{query}")).await
    }

    /// PUT /conversations/{id}/read.
    pub async fn read_conversation(&self, conversation_id: &str) -> Result<Value, RestError> {
        self.put_empty(&format!("/conversations/{conversation_id}/read")).await
    }

    /// POST /sync; `known` maps conversation ids to the highest row that the caller has.
    pub async fn sync(&self, known: &Value, limit: Option<u32>) -> Result<Value, RestError> {
        let mut body = json!({"known": known});
        if let Some(limit) = limit {
            body["limit"] = limit.into();
        }
        self.post("/sync", &body).await
    }

    /// POST /settings/privacy/block/{userId}.
    pub async fn block(&self, user_id: &str) -> Result<Value, RestError> {
        self.post_empty(&format!("/settings/privacy/block/{user_id}")).await
    }

    /// DELETE /settings/privacy/unblock/{userId}.
    pub async fn unblock(&self, user_id: &str) -> Result<Value, RestError> {
        self.delete(&format!("/settings/privacy/unblock/{user_id}")).await
    }
}
