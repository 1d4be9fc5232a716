//! The text of the log's statements. What changes `messages` has a condition; everything else may be repeated.

use crate::store::statements;

const ROW: &str = "conversation_id, seq, message_id, sender_id, n, total, target_seq, body, created_at, updated_at, deleted_at, version, \
                   change_seq, change_id";

/// A statement that selects these columns.
macro_rules! select {
    ($columns:ident, $rest:literal) => {
        &format!("SELECT {} FROM {}", $columns, $rest)
    };
}

const INSERT: &str = "INSERT INTO messages (conversation_id, bucket, seq, message_id, kind, sender_id, n, total, target_seq, body, created_at, \
                      updated_at, deleted_at, version, change_seq, change_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

const MEMBER: &str = "user_id, state, role, change_seq, joined_seq, joined_at, delivered_seq, delivered_at, read_seq, read_at";

const MEMBERSHIP: &str = "conversation_id, kind, large, peer_id, state, role, change_seq, joined_seq, last_seq, last_n, last_total, \
                          last_message_seq, last_at, read_seq, read_n, peer_read_seq, peer_delivered_seq, cleared_seq, cleared_n, \
                          cleared_total, hidden_seq, muted, archived, favourite, writetime(muted) AS muted_us, \
                          writetime(archived) AS archived_us, writetime(favourite) AS favourite_us";

statements! {
    /// The log's statements.
    pub struct LogStatements {
        insert_row: Conditional &format!("{INSERT} IF NOT EXISTS");
        insert_next: Conditional INSERT;
        rewrite_row: Conditional "UPDATE messages SET body = ?, updated_at = ?, deleted_at = ?, version = ?, change_seq = ?, change_id = ? \
                                  WHERE conversation_id = ? AND bucket = ? AND seq = ? IF version = ?";
        row: Read select!(ROW, "messages WHERE conversation_id = ? AND bucket = ? AND seq = ?");
        settled_row: Serial select!(ROW, "messages WHERE conversation_id = ? AND bucket = ? AND seq = ?");
        rows_after: Read select!(ROW, "messages WHERE conversation_id = ? AND bucket = ? AND seq > ? AND seq < ? ORDER BY seq ASC LIMIT ?");
        rows_before: Read select!(ROW, "messages WHERE conversation_id = ? AND bucket = ? AND seq < ? ORDER BY seq DESC LIMIT ?");

        location: Read "SELECT conversation_id, floor_seq FROM message_locations WHERE message_id = ?";
        put_location: Write "INSERT INTO message_locations (message_id, conversation_id, floor_seq) VALUES (?, ?, ?)";

        conversation: Read "SELECT kind, created_by, created_at, profile, large, last_seq, last_n, last_total, last_message_seq, last_at, \
                            indexed_seq FROM conversations WHERE id = ?";
        put_conversation: Write "UPDATE conversations USING TIMESTAMP ? SET kind = ?, created_by = ?, created_at = ?, profile = ? WHERE id = ?";
        conversation_is_large: Write "UPDATE conversations USING TIMESTAMP ? SET large = true WHERE id = ?";
        put_head: Write "UPDATE conversations USING TIMESTAMP ? SET last_seq = ?, last_n = ?, last_total = ?, last_message_seq = ?, last_at = ? \
                         WHERE id = ?";
        mark_indexed: Write "UPDATE conversations USING TIMESTAMP ? SET indexed_seq = ? WHERE id = ?";
        conversations: Read "SELECT id, indexed_seq, last_seq FROM conversations LIMIT ?";
        conversations_after: Read "SELECT id, indexed_seq, last_seq FROM conversations WHERE token(id) > token(?) LIMIT ?";

        member: Read select!(MEMBER, "members WHERE conversation_id = ? AND user_id = ?");
        members: Read select!(MEMBER, "members WHERE conversation_id = ? AND user_id > ? LIMIT ?");
        put_member: Write "UPDATE members USING TIMESTAMP ? SET state = ?, role = ?, change_seq = ?, joined_seq = ?, joined_at = ? \
                           WHERE conversation_id = ? AND user_id = ?";
        member_has: Write "UPDATE members USING TIMESTAMP ? SET delivered_seq = ? WHERE conversation_id = ? AND user_id = ?";
        member_reads: Write "UPDATE members USING TIMESTAMP ? SET read_seq = ? WHERE conversation_id = ? AND user_id = ?";
        mark_delivered: Write "UPDATE members USING TIMESTAMP ? SET delivered_seq = ?, delivered_at = ? WHERE conversation_id = ? AND user_id = ?";
        mark_member_read: Write "UPDATE members USING TIMESTAMP ? SET read_seq = ?, read_at = ? WHERE conversation_id = ? AND user_id = ?";

        membership: Read select!(MEMBERSHIP, "memberships WHERE user_id = ? AND conversation_id = ?");
        memberships: Read select!(MEMBERSHIP, "memberships WHERE user_id = ?");
        put_membership: Write "UPDATE memberships USING TIMESTAMP ? SET kind = ?, state = ?, role = ?, change_seq = ?, joined_seq = ? \
                               WHERE user_id = ? AND conversation_id = ?";
        put_peer: Write "UPDATE memberships USING TIMESTAMP ? SET peer_id = ? WHERE user_id = ? AND conversation_id = ?";
        membership_is_large: Write "UPDATE memberships USING TIMESTAMP ? SET large = true WHERE user_id = ? AND conversation_id = ?";
        move_head: Write "UPDATE memberships USING TIMESTAMP ? SET last_seq = ?, last_n = ?, last_total = ?, last_message_seq = ?, last_at = ? \
                          WHERE user_id = ? AND conversation_id = ?";
        mark_read: Write "UPDATE memberships USING TIMESTAMP ? SET read_seq = ?, read_n = ? WHERE user_id = ? AND conversation_id = ?";
        peer_has: Write "UPDATE memberships USING TIMESTAMP ? SET peer_delivered_seq = ? WHERE user_id = ? AND conversation_id = ?";
        peer_reads: Write "UPDATE memberships USING TIMESTAMP ? SET peer_read_seq = ? WHERE user_id = ? AND conversation_id = ?";
        clear: Write "UPDATE memberships USING TIMESTAMP ? SET cleared_seq = ?, cleared_n = ?, cleared_total = ? \
                      WHERE user_id = ? AND conversation_id = ?";
        hide: Write "UPDATE memberships USING TIMESTAMP ? SET hidden_seq = ? WHERE user_id = ? AND conversation_id = ?";
        set_muted: Write "UPDATE memberships USING TIMESTAMP ? SET muted = ? WHERE user_id = ? AND conversation_id = ?";
        set_archived: Write "UPDATE memberships USING TIMESTAMP ? SET archived = ? WHERE user_id = ? AND conversation_id = ?";
        settled_favourite: Serial "SELECT change_seq, favourite FROM memberships WHERE user_id = ? AND conversation_id = ?";
        turn_favourite: Conditional "UPDATE memberships SET favourite = ? WHERE user_id = ? AND conversation_id = ? IF favourite = ?";
    }
}
