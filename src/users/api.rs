//! `/users`: who people are, finding them, and the address book.

use std::sync::Arc;

use poem_openapi::param::{Path, Query};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi, Tags};
use serde::{Deserialize, Serialize};

use super::{Found, User, Users};
use crate::auth::Caller;
use crate::clock::Timestamp;
use crate::id::UserId;
use crate::page::{Cursor, Page};
use crate::rest::{ApiResult, Json, Whole, page};

#[derive(Tags)]
enum Tag {
    /// People: finding them and seeing them.
    Users,
}

/// The calls about people.
pub struct UsersApi {
    /// The service.
    pub users: Arc<Users>,
}

/// A page of people.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct UserPage {
    /// The page.
    pub users: Vec<User>,
    /// How many were found so far.
    pub total: usize,
    /// The page's size, as taken.
    pub limit: usize,
    /// How many were skipped.
    pub offset: usize,
    /// To be sent as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
}

impl Example for UserPage {
    fn example() -> Self {
        Self { users: vec![User { phone_number: None, ..User::example() }], total: 1, limit: 50, offset: 0, next_cursor: None }
    }
}

impl UserPage {
    fn of(found: Found, page: &Page) -> Json<Self> {
        let next_cursor = found.next.map(Cursor::into_text);
        Json(Self { users: found.users, total: found.total, limit: page.limit, offset: page.offset, next_cursor })
    }
}

/// Whether somebody is online.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct UserStatus {
    /// Who.
    pub user_id: UserId,
    /// Has a live socket, and shows it.
    pub is_online: bool,
    /// When his last socket closed, if he shows it.
    pub last_seen: Option<Timestamp>,
}

impl Example for UserStatus {
    fn example() -> Self {
        let user = User::example();
        Self { user_id: user.id, is_online: false, last_seen: user.last_seen }
    }
}

/// Numbers of an address book.
#[derive(Debug, Deserialize, Object)]
#[oai(example)]
pub struct LookupContacts {
    /// Up to 500, in any form that one may register with; what is no number is not found.
    pub phone_numbers: Vec<String>,
}

impl Example for LookupContacts {
    fn example() -> Self {
        Self { phone_numbers: vec!["+1 202-555-0123".into(), "+12025550199".into()] }
    }
}

/// A number that has an account.
#[derive(Debug, Serialize, Deserialize, Object)]
pub struct Contact {
    /// The number as it was sent.
    pub phone_number: String,
    /// Whose it is.
    pub user: User,
}

/// Those of one's contacts who are here.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct Contacts {
    /// In the order of the numbers.
    pub users: Vec<Contact>,
}

impl Example for Contacts {
    fn example() -> Self {
        let user = User { phone_number: None, ..User::example() };
        Self { users: vec![Contact { phone_number: "+1 202-555-0123".into(), user }] }
    }
}

/// Ids of people.
#[derive(Debug, Deserialize, Object)]
#[oai(example)]
pub struct FetchUsers {
    /// Up to 100.
    pub user_ids: Vec<UserId>,
}

impl Example for FetchUsers {
    fn example() -> Self {
        Self { user_ids: vec![User::example().id] }
    }
}

/// People.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct UserBatch {
    /// In the order of the ids; unknown ones are left out.
    pub users: Vec<User>,
}

impl Example for UserBatch {
    fn example() -> Self {
        Self { users: vec![User { phone_number: None, ..User::example() }] }
    }
}

#[OpenApi(tag = "Tag::Users")]
impl UsersApi {
    /// Search people
    ///
    /// By name: each word of two letters or more must begin a word of the name, whatever case and accents.
    /// By phone: the whole number. A query without a usable word finds nobody. People who have blocked the caller
    /// are not found. 30 searches a minute.
    #[oai(path = "/users/search", method = "get", operation_id = "search_users")]
    async fn search_users(
        &self,
        caller: Caller,
        /// Words, or a whole phone number.
        q: Query<Option<String>>,
        /// How many, 1 to 100; 50 when absent.
        limit: Query<Option<Whole>>,
        /// How many to skip, up to 1,000.
        offset: Query<Option<Whole>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> ApiResult<UserPage> {
        let page = page(limit.0, offset.0, cursor.0);
        let found = self.users.search(caller.user_id, q.0.as_deref().unwrap_or_default(), &page).await?;
        Ok(UserPage::of(found, &page))
    }

    /// List people to write to
    ///
    /// People who share a conversation with the caller first, by name. Where the server's directory is open, every
    /// verified person follows, without phone number.
    #[oai(path = "/users", method = "get", operation_id = "list_users")]
    async fn list_users(
        &self,
        caller: Caller,
        /// How many, 1 to 100; 50 when absent.
        limit: Query<Option<Whole>>,
        /// How many to skip, up to 1,000.
        offset: Query<Option<Whole>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> ApiResult<UserPage> {
        let page = page(limit.0, offset.0, cursor.0);
        let found = self.users.list(caller.user_id, &page).await?;
        Ok(UserPage::of(found, &page))
    }

    /// See oneself
    ///
    /// The caller's own account, with everything in it.
    #[oai(path = "/users/me", method = "get", operation_id = "get_own_user")]
    async fn get_own_user(&self, caller: Caller) -> ApiResult<User> {
        Ok(Json(self.users.user(caller.user_id, caller.user_id).await?))
    }

    /// Look up contacts
    ///
    /// Which of these phone numbers have an account. 500 numbers a call, 2,000 a day.
    #[oai(path = "/users/lookup", method = "post", operation_id = "lookup_users")]
    async fn lookup_users(&self, caller: Caller, body: Json<LookupContacts>) -> ApiResult<Contacts> {
        let found = self.users.lookup(caller.user_id, body.0.phone_numbers).await?;
        let users = found.into_iter().map(|(phone_number, user)| Contact { phone_number, user }).collect();
        Ok(Json(Contacts { users }))
    }

    /// Fetch several people
    ///
    /// By id, at most 100; unknown ids are left out.
    #[oai(path = "/users/batch", method = "post", operation_id = "fetch_users")]
    async fn fetch_users(&self, caller: Caller, body: Json<FetchUsers>) -> ApiResult<UserBatch> {
        Ok(Json(UserBatch { users: self.users.batch(caller.user_id, &body.0.user_ids).await? }))
    }

    /// See a person
    ///
    /// As far as the person's privacy settings and blocks allow: what is hidden is null or false.
    #[oai(path = "/users/:user_id", method = "get", operation_id = "get_user")]
    async fn get_user(
        &self,
        caller: Caller,
        /// Whom.
        user_id: Path<UserId>,
    ) -> ApiResult<User> {
        Ok(Json(self.users.user(caller.user_id, user_id.0).await?))
    }

    /// See whether a person is online
    ///
    /// Who hides it, and anybody with a block between, shows as offline and never seen.
    #[oai(path = "/users/:user_id/status", method = "get", operation_id = "get_user_status")]
    async fn get_user_status(
        &self,
        caller: Caller,
        /// Whose.
        user_id: Path<UserId>,
    ) -> ApiResult<UserStatus> {
        let user = self.users.user(caller.user_id, user_id.0).await?;
        Ok(Json(UserStatus { user_id: user.id, is_online: user.is_online, last_seen: user.last_seen }))
    }
}
