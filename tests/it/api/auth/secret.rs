//! Replacing the secret: the new one signs, the previous one is still believed, and a third is not.

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use urge::config::secrecy::Hidden;

use super::{Person, call, code_for, failed, ok, sign_up};
use crate::support::TestServer;

const ADA: &str = "+12025550101";
const BOB: &str = "+12025550102";

/// A node in this folder with these secrets, as URGE_SECRET_KEY and URGE_SECRET_KEY_PREVIOUS set them.
async fn node(folder: &Arc<TempDir>, secret: &str, previous: Option<&str>) -> TestServer {
    let secrets = |config: &mut urge::config::Config| {
        config.secret_key = Some(Hidden::new(secret.repeat(32)));
        config.secret_key_previous = previous.map(|previous| Hidden::new(previous.repeat(32)));
    };
    TestServer::on(Arc::clone(folder), secrets, |backends| backends).await
}

async fn me(server: &TestServer, token: &str) -> reqwest::Response {
    call(server, "GET /auth/me", Some(token), &Value::Null).await
}

async fn refresh(server: &TestServer, token: &str) -> reqwest::Response {
    call(server, "POST /auth/refresh", None, &json!({"refresh_token": token})).await
}

#[tokio::test]
async fn a_secret_is_replaced_without_logging_anybody_out() {
    let folder = Arc::new(TempDir::new().unwrap());
    let server = node(&folder, "a", None).await;
    let ada = sign_up(&server, &json!({"phone_number": ADA})).await;
    let code = code_for(&server, ADA).await;
    let proof = code_for(&server, BOB).await;
    let proven = ok(call(&server, "POST /auth/verify-phone", None, &json!({"phone_number": BOB, "code": proof})).await).await;
    server.stop().await;

    // The new one signs; what the old one signed and hashed is still good.
    let server = node(&folder, "b", Some("a")).await;
    ok(me(&server, &ada.token).await).await;
    let fresh = ok(refresh(&server, &ada.refresh).await).await;
    let by_code = json!({"phone_number": ADA, "code": code});
    ok(call(&server, "POST /auth/verify-phone", Some(&ada.token), &by_code).await).await;
    let register = json!({"phone_number": BOB, "registration_token": proven["registration_token"]});
    let bob = Person::of(&ok(call(&server, "POST /auth/register", None, &register).await).await);
    server.stop().await;

    // Without the old one, its tokens are none; those that were renewed in time go on.
    let server = node(&folder, "b", None).await;
    failed(me(&server, &ada.token).await, 401, "unauthenticated").await;
    failed(refresh(&server, &ada.refresh).await, 401, "unauthenticated").await;
    ok(me(&server, fresh["access_token"].as_str().unwrap()).await).await;
    ok(refresh(&server, fresh["refresh_token"].as_str().unwrap()).await).await;
    ok(me(&server, &bob.token).await).await;
    server.stop().await;

    // Twice replaced is too far away.
    let server = node(&folder, "c", Some("a")).await;
    failed(me(&server, &bob.token).await, 401, "unauthenticated").await;
    ok(me(&server, &ada.token).await).await;
    server.stop().await;
}
