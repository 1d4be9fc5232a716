//! Taking what the other nodes send: envelopes for people here, what all must know, and what each node says of itself. What was
//! lost on its way is said to the hub, which reads it from the store. What this node says of itself goes out here too.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::clocks::Moment;
use super::follow::Taken;
use super::send::as_late;
use super::{Broadcast, Shared, skip};
use crate::bus::Bus as _;
use crate::bus::codec::{self, Foreign, Numbered};
use crate::bus::routes::{Ended, Said};
use crate::clock::{Clock as _, Timestamp};
use crate::event::{Envelope, Parting};
use crate::id::NodeId;

/// While nodes of two versions run side by side, heads are read no more often than this for what one does not understand.
const FOREIGN_LOOKS_APART: Duration = Duration::from_secs(5);

impl Shared {
    pub async fn take_live(&self, taken: Taken) {
        match taken {
            Taken::Message(bytes, _) => {
                if let Err(foreign) = self.take_numbered(&bytes).await {
                    skip("live", &foreign);
                    self.look_for_foreign().await;
                }
            }
            // What was missed shows in the numbers too, unless it was all that the server had.
            Taken::Missed => self.missed().await,
        }
    }

    async fn take_numbered(&self, bytes: &Bytes) -> Result<(), Foreign> {
        let Numbered { from, number, value } = codec::read_numbered(bytes)?;
        if from == self.node {
            self.live_pulse.heard();
            return Ok(());
        }
        let is_whole = match value {
            Some(_) => self.arrivals.next(from, number),
            None => self.arrivals.upto(from, number),
        };
        if !is_whole {
            metrics::counter!("urge_bus_gaps_total").increment(1);
            tracing::debug!(%from, number, "messages of another node were lost on their way");
            self.missed().await;
        }
        match value {
            Some(value) => self.hand_over(codec::decode(&value)?).await,
            // What is lost of this is asked for again.
            None => drop(self.live.publish(self.names.heard(from), codec::upto(self.node, number)).await),
        }
        Ok(())
    }

    /// Takes what nodes answer who are told how far the numbers have come to them.
    pub fn take_word(&self, bytes: &Bytes) {
        match codec::read_numbered(bytes) {
            Ok(Numbered { from, number, .. }) => self.departures.confirm(from, number),
            Err(foreign) => skip("live", &foreign),
        }
    }

    /// What a node of another version sends is in the store for this one too.
    async fn look_for_foreign(&self) {
        let now = Instant::now();
        let is_due = {
            let mut last = self.looked_for_foreign.lock();
            let is_due = last.is_none_or(|last| now.duration_since(last) >= FOREIGN_LOOKS_APART);
            if is_due {
                *last = Some(now);
            }
            is_due
        };
        if is_due {
            self.missed().await;
        }
    }

    pub async fn take_presence(&self, taken: Taken) {
        let Taken::Message(bytes, at) = taken else {
            self.is_caught_up.store(false, Ordering::Relaxed);
            self.owes_look.store(true, Ordering::Relaxed);
            self.herald.say_all();
            // Who was revoked meanwhile is among what was missed.
            return self.hand_over(Envelope::Missed { logins: true }).await;
        };
        match codec::decode(&bytes) {
            Ok(Broadcast::Said { from, said, clock_ms }) => {
                if let Some(clock_ms) = clock_ms {
                    self.note_clock(from, Timestamp(clock_ms), at);
                }
                if from == self.node {
                    self.presence_pulse.heard();
                    self.echo(&said, at).await;
                } else {
                    self.hear(from, said, at).await;
                }
            }
            Ok(Broadcast::All { from, .. } | Broadcast::Look { from, .. }) if from == self.node => {}
            Ok(Broadcast::All { envelope, .. }) if self.is_caught_up.load(Ordering::Relaxed) => self.hand_over(envelope).await,
            Ok(Broadcast::All { envelope, .. }) => self.hand_over(as_late(envelope)).await,
            Ok(Broadcast::Look { logins, .. }) => self.hand_over(Envelope::Missed { logins }).await,
            Err(foreign) => skip("presence", &foreign),
        }
    }

    /// Takes what that node's clock said.
    fn note_clock(&self, from: NodeId, said: Timestamp, at: Duration) {
        if let Some(ahead_ms) = self.clocks.lock().note(from, said, at, self.moment()) {
            self.clock.set_ahead_by(ahead_ms);
        }
    }

    fn moment(&self) -> Moment {
        Moment { machine: self.clock.machine(), instant: Instant::now() }
    }

    /// Whether this node knows who is where, for all that the others have said.
    pub fn knows_routes(&self) -> bool {
        self.presence.is_up() && self.is_caught_up.load(Ordering::Relaxed)
    }

    /// This node's own words have come back.
    async fn echo(&self, said: &Said, at: Duration) {
        if matches!(said, Said::Snapshot { part, parts, .. } if part + 1 == *parts) && self.owes_look.swap(false, Ordering::Relaxed) {
            self.missed().await;
        }
        let was_behind = !self.is_caught_up.swap(true, Ordering::Relaxed);
        let was_deaf = match said {
            Said::Delta { version, .. } => Some(self.herald.heard(*version)),
            _ => None,
        };
        let echoed = {
            let mut routes = self.routes.lock();
            if let Said::Revived { of } = said {
                routes.revival_is_said(*of);
            }
            let echoed = routes.echo(at);
            self.departures.prune(|node| routes.knows(node));
            self.arrivals.prune(|node| routes.knows(node));
            self.clocks.lock().prune(|node| routes.knows(node));
            metrics::gauge!("urge_bus_nodes").set(routes.nodes() as f64 + 1.0);
            echoed
        };
        for node in echoed.ask {
            self.herald.ask(node);
        }
        if !echoed.buried.is_empty() {
            // What they had written, or ended, and told nobody of yet.
            self.hand_over(Envelope::Missed { logins: true }).await;
        }
        for node in echoed.revived {
            self.herald.revived(node);
        }
        for ended in echoed.ended {
            self.see_to(ended).await;
        }
        match was_deaf {
            // Before it had heard its own words for the first time it told all to look whatever it sent.
            _ if echoed.is_first => self.newcomers.forget(),
            _ if was_behind => self.newcomers.settle(true),
            Some(was_deaf) => self.newcomers.settle(was_deaf),
            None => {}
        }
    }

    async fn hear(&self, from: NodeId, said: Said, at: Duration) {
        let heard = {
            let mut routes = self.routes.lock();
            let heard = routes.hear(from, said, at);
            metrics::gauge!("urge_bus_nodes").set(routes.nodes() as f64 + 1.0);
            heard
        };
        self.newcomers.add(from, heard.came, heard.late);
        if heard.ask {
            self.herald.ask(from);
        }
        if heard.revived {
            self.herald.revived(from);
        }
        if heard.asked {
            self.herald.say_all();
        }
        if heard.was_buried {
            // The others sent nothing here, and do again when they know anew who is.
            self.owes_look.store(true, Ordering::Relaxed);
            self.herald.say_all();
            self.hand_over(Envelope::Buried).await;
        }
        if !heard.typists.is_empty() {
            self.hand_over(Envelope::Typing(heard.typists.into())).await;
        }
        for went in heard.left {
            let parting = match went.told {
                true => Parting::Told,
                // Had both gone at the same moment, each took the other for the one who tells.
                false if self.node < from => Parting::Untold,
                false => Parting::Left,
            };
            self.hand_over(Envelope::Left { user_id: went.user_id, parting }).await;
        }
        for loose in heard.tells {
            self.hand_over(Envelope::Loose(loose)).await;
        }
        if let Some(ended) = heard.ended {
            self.see_to(ended).await;
        }
    }

    async fn see_to(&self, Ended { last, orphans }: Ended) {
        // The bus's clock may be ahead of this one: nobody was seen at a time to come.
        let gone_at = Timestamp(last.as_millis() as i64).min(self.clock.now());
        self.hand_over(Envelope::Orphans { users: orphans.into(), gone_at }).await;
    }

    /// Rows may not have come: they are to be read from the store.
    pub async fn missed(&self) {
        self.hand_over(Envelope::Missed { logins: false }).await;
    }

    pub async fn hand_over(&self, envelope: Envelope) {
        // It fails when the hub has stopped: then nobody is here any more.
        let _ = self.local.publish(envelope).await;
    }

    /// Says something of this node. What is lost is a gap, which asks for a snapshot; what is to be told the herald keeps.
    pub async fn say(&self, said: Said) {
        metrics::counter!("urge_bus_presence_messages_total").increment(1);
        let here = self.moment();
        // Every few seconds, also while nobody is heard.
        if self.clocks.lock().was_set(here) {
            self.clock.set_ahead_by(0);
        }
        let said = async {
            let clock_ms = Some(here.machine.0);
            let bytes = codec::encode(&Broadcast::Said { from: self.node, said, clock_ms })?;
            self.presence.publish(self.names.presence(self.node), bytes).await
        };
        match said.await {
            Ok(()) => self.presence_pulse.said(Instant::now().into()),
            Err(error) => tracing::debug!(%error, "the other nodes were not told who is here; they will be by the next snapshot"),
        }
    }
}
