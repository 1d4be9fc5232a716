//! What this node says of itself: who came and went, gathered for a moment into one message; everybody, now and then; and
//! that it lives. However many come at once, it is ten messages a second. It hears its own words back: what was to be told to
//! people is kept until then, and told again if it was lost; who came is known to all from then on.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::echo::Echo;
use crate::bus::routes::{PART, Said, Went};
use crate::event::{LooseEvent, Typist};
use crate::id::{ConversationId, IdMap, NodeId, UserId};

/// What happens within this time is said at once.
const GATHER: Duration = Duration::from_millis(100);
/// How often a node says that it lives, if nothing else: five times in the time after which it is taken for dead. Together with
/// what `Echo` lets pass less than the time until the heads of who has come are read once more: who hears others later shows it.
const ALIVE: Duration = Duration::from_secs(3);
/// How often it says who is there.
const SNAPSHOT: Duration = Duration::from_secs(30);
/// Users that one delta carries at most; and those, of all its events together, who are told.
const MOST: usize = 2_048;
const MOST_TOLD: usize = 16_384;
/// Events that are kept until they have come back, and those, of all of them together, who are told; older ones are given up.
const MOST_KEPT: usize = 16_384;
const MOST_KEPT_TOLD: usize = 1_048_576;

/// See the module.
#[derive(Default)]
pub(super) struct Herald {
    news: Mutex<News>,
    arrived: Notify,
}

#[derive(Default)]
struct News {
    here: HashSet<UserId>,
    /// The last of each user: none when he came.
    changes: IdMap<UserId, Option<Went>>,
    tells: Vec<LooseEvent>,
    /// The last of each typist, wherever he types.
    typing: HashMap<(ConversationId, UserId), bool>,
    asks: Vec<NodeId>,
    revived: Vec<NodeId>,
    all: bool,
    /// The number of the last delta.
    version: u64,
    echo: Echo,
    /// What the deltas that have not come back yet told.
    unheard: VecDeque<Unheard>,
    /// Who waits until what had happened when he came is said, and then until it has come back.
    waiting: Vec<oneshot::Sender<()>>,
    said: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// What one delta told.
struct Unheard {
    version: u64,
    tells: Vec<LooseEvent>,
    /// Those, of all together, who are told.
    told: usize,
}

impl Herald {
    /// A user has come.
    pub fn came(&self, user: UserId) {
        self.add(|news| {
            news.here.insert(user);
            news.changes.insert(user, None);
        });
    }

    /// A user has gone.
    pub fn went(&self, went: Went) {
        self.add(|news| {
            news.here.remove(&went.user_id);
            news.changes.insert(went.user_id, Some(went));
        });
    }

    /// What is to be told with the news.
    pub fn tell(&self, loose: LooseEvent) {
        if !loose.audience.is_empty() {
            self.add(|news| news.tells.push(loose));
        }
    }

    /// Somebody types, or no longer.
    pub fn types(&self, Typist { conversation_id, user_id, types }: Typist) {
        self.add(|news| {
            news.typing.insert((conversation_id, user_id), types);
        });
    }

    /// Something of that node was missed.
    pub fn ask(&self, of: NodeId) {
        self.add(|news| news.asks.push(of));
    }

    /// That node was taken for dead, and is not.
    pub fn revived(&self, of: NodeId) {
        self.add(|news| news.revived.push(of));
    }

    /// The delta of this number has come back: everybody hears it. Whether it, or one before it that did not come back, was away for long.
    pub fn heard(&self, version: u64) -> bool {
        let mut news = self.news.lock();
        let was_deaf = news.echo.heard(version, Instant::now());
        while news.said.front().is_some_and(|(said, _)| *said <= version) {
            match news.said.pop_front() {
                Some((said, waiter)) if said == version => drop(waiter.send(())),
                // What he waits for was lost, and is in what is said next.
                Some((_, waiter)) => {
                    news.waiting.push(waiter);
                    news.all = true;
                    self.arrived.notify_one();
                }
                None => break,
            }
        }
        match news.unheard.front() {
            Some(first) if first.version == version => drop(news.unheard.pop_front()),
            // An earlier one was lost. All of them again, in their order: what is told last is what is.
            Some(first) if first.version < version => {
                let again: Vec<LooseEvent> = news.unheard.drain(..).flat_map(|unheard| unheard.tells).collect();
                metrics::counter!("urge_bus_repeated_total", "kind" => "presence").increment(again.len() as u64);
                let newer = std::mem::replace(&mut news.tells, again);
                news.tells.extend(newer);
                self.arrived.notify_one();
            }
            _ => {}
        }
        was_deaf
    }

    /// Waits until all nodes can know what has happened until now.
    pub async fn known(&self) {
        let (sender, receiver) = oneshot::channel();
        self.add(|news| news.waiting.push(sender));
        // The sender is kept as long as this is.
        let _ = receiver.await;
    }

    /// Somebody may have missed something of this one.
    pub fn say_all(&self) {
        self.add(|news| news.all = true);
    }

    fn add(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock());
        self.arrived.notify_one();
    }

    /// Says what there is to say, for ever.
    pub async fn run<F: Future<Output = ()>>(&self, say: impl Fn(Said) -> F) {
        let mut next_snapshot = Instant::now();
        loop {
            if timeout_at(Instant::now() + ALIVE, self.arrived.notified()).await.is_ok() {
                // What comes meanwhile goes along: the pause is what bounds the messages.
                sleep(GATHER).await;
            }
            let due = Instant::now() >= next_snapshot;
            for said in self.take(due) {
                if matches!(said, Said::Snapshot { .. }) {
                    next_snapshot = Instant::now() + SNAPSHOT;
                }
                say(said).await;
            }
        }
    }

    fn take(&self, due: bool) -> Vec<Said> {
        let mut locked = self.news.lock();
        let news = &mut *locked;
        let mut changes = std::mem::take(&mut news.changes).into_iter();
        let mut tells = std::mem::take(&mut news.tells).into_iter().peekable();
        let mut said: Vec<Said> = std::mem::take(&mut news.asks).into_iter().map(|of| Said::Ask { of }).collect();
        said.extend(std::mem::take(&mut news.revived).into_iter().map(|of| Said::Revived { of }));
        loop {
            let (mut came, mut went) = (Vec::new(), Vec::new());
            for (user, change) in changes.by_ref().take(MOST) {
                match change {
                    Some(change) => went.push(change),
                    None => came.push(user),
                }
            }
            news.version += 1;
            let (mut told, mut some) = (0, Vec::new());
            let fits = |told: usize, count: usize, more: usize| told == 0 || (told + more <= MOST_TOLD && count < MOST);
            while let Some(loose) = tells.next_if(|loose| fits(told, some.len(), loose.audience.len())) {
                told += loose.audience.len();
                some.push(loose);
            }
            let is_full = came.len() + went.len() == MOST;
            if !some.is_empty() {
                news.unheard.push_back(Unheard { version: news.version, tells: some.clone(), told });
            }
            news.echo.said(news.version, Instant::now());
            said.push(Said::Delta { version: news.version, came, went, tells: some });
            if !is_full && tells.peek().is_none() {
                break;
            }
        }
        let typing = std::mem::take(&mut news.typing).into_iter();
        let typists: Vec<_> = typing.map(|((conversation_id, user_id), types)| Typist { conversation_id, user_id, types }).collect();
        said.extend(typists.chunks(MOST).map(|typists| Said::Typing { typists: typists.to_vec() }));
        let mut kept: usize = news.unheard.iter().map(|unheard| unheard.tells.len()).sum();
        let mut kept_told: usize = news.unheard.iter().map(|unheard| unheard.told).sum();
        while (kept > MOST_KEPT || kept_told > MOST_KEPT_TOLD)
            && let Some(Unheard { tells, told, .. }) = news.unheard.pop_front()
        {
            kept -= tells.len();
            kept_told -= told;
        }
        let version = news.version;
        news.said.retain(|(_, waiter)| !waiter.is_closed());
        news.said.extend(news.waiting.drain(..).map(|waiter| (version, waiter)));
        if due || std::mem::take(&mut news.all) {
            let users: Vec<UserId> = news.here.iter().copied().collect();
            // An empty one says that nobody is there.
            let parts: Vec<&[UserId]> = if users.is_empty() { vec![&[]] } else { users.chunks(PART).collect() };
            let count = parts.len() as u32;
            said.extend((0..).zip(parts).map(|(part, users)| Said::Snapshot { version, part, parts: count, users: users.into() }));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::event::{Event, EventKind, Origin};

    fn went(user_id: UserId) -> Went {
        Went { user_id, told: true }
    }

    #[test]
    fn who_comes_and_goes_within_a_moment_is_told_of_once() {
        let (herald, ada, ben) = (Herald::default(), UserId::fresh(), UserId::fresh());
        herald.came(ada);
        herald.went(went(ada));
        herald.came(ada);
        herald.came(ben);
        herald.went(went(ben));
        let said = herald.take(true);
        let delta = Said::Delta { version: 1, came: vec![ada], went: vec![went(ben)], tells: Vec::new() };
        assert_eq!(said, [delta, Said::Snapshot { version: 1, part: 0, parts: 1, users: vec![ada] }]);
        let alive = Said::Delta { version: 2, came: Vec::new(), went: Vec::new(), tells: Vec::new() };
        assert_eq!(herald.take(false), [alive]);
    }

    #[test]
    fn many_are_said_in_parts() {
        let herald = Herald::default();
        let users: HashSet<UserId> = (0..=PART).map(|_| UserId::fresh()).collect();
        for user in &users {
            herald.came(*user);
        }
        let (mut last, mut came, mut there) = (0, HashSet::new(), Vec::new());
        for said in herald.take(true) {
            match said {
                Said::Delta { version, came: some, .. } => {
                    last = version;
                    came.extend(some);
                }
                Said::Snapshot { part, parts: 2, users, .. } => there.push((part, users.len())),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(last, 5);
        assert_eq!((came, there), (users, vec![(0, PART), (1, 1)]));
    }

    #[test]
    fn what_is_told_to_many_goes_in_parts() {
        let (herald, audience): (_, Arc<[UserId]>) = (Herald::default(), (0..500).map(|_| UserId::fresh()).collect());
        for _ in 0..100 {
            let event = Event { kind: EventKind::UserOnline, data: Bytes::from_static(b"{}") };
            herald.tell(LooseEvent { audience: Arc::clone(&audience), event, origin: Origin::default(), receipt_of: None });
        }
        let count = |said| match said {
            Said::Delta { tells, .. } => tells.len(),
            other => panic!("{other:?}"),
        };
        let counts: Vec<_> = herald.take(false).into_iter().map(count).collect();
        assert_eq!(counts, [32, 32, 32, 4]);
    }

    fn tell(herald: &Herald, audience: &Arc<[UserId]>, kind: EventKind) {
        let event = Event { kind, data: Bytes::from_static(b"{}") };
        herald.tell(LooseEvent { audience: Arc::clone(audience), event, origin: Origin::default(), receipt_of: None });
    }

    /// The number of the delta, and what it tells.
    fn told(herald: &Herald) -> (u64, Vec<EventKind>) {
        match herald.take(false).pop() {
            Some(Said::Delta { version, tells, .. }) => (version, tells.into_iter().map(|loose| loose.event.kind).collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_lost_is_told_again_with_all_that_came_after_it() {
        use EventKind::{UserOffline, UserOnline};
        let (herald, audience): (_, Arc<[UserId]>) = (Herald::default(), [UserId::fresh()].into());
        tell(&herald, &audience, UserOnline);
        assert_eq!(told(&herald), (1, vec![UserOnline]));
        herald.heard(1);
        for kind in [UserOffline, UserOnline, UserOffline] {
            tell(&herald, &audience, kind);
            told(&herald);
        }
        // 2 was lost, 4 is on its way.
        herald.heard(3);
        tell(&herald, &audience, UserOnline);
        assert_eq!(told(&herald), (5, vec![UserOffline, UserOnline, UserOffline, UserOnline]));
        herald.heard(4);
        assert_eq!(told(&herald), (6, Vec::new()));
        herald.heard(5);
        herald.heard(6);
        assert_eq!(told(&herald), (7, Vec::new()), "nothing is kept that has come back");
    }

    #[test]
    fn of_what_does_not_come_back_so_much_is_kept() {
        let again = |size: usize, count: usize| {
            let (herald, audience): (_, Arc<[UserId]>) = (Herald::default(), (0..size).map(|_| UserId::fresh()).collect());
            let mut version = 0;
            for _ in 0..count.div_ceil(1_000) {
                for _ in 0..1_000 {
                    tell(&herald, &audience, EventKind::UserOnline);
                }
                version = told(&herald).0;
            }
            // All were lost, and one after them was not.
            herald.heard(version + 1);
            let deltas = herald.take(false).into_iter();
            deltas.map(|said| if let Said::Delta { tells, .. } = said { tells.len() } else { 0 }).sum::<usize>()
        };
        assert_eq!(again(1, 5_000), 5_000);
        let few = again(500, 5_000);
        assert!((1_500..=MOST_KEPT_TOLD / 500).contains(&few), "{few} events for 500 people each");
        let many = again(1, 20_000);
        assert!((10_000..=MOST_KEPT).contains(&many), "{many} events for one each");
    }

    #[tokio::test]
    async fn who_waits_is_woken_when_what_had_happened_has_come_back() {
        use futures_util::FutureExt as _;
        let (herald, user) = (Herald::default(), UserId::fresh());
        herald.came(user);
        let mut known = Box::pin(herald.known());
        assert_eq!((&mut known).now_or_never(), None);
        let (version, _) = told(&herald);
        assert_eq!((&mut known).now_or_never(), None);
        herald.heard(version);
        assert_eq!(known.now_or_never(), Some(()));
    }

    #[test]
    fn of_who_types_the_last_is_said_once() {
        let (herald, conversation_id, ada, ben) = (Herald::default(), ConversationId::fresh(), UserId::fresh(), UserId::fresh());
        for (user_id, types) in [(ada, true), (ben, true), (ada, false)] {
            herald.types(Typist { conversation_id, user_id, types });
        }
        let said = herald.take(false);
        let [Said::Delta { .. }, Said::Typing { typists }] = &said[..] else { panic!("{said:?}") };
        let mut found: Vec<_> = typists.iter().map(|typist| (typist.user_id, typist.types)).collect();
        let mut wanted = [(ada, false), (ben, true)];
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
        assert_eq!(herald.take(false).len(), 1);
    }

    #[test]
    fn an_empty_node_says_so_when_it_is_asked() {
        let herald = Herald::default();
        herald.say_all();
        let said = herald.take(false);
        assert_eq!(said.last(), Some(&Said::Snapshot { version: 1, part: 0, parts: 1, users: Vec::new() }));
    }
}
