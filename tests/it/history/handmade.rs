//! The checker checked: a good history passes, and the same history broken in exactly one way is caught for that way.

use std::collections::BTreeMap;

use urge::clock::Timestamp;
use urge::id::{ConversationId, MessageId, Seq, UserId};
use urge::log::{Body, Content, ConversationKind, Creation, LogRow, Profile, Role};

use super::checker::judge;
use super::{Call, FinalMark, History, Operation, Outcome, Rule, Sight, Told, View};

/// The operations of the good history, by their index.
const FIRST_TRY: usize = 0;
const RETRY: usize = 1;
const PLAIN: usize = 2;
const EDIT: usize = 3;
const MARK: usize = 4;
const REFUSED: usize = 5;
const UNKNOWN: usize = 6;
const LOOK: usize = 7;
/// The views of the good history: of the one who edits, of the other, and of the first one's second device.
const ANNA: usize = 0;
const BERT: usize = 1;
const TABLET: usize = 2;

fn user(n: u128) -> UserId {
    UserId(uuid::Uuid::from_u128(n))
}

fn message(n: u128) -> MessageId {
    MessageId(uuid::Uuid::from_u128(0x100 + n))
}

fn conversation() -> ConversationId {
    ConversationId(uuid::Uuid::from_u128(0x1000))
}

fn row(seq: Seq, sender: UserId, body: Body, n: i64) -> LogRow {
    LogRow {
        conversation_id: conversation(),
        seq,
        message_id: message(seq as u128),
        sender_id: sender,
        n,
        total: n,
        target_seq: None,
        body,
        created_at: Timestamp(seq),
        updated_at: Timestamp(seq),
        deleted_at: None,
        version: 0,
        change_seq: seq,
        change_id: message(seq as u128),
    }
}

fn text(content: &str, client_message_id: Option<&str>) -> Body {
    Body::Message(Content { content: content.to_owned(), client_message_id: client_message_id.map(str::to_owned), ..Content::default() })
}

fn told(seq: Seq, change_seq: Seq, content: &str) -> Sight {
    let content = content.to_owned();
    Sight::Told(Told { conversation: conversation(), message: message(seq as u128), seq, change_seq, content, is_deleted: false })
}

fn connected(seq: Seq) -> Sight {
    Sight::Connected { known: BTreeMap::from([(conversation(), seq)]) }
}

fn up_to(seq: Seq) -> Sight {
    Sight::UpTo { conversation: conversation(), seq }
}

/// Anna sends "hello" twice under one client_message_id and edits it; Bert answers without one; an unknown send of his
/// did happen; he is offline in between.
fn good() -> History {
    let (anna, bert) = (user(1), user(2));
    let creation =
        Creation { kind: ConversationKind::Direct, profile: Profile::default(), members: vec![(anna, Role::Member), (bert, Role::Member)] };
    let mut edit = row(4, anna, Body::Edited, 2);
    edit.target_seq = Some(2);
    let mut hello = row(2, anna, text("hello, edited", Some("1")), 1);
    (hello.change_seq, hello.version) = (4, 1);
    let log = vec![row(1, anna, Body::Created(creation), 0), hello, row(3, bert, text("good day", None), 2), edit];
    let log = log.into_iter().chain([row(5, bert, text("anyone?", None), 3)]).collect();
    let operation = |user, call, outcome, from, until| Operation { user, conversation: conversation(), call, outcome, from, until };
    let send = |content: &str, id: Option<&str>| Call::Send { content: content.to_owned(), client_message_id: id.map(str::to_owned) };
    let answered = |seq: Seq| Outcome::Answered { message: message(seq as u128), seq };
    let operations = vec![
        operation(anna, send("hello", Some("1")), Outcome::Unknown, 1, 2),
        operation(anna, send("hello", Some("1")), answered(2), 3, 4),
        operation(bert, send("good day", None), answered(3), 5, 6),
        operation(anna, Call::Edit { message: message(2), content: "hello, edited".to_owned() }, answered(4), 7, 8),
        operation(bert, Call::Mark { seq: 3 }, answered(3), 9, 10),
        operation(anna, send("", None), Outcome::Refused, 11, 12),
        operation(bert, send("anyone?", None), Outcome::Unknown, 13, 14),
        operation(bert, Call::LookAtMark, answered(3), 15, 16),
    ];
    let view = |user, sends, sights| View { user, sends, sights };
    let views = vec![
        view(anna, true, vec![connected(0), told(3, 3, "good day"), told(5, 5, "anyone?")]),
        view(bert, true, vec![connected(0), told(2, 2, "hello"), connected(2), told(2, 4, "hello, edited"), up_to(5)]),
        view(anna, false, vec![connected(0), told(3, 3, "good day"), told(2, 4, "hello, edited"), told(5, 5, "anyone?")]),
    ];
    let mark = |user, read_seq| FinalMark { user, conversation: conversation(), read_seq, head_seq: 5 };
    History {
        members: BTreeMap::from([(conversation(), vec![anna, bert])]),
        operations,
        views,
        logs: BTreeMap::from([(conversation(), log)]),
        marks: vec![mark(anna, 2), mark(bert, 5)],
    }
}

/// Breaks the good history and says what was found; the rule must be among it.
fn caught(rule: Rule, breakage: impl FnOnce(&mut History)) {
    let mut history = good();
    breakage(&mut history);
    let found = judge(&history);
    assert!(found.iter().any(|violation| violation.rule == rule), "{rule:?} was not found, but {found:?}");
}

fn log(history: &mut History) -> &mut Vec<LogRow> {
    history.logs.get_mut(&conversation()).unwrap()
}

#[test]
fn a_good_history_passes() {
    let found = judge(&good());
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_gap_in_the_log() {
    caught(Rule::LogHasNoGap, |history| drop(log(history).remove(2)));
}

#[test]
fn a_message_twice_in_the_log() {
    caught(Rule::MessageOnce, |history| {
        let again = LogRow { seq: 6, n: 4, total: 4, ..log(history)[4].clone() };
        log(history).push(again);
    });
}

#[test]
fn one_client_message_id_under_two_ids() {
    caught(Rule::SameIdSameMessage, |history| {
        log(history).push(row(6, user(1), text("hello", Some("1")), 4));
    });
    caught(Rule::SameIdSameMessage, |history| {
        history.operations[FIRST_TRY].outcome = Outcome::Answered { message: message(5), seq: 5 };
    });
}

#[test]
fn counts_that_do_not_add_up() {
    caught(Rule::CountsAddUp, |history| log(history)[4].n = 9);
}

#[test]
fn an_answered_message_that_is_not_there() {
    caught(Rule::AnsweredIsStored, |history| {
        log(history).pop();
        history.operations[UNKNOWN].outcome = answered_five();
    });
    caught(Rule::AnsweredIsStored, |history| history.operations[RETRY].outcome = Outcome::Answered { message: message(2), seq: 3 });
    caught(Rule::AnsweredIsStored, |history| history.logs.clear());
}

#[test]
fn a_message_that_nobody_sent() {
    caught(Rule::OnlyWhatWasSent, |history| log(history).push(row(6, user(1), text("boo", None), 4)));
}

#[test]
fn a_refused_message_that_is_there() {
    caught(Rule::RefusedStaysOut, |history| history.operations[UNKNOWN].outcome = Outcome::Refused);
    caught(Rule::RefusedStaysOut, |history| {
        let Call::Send { content, .. } = &mut history.operations[REFUSED].call else { return };
        "boo".clone_into(content);
        log(history).push(row(6, user(1), text("boo", None), 4));
    });
}

#[test]
fn an_answer_that_was_overtaken() {
    caught(Rule::AnswerOrder, |history| {
        (history.operations[PLAIN].from, history.operations[PLAIN].until) = (20, 21);
        (history.operations[UNKNOWN].outcome, history.operations[UNKNOWN].until) = (answered_five(), 14);
    });
}

#[test]
fn an_edit_that_was_lost() {
    caught(Rule::LastChangeStands, |history| {
        log(history)[1].body = text("hello", Some("1"));
    });
    caught(Rule::LastChangeStands, |history| log(history)[1].body = text("hullo", Some("1")));
    caught(Rule::LastChangeStands, |history| history.operations[EDIT].outcome = Outcome::Refused);
    caught(Rule::LastChangeStands, |history| log(history)[1].deleted_at = Some(Timestamp(9)));
    caught(Rule::LastChangeStands, |history| log(history)[1].change_seq = 2);
    caught(Rule::LastChangeStands, |history| {
        let later = Operation {
            call: Call::Edit { message: message(2), content: "hello, again".to_owned() },
            from: 20,
            until: 21,
            ..history.operations[EDIT].clone()
        };
        history.operations.push(later);
    });
    caught(Rule::LastChangeStands, |history| {
        let delete = Operation { call: Call::Delete { message: message(2) }, ..history.operations[EDIT].clone() };
        history.operations.push(delete);
    });
}

#[test]
fn a_mark_that_went_back() {
    caught(Rule::MarksStand, |history| history.marks[1].read_seq = 2);
    caught(Rule::MarksStand, |history| history.marks[1].read_seq = 9);
    caught(Rule::MarksStand, |history| history.operations[LOOK].outcome = Outcome::Answered { message: message(2), seq: 2 });
    caught(Rule::MarksStand, |history| history.operations[MARK].outcome = Outcome::Answered { message: message(3), seq: 4 });
}

#[test]
fn a_head_that_lags() {
    caught(Rule::HeadsReachTheEnd, |history| history.marks[0].head_seq = 4);
}

#[test]
fn a_client_that_was_told_what_is_not_there() {
    caught(Rule::ToldWhatIsThere, |history| history.views[ANNA].sights.push(told(6, 6, "boo")));
    caught(Rule::ToldWhatIsThere, |history| history.views[ANNA].sights[1] = told(3, 4, "good day"));
    caught(Rule::ToldWhatIsThere, |history| history.views[ANNA].user = user(3));
}

#[test]
fn a_client_that_was_told_something_again() {
    caught(Rule::ToldInOrder, |history| history.views[ANNA].sights.push(told(5, 5, "anyone?")));
    caught(Rule::ToldInOrder, |history| history.views[BERT].sights.insert(3, told(2, 2, "hello")));
}

#[test]
fn a_client_that_was_told_out_of_order() {
    caught(Rule::ToldInOrder, |history| history.views[TABLET].sights.swap(1, 2));
}

#[test]
fn a_client_that_was_told_with_a_gap() {
    caught(Rule::ToldWithoutGap, |history| drop(history.views[ANNA].sights.remove(1)));
    caught(Rule::ToldWithoutGap, |history| drop(history.views[BERT].sights.remove(3)));
    caught(Rule::ToldWithoutGap, |history| drop(history.views[TABLET].sights.remove(2)));
}

#[test]
fn a_client_that_lacks_the_end() {
    caught(Rule::EverybodyHasEverything, |history| drop(history.views[ANNA].sights.pop()));
    caught(Rule::EverybodyHasEverything, |history| {
        history.views[TABLET].sights[2] = told(2, 4, "hello");
    });
}

fn answered_five() -> Outcome {
    Outcome::Answered { message: message(5), seq: 5 }
}
