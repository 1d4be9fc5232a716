//! Twilio's Messages resource (`POST /2010-04-01/Accounts/{sid}/Messages.json`): one message a call, no retries of ours.
//! A repeated send would be a second SMS, so a timeout is an error that the person answers by asking again.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use serde::Deserialize;

use super::{Sms, SmsError};
use crate::phone::Phone;

/// A request's deadline is 3 s; the answer must be written within it.
const TIMEOUT: Duration = Duration::from_millis(2_500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Error codes that are about the number: <https://www.twilio.com/docs/api/errors>.
/// 21211 invalid, 21214 not reachable, 21217 not a number, 21408 region off, 21610 opted out, 21612 no route, 21614 not mobile.
const ABOUT_THE_NUMBER: [i64; 7] = [21_211, 21_214, 21_217, 21_408, 21_610, 21_612, 21_614];

/// The account that pays.
#[derive(Clone)]
pub struct TwilioAccount {
    /// `https://api.twilio.com`, without a slash at the end.
    pub base_url: String,
    /// Account SID: part of the path and the user name.
    pub sid: String,
    /// Auth token: the password.
    pub token: String,
    /// The sender's number.
    pub from: String,
}

/// The client.
pub struct Twilio {
    client: reqwest::Client,
    account: TwilioAccount,
    url: String,
    timeout: Duration,
}

/// The body of Twilio's refusals.
#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: i64,
}

impl Twilio {
    /// A client for this account.
    ///
    /// # Errors
    /// When the TLS roots of the machine cannot be read.
    pub fn new(account: TwilioAccount) -> Result<Self, SmsError> {
        Self::with_timeout(account, TIMEOUT)
    }

    /// A client that waits this long for an answer.
    ///
    /// # Errors
    /// As [`Twilio::new`].
    pub fn with_timeout(account: TwilioAccount, timeout: Duration) -> Result<Self, SmsError> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("urge/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| SmsError::Unavailable(error.to_string()))?;
        let url = format!("{}/2010-04-01/Accounts/{}/Messages.json", account.base_url.trim_end_matches('/'), account.sid);
        Ok(Self { client, account, url, timeout })
    }
}

#[async_trait]
impl Sms for Twilio {
    async fn send_code(&self, to: &Phone, code: &str) -> Result<(), SmsError> {
        let body = format!("{code} is your URGE code. It is good for 10 minutes. Tell it to nobody.");
        let form = [("To", to.as_str()), ("From", &self.account.from), ("Body", &body)];
        let request = self.client.post(&self.url).basic_auth(&self.account.sid, Some(&self.account.token)).form(&form);
        // `without_url`: errors are logged, and the address has the account in it.
        let unavailable = |error: reqwest::Error| SmsError::Unavailable(error.without_url().to_string());
        let response = request.timeout(self.timeout).send().await.map_err(unavailable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let body = response.bytes().await.unwrap_or_default();
        let code = serde_json::from_slice::<Refusal>(&body).map_or(0, |refusal| refusal.code);
        // Twilio's own words repeat the number, so only the code is kept.
        let reason = format!("status {}, code {code}", status.as_u16());
        if status == StatusCode::BAD_REQUEST && ABOUT_THE_NUMBER.contains(&code) {
            Err(SmsError::Refused(reason))
        } else {
            Err(SmsError::Unavailable(reason))
        }
    }
}
