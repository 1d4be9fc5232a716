//! Accounts: made, changed and read. The only writer of this feature's tables.
//! Search prefixes and the directory are written before the record that they belong to: they only propose,
//! and whoever reads them checks the record, so a crash in between leaves nothing wrong.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::card::Face;
use super::search::prefixes;
use super::store::{Claim, Inserted, Replaced, UserStore};
use super::{SEARCHES_A_MINUTE, Sight, UpdateProfile, User, UserRecord, profile};
use crate::clock::{SharedClock, Timestamp};
use crate::config::Directory;
use crate::error::{Error, Result};
use crate::event::Envelope;
use crate::id::UserId;
use crate::log::LogStore;
use crate::phone::{Country, Phone};
use crate::presence::Presence;
use crate::rate::Window;
use crate::settings::{People, Person, Settings};
use crate::store::Cached;

/// People whose card is kept in memory.
const KEPT: u64 = 100_000;
/// How old a kept card may be: it is how soon a change made on another node shows that the bus did not tell of.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// Changes of one account that lose against others before we say that the server is busy.
const ATTEMPTS: usize = 16;

/// What the settings of this server say about finding people.
#[derive(Clone, Copy, Debug)]
pub struct UsersPolicy {
    /// Whom `GET /users` lists.
    pub directory: Directory,
    /// Unverified accounts can do nothing, and so are not found.
    pub require_verified_phone: bool,
    /// Where numbers without a country code are read.
    pub default_country: Option<Country>,
    /// Whether limits per user hold.
    pub rate_limit: bool,
}

/// What a new account begins with.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The number.
    pub phone: Phone,
    /// What others shall call him; blank is none.
    pub display_name: Option<String>,
    /// His address; blank is none.
    pub email: Option<String>,
    /// Argon2id, PHC string.
    pub password_hash: Option<String>,
    /// A code has proven the number.
    pub is_verified: bool,
}

/// How a registration went.
#[derive(Clone, Debug)]
pub enum Registered {
    /// The account is new.
    New(UserRecord),
    /// The number has an account, this one; nothing was done.
    Taken(UserRecord),
}

/// People.
pub struct Users {
    pub(super) store: Arc<dyn UserStore>,
    pub(super) log: Arc<dyn LogStore>,
    pub(super) settings: Arc<Settings>,
    pub(super) presence: Arc<dyn Presence>,
    pub(super) clock: SharedClock,
    pub(super) policy: UsersPolicy,
    pub(super) faces: Cached<UserId, Arc<Face>>,
    pub(super) searches: Window<UserId>,
}

impl Users {
    /// The service on these stores.
    pub fn new(
        store: Arc<dyn UserStore>,
        log: Arc<dyn LogStore>,
        settings: Arc<Settings>,
        presence: Arc<dyn Presence>,
        clock: SharedClock,
        policy: UsersPolicy,
    ) -> Self {
        let searches = Window::new(policy.rate_limit, SEARCHES_A_MINUTE, Duration::from_mins(1));
        Self { store, log, settings, presence, clock, policy, faces: Cached::new(KEPT, KEPT_FOR), searches }
    }

    /// Makes an account for a number that has none.
    ///
    /// # Errors
    /// `Invalid`: name or e-mail.
    pub async fn register(&self, new: NewUser) -> Result<Registered> {
        let now = self.clock.now();
        let mut record = UserRecord::new(UserId::fresh(), new.phone.into_string(), now);
        record.display_name = profile::clean_name(new.display_name)?;
        record.email = profile::clean_email(new.email)?;
        record.password_hash = new.password_hash;
        record.is_verified = new.is_verified;
        if let Claim::Taken(owner) = self.store.claim_phone(&record.phone, record.id, now).await? {
            if let Some(existing) = self.store.user(owner).await? {
                return Ok(Registered::Taken(existing));
            }
            // A registration broke off after its claim: this one ends it.
            record.id = owner;
        }
        self.store.put_prefixes(record.id, &prefixes(record.display_name.as_deref()), record.version).await?;
        if record.is_verified {
            self.store.list_user(record.id).await?;
        }
        match self.store.insert_user(&record).await? {
            Inserted::Applied => Ok(Registered::New(record)),
            Inserted::Exists => Ok(Registered::Taken(self.record(record.id).await?)),
        }
    }

    /// The account.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn record(&self, id: UserId) -> Result<UserRecord> {
        self.find(id).await?.ok_or_else(unknown)
    }

    /// The account, if there is one.
    pub async fn find(&self, id: UserId) -> Result<Option<UserRecord>> {
        Ok(self.store.user(id).await?)
    }

    /// The account of a number, if it has one.
    pub async fn by_phone(&self, phone: &Phone) -> Result<Option<UserRecord>> {
        match self.store.phone_owner(phone.as_str()).await? {
            Some(owner) => self.find(owner).await,
            None => Ok(None),
        }
    }

    /// Changes an account and answers with what it became. `change` may run several times, each time on a fresher
    /// record; id, number, `last_seen` and version are not its business. A change that changes nothing writes nothing.
    ///
    /// # Errors
    /// `NotFound`, those of `change`, `Unavailable` when too many others change it at the same moment.
    pub async fn change<F>(&self, id: UserId, mut change: F) -> Result<UserRecord>
    where
        F: FnMut(&mut UserRecord) -> Result<()> + Send,
    {
        for _ in 0..ATTEMPTS {
            let before = self.record(id).await?;
            let mut after = before.clone();
            change(&mut after)?;
            (after.id, after.phone, after.last_seen) = (before.id, before.phone.clone(), before.last_seen);
            (after.version, after.updated_at) = (before.version, before.updated_at);
            if after == before {
                return Ok(before);
            }
            after.version += 1;
            after.updated_at = self.clock.now().max(before.updated_at);
            if self.replace(&before, &after).await? == Replaced::Applied {
                return Ok(after);
            }
        }
        Err(Error::unavailable("this account is being changed from many places at once, try again in a moment"))
    }

    async fn replace(&self, before: &UserRecord, after: &UserRecord) -> Result<Replaced> {
        let (old, new) = (prefixes(before.display_name.as_deref()), prefixes(after.display_name.as_deref()));
        if old != new {
            self.store.put_prefixes(after.id, &new, after.version).await?;
        }
        if after.is_verified && !before.is_verified {
            self.store.list_user(after.id).await?;
        }
        let replaced = self.store.replace_user(after).await;
        self.faces.changed(&after.id);
        let replaced = replaced?;
        if replaced == Replaced::Applied && !Face::is_same(before, after) {
            self.settings.tell_of_change(after.id).await;
        }
        if replaced == Replaced::Applied && old != new {
            let gone: Vec<_> = old.into_iter().filter(|prefix| !new.contains(prefix)).collect();
            // Left over ones are read and found wrong, no more: the change itself is done.
            if let Err(error) = self.store.remove_prefixes(after.id, &gone, after.version).await {
                tracing::warn!(%error, "old search prefixes could not be removed");
            }
        }
        Ok(replaced)
    }

    /// What a change that came over the bus means for this node: nothing that was read before it is believed.
    pub fn note(&self, envelope: &Envelope) {
        if let Envelope::Visibility { user_id, other: None } = envelope {
            self.faces.changed(user_id);
        }
    }

    /// Notes when the user's last socket closed.
    pub async fn mark_seen(&self, id: UserId, at: Timestamp) -> Result<()> {
        Ok(self.store.mark_seen(id, at).await?)
    }

    /// A person as the caller may see him.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn user(&self, caller: UserId, id: UserId) -> Result<User> {
        let record = self.record(id).await?;
        self.views(caller, vec![record]).await?.pop().ok_or_else(unknown)
    }

    /// One's own account as one sees it.
    pub async fn own_view(&self, record: UserRecord) -> Result<User> {
        let privacy = self.settings.privacy(record.id).await?;
        let online = self.presence.is_online(record.id);
        Ok(User::of(record, &privacy, Sight::OWN, online))
    }

    /// People as the caller may see them, in the order given.
    pub async fn views(&self, caller: UserId, records: Vec<UserRecord>) -> Result<Vec<User>> {
        let ids: Vec<_> = records.iter().map(|record| record.id).collect();
        let relations = self.settings.relations(caller).await?;
        let privacies = self.settings.privacies(&ids).await?;
        let shared = self.sharing(caller, &ids).await?;
        let view = |record: UserRecord| {
            let id = record.id;
            let sight = if id == caller {
                Sight::OWN
            } else {
                Sight {
                    own: false,
                    shares: shared.contains(&id),
                    shut_out: relations.blocked_by.contains_key(&id),
                    blocked: relations.is_blocked_either(id),
                }
            };
            User::of(record, &privacies.get(&id).copied().unwrap_or_default(), sight, self.presence.is_online(id))
        };
        Ok(records.into_iter().map(view).collect())
    }

    /// Saves what is given of a profile.
    ///
    /// # Errors
    /// `Invalid`: every wrong field.
    pub async fn update_profile(&self, id: UserId, update: UpdateProfile) -> Result<User> {
        let update = update.check()?;
        let record = self.change(id, |record| update.apply(record)).await?;
        self.own_view(record).await
    }
}

fn unknown() -> Error {
    Error::not_found("there is no such user")
}

#[async_trait]
impl People for Users {
    async fn exists(&self, user: UserId) -> Result<bool> {
        Ok(self.store.user(user).await?.is_some())
    }

    async fn people(&self, caller: UserId, users: &[UserId]) -> Result<Vec<Person>> {
        let records = self.records(users).await?;
        let person = |user: User| Person {
            id: user.id,
            display_name: user.display_name,
            phone_number: user.phone_number,
            avatar_url: user.avatar_url,
        };
        Ok(self.views(caller, records).await?.into_iter().map(person).collect())
    }
}
