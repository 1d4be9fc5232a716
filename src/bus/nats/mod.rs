//! The bus of a cluster: NATS JetStream. Live envelopes go once to each node that has recipients (`URGE_LIVE`); who is
//! where, and what all must know at once, to everybody (`URGE_PRESENCE`); growths to the workers (`URGE_EVENTS`). A server that is
//! away, loses something or has forgotten everything costs latency alone: what was missed is said to the hub, which reads it from
//! the store.

mod clocks;
mod consume;
mod dead;
mod echo;
mod events;
mod complaint;
mod follow;
mod link;
mod migrate;
mod newcomers;
mod numbers;
mod presence;
mod pulse;
mod send;
mod streams;
mod take;
mod unsent;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
pub use consume::{Consumed, Consumer, Delivery, Trouble};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::clocks::Clocks;
use self::complaint::Complaint;
use self::events::Events;
use self::follow::Follow;
use self::link::Link;
use self::newcomers::Newcomers;
use self::numbers::{Arrivals, Departures};
use self::presence::Herald;
use self::pulse::Pulse;
use self::send::{audience, is_ephemeral};
use self::streams::{LIVE, Names, PRESENCE, Spec};
use self::unsent::Unsent;
use super::codec::{self, Foreign};
use super::routes::{Routes, Said, Went};
use super::{Bus, BusError, Growth, Local, Subscription, Worker};
use crate::clock::{AgreedClock, SharedClock};
use crate::event::{Envelope, EventKind, Typist};
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
    clock: Arc<AgreedClock>,
    clocks: Mutex<Clocks>,
    /// What could not be sent to nodes, and what could not be told to all.
    unsent_live: Unsent,
    unsent_control: Unsent,
    /// Whether what this node says is heard by it.
    live_pulse: Arc<Pulse>,
    presence_pulse: Arc<Pulse>,
    /// What is read from the stream of presence is no older than this node's own last words.
    is_caught_up: AtomicBool,
    /// Others may not have known who is here: when they do, the heads are to be read once more.
    owes_look: AtomicBool,
    /// Who is on other nodes, and may have been overlooked.
    newcomers: Newcomers,
    /// How many messages have gone to each node, and come from each.
    departures: Departures,
    arrivals: Arrivals,
    /// When heads were last read for what is not understood.
    looked_for_foreign: Mutex<Option<Instant>>,
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
        /// What its machine took the time for when it said so, since 1970.
        #[serde(default)]
        clock_ms: Option<i64>,
    },
    /// Something that a node sent to others was lost: all are to look into the store.
    Look {
        /// Which.
        from: NodeId,
        /// The end of logins may be among it.
        #[serde(default)]
        logins: bool,
    },
}

impl Nats {
    /// Connects in the background, and again whenever it has to: a bus that is away keeps no node from starting.
    ///
    /// # Errors
    /// Credentials or certificates that cannot be read.
    pub async fn connect(settings: &NatsSettings, machine: SharedClock) -> Result<Self, BusError> {
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
            clock: Arc::new(AgreedClock::new(machine)),
            clocks: Mutex::new(Clocks::of(node)),
            events: Events::open(settings, &names, node).await?,
            live,
            presence,
            unsent_live: Unsent::default(),
            unsent_control: Unsent::default(),
            live_pulse: Arc::default(),
            presence_pulse: Arc::default(),
            is_caught_up: AtomicBool::new(false),
            owes_look: AtomicBool::new(false),
            newcomers: Newcomers::default(),
            departures: Departures::default(),
            arrivals: Arrivals::default(),
            looked_for_foreign: Mutex::default(),
            tasks: Tasks::default(),
        });
        let tasks = &shared.tasks;
        let stopping = tasks.stopping();
        let follow = |link: &Link, spec: Spec, filter, pulse: &Arc<Pulse>| {
            let (link, pulse) = (link.clone(), Arc::clone(pulse));
            Follow { link, spec, filter, pulse, deaf: Complaint::default() }
        };
        let spec = |json| Spec::read(json, &names, settings.replicas);
        let (following, taker) = (follow(&shared.live, spec(LIVE)?, names.live(node), &shared.live_pulse), Arc::clone(&shared));
        tasks.spawn(following.run(stopping.clone(), move |taken| {
            let taker = Arc::clone(&taker);
            async move { taker.take_live(taken).await }
        }));
        let (following, taker) = (follow(&shared.presence, spec(PRESENCE)?, String::new(), &shared.presence_pulse), Arc::clone(&shared));
        tasks.spawn(following.run(stopping.clone(), move |taken| {
            let taker = Arc::clone(&taker);
            async move { taker.take_presence(taken).await }
        }));
        let mut words = shared.live.client.subscribe(names.heard(node)).await.map_err(|error| BusError(error.to_string()))?;
        let (taker, until) = (Arc::clone(&shared), stopping.clone());
        let taking = async move {
            while let Some(word) = words.next().await {
                taker.take_word(&word.payload);
            }
        };
        tasks.spawn(async move { until.run_until_cancelled(taking).await });
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
        let (naming, stopping) = (Arc::clone(&shared), tasks.stopping());
        tasks.spawn(async move { stopping.run_until_cancelled(naming.name_overlooked()).await });
        Ok(Self { shared })
    }

    /// The machine's clock, as the nodes have agreed to set it right.
    pub fn clock(&self) -> SharedClock {
        Arc::clone(&self.shared.clock) as _
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.shared.tasks.stop();
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
            Envelope::Missed { .. } | Envelope::Left { .. } | Envelope::Orphans { .. } | Envelope::Buried | Envelope::Typing(_) => false,
            other => audience(other).is_none_or(|audience| !shared.nodes_of(audience).is_empty()),
        };
        if !shared.knows_routes() && audience(&envelope).is_some_and(|audience| !audience.is_empty()) && !is_ephemeral(&envelope) {
            // Some may be on nodes of which this one has not heard yet.
            shared.unsent_live.look();
        }
        let for_others = is_for_others.then(|| envelope.clone());
        // This node hears of it first, and the others also when nobody here hears any more.
        let is_heard = shared.local.publish(envelope).await;
        if let Some(envelope) = for_others {
            shared.send_or_keep(envelope).await;
        }
        is_heard
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
        // Where people go from here this node hears no more: whatever it still sends they are to look for.
        self.shared.is_caught_up.store(false, Ordering::Relaxed);
        self.shared.say(Said::Bye).await;
        // It is of use only if it arrives before the process ends.
        let _ = tokio::time::timeout(LEAVE, self.shared.presence.client.flush()).await;
        self.shared.tasks.finish(LEAVE).await;
    }

    async fn close(&self) {
        self.shared.leave_nothing().await;
        let _ = tokio::time::timeout(LEAVE, self.shared.live.client.flush()).await;
    }
}

fn skip(kind: &'static str, foreign: &Foreign) {
    metrics::counter!("urge_bus_foreign_total", "kind" => kind).increment(1);
    tracing::debug!(%foreign, kind, "a message on the bus is not understood, and skipped");
}
