//! What became of messages, in seven figures: whoever judges says them in these words.

use std::fmt;

use serde::Serialize;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
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
}

impl Figures {
    /// Whether nothing is lost, doubled or out of order.
    pub fn hold(&self) -> bool {
        [self.lost, self.doubled, self.out_of_order] == [0; 3]
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, stored, delivered, resumed, lost, doubled, out_of_order } = self;
        write!(f, "acknowledged {acknowledged}, stored {stored}, delivered {delivered}, resumed {resumed}, ")?;
        write!(f, "lost {lost}, doubled {doubled}, out of order {out_of_order}")
    }
}
