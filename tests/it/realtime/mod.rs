//! The realtime events of the contract, end to end: the real node, real sockets, the same test body through every door.
//! That something does not come is shown by an event that was sent after it and has come: no test waits for silence.

mod absence;
mod calls;
mod closing;
mod entry;
mod groups;
mod limits;
mod messages;
mod missed;
mod outage;
mod people;
mod receipts;
mod resume;
mod slow;
mod told;
mod visibility;

use std::future::Future;
use std::sync::Arc;

use loadtest::socket::{Close, ConnectError, Ending, Event};
use loadtest::{Auth, Door, Options, Socket};
use serde_json::{Value, json};
use urge::event::Origin;

use crate::support::{PATIENCE, Person, TestServer, World};

/// One door of a node that others use meanwhile.
#[derive(Clone)]
struct Scene {
    door: Door,
    world: World,
    server: Arc<TestServer>,
}

/// Runs the body through every door of one node, all at once.
async fn through_every_door<F: Future<Output = ()> + Send + 'static>(body: impl Fn(Scene) -> F) {
    of_a_node(TestServer::start().await, body).await;
}

/// The same with a node of the test's own.
async fn of_a_node<F: Future<Output = ()> + Send + 'static>(server: TestServer, body: impl Fn(Scene) -> F) {
    let server = Arc::new(server);
    let run = |door| (door, tokio::spawn(body(Scene { door, world: World::on(&server), server: Arc::clone(&server) })));
    let runs = Door::ALL.map(run);
    let mut failed = Vec::new();
    for (door, run) in runs {
        if run.await.is_err() {
            failed.push(door);
        }
    }
    assert!(failed.is_empty(), "failed through {failed:?}");
}

impl Scene {
    /// Two people with a conversation.
    async fn pair(&self) -> (Person, Person, String) {
        let (ann, ben) = tokio::join!(self.world.person("Ann"), self.world.person("Ben"));
        let place = self.world.direct(&ann, &ben).await;
        (ann, ben, place)
    }

    /// Knocks at this door.
    async fn knock(&self, auth: Auth) -> Result<Socket, ConnectError> {
        knock(&self.server, self.door, auth).await
    }

    /// Adds somebody to a group.
    async fn add(&self, founder: &Person, group: &str, member: &Person) {
        let (group, members) = (group.parse().unwrap(), [member.id().parse().unwrap()]);
        let added = self.server.services.conversations.add_members(founder.id().parse().unwrap(), group, &members, Origin::default());
        assert_eq!(added.await.unwrap(), 1);
    }

    /// Removes somebody from a group.
    async fn remove(&self, founder: &Person, group: &str, member: &Person) {
        let (group, member) = (group.parse().unwrap(), member.id().parse().unwrap());
        self.server.services.conversations.remove_member(founder.id().parse().unwrap(), group, member, Origin::default()).await.unwrap();
    }
}

/// Knocks at a door of this node.
async fn knock(server: &TestServer, door: Door, auth: Auth) -> Result<Socket, ConnectError> {
    Options::new(&server.url(""), door, auth).connect().await
}

/// The end of a socket after which clients stay away, with the code that `/ws` gives.
fn is_for_good(close: &Close, door: Door, code: u16) {
    if door.is_socket_io() {
        assert_eq!(close.ending, Ending::Disconnect, "{close}");
    } else {
        assert_eq!((close.ending, close.code), (Ending::CloseFrame, Some(code)), "{close}");
        assert!(!close.reason.is_empty());
    }
}

/// The end of a socket after which clients come back by themselves, with the code that `/ws` gives.
fn is_for_now(close: &Close, door: Door, code: u16) {
    if door.is_socket_io() {
        let stays_away = matches!(close.ending, Ending::Disconnect | Ending::ConnectError | Ending::Local | Ending::Protocol);
        assert!(!stays_away, "{door:?}: {close}");
    } else {
        assert_eq!((close.ending, close.code), (Ending::CloseFrame, Some(code)), "{close}");
        assert!(!close.reason.is_empty());
    }
}

/// The data of the next event of this name.
async fn next(socket: &mut Socket, name: &str) -> Value {
    socket.next_event(name, PATIENCE).await.unwrap()
}

/// The next event of this name about this message.
async fn about(socket: &mut Socket, name: &str, message: &str) -> Value {
    let accept = |event: &Event| event.name == name && message_of(&event.json()) == message;
    socket.next_match(&format!("{name} of {message}"), PATIENCE, accept).await.unwrap().json()
}

/// The message that a message's or a receipt's data names.
fn message_of(data: &Value) -> String {
    let id = data.get("id").or_else(|| data.get("messageId")).and_then(Value::as_str);
    id.unwrap_or_default().to_owned()
}

/// Everything that came before a message that `from` sends now, the message itself left out.
async fn before_marker(socket: &mut Socket, from: &Person, place: &str) -> Vec<(String, Value)> {
    let marker = from.rest.send_text(place, "marker", None).await.unwrap();
    let marker = message_of(&marker);
    let is_marker = |events: &[Event]| events.last().is_some_and(|event| message_of(&event.json()) == marker);
    let mut events: Vec<_> =
        socket.collect_until(PATIENCE, is_marker).await.unwrap().iter().map(|event| (event.name.clone(), event.json())).collect();
    events.pop();
    events
}

/// The names of these events.
fn names(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(name, _)| name.as_str()).collect()
}

/// Sends through the socket; the message of its ack.
async fn send(socket: &Socket, place: &str, content: &str) -> Value {
    socket.call("message:sent", &json!({"conversationId": place, "content": content})).await.unwrap()
}
