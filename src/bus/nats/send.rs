//! Sending to other nodes: one envelope a node, written once, with a number. What cannot be sent now is kept and sent later, in
//! its order; what gets lost on its way shows as a gap in the numbers, or by the last of them, for which the other node is asked.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use super::newcomers::Users;
use super::numbers::Departure;
use super::unsent::Due;
use super::{Broadcast, LEAVE, Shared};
use crate::bus::{BusError, codec};
use crate::event::Envelope;
use crate::id::{NodeId, UserId};

/// How often nodes are told how far the numbers have come, those to whom anything was sent since.
const TAILS_APART: Duration = Duration::from_millis(250);
/// How often this node says something to itself, in so many of those periods.
const OWN_WORDS_APART: u32 = 12;
/// How long the server may take to say that it has such a tail, for a node that stops.
const ANSWER: Duration = Duration::from_secs(2);
/// Users in one envelope who may have been overlooked.
const MOST_NAMED: usize = 2_048;
/// Tails that are under way at a time.
const TAILS: usize = 64;
/// Pause before what could not be sent is tried again, while the server is connected.
const SEND_AGAIN: Duration = Duration::from_millis(250);
/// How often one envelope is tried while the server is connected.
const TRIES: u32 = 40;
/// Nodes are told to look no more often than this.
const LOOKS_APART: Duration = Duration::from_secs(1);

impl Shared {
    /// The other nodes that have some of these.
    pub fn nodes_of(&self, audience: &[UserId]) -> HashSet<NodeId> {
        let routes = self.routes.lock();
        audience.iter().flat_map(|user| routes.of(*user)).copied().collect()
    }

    /// Sends what is for others to all whom it concerns, or keeps it until it can be sent.
    pub async fn send_or_keep(&self, envelope: Envelope) {
        let (unsent, is_live) = match &envelope {
            Envelope::Visibility { .. } | Envelope::Revoked { .. } => (&self.unsent_control, false),
            _ => (&self.unsent_live, true),
        };
        if is_ephemeral(&envelope) {
            let _ = self.send(&envelope, is_live).await;
            return;
        }
        // What waits goes first: a message is not delivered again after it was read.
        if !unsent.is_empty() || self.send(&envelope, is_live).await.is_err() {
            unsent.keep(envelope);
        }
    }

    /// Sends what waits, in its order, whenever the bus is there.
    pub async fn send_again(self: Arc<Self>, is_live: bool) {
        let (unsent, link) = if is_live { (&self.unsent_live, &self.live) } else { (&self.unsent_control, &self.presence) };
        let mut tries = 0;
        loop {
            let due = unsent.take().await;
            link.up().await;
            let sent = match &due {
                Due::Envelope(envelope) => self.send(&as_late(Envelope::clone(envelope)), is_live).await,
                Due::Look => self.tell_all(&Broadcast::Look { from: self.node, logins: !is_live }).await,
            };
            if sent.is_ok() {
                tries = 0;
                unsent.sent();
                metrics::counter!("urge_bus_repeated_total", "kind" => link.kind).increment(1);
                if due == Due::Look {
                    // Each costs all nodes a look at all heads: of many one is enough.
                    tokio::time::sleep(LOOKS_APART).await;
                }
            } else if tries >= TRIES && matches!(due, Due::Envelope(_)) {
                // The server takes others: this one it never will.
                tracing::warn!(kind = link.kind, "an envelope cannot be sent, and is given up: the other nodes are told to look");
                tries = 0;
                unsent.sent();
                unsent.look();
            } else {
                tries += 1;
                unsent.back(due);
                // A server that is connected and refuses says nobody when it no longer does.
                tokio::time::sleep(SEND_AGAIN).await;
            }
        }
    }

    async fn send(&self, envelope: &Envelope, is_live: bool) -> Result<(), BusError> {
        match audience(envelope) {
            Some(audience) if is_live => self.send_to(self.nodes_of(audience), envelope).await,
            _ => self.tell_all(&Broadcast::All { from: self.node, envelope: envelope.clone() }).await,
        }
    }

    /// Sends to these nodes, written once. All of the audience goes along: a node may have more of them by now than this one has
    /// heard of, and takes what it was told for told to everybody.
    async fn send_to(&self, nodes: HashSet<NodeId>, envelope: &Envelope) -> Result<(), BusError> {
        if nodes.is_empty() {
            return Ok(());
        }
        let bytes = codec::encode(envelope)?;
        let mut sent = Ok(());
        for node in nodes {
            metrics::counter!("urge_bus_live_messages_total").increment(1);
            let departure = self.departures.to(node);
            let put = departure.next(|number| self.live.put(self.names.live(node), codec::numbered(self.node, number, &bytes)));
            // The others are told whatever becomes of one.
            sent = self.live.in_time(put).await.and(sent);
        }
        sent
    }

    /// Names to each node those of its users who may have been overlooked, for ever.
    pub async fn name_overlooked(&self) {
        loop {
            let (node, users) = self.newcomers.next().await;
            let named: Vec<Envelope> = match &users {
                Users::All => vec![Envelope::Overlooked { users: None }],
                Users::Some(users) => {
                    let users: Vec<UserId> = users.iter().copied().collect();
                    metrics::counter!("urge_bus_overlooked_total").increment(users.len() as u64);
                    users.chunks(MOST_NAMED).map(|users| Envelope::Overlooked { users: Some(users.into()) }).collect()
                }
            };
            for envelope in named {
                // A node that has ended has nobody any more.
                let is_there = self.routes.lock().knows(node);
                if is_there && self.send_to(HashSet::from([node]), &envelope).await.is_err() {
                    self.newcomers.put(node, users);
                    self.live.up().await;
                    // A server that is connected and refuses says nobody when it no longer does.
                    tokio::time::sleep(SEND_AGAIN).await;
                    break;
                }
            }
        }
    }

    /// The living nodes that may not know yet of the last that was sent to them.
    fn unconfirmed(&self) -> Vec<(NodeId, Arc<Departure>)> {
        let routes = self.routes.lock();
        self.departures.unconfirmed(|node| routes.knows(node))
    }

    /// Tells the nodes how far the numbers have come, each until it has given its word that it knows, for ever. The server's word would
    /// not do: what it keeps may still not come to the node, and nothing that follows would show it. Now and then it tells itself, too.
    pub async fn send_tails(&self) {
        for round in (0..OWN_WORDS_APART).cycle() {
            // The period itself: what is sent within it is counted by one tail.
            tokio::time::sleep(TAILS_APART).await;
            if !self.live.is_up() {
                continue;
            }
            if round == 0 && self.live.publish(self.names.live(self.node), codec::upto(self.node, 0)).await.is_ok() {
                self.live_pulse.said(Instant::now().into());
            }
            let now = Instant::now();
            for (node, departure) in self.unconfirmed().into_iter().filter(|(_, departure)| departure.is_due(now)) {
                metrics::counter!("urge_bus_tails_total").increment(1);
                let put = |last| self.live.put(self.names.live(node), codec::upto(self.node, last));
                // One that fails is sent again.
                let _ = self.live.in_time(departure.tail(put)).await;
            }
        }
    }

    /// Tells each node that may not know yet of the last ones how far the numbers have come. Whether the server keeps that for all.
    async fn keep_tails(&self) -> bool {
        let keep = async |(node, departure): (NodeId, Arc<Departure>)| {
            let put = |last| self.live.publish_asking(self.names.live(node), codec::upto(self.node, last), ANSWER);
            match departure.tail(put).await {
                Ok(word) => word.await.is_ok(),
                Err(_) => false,
            }
        };
        let unconfirmed = futures_util::stream::iter(self.unconfirmed());
        // One that fails keeps nobody from his word.
        unconfirmed.map(keep).buffer_unordered(TAILS).fold(true, async |all, is_kept| all && is_kept).await
    }

    /// What waits for others, and what may have been lost on its way, nobody sends again when this node has ended: they are to look.
    pub async fn leave_nothing(&self) {
        let is_kept = tokio::time::timeout(LEAVE / 2, self.keep_tails()).await.unwrap_or(false);
        let logins = !self.unsent_control.is_empty();
        if is_kept && self.unsent_live.is_empty() && !logins {
            return;
        }
        let telling = async {
            self.presence.up().await;
            while self.tell_all(&Broadcast::Look { from: self.node, logins }).await.is_err() {
                // As above; the whole of it is bounded below.
                tokio::time::sleep(SEND_AGAIN).await;
            }
        };
        if tokio::time::timeout(LEAVE, telling).await.is_err() {
            tracing::warn!("the other nodes could not be told that something for them is lost: they find it when they look next");
        }
    }

    /// Tells all other nodes, and waits for the server's word.
    async fn tell_all(&self, broadcast: &Broadcast) -> Result<(), BusError> {
        self.presence.publish_and_wait(self.names.control(), codec::encode(broadcast)?).await
    }
}

/// The same, told long after.
pub(super) fn as_late(envelope: Envelope) -> Envelope {
    match envelope {
        Envelope::Revoked { user_id, session_id, except, .. } => Envelope::Revoked { user_id, session_id, except, late: true },
        other => other,
    }
}

/// Whether it is old when it comes late.
pub(super) fn is_ephemeral(envelope: &Envelope) -> bool {
    matches!(envelope, Envelope::Loose(loose) if loose.event.kind.is_ephemeral())
}

/// Whose nodes it goes to; to all nodes when absent.
pub(super) fn audience(envelope: &Envelope) -> Option<&[UserId]> {
    match envelope {
        Envelope::Row(row) => Some(&row.audience),
        Envelope::Loose(loose) => Some(&loose.audience),
        Envelope::Refresh { user_id, .. } => Some(std::slice::from_ref(user_id)),
        _ => None,
    }
}
