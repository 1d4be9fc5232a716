//! From polling to websocket: the probe, the poll that is let go, and the moment from which frames go the new way.
//! The outbox stays where it is, and one side at a time takes from it: nothing is lost or sent twice.

use std::sync::Arc;

use poem::{Request, Response};
use tokio::time::timeout;

use super::engine::{self, Packet, TransportError};
use super::session::Session;
use crate::gateway::doors::Doors;
use crate::gateway::wire::{self, Turn, Wire};

/// A websocket that wants to take over a polling session.
pub fn begin(doors: &Arc<Doors>, request: &Request, session: Arc<Session>) -> Result<Response, TransportError> {
    let (response, upgrade) = match wire::accept(request) {
        Ok(accepted) => accepted,
        Err(response) => return Ok(*response),
    };
    if !session.begin_upgrade() {
        return Err(TransportError::BadRequest);
    }
    let probing = Probing(session);
    let doors = doors.clone();
    doors.clone().tasks.spawn(async move {
        let Ok(Ok(upgraded)) = timeout(doors.settings.upgrade_timeout, upgrade).await else { return };
        let mut wire = Wire::new(upgraded, &doors.settings).await;
        if timeout(doors.settings.upgrade_timeout, probe(&mut wire, &probing.0)).await == Ok(true) {
            probing.0.upgraded();
            probing.0.take_over(wire).await;
        } else {
            drop(probing);
            wire.bye().await;
        }
    });
    Ok(response)
}

/// Polling goes on when the upgrade comes to nothing, however that happens. After success this does nothing.
struct Probing(Arc<Session>);

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.abandon_upgrade();
    }
}

/// Whether the client went through with it: `2probe`, `3probe`, `5`.
async fn probe(wire: &mut Wire, session: &Session) -> bool {
    let mut is_probed = false;
    loop {
        match wire.turn(true).await {
            Turn::Text(text) => match Packet::parse(&text) {
                Some(Packet::Ping("probe")) if !is_probed && wire.put(engine::PROBED) => {
                    is_probed = true;
                    session.probed();
                }
                Some(Packet::Upgrade) if is_probed => return true,
                _ => return false,
            },
            Turn::Alive | Turn::Written(_) => {}
            Turn::Binary | Turn::TooLarge | Turn::Gone => return false,
        }
    }
}
