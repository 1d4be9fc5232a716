//! Compares what was acknowledged with what is stored, and that with what everybody saw.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::device::{Seen, Told, told};
use super::ledger::{Ledger, Sent};
use crate::rest::{Rest, RestError};

/// Rows of a page of history.
const PAGE: usize = 100;
/// Facts that are kept of each kind.
const FACTS: usize = 5;

/// How long acknowledgements took, of the attempt that was acknowledged.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Half of them at most so long, milliseconds.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// All.
    pub max_ms: f64,
}

/// What a run came to. It holds when nothing is lost, doubled, out of order, unanswered or refused, and nodes agree.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Messages that were acknowledged.
    pub acknowledged: usize,
    /// Messages in the log.
    pub stored: usize,
    /// Tellings over open connections, of all devices together.
    pub delivered: usize,
    /// Tellings when devices came back, by `resume` and `/sync`.
    pub resumed: usize,
    /// Acknowledged and not stored, or stored and never told to a device.
    pub lost: usize,
    /// Stored twice, or told twice to a device.
    pub doubled: usize,
    /// Told after a later one, or stored before what had been acknowledged before it was sent.
    pub out_of_order: usize,
    /// Begun and neither acknowledged nor refused when all was quiet.
    pub unanswered: usize,
    /// Refused for good.
    pub refused: usize,
    /// Nodes that read another log than the first.
    pub disagreeing: usize,
    /// How often messages were tried beyond the first time.
    pub retries: u32,
    /// Sends by REST that failed: no answer, or that it may work later.
    pub failed_calls: usize,
    /// How often devices connected.
    pub connections: usize,
    /// How long people wrote, seconds.
    pub seconds: f64,
    /// How long acknowledgements took.
    pub latency: Latency,
    /// The first facts of each kind.
    pub facts: Vec<String>,
}

impl Verdict {
    /// Whether the promise was kept.
    pub fn holds(&self) -> bool {
        [self.lost, self.doubled, self.out_of_order, self.unanswered, self.refused, self.disagreeing].iter().all(|count| *count == 0)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "acknowledged {}, stored {}, delivered {}, resumed {}, lost {}, doubled {}, out of order {}",
            self.acknowledged, self.stored, self.delivered, self.resumed, self.lost, self.doubled, self.out_of_order
        )?;
        for (count, what) in [(self.unanswered, "unanswered"), (self.refused, "refused"), (self.disagreeing, "nodes that disagree")] {
            if count > 0 {
                write!(f, ", {what} {count}")?;
            }
        }
        let Latency { p50_ms, p99_ms, max_ms } = self.latency;
        write!(
            f,
            "; {:.0} s, {} retries, {} failed calls, {} connections; ",
            self.seconds, self.retries, self.failed_calls, self.connections
        )?;
        write!(f, "ack p50 {p50_ms:.1} p99 {p99_ms:.1} max {max_ms:.0} ms")?;
        self.facts.iter().try_for_each(|fact| write!(f, "\n  {fact}"))
    }
}

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
pub fn judge(ledger: &Ledger, logs: &[Vec<Told>], views: &[(String, Seen)], away: &Seen, took: Duration) -> Verdict {
    let (sent, log) = (ledger.sent(), logs.first().cloned().unwrap_or_default());
    let (mut lost, mut doubled, mut order) = (Findings::default(), Findings::default(), Findings::default());
    judge_log(&sent, &log, &ledger.begun(), &mut lost, &mut doubled);
    judge_answers(&sent, &mut order);
    let authors: HashMap<&str, &str> = sent.iter().map(|sent| (sent.id.as_str(), sent.user.as_str())).collect();
    for (user, seen) in views {
        let has: HashSet<&str> = seen.told.iter().map(|told| told.id.as_str()).collect();
        let of_others = log.iter().filter(|row| authors.get(row.id.as_str()).is_some_and(|author| author != user));
        for row in of_others.filter(|row| !has.contains(row.id.as_str())) {
            lost.add(|| format!("{user} was never told of row {}, {:?}", row.seq, row.content));
        }
        judge_view(user, seen, &mut doubled, &mut order);
    }
    let has: HashSet<&str> = away.told.iter().map(|told| told.id.as_str()).collect();
    for row in log.iter().filter(|row| !has.contains(row.id.as_str())) {
        lost.add(|| format!("who was away does not find row {}, {:?}", row.seq, row.content));
    }
    judge_view("who was away", away, &mut doubled, &mut order);
    let same = |other: &&Vec<Told>| other.len() == log.len() && other.iter().zip(&log).all(|(a, b)| a.id == b.id && a.seq == b.seq);
    let refused = ledger.refused();
    let mut facts: Vec<String> = [&lost, &doubled, &order].into_iter().flat_map(|findings| findings.facts.clone()).collect();
    facts.extend(refused.iter().take(FACTS).map(|why| format!("refused: {why}")));
    Verdict {
        acknowledged: sent.len(),
        stored: log.len(),
        delivered: views.iter().map(|(_, seen)| seen.delivered).sum(),
        resumed: views.iter().map(|(_, seen)| seen.resumed).sum::<usize>() + away.resumed,
        lost: lost.count,
        doubled: doubled.count,
        out_of_order: order.count,
        unanswered: ledger.begun().len() - sent.len() - refused.len() - ledger.given_up(),
        failed_calls: ledger.failed_calls(),
        refused: refused.len(),
        disagreeing: logs.iter().filter(|other| !same(other)).count(),
        retries: sent.iter().map(|sent| sent.tries - 1).sum(),
        connections: views.iter().map(|(_, seen)| seen.connections).sum(),
        seconds: took.as_secs_f64(),
        latency: latency(&sent),
        facts,
    }
}

fn judge_log(sent: &[Sent], log: &[Told], begun: &[String], lost: &mut Findings, doubled: &mut Findings) {
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
    let (begun, mut contents) = (begun.iter().map(String::as_str).collect::<HashSet<_>>(), HashMap::new());
    for row in log {
        if let Some(before) = contents.insert(row.content.as_str(), row.seq) {
            doubled.add(|| format!("{:?} stands at {before} and at {}", row.content, row.seq));
        }
        if !begun.contains(row.content.as_str()) {
            doubled.add(|| format!("nobody has sent {:?}, at {}", row.content, row.seq));
        }
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
            ledger.begin(&format!("content {n}"));
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
        judge(&ledger, &[log.clone(), log], &views, &away, Duration::from_secs(12))
    }

    fn counts(verdict: &Verdict) -> [usize; 4] {
        [verdict.lost, verdict.doubled, verdict.out_of_order, verdict.unanswered]
    }

    #[test]
    fn what_is_right_holds() {
        let verdict = judged(|_, _, _| {});
        assert!(verdict.holds(), "{verdict}");
        assert_eq!((verdict.acknowledged, verdict.stored, verdict.delivered), (6, 6, 6));
        assert!((verdict.latency.max_ms - 6.0).abs() < 0.01, "{verdict}");
    }

    #[test]
    fn what_is_lost_is_found() {
        // Not stored, and so nobody was told: the log and all who were to be told of it.
        let without = |told: &mut Vec<Told>| told.retain(|told| told.seq != 4);
        assert_eq!(counts(&judged(|_, log, views| [log].into_iter().chain(views).for_each(without))), [1, 0, 0, 0]);
        // Stored, and one device was not told.
        assert_eq!(counts(&judged(|_, _, views| drop(views[1].remove(0)))), [1, 0, 0, 0]);
        // Who was away does not find it.
        assert_eq!(counts(&judged(|_, _, views| drop(views[2].pop()))), [1, 0, 0, 0]);
        // Another message stands where it was acknowledged.
        assert_eq!(counts(&judged(|sent, _, _| sent[2].seq = 5)), [1, 0, 0, 0]);
    }

    #[test]
    fn what_comes_twice_is_found() {
        let again = |told: &Told, seq| Told { id: format!("id at {seq}"), seq, content: told.content.clone() };
        // Stored twice; who was away finds both, and the second has an author that nobody acknowledged.
        let verdict = judged(|_, log, views| {
            let row = again(&log[1], 8);
            log.push(row.clone());
            views[2].push(row);
        });
        assert_eq!(counts(&verdict), [0, 1, 0, 0], "{verdict}");
        // Told twice.
        let verdict = judged(|_, _, views| {
            let told = views[0][1].clone();
            views[0].push(told);
        });
        assert_eq!(counts(&verdict), [0, 1, 0, 0], "{verdict}");
        // Of nobody.
        let verdict = judged(|_, log, views| {
            let row = Told { id: "id".to_owned(), seq: 8, content: "whose?".to_owned() };
            log.push(row.clone());
            views[2].push(row);
        });
        assert_eq!(counts(&verdict), [0, 1, 0, 0], "{verdict}");
    }

    #[test]
    fn a_wrong_order_is_found() {
        assert_eq!(counts(&judged(|_, _, views| views[0].swap(0, 1))), [0, 0, 1, 0]);
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
        assert_eq!(verdict.out_of_order, 2, "{verdict}");
    }

    #[test]
    fn what_is_not_answered_is_found() {
        assert_eq!(counts(&judged(|sent, _, _| drop(sent.pop()))), [0, 0, 0, 1]);
    }

    #[test]
    fn nodes_that_disagree_are_found() {
        let log = [Told { id: "id".to_owned(), seq: 2, content: "content".to_owned() }];
        let ledger = Ledger::default();
        ledger.begin("content");
        let verdict = judge(&ledger, &[log.to_vec(), Vec::new()], &[], &Seen::default(), Duration::ZERO);
        assert_eq!(verdict.disagreeing, 1);
    }
}
