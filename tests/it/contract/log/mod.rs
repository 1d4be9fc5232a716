//! The promises of `log::LogStore`: rows are claimed once, projections go forward only.

mod heads;
mod members;
mod reader;
mod rows;

use urge::clock::Timestamp;
use urge::id::UserId;
use urge::log::{ConversationKind, ConversationRecord, Head, Member, MemberState, Profile, Role};

fn record(kind: ConversationKind, large: bool) -> ConversationRecord {
    ConversationRecord {
        kind,
        created_by: UserId::fresh(),
        created_at: Timestamp(1_000),
        profile: Profile::default(),
        large,
        head: Head::default(),
        indexed_seq: 0,
    }
}

/// Somebody who joined with row `seq`.
fn joiner(user_id: UserId, seq: i64) -> Member {
    Member {
        user_id,
        state: MemberState::Active,
        role: Role::Member,
        change_seq: seq,
        joined_seq: seq,
        joined_at: Timestamp(1_000 + seq),
        delivered_seq: seq - 1,
        delivered_at: Timestamp(0),
        read_seq: seq - 1,
        read_at: Timestamp(0),
    }
}

/// A head at row `seq`, every second row of which is a message.
fn head(seq: i64) -> Head {
    Head { seq, n: seq / 2, total: seq / 2 + 1, message_seq: seq - 1, at: Timestamp(1_000 + seq) }
}
