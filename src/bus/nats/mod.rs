//! The bus of a cluster: NATS JetStream. Live envelopes go once to each node that has recipients (`URGE_LIVE`); who is
//! where, and what all must know at once, to everybody (`URGE_PRESENCE`); growths to the workers (`URGE_EVENTS`). A server that is
//! away, loses something or has forgotten everything costs latency alone: what was missed is said to the hub, which reads it from
//! the store.

mod consume;
mod dead;
mod events;
mod complaint;
mod follow;
mod link;
mod migrate;
mod numbers;
mod presence;
mod send;
mod skew;
mod streams;
mod unsent;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
pub use consume::{Consumed, Consumer, Delivery, Trouble};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::events::Events;
use self::follow::{Follow, Taken};
use self::link::Link;
use self::numbers::{Arrivals, Departures};
use self::presence::Herald;
use self::send::{as_late, audience, is_ephemeral};
use self::skew::Skew;
use self::streams::{LIVE, Names, PRESENCE, Spec};
use self::unsent::Unsent;
use super::codec::{self, Foreign, Numbered};
use super::routes::{Routes, Said, Went};
use super::{Bus, BusError, Growth, Local, Subscription, Worker};
use crate::clock::SharedClock;
use crate::event::{Envelope, EventKind, Parting, Typist};
use crate::id::{NodeId, UserId};
use crate::task::Tasks;

/// How long a node that stops waits for the bus.
const LEAVE: Duration = Duration::from_secs(1);

/// Where NATS is, and who this node is to it.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsSettings {
    /// `nats://host:port` or `tls://host:port`, some of the servers.
    pub servers: Vec<String>,
    /// What streams and subjects begin with: clusters of different names share servers without hearing each other.
    pub name: String,
    /// A user, and his password.
    pub login: Option<(String, String)>,
    /// A file with a JWT and its seed.
    pub credentials: Option<PathBuf>,
    /// The certificate of the authority that has signed the servers'.
    pub ca: Option<PathBuf>,
    /// Copies of each stream that is made.
    pub replicas: usize,
}

impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {} at {}", self.name, self.login.as_ref().map_or("nobody", |(user, _)| user), self.servers.join(","))
    }
}

/// See the module.
pub struct Nats {
    shared: Arc<Shared>,
}

struct Shared {
    node: NodeId,
    names: Names,
    local: Local,
    live: Link,
    presence: Link,
    events: Events,
    herald: Herald,
    routes: Mutex<Routes>,
    clock: SharedClock,
    skew: Mutex<Skew>,
    /// What could not be sent to nodes, and what could not be told to all.
    unsent_live: Unsent,
    unsent_control: Unsent,
    /// What is read from the stream of presence is no older than this node's own last words.
    is_caught_up: AtomicBool,
    /// Others may not have known who is here: when they do, the heads are to be read once more.
    owes_look: AtomicBool,
    /// How many messages have gone to each node, and come from each.
    departures: Departures,
    arrivals: Arrivals,
    tasks: Tasks,
}

/// What goes to every node.
#[derive(Serialize, Deserialize)]
enum Broadcast {
    /// What everybody must know at once.
    All {
        /// Who says it.
        from: NodeId,
        /// It.
        envelope: Envelope,
    },
    /// What a node says of itself.
    Said {
        /// Which.
        from: NodeId,
        /// It.
        said: Said,
    },
    /// Something that a node sent to others was lost: all are to look into the store.
    Look {
        /// Which.
        from: NodeId,
    },
}

impl Nats {
    /// Connects in the background, and again whenever it has to: a bus that is away keeps no node from starting.
    ///
    /// # Errors
    /// Credentials or certificates that cannot be read.
    pub async fn connect(settings: &NatsSettings, clock: SharedClock) -> Result<Self, BusError> {
        let node = NodeId::fresh();
        let live = Link::open(settings, "live", node).await?;
        let presence = Link::open(settings, "presence", node).await?;
        let names = Names(settings.name.clone());
        let shared = Arc::new(Shared {
            node,
            names: names.clone(),
            local: Local::default(),
            herald: Herald::default(),
            routes: Mutex::new(Routes::new(node)),
            clock,
            skew: Mutex::default(),
            events: Events::open(settings, &names, node).await?,
            live,
            presence,
            unsent_live: Unsent::default(),
            unsent_control: Unsent::default(),
            is_caught_up: AtomicBool::new(false),
            owes_look: AtomicBool::new(false),
            departures: Departures::default(),
            arrivals: Arrivals::default(),
            tasks: Tasks::default(),
        });
        let tasks = &shared.tasks;
        let stopping = tasks.stopping();
        let follow = |link: &Link, spec: Spec, filter| Follow { link: link.clone(), spec, filter };
        let spec = |json| Spec::read(json, &names, settings.replicas);
        let (following, taker) = (follow(&shared.live, spec(LIVE)?, names.live(node)), Arc::clone(&shared));
        tasks.spawn(following.run(stopping.clone(), move |taken| {
            let taker = Arc::clone(&taker);
            async move { taker.take_live(taken).await }
        }));
        let (following, taker) = (follow(&shared.presence, spec(PRESENCE)?, String::new()), Arc::clone(&shared));
        tasks.spawn(following.run(stopping.clone(), move |taken| {
            let taker = Arc::clone(&taker);
            async move { taker.take_presence(taken).await }
        }));
        let (keeping, until) = (Arc::clone(&shared), stopping.clone());
        tasks.spawn(async move { until.run_until_cancelled(keeping.events.keep()).await });
        let heralding = Arc::clone(&shared);
        tasks.spawn(async move {
            let say = |said| heralding.say(said);
            heralding.tasks.stopping().run_until_cancelled(heralding.herald.run(say)).await
        });
        // Heard back, it says that all that others had said has been heard.
        shared.herald.say_all();
        for is_live in [true, false] {
            let (sending, stopping) = (Arc::clone(&shared), tasks.stopping());
            tasks.spawn(async move { stopping.run_until_cancelled(sending.send_again(is_live)).await });
        }
        let (sending, stopping) = (Arc::clone(&shared), tasks.stopping());
        tasks.spawn(async move { stopping.run_until_cancelled(sending.send_tails()).await });
        Ok(Self { shared })
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.shared.tasks.stop();
    }
}

impl Shared {
    async fn take_live(&self, taken: Taken) {
        match taken {
            Taken::Message(bytes, _) => {
                if let Err(foreign) = self.take_numbered(&bytes).await {
                    skip("live", &foreign);
                }
            }
            // What was missed shows in the numbers too, unless it was all that the server had.
            Taken::Missed => self.missed().await,
        }
    }

    async fn take_numbered(&self, bytes: &Bytes) -> Result<(), Foreign> {
        let Numbered { from, number, value } = codec::read_numbered(bytes)?;
        let is_whole = match value {
            Some(_) => self.arrivals.next(from, number),
            None => self.arrivals.upto(from, number),
        };
        if !is_whole {
            metrics::counter!("urge_bus_gaps_total").increment(1);
            tracing::debug!(%from, number, "messages of another node were lost on their way");
            self.missed().await;
        }
        if let Some(value) = value {
            self.hand_over(codec::decode(&value)?).await;
        }
        Ok(())
    }

    async fn take_presence(&self, taken: Taken) {
        let Taken::Message(bytes, at) = taken else {
            self.is_caught_up.store(false, Ordering::Relaxed);
            self.owes_look.store(true, Ordering::Relaxed);
            self.herald.say_all();
            // Who was revoked meanwhile is among what was missed.
            return self.hand_over(Envelope::Missed { logins: true }).await;
        };
        match codec::decode(&bytes) {
            Ok(Broadcast::Said { from, said }) if from == self.node => self.echo(&said, at).await,
            Ok(Broadcast::Said { from, said }) => self.hear(from, said, at).await,
            Ok(Broadcast::All { from, .. } | Broadcast::Look { from }) if from == self.node => {}
            Ok(Broadcast::All { envelope, .. }) if self.is_caught_up.load(Ordering::Relaxed) => self.hand_over(envelope).await,
            Ok(Broadcast::All { envelope, .. }) => self.hand_over(as_late(envelope)).await,
            Ok(Broadcast::Look { .. }) => self.missed().await,
            Err(foreign) => skip("presence", &foreign),
        }
    }

    /// Whether this node knows who is where, for all that the others have said.
    fn knows_routes(&self) -> bool {
        self.presence.is_up() && self.is_caught_up.load(Ordering::Relaxed)
    }

    /// This node's own words have come back.
    async fn echo(&self, said: &Said, at: Duration) {
        if matches!(said, Said::Snapshot { part, parts, .. } if part + 1 == *parts) && self.owes_look.swap(false, Ordering::Relaxed) {
            self.missed().await;
        }
        self.is_caught_up.store(true, Ordering::Relaxed);
        if let Said::Delta { version, .. } = said {
            self.skew.lock().note(at, self.clock.now());
            self.herald.heard(*version);
        }
        let echoed = {
            let mut routes = self.routes.lock();
            let echoed = routes.echo(at);
            metrics::gauge!("urge_bus_nodes").set(routes.nodes() as f64 + 1.0);
            echoed
        };
        for node in echoed.ask {
            self.herald.ask(node);
        }
        for node in &echoed.buried {
            self.forget(*node);
        }
        if !echoed.buried.is_empty() {
            // What they had written, and told nobody of yet.
            self.missed().await;
        }
        self.see_to(echoed.orphans).await;
    }

    async fn hear(&self, from: NodeId, said: Said, at: Duration) {
        let heard = {
            let mut routes = self.routes.lock();
            let heard = routes.hear(from, said, at);
            metrics::gauge!("urge_bus_nodes").set(routes.nodes() as f64 + 1.0);
            heard
        };
        if heard.ask {
            self.herald.ask(from);
        }
        if heard.revived {
            self.herald.revived(from);
        }
        if heard.asked {
            self.herald.say_all();
        }
        if heard.ended {
            self.forget(from);
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
        self.see_to(heard.orphans).await;
    }

    async fn see_to(&self, orphans: Vec<UserId>) {
        if !orphans.is_empty() {
            self.hand_over(Envelope::Orphans(orphans.into())).await;
        }
    }

    /// Another node has ended.
    fn forget(&self, node: NodeId) {
        self.departures.forget(node);
        self.arrivals.forget(node);
    }

    /// Rows may not have come: they are to be read from the store.
    async fn missed(&self) {
        self.hand_over(Envelope::Missed { logins: false }).await;
    }

    async fn hand_over(&self, envelope: Envelope) {
        // It fails when the hub has stopped: then nobody is here any more.
        let _ = self.local.publish(envelope).await;
    }

    /// Says something of this node. What is lost is a gap, which asks for a snapshot; what is to be told the herald keeps.
    async fn say(&self, said: Said) {
        metrics::counter!("urge_bus_presence_messages_total").increment(1);
        let said = async {
            let bytes = codec::encode(&Broadcast::Said { from: self.node, said })?;
            self.presence.publish(self.names.presence(self.node), bytes).await
        };
        if let Err(error) = said.await {
            tracing::debug!(%error, "the other nodes were not told who is here; they will be by the next snapshot");
        }
    }
}

#[async_trait]
impl Bus for Nats {
    async fn publish(&self, envelope: Envelope) -> Result<(), BusError> {
        let shared = &self.shared;
        let is_for_others = match &envelope {
            Envelope::Loose(loose) if matches!(loose.event.kind, EventKind::UserOnline | EventKind::UserOffline) => {
                // To all who may know: of who comes at the same moment this node has not heard yet.
                shared.herald.tell(loose.clone());
                false
            }
            Envelope::Missed { .. } | Envelope::Left { .. } | Envelope::Orphans(_) | Envelope::Buried | Envelope::Typing(_) => false,
            other => audience(other).is_none_or(|audience| !shared.nodes_of(audience).is_empty()),
        };
        if !shared.knows_routes() && audience(&envelope).is_some_and(|audience| !audience.is_empty()) && !is_ephemeral(&envelope) {
            // Some may be on nodes of which this one has not heard yet.
            shared.unsent_live.look();
        }
        let for_others = is_for_others.then(|| envelope.clone());
        // This node hears of it first, whatever becomes of the others.
        shared.local.publish(envelope).await?;
        if let Some(envelope) = for_others {
            shared.send_or_keep(envelope).await;
        }
        Ok(())
    }

    fn subscribe(&self) -> Subscription {
        self.shared.local.subscribe()
    }

    fn is_up(&self) -> bool {
        self.shared.live.works() && self.shared.presence.works() && self.shared.local.is_up()
    }

    fn has_others(&self) -> bool {
        true
    }

    fn came(&self, user: UserId) {
        self.shared.herald.came(user);
    }

    fn left(&self, user: UserId) -> bool {
        let told = !self.is_elsewhere(user);
        self.shared.herald.went(Went { user_id: user, told });
        told
    }

    fn is_elsewhere(&self, user: UserId) -> bool {
        !self.shared.routes.lock().of(user).is_empty()
    }

    fn types(&self, typist: Typist) {
        self.shared.herald.types(typist);
    }

    fn is_first(&self) -> bool {
        self.shared.routes.lock().is_first()
    }

    async fn known(&self) {
        self.shared.herald.known().await;
    }

    async fn enqueue(&self, growth: &Growth) -> Result<(), BusError> {
        self.shared.events.enqueue(growth).await
    }

    fn takes_growths(&self) -> Option<watch::Receiver<bool>> {
        Some(self.shared.events.takes())
    }

    fn consume(&self, worker: Worker) -> Option<Consumer> {
        Some(self.shared.events.consumer(worker))
    }

    async fn leave(&self) {
        self.shared.tasks.stop();
        self.shared.leave_nothing().await;
        self.shared.say(Said::Bye).await;
        // It is of use only if it arrives before the process ends.
        let _ = tokio::time::timeout(LEAVE, self.shared.presence.client.flush()).await;
        self.shared.tasks.finish(LEAVE).await;
    }
}

fn skip(kind: &'static str, foreign: &Foreign) {
    metrics::counter!("urge_bus_foreign_total", "kind" => kind).increment(1);
    tracing::debug!(%foreign, kind, "a message on the bus is not understood, and skipped");
}
