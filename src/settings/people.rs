//! Blocking people who exist, and showing who is blocked. Who people are is answered by `users`,
//! which stands below this module and so comes in through the trait [`People`].

use std::sync::Arc;

use async_trait::async_trait;
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::error::{Error, Result};
use crate::id::UserId;

/// A person in the list of those whom one has blocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Object)]
pub struct Person {
    /// Who.
    pub id: UserId,
    /// What others call him.
    pub display_name: Option<String>,
    /// His number, for those who share a conversation with him.
    pub phone_number: Option<String>,
    /// His picture, if he shows it.
    pub avatar_url: Option<String>,
}

impl Example for Person {
    fn example() -> Self {
        Self {
            id: UserId(uuid::Uuid::from_u128(0x0197_5a3c_77d2_7f00_8e11_3f5b_2c9d_4e10)),
            display_name: Some("Grace Hopper".into()),
            phone_number: None,
            avatar_url: None,
        }
    }
}

/// Who people are, as far as blocks need it.
#[async_trait]
pub trait People: Send + Sync + 'static {
    /// Whether there is such an account.
    async fn exists(&self, user: UserId) -> Result<bool>;

    /// Those of `users` that exist, in their order, as `caller` may see them.
    async fn people(&self, caller: UserId, users: &[UserId]) -> Result<Vec<Person>>;
}

/// A block as one of the two sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct BlockCheck {
    /// The caller has blocked the other.
    pub i_blocked_them: bool,
    /// The other has blocked the caller.
    pub they_blocked_me: bool,
    /// Either.
    pub is_blocked: bool,
}

impl Example for BlockCheck {
    fn example() -> Self {
        Self { i_blocked_them: true, they_blocked_me: false, is_blocked: true }
    }
}

/// Blocks, of people who exist.
pub struct Blocks {
    settings: Arc<Settings>,
    people: Arc<dyn People>,
}

impl Blocks {
    /// The use cases on these services.
    pub fn new(settings: Arc<Settings>, people: Arc<dyn People>) -> Self {
        Self { settings, people }
    }

    /// Blocks; again is the same.
    ///
    /// # Errors
    /// `BadRequest`: oneself, or too many. `NotFound`: nobody.
    pub async fn block(&self, caller: UserId, other: UserId) -> Result<()> {
        if caller != other {
            self.must_exist(other).await?;
        }
        self.settings.block(caller, other).await
    }

    /// Ends a block.
    ///
    /// # Errors
    /// `NotFound`: there is none.
    pub async fn unblock(&self, caller: UserId, other: UserId) -> Result<()> {
        self.settings.unblock(caller, other).await
    }

    /// Whom the caller has blocked, the latest first.
    pub async fn blocked(&self, caller: UserId) -> Result<Vec<Person>> {
        let relations = self.settings.relations(caller).await?;
        let mut blocked: Vec<_> = relations.blocked.iter().map(|(user, at)| (*at, *user)).collect();
        blocked.sort_unstable_by(|a, b| b.cmp(a));
        let ids: Vec<_> = blocked.into_iter().map(|(_, user)| user).collect();
        self.people.people(caller, &ids).await
    }

    /// Who of the two has blocked the other.
    ///
    /// # Errors
    /// `NotFound`: nobody.
    pub async fn check(&self, caller: UserId, other: UserId) -> Result<BlockCheck> {
        self.must_exist(other).await?;
        let relations = self.settings.relations(caller).await?;
        let i_blocked_them = relations.blocked.contains_key(&other);
        let they_blocked_me = relations.blocked_by.contains_key(&other);
        Ok(BlockCheck { i_blocked_them, they_blocked_me, is_blocked: i_blocked_them || they_blocked_me })
    }

    async fn must_exist(&self, user: UserId) -> Result<()> {
        if self.people.exists(user).await? { Ok(()) } else { Err(Error::not_found("there is no such user")) }
    }
}
