//! Users and conversations to load with: made by REST, without passwords, and kept in a file for the next run.
//! When the server no longer knows them, new ones are made. The file holds tokens: only its owner may read it.

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use loadtest::{Account, Rest, RestError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    cli::Settings,
    failure::{Failure, Result, Trying},
    progress::Progress,
};

/// Requests under way at once.
const CONCURRENCY: usize = 32;
/// People that one file may name; their phone numbers have room for them.
const MAX_USERS: usize = 200_000;

/// Somebody.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    /// The id.
    pub id: String,
    /// The access token.
    pub token: Arc<str>,
}

/// What is kept for the next run.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Where the phone numbers begin.
    first_phone: u32,
    users: Vec<User>,
    /// DIRECT conversations of two users, by their places.
    directs: BTreeMap<String, String>,
    /// GROUP conversations of the first so many users.
    groups: BTreeMap<usize, String>,
}

/// See the module.
#[derive(Debug)]
pub struct People {
    /// A client of the server, nobody logged in.
    pub rest: Rest,
    path: PathBuf,
    kept: Kept,
    /// What the server says of itself.
    pub server: Value,
}

impl People {
    /// Those of the last run, if there was one and the server still knows them.
    pub async fn load(settings: &Settings) -> Result<Self> {
        let rest = Rest::new(&settings.url);
        let server = rest.with_prefix("").get("/").await.trying(format!("{} does not answer", settings.url))?;
        let path = settings.people_path();
        let kept = read(&path).unwrap_or_default();
        let mut people = Self { rest, path, kept, server };
        if !people.are_known().await? {
            // Room for all users of the file above it, whichever it is.
            people.kept = Kept { first_phone: fastrand::u32(0..400) * 200_000 + 10_000_000, ..Kept::default() };
        }
        Ok(people)
    }

    async fn are_known(&self) -> Result<bool> {
        let (Some(first), Some(last)) = (self.kept.users.first(), self.kept.users.last()) else { return Ok(false) };
        for user in [first, last] {
            match self.rest.with_token(&user.token).me().await {
                Ok(me) if me["id"] == user.id.as_str() => {}
                Err(error) if error.status() == 0 || error.status() >= 500 => return Err(explain("asking who one is", &error)),
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The first so many users; makes those that are missing.
    pub async fn users(&mut self, count: usize, progress: &mut Progress) -> Result<Vec<User>> {
        if count > MAX_USERS {
            return Err(Failure::new(format!("at most {MAX_USERS} people can be made, not {count}")));
        }
        while self.kept.users.len() < count {
            let start = self.kept.users.len();
            progress.show(&format!("making people: {start} of {count}"));
            let places: Vec<usize> = (start..count.min(start + 1000)).collect();
            let (rest, first_phone) = (self.rest.clone(), self.kept.first_phone);
            let made = spread(places, |place| {
                let rest = rest.clone();
                async move {
                    // German mobile numbers: eight digits behind the prefix.
                    let phone = format!("+49151{:08}", first_phone + place as u32);
                    let account = rest.register(&phone, &format!("Load {place}")).await.map_err(|error| explain("registering", &error))?;
                    let Account { user_id, access_token, .. } = account;
                    Ok(User { id: user_id, token: access_token.into() })
                }
            });
            self.kept.users.extend(made.await?);
            self.save()?;
        }
        Ok(self.kept.users[..count].to_vec())
    }

    /// The DIRECT conversations of these twos, named by their places among the users.
    pub async fn directs(&mut self, twos: &[(usize, usize)], progress: &mut Progress) -> Result<Vec<String>> {
        let key = |two: &(usize, usize)| format!("{}-{}", two.0, two.1);
        let missing: Vec<(usize, usize)> = twos.iter().filter(|two| !self.kept.directs.contains_key(&key(two))).copied().collect();
        for (done, chunk) in missing.chunks(1000).enumerate() {
            progress.show(&format!("making conversations: {} of {}", done * 1000, missing.len()));
            let (rest, users) = (self.rest.clone(), self.kept.users.clone());
            let made = spread(chunk.to_vec(), |(one, other)| {
                let (rest, peer) = (rest.with_token(&users[one].token), users[other].id.clone());
                async move { id(&rest.create_direct(&peer).await.map_err(|error| explain("creating a conversation", &error))?) }
            });
            let made = made.await?;
            self.kept.directs.extend(chunk.iter().map(key).zip(made));
            self.save()?;
        }
        twos.iter().map(|two| self.kept.directs.get(&key(two)).cloned().ok_or_else(|| Failure::new("a conversation is missing"))).collect()
    }

    /// The GROUP of the first so many users.
    pub async fn group(&mut self, members: usize) -> Result<String> {
        if let Some(group) = self.kept.groups.get(&members) {
            return Ok(group.clone());
        }
        let users = &self.kept.users[..members];
        let others: Vec<&str> = users[1..].iter().map(|user| user.id.as_str()).collect();
        let founder = self.rest.with_token(&users[0].token);
        let made = founder.create_group(&format!("Load {members}"), &others).await.map_err(|error| explain("creating a group", &error))?;
        let group = id(&made)?;
        self.kept.groups.insert(members, group.clone());
        self.save()?;
        Ok(group)
    }

    fn save(&self) -> Result<()> {
        let write = || {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let new = self.path.with_extension("new");
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(&self.kept)?)?;
            fs::rename(new, &self.path)
        };
        write().trying(format!("keeping people in {}", self.path.display()))
    }
}

fn read(path: &Path) -> Option<Kept> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn id(object: &Value) -> Result<String> {
    object["id"].as_str().map(str::to_owned).ok_or_else(|| Failure::new("the server made something without an id"))
}

/// What went wrong with a request, and what to do about the usual cause.
pub fn explain(what: &str, error: &RestError) -> Failure {
    let hint = if error.status() == 429 { " (start the server with URGE_RATE_LIMIT=off)" } else { "" };
    Failure::new(format!("{what}: {error}{hint}"))
}

/// Does it for each, some at once; the results are in the order of the items, and the first failure ends it.
pub async fn spread<T, R, F>(items: Vec<T>, act: impl Fn(T) -> F) -> Result<Vec<R>>
where
    F: Future<Output = Result<R>> + Send + 'static,
    R: Send + 'static,
{
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let mut under_way = JoinSet::new();
    let mut waiting = items.into_iter().enumerate();
    loop {
        while under_way.len() < CONCURRENCY
            && let Some((place, item)) = waiting.next()
        {
            let acting = act(item);
            under_way.spawn(async move { (place, acting.await) });
        }
        match under_way.join_next().await {
            Some(done) => {
                let (place, result) = done.trying("a task ended")?;
                results[place] = Some(result?);
            }
            None => return Ok(results.into_iter().flatten().collect()),
        }
    }
}
