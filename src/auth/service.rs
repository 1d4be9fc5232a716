//! The service behind logins: what all its use cases share, and the check of tokens that every request and socket needs.
//! The use cases stand in `register`, `login`, `recovery`, `refresh` and `sessions`.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use super::code::{Codes, SendLimits};
use super::keys::KeyRing;
use super::password::Passwords;
use super::session::{Identity, SESSION_TTL, Sessions};
use super::sms::Sms;
use super::store::AuthStore;
use super::token::{AccessClaims, Signer};
use crate::bus::Bus;
use crate::clock::SharedClock;
use crate::error::{Error, ErrorCode, Result};
use crate::event::Envelope;
use crate::id::{SessionId, UserId};
use crate::phone::{Country, Phone};
use crate::task::Tasks;
use crate::users::{User, Users};

/// People whose own view is kept for the time when the store is away.
const KNOWN_PEOPLE: u64 = 10_000;
const KNOWN_FOR: Duration = Duration::from_hours(24);

/// What the settings say about logins.
#[derive(Clone)]
pub struct Settings {
    /// The secret that all keys come of.
    pub secret: Vec<u8>,
    /// The secret before it, while it is being replaced.
    pub previous_secret: Option<Vec<u8>>,
    /// How long access tokens live.
    pub access_token_ttl: Duration,
    /// How long a session lives after its last use.
    pub session_ttl: Duration,
    /// Whether an account can do nothing but verify until its number is proven.
    pub require_verified_phone: bool,
    /// Where numbers without a country code are dialled.
    pub default_country: Option<Country>,
    /// How many codes go out.
    pub send_limits: SendLimits,
    /// Whether limits per address hold; those per number always do.
    pub rate_limit: bool,
    /// Password hashes computed at once.
    pub hashing_threads: NonZeroUsize,
}

impl Settings {
    /// Development's settings under this secret.
    pub fn development(secret: &[u8]) -> Self {
        Self {
            secret: secret.to_vec(),
            previous_secret: None,
            access_token_ttl: Duration::from_hours(24 * 30),
            session_ttl: SESSION_TTL,
            require_verified_phone: false,
            default_country: None,
            send_limits: SendLimits::development(),
            rate_limit: true,
            hashing_threads: NonZeroUsize::MIN.saturating_add(1),
        }
    }
}

/// Where a login comes from.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Its address, behind trusted proxies.
    pub address: Option<IpAddr>,
    /// What it calls itself (`User-Agent`).
    pub device: String,
}

/// Logins.
pub struct Auth {
    pub(super) settings: Settings,
    pub(super) users: Arc<Users>,
    pub(super) store: Arc<dyn AuthStore>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) clock: SharedClock,
    pub(super) tasks: Tasks,
    pub(super) ring: KeyRing,
    pub(super) signer: Signer,
    pub(super) passwords: Passwords,
    pub(super) codes: Codes,
    pub(super) sessions: Sessions,
    /// How people last saw themselves: what `/auth/me` answers while the store is away.
    pub(super) known: Cache<UserId, User>,
}

impl Auth {
    /// The service on these stores; `tasks` tracks what goes on after an answer, for shutdown to wait for.
    pub fn new(
        settings: Settings,
        users: Arc<Users>,
        store: Arc<dyn AuthStore>,
        bus: Arc<dyn Bus>,
        sms: Arc<dyn Sms>,
        clock: SharedClock,
        tasks: Tasks,
    ) -> std::io::Result<Self> {
        let ring = KeyRing::new(&settings.secret, settings.previous_secret.as_deref());
        let signer = Signer::new(ring.clone(), settings.access_token_ttl);
        let passwords = Passwords::new(settings.hashing_threads)?;
        let sessions = Sessions::new(Arc::clone(&store), Arc::clone(&users), settings.session_ttl);
        let known = Cache::builder().max_capacity(KNOWN_PEOPLE).time_to_live(KNOWN_FOR).build();
        let codes = Codes {
            store: Arc::clone(&store),
            ring: ring.clone(),
            limits: settings.send_limits.clone(),
            rate_limit: settings.rate_limit,
            sms,
            clock: Arc::clone(&clock),
        };
        Ok(Self { settings, users, store, bus, clock, tasks, ring, signer, passwords, codes, sessions, known })
    }

    /// Whom an access token speaks for, if its session goes on and the account may be used.
    ///
    /// # Errors
    /// `Unauthenticated`: no valid token, or its session has ended. `PhoneUnverified`: verification is required and missing.
    /// `Unavailable`: the session cannot be checked now.
    pub async fn authenticate(&self, token: &str) -> Result<Identity> {
        let identity = self.authenticate_any(token).await?;
        self.require_verified(&identity)?;
        Ok(identity)
    }

    /// Refuses who must verify first.
    pub(super) fn require_verified(&self, identity: &Identity) -> Result<()> {
        if identity.is_verified || !self.settings.require_verified_phone {
            return Ok(());
        }
        Err(Error::new(ErrorCode::PhoneUnverified, "verify your phone number first"))
    }

    /// As [`Auth::authenticate`], for what an unverified account may do too.
    pub async fn authenticate_any(&self, token: &str) -> Result<Identity> {
        let claims = self.signer.read_access(token, self.clock.now())?;
        self.check(&claims).await
    }

    /// Whom the claims of a believed token speak for.
    pub(super) async fn check(&self, claims: &AccessClaims) -> Result<Identity> {
        let check = self.sessions.check(claims, self.clock.now(), self.bus.is_up(), self.settings.require_verified_phone).await?;
        if check.touch {
            let (store, user, session, now) = (Arc::clone(&self.store), claims.sub, claims.sid, self.clock.now());
            self.tasks.spawn(async move {
                if let Err(error) = store.touch_session(user, session, now).await {
                    tracing::debug!(%error, "the last use of a session was not written; the next request writes it");
                }
            });
        }
        Ok(check.identity)
    }

    /// Whether the session goes on: for sockets, which are opened by a token and outlive its checks.
    pub async fn recheck(&self, user_id: UserId, session_id: SessionId) -> Result<Identity> {
        let (iat, exp) = (0, i64::MAX);
        self.check(&AccessClaims { sub: user_id, sid: session_id, iat, exp, name: None, verified: false }).await
    }

    /// The same as the store has it now, whatever was found out before: for revocations that may have been missed.
    pub async fn look_up(&self, user_id: UserId, session_id: SessionId) -> Result<Identity> {
        self.sessions.forget(user_id);
        self.recheck(user_id, session_id).await
    }

    /// What a revocation that came over the bus means for this node: nothing that was read before it is believed.
    pub fn note(&self, envelope: &Envelope) {
        if let Envelope::Revoked { user_id, session_id, except, late: _ } = envelope {
            self.sessions.revoke(*user_id, *session_id, *except);
        }
    }

    /// Tells all nodes that logins have ended. The store knows already; without the bus they find out within seconds.
    pub(super) async fn revoked(&self, user_id: UserId, session_id: Option<SessionId>, except: Option<SessionId>) {
        self.sessions.revoke(user_id, session_id, except);
        if let Err(error) = self.bus.publish(Envelope::Revoked { user_id, session_id, except, late: false }).await {
            tracing::warn!(%error, "a revocation waits for the nodes to check their sessions");
        }
    }

    /// Reads the number of a request.
    pub(super) fn phone(&self, text: &str) -> Result<Phone> {
        Phone::parse("phone_number", text, self.settings.default_country)
    }
}
