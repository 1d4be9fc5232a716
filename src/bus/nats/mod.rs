//! The bus of a cluster: NATS JetStream. Live envelopes go once to each node that has recipients (`URGE_LIVE`); who is
//! where, and what all must know at once, to everybody (`URGE_PRESENCE`). A server that is away, or has forgotten
//! everything, costs latency alone: what was missed is said to the hub, which reads it from the store.

mod complaint;
mod follow;
mod link;
mod presence;
mod streams;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use self::follow::{Follow, Taken};
use self::link::Link;
use self::presence::Herald;
use self::streams::{LIVE, Names, PRESENCE, Spec};
use super::codec::{self, Foreign};
use super::routes::{Routes, Said, Went};
use super::{Bus, BusError, Local, Subscription};
use crate::event::{Envelope, EventKind};
use crate::id::{NodeId, UserId};
use crate::task::Tasks;

/// How often it is looked whether a node has fallen silent.
const ROUND: Duration = Duration::from_secs(1);
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
    tasks: Tasks,
}

struct Shared {
    node: NodeId,
    names: Names,
    local: Local,
    live: Link,
    presence: Link,
    herald: Herald,
    routes: Mutex<Routes>,
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
}

impl Nats {
    /// Connects in the background, and again whenever it has to: a bus that is away keeps no node from starting.
    ///
    /// # Errors
    /// Credentials or certificates that cannot be read.
    pub async fn connect(settings: &NatsSettings) -> Result<Self, BusError> {
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
            live,
            presence,
        });
        let tasks = Tasks::default();
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
        let heralding = Arc::clone(&shared);
        tasks.spawn(async move {
            let say = |said| heralding.say(said);
            stopping.run_until_cancelled(heralding.herald.run(say)).await
        });
        let burying = Arc::clone(&shared);
        tasks.repeat(ROUND, move || {
            let shared = Arc::clone(&burying);
            async move { shared.bury().await }
        });
        Ok(Self { shared, tasks })
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Shared {
    async fn take_live(&self, taken: Taken) {
        match taken {
            Taken::Message(bytes) => match codec::decode(&bytes) {
                Ok(envelope) => self.hand_over(envelope).await,
                Err(foreign) => skip("live", &foreign),
            },
            Taken::Missed => self.hand_over(Envelope::Missed).await,
        }
    }

    async fn take_presence(&self, taken: Taken) {
        let Taken::Message(bytes) = taken else {
            self.routes.lock().was_away(Instant::now());
            self.herald.say_all();
            // Who was revoked meanwhile is among what was missed.
            return self.hand_over(Envelope::Missed).await;
        };
        match codec::decode(&bytes) {
            Ok(Broadcast::All { from, envelope }) if from != self.node => self.hand_over(envelope).await,
            Ok(Broadcast::Said { from, said }) if from != self.node => self.hear(from, said).await,
            Ok(_) => {}
            Err(foreign) => skip("presence", &foreign),
        }
    }

    async fn hear(&self, from: NodeId, said: Said) {
        let (heard, is_first) = {
            let mut routes = self.routes.lock();
            let heard = routes.hear(from, said, Instant::now());
            metrics::gauge!("urge_bus_nodes").set(routes.nodes() as f64 + 1.0);
            (heard, routes.is_first())
        };
        if heard.ask {
            self.herald.ask(from);
        }
        if heard.asked {
            self.herald.say_all();
        }
        for went in heard.left {
            // Had both gone at the same moment, each took the other for the one who tells.
            let untold = !went.told && self.node < from;
            self.hand_over(Envelope::Left { user_id: went.user_id, untold }).await;
        }
        for loose in heard.tells {
            self.hand_over(Envelope::Loose(loose)).await;
        }
        self.see_to(heard.orphans, is_first).await;
    }

    async fn bury(&self) {
        if !self.presence.is_up() {
            return;
        }
        let (orphans, is_first) = {
            let mut routes = self.routes.lock();
            (routes.bury(Instant::now()), routes.is_first())
        };
        self.see_to(orphans, is_first).await;
    }

    async fn see_to(&self, orphans: Vec<UserId>, is_first: bool) {
        if is_first && !orphans.is_empty() {
            self.hand_over(Envelope::Orphans(orphans.into())).await;
        }
    }

    async fn hand_over(&self, envelope: Envelope) {
        // It fails when the hub has stopped: then nobody is here any more.
        let _ = self.local.publish(envelope).await;
    }

    /// Says something of this node. What is lost is a gap, which asks for a snapshot.
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

    /// The other nodes that have some of these.
    fn nodes_of(&self, audience: &[UserId]) -> HashSet<NodeId> {
        let routes = self.routes.lock();
        audience.iter().flat_map(|user| routes.of(*user)).copied().collect()
    }

    /// Sends to each other node that has some of the audience, written once. All of the audience goes along: a node may have more of
    /// them by now than this one has heard of, and takes what it was told for told to everybody.
    async fn send(&self, audience: &[UserId], envelope: &Envelope) -> Result<(), BusError> {
        let nodes = self.nodes_of(audience);
        if nodes.is_empty() {
            return Ok(());
        }
        let bytes = codec::encode(envelope)?;
        let mut sent = Ok(());
        for node in nodes {
            metrics::counter!("urge_bus_live_messages_total").increment(1);
            // The others are told whatever becomes of one.
            sent = self.live.publish(self.names.live(node), bytes.clone()).await.and(sent);
        }
        sent
    }

    /// Tells all other nodes, and waits for the server's word.
    async fn tell_all(&self, envelope: &Envelope) -> Result<(), BusError> {
        let bytes = codec::encode(&Broadcast::All { from: self.node, envelope: envelope.clone() })?;
        self.presence.publish_and_wait(self.names.control(), bytes).await
    }
}

#[async_trait]
impl Bus for Nats {
    async fn publish(&self, envelope: Envelope) -> Result<(), BusError> {
        let shared = &self.shared;
        let sent = match &envelope {
            Envelope::Loose(loose) if matches!(loose.event.kind, EventKind::UserOnline | EventKind::UserOffline) => {
                // To all who may know: of who comes at the same moment this node has not heard yet.
                shared.herald.tell(loose.clone());
                Ok(())
            }
            Envelope::Row(row) => shared.send(&row.audience, &envelope).await,
            Envelope::Loose(loose) => shared.send(&loose.audience, &envelope).await,
            Envelope::Refresh { user_id, .. } => shared.send(&[*user_id], &envelope).await,
            Envelope::Visibility { .. } | Envelope::Revoked { .. } => shared.tell_all(&envelope).await,
            Envelope::Missed | Envelope::Left { .. } | Envelope::Orphans(_) => Ok(()),
        };
        // This node hears of it whatever becomes of the others.
        shared.local.publish(envelope).await?;
        sent
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

    async fn leave(&self) {
        self.tasks.stop();
        self.shared.say(Said::Bye).await;
        // It is of use only if it arrives before the process ends.
        let _ = tokio::time::timeout(LEAVE, self.shared.presence.client.flush()).await;
        self.tasks.finish(LEAVE).await;
    }
}

fn skip(kind: &'static str, foreign: &Foreign) {
    metrics::counter!("urge_bus_foreign_total", "kind" => kind).increment(1);
    tracing::debug!(%foreign, kind, "a message on the bus is not understood, and skipped");
}
