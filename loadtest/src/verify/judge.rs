//! Compares what was acknowledged with what is stored, and that with what everybody saw.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::device::{Seen, Told, told};
use super::figures::Figures;
use super::ledger::{Ledger, Sent, note_reason};
use super::verdict::{Latency, Verdict};
use crate::rest::{Rest, RestError};
use crate::socket::Door;

/// Rows of a page of history.
const PAGE: usize = 100;
/// Facts that are kept of each kind.
const FACTS: usize = 5;

/// All messages of the conversation as a node has them, ascending.
pub async fn read_log(rest: &Rest, conversation: &str) -> Result<Vec<Told>, RestError> {
    let mut log: Vec<Told> = Vec::new();
    loop {
        let before = log.first().map_or_else(String::new, |first| format!("&before_seq={}", first.seq));
        let page = rest.history(conversation, &format!("limit={PAGE}{before}")).await?;
        let mut rows: Vec<Told> = page["messages"].as_array().into_iter().flatten().map(told).collect();
        let is_last = page["has_more"] != true || rows.is_empty();
        rows.append(&mut log);
        log = rows;
        if is_last {
            return Ok(log);
        }
    }
}

/// Counts, and keeps the first facts.
#[derive(Default)]
struct Findings {
    count: usize,
    facts: Vec<String>,
}

impl Findings {
    fn add(&mut self, fact: impl FnOnce() -> String) {
        self.count += 1;
        if self.facts.len() < FACTS {
            self.facts.push(fact());
        }
    }
}

/// What all of this comes to.
pub fn judge(ledger: &Ledger, logs: &[Option<Vec<Told>>], views: &[(String, Seen)], away: &Seen, took: Duration) -> Verdict {
    let read: Vec<&Vec<Told>> = logs.iter().flatten().collect();
    let (sent, log) = (ledger.sent(), read.first().copied().cloned().unwrap_or_default());
    let (mut lost, mut doubled, mut order, mut untrue) = Default::default();
    // Whatever is stored is told, also what its author was never answered.
    let authors = ledger.begun();
    judge_log(&sent, &log, &authors, &mut lost, &mut doubled);
    judge_places(&log, &mut untrue);
    judge_answers(&sent, &mut order);
    for (user, seen) in views {
        let has: HashSet<&str> = seen.told.iter().map(|told| told.id.as_str()).collect();
        let of_others = log.iter().filter(|row| authors.get(&row.content).is_some_and(|author| author != user));
        for row in of_others.filter(|row| !has.contains(row.id.as_str())) {
            lost.add(|| format!("{user} was never told of row {}, {:?}", row.seq, row.content));
        }
        judge_view(user, seen, &mut doubled, &mut order);
        judge_words(user, seen, &log, &mut untrue);
    }
    let has: HashSet<&str> = away.told.iter().map(|told| told.id.as_str()).collect();
    for row in log.iter().filter(|row| !has.contains(row.id.as_str())) {
        lost.add(|| format!("who was away does not find row {}, {:?}", row.seq, row.content));
    }
    judge_view("who was away", away, &mut doubled, &mut order);
    judge_words("who was away", away, &log, &mut untrue);
    let (refused, internal_errors) = (ledger.refused(), ledger.internal_errors());
    let mut facts: Vec<String> = [&lost, &doubled, &order, &untrue].into_iter().flat_map(|findings| findings.facts.clone()).collect();
    facts.extend(refused.iter().chain(&internal_errors).take(FACTS).map(|why| format!("refused: {why}")));
    let mut why_ended = Vec::new();
    views.iter().flat_map(|(_, seen)| &seen.why_ended).for_each(|why| note_reason(&mut why_ended, why.clone()));
    let sum = |count: fn(&Seen) -> usize| views.iter().map(|(_, seen)| count(seen)).sum::<usize>();
    let mut resumes_in_time = BTreeMap::<Door, usize>::new();
    for (door, count) in views.iter().flat_map(|(_, seen)| &seen.resumes_in_time) {
        *resumes_in_time.entry(*door).or_default() += count;
    }
    let figures = Figures {
        acknowledged: sent.len(),
        stored: log.len(),
        delivered: sum(|seen| seen.delivered),
        resumed: sum(|seen| seen.resumed) + away.resumed,
        lost: lost.count,
        doubled: doubled.count,
        out_of_order: order.count,
    };
    Verdict {
        figures,
        untrue: untrue.count,
        unanswered: authors.len() - sent.len() - refused.len() - ledger.given_up(),
        failed_calls: ledger.failed_calls(),
        why_failed: ledger.why_failed(),
        why_ended,
        cut_off: ledger.cut_off(),
        stored_unanswered: ledger.stored_unanswered(),
        refused: refused.len(),
        internal_errors: internal_errors.len(),
        disagreeing: read.iter().filter(|other| ***other != log).count(),
        unread: logs.len() - read.len(),
        gone: sum(|seen| usize::from(seen.gave_up)),
        resumes_in_time,
        late_resumes: sum(|seen| seen.late_resumes),
        fetches: sum(|seen| seen.fetches),
        longest_away: views.iter().map(|(_, seen)| seen.longest_away.as_secs_f64()).fold(0.0, f64::max),
        retries: sent.iter().map(|sent| sent.tries - 1).sum(),
        connections: sum(|seen| seen.connections),
        seconds: took.as_secs_f64(),
        latency: latency(&sent),
        facts,
    }
}

fn judge_log(sent: &[Sent], log: &[Told], begun: &HashMap<String, String>, lost: &mut Findings, doubled: &mut Findings) {
    let rows: HashMap<&str, &Told> = log.iter().map(|row| (row.id.as_str(), row)).collect();
    for one in sent {
        match rows.get(one.id.as_str()) {
            Some(row) if row.seq == one.seq && row.content == one.content => {}
            Some(row) => {
                lost.add(|| format!("{:?} was acknowledged at {}, and {} stands at {}", one.content, one.seq, row.content, row.seq));
            }
            None => lost.add(|| format!("{:?} was acknowledged at {} and is not stored", one.content, one.seq)),
        }
    }
    let mut contents = HashMap::new();
    for row in log {
        if let Some(before) = contents.insert(row.content.as_str(), row.seq) {
            doubled.add(|| format!("{:?} stands at {before} and at {}", row.content, row.seq));
        }
        if !begun.contains_key(&row.content) {
            doubled.add(|| format!("nobody has sent {:?}, at {}", row.content, row.seq));
        }
    }
}

/// A log has no gap, and no place twice: row 1 made the conversation.
fn judge_places(log: &[Told], untrue: &mut Findings) {
    let mut before = 1;
    for row in log {
        if row.seq != before + 1 {
            untrue.add(|| format!("{:?} stands at {}, next to row {before}", row.content, row.seq));
        }
        before = row.seq;
    }
}

/// What somebody was told is what is stored.
fn judge_words(who: &str, seen: &Seen, log: &[Told], untrue: &mut Findings) {
    let rows: HashMap<&str, &Told> = log.iter().map(|row| (row.id.as_str(), row)).collect();
    for told in seen.told.iter().filter(|told| rows.get(told.id.as_str()) != Some(told)) {
        untrue.add(|| format!("{who} was told of row {}, {:?}, which is not stored so", told.seq, told.content));
    }
}

/// What was acknowledged before something else was begun stands before it.
fn judge_answers(sent: &[Sent], order: &mut Findings) {
    let mut begun: Vec<_> = sent.iter().collect();
    begun.sort_by_key(|sent| sent.began);
    let mut ended: Vec<_> = sent.iter().map(|sent| (sent.ended, sent.seq)).collect();
    ended.sort_unstable();
    let (mut ended, mut highest) = (ended.into_iter().peekable(), 0);
    for one in begun {
        while let Some((_, before)) = ended.next_if(|(until, _)| *until < one.began) {
            highest = highest.max(before);
        }
        if one.seq < highest {
            order.add(|| format!("row {} was sent after row {highest} was acknowledged", one.seq));
        }
    }
}

fn judge_view(who: &str, seen: &Seen, doubled: &mut Findings, order: &mut Findings) {
    for told in &seen.doubled {
        doubled.add(|| format!("{who} was told again of row {}, {:?}", told.seq, told.content));
    }
    for told in &seen.late {
        order.add(|| format!("{who} was told of row {}, {:?}, after a later one", told.seq, told.content));
    }
}

fn latency(sent: &[Sent]) -> Latency {
    let mut took: Vec<f64> = sent.iter().map(|sent| sent.took.as_secs_f64() * 1_000.0).collect();
    took.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| took.get(((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1))).copied().unwrap_or(0.0);
    Latency { p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const SENDERS: [&str; 2] = ["ada", "bob"];

    /// Two people have sent three messages each in turn, one after the other, and everything is right; then this goes wrong.
    fn judged(change: impl FnOnce(&mut Vec<Sent>, &mut Vec<Told>, &mut [Vec<Told>; 3])) -> Verdict {
        let (ledger, began) = (Ledger::default(), Instant::now());
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let sent = (0..6_u64).map(|n| Sent {
            user: SENDERS[n as usize % 2].to_owned(),
            content: format!("content {n}"),
            began: at(2 * n),
            ended: at(2 * n + 1),
            took: Duration::from_millis(n + 1),
            id: format!("id {n}"),
            seq: n as i64 + 2,
            tries: 1,
        });
        let mut sent: Vec<Sent> = sent.collect();
        let told = |sent: &Sent| Told { id: sent.id.clone(), seq: sent.seq, content: sent.content.clone() };
        let mut log: Vec<Told> = sent.iter().map(told).collect();
        let of_others = |user: &str| sent.iter().filter(|sent| sent.user != user).map(told).collect::<Vec<_>>();
        let mut views = [of_others(SENDERS[0]), of_others(SENDERS[1]), log.clone()];
        for n in 0..6 {
            ledger.begin(&format!("content {n}"), SENDERS[n % 2]);
        }
        change(&mut sent, &mut log, &mut views);
        for sent in sent {
            ledger.acknowledge(sent);
        }
        let [ada, bob, away] = views.map(|view| {
            let mut seen = Seen::default();
            for told in view {
                seen.see(told, true);
            }
            seen
        });
        let views = [(SENDERS[0].to_owned(), ada), (SENDERS[1].to_owned(), bob)];
        judge(&ledger, &[Some(log.clone()), Some(log)], &views, &away, Duration::from_secs(12))
    }

    /// Lost, doubled, out of order, unanswered, untrue.
    fn counts(verdict: &Verdict) -> [usize; 5] {
        [verdict.figures.lost, verdict.figures.doubled, verdict.figures.out_of_order, verdict.unanswered, verdict.untrue]
    }

    #[test]
    fn what_is_right_holds() {
        let verdict = judged(|_, _, _| {});
        assert!(verdict.holds(), "{verdict}");
        assert_eq!((verdict.figures.acknowledged, verdict.figures.stored, verdict.figures.delivered), (6, 6, 6));
        assert!((verdict.latency.max_ms - 6.0).abs() < 0.01, "{verdict}");
    }

    #[test]
    fn what_is_lost_is_found() {
        // Not stored, and so nobody was told: the log and all who were to be told of it.
        let without = |told: &mut Vec<Told>| told.retain(|told| told.seq != 4);
        assert_eq!(counts(&judged(|_, log, views| [log].into_iter().chain(views).for_each(without))), [1, 0, 0, 0, 1]);
        // Stored, and one device was not told.
        assert_eq!(counts(&judged(|_, _, views| drop(views[1].remove(0)))), [1, 0, 0, 0, 0]);
        // The same, and its author was never answered.
        let unanswered = judged(|sent, _, views| {
            sent.remove(2);
            views[1].remove(1);
        });
        assert_eq!(counts(&unanswered), [1, 0, 0, 1, 0], "{unanswered}");
        // Who was away does not find it.
        assert_eq!(counts(&judged(|_, _, views| drop(views[2].pop()))), [1, 0, 0, 0, 0]);
        // Another message stands where it was acknowledged.
        assert_eq!(counts(&judged(|sent, _, _| sent[2].seq = 5)), [1, 0, 0, 0, 0]);
    }

    #[test]
    fn what_comes_twice_is_found() {
        let again = |told: &Told, seq| Told { id: format!("id at {seq}"), seq, content: told.content.clone() };
        // Stored twice; who was away finds both, and the device that was to be told of it was told once.
        let verdict = judged(|_, log, views| {
            let row = again(&log[1], 8);
            log.push(row.clone());
            views[2].push(row);
        });
        assert_eq!(counts(&verdict), [1, 1, 0, 0, 0], "{verdict}");
        // Told twice.
        let verdict = judged(|_, _, views| {
            let told = views[0][1].clone();
            views[0].push(told);
        });
        assert_eq!(counts(&verdict), [0, 1, 0, 0, 0], "{verdict}");
        // Of nobody.
        let verdict = judged(|_, log, views| {
            let row = Told { id: "id".to_owned(), seq: 8, content: "whose?".to_owned() };
            log.push(row.clone());
            views[2].push(row);
        });
        assert_eq!(counts(&verdict), [0, 1, 0, 0, 0], "{verdict}");
    }

    #[test]
    fn a_wrong_order_is_found() {
        assert_eq!(counts(&judged(|_, _, views| views[0].swap(0, 1))), [0, 0, 1, 0, 0]);
        // What was acknowledged earlier stands later.
        let verdict = judged(|sent, log, views| {
            for told in [log].into_iter().chain(views).flatten() {
                told.seq = if told.seq == 2 {
                    3
                } else if told.seq == 3 {
                    2
                } else {
                    told.seq
                };
            }
            (sent[0].seq, sent[1].seq) = (3, 2);
        });
        // The view of who was away has them in the old order.
        assert_eq!(verdict.figures.out_of_order, 2, "{verdict}");
    }

    #[test]
    fn what_is_untrue_is_found() {
        let ghost = Told { id: "id".to_owned(), seq: 9, content: "not stored".to_owned() };
        assert_eq!(counts(&judged(|_, _, views| views[0].push(ghost))), [0, 0, 0, 0, 1]);
        assert_eq!(counts(&judged(|_, _, views| views[1][2].content.push('!'))), [0, 0, 0, 0, 1]);
        assert_eq!(counts(&judged(|_, _, views| views[1][2].seq = 100)), [0, 0, 0, 0, 1]);
        // The last place is there twice: what was acknowledged there stands beside what nobody was told of.
        let verdict = judged(|_, log, _| log.push(Told { id: "id".to_owned(), content: "content 6".to_owned(), ..log[5].clone() }));
        assert_eq!(verdict.untrue, 1, "{verdict}");
    }

    #[test]
    fn what_is_not_answered_is_found() {
        assert_eq!(counts(&judged(|sent, _, _| drop(sent.pop()))), [0, 0, 0, 1, 0]);
    }

    #[test]
    fn nodes_that_disagree_or_cannot_be_read_are_found() {
        let log = [Told { id: "id".to_owned(), seq: 2, content: "content".to_owned() }];
        let ledger = Ledger::default();
        ledger.begin("content", "ada");
        let verdict = judge(&ledger, &[None, Some(log.to_vec()), Some(Vec::new())], &[], &Seen::default(), Duration::ZERO);
        assert_eq!((verdict.disagreeing, verdict.unread, verdict.figures.stored), (1, 1, 1));
    }

    #[test]
    fn devices_that_stay_away_and_internal_errors_are_found() {
        let ledger = Ledger::default();
        ledger.internal_error("500".to_owned());
        let seen = Seen { gave_up: true, ..Seen::default() };
        let verdict = judge(&ledger, &[Some(Vec::new())], &[("ada".to_owned(), seen)], &Seen::default(), Duration::ZERO);
        assert_eq!((verdict.gone, verdict.internal_errors, verdict.holds()), (1, 1, false));
        assert!(verdict.to_string().contains("devices that stayed away 1, internal errors 1;"), "{verdict}");
    }
}
