//! Logging in: by password or by code, then the second factor. The app has no field for the second factor, so after
//! `totp_required` a *login ticket* is open for five minutes: the next verification code of that number is taken for it.

use std::time::Duration;

use super::code::{InUse, Purpose, Use};
use super::session::Identity;
use super::store::Spent;
use super::{Auth, Client, LogIn, Login, totp};
use crate::error::{Error, ErrorCode, Result};
use crate::phone::Phone;
use crate::users::UserRecord;

/// How long the code field means the second factor.
const TICKET_TTL: Duration = Duration::from_mins(5);
/// Second factors that may be tried on one ticket.
const TRIES_PER_TICKET: u32 = 5;
/// Wrong second factors of one person a day.
const TOTP_TRIES_PER_DAY: u32 = 15;
/// Wrong passwords of one number in [`PASSWORD_WINDOW`].
const PASSWORD_TRIES: u32 = 30;
const PASSWORD_WINDOW: Duration = Duration::from_mins(15);
const DAY: Duration = Duration::from_hours(24);

impl Auth {
    /// Logs in by password or by code.
    ///
    /// # Errors
    /// `Unauthenticated`: unknown number, wrong password or code, all in the same words and the same time.
    /// `TotpRequired`: right, and the second factor is asked for. `RateLimited`: too many wrong ones.
    pub async fn login(&self, command: LogIn, caller: Option<&Identity>, client: &Client) -> Result<Login> {
        let phone = self.phone(&command.phone_number)?;
        let code = command.verification_code.as_deref().filter(|code| !code.trim().is_empty());
        let totp = command.totp_code.as_deref().filter(|code| !code.trim().is_empty());
        match (code, command.password.as_deref().filter(|password| !password.is_empty())) {
            (Some(code), _) => {
                let existing = self.users.by_phone(&phone).await?;
                if let Some(record) = &existing
                    && self.ticket_redeemed(record, code).await?
                {
                    return self.log_in_by_ticket(record.clone(), client).await;
                }
                let checked = self.codes.check(&phone, Purpose::Phone, code).await?.ok_or_else(wrong)?;
                // A right code of a number without an account is not used up: he may still register with it.
                let record = existing.ok_or_else(wrong)?;
                let in_use = self.codes.begin(&phone, checked, Use::LogIn, wrong).await?;
                let record = self.prove(record, caller).await?;
                self.log_in_by_factors(record, totp, Some(&in_use), client).await
            }
            (None, Some(password)) => {
                let record = self.by_password(&phone, password).await?;
                self.log_in_by_factors(record, totp, None, client).await
            }
            (None, None) => Err(Error::invalid("password", "send the password, or the verification_code of an SMS")),
        }
    }

    /// Logs in whose first factor was right. The code has done its work also when the second one is still to come.
    pub(super) async fn log_in_by_factors(
        &self,
        record: UserRecord,
        totp: Option<&str>,
        code: Option<&InUse>,
        client: &Client,
    ) -> Result<Login> {
        match self.require_second_factor(&record, totp).await {
            Ok(()) => {}
            Err(error) => {
                if let (ErrorCode::TotpRequired, Some(code)) = (error.code, code) {
                    self.codes.finish(code).await?;
                }
                return Err(error);
            }
        }
        let id = record.id;
        let with_totp = record.totp_enabled();
        let login = self.log_in(record, code, client).await?;
        if with_totp {
            self.store.close_login_ticket(id).await?;
        }
        Ok(login)
    }

    /// Logs in who has redeemed a ticket. It closes last: a login that failed can be tried again with the next code.
    pub(super) async fn log_in_by_ticket(&self, record: UserRecord, client: &Client) -> Result<Login> {
        let id = record.id;
        let login = self.log_in(record, None, client).await?;
        self.store.close_login_ticket(id).await?;
        Ok(login)
    }

    async fn by_password(&self, phone: &Phone, password: &str) -> Result<UserRecord> {
        // First the place, then the try: who waits in line holds no try, so a busy moment locks nobody out.
        let place = self.passwords.enter().await?;
        let budget = format!("password:{}", phone.as_str());
        let now = self.clock.now();
        if self.settings.rate_limit
            && let Spent::Refused(until) = self.store.spend(&budget, PASSWORD_TRIES, PASSWORD_WINDOW, now).await?
        {
            return Err(Error::rate_limited("too many wrong passwords for this number, wait or log in with a code", until.since(now)));
        }
        let existing = self.users.by_phone(phone).await?;
        let hash = existing.as_ref().and_then(|record| record.password_hash.as_deref());
        if !place.verify(password, hash).await? {
            return Err(wrong());
        }
        if self.settings.rate_limit {
            self.store.return_unit(&budget, now).await?;
        }
        existing.ok_or_else(wrong)
    }

    /// Lets pass who has no second factor or gave the right one; else opens a ticket for it.
    pub(super) async fn require_second_factor(&self, record: &UserRecord, given: Option<&str>) -> Result<()> {
        if !record.totp_enabled() {
            return Ok(());
        }
        if let Some(given) = given
            && self.second_factor(record, given).await?
        {
            return Ok(());
        }
        self.store.open_login_ticket(record.id, self.clock.now().plus(TICKET_TTL)).await?;
        let words = if given.is_some() {
            "the authenticator code is wrong, enter the current one or a backup code"
        } else {
            "enter the 6-digit code of your authenticator app, or a backup code, in the code field"
        };
        Err(Error::new(ErrorCode::TotpRequired, words))
    }

    /// Whether a login ticket of this person is open and the code is his second factor.
    pub(super) async fn ticket_redeemed(&self, record: &UserRecord, code: &str) -> Result<bool> {
        if !record.totp_enabled() || !self.store.claim_login_ticket(record.id, TRIES_PER_TICKET, self.clock.now()).await? {
            return Ok(false);
        }
        self.second_factor(record, code).await
    }

    /// Whether this is the person's TOTP code or a backup code, used now for the first time.
    async fn second_factor(&self, record: &UserRecord, given: &str) -> Result<bool> {
        let now = self.clock.now();
        let budget = format!("totp:{}", record.id);
        if let Spent::Refused(until) = self.store.spend(&budget, TOTP_TRIES_PER_DAY, DAY, now).await? {
            return Err(Error::rate_limited("too many wrong authenticator codes today", until.since(now)));
        }
        let spend = |record: &mut UserRecord| {
            let spent = record.totp.as_mut().is_some_and(|totp| totp::spend(totp, given, &self.ring, now));
            if spent { Ok(()) } else { Err(wrong()) }
        };
        // The change is conditional on the record's version: of two who bring the same code, one has used it.
        match self.users.change(record.id, spend).await {
            Ok(_) => {
                self.store.return_unit(&budget, now).await?;
                Ok(true)
            }
            Err(error) if error.code == ErrorCode::Unauthenticated => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// One sentence for all that can be wrong: it says nothing about which numbers have accounts.
fn wrong() -> Error {
    Error::unauthenticated("the phone number, password or code is wrong")
}
