//! What workers are told through the bus, and what they are called. Ids and places only: what there is to do stands in the
//! log, so that an event that comes twice, late or not in its order does no harm.

use serde::{Deserialize, Serialize};

use crate::id::{ConversationId, Seq};

/// A conversation's log has grown: its rows go to `seq` at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Growth {
    /// Whose log.
    pub conversation_id: ConversationId,
    /// Its last row, as its writer knew it.
    pub seq: Seq,
}

/// Who works on growths. Each of them sees all, once among all nodes, if nothing goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// The search indexer.
    Index,
}

impl Worker {
    /// What it is called: its consumer, its metrics, its dead letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
        }
    }
}
