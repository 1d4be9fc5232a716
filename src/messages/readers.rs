//! Who has received and who has read a message, person by person, in conversations of any size.
//! It is read from the members' marks; who hides read receipts counts as delivered only.

use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};

use super::Messages;
use super::receipts::concerns;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{MessageId, UserId};
use crate::log::Member;
use crate::page::{Cursor, Page};

/// Members that are read at a time.
const MEMBERS: usize = 1_000;
const READ: &str = "receipts-read";
const DELIVERED: &str = "receipts-delivered";

/// Which receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Enum)]
#[oai(rename_all = "lowercase")]
pub enum ReceiptKind {
    /// Who has read it.
    #[default]
    Read,
    /// Who has it on a device, readers included.
    Delivered,
}

/// One person's receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Object)]
pub struct Receipt {
    /// Who.
    pub user_id: UserId,
    /// What he is called.
    pub display_name: Option<String>,
    /// His picture, if the caller may see it.
    pub avatar_url: Option<String>,
    /// When he last read, or received, something here.
    pub at: Timestamp,
}

/// A page of receipts of one message.
#[derive(Clone, Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct ReceiptPage {
    /// The receipts.
    pub receipts: Vec<Receipt>,
    /// How many have read it.
    pub read_count: usize,
    /// How many have it on a device, readers included.
    pub delivered_count: usize,
    /// To be sent as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
}

impl poem_openapi::types::Example for ReceiptPage {
    fn example() -> Self {
        let receipt = Receipt {
            user_id: UserId(uuid::Uuid::from_u128(0x0197_5a3c_77d2_7f00_8e11_3f5b_2c9d_4e10)),
            display_name: Some("Ada Lovelace".into()),
            avatar_url: None,
            at: Timestamp(1_769_860_800_123),
        };
        Self { receipts: vec![receipt], read_count: 1, delivered_count: 1, next_cursor: None }
    }
}

impl Messages {
    /// Who has received or read a message: of those who were members when it was written and are now, its sender apart.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`: the message.
    pub async fn receipts_of(&self, caller: UserId, id: MessageId, kind: ReceiptKind, page: &Page) -> Result<ReceiptPage> {
        let row = self.visible(caller, id).await?.row;
        let cursor = if kind == ReceiptKind::Read { READ } else { DELIVERED };
        let after = page.after::<UserId>(cursor)?;
        let (mut read_count, mut delivered_count) = (0, 0);
        let mut found: Vec<(UserId, Timestamp)> = Vec::with_capacity(page.limit + 1);
        let mut from = None;
        loop {
            let members = self.log.members(row.conversation_id, from, MEMBERS).await?;
            from = members.last().map(|member| member.user_id);
            let is_last = members.len() < MEMBERS;
            let others: Vec<Member> = members.into_iter().filter(|member| concerns(member, row.sender_id, row.seq)).collect();
            let readers: Vec<UserId> = others.iter().filter(|member| member.read_seq >= row.seq).map(|member| member.user_id).collect();
            let privacies = self.settings.privacies(&readers).await?;
            for member in others {
                let shows = privacies.get(&member.user_id).is_some_and(|privacy| privacy.show_read_receipts);
                let has_read = shows && member.read_seq >= row.seq;
                let has_received = member.delivered_seq.max(member.read_seq) >= row.seq;
                read_count += usize::from(has_read);
                delivered_count += usize::from(has_received);
                let at = match kind {
                    ReceiptKind::Read if has_read => member.read_at,
                    ReceiptKind::Delivered if has_received => member.delivered_at,
                    _ => continue,
                };
                // One more than the page: it says that there is more.
                if found.len() <= page.limit && after.is_none_or(|after| member.user_id > after) {
                    found.push((member.user_id, at));
                }
            }
            if is_last {
                break;
            }
        }
        let has_more = found.len() > page.limit;
        found.truncate(page.limit);
        let next_cursor = found.last().filter(|_| has_more).map(|(user, _)| Cursor::new(cursor, user).into_text());
        let people = self.users.seen(caller, &found.iter().map(|(user, _)| *user).collect::<Vec<_>>()).await?;
        let receipt = |(user_id, at)| {
            let seen = people.get(&user_id);
            let display_name = seen.and_then(|seen| seen.card.display_name()).map(str::to_owned);
            Receipt { user_id, display_name, avatar_url: seen.and_then(|seen| seen.avatar_url.clone()), at }
        };
        Ok(ReceiptPage { receipts: found.into_iter().map(receipt).collect(), read_count, delivered_count, next_cursor })
    }
}
