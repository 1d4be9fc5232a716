//! Making an account, and proving that a number is one's own.

use std::sync::Arc;

use super::account::blank;
use super::code::{CodeRecord, CodeState, Purpose, Use};
use super::{Auth, Client, Login, Register, SendCode, Verified, VerifyPhone, password};
use crate::error::{Error, ErrorCode, Result};
use crate::phone::Phone;
use crate::users::{NewUser, Registered, UserRecord, clean_email, clean_name};

use super::session::Identity;

/// How the number of a registration was proven.
enum Proof {
    No,
    ByToken,
    ByCode(CodeRecord),
}

impl Auth {
    /// Makes an account and logs it in. A number whose account was neither verified nor given a password may be
    /// registered again, and so may one that was never verified when this request proves the number.
    ///
    /// # Errors
    /// `Invalid`: a field. `BadRequest`: the number is taken, or the code or registration token is wrong.
    pub async fn register(&self, command: Register, caller: Option<&Identity>, client: &Client) -> Result<Login> {
        let phone = self.phone(&command.phone_number)?;
        let password = command.password;
        password.iter().try_for_each(|given| password::validate("password", given))?;
        let mut new = NewUser {
            phone: phone.clone(),
            display_name: clean_name(command.display_name)?,
            email: clean_email(command.email)?,
            password_hash: None,
            is_verified: false,
        };
        let existing = self.users.by_phone(&phone).await?;
        if let Some(record) = existing.as_ref().filter(|record| record.is_verified) {
            return match command.verification_code.as_deref().filter(|code| !code.trim().is_empty()) {
                Some(code) => self.resume(record.clone(), &phone, code, client).await,
                None => Err(taken()),
            };
        }
        let proof = self.proof(&phone, command.registration_token.as_deref(), command.verification_code.as_deref()).await?;
        new.is_verified = !matches!(proof, Proof::No);
        if existing.as_ref().is_some_and(|record| !may_register_again(record, new.is_verified)) {
            return Err(taken());
        }
        if let Some(password) = password {
            new.password_hash = Some(self.passwords.hash(&password).await?);
        }
        let in_use = match proof {
            Proof::ByCode(code) => Some(self.codes.begin(&phone, code, Use::Register, wrong_code).await?),
            Proof::ByToken | Proof::No => None,
        };
        let record = match existing {
            Some(record) => self.register_again(record, new, caller).await?,
            None => match self.users.register(new.clone()).await? {
                Registered::New(record) => record,
                Registered::Taken(record) => self.register_again(record, new, caller).await?,
            },
        };
        self.log_in(record, in_use.as_ref(), client).await
    }

    /// Goes on with a registration that made the account and then broke off: its code is still in that use. Whoever
    /// brings it has the number, and so may log in.
    async fn resume(&self, record: UserRecord, phone: &Phone, code: &str, client: &Client) -> Result<Login> {
        let code = match self.codes.check(phone, Purpose::Phone, code).await {
            Ok(Some(code)) if code.state == CodeState::Claimed => code,
            Err(error) if error.code == ErrorCode::Unavailable => return Err(error),
            Ok(_) | Err(_) => return Err(taken()),
        };
        let in_use = self.codes.begin(phone, code, Use::Register, taken).await?;
        self.log_in_by_factors(record, None, Some(&in_use), client).await
    }

    /// Takes an unverified account over: nothing of what was there stays, but for its owner who proves his number.
    async fn register_again(&self, record: UserRecord, new: NewUser, caller: Option<&Identity>) -> Result<UserRecord> {
        let own = new.is_verified && caller.is_some_and(|caller| caller.user_id == record.id);
        let changed = self
            .users
            .change(record.id, |record| {
                if !may_register_again(record, new.is_verified) {
                    return Err(taken());
                }
                if !own {
                    *record = blank(record);
                }
                record.display_name = new.display_name.clone().or(record.display_name.take());
                record.email = new.email.clone().or(record.email.take());
                record.password_hash = new.password_hash.clone().or(record.password_hash.take());
                record.is_verified = new.is_verified;
                Ok(())
            })
            .await?;
        if own {
            self.sessions.forget(changed.id);
        } else {
            self.sessions_ended(&changed).await;
        }
        Ok(changed)
    }

    async fn proof(&self, phone: &Phone, token: Option<&str>, code: Option<&str>) -> Result<Proof> {
        let token = token.filter(|token| !token.is_empty());
        if token.is_some_and(|token| self.signer.proves(token, phone, self.clock.now())) {
            return Ok(Proof::ByToken);
        }
        match (code.filter(|code| !code.trim().is_empty()), token) {
            (Some(code), _) => self.codes.check(phone, Purpose::Phone, code).await?.map(Proof::ByCode).ok_or_else(wrong_code),
            (None, Some(_)) => Err(Error::bad_request("the registration token is not for this number or has expired, verify it again")),
            (None, None) => Ok(Proof::No),
        }
    }

    /// Sends a code to a number, whether it has an account or not.
    ///
    /// # Errors
    /// `Invalid`, `RateLimited`, `Forbidden` (country), `SmsUnavailable`.
    pub async fn send_code(self: &Arc<Self>, command: &SendCode, client: &Client) -> Result<()> {
        let phone = self.phone(&command.phone_number)?;
        let (auth, address) = (Arc::clone(self), client.address);
        // Whoever is asked to wait too long goes away; what was taken for him is given back all the same.
        let sending = self.tasks.spawn(async move {
            let claimed = auth.codes.claim(&phone, address).await?;
            auth.codes.send(&phone, Purpose::Phone, claimed).await
        });
        sending.await.map_err(Error::internal)?
    }

    /// Proves a number with the code that was sent to it: logs its account in, or gives the token to register with.
    ///
    /// # Errors
    /// `BadRequest`: wrong code. `RateLimited`: too many of them. `TotpRequired`: right, and the second factor is next.
    pub async fn verify_phone(&self, command: VerifyPhone, caller: Option<&Identity>, client: &Client) -> Result<Verified> {
        let phone = self.phone(&command.phone_number)?;
        let existing = self.users.by_phone(&phone).await?;
        // Only a number that a code has proven before: an authenticator proves no number.
        if let Some(record) = existing.as_ref().filter(|record| record.is_verified)
            && self.ticket_redeemed(record, &command.code).await?
        {
            return self.log_in_by_ticket(record.clone(), client).await.map(|login| Verified::Account(Box::new(login)));
        }
        let code = self.codes.check(&phone, Purpose::Phone, &command.code).await?.ok_or_else(wrong_code)?;
        let in_use = self.codes.begin(&phone, code, Use::Verify, wrong_code).await?;
        let Some(record) = existing else {
            self.codes.finish(&in_use).await?;
            return self.signer.registration(&phone, self.clock.now()).map(Verified::Number);
        };
        let record = self.prove(record, caller).await?;
        self.log_in_by_factors(record, None, Some(&in_use), client).await.map(|login| Verified::Account(Box::new(login)))
    }
}

fn may_register_again(record: &UserRecord, proven: bool) -> bool {
    !record.is_verified && (proven || record.password_hash.is_none())
}

fn taken() -> Error {
    Error::bad_request("this phone number is already registered, log in instead")
}

pub(super) fn wrong_code() -> Error {
    Error::bad_request("the code is wrong or has expired")
}
