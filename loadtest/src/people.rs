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
    time::Duration,
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
/// The password of those who have one.
pub const PASSWORD: &str = "correct horse battery";
/// People that one file may name; their phone numbers have room for them.
const MAX_USERS: usize = 200_000;

/// Somebody.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    /// The id.
    pub id: String,
    /// The access token.
    pub token: Arc<str>,
    /// The phone number.
    pub phone: String,
}

/// People who know each other. Each scenario has its own, lest the conversations of one burden the other's.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Circle {
    users: Vec<User>,
    /// DIRECT conversations of two users, by their places.
    directs: BTreeMap<String, String>,
    /// GROUP conversations of the first so many users.
    groups: BTreeMap<usize, String>,
    /// Messages that were written into conversations.
    seeded: BTreeMap<String, u32>,
}

/// What is kept for the next run.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// The next phone number.
    phone: u32,
    circles: BTreeMap<String, Circle>,
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
            people.kept = Kept { phone: fastrand::u32(0..400) * MAX_USERS as u32 + 10_000_000, ..Kept::default() };
        }
        Ok(people)
    }

    async fn are_known(&self) -> Result<bool> {
        let ends = self.kept.circles.values().flat_map(|circle| circle.users.first().into_iter().chain(circle.users.last()));
        for user in ends {
            match self.rest.with_token(&user.token).me().await {
                Ok(me) if me["id"] == user.id.as_str() => {}
                Err(error) if error.status() == 0 || error.status() >= 500 => return Err(explain("asking who one is", &error)),
                _ => return Ok(false),
            }
        }
        Ok(self.kept.phone > 0)
    }

    /// The first so many users of a circle; makes those that are missing, without passwords.
    pub async fn users(&mut self, circle: &str, count: usize, progress: &mut Progress) -> Result<Vec<User>> {
        self.make(circle, count, None, progress).await
    }

    /// The same with [`PASSWORD`]; which takes the server much longer.
    pub async fn users_with_password(&mut self, circle: &str, count: usize, progress: &mut Progress) -> Result<Vec<User>> {
        self.make(circle, count, Some(PASSWORD), progress).await
    }

    async fn make(&mut self, circle: &str, count: usize, password: Option<&'static str>, progress: &mut Progress) -> Result<Vec<User>> {
        loop {
            let users = &mut self.kept.circles.entry(circle.to_owned()).or_default().users;
            if users.len() >= count {
                return Ok(users[..count].to_vec());
            }
            let batch = (count - users.len()).min(1000) as u32;
            progress.show(&format!("making people: {} of {count}", users.len()));
            if self.kept.phone % MAX_USERS as u32 + batch >= MAX_USERS as u32 {
                return Err(Failure::new(format!("a file keeps at most {MAX_USERS} people: begin a new one with --people")));
            }
            let phones: Vec<u32> = (self.kept.phone..self.kept.phone + batch).collect();
            self.kept.phone += batch;
            let rest = self.rest.clone();
            let made = spread(phones, |phone| {
                let rest = rest.clone();
                async move {
                    // German mobile numbers: eight digits behind the prefix.
                    let (phone, name) = (format!("+49151{phone:08}"), format!("Load {phone}"));
                    let account = match password {
                        Some(password) => rest.with_timeout(Duration::from_mins(1)).register_with_password(&phone, &name, password).await,
                        None => rest.register(&phone, &name).await,
                    };
                    let Account { user_id, access_token, .. } = account.map_err(|error| explain("registering", &error))?;
                    Ok(User { id: user_id, token: access_token.into(), phone })
                }
            });
            let made = made.await?;
            self.circle(circle).users.extend(made);
            self.save()?;
        }
    }

    fn circle(&mut self, circle: &str) -> &mut Circle {
        self.kept.circles.entry(circle.to_owned()).or_default()
    }

    /// The DIRECT conversations of these twos, named by their places in the circle.
    pub async fn directs(&mut self, circle: &str, twos: &[(usize, usize)], progress: &mut Progress) -> Result<Vec<String>> {
        let key = |two: &(usize, usize)| format!("{}-{}", two.0, two.1);
        let known = &self.circle(circle).directs;
        let missing: Vec<(usize, usize)> = twos.iter().filter(|two| !known.contains_key(&key(two))).copied().collect();
        for (done, chunk) in missing.chunks(1000).enumerate() {
            progress.show(&format!("making conversations: {} of {}", done * 1000, missing.len()));
            let (rest, users) = (self.rest.clone(), self.circle(circle).users.clone());
            let made = spread(chunk.to_vec(), |(one, other)| {
                let (rest, peer) = (rest.with_token(&users[one].token), users[other].id.clone());
                async move { id(&rest.create_direct(&peer).await.map_err(|error| explain("creating a conversation", &error))?) }
            });
            let made = made.await?;
            self.circle(circle).directs.extend(chunk.iter().map(key).zip(made));
            self.save()?;
        }
        let known = &self.circle(circle).directs;
        twos.iter().map(|two| known.get(&key(two)).cloned().ok_or_else(|| Failure::new("a conversation is missing"))).collect()
    }

    /// The GROUP of the first so many users of a circle.
    pub async fn group(&mut self, circle: &str, members: usize) -> Result<String> {
        let rest = self.rest.clone();
        let own = self.circle(circle);
        if let Some(group) = own.groups.get(&members) {
            return Ok(group.clone());
        }
        let users = &own.users[..members];
        let others: Vec<&str> = users[1..].iter().map(|user| user.id.as_str()).collect();
        let founder = rest.with_token(&users[0].token);
        let made = founder.create_group(&format!("Load {members}"), &others).await.map_err(|error| explain("creating a group", &error))?;
        let group = id(&made)?;
        own.groups.insert(members, group.clone());
        self.save()?;
        Ok(group)
    }

    /// How many messages were written into the conversations of a circle.
    pub fn seeded(&mut self, circle: &str) -> BTreeMap<String, u32> {
        self.circle(circle).seeded.clone()
    }

    /// Remembers so.
    pub fn mark_seeded(&mut self, circle: &str, conversations: impl Iterator<Item = (String, u32)>) -> Result<()> {
        self.circle(circle).seeded.extend(conversations);
        self.save()
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
