//! People and their conversations, made through REST as clients make them.
//! Without passwords unless asked for: hashing would be most of a test's time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use loadtest::{Account, Door, Rest, RestError, Socket};
use serde_json::Value;

use super::TestServer;
use super::node::PATIENCE;
use super::pair::Agreement;

/// Numbers are unique in the process, so that worlds may share a node.
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(0);

/// The password of everybody who has one.
pub const PASSWORD: &str = "correct horse battery";

/// A node's people.
#[derive(Clone, Debug)]
pub struct World {
    /// A client of the node, nobody logged in.
    pub rest: Rest,
    /// Its nodes, if it has several.
    pub nodes: Agreement,
}

impl World {
    /// The people of this node.
    pub fn on(server: &TestServer) -> Self {
        Self { rest: server.rest(), nodes: server.agreement().clone() }
    }

    /// The people of the node at this address (`http://host:port`).
    pub fn at(url: &str) -> Self {
        Self { rest: Rest::new(url), nodes: Agreement::default() }
    }

    /// A phone number that nobody has.
    pub fn new_phone() -> String {
        format!("+49151{:08}", 20_000_000 + NEXT_NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    /// Somebody new, without a password.
    pub async fn person(&self, name: &str) -> Person {
        self.try_person(name).await.unwrap()
    }

    /// The same, from a node whose store may be busy.
    pub async fn try_person(&self, name: &str) -> Result<Person, RestError> {
        let phone = Self::new_phone();
        let account = self.rest.register(&phone, name).await?;
        Ok(Person::new(self, name, phone, account))
    }

    /// Somebody new who can log in again with [`PASSWORD`].
    pub async fn person_with_password(&self, name: &str) -> Person {
        let phone = Self::new_phone();
        let account = self.rest.register_with_password(&phone, name, PASSWORD).await.unwrap();
        Person::new(self, name, phone, account)
    }

    /// The id of the DIRECT conversation of two people.
    pub async fn direct(&self, one: &Person, other: &Person) -> String {
        id(&one.rest.create_direct(other.id()).await.unwrap())
    }

    /// The id of a new GROUP conversation of its founder and others.
    pub async fn group(&self, founder: &Person, name: &str, others: &[&Person]) -> String {
        let members: Vec<&str> = others.iter().map(|person| person.id()).collect();
        id(&founder.rest.create_group(name, &members).await.unwrap())
    }
}

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub struct Person {
    /// The display name.
    pub name: String,
    /// The phone number, E.164.
    pub phone: String,
    /// The login.
    pub account: Account,
    /// REST as this person.
    pub rest: Rest,
    /// The nodes that are to know of his sockets.
    pub nodes: Agreement,
}

impl Person {
    fn new(world: &World, name: &str, phone: String, account: Account) -> Self {
        Self { name: name.to_owned(), phone, rest: world.rest.as_account(&account), account, nodes: world.nodes.clone() }
    }

    /// The user's id.
    pub fn id(&self) -> &str {
        &self.account.user_id
    }

    /// The same person on another device; needs a password.
    pub async fn another_device(&self) -> Self {
        let account = self.rest.without_token().login(&self.phone, PASSWORD).await.unwrap();
        Self { rest: self.rest.as_account(&account), account, ..self.clone() }
    }

    /// A socket of this login, authenticated; all nodes know that he is there. What passes at once gets to those of whom it is
    /// known, so a test in which somebody has just come would be about that moment.
    pub async fn connect(&self, door: Door) -> Socket {
        let socket = Socket::connect(&self.rest.base(), &self.account.access_token, door).await.unwrap();
        self.nodes.about(self.id().parse().unwrap(), true).await;
        socket
    }

    /// Waits until he is shown so many who type there.
    pub async fn sees_typing(&self, conversation: &str, count: usize) {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let view = self.rest.conversation(conversation).await.unwrap();
            assert_eq!(view["isTyping"], !view["typingUsers"].as_array().unwrap().is_empty());
            if view["typingUsers"].as_array().unwrap().len() == count {
                return;
            }
            assert!(tokio::time::Instant::now() < until, "not {count} type: {view}");
            // Nobody is told what lists show.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The `id` of a wire object.
pub fn id(object: &Value) -> String {
    object["id"].as_str().expect("an object without id").to_owned()
}
