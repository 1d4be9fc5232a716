//! The hub without doors: sockets that the tests themselves take from, envelopes that they make, and views that hang,
//! fail or are counted as they wish.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use urge::app::{App, Backends, Stores};
use urge::auth::{Client, Register};
use urge::config::Config;
use urge::conversations::CreateConversation;
use urge::error::{Error, Result};
use urge::event::{Envelope, Event, EventKind, Origin, RowEvent};
use urge::gateway::{Command, ConversationViews, Credentials, Door, Gateway, Hub, Login, Parts, Sessions, Socket, Visitor};
use urge::id::{ConversationId, Seq, UserId};
use urge::log::{ConversationKind, Head, Insert, LogStore};
use urge::messages::{SendMessage, Sent};

use crate::support::faulty::{Faults, Faulty, Odds};
use crate::support::{PATIENCE, World, rows};

/// Views that say how many were made before them. Each takes a permit.
struct Views {
    made: AtomicUsize,
    gate: Semaphore,
    panics: AtomicBool,
    /// So many more cannot be read.
    fail: AtomicUsize,
}

#[async_trait]
impl ConversationViews for Views {
    async fn view_for(&self, _: UserId, id: ConversationId, _: Option<Seq>) -> Result<Option<Bytes>> {
        let made = self.made.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics.swap(false, Ordering::SeqCst), "a view that the test makes panic");
        if self.fail.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(Error::unavailable("the store does not answer"));
        }
        self.gate.acquire().await.unwrap().forget();
        Ok(Some(json!({"id": id, "made": made}).to_string().into()))
    }

    async fn sees(&self, _: UserId, _: ConversationId, _: Seq) -> Result<bool> {
        Ok(true)
    }
}

struct Bench {
    hub: Hub,
    sessions: Sessions,
    views: Arc<Views>,
    app: App,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new(permits: usize) -> Self {
        Self::on(permits, |backends| backends)
    }

    fn on(permits: usize, wrap: impl FnOnce(Backends) -> Backends) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::development(folder.path().to_owned()).unwrap();
        config.rate_limit = false;
        let backends = wrap(Backends::embedded(&config).unwrap());
        let app = App::new(config, backends).unwrap();
        let views = Arc::new(Views {
            made: AtomicUsize::new(0),
            gate: Semaphore::new(permits),
            panics: AtomicBool::new(false),
            fail: AtomicUsize::new(0),
        });
        let services = &app.services;
        let (appender, announcer, log) = (services.appender.clone(), services.announcer.clone(), app.backends.stores.log.clone());
        let hub = Hub::new(appender.clone(), announcer, log, views.clone(), 10, app.tasks.clone());
        let sessions = Sessions::new(Parts {
            hub: hub.clone(),
            auth: services.auth.clone(),
            users: services.users.clone(),
            settings: services.settings.clone(),
            messages: services.messages.clone(),
            appender,
            bus: app.backends.bus.clone(),
            online: services.online.clone(),
            shown_typing: services.typing.clone(),
            clock: app.backends.clock.clone(),
            tasks: app.tasks.clone(),
        });
        Self { hub, sessions, views, app, _folder: folder }
    }

    /// Somebody's login.
    async fn login(&self) -> Login {
        let command = Register { phone_number: World::new_phone(), ..Register::default() };
        let registered = self.app.services.auth.register(command, None, &Client::default()).await.unwrap();
        self.sessions.authenticate(Credentials::Token(registered.tokens.access), &Visitor::default()).await.unwrap()
    }

    /// Somebody's socket, let in and not held.
    async fn socket(&self) -> Arc<Socket> {
        let socket = Socket::new(self.login().await, Door::WebSocket, 1_024);
        self.sessions.open(&socket).await.unwrap();
        self.sessions.command(&socket, Command::Leave { conversation_id: ConversationId::fresh() }).await.unwrap();
        socket
    }

    /// The DIRECT conversation of two people.
    async fn direct(&self, a: UserId, b: UserId) -> ConversationId {
        let wish = CreateConversation { kind: ConversationKind::Direct, participant_ids: vec![b], name: None, avatar_url: None };
        self.app.services.conversations.create(a, wish, Origin::default()).await.unwrap().id
    }

    /// The socket of somebody to whom so many messages have been written since he was let in, and where. The bench has no
    /// bus: his hub has not heard of them.
    async fn reader(&self, count: usize) -> (Arc<Socket>, ConversationId) {
        let services = &self.app.services;
        let (reader, writer) = (self.login().await, self.login().await.user_id);
        let id = self.direct(writer, reader.user_id).await;
        let socket = Socket::new(reader, Door::WebSocket, 64);
        self.sessions.open(&socket).await.unwrap();
        for n in 0..count {
            let command = SendMessage { conversation_id: Some(id), content: Some(n.to_string()), ..SendMessage::default() };
            services.messages.send(writer, command, Sent::default()).await.unwrap();
        }
        (socket, id)
    }

    /// Resumes behind the row that began the conversation.
    fn resume(&self, socket: &Arc<Socket>, id: ConversationId) -> JoinHandle<Result<Bytes>> {
        let (sessions, socket) = (self.sessions.clone(), Arc::clone(socket));
        tokio::spawn(async move { sessions.command(&socket, Command::Resume { known: [(id, 1)].into() }).await })
    }

    async fn until_made(&self, count: usize) {
        let made = async {
            while self.views.made.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, made).await.expect("the views are asked for");
    }
}

/// The next so many frames.
async fn frames(socket: &Socket, count: usize) -> Vec<Value> {
    let mut frames = Vec::new();
    while frames.len() < count {
        timeout(PATIENCE, socket.filled()).await.unwrap_or_else(|_| panic!("of {count} frames came {frames:?}"));
        frames.extend(socket.take(usize::MAX).frames.iter().map(|frame| serde_json::from_str::<Value>(frame.as_str()).unwrap()));
    }
    frames
}

fn names(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["event"].as_str().unwrap()).collect()
}

/// A row that says its own number.
fn row(id: ConversationId, seq: Seq, audience: &[&Arc<Socket>]) -> RowEvent {
    RowEvent {
        conversation_id: id,
        seq,
        audience: audience.iter().map(|socket| socket.user_id).collect(),
        is_large: audience.len() > 64,
        target_seq: None,
        introduces: [].into(),
        refreshes: false,
        event: Some(Event::new(EventKind::MessageReceived, &json!({"seq": seq})).unwrap()),
        faceless: None,
        message: None,
        step: None,
        origin: Origin::default(),
        posted: false,
        again: false,
    }
}

#[tokio::test]
async fn of_many_changes_at_once_two_views_are_made_and_the_last_is_told_last() {
    let bench = Bench::new(0);
    let (socket, id) = (bench.socket().await, ConversationId::fresh());
    let change = || bench.hub.take(Envelope::Refresh { user_id: socket.user_id, conversation_id: id, origin: Origin::default() });
    change();
    bench.until_made(1).await;
    (0..10).for_each(|_| change());
    // Everybody has his turn before the first view is let go: the ten have been heard.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    bench.views.gate.add_permits(20);
    let told = frames(&socket, 2).await;
    bench.hub.take(Envelope::Row(row(id, 1, &[&socket])));
    let marker = frames(&socket, 1).await;
    let made: Vec<_> = told.iter().map(|frame| frame["data"]["made"].as_u64().unwrap()).collect();
    assert_eq!((made, names(&marker)), (vec![0, 1], vec!["message:received"]));
}

#[tokio::test]
async fn rows_do_not_wait_for_the_views_of_those_before_them() {
    let bench = Bench::new(0);
    let (socket, id) = (bench.socket().await, ConversationId::fresh());
    bench.hub.take(Envelope::Row(RowEvent { refreshes: true, ..row(id, 1, &[&socket]) }));
    bench.until_made(1).await;
    bench.hub.take(Envelope::Row(row(id, 2, &[&socket])));
    assert_eq!(names(&frames(&socket, 2).await), ["message:received", "message:received"]);
    bench.views.gate.add_permits(1);
    assert_eq!(names(&frames(&socket, 1).await), ["conversation:updated"]);
}

#[tokio::test]
async fn who_joins_is_told_of_the_conversation_once_and_before_its_rows() {
    let bench = Bench::new(10);
    let (old, new, id) = (bench.socket().await, bench.socket().await, ConversationId::fresh());
    let introduces = [new.user_id].into();
    bench.hub.take(Envelope::Row(RowEvent { refreshes: true, introduces, ..row(id, 1, &[&old, &new]) }));
    assert_eq!(names(&frames(&old, 2).await), ["message:received", "conversation:updated"]);
    bench.hub.take(Envelope::Row(row(id, 2, &[&old, &new])));
    assert_eq!(names(&frames(&new, 3).await), ["conversation:created", "message:received", "message:received"]);
}

#[tokio::test]
async fn a_conversation_that_cannot_be_shown_for_a_moment_is_shown_before_its_rows() {
    let bench = Bench::new(10);
    let (socket, id) = (bench.socket().await, ConversationId::fresh());
    bench.views.fail.store(2, Ordering::SeqCst);
    bench.hub.take(Envelope::Row(RowEvent { introduces: [socket.user_id].into(), ..row(id, 1, &[&socket]) }));
    assert_eq!(names(&frames(&socket, 2).await), ["conversation:created", "message:received"]);
    assert_eq!(bench.views.made.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_panic_costs_a_row_and_no_conversation() {
    let bench = Bench::new(10);
    let (socket, id) = (bench.socket().await, ConversationId::fresh());
    bench.views.panics.store(true, Ordering::SeqCst);
    bench.hub.take(Envelope::Row(RowEvent { introduces: [socket.user_id].into(), ..row(id, 1, &[&socket]) }));
    bench.until_made(1).await;
    bench.hub.take(Envelope::Row(row(id, 2, &[&socket])));
    assert_eq!(frames(&socket, 1).await[0]["data"]["seq"], 2);
    // A change that cannot be shown is not in the way of the next one.
    bench.views.panics.store(true, Ordering::SeqCst);
    let change = || bench.hub.take(Envelope::Refresh { user_id: socket.user_id, conversation_id: id, origin: Origin::default() });
    change();
    bench.until_made(2).await;
    change();
    assert_eq!(names(&frames(&socket, 1).await), ["conversation:updated"]);
}

#[tokio::test]
async fn a_replay_that_breaks_off_says_so_and_keeps_nothing_back_that_comes_live() {
    let faults = Faults::new(1, Odds { refused: 10_000, ..Odds::default() });
    faults.calm().await;
    let away = Arc::clone(&faults);
    let bench = Bench::on(10, |backends| {
        let log: Arc<dyn LogStore> = Arc::new(Faulty::new(Arc::clone(&backends.stores.log), away));
        Backends { stores: Stores { log, ..backends.stores }, ..backends }
    });
    // The hub has heard of the conversation, and of none of its messages: they are still on their way.
    let (socket, id) = bench.reader(200).await;
    let resuming = bench.resume(&socket, id);
    // Half an outbox of the first page is there, and the replay waits for room.
    while !socket.is_crowded() {
        tokio::task::yield_now().await;
    }
    faults.storm();
    let first = frames(&socket, 64).await;
    let answer = timeout(PATIENCE, resuming).await.unwrap().unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&answer).unwrap(), json!({"recovered": false}));
    faults.calm().await;
    for seq in 2..=201 {
        bench.hub.take(Envelope::Row(row(id, seq, &[&socket])));
        tokio::task::yield_now().await;
        if socket.is_crowded() {
            break;
        }
    }
    let rest = frames(&socket, 30).await;
    let seqs: Vec<_> = first.iter().chain(&rest).map(|frame| frame["data"]["seq"].as_i64().unwrap()).collect();
    assert!(seqs.iter().copied().eq(2..=1 + seqs.len() as i64), "each once, the live ones behind: {seqs:?}");
}

#[tokio::test]
async fn what_a_resume_shows_is_not_followed_by_how_it_was_before() {
    let bench = Bench::new(0);
    let (socket, id) = bench.reader(1).await;
    // A view is being made when the resume begins, and is done before the resume has made its own.
    bench.hub.take(Envelope::Refresh { user_id: socket.user_id, conversation_id: id, origin: Origin::default() });
    bench.until_made(1).await;
    let resuming = bench.resume(&socket, id);
    bench.until_made(2).await;
    bench.views.gate.add_permits(10);
    timeout(PATIENCE, resuming).await.unwrap().unwrap().unwrap();
    let mut shown = Vec::new();
    while shown.last() != Some(&2) {
        shown.extend(frames(&socket, 1).await.iter().filter_map(|frame| frame["data"]["made"].as_u64()));
    }
    assert_eq!(shown.iter().filter(|made| **made == 1).count(), 1, "{shown:?}");
}

/// A writer has moved the heads of one, and not yet, or never, those of the other: nothing tells the hub of the row later.
#[tokio::test]
async fn who_was_found_with_an_older_head_than_others_gets_the_rows_between() {
    for resumes in [true, false] {
        let bench = Bench::new(10);
        let (reader, writer) = (bench.login().await, bench.login().await);
        let id = bench.direct(writer.user_id, reader.user_id).await;
        let log = &bench.app.backends.stores.log;
        let written = rows::row(id, 2, writer.user_id, rows::words("written"));
        assert_eq!(log.insert_rows(std::slice::from_ref(&written)).await.unwrap(), Insert::Applied);
        let head = Head { seq: 2, n: 1, total: 1, message_seq: 2, at: written.created_at };
        log.advance_heads(id, &head, &[writer.user_id], &[]).await.unwrap();

        let writer = Socket::new(writer, Door::WebSocket, 64);
        bench.sessions.open(&writer).await.unwrap();
        let reader = Socket::new(reader, Door::WebSocket, 64);
        bench.sessions.open(&reader).await.unwrap();
        bench.hub.take(Envelope::Row(row(id, 3, &[&reader, &writer])));
        if resumes {
            let answer = timeout(PATIENCE, bench.resume(&reader, id)).await.unwrap().unwrap().unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&answer).unwrap()["recovered"], true);
        }
        let seqs: Vec<_> = frames(&reader, 2).await.iter().map(|frame| frame["data"]["seq"].clone()).collect();
        assert_eq!(seqs, [2, 3], "resumes: {resumes}");
        assert_eq!(frames(&writer, 1).await[0]["data"]["seq"], 3, "his head told of the other");
    }
}

#[tokio::test]
async fn an_envelope_that_panics_costs_nobody_the_others() {
    let bench = Bench::new(0);
    let (socket, id) = (bench.socket().await, ConversationId::fresh());
    let (sender, envelopes) = tokio::sync::mpsc::channel(4);
    let hub = bench.hub.clone();
    let running = tokio::spawn(async move {
        hub.run(envelopes, |envelope| assert!(!matches!(envelope, Envelope::Refresh { .. }), "a note that the test makes panic")).await;
    });
    let refresh = Envelope::Refresh { user_id: socket.user_id, conversation_id: id, origin: Origin::default() };
    for envelope in [refresh, Envelope::Row(row(id, 1, &[&socket]))] {
        sender.send(Arc::new(envelope)).await.unwrap();
    }
    assert_eq!(names(&frames(&socket, 1).await), ["message:received"]);
    drop(sender);
    timeout(PATIENCE, running).await.unwrap().unwrap();
}
