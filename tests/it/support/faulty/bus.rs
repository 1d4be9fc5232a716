//! The bus that goes wrong: [`Faults`](super::Faults) says when, this how.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use urge::bus::{Bus, BusError, Subscription};
use urge::event::Envelope;

use super::{Fault, Faulty};

#[async_trait]
impl Bus for Faulty<dyn Bus> {
    async fn publish(&self, envelope: Envelope) -> Result<(), BusError> {
        let odds = &self.faults.odds;
        let fault = self.faults.roll(&[
            (Fault::Refused, odds.refused),
            (Fault::Late, odds.late),
            (Fault::Stalled, odds.stalled),
            (Fault::Doubled, odds.doubled),
            (Fault::Dropped, odds.dropped),
            (Fault::Swapped, odds.swapped),
            (Fault::Down, odds.down),
        ]);
        let (passed, is_down) = {
            let mut held = self.held.lock();
            if fault == Some(Fault::Down) {
                held.1 = 20;
            } else if self.faults.calm.load(Ordering::SeqCst) {
                held.1 = 0;
            }
            let is_down = held.1 > 0;
            held.1 = held.1.saturating_sub(1);
            (if is_down { None } else { held.0.take() }, is_down)
        };
        if is_down || fault == Some(Fault::Refused) {
            return Err(BusError("the test took the bus down".into()));
        }
        match fault {
            Some(Fault::Late) => {
                let (faults, bus, envelope) = (Arc::clone(&self.faults), Arc::clone(&self.backend), envelope);
                self.faults.late.spawn(async move {
                    faults.pause().await;
                    let _ = bus.publish(envelope).await;
                });
            }
            Some(Fault::Stalled) => {
                self.faults.pause().await;
                self.backend.publish(envelope).await?;
            }
            Some(Fault::Doubled) => {
                self.backend.publish(envelope.clone()).await?;
                self.backend.publish(envelope).await?;
            }
            Some(Fault::Dropped) => {}
            Some(Fault::Swapped) => self.held.lock().0 = Some(envelope),
            _ => self.backend.publish(envelope).await?,
        }
        if let Some(passed) = passed {
            self.backend.publish(passed).await?;
        }
        Ok(())
    }

    fn subscribe(&self) -> Subscription {
        self.backend.subscribe()
    }

    fn is_up(&self) -> bool {
        self.held.lock().1 == 0 && self.backend.is_up()
    }
}
