//! What messages and conversations show of people: a few words each, read so often that they are kept in memory.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Sight, UserRecord, UserRole, Users};
use crate::error::Result;
use crate::id::UserId;
use crate::settings::Privacy;

/// Point reads that one store call takes.
const CHUNK: usize = 100;
/// Shown for somebody who never said what to call him.
const NAMELESS: &str = "URGE user";

/// The kept part of a card: nothing secret is in it.
#[derive(Debug)]
pub(super) struct Face {
    phone: String,
    display_name: Option<String>,
    avatar_url: Option<String>,
    role: UserRole,
    is_verified: bool,
}

impl Face {
    /// Whether the two show the same.
    pub fn is_same(one: &UserRecord, other: &UserRecord) -> bool {
        let shown = |record: &UserRecord| (record.display_name.clone(), record.avatar_url.clone(), record.role, record.is_verified);
        shown(one) == shown(other)
    }
}

/// A person in a few words. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Card {
    /// Who.
    pub id: UserId,
    /// What he lets others see.
    pub privacy: Privacy,
    face: Arc<Face>,
}

impl Card {
    /// His number, E.164; only for people who share a conversation with him.
    pub fn phone(&self) -> &str {
        &self.face.phone
    }

    /// What he is called, if he said.
    pub fn display_name(&self) -> Option<&str> {
        self.face.display_name.as_deref()
    }

    /// What to call him in any case.
    pub fn name(&self) -> &str {
        self.display_name().unwrap_or(NAMELESS)
    }

    /// His picture as anybody sees it whom he has not blocked: none if he hides it.
    pub fn public_avatar(&self) -> Option<&str> {
        self.face.avatar_url.as_deref().filter(|_| self.privacy.show_profile_photo)
    }

    /// What the service thinks of him.
    pub fn role(&self) -> UserRole {
        self.face.role
    }

    /// Whether his number has been proven.
    pub fn is_verified(&self) -> bool {
        self.face.is_verified
    }
}

/// A card as one caller sees it: blocks and privacy applied.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The card.
    pub card: Card,
    /// Picture, if the caller may see it.
    pub avatar_url: Option<String>,
    /// Online, if the caller may know.
    pub is_online: bool,
}

impl Users {
    /// A person's card; none for an unknown id.
    pub async fn card(&self, id: UserId) -> Result<Option<Card>> {
        match self.faces.get(&id) {
            // The usual case, on the path of every message.
            Some(face) => Ok(Some(Card { id, privacy: self.settings.privacy(id).await?, face })),
            None => Ok(self.cards(&[id]).await?.remove(&id)),
        }
    }

    /// The cards of these people; unknown ids are left out.
    pub async fn cards(&self, ids: &[UserId]) -> Result<HashMap<UserId, Card>> {
        let mut faces = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            match self.faces.get(id) {
                Some(face) => drop(faces.insert(*id, face)),
                None => missing.push(*id),
            }
        }
        for chunk in missing.chunks(CHUNK) {
            let before = self.faces.before_read();
            for record in self.store.users(chunk).await? {
                let id = record.id;
                let face = Arc::new(Face::of(record));
                self.faces.keep(before, id, Arc::clone(&face));
                faces.insert(id, face);
            }
        }
        let known: Vec<_> = faces.keys().copied().collect();
        let privacies = self.settings.privacies(&known).await?;
        let card = |(id, face)| (id, Card { id, privacy: privacies.get(&id).copied().unwrap_or_default(), face });
        Ok(faces.into_iter().map(card).collect())
    }

    /// The cards of these people as `caller` sees them; unknown ids are left out.
    pub async fn seen(&self, caller: UserId, ids: &[UserId]) -> Result<HashMap<UserId, Seen>> {
        let relations = self.settings.relations(caller).await?;
        let seen = |(id, card): (UserId, Card)| {
            let sight = Sight {
                own: id == caller,
                shares: false,
                shut_out: relations.blocked_by.contains_key(&id),
                blocked: relations.is_blocked_either(id),
            };
            let avatar_url = card.face.avatar_url.clone().filter(|_| sight.photo(&card.privacy));
            let is_online = sight.online(&card.privacy) && self.presence.is_online(id);
            (id, Seen { card, avatar_url, is_online })
        };
        Ok(self.cards(ids).await?.into_iter().map(seen).collect())
    }

    /// Those of `others` whom this person has blocked: they do not see his picture.
    pub async fn blocked_among(&self, person: UserId, others: &[UserId]) -> Result<Arc<[UserId]>> {
        let relations = self.settings.relations(person).await?;
        if relations.blocked.is_empty() {
            return Ok([].into());
        }
        Ok(others.iter().copied().filter(|other| relations.blocked.contains_key(other)).collect())
    }

    /// The accounts of these ids that exist, in their order, each once.
    pub(super) async fn records(&self, ids: &[UserId]) -> Result<Vec<UserRecord>> {
        let mut found = HashMap::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK) {
            found.extend(self.store.users(chunk).await?.into_iter().map(|record| (record.id, record)));
        }
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }
}

impl Face {
    fn of(record: UserRecord) -> Self {
        Self {
            phone: record.phone,
            display_name: record.display_name,
            avatar_url: record.avatar_url,
            role: record.role,
            is_verified: record.is_verified,
        }
    }
}
