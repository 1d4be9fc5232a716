//! What a node is there for: everything, its clients alone, or the work behind them alone.

use super::value::Parsed;
use super::{BusSettings, Reader};

/// What a node is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    All,
    /// Calls and sockets; other nodes do the work behind them.
    Gateway,
    /// The work behind calls and sockets, which other nodes take.
    Worker,
}

impl Role {
    /// Whether it takes calls and sockets.
    pub fn serves(self) -> bool {
        self != Self::Worker
    }

    /// Whether it does the work behind them.
    pub fn works(self) -> bool {
        self != Self::Gateway
    }
}

/// The role that the settings name; half a node needs others, and a bus that tells them.
pub(super) fn role(read: &Reader<'_>, bus: &BusSettings) -> Role {
    let role = read.need("role", parse, Role::All);
    if *bus == BusSettings::Local {
        match role {
            Role::All => {}
            Role::Gateway => read.refuse("role", "needs a bus that tells other nodes of the work, which nobody would do on this one alone"),
            Role::Worker => read.refuse("role", "needs a bus that tells of the work of other nodes: this one alone would serve nobody"),
        }
    }
    role
}

fn parse(text: &str) -> Parsed<Role> {
    match text {
        "all" => Ok(Role::All),
        "gateway" => Ok(Role::Gateway),
        "worker" => Ok(Role::Worker),
        _ => Err("is neither all, gateway nor worker".to_owned()),
    }
}
