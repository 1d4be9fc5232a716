//! Those who wish the server ill, beside a phase of messages: from a thread of their own, so that their haste is not taken
//! for the lateness of the harness. Each goes on until it is told to stop; what became of it is counted.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use http::Method;
use loadtest::{Auth, Options, Rest, http::dial, socket::CallError};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    cli::{AttackName, Settings},
    failure::{Failure, Result, Trying},
    people::User,
};

/// Sockets that one user may have.
const SOCKETS_A_USER: usize = 10;
/// How long somebody who does not read goes on like that, on one connection.
const STUBBORN: Duration = Duration::from_secs(10);
/// What the group of those who do not read is sent, and how often.
const BIG_BYTES: usize = 16_000;
const BIG_EVERY: Duration = Duration::from_millis(20);
/// Pause after a refusal: who is turned away comes back at once, but not a million times.
const AGAIN: Duration = Duration::from_millis(5);

/// What happened, how often.
pub type Counts = BTreeMap<String, u64>;

/// Attackers under way.
#[derive(Debug)]
pub struct Attack {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Counts>,
}

/// What an attacker knows.
#[derive(Clone, Debug)]
struct Attacker {
    number: usize,
    settings: Settings,
    users: Arc<[User]>,
    /// The group in which all of them are.
    group: Arc<str>,
    stop: Arc<AtomicBool>,
}

impl Attack {
    /// Starts one attacker a user.
    pub fn start(name: AttackName, settings: &Settings, users: &[User], group: &str) -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().trying("starting an event loop")?;
        let attackers: Vec<Attacker> = (0..users.len())
            .map(|number| Attacker {
                number,
                settings: settings.clone(),
                users: users.into(),
                group: group.into(),
                stop: Arc::clone(&stop),
            })
            .collect();
        let run = move || {
            runtime.block_on(async {
                let mut set = JoinSet::new();
                if name == AttackName::Slow {
                    set.spawn(attackers[0].clone().feed());
                }
                for attacker in attackers {
                    set.spawn(attacker.attack(name));
                }
                let mut all = Counts::new();
                while let Some(counts) = set.join_next().await {
                    for (what, count) in counts.unwrap_or_default() {
                        *all.entry(what).or_default() += count;
                    }
                }
                all
            })
        };
        let thread = std::thread::Builder::new().name("attack".to_owned()).spawn(run).trying("starting the attack")?;
        Ok(Self { stop, thread })
    }

    /// Calls them off.
    pub async fn finish(self) -> Result<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        while !self.thread.is_finished() {
            sleep(Duration::from_millis(20)).await;
        }
        self.thread.join().map_err(|_| Failure::new("an attacker has panicked"))
    }
}

impl Attacker {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// An address of his own on this machine.
    fn source(&self) -> IpAddr {
        let number = self.number + 1;
        Ipv4Addr::new(127, 1, (number / 250) as u8, (number % 250 + 1) as u8).into()
    }

    fn options(&self, user: usize) -> Options {
        let mut options = Options::new(&self.settings.url, self.settings.door.into(), Auth::Token(self.users[user].token.to_string()));
        options.source = Some(self.source());
        options
    }

    async fn attack(self, name: AttackName) -> Counts {
        let mut counts = Counts::new();
        while self.goes_on() {
            let became = match name {
                AttackName::Storm => self.storm().await,
                AttackName::Slow => self.read_nothing().await,
                AttackName::HalfOpen => self.fall_silent().await,
                AttackName::Flood if self.number >= SOCKETS_A_USER => break,
                AttackName::Flood => self.flood(&mut counts).await,
                AttackName::Strangers => self.guess().await,
            };
            let is_refused = became.is_err();
            *counts.entry(became.unwrap_or_else(|words| words)).or_default() += 1;
            if is_refused {
                sleep(AGAIN).await;
            }
        }
        counts
    }

    /// Connects, and drops the connection as soon as he is in.
    async fn storm(&self) -> Became {
        let socket = self.options(self.number).connect().await.map_err(|error| error.to_string())?;
        let _ = socket.abort().await;
        Ok("connected".to_owned())
    }

    /// Is let in and reads no more.
    async fn read_nothing(&self) -> Became {
        let mut stream = self.upgraded(Some(&self.users[self.number].token)).await?;
        let until = Instant::now() + STUBBORN;
        while self.goes_on() && Instant::now() < until {
            sleep(Duration::from_millis(100)).await;
        }
        let is_cut = timeout(Duration::from_secs(2), read_out(&mut stream)).await.is_ok();
        Ok(if is_cut { "cut off" } else { "still connected" }.to_owned())
    }

    /// Writes what those who do not read are sent.
    async fn feed(self) -> Counts {
        let rest = Rest::new(&self.settings.url).with_token(&self.users[0].token);
        let (content, mut counts) = ("x".repeat(BIG_BYTES), Counts::new());
        while self.goes_on() {
            let what = match rest.send_text(&self.group, &content, None).await {
                Ok(_) => "big messages".to_owned(),
                Err(error) => error.to_string(),
            };
            *counts.entry(what).or_default() += 1;
            sleep(BIG_EVERY).await;
        }
        counts
    }

    /// Begins something and says no more: a head without an end, an upgrade without a login, a login that answers no ping.
    async fn fall_silent(&self) -> Became {
        let begun = Instant::now();
        let (what, mut stream) = match self.number % 3 {
            0 => {
                let mut stream = dial(self.settings.authority(), Some(self.source())).await.map_err(|error| error.to_string())?;
                stream.write_all(b"GET /health HTTP/1.1\r\nhost: ").await.map_err(|error| error.to_string())?;
                ("half a head", stream)
            }
            1 => ("no login", self.upgraded(None).await?),
            _ => ("no pong", self.upgraded(Some(&self.users[self.number].token)).await?),
        };
        while self.goes_on() {
            if timeout(Duration::from_millis(500), read_out(&mut stream)).await.is_ok() {
                return Ok(format!("{what}: cut off within {} s", begun.elapsed().as_secs() / 10 * 10 + 10));
            }
        }
        Ok(format!("{what}: open to the end"))
    }

    /// One of ten sockets of one user, which asks and asks.
    async fn flood(&self, counts: &mut Counts) -> Became {
        let mut socket = self.options(0).connect().await.map_err(|error| error.to_string())?;
        while self.goes_on() {
            let asked = socket.call("message:delivered", &self.users[0].id).await;
            match asked {
                Err(CallError::Closed(close)) => return Err(close.to_string()),
                Err(error) => *counts.entry(format!("refused: {}", error.code())).or_default() += 1,
                Ok(_) => *counts.entry("carried out".to_owned()).or_default() += 1,
            }
            socket.drain();
        }
        Ok("connected".to_owned())
    }

    /// Knocks with tokens and numbers that are none.
    async fn guess(&self) -> Became {
        let rest = Rest::from_source(&self.settings.url, self.source()).with_token("eyJhbGciOiJIUzI1NiJ9.e30.guess");
        let login = json!({"phone_number": "+12025550199", "password": "guess guess"});
        let mut last = Err("no answer".to_owned());
        for _ in 0..50 {
            let asked = match self.number % 2 {
                0 => rest.call(Method::POST, "/auth/login", Some(&login)).await,
                _ => rest.get("/users/me").await,
            };
            last = asked.map(|_| "let in".to_owned()).map_err(|error| format!("refused: {}", error.code()));
            if !self.goes_on() {
                break;
            }
        }
        last
    }

    /// A bare connection with an upgrade to a WebSocket behind it, and with a login if there is a token.
    async fn upgraded(&self, token: Option<&str>) -> Became<TcpStream> {
        let mut stream = dial(self.settings.authority(), Some(self.source())).await.map_err(|error| error.to_string())?;
        let login = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "GET /ws HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{login}\r\n",
            self.settings.authority()
        );
        stream.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = [0_u8; 12];
        stream.read_exact(&mut answer).await.map_err(|error| error.to_string())?;
        if answer == *b"HTTP/1.1 101" { Ok(stream) } else { Err(format!("refused: {}", String::from_utf8_lossy(&answer))) }
    }
}

/// What a turn came to; an error when he was turned away.
type Became<T = String> = std::result::Result<T, String>;

/// Reads to the end of the connection.
async fn read_out(stream: &mut TcpStream) {
    let mut buffer = vec![0_u8; 16_384];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}
