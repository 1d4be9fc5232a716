//! One call of REST, again and again, by so many callers at once: how many the server answers a second.
//! `list` and `sync` ask as one user with very many conversations, who is made once and kept.

use std::{sync::Arc, time::Duration};

use http::Method;
use loadtest::Rest;
use serde_json::{Value, json};

use crate::{
    cli::{Call, RestFigures, Settings},
    closed::{Driven, Loop, drive},
    failure::{Failure, Result},
    people::{People, User, explain, spread},
    progress::Progress,
    report::Report,
    run::Field,
    stamp::Stamp,
};

/// The people of `post` and `page`.
const CIRCLE: &str = "rest";
/// The user of `list` and `sync`, the first of them, and all whom he knows.
const BUSY: &str = "busy";
/// What a conversation must have for `page`.
const PAGE: u32 = 60;
/// What a page asks for.
const LIMIT: u32 = 50;
/// Conversations of `sync` of which the client lacks the last message.
const BEHIND: usize = 10;

/// A kind of call, ready to be made.
#[derive(Clone, Debug)]
pub struct Calls {
    method: Method,
    /// What is called, and as whom, in turn.
    targets: Arc<[(String, Arc<str>)]>,
    /// The body: none, always the same, or a message of its own.
    body: Body,
    bytes: usize,
    client_ids: bool,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Same(Arc<str>),
    Message(Arc<[String]>),
}

impl Calls {
    /// Makes what is needed for these calls.
    pub async fn prepare(settings: &Settings, figures: &RestFigures, people: &mut People, progress: &mut Progress) -> Result<Self> {
        let (bytes, client_ids) = (settings.bytes as usize, !settings.no_client_ids);
        let calls = |method, targets: Vec<(String, Arc<str>)>, body| Self { method, targets: targets.into(), body, bytes, client_ids };
        match figures.call {
            Call::Post | Call::Page => {
                let (users, conversations) = twos(people, figures.pairs as usize, progress).await?;
                let token = |number: usize| Arc::clone(&users[number * 2].token);
                if figures.call == Call::Post {
                    let targets = (0..conversations.len()).map(|number| ("/messages".to_owned(), token(number))).collect();
                    return Ok(calls(Method::POST, targets, Body::Message(conversations.into())));
                }
                seed(people, CIRCLE, &users, &conversations, |number| (number * 2, number * 2 + 1), PAGE, progress).await?;
                let path = |(number, id): (usize, &String)| (format!("/conversations/{id}/messages?limit={LIMIT}"), token(number));
                Ok(calls(Method::GET, conversations.iter().enumerate().map(path).collect(), Body::None))
            }
            Call::List | Call::Sync => {
                let (count, messages) = (figures.conversations as usize, figures.messages);
                let users = people.users(BUSY, count + 1, progress).await?;
                let twos: Vec<(usize, usize)> = (1..=count).map(|peer| (0, peer)).collect();
                let conversations = people.directs(BUSY, &twos, progress).await?;
                seed(people, BUSY, &users, &conversations, |number| (0, number + 1), messages.div_ceil(figures.conversations), progress)
                    .await?;
                let token = Arc::clone(&users[0].token);
                if figures.call == Call::List {
                    return Ok(calls(Method::GET, vec![(format!("/conversations?limit={LIMIT}"), token)], Body::None));
                }
                let known = known(&people.rest.with_token(&token)).await?;
                let body = json!({"known": known}).to_string();
                Ok(calls(Method::POST, vec![("/sync".to_owned(), token)], Body::Same(body.into())))
            }
        }
    }

    /// One call.
    async fn make(&self, rest: &Rest, caller: usize, turn: u64) -> std::result::Result<(), String> {
        let number = (caller + turn as usize * 31) % self.targets.len();
        let (path, token) = &self.targets[number];
        let json: &[(&str, &str)] = &[("content-type", "application/json")];
        let (headers, body) = match &self.body {
            Body::None => (&json[..0], String::new()),
            Body::Same(body) => (json, body.to_string()),
            Body::Message(conversations) => (json, self.message(&conversations[number])),
        };
        match rest.with_token(token).send(self.method.clone(), path, headers, body).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(format!("status {}", answer.status.as_u16())),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    fn message(&self, conversation_id: &str) -> String {
        message(conversation_id, self.bytes, self.client_ids)
    }

    /// Drives them.
    pub async fn drive(&self, field: &mut Field, label: &str, how: Loop) -> Result<Driven> {
        drive(field, label, how, |rest| {
            let calls = self.clone();
            move |caller, turn| {
                let (calls, rest) = (calls.clone(), rest.clone());
                async move { calls.make(&rest, caller, turn).await }
            }
        })
        .await
    }
}

/// Runs it.
pub async fn run(settings: &Settings, figures: &RestFigures) -> Result<()> {
    let mut progress = Progress::default();
    let mut people = People::load(settings).await?;
    let calls = Calls::prepare(settings, figures, &mut people, &mut progress).await?;
    let mut field = Field::new(settings, &[], progress)?;
    let how = Loop { concurrency: figures.concurrency as usize, warmup: settings.warmup(), length: settings.length() };
    let driven = calls.drive(&mut field, &format!("rest {}", figures.call.name()), how).await?;
    field.progress.clear();
    let line = driven.line(figures.call.name());
    Report::new("rest", figures, line, &driven)?.publish(settings, &people, &field.sampler)
}

/// A message of its own.
fn message(conversation_id: &str, bytes: usize, client_ids: bool) -> String {
    let stamp = Stamp { run: 0, stream: 0, n: fastrand::u32(..), due_ns: fastrand::u64(..) };
    let content = stamp.content(bytes);
    let client_id = if client_ids { format!(r#","clientMessageId":"{:08x}{:016x}""#, stamp.n, stamp.due_ns) } else { String::new() };
    format!(r#"{{"conversationId":"{conversation_id}","content":"{content}","messageType":"TEXT"{client_id}}}"#)
}

async fn twos(people: &mut People, pairs: usize, progress: &mut Progress) -> Result<(Vec<User>, Vec<String>)> {
    let users = people.users(CIRCLE, pairs * 2, progress).await?;
    let twos: Vec<(usize, usize)> = (0..pairs).map(|pair| (pair * 2, pair * 2 + 1)).collect();
    let conversations = people.directs(CIRCLE, &twos, progress).await?;
    Ok((users, conversations))
}

/// Fills each conversation up to so many messages; its two people, named by their places, take turns.
async fn seed(
    people: &mut People,
    circle: &str,
    users: &[User],
    conversations: &[String],
    two: impl Fn(usize) -> (usize, usize),
    messages: u32,
    progress: &mut Progress,
) -> Result<()> {
    let seeded = people.seeded(circle);
    let lacking = |(number, id): (usize, &String)| (number, messages.saturating_sub(seeded.get(id).copied().unwrap_or(0)));
    let lacking: Vec<(usize, u32)> = conversations.iter().enumerate().map(lacking).filter(|(_, count)| *count > 0).collect();
    let total: u64 = lacking.iter().map(|(_, count)| u64::from(*count)).sum();
    let mut done = 0;
    for chunk in lacking.chunks(64) {
        // All conversations of the chunk grow together, each by one writer at a time: so they are in order, and commits are shared.
        let filling = spread(chunk.to_vec(), |(number, count)| {
            let (one, other) = two(number);
            let rests = [&users[one].token, &users[other].token].map(|token| people.rest.with_token(token));
            let id = conversations[number].clone();
            async move {
                for turn in 0..count as usize {
                    let body = message(&id, 64, true);
                    let headers = [("content-type", "application/json")];
                    let answer = rests[turn % 2].send(Method::POST, "/messages", &headers, body).await;
                    let answer = answer.map_err(|error| explain("filling a conversation", &error))?;
                    if !answer.status.is_success() {
                        let hint = "(start the server with URGE_RATE_LIMIT=off)";
                        return Err(Failure::new(format!("filling a conversation: status {} {hint}", answer.status.as_u16())));
                    }
                }
                Ok(u64::from(count))
            }
        });
        progress.show(&format!("writing messages: {done} of {total}"));
        done += filling.await?.iter().sum::<u64>();
        people.mark_seeded(circle, chunk.iter().map(|(number, _)| (conversations[*number].clone(), messages)))?;
    }
    Ok(())
}

/// What a client of this user knows that lacks the last message of a few conversations.
async fn known(rest: &Rest) -> Result<Value> {
    let mut known = serde_json::Map::new();
    let mut cursor = Value::Null;
    loop {
        let mut body = json!({"known": {}, "limit": 100});
        if !cursor.is_null() {
            body["cursor"] = cursor;
        }
        let answer = rest.with_timeout(Duration::from_secs(30)).post("/sync", &body).await.map_err(|error| explain("syncing", &error))?;
        for one in answer["conversations"].as_array().into_iter().flatten() {
            let behind = i64::from(known.len() < BEHIND);
            if let (Some(id), Some(last)) = (one["id"].as_str(), one["lastSeq"].as_i64()) {
                known.insert(id.to_owned(), json!(last - behind));
            }
        }
        cursor = answer["next_cursor"].clone();
        if cursor.is_null() {
            return Ok(Value::Object(known));
        }
    }
}
