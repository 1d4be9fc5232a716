//! One-time codes: six digits by SMS, hashed at rest, good for ten minutes, for one purpose, for one use.
//! Guessing is bounded by tries that are claimed in the store before anything is compared, per code and per number and day;
//! sending by budgets per number, address, network and in all, against those who are paid for the messages.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use uuid::Uuid;

use super::keys::{self, Bytes32, KeyRing};
use super::sms::{Sms, SmsError};
use super::store::{AuthStore, Spent, Try};
use crate::clock::{SharedClock, Timestamp};
use crate::error::{Error, ErrorCode, Result};
use crate::phone::{Country, Phone};

/// How long a code is good.
pub const CODE_TTL: Duration = Duration::from_mins(10);
/// A code that has passed verify-phone stays good for its one login at least this long.
const LOGIN_AFTER_VERIFY: Duration = Duration::from_mins(2);
/// Wrong tries a code.
pub const TRIES_PER_CODE: u32 = 5;
/// Wrong tries a number and day.
pub const TRIES_PER_DAY: u32 = 15;
/// Digits of a code.
const DIGITS: usize = 6;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// What a code is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To show that one has the phone: sign-up, verification, login.
    Phone = 0,
    /// To set a new password.
    Reset = 1,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Reset => "reset",
        }
    }
}

/// How far a code is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeState {
    /// Not used.
    Fresh = 0,
    /// Has verified its number and is good for one login more.
    Verified = 1,
    /// Used up.
    Spent = 2,
    /// Is verifying its number: good for that again, and for all that it is good for afterwards.
    Verifying = 3,
    /// Is being used up: good for the same use once more, should that have broken off.
    Claimed = 4,
}

/// What a code is used for. Until that is done the same use may begin again, and no other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use<'a> {
    /// Verifying its number; a login or registration may follow.
    Verify,
    /// Logging in.
    LogIn,
    /// Registering.
    Register,
    /// Setting this password, hashed.
    Reset(&'a str),
}

/// A code in use: taken by [`Codes::begin`], used up by [`Codes::finish`] once everything that it was used for is done.
pub(super) struct InUse {
    phone: Phone,
    purpose: Purpose,
    code: CodeRecord,
    during: CodeState,
    after: CodeState,
    refusal: fn() -> Error,
}

/// A code, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeRecord {
    /// Tells this code from the ones before and after it for the same number and purpose.
    pub id: Uuid,
    /// Keyed hash of the digits.
    pub hash: Bytes32,
    /// When it was made.
    pub sent_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// Tries that were claimed and not given back.
    pub tries: u32,
    /// How far it is used up.
    pub state: CodeState,
    /// Which use has it, while one does.
    pub claim: Option<Bytes32>,
}

/// So many, in this time.
pub type Rate = (u32, Duration);

/// What a message counts against: the kind of budget, whose it is, and its rates.
type Budget<'a> = (&'static str, String, &'a [Rate]);

/// How many codes go out; see [`SendLimits::production`].
#[derive(Clone, Debug)]
pub struct SendLimits {
    /// Per number: (codes, in this time).
    pub number: Vec<Rate>,
    /// Per address; not asked when rate limits are off.
    pub address: Vec<Rate>,
    /// Per network (IPv4 /24, IPv6 /48); not asked when rate limits are off.
    pub network: Vec<Rate>,
    /// In all.
    pub total: Vec<Rate>,
    /// Countries whose numbers get codes; all of them when empty.
    pub countries: Vec<Country>,
}

impl SendLimits {
    /// The contract's limits, with this many codes a day in all.
    pub fn production(daily_budget: u32, countries: Vec<Country>) -> Self {
        Self {
            number: vec![(1, MINUTE), (5, HOUR), (10, DAY)],
            address: vec![(10, HOUR), (30, DAY)],
            network: vec![(50, HOUR), (200, DAY)],
            total: vec![(daily_budget.div_ceil(6), HOUR), (daily_budget, DAY)],
            countries,
        }
    }

    /// No limits.
    pub fn development() -> Self {
        Self { number: Vec::new(), address: Vec::new(), network: Vec::new(), total: Vec::new(), countries: Vec::new() }
    }
}

/// Sends codes and checks them.
pub(super) struct Codes {
    pub store: Arc<dyn AuthStore>,
    pub ring: KeyRing,
    pub limits: SendLimits,
    pub rate_limit: bool,
    pub sms: Arc<dyn Sms>,
    pub clock: SharedClock,
}

/// Units taken for one message, to be given back if it does not go out.
pub(super) struct Claimed(Vec<String>);

impl Codes {
    /// Takes a message from every budget that it counts against.
    pub async fn claim(&self, phone: &Phone, address: Option<IpAddr>) -> Result<Claimed> {
        if !self.limits.countries.is_empty() && !phone.is_of(&self.limits.countries) {
            return Err(Error::forbidden("codes cannot be sent to numbers of this country"));
        }
        let now = self.clock.now();
        let mut claimed = Claimed(Vec::new());
        for (scope, name, limits) in self.budgets(phone, address) {
            for &(limit, window) in limits {
                let budget = format!("{scope}:{}:{name}", window.as_secs());
                match self.store.spend(&budget, limit, window, now).await {
                    Ok(Spent::Granted) => claimed.0.push(budget),
                    Ok(Spent::Refused(until)) => {
                        self.give_back(claimed).await;
                        return Err(refusal(scope, until.since(now)));
                    }
                    Err(error) => {
                        self.give_back(claimed).await;
                        return Err(error.into());
                    }
                }
            }
        }
        Ok(claimed)
    }

    fn budgets(&self, phone: &Phone, address: Option<IpAddr>) -> Vec<Budget<'_>> {
        let mut budgets = vec![("send-number", phone.as_str().to_owned(), &self.limits.number[..])];
        if let Some(address) = address.filter(|_| self.rate_limit) {
            budgets.push(("send-address", network(address, 32, 64), &self.limits.address));
            budgets.push(("send-network", network(address, 24, 48), &self.limits.network));
        }
        budgets.push(("send-total", String::new(), &self.limits.total));
        budgets
    }

    /// Makes a code, stores it and sends it; it takes the place of the one before, which stays when it does not go out.
    /// What does not go out is not counted, unless the number is to blame: asking for numbers that get no SMS is a probe.
    /// To be called in a task of its own: a request that goes away must not leave it half done.
    pub async fn send(&self, phone: &Phone, purpose: Purpose, claimed: Claimed) -> Result<()> {
        let sent = self.make_and_send(phone, purpose).await;
        if sent.as_ref().is_err_and(|error| error.code != ErrorCode::Invalid) {
            self.give_back(claimed).await;
        }
        sent
    }

    async fn make_and_send(&self, phone: &Phone, purpose: Purpose) -> Result<()> {
        let code = random_digits()?;
        let now = self.clock.now();
        let id = Uuid::now_v7();
        let hash = hash(&self.ring.current.codes, phone, purpose, id, &code);
        let record = CodeRecord { id, hash, sent_at: now, expires_at: now.plus(CODE_TTL), tries: 0, state: CodeState::Fresh, claim: None };
        let before = self.store.put_code(phone, purpose, &record).await?;
        let sent = self.sms.send_code(phone, &code).await;
        if sent.is_err()
            && let Err(error) = self.store.take_code_back(phone, purpose, id, before.as_ref()).await
        {
            tracing::warn!(%error, "a code that was not sent stays in the place of the one before");
        }
        sent.map_err(|error| match error {
            SmsError::Refused(_) => Error::invalid("phone_number", "this number cannot receive SMS").with_source(error),
            SmsError::Unavailable(_) => Error {
                retry_after: Some(Duration::from_secs(10)),
                ..Error::new(ErrorCode::SmsUnavailable, "the SMS could not be sent, try again in a moment").with_source(error)
            },
        })
    }

    async fn give_back(&self, claimed: Claimed) {
        for budget in claimed.0 {
            // Lost units come back with their window; nobody needs to be told.
            if let Err(error) = self.store.return_unit(&budget, self.clock.now()).await {
                tracing::warn!(%error, "a unit of a code budget could not be given back");
            }
        }
    }

    /// Compares a code with the living one; `None`: there is none, or it is wrong. A wrong one costs a try.
    ///
    /// # Errors
    /// `RateLimited` when the code or the number has no tries left.
    pub async fn check(&self, phone: &Phone, purpose: Purpose, code: &str) -> Result<Option<CodeRecord>> {
        let Some(code) = digits(code) else { return Ok(None) };
        let now = self.clock.now();
        let record = match self.store.claim_try(phone, purpose, TRIES_PER_CODE, now).await? {
            Try::Granted(record) => record,
            Try::Exhausted(record) => {
                let wait = record.sent_at.plus(MINUTE).since(now).max(Duration::from_secs(1));
                return Err(Error::rate_limited("too many wrong codes, ask for a new one", wait));
            }
            Try::Absent => return Ok(None),
        };
        let day = format!("try:{}", phone.as_str());
        if let Spent::Refused(until) = self.store.spend(&day, TRIES_PER_DAY, DAY, now).await? {
            return Err(Error::rate_limited("too many wrong codes for this number today", until.since(now)));
        }
        let right = self.ring.believed().any(|keys| keys::same(&hash(&keys.codes, phone, purpose, record.id, &code), &record.hash));
        if !right {
            return Ok(None);
        }
        self.store.return_try(phone, purpose, record.id).await?;
        self.store.return_unit(&day, now).await?;
        Ok((record.state != CodeState::Spent).then_some(record))
    }

    /// Begins to use a checked code, or goes on with the same use when that broke off: a 503 may be answered by the same
    /// request again. `refusal`: it is in another use, or used up.
    pub async fn begin(&self, phone: &Phone, code: CodeRecord, usage: Use<'_>, refusal: fn() -> Error) -> Result<InUse> {
        let (from, during, after): (&[_], _, _) = match usage {
            Use::Verify => (&[CodeState::Fresh], CodeState::Verifying, CodeState::Verified),
            Use::LogIn | Use::Register => {
                (&[CodeState::Fresh, CodeState::Verifying, CodeState::Verified], CodeState::Claimed, CodeState::Spent)
            }
            Use::Reset(_) => (&[CodeState::Fresh], CodeState::Claimed, CodeState::Spent),
        };
        let purpose = if matches!(usage, Use::Reset(_)) { Purpose::Reset } else { Purpose::Phone };
        if !self.store.claim_code(phone, purpose, code.id, from, during, usage.claim()).await? {
            return Err(refusal());
        }
        Ok(InUse { phone: phone.clone(), purpose, code, during, after, refusal })
    }

    /// Uses the code up, or half up.
    ///
    /// # Errors
    /// The use's refusal: the same use has ended elsewhere, and this one must not count.
    pub async fn finish(&self, in_use: &InUse) -> Result<()> {
        let InUse { phone, purpose, code, during, after, refusal } = in_use;
        let later = self.clock.now().plus(LOGIN_AFTER_VERIFY);
        let expires_at = if *after == CodeState::Verified { code.expires_at.max(later) } else { code.expires_at };
        if self.store.advance_code(phone, *purpose, code.id, &[*during], *after, expires_at).await? { Ok(()) } else { Err(refusal()) }
    }
}

impl Use<'_> {
    /// Tells this use from others of the same code.
    fn claim(self) -> Bytes32 {
        match self {
            Self::Verify => keys::digest(b"verify"),
            Self::LogIn => keys::digest(b"log in"),
            Self::Register => keys::digest(b"register"),
            Self::Reset(hash) => keys::digest(hash.as_bytes()),
        }
    }
}

fn refusal(scope: &str, wait: Duration) -> Error {
    match scope {
        "send-number" => Error::rate_limited("too many codes were sent to this number, wait before asking for another", wait),
        "send-total" => Error {
            retry_after: Some(wait),
            ..Error::new(ErrorCode::SmsUnavailable, "no more codes can be sent at the moment, try again later")
        },
        _ => Error::rate_limited("too many codes were asked for from here, try again later", wait),
    }
}

/// The six digits of what was typed; spaces and dashes between them do not matter.
fn digits(text: &str) -> Option<String> {
    let code: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '\u{a0}' | '\t' | '\n' | '\r')).collect();
    (code.len() == DIGITS && code.bytes().all(|byte| byte.is_ascii_digit())).then_some(code)
}

fn hash(key: &Bytes32, phone: &Phone, purpose: Purpose, id: Uuid, code: &str) -> Bytes32 {
    keys::tag(key, &[purpose.name().as_bytes(), phone.as_str().as_bytes(), id.as_bytes(), code.as_bytes()])
}

/// Six digits, each code as likely as any other, from the operating system's randomness.
fn random_digits() -> Result<String> {
    // The largest multiple of a million in 32 bits: what lies above would favour small codes.
    const FAIR: u32 = u32::MAX - u32::MAX % 1_000_000;
    loop {
        let n = SysRng.try_next_u32().map_err(Error::internal)?;
        if n < FAIR {
            return Ok(format!("{:06}", n % 1_000_000));
        }
    }
}

/// The network of an address, with this many leading bits of IPv4 or IPv6.
fn network(address: IpAddr, v4_bits: u32, v6_bits: u32) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("{}/{v4_bits}", std::net::Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << (32 - v4_bits)))),
        IpAddr::V6(v6) => format!("{}/{v6_bits}", std::net::Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - v6_bits)))),
    }
}
