//! Judges what clients were told, against the log that is left: each row in its order, none left out, none again.
//! A row may be passed over when it shows nothing, when it is the client's own (it has the answer), or when its message
//! was changed by a later row that is still to come.

use std::collections::{BTreeMap, HashMap};

use urge::id::{ConversationId, MessageId, Seq, UserId};
use urge::log::{Body, LogRow};

use super::checker::{content, violation};
use super::{History, Rule, Sight, Told, View, Violation};

pub(super) fn judge(history: &History, found: &mut Vec<Violation>) {
    for view in &history.views {
        let mut reader = Reader { history, view, found, index: 0, places: BTreeMap::new(), seen: HashMap::new() };
        for (index, sight) in view.sights.iter().enumerate() {
            reader.index = index;
            reader.see(sight);
        }
        reader.finish();
    }
}

/// A client that is followed through what it saw.
struct Reader<'a> {
    history: &'a History,
    view: &'a View,
    found: &'a mut Vec<Violation>,
    /// Which sight it sees.
    index: usize,
    /// The row up to which it has everything; absent while nobody said.
    places: BTreeMap<ConversationId, Seq>,
    seen: HashMap<MessageId, &'a Told>,
}

impl<'a> Reader<'a> {
    fn wrong(&mut self, rule: Rule, facts: &str) {
        self.found.push(violation(rule, format!("{} {facts}", self.view.user)));
    }

    fn log(&self, conversation: ConversationId) -> &'a [LogRow] {
        self.history.logs.get(&conversation).map(Vec::as_slice).unwrap_or_default()
    }

    fn see(&mut self, sight: &'a Sight) {
        match sight {
            Sight::Connected { known } => self.places.clone_from(known),
            Sight::UpTo { conversation, seq } => {
                let at = self.places.get(conversation).copied();
                self.pass(*conversation, at, *seq);
                self.places.insert(*conversation, at.unwrap_or(0).max(*seq));
            }
            Sight::Told(told) => self.told(told),
        }
    }

    fn told(&mut self, told: &'a Told) {
        let log = self.log(told.conversation);
        if !self.history.members.get(&told.conversation).is_some_and(|members| members.contains(&self.view.user)) {
            return self.wrong(Rule::ToldWhatIsThere, &format!("is no member and was told {told:?}"));
        }
        let subject = log.get((told.change_seq - 1) as usize).map(|row| row.target_seq.unwrap_or(row.seq));
        let row = log.get((told.seq - 1) as usize);
        if subject != Some(told.seq) || row.is_none_or(|row| row.message_id != told.message) {
            return self.wrong(Rule::ToldWhatIsThere, &format!("was told what is not in the log: {told:?}"));
        }
        let at = self.places.get(&told.conversation).copied();
        if at.is_some_and(|at| told.change_seq <= at) {
            let before: Vec<_> =
                self.view.sights[..self.index].iter().rev().filter_map(|sight| brief(sight, told.conversation)).take(4).collect();
            let facts = format!("had everything up to {at:?} and was told {told:?}; before that, the latest first: {}", before.join(", "));
            self.wrong(Rule::ToldInOrder, &facts);
        } else {
            self.pass(told.conversation, at, told.change_seq - 1);
            self.places.insert(told.conversation, told.change_seq);
        }
        let newer = self.seen.get(&told.message).is_none_or(|before| before.change_seq < told.change_seq);
        if newer {
            self.seen.insert(told.message, told);
        }
    }

    /// Checks that nothing after `at` and up to `upto` was left out.
    fn pass(&mut self, conversation: ConversationId, at: Option<Seq>, upto: Seq) {
        let Some(at) = at else { return };
        let log = self.log(conversation);
        for row in log.iter().filter(|row| row.seq > at && row.seq <= upto) {
            let subject = &log[(row.target_seq.unwrap_or(row.seq) - 1) as usize];
            let has = self.seen.get(&subject.message_id).is_some_and(|told| told.change_seq >= row.seq);
            if has || subject.change_seq > upto || self.may_pass(row) {
                continue;
            }
            self.wrong(Rule::ToldWithoutGap, &format!("was taken from row {at} past row {} ({}) to {upto}", row.seq, row.message_id));
        }
    }

    fn may_pass(&self, row: &LogRow) -> bool {
        let own = self.view.sends && row.sender_id == self.view.user;
        own || matches!(row.body, Body::Created(_))
    }

    fn finish(&mut self) {
        let user: UserId = self.view.user;
        let mine: Vec<_> = self.history.members.iter().filter(|(_, members)| members.contains(&user)).map(|(id, _)| *id).collect();
        for conversation in mine {
            for row in self.log(conversation) {
                let Some(content) = content(row) else { continue };
                match self.seen.get(&row.message_id) {
                    None if self.may_pass(row) => {}
                    None => {
                        let facts = format!("never saw row {} ({}) of {conversation}", row.seq, row.message_id);
                        self.wrong(Rule::EverybodyHasEverything, &facts);
                    }
                    // A change of one's own is known from its answer.
                    Some(told) if told.change_seq < row.change_seq && self.view.sends && row.sender_id == user => {}
                    Some(told) if told.is_deleted != row.deleted_at.is_some() || (!told.is_deleted && told.content != content.content) => {
                        let facts = format!("has {told:?}, but the log has {:?}, changed by row {}", content.content, row.change_seq);
                        self.wrong(Rule::EverybodyHasEverything, &facts);
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

/// What a sight said of a conversation, in a few words.
fn brief(sight: &Sight, conversation: ConversationId) -> Option<String> {
    match sight {
        Sight::Connected { known } => Some(format!("connected with {:?}", known.get(&conversation))),
        Sight::Told(told) if told.conversation == conversation => Some(format!("told {} of {}", told.change_seq, told.seq)),
        Sight::UpTo { conversation: of, seq } if *of == conversation => Some(format!("synced up to {seq}")),
        Sight::Told(_) | Sight::UpTo { .. } => None,
    }
}
