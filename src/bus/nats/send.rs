//! Sending to other nodes: one envelope a node, written once. What cannot be sent now is kept and sent later, in its order; a
//! server that takes messages and keeps none is noticed by asking after one of many.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::unsent::Due;
use super::{Broadcast, Shared};
use crate::bus::{BusError, codec};
use crate::event::Envelope;
use crate::id::{NodeId, UserId};

/// Of what is sent to nodes, one message in this time is asked after: a server that takes messages and keeps none is noticed.
const ASKED_AFTER: Duration = Duration::from_millis(250);
/// How long the server may take to answer then.
const ANSWER: Duration = Duration::from_secs(2);
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
    pub async fn send_or_keep(self: &Arc<Self>, envelope: Envelope) {
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
                Due::Look => self.tell_all(&Broadcast::Look { from: self.node }).await,
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
                tokio::time::sleep(SEND_AGAIN).await;
            }
        }
    }

    async fn send(self: &Arc<Self>, envelope: &Envelope, is_live: bool) -> Result<(), BusError> {
        match audience(envelope) {
            Some(audience) if is_live => self.send_to(self.nodes_of(audience), envelope).await,
            _ => self.tell_all(&Broadcast::All { from: self.node, envelope: envelope.clone() }).await,
        }
    }

    /// Sends to these nodes, written once. All of the audience goes along: a node may have more of them by now than this one has
    /// heard of, and takes what it was told for told to everybody.
    async fn send_to(self: &Arc<Self>, nodes: HashSet<NodeId>, envelope: &Envelope) -> Result<(), BusError> {
        if nodes.is_empty() {
            return Ok(());
        }
        let bytes = codec::encode(envelope)?;
        let mut sent = Ok(());
        for node in nodes {
            metrics::counter!("urge_bus_live_messages_total").increment(1);
            let subject = self.names.live(node);
            // The others are told whatever becomes of one.
            let published = if self.is_asked_after() {
                self.ask_after(subject, bytes.clone()).await
            } else {
                self.live.publish(subject, bytes.clone()).await
            };
            sent = published.and(sent);
        }
        sent
    }

    fn is_asked_after(&self) -> bool {
        let now = Instant::now();
        let mut last = self.asked_after.lock();
        let is_due = now.duration_since(*last) >= ASKED_AFTER;
        if is_due {
            *last = now;
        }
        is_due
    }

    /// Sends this one so that the server says whether it has kept it. If not, others before and after it were lost too.
    async fn ask_after(self: &Arc<Self>, subject: String, bytes: Bytes) -> Result<(), BusError> {
        let published = self.live.publish_asking(subject, bytes, ANSWER).await?;
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            if published.await.is_err() {
                shared.unsent_live.look();
            }
        });
        Ok(())
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
