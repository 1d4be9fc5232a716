//! `/auth`: the calls of the contract, a few lines each.

use std::sync::Arc;

use poem::Request;
use poem_openapi::param::Path;
use poem_openapi::{OpenApi, Tags};

use super::{
    AnyCaller, Auth, Bearer, Caller, CheckResetCode, Client, LogIn, LogOut, LoginAnswer, OptionalCaller, ProfileAnswer, Refresh,
    RefreshAnswer, Register, ResetPassword, SendCode, SessionList, SessionView, SocketTicket, VerifyAnswer, VerifyPhone,
};
use crate::id::SessionId;
use crate::rest::{ApiResult, ClientAddress, Json, JsonWithNulls, Success};
use crate::users::{UpdateProfile, User};

#[derive(Tags)]
enum Tag {
    /// Accounts and logins.
    Auth,
}

/// The calls about logins.
pub struct AuthApi {
    /// The service.
    pub auth: Arc<Auth>,
}

#[OpenApi(prefix_path = "/auth", tag = "Tag::Auth")]
impl AuthApi {
    /// Make an account
    ///
    /// Without a code the account is unverified: where verification is required it can do nothing but verify.
    /// A number whose account was neither verified nor given a password may be registered again; so may any unverified
    /// one by who proves the number. What was there before ends, sessions included. A taken number is 400.
    #[oai(path = "/register", method = "post", operation_id = "register_user")]
    async fn register_user(&self, request: &Request, caller: OptionalCaller, command: Json<Register>) -> ApiResult<LoginAnswer> {
        let login = self.auth.register(command.0, caller.0.as_ref(), &client(request)).await?;
        Ok(Json(login.into()))
    }

    /// Log in
    ///
    /// By password, or by a code from send-code; the code that just passed verify-phone is good for one login more.
    /// With two-factor login on, a right password or code without `totp_code` is 401 `totp_required`; for five minutes
    /// after it the next `verification_code` of that number is taken as the authenticator's or a backup code.
    /// Everything wrong is 401 in the same words.
    #[oai(path = "/login", method = "post", operation_id = "login_user")]
    async fn login_user(&self, request: &Request, caller: OptionalCaller, command: Json<LogIn>) -> ApiResult<LoginAnswer> {
        let login = self.auth.login(command.0, caller.0.as_ref(), &client(request)).await?;
        Ok(Json(login.into()))
    }

    /// Send a code by SMS
    ///
    /// Six digits, good for ten minutes, to register, verify or log in with. At most 1 a minute, 5 an hour and 10 a day
    /// a number (429 with `Retry-After`); provider away: 503 `sms_unavailable`, not counted.
    #[oai(path = "/send-code", method = "post", operation_id = "send_code")]
    async fn send_code(&self, request: &Request, command: Json<SendCode>) -> ApiResult<Success> {
        self.auth.send_code(&command.0, &client(request)).await?;
        Success::answer("the code is on its way")
    }

    /// Send a code by SMS (the app's name for it)
    ///
    /// The same as send-code.
    #[oai(path = "/send-verification", method = "post", operation_id = "send_verification")]
    async fn send_verification(&self, request: &Request, command: Json<SendCode>) -> ApiResult<Success> {
        self.send_code(request, command).await
    }

    /// Prove a number
    ///
    /// A known number: logs in, and the account is verified from now on. The first code on an unverified account ends its
    /// earlier sessions, password, second factor and profile, unless the request carries that account's own token.
    /// An unknown number: `registration_token`, to register with. A wrong code is 400, too many of them 429.
    #[oai(path = "/verify-phone", method = "post", operation_id = "verify_phone")]
    async fn verify_phone(&self, request: &Request, caller: OptionalCaller, command: Json<VerifyPhone>) -> ApiResult<VerifyAnswer> {
        let verified = self.auth.verify_phone(command.0, caller.0.as_ref(), &client(request)).await?;
        Ok(Json(verified.into()))
    }

    /// Ask for a code to reset the password with
    ///
    /// The same answer whether the number has an account or not.
    #[oai(path = "/forgot-password", method = "post", operation_id = "forgot_password")]
    async fn forgot_password(&self, request: &Request, command: Json<SendCode>) -> ApiResult<Success> {
        self.auth.forgot_password(&command.0, &client(request)).await?;
        Success::answer("if this number has an account, a code is on its way")
    }

    /// Look whether a reset code is right
    ///
    /// It is not used up; a wrong one counts as a try.
    #[oai(path = "/verify-reset-code", method = "post", operation_id = "verify_reset_code")]
    async fn verify_reset_code(&self, command: Json<CheckResetCode>) -> ApiResult<Success> {
        self.auth.check_reset_code(&command.0).await?;
        Success::answer("the code is right")
    }

    /// Set a new password
    ///
    /// Every session of the account ends. Two-factor login stays on.
    #[oai(path = "/reset-password", method = "post", operation_id = "reset_password")]
    async fn reset_password(&self, command: Json<ResetPassword>) -> ApiResult<Success> {
        self.auth.reset_password(command.0).await?;
        Success::answer("the password has been changed, log in with it")
    }

    /// Get fresh tokens
    ///
    /// A session lives 180 days after its last use. A refresh token that is older than one used before is a theft:
    /// its session ends (401). Older access tokens stay valid.
    #[oai(path = "/refresh", method = "post", operation_id = "refresh_tokens")]
    async fn refresh_tokens(&self, command: Json<Refresh>) -> ApiResult<RefreshAnswer> {
        Ok(Json(self.auth.refresh(&command.0.refresh_token).await?.into()))
    }

    /// Who one is
    ///
    /// Never rate-limited. While the store is away it answers from memory, or with what the token says (id, display_name).
    #[oai(path = "/me", method = "get", operation_id = "get_me")]
    async fn get_me(&self, token: Bearer) -> ApiResult<User> {
        Ok(Json(self.auth.me(&token.0).await?))
    }

    /// Change one's profile
    ///
    /// Absent keys stay, null clears, `social_links` merge key by key. A picture that is no http(s) address is left out
    /// while the rest is saved.
    #[oai(path = "/profile", method = "put", operation_id = "update_profile")]
    async fn update_profile(&self, caller: Caller, update: JsonWithNulls<UpdateProfile>) -> ApiResult<ProfileAnswer> {
        let user = self.auth.update_profile(&caller, update.0).await?;
        Ok(Json(ProfileAnswer { success: true, data: user.clone(), user }))
    }

    /// Log out
    ///
    /// This session's tokens stop working and its sockets close.
    #[oai(path = "/logout", method = "post", operation_id = "logout_user")]
    async fn logout_user(&self, caller: AnyCaller, command: Json<LogOut>) -> ApiResult<Success> {
        self.auth.logout(&caller, command.0.refresh_token.as_deref()).await?;
        Success::answer("logged out")
    }

    /// List one's sessions
    ///
    /// At most 50; one more ends the least used.
    #[oai(path = "/sessions", method = "get", operation_id = "list_sessions")]
    async fn list_sessions(&self, caller: Caller) -> ApiResult<SessionList> {
        let sessions = self.auth.list_sessions(&caller).await?;
        let sessions = sessions.into_iter().map(|session| SessionView::of(session, caller.session_id)).collect();
        Ok(Json(SessionList { sessions }))
    }

    /// End all other sessions
    ///
    /// Their sockets close.
    #[oai(path = "/sessions", method = "delete", operation_id = "end_other_sessions")]
    async fn end_other_sessions(&self, caller: Caller) -> ApiResult<Success> {
        self.auth.end_other_sessions(&caller).await?;
        Success::answer("all other sessions have ended")
    }

    /// End a session
    ///
    /// Its sockets close. Somebody else's, or none: 404.
    #[oai(path = "/sessions/:id", method = "delete", operation_id = "end_session")]
    async fn end_session(&self, caller: Caller, id: Path<SessionId>) -> ApiResult<Success> {
        self.auth.end_own_session(&caller, id.0).await?;
        Success::answer("the session has ended")
    }

    /// Get a ticket for a socket
    ///
    /// For browsers, which cannot send headers with a socket: `/ws?ticket=`. One use, 30 seconds.
    #[oai(path = "/socket-ticket", method = "post", operation_id = "create_socket_ticket")]
    async fn create_socket_ticket(&self, caller: Caller) -> ApiResult<SocketTicket> {
        Ok(Json(SocketTicket::new(self.auth.issue_ticket(&caller).await?)))
    }
}

/// Where the request comes from.
fn client(request: &Request) -> Client {
    let device = request.headers().get(poem::http::header::USER_AGENT).and_then(|value| value.to_str().ok());
    Client { address: request.data::<ClientAddress>().map(|address| address.0), device: device.unwrap_or_default().to_owned() }
}
