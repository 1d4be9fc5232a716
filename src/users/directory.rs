//! Lists of people: those who share a conversation, the directory, contacts looked up by number, batches by id.

use std::collections::{BTreeSet, HashSet};

use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{LOOKUP_NUMBERS_A_DAY, MAX_BATCH_IDS, MAX_LOOKUP_NUMBERS, SHARDS, User, UserRecord, Users};
use crate::config::Directory;
use crate::error::{Error, Result};
use crate::id::{ConversationId, UserId};
use crate::log::{ConversationKind, MemberState, Membership};
use crate::page::{Cursor, MAX_FOUND, Page};
use crate::phone::Phone;
use crate::text;

/// Most people who are listed as sharing a conversation.
const MAX_CONTACTS: usize = 1_000;
/// Ids of the directory read at once.
const CHUNK: usize = 100;
/// Ids of the directory read for one page; then the cursor goes on.
const MAX_READ: usize = 2_000;
/// Partitions read side by side for one request.
const SIDE_BY_SIDE: usize = 8;
/// Characters of a folded name that the list goes by; a cursor carries them, and must stay short.
const SORTED_CHARS: usize = 32;
/// What cursors of the directory are tagged with.
const CURSOR: &str = "users";
const DAY_MS: i64 = 86_400_000;

/// A page of people as the caller may see them.
#[derive(Clone, Debug)]
pub struct Found {
    /// The page.
    pub users: Vec<User>,
    /// How many were found so far.
    pub total: usize,
    /// Where to go on, if there may be more.
    pub next: Option<Cursor>,
}

/// A place in `GET /users`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listing {
    /// After this beginning of a folded name, and id, among people who share a conversation.
    Contacts(String, UserId),
    /// After this id in the directory, or at its beginning.
    Directory(Option<UserId>),
}

/// How many come before a page.
#[derive(Clone, Copy, Debug)]
pub(super) enum Before {
    /// So many are to be skipped, if there are as many.
    Skipped(usize),
    /// So many were found by the pages before.
    Found(usize),
}

/// Where the page begins: the place that its cursor names, and how many come before it.
pub(super) fn begin<P: DeserializeOwned>(page: &Page, kind: &str) -> Result<(Option<P>, Before)> {
    Ok(match page.after::<(P, usize)>(kind)? {
        Some((_, found)) if found > MAX_FOUND => return Err(Cursor::foreign()),
        Some((place, found)) => (Some(place), Before::Found(found)),
        None => (None, Before::Skipped(page.offset)),
    })
}

impl Users {
    /// People to write to: those who share a conversation by name, then, in an open directory, every verified person.
    ///
    /// # Errors
    /// `Invalid`: the cursor is none of this list.
    pub async fn list(&self, caller: UserId, page: &Page) -> Result<Found> {
        let (place, before) = begin::<Listing>(page, CURSOR)?;
        let mut skip = if place.is_some() { 0 } else { page.offset };
        let contacts = self.contacts(caller).await?;
        let mut found = Vec::new();
        let after = match place {
            Some(Listing::Directory(after)) => after,
            from => {
                let records = self.contact_records(caller, &contacts, from).await?;
                for (name, record) in records {
                    if skip > 0 {
                        skip -= 1;
                    } else if found.len() < page.limit {
                        found.push((name, record));
                    } else {
                        let next = found.last().map(|(name, record)| (CURSOR, Listing::Contacts(name.clone(), record.id)));
                        return self.found(caller, found.into_iter().map(|(_, record)| record).collect(), before, next).await;
                    }
                }
                None
            }
        };
        let mut records: Vec<_> = found.into_iter().map(|(_, record)| record).collect();
        let mut next = None;
        if self.policy.directory == Directory::Open {
            let limit = page.limit - records.len();
            let (strangers, last) = self.strangers(caller, &contacts, after, skip, limit).await?;
            records.extend(strangers);
            next = last.map(|place| (CURSOR, Listing::Directory(place)));
        }
        self.found(caller, records, before, next).await
    }

    /// Contacts in the order of the list, after `from`; who has blocked the caller is not among them.
    async fn contact_records(
        &self,
        caller: UserId,
        contacts: &BTreeSet<UserId>,
        from: Option<Listing>,
    ) -> Result<Vec<(String, UserRecord)>> {
        let relations = self.settings.relations(caller).await?;
        let ids: Vec<_> = contacts.iter().copied().filter(|id| !relations.blocked_by.contains_key(id)).collect();
        let named = |record: UserRecord| (sorted_by(record.display_name.as_deref().unwrap_or_default()), record);
        let mut records: Vec<_> = self.records(&ids).await?.into_iter().map(named).collect();
        records.sort_unstable_by(|(a_name, a), (b_name, b)| (a_name, a.id).cmp(&(b_name, b.id)));
        if let Some(Listing::Contacts(name, id)) = from {
            records.retain(|(found, record)| (found, record.id) > (&name, id));
        }
        Ok(records)
    }

    /// Verified people who are no contacts, by id; and after whom to go on, if there may be more.
    async fn strangers(
        &self,
        caller: UserId,
        contacts: &BTreeSet<UserId>,
        mut after: Option<UserId>,
        mut skip: usize,
        limit: usize,
    ) -> Result<(Vec<UserRecord>, Option<Option<UserId>>)> {
        let mut found: Vec<UserRecord> = Vec::new();
        let mut read = 0;
        loop {
            let shards = (0..SHARDS).map(|shard| self.store.listed_users(shard, after, CHUNK));
            let mut ids: Vec<_> = try_join_all(shards).await?.into_iter().flatten().collect();
            ids.sort_unstable();
            ids.truncate(CHUNK);
            let is_last = ids.len() < CHUNK;
            read += ids.len();
            let last_id = ids.last().copied();
            ids.retain(|id| !contacts.contains(id));
            let mut records = self.findable(caller, self.records(&ids).await?).await?;
            records.retain(|record| record.is_verified);
            for record in records {
                if skip > 0 {
                    skip -= 1;
                } else if found.len() < limit {
                    found.push(record);
                } else {
                    let place = found.last().map_or(after, |last| Some(last.id));
                    return Ok((found, Some(place)));
                }
            }
            if is_last {
                return Ok((found, None));
            }
            after = last_id;
            if read >= MAX_READ {
                return Ok((found, Some(after)));
            }
        }
    }

    /// A page after `before` others; `next`: where the list of this kind goes on.
    pub(super) async fn found<P: Serialize>(
        &self,
        caller: UserId,
        records: Vec<UserRecord>,
        before: Before,
        next: Option<(&str, P)>,
    ) -> Result<Found> {
        let users = self.views(caller, records).await?;
        let total = match before {
            Before::Skipped(_) if users.is_empty() => 0,
            Before::Skipped(count) | Before::Found(count) => count + users.len(),
        };
        let next = next.map(|(kind, place)| Cursor::new(kind, &(place, total)));
        Ok(Found { users, total, next })
    }

    /// Which of these numbers have an account: the number as it was sent, and the person.
    ///
    /// # Errors
    /// `Invalid`: too many at once. `RateLimited`: too many today.
    pub async fn lookup(&self, caller: UserId, numbers: Vec<String>) -> Result<Vec<(String, User)>> {
        if numbers.len() > MAX_LOOKUP_NUMBERS {
            return Err(Error::invalid("phone_numbers", format!("phone_numbers can be {MAX_LOOKUP_NUMBERS} long")));
        }
        self.spend_lookups(caller, numbers.len()).await?;
        let country = self.policy.default_country;
        let mut seen = HashSet::new();
        let read = numbers.into_iter().filter_map(|number| Phone::read(&number, country).map(|phone| (number, phone)));
        let phones: Vec<_> = read.filter(|(number, _)| seen.insert(number.clone())).collect();
        let owners: Vec<_> = futures_util::stream::iter(phones)
            .map(|(number, phone)| async move {
                let owner = self.store.phone_owner(phone.as_str()).await?;
                Ok::<_, Error>(owner.map(|owner| (number, owner)))
            })
            .buffered(SIDE_BY_SIDE)
            .try_filter_map(async |found| Ok(found))
            .try_collect()
            .await?;
        let ids: Vec<_> = owners.iter().map(|(_, owner)| *owner).collect::<BTreeSet<_>>().into_iter().collect();
        let records = self.findable(caller, self.records(&ids).await?).await?;
        let users = self.views(caller, records).await?;
        let find = |owner| users.iter().find(|user| user.id == owner).cloned();
        Ok(owners.into_iter().filter_map(|(number, owner)| find(owner).map(|user| (number, user))).collect())
    }

    async fn spend_lookups(&self, caller: UserId, count: usize) -> Result<()> {
        if !self.policy.rate_limit || count == 0 {
            return Ok(());
        }
        let now = self.clock.now().0;
        let day = now.div_euclid(DAY_MS);
        if self.store.spend_lookups(caller, day, count as i64, LOOKUP_NUMBERS_A_DAY).await? {
            return Ok(());
        }
        let wait = std::time::Duration::from_millis(((day + 1) * DAY_MS - now) as u64);
        Err(Error::rate_limited(format!("you can look up {LOOKUP_NUMBERS_A_DAY} numbers a day"), wait))
    }

    /// People by id, in the order asked for, unknown ids left out.
    ///
    /// # Errors
    /// `Invalid`: too many at once.
    pub async fn batch(&self, caller: UserId, ids: &[UserId]) -> Result<Vec<User>> {
        if ids.len() > MAX_BATCH_IDS {
            return Err(Error::invalid("user_ids", format!("user_ids can be {MAX_BATCH_IDS} long")));
        }
        self.views(caller, self.records(ids).await?).await
    }

    /// Those of `others` who share a conversation with the caller: a DIRECT one, or a group that both are members of.
    pub async fn sharing(&self, caller: UserId, others: &[UserId]) -> Result<HashSet<UserId>> {
        let others: Vec<_> = others.iter().copied().filter(|other| *other != caller).collect();
        if others.is_empty() {
            return Ok(HashSet::new());
        }
        if let [other] = others[..]
            && self.log.membership(caller, ConversationId::direct(caller, other)).await?.is_some_and(|found| is_active(&found))
        {
            return Ok(HashSet::from([other]));
        }
        let mine = self.log.memberships(caller).await?;
        let active = || mine.iter().filter(|membership| is_active(membership));
        let peers: HashSet<_> = active().filter_map(|membership| membership.peer_id).collect();
        let groups: HashSet<_> = active().filter(|membership| is_group(membership)).map(|group| group.conversation_id).collect();
        let (mut sharing, rest): (HashSet<_>, Vec<_>) = (
            others.iter().copied().filter(|other| peers.contains(other)).collect(),
            others.iter().copied().filter(|other| !peers.contains(other)).collect(),
        );
        if groups.is_empty() {
            return Ok(sharing);
        }
        let groups = &groups;
        let in_groups: Vec<_> = futures_util::stream::iter(rest)
            .map(|other| async move {
                let theirs = self.log.memberships(other).await?;
                let shares = theirs.iter().any(|membership| is_active(membership) && groups.contains(&membership.conversation_id));
                Ok::<_, Error>(shares.then_some(other))
            })
            .buffer_unordered(SIDE_BY_SIDE)
            .try_filter_map(async |found| Ok(found))
            .try_collect()
            .await?;
        sharing.extend(in_groups);
        Ok(sharing)
    }

    /// People who share a conversation with the caller; at most 1,000, those of DIRECT conversations first,
    /// then the members of groups, the latest active first.
    pub async fn contacts(&self, caller: UserId) -> Result<BTreeSet<UserId>> {
        let mut mine = self.log.memberships(caller).await?;
        mine.retain(is_active);
        mine.sort_unstable_by_key(|membership| std::cmp::Reverse((membership.peer_id.is_some(), membership.head.at)));
        let mut contacts = BTreeSet::new();
        for membership in &mine {
            if contacts.len() >= MAX_CONTACTS {
                break;
            }
            if let Some(peer) = membership.peer_id {
                contacts.insert(peer);
            } else {
                let room = MAX_CONTACTS - contacts.len();
                let members = self.log.members(membership.conversation_id, None, room).await?;
                contacts.extend(members.iter().filter(|member| member.state == MemberState::Active).map(|member| member.user_id));
            }
        }
        contacts.remove(&caller);
        Ok(contacts)
    }
}

/// What a name is sorted by. The id decides between names that begin alike.
fn sorted_by(name: &str) -> String {
    text::fold(name).chars().take(SORTED_CHARS).collect()
}

fn is_active(membership: &Membership) -> bool {
    membership.state == MemberState::Active
}

fn is_group(membership: &Membership) -> bool {
    membership.kind == ConversationKind::Group
}
