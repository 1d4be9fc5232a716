//! The calls of the fake server, and where a connection leads: to a websocket, or to one request after the other.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::oneshot};

use super::{Answer, Conversation, Fake, Person, person_of};
use crate::http::read_request;

impl Fake {
    /// Looks at the request's head without taking it, and leads to the right door.
    pub(super) async fn connection(self: Arc<Self>, mut stream: TcpStream) {
        let mut head = vec![0; 4096];
        let mut length = 0;
        while !head[..length].windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.readable().await.is_err() {
                return;
            }
            length = stream.peek(&mut head).await.unwrap_or(0);
            if length == 0 {
                return;
            }
        }
        let head = String::from_utf8_lossy(&head[..length]).into_owned();
        if head.to_lowercase().contains("upgrade: websocket") {
            self.websocket(stream, head.split(' ').nth(1).unwrap(), bearer(&head)).await;
        } else {
            while self.request(&mut stream).await.is_some() {}
        }
    }

    /// One request; none when the connection has ended.
    async fn request(&self, stream: &mut TcpStream) -> Option<()> {
        let (head, body) = read_request(stream).await?;
        let mut words = head.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let (status, text) = if path.starts_with("/socket.io/") {
            (200, self.poll(method, path, &body).await)
        } else {
            let (status, answer) = self.call(path, bearer(&head), serde_json::from_str(&body).unwrap_or_default()).await?;
            (status, answer.to_string())
        };
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        stream.write_all(answer.as_bytes()).await.ok()
    }

    /// Status and answer of a call; none when it is never answered.
    async fn call(&self, path: &str, token: Option<String>, body: Value) -> Option<(u16, Value)> {
        let person = token.map(|token| person_of(&token));
        Some(match path {
            "/" => (200, json!({"name": "fake", "version": "0"})),
            "/api/auth/me" => {
                let known = person.filter(|person| *person < self.world.lock().people.len());
                known.map_or((401, json!({"success": false})), |person| (200, json!({"id": format!("u{person}")})))
            }
            "/api/auth/register" => {
                let mut world = self.world.lock();
                let person = world.people.len();
                world.people.push(Person::default());
                (200, json!({"user": {"id": format!("u{person}")}, "access_token": format!("token-{person}"), "refresh_token": "r"}))
            }
            "/api/conversations" => (200, json!({"id": format!("c{}", self.create(person?, &body))})),
            "/api/messages" => {
                let (answer, answered) = oneshot::channel();
                self.take(person?, body, Answer::Post(answer));
                answered.await.ok()?.map_or_else(|error| (503, error), |message| (200, message))
            }
            _ => (404, json!({"success": false})),
        })
    }

    fn create(&self, person: usize, body: &Value) -> usize {
        let mut world = self.world.lock();
        let others = body["participant_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()[1..].parse().unwrap());
        let members: Vec<usize> = others.chain([person]).collect();
        let next = world.conversations.len();
        if body["type"] == "DIRECT" {
            let key = (members[0].min(members[1]), members[0].max(members[1]));
            if let Some(known) = world.directs.get(&key) {
                return *known;
            }
            world.directs.insert(key, next);
        }
        world.conversations.push(Conversation { members, seq: 1 });
        next
    }
}

fn bearer(head: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.strip_prefix("Bearer ").unwrap_or(value).to_owned())
    })
}
