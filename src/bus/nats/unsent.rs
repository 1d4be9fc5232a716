//! What could not be sent: kept in its order, within limits, until the bus is there again. Beyond the limits, and where it is
//! not known what was lost, the nodes are told to look into the store for themselves.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::event::Envelope;

/// Envelopes, and bytes of them, that are kept at most.
const MOST: usize = 16_384;
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// What is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// This.
    Envelope(Box<Envelope>),
    /// That something was lost.
    Look,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    kept: Mutex<Kept>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    envelopes: VecDeque<Envelope>,
    bytes: usize,
    look: bool,
    /// Something was taken, and is neither sent nor back.
    taken: bool,
}

impl Unsent {
    /// Whether nothing waits: what comes now may be sent at once without passing something older.
    pub fn is_empty(&self) -> bool {
        let kept = self.kept.lock();
        kept.envelopes.is_empty() && !kept.look && !kept.taken
    }

    /// Keeps it for later.
    pub fn keep(&self, envelope: Envelope) {
        let size = bytes_of(&envelope);
        let mut kept = self.kept.lock();
        if kept.envelopes.len() < MOST && kept.bytes + size <= MOST_BYTES {
            kept.bytes += size;
            kept.envelopes.push_back(envelope);
        } else {
            kept.look = true;
        }
        drop(kept);
        self.arrived.notify_one();
    }

    /// Something was lost, nobody knows what.
    pub fn look(&self) {
        self.kept.lock().look = true;
        self.arrived.notify_one();
    }

    /// Waits until there is something, and takes it; then it is [`Unsent::sent`], or put [`Unsent::back`].
    pub async fn take(&self) -> Due {
        loop {
            {
                let mut kept = self.kept.lock();
                if let Some(envelope) = kept.envelopes.pop_front() {
                    kept.bytes -= bytes_of(&envelope);
                    kept.taken = true;
                    return Due::Envelope(Box::new(envelope));
                }
                if std::mem::take(&mut kept.look) {
                    kept.taken = true;
                    return Due::Look;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// What was taken is on its way.
    pub fn sent(&self) {
        self.kept.lock().taken = false;
    }

    /// It could not be sent now either.
    pub fn back(&self, due: Due) {
        let mut kept = self.kept.lock();
        kept.taken = false;
        match due {
            Due::Envelope(envelope) => {
                kept.bytes += bytes_of(&envelope);
                kept.envelopes.push_front(*envelope);
            }
            Due::Look => kept.look = true,
        }
        drop(kept);
        self.arrived.notify_one();
    }
}

/// About how much memory it takes.
fn bytes_of(envelope: &Envelope) -> usize {
    const FIXED: usize = 256;
    FIXED
        + match envelope {
            Envelope::Row(row) => {
                let faceless = row.faceless.as_ref().map_or(0, |faceless| faceless.event.data.len());
                row.event.as_ref().map_or(0, |event| event.data.len()) + faceless + row.audience.len() * 16
            }
            Envelope::Loose(loose) => loose.event.data.len() + loose.audience.len() * 16,
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::event::{Event, EventKind, LooseEvent, Origin};
    use crate::id::UserId;

    fn loose(kind: EventKind, size: usize) -> Envelope {
        let event = Event { kind, data: Bytes::from(vec![b'x'; size]) };
        Envelope::Loose(LooseEvent { audience: [UserId::fresh()].into(), event, origin: Origin::default(), receipt_of: None })
    }

    #[test]
    fn what_is_kept_comes_back_in_its_order() {
        let unsent = Unsent::default();
        let (one, other) = (loose(EventKind::MessageDelivered, 1), loose(EventKind::MessageRead, 1));
        unsent.keep(one.clone());
        unsent.keep(other.clone());
        unsent.look();
        let first = unsent.take().now_or_never().unwrap_or(Due::Look);
        assert_eq!(first, Due::Envelope(Box::new(one)));
        unsent.back(first);
        let taken: Vec<_> = std::iter::from_fn(|| unsent.take().now_or_never()).collect();
        assert_eq!((taken.len(), &taken[1..]), (3, &[Due::Envelope(Box::new(other)), Due::Look][..]));
        assert!(!unsent.is_empty(), "the last is on its way");
        unsent.sent();
        assert!(unsent.is_empty());
    }

    #[test]
    fn beyond_the_limits_the_nodes_are_told_to_look() {
        let unsent = Unsent::default();
        for _ in 0..3 {
            unsent.keep(loose(EventKind::MessageRead, MOST_BYTES / 2 - 1_000));
        }
        let taken: Vec<_> = std::iter::from_fn(|| unsent.take().now_or_never()).collect();
        assert_eq!((taken.len(), &taken[2]), (3, &Due::Look));
        for _ in 0..=MOST {
            unsent.keep(loose(EventKind::MessageRead, 0));
        }
        let taken = std::iter::from_fn(|| unsent.take().now_or_never()).count();
        assert_eq!(taken, MOST + 1);
    }
}
