//! Says whether a cluster keeps its promise: people write, all others listen, and in the end what was acknowledged is compared with
//! what is stored and with what everybody saw. It harms nothing by itself: whoever wants to know what a failure does kills, pauses
//! or cuts off meanwhile. It believes no node: what one says is asked of the others too.

mod device;
mod figures;
mod judge;
mod ledger;
mod sender;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::device::{Device, Seen};
use self::ledger::{Ledger, Sent};
use self::sender::Sender;
use crate::{Account, Door, Rest, RestError};

pub use self::device::{Told, told};
pub use self::figures::Figures;
pub use self::judge::read_log;
pub use self::verdict::{Latency, Verdict};

/// How long one that is asked may take before another one is.
const PATIENCE: Duration = Duration::from_secs(4);
/// Pause before a node is asked again when none answered: nobody tells when one does.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a node may take to let the log be read, and so long more for each of its rows; who was away to fetch it.
const READING: Duration = Duration::from_mins(1);
const READING_A_ROW: Duration = Duration::from_millis(20);
/// How long devices listen on when all is told, for what is told a second time. Longer than a node lets pass, 5 s, until it reads the
/// heads of who has come once more (`SECOND_LOOK`); what waits behind a cut that is healed, or fills a gap, comes sooner.
const LISTENING_ON: Duration = Duration::from_secs(6);
/// How long people and their group may take to be made.
const PREPARING: Duration = Duration::from_mins(1);

/// What is to be verified, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The nodes, `http://host:port`.
    pub nodes: Vec<String>,
    /// People who write at the same time, each with a device that listens to the others.
    pub senders: usize,
    /// Messages a second of all together; who waits for an answer writes less.
    pub rate: f64,
    /// The doors of their devices, in turn.
    pub doors: Vec<Door>,
    /// How often each device drops its connection; none: only when the server does.
    pub blink: Option<Duration>,
    /// Who was cut off comes back as the app does, five times within 8 s and never again; else at once, and for ever.
    pub as_app: bool,
    /// What repeats the choices of nodes.
    pub seed: u64,
}

impl Options {
    /// Eight people at all doors who write 50 messages a second and stay connected.
    pub fn new(nodes: Vec<String>) -> Self {
        Self { nodes, senders: 8, rate: 50.0, doors: Door::ALL.to_vec(), blink: None, as_app: false, seed: 1 }
    }
}

/// The nodes, of which any may be gone.
#[derive(Debug)]
pub(crate) struct Nodes {
    rests: Vec<Rest>,
    dice: parking_lot::Mutex<fastrand::Rng>,
}

impl Nodes {
    fn new(urls: &[String], seed: u64) -> Self {
        let rest = |url: &String| Rest::new(url).with_timeout(PATIENCE);
        Self { rests: urls.iter().map(rest).collect(), dice: parking_lot::Mutex::new(fastrand::Rng::with_seed(seed)) }
    }

    /// One of them, by chance.
    fn any(&self) -> &Rest {
        &self.rests[self.dice.lock().usize(..self.rests.len())]
    }

    /// Asks one after the other until one answers; a refusal is an answer.
    async fn ask<T, F: Future<Output = Result<T, RestError>>>(&self, ask: impl Fn(Rest) -> F) -> Result<T, RestError> {
        insist(|| ask(self.any().clone())).await
    }
}

/// Asks until there is an answer; a refusal is one.
async fn insist<T, F: Future<Output = Result<T, RestError>>>(ask: impl Fn() -> F) -> Result<T, RestError> {
    loop {
        match ask().await {
            Err(error) if !is_final(&error) => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

/// Whether asking again, or another node, would be of no use.
fn is_final(error: &RestError) -> bool {
    (400..500).contains(&error.status()) && error.status() != 429
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// No node made people or their group in time.
    #[error("no node made the people and their group within {PREPARING:?}")]
    NotPrepared,
    /// A node refused something that everybody may do.
    #[error("a node refused what is needed to verify: {0}")]
    Refused(#[from] RestError),
    /// No node lets everything be read in time.
    #[error("what is stored could not be read within {0:?}")]
    NotRead(Duration),
}

/// People who write to each other, and one who is away until the end.
#[derive(Debug)]
pub struct Verify {
    nodes: Arc<Nodes>,
    conversation: Arc<str>,
    ledger: Arc<Ledger>,
    devices: Vec<(Account, Arc<parking_lot::Mutex<Seen>>)>,
    absent: Account,
    listening: JoinSet<()>,
    sending: JoinSet<()>,
    stop_sending: watch::Sender<bool>,
    stop_listening: watch::Sender<bool>,
    began: Instant,
}

impl Verify {
    /// Registers people, makes their group, connects their devices and lets them write.
    ///
    /// # Errors
    /// No node is there, or it refuses them: one that asks for codes needs people who have logged in, [`Verify::start_as`].
    pub async fn start(options: &Options) -> Result<Self, VerifyError> {
        let nodes = Nodes::new(&options.nodes, options.seed);
        let accounts = (0..=options.senders).map(|number| {
            // A number that nobody has: those of a run are next to each other.
            let phone = format!("+49152{:08}", fastrand::u32(10_000_000..90_000_000));
            let nodes = &nodes;
            async move {
                let (phone, name) = (&phone, &format!("Verifier {number}"));
                nodes.ask(|rest| async move { rest.register(phone, name).await }).await
            }
        });
        let accounts = timeout(PREPARING, try_join_all(accounts)).await.map_err(|_| VerifyError::NotPrepared)??;
        Self::start_as(options, accounts).await
    }

    /// The same as these people, one more than there are senders: the last is away until the end.
    ///
    /// # Errors
    /// As of [`Verify::start`].
    pub async fn start_as(options: &Options, mut accounts: Vec<Account>) -> Result<Self, VerifyError> {
        let nodes = Arc::new(Nodes::new(&options.nodes, options.seed));
        let ids: Vec<String> = accounts.iter().map(|account| account.user_id.clone()).collect();
        let others: Vec<&str> = ids[1..].iter().map(String::as_str).collect();
        let (founder, others) = (accounts[0].clone(), &others);
        let made = nodes.ask(|rest| {
            let rest = rest.as_account(&founder);
            async move { rest.create_group("Verification", others).await }
        });
        let made = timeout(PREPARING, made).await.map_err(|_| VerifyError::NotPrepared)??;
        let conversation: Arc<str> = made["id"].as_str().unwrap_or_default().into();
        let absent = accounts.pop().unwrap_or(founder);
        let (stop_sending, sends) = watch::channel(false);
        let (stop_listening, listens) = watch::channel(false);
        let mut verify = Self {
            nodes,
            conversation,
            ledger: Arc::default(),
            devices: Vec::new(),
            absent,
            listening: JoinSet::new(),
            sending: JoinSet::new(),
            stop_sending,
            stop_listening,
            began: Instant::now(),
        };
        let pause = Duration::from_secs_f64(accounts.len() as f64 / options.rate);
        for (number, account) in accounts.into_iter().enumerate() {
            let door = options.doors[number % options.doors.len()];
            let seen = Arc::<parking_lot::Mutex<Seen>>::default();
            let nodes = Arc::clone(&verify.nodes);
            let device = Device::new(nodes, account.clone(), door, Arc::clone(&verify.conversation), Arc::clone(&seen));
            verify.listening.spawn(device.listen(options.blink, options.as_app, listens.clone()));
            let sender = Sender {
                number,
                nodes: Arc::clone(&verify.nodes),
                account: account.clone(),
                seen: Arc::clone(&seen),
                conversation: Arc::clone(&verify.conversation),
                ledger: Arc::clone(&verify.ledger),
            };
            verify.sending.spawn(sender.write(pause, sends.clone()));
            verify.devices.push((account, seen));
        }
        Ok(verify)
    }

    /// In which they write.
    pub fn conversation(&self) -> &str {
        &self.conversation
    }

    /// How many messages have been acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.ledger.acknowledged()
    }

    /// Waits until so many more have been, for as long as that takes.
    pub async fn acknowledge(&self, count: usize) {
        let wanted = self.acknowledged() + count;
        let mut acknowledged = self.ledger.watch();
        let _ = acknowledged.wait_for(|acknowledged| *acknowledged >= wanted).await;
    }

    /// Nobody begins another message. Waits, up to `limit`, until what has begun is acknowledged.
    pub async fn fall_silent(&mut self, limit: Duration) {
        self.stop_sending.send_replace(true);
        let all = async { while self.sending.join_next().await.is_some() {} };
        let _ = timeout(limit, all).await;
        // What is not acknowledged by now is counted as unanswered.
        self.sending.shutdown().await;
    }

    /// Waits, up to `limit`, until every device has been told everything that is acknowledged by now; how long that took, if it came
    /// to it. Who is connected need not connect again for it.
    pub async fn all_told(&self, limit: Duration) -> Option<Duration> {
        let (began, last) = (Instant::now(), self.ledger.last_seq());
        let told = self.devices.iter().map(|(account, seen)| {
            let mut reached = seen.lock().reached.subscribe();
            // His own last ones he is not told of.
            let last = self.ledger.last_seq_of_others(&account.user_id).min(last);
            async move { drop(reached.wait_for(|reached| *reached >= last).await) }
        });
        timeout(limit, join_all(told)).await.ok().map(|_| began.elapsed())
    }

    /// Tries to send this, once; it is judged with the rest.
    ///
    /// # Errors
    /// It is not acknowledged.
    pub async fn try_once(&self, content: &str) -> Result<(), RestError> {
        let account = &self.devices[0].0;
        let began = Instant::now();
        self.ledger.begin(content, &account.user_id);
        let rest = self.nodes.any().with_timeout(READING).as_account(account);
        let answer = rest.send_text(&self.conversation, content, Some(content)).await.inspect_err(|_| self.ledger.give_up())?;
        let (id, seq) = (answer["id"].as_str().unwrap_or_default().to_owned(), answer["seq"].as_i64().unwrap_or(0));
        let (user, content, ended) = (account.user_id.clone(), content.to_owned(), Instant::now());
        self.ledger.acknowledge(Sent { user, content, began, ended, took: ended - began, id, seq, tries: 1 });
        Ok(())
    }

    /// Waits, up to `limit`, until every device is connected and up to date at the same time; whether it came to that.
    pub async fn all_connected(&self, limit: Duration) -> bool {
        let mut emitters: Vec<_> = self.devices.iter().map(|(_, seen)| seen.lock().emitter.subscribe()).collect();
        let all = async {
            while emitters.iter().any(|emitter| emitter.borrow().is_none()) {
                join_all(emitters.iter_mut().map(|emitter| emitter.wait_for(Option::is_some))).await;
            }
        };
        timeout(limit, all).await.is_ok()
    }

    /// How often devices have connected so far, the first time included.
    pub fn connections(&self) -> usize {
        self.devices.iter().map(|(_, seen)| seen.lock().connections).sum()
    }

    /// Waits until everybody has been told everything, and some seconds more for what is told again, ends all connections, lets who
    /// was away fetch what he lacks, reads the conversation through every node, and judges. What a device was not told by its
    /// connections within `limit` it does not fetch.
    ///
    /// # Errors
    /// A node refuses what everybody may read, or none can be read.
    pub async fn judge(mut self, limit: Duration) -> Result<Verdict, VerifyError> {
        self.fall_silent(limit).await;
        let took = self.began.elapsed();
        self.all_told(limit).await;
        // Nobody says that nothing more will be told.
        sleep(LISTENING_ON).await;
        self.stop_listening.send_replace(true);
        while self.listening.join_next().await.is_some() {}
        let limit = READING + READING_A_ROW * u32::try_from(self.acknowledged()).unwrap_or(u32::MAX);
        let away = parking_lot::Mutex::new(Seen::default());
        let catching_up = timeout(limit, device::catch_up(&self.nodes, &self.absent, &self.conversation, &away));
        // Side by side: who reads them from far away has a node's pages to wait for, one after the other.
        let reading = self.nodes.rests.iter().map(|rest| {
            let rest = rest.as_account(&self.absent);
            let conversation = &self.conversation;
            async move { timeout(limit, insist(|| judge::read_log(&rest, conversation))).await.ok().transpose() }
        });
        let (caught_up, logs) = tokio::join!(catching_up, try_join_all(reading));
        caught_up.map_err(|_| VerifyError::NotRead(limit))??;
        let logs = logs?;
        if logs.iter().all(Option::is_none) {
            return Err(VerifyError::NotRead(limit));
        }
        let mut views: Vec<(String, Seen)> = Vec::new();
        for (account, seen) in self.devices {
            views.push((account.user_id, std::mem::take(&mut *seen.lock())));
        }
        Ok(judge::judge(&self.ledger, &logs, &views, &away.into_inner(), took))
    }
}
