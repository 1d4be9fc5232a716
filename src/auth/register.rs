//! Making an account, and proving that a number is one's own.

use super::account::blank;
use super::code::{CodeRecord, CodeState, Purpose};
use super::{Auth, Client, Login, Register, SendCode, Verified, VerifyPhone, password};
use crate::error::{Error, Result};
use crate::phone::Phone;
use crate::users::{NewUser, Registered, UserRecord, clean_email, clean_name};

use super::session::Identity;

/// The states in which a code still proves a number to somebody who registers or logs in.
pub(super) const USABLE: [CodeState; 2] = [CodeState::Fresh, CodeState::Verified];

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
        let password = command.password.filter(|password| !password.is_empty());
        password.iter().try_for_each(|given| password::validate("password", given))?;
        let mut new = NewUser {
            phone: phone.clone(),
            display_name: clean_name(command.display_name)?,
            email: clean_email(command.email)?,
            password_hash: None,
            is_verified: false,
        };
        let existing = self.users.by_phone(&phone).await?;
        if existing.as_ref().is_some_and(|record| record.is_verified) {
            return Err(taken());
        }
        let proof = self.proof(&phone, command.registration_token.as_deref(), command.verification_code.as_deref()).await?;
        new.is_verified = !matches!(proof, Proof::No);
        if existing.as_ref().is_some_and(|record| !may_register_again(record, new.is_verified)) {
            return Err(taken());
        }
        if let Some(password) = password {
            new.password_hash = Some(self.passwords.hash(&password).await?);
        }
        if let Proof::ByCode(code) = proof
            && !self.codes.advance(&phone, Purpose::Phone, &code, &USABLE, CodeState::Spent).await?
        {
            return Err(wrong_code());
        }
        let record = match existing {
            Some(record) => self.register_again(record, new, caller).await?,
            None => match self.users.register(new.clone()).await? {
                Registered::New(record) => record,
                Registered::Taken(record) => self.register_again(record, new, caller).await?,
            },
        };
        self.log_in(record, client).await
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
    pub async fn send_code(&self, command: &SendCode, client: &Client) -> Result<()> {
        let phone = self.phone(&command.phone_number)?;
        let claimed = self.codes.claim(&phone, client.address).await?;
        self.codes.send(&phone, Purpose::Phone, claimed).await
    }

    /// Proves a number with the code that was sent to it: logs its account in, or gives the token to register with.
    ///
    /// # Errors
    /// `BadRequest`: wrong code. `RateLimited`: too many of them. `TotpRequired`: right, and the second factor is next.
    pub async fn verify_phone(&self, command: VerifyPhone, caller: Option<&Identity>, client: &Client) -> Result<Verified> {
        let phone = self.phone(&command.phone_number)?;
        let existing = self.users.by_phone(&phone).await?;
        if let Some(record) = &existing
            && self.redeem_ticket_of(record, &command.code).await?
        {
            let record = self.prove(record.clone(), caller).await?;
            return self.log_in(record, client).await.map(|login| Verified::Account(Box::new(login)));
        }
        let code = self.codes.check(&phone, Purpose::Phone, &command.code).await?.ok_or_else(wrong_code)?;
        if !self.codes.advance(&phone, Purpose::Phone, &code, &[CodeState::Fresh], CodeState::Verified).await? {
            return Err(wrong_code());
        }
        let Some(record) = existing else {
            return self.signer.registration(&phone, self.clock.now()).map(Verified::Number);
        };
        let record = self.prove(record, caller).await?;
        self.require_second_factor(&record, None).await?;
        self.log_in(record, client).await.map(|login| Verified::Account(Box::new(login)))
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
