//! A whole node without a network for the benches: its services on a store in a temporary folder, and people who use them.
#![allow(dead_code, reason = "no bench needs all of it")]

use std::sync::Arc;

use tempfile::TempDir;
use urge::app::{App, Backends, Services};
use urge::auth::{Client, Register};
use urge::config::Config;
use urge::conversations::CreateConversation;
use urge::event::Origin;
use urge::gateway::{Command, Door, Gateway, Login, Socket};
use urge::id::{ConversationId, UserId};
use urge::log::ConversationKind;
use urge::messages::{SendMessage, Sent};

/// See the module.
pub struct Node {
    /// What it does.
    pub services: Services,
    _app: App,
    _folder: TempDir,
}

/// Somebody who is logged in.
#[derive(Clone)]
pub struct Person {
    /// Who.
    pub login: Login,
    /// His access token.
    pub token: String,
}

impl Node {
    /// A fresh development node without limits by user and address.
    pub fn new() -> Self {
        Self::on(|backends| backends)
    }

    /// The same on other backends.
    pub fn on(change: impl FnOnce(Backends) -> Backends) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut config = Config::development(folder.path().to_owned()).expect("the defaults");
        config.rate_limit = false;
        let backends = change(Backends::embedded(&config).expect("a fresh store"));
        // Nobody runs the hub's loop here, and a bus that nobody reads makes its senders wait once it is full.
        let mut envelopes = backends.bus.subscribe();
        std::thread::spawn(move || while envelopes.blocking_recv().is_some() {});
        let app = App::new(config, backends).expect("a node");
        Self { services: app.services.clone(), _app: app, _folder: folder }
    }

    /// Somebody new; `n` is his number's end.
    pub async fn person(&self, n: usize) -> Person {
        let command =
            Register { phone_number: format!("+4915110{n:06}"), display_name: Some("Ada Lovelace".into()), ..Register::default() };
        let client = Client { address: None, device: "bench".into() };
        let login = self.services.auth.register(command, None, &client).await.expect("a registration");
        let token = login.tokens.access;
        let identity = self.services.auth.authenticate(&token).await.expect("a fresh token");
        Person { login: Login { user_id: identity.user_id, session_id: identity.session_id }, token }
    }

    /// A conversation that the first of these people begins.
    pub async fn conversation(&self, people: &[UserId]) -> ConversationId {
        let (founder, others) = people.split_first().expect("somebody");
        let kind = if others.len() == 1 { ConversationKind::Direct } else { ConversationKind::Group };
        let command = CreateConversation { kind, participant_ids: others.to_vec(), name: Some("bench".into()), avatar_url: None };
        self.services.conversations.create(*founder, command, Origin::default()).await.expect("a conversation").id
    }

    /// So many twos of people: the one who writes, and their conversation.
    pub async fn pairs(&self, count: usize) -> Vec<(UserId, ConversationId)> {
        let mut pairs = Vec::new();
        for n in 0..count {
            let (one, other) = (self.person(2 * n).await.login.user_id, self.person(2 * n + 1).await.login.user_id);
            pairs.push((one, self.conversation(&[one, other]).await));
        }
        pairs
    }

    /// A message of 64 bytes.
    pub async fn say(&self, who: UserId, conversation_id: ConversationId) {
        let content = Some("It is a truth universally acknowledged, that a single man in pos".to_owned());
        let command = SendMessage { conversation_id: Some(conversation_id), content, ..SendMessage::default() };
        self.services.messages.send(who, command, Sent::default()).await.expect("a message");
    }

    /// A socket of this login that has been let in and waits for no resume.
    pub async fn socket(&self, login: Login) -> Arc<Socket> {
        let socket = Socket::new(login, Door::WebSocket, 1_024);
        self.services.sessions.open(&socket).await.expect("an open socket");
        let leave = Command::Leave { conversation_id: ConversationId::fresh() };
        self.services.sessions.command(&socket, leave).await.expect("any command ends the wait");
        socket
    }
}
