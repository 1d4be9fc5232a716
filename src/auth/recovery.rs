//! A new password for who forgot the old one: a code by SMS, perhaps a look whether it is right, then the change,
//! which ends every session. The second factor stays on.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::code::{Purpose, Use};
use super::register::wrong_code;
use super::{Auth, CheckResetCode, Client, ResetPassword, SendCode, password};
use crate::error::{Error, Result};

impl Auth {
    /// Sends a code to reset the password with, if the number has an account. The answer comes before the sending, so
    /// that neither its words nor its time tell whether there is one.
    ///
    /// # Errors
    /// `Invalid`, `RateLimited`: the same for numbers with and without an account.
    pub async fn forgot_password(self: &Arc<Self>, command: &SendCode, client: &Client) -> Result<()> {
        let phone = self.phone(&command.phone_number)?;
        let (auth, address) = (Arc::clone(self), client.address);
        let (answer, answered) = oneshot::channel();
        self.tasks.spawn(async move {
            let claimed = match auth.codes.claim(&phone, address).await {
                Ok(claimed) => claimed,
                Err(error) => return drop(answer.send(Err(error))),
            };
            let _ = answer.send(Ok(()));
            let sent = match auth.users.by_phone(&phone).await {
                Ok(Some(_)) => auth.codes.send(&phone, Purpose::Reset, claimed).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                tracing::warn!(code = error.code.name(), source = error.source.map(tracing::field::display), "a reset code was not sent");
            }
        });
        answered.await.map_err(Error::internal)?
    }

    /// Whether the code is right; it stays good. A wrong one counts as any other.
    ///
    /// # Errors
    /// `BadRequest`: it is not. `RateLimited`: too many wrong ones.
    pub async fn check_reset_code(&self, command: &CheckResetCode) -> Result<()> {
        let phone = self.phone(&command.phone_number)?;
        self.codes.check(&phone, Purpose::Reset, &command.code).await?.map(|_| ()).ok_or_else(wrong_code)
    }

    /// Sets a new password with the code, and ends every session.
    ///
    /// # Errors
    /// `Invalid`: the new password. `BadRequest`: wrong code. `RateLimited`: too many wrong ones.
    pub async fn reset_password(&self, command: ResetPassword) -> Result<()> {
        let phone = self.phone(&command.phone_number)?;
        password::validate("new_password", &command.new_password)?;
        let code = self.codes.check(&phone, Purpose::Reset, &command.code).await?.ok_or_else(wrong_code)?;
        let record = self.users.by_phone(&phone).await?.ok_or_else(wrong_code)?;
        // The code's id as salt: the same password with the same code has the same hash, and so is the same use of it.
        let hash = self.passwords.hash_with_salt(&command.new_password, *code.id.as_bytes()).await?;
        let in_use = self.codes.begin(&phone, code, Use::Reset(&hash), wrong_code).await?;
        let record = self.prove(record, None).await?;
        let record = self
            .users
            .change(record.id, |record| {
                // One write: there is no moment at which the new password holds and an old session too.
                if record.password_hash.as_ref() != Some(&hash) {
                    record.login_epoch += 1;
                    record.password_hash = Some(hash.clone());
                }
                Ok(())
            })
            .await?;
        self.sessions_ended(&record).await;
        self.codes.finish(&in_use).await
    }
}
