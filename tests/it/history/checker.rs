//! Judges a history by the log that is left: the log itself, what was answered about it, changes and marks.
//! Pure: no store, no network, no clock. What clients were told is judged in `views.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};

use urge::id::{ConversationId, MessageId, Seq, UserId};
use urge::log::{Body, Content, LogRow};

use super::{Call, History, Operation, Outcome, Rule, Violation, views};

/// Everything that is wrong with a history.
pub fn judge(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (conversation, log) in &history.logs {
        let operations: Vec<_> = history.operations.iter().filter(|operation| operation.conversation == *conversation).collect();
        judge_log(*conversation, log, &mut found);
        judge_sends(log, &operations, &mut found);
        judge_changes(log, &operations, &mut found);
        judge_marks(history, *conversation, log, &operations, &mut found);
    }
    for operation in &history.operations {
        if !history.logs.contains_key(&operation.conversation) && matches!(operation.outcome, Outcome::Answered { .. }) {
            found.push(violation(Rule::AnsweredIsStored, format!("no log at all for {operation:?}")));
        }
    }
    // Places mean nothing in a log with a gap.
    if found.iter().all(|violation| violation.rule != Rule::LogHasNoGap) {
        views::judge(history, &mut found);
    }
    found
}

pub(super) fn violation(rule: Rule, facts: String) -> Violation {
    Violation { rule, facts }
}

/// What a row holds as a message.
pub(super) fn content(row: &LogRow) -> Option<&Content> {
    if let Body::Message(content) = &row.body { Some(content) } else { None }
}

fn judge_log(conversation: ConversationId, log: &[LogRow], found: &mut Vec<Violation>) {
    let mut ids = HashMap::new();
    let (mut n, mut total) = (0, 0);
    for (row, place) in log.iter().zip(1..) {
        if row.seq != place {
            found.push(violation(Rule::LogHasNoGap, format!("in {conversation} row {} stands at place {place}", row.seq)));
            return;
        }
        if let Some(before) = ids.insert(row.message_id, row.seq) {
            found.push(violation(Rule::MessageOnce, format!("{} stands at {before} and at {} of {conversation}", row.message_id, row.seq)));
        }
        n += i64::from(row.body.is_counted());
        total += i64::from(row.body.is_shown());
        if (row.n, row.total) != (n, total) {
            let facts = format!("row {} of {conversation} counts {} and {}, not {n} and {total}", row.seq, row.n, row.total);
            found.push(violation(Rule::CountsAddUp, facts));
        }
    }
}

/// All attempts at one message: same sender, and same client_message_id or, without one, same content.
#[derive(Default)]
struct Message<'a> {
    attempts: Vec<&'a Operation>,
    row: Option<&'a LogRow>,
}

fn judge_sends(log: &[LogRow], operations: &[&Operation], found: &mut Vec<Violation>) {
    let by_id: HashMap<MessageId, &LogRow> = log.iter().map(|row| (row.message_id, row)).collect();
    let mut messages: BTreeMap<(UserId, &str, bool), Message<'_>> = BTreeMap::new();
    for operation in operations {
        if let Call::Send { content, client_message_id } = &operation.call {
            let name = client_message_id.as_ref().unwrap_or(content);
            let message = messages.entry((operation.user, name, client_message_id.is_some())).or_default();
            message.attempts.push(operation);
        }
    }
    // What the answers say of the log.
    let mut rows_of = HashMap::new();
    for (key, message) in &mut messages {
        let mut told: Option<(MessageId, Seq)> = None;
        for attempt in &message.attempts {
            let Outcome::Answered { message: id, seq } = attempt.outcome else { continue };
            match by_id.get(&id) {
                Some(row) if row.seq == seq && row.sender_id == attempt.user => {
                    message.row = Some(row);
                    rows_of.insert(seq, *key);
                }
                Some(row) => found.push(violation(Rule::AnsweredIsStored, format!("answered {id} at {seq}, but row {} has it", row.seq))),
                None => found.push(violation(Rule::AnsweredIsStored, format!("answered {id} at {seq}, but no row has it: {attempt:?}"))),
            }
            if key.2 && told.is_some_and(|told| told != (id, seq)) {
                found.push(violation(Rule::SameIdSameMessage, format!("{:?} was answered as {told:?} and as {:?}", key.1, (id, seq))));
            }
            told = Some((id, seq));
        }
    }
    // Every row must come from a message that somebody sent and that was not refused for good.
    let mut claimed: HashMap<_, Seq> = rows_of.iter().map(|(seq, key)| (*key, *seq)).collect();
    for row in log {
        let Some(content) = content(row) else { continue };
        let key = match &content.client_message_id {
            Some(name) => Some((row.sender_id, name.as_str(), true)),
            None => rows_of.get(&row.seq).copied().or(Some((row.sender_id, content.content.as_str(), false))),
        };
        let Some((key, message)) = key.and_then(|key| messages.get_mut(&key).map(|message| (key, message))) else {
            let facts = format!("row {} ({}) of {}: {:?}", row.seq, row.message_id, row.sender_id, content.content);
            found.push(violation(Rule::OnlyWhatWasSent, facts));
            continue;
        };
        if message.attempts.iter().all(|attempt| attempt.outcome == Outcome::Refused) {
            found.push(violation(Rule::RefusedStaysOut, format!("row {} was refused every time: {:?}", row.seq, message.attempts)));
        }
        message.row = Some(row);
        if let Some(other) = claimed.insert(key, row.seq)
            && other != row.seq
        {
            let facts = format!("{:?} of {} stands at {other} and at {}", key.1, key.0, row.seq);
            found.push(violation(if key.2 { Rule::SameIdSameMessage } else { Rule::MessageOnce }, facts));
        }
    }
    judge_order(messages.values(), found);
}

/// What was answered before something else was asked for stands before it.
fn judge_order<'a>(messages: impl Iterator<Item = &'a Message<'a>>, found: &mut Vec<Violation>) {
    let mut begun = Vec::new();
    let mut ended = Vec::new();
    for message in messages {
        let Some(row) = message.row else { continue };
        begun.extend(message.attempts.iter().map(|attempt| attempt.from).min().map(|from| (from, row.seq)));
        let answered = message.attempts.iter().filter(|attempt| matches!(attempt.outcome, Outcome::Answered { .. }));
        ended.extend(answered.map(|attempt| attempt.until).min().map(|until| (until, row.seq)));
    }
    begun.sort_unstable();
    ended.sort_unstable();
    let mut ended = ended.into_iter().peekable();
    let mut highest = 0;
    for (from, seq) in begun {
        while let Some((_, before)) = ended.next_if(|(until, _)| *until < from) {
            highest = highest.max(before);
        }
        if seq < highest {
            found.push(violation(Rule::AnswerOrder, format!("row {seq} was sent after row {highest} was answered")));
        }
    }
}

fn judge_changes(log: &[LogRow], operations: &[&Operation], found: &mut Vec<Violation>) {
    let mut changes: HashMap<MessageId, Vec<&Operation>> = HashMap::new();
    for operation in operations {
        if let Call::Edit { message, .. } | Call::Delete { message } = &operation.call {
            changes.entry(*message).or_default().push(operation);
        }
    }
    let original: HashMap<MessageId, &str> = operations
        .iter()
        .filter_map(|operation| match (&operation.call, operation.outcome) {
            (Call::Send { content, .. }, Outcome::Answered { message, .. }) => Some((message, content.as_str())),
            _ => None,
        })
        .collect();
    let mut notices: HashMap<Seq, Vec<&LogRow>> = HashMap::new();
    for row in log {
        if let Some(target) = row.target_seq {
            notices.entry(target).or_default().push(row);
        }
    }
    for row in log {
        let Some(content) = content(row) else { continue };
        let changes = changes.get(&row.message_id).map(Vec::as_slice).unwrap_or_default();
        let notices = notices.get(&row.seq).map(Vec::as_slice).unwrap_or_default();
        let mut wrong = |facts: String| found.push(violation(Rule::LastChangeStands, format!("row {} {facts}", row.seq)));
        let last = notices.last().map_or(row.seq, |notice| notice.seq);
        if row.change_seq != last {
            wrong(format!("says that row {} changed it last, but the log says row {last}", row.change_seq));
        }
        let answered = |operation: &&&Operation| matches!(operation.outcome, Outcome::Answered { .. });
        let deletes = changes.iter().filter(|operation| matches!(operation.call, Call::Delete { .. }));
        let edits = changes.iter().filter(|operation| matches!(operation.call, Call::Edit { .. }));
        if row.deleted_at.is_some() {
            if !deletes.clone().any(|delete| delete.outcome != Outcome::Refused) {
                wrong("is deleted, and nobody deleted it".to_owned());
            }
            continue;
        }
        if let Some(delete) = deletes.clone().find(answered) {
            wrong(format!("is not deleted after {delete:?}"));
        }
        let told = edits.clone().filter(answered).count();
        let tried = edits.clone().filter(|edit| edit.outcome != Outcome::Refused).count();
        if notices.len() < told || notices.len() > tried {
            wrong(format!("was changed {} times; {told} edits were answered, {tried} tried", notices.len()));
        }
        let author = edits.clone().find(|edit| matches!(&edit.call, Call::Edit { content: text, .. } if *text == content.content));
        match author {
            Some(author) if author.outcome == Outcome::Refused => wrong(format!("has the words of a refused edit: {author:?}")),
            Some(author) => {
                let known = |edit: &&&Operation| answered(edit) && edit.from > author.until && author.outcome != Outcome::Unknown;
                if let Some(later) = edits.clone().find(known) {
                    wrong(format!("has the words of {author:?}, but later was answered {later:?}"));
                }
            }
            None => {
                if let Some(edit) = edits.clone().find(answered) {
                    wrong(format!("reads {:?} after {edit:?}", content.content));
                }
                if original.get(&row.message_id).is_some_and(|original| *original != content.content) {
                    wrong(format!("reads {:?}, which nobody wrote there", content.content));
                }
            }
        }
    }
}

fn judge_marks(history: &History, conversation: ConversationId, log: &[LogRow], operations: &[&Operation], found: &mut Vec<Violation>) {
    let mut wrong = |rule, facts: String| found.push(violation(rule, format!("in {conversation} {facts}")));
    let end = log.last().map_or(0, |row| row.seq);
    let members: HashSet<_> = history.members.get(&conversation).into_iter().flatten().collect();
    for user in members {
        let mine = || operations.iter().filter(|operation| operation.user == *user);
        // What he is known to have read, and from when on it is known.
        let mut known: Vec<(u64, Seq)> = mine()
            .filter_map(|operation| match (&operation.call, operation.outcome) {
                (Call::Mark { .. } | Call::LookAtMark, Outcome::Answered { seq, .. }) => Some((operation.until, seq)),
                _ => None,
            })
            .collect();
        known.sort_unstable();
        for look in mine().filter(|operation| operation.call == Call::LookAtMark) {
            let Outcome::Answered { seq, .. } = look.outcome else { continue };
            if let Some((_, before)) = known.iter().find(|(until, before)| *until < look.from && *before > seq) {
                wrong(Rule::MarksStand, format!("{user} had read up to {before}, then only up to {seq}"));
            }
        }
        let Some(mark) = history.marks.iter().find(|mark| mark.user == *user && mark.conversation == conversation) else { continue };
        if let Some((_, seq)) = known.iter().find(|(_, seq)| *seq > mark.read_seq) {
            wrong(Rule::MarksStand, format!("{user} has read up to {}, but was told {seq}", mark.read_seq));
        }
        if mark.read_seq > end {
            wrong(Rule::MarksStand, format!("{user} has read up to {}, and the log ends at {end}", mark.read_seq));
        }
        if mark.head_seq != end {
            wrong(Rule::HeadsReachTheEnd, format!("the head of {user} is {}, and the log ends at {end}", mark.head_seq));
        }
    }
}
