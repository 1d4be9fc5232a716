//! One table: what each field of each body takes, and what each kind of spoilt value comes to there.
//! A field of the document without a row, and a row without a field, fails the test.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::good::{Good, Stage};
use crate::support::document::{Operation, operations};
use crate::support::failure;

/// Whether the call can do without the field.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Need {
    Must,
    May,
}
use Need::{May, Must};

/// What a field takes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Takes {
    /// A phone number.
    Phone,
    /// One line that others are shown: cleaned, bounded, visible.
    Name,
    /// A text about oneself: cleaned and bounded.
    Bio,
    /// An e-mail address.
    Email,
    /// A picture's address; what is none is left out.
    Picture,
    /// A file's address; what is none is refused.
    Url,
    /// 8 to 100 characters.
    Password,
    /// What is compared with a secret: refused with this status when it is another.
    Guess(u16),
    /// What is looked at only with a second factor, or when it is a token.
    Passed,
    /// The words of a message.
    Content,
    /// A client's name for a message.
    ClientId,
    /// Anything: clients send along what they have.
    Any,
    /// A UUID.
    Id,
    /// One of a few words.
    Word,
    /// `next_cursor` of an answer.
    Cursor,
    /// True or false.
    Flag,
    /// A whole number or a fraction.
    Number,
    /// UUIDs, at least one.
    SomeIds,
    /// UUIDs, perhaps none.
    Ids,
    /// Phone numbers, perhaps wrong ones.
    Phones,
    /// Conversation → place.
    Places,
    /// Platform → address.
    Links,
    /// Switch → true or false.
    Switches,
}
use Takes::{
    Any, Bio, ClientId, Content, Cursor, Email, Flag, Guess, Id, Ids, Links, Name, Number, Passed, Password, Phone, Phones, Picture,
    Places, SomeIds, Switches, Url, Word,
};

/// A field: its name, whether it must be there, what it takes.
type Field = (&'static str, Need, Takes);

const PHONE: Field = ("phone_number", Must, Phone);
const SWITCHES: &[Field] = &[
    ("enabled", May, Flag),
    ("show_preview", May, Flag),
    ("sound", May, Flag),
    ("vibration", May, Flag),
    ("message_notifications", May, Flag),
    ("group_notifications", May, Flag),
    ("settings", May, Switches),
];

/// Every field of every body.
const TABLE: &[(&str, &[Field])] = &[
    (
        "POST /auth/register",
        &[
            PHONE,
            ("password", May, Password),
            ("display_name", May, Name),
            ("email", May, Email),
            ("verification_code", May, Guess(400)),
            ("registration_token", May, Guess(400)),
        ],
    ),
    ("POST /auth/login", &[PHONE, ("password", Must, Guess(401)), ("verification_code", May, Guess(401)), ("totp_code", May, Passed)]),
    ("POST /auth/send-code", &[PHONE]),
    ("POST /auth/send-verification", &[PHONE]),
    ("POST /auth/verify-phone", &[PHONE, ("code", Must, Guess(400))]),
    ("POST /auth/forgot-password", &[PHONE]),
    ("POST /auth/verify-reset-code", &[PHONE, ("code", Must, Guess(400))]),
    ("POST /auth/reset-password", &[PHONE, ("code", Must, Guess(400)), ("new_password", Must, Password)]),
    ("POST /auth/refresh", &[("refresh_token", Must, Guess(401))]),
    ("POST /auth/logout", &[("refresh_token", May, Passed)]),
    (
        "PUT /auth/profile",
        &[
            ("display_name", May, Name),
            ("email", May, Email),
            ("bio", May, Bio),
            ("avatar_url", May, Picture),
            ("avatar", May, Picture),
            ("social_links", May, Links),
        ],
    ),
    ("POST /users/batch", &[("user_ids", Must, Ids)]),
    ("POST /users/lookup", &[("phone_numbers", Must, Phones)]),
    ("POST /conversations", &[("type", Must, Word), ("participant_ids", Must, Ids), ("name", Must, Name), ("avatar_url", May, Picture)]),
    ("PUT /conversations/{id}/favorite", &[("is_favorite", May, Flag), ("is_favourite", May, Flag)]),
    ("POST /sync", &[("known", May, Places), ("limit", May, Number), ("cursor", May, Cursor)]),
    (
        "POST /messages",
        &[
            ("conversation_id", Must, Id),
            ("content", Must, Content),
            ("message_type", May, Word),
            ("type", May, Word),
            ("media_url", May, Url),
            ("thumbnail_url", May, Url),
            ("audio_duration", May, Number),
            ("reply_to_id", May, Id),
            ("is_encrypted", May, Flag),
            ("client_message_id", May, ClientId),
            ("id", May, Any),
        ],
    ),
    (
        "POST /messages/forward",
        &[
            ("message_ids", Must, SomeIds),
            ("conversation_id", May, Id),
            ("conversation_ids", May, Ids),
            ("client_message_id", May, ClientId),
        ],
    ),
    ("POST /messages/read", &[("message_ids", Must, Ids), ("conversation_id", May, Id)]),
    ("PUT /messages/{id}", &[("content", Must, Content)]),
    ("PUT /messages/{id}/status", &[("status", Must, Word)]),
    (
        "PUT /settings/privacy",
        &[
            ("show_online_status", May, Flag),
            ("show_last_seen", May, Flag),
            ("show_profile_photo", May, Flag),
            ("show_read_receipts", May, Flag),
        ],
    ),
    ("PUT /settings/notifications", SWITCHES),
    ("PUT /notifications/settings", SWITCHES),
];

/// What is put in a field's place.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Spoilt {
    Missing,
    Null,
    Seven,
    List,
    Object,
    TooLong,
    Nul,
    Control,
    Override,
    Invisible,
    Emoji,
    LoneSurrogate,
    BadByte,
}

impl Spoilt {
    const ALL: [Self; 13] = [
        Self::Missing,
        Self::Null,
        Self::Seven,
        Self::List,
        Self::Object,
        Self::TooLong,
        Self::Nul,
        Self::Control,
        Self::Override,
        Self::Invisible,
        Self::Emoji,
        Self::LoneSurrogate,
        Self::BadByte,
    ];

    /// The text, when it is one. What JSON libraries cannot write is put in afterwards.
    fn text(self) -> Option<String> {
        let text = match self {
            Self::TooLong => &"x".repeat(20_000),
            Self::Nul => "a\0b",
            Self::Control => "a\u{1b}[31mb\u{7}",
            Self::Override => "a\u{202e}b",
            Self::Invisible => "\u{200b}\u{200d}",
            Self::Emoji => "🦊",
            Self::LoneSurrogate | Self::BadByte => PLACE,
            Self::Missing | Self::Null | Self::Seven | Self::List | Self::Object => return None,
        };
        Some(text.to_owned())
    }
}

/// Stands where bytes are put in that no JSON library writes.
const PLACE: &str = "put the bytes here";

/// What a request must come to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// 200
    Taken,
    /// 422, naming the field.
    Named,
    /// 400: the body is no JSON.
    Unreadable,
    /// A wrong guess.
    Wrong(u16),
}

/// What this value must come to in this field.
#[allow(clippy::match_same_arms, reason = "one rule a line; the first that fits holds")]
fn fate(need: Need, takes: Takes, spoilt: Spoilt) -> Fate {
    use Fate::{Named, Taken, Unreadable};
    use Spoilt::{Invisible, List, Missing, Nul, Null, Object, Override, Seven, TooLong};
    match (spoilt, takes) {
        (Missing | Null, _) if need == Must => Named,
        (Missing | Null, _) => Taken,
        (Spoilt::LoneSurrogate | Spoilt::BadByte, _) => Unreadable,
        (Nul, _) => Named,
        (_, Any) | (Seven, Number) | (List, Ids | Phones) | (Object, Places | Links | Switches) => Taken,
        (Seven | List | Object, _) => Named,
        // Long enough, and whatever a keyboard gives.
        (Spoilt::Control, Password) => Taken,
        (TooLong, Phones | Links | Content | ClientId | Name | Bio | Password) => Named,
        (_, Guess(status)) => Fate::Wrong(status),
        (_, Passed | Picture | Bio | ClientId | Phones | Links) => Taken,
        (Invisible, Name | Content) => Named,
        (Spoilt::Control | Override | Spoilt::Emoji, Name | Content) => Taken,
        // A place that cannot be read is one that the client does not have.
        (Spoilt::Control | Override | Invisible | Spoilt::Emoji, Places) => Taken,
        _ => Named,
    }
}

/// The spoilt value as this field holds it.
fn value(takes: Takes, spoilt: Spoilt) -> Value {
    let too_many = |n: usize| (0..n).map(|_| json!(Uuid::now_v7())).collect::<Value>();
    match (spoilt, takes) {
        (Spoilt::Null | Spoilt::Missing, _) => Value::Null,
        (Spoilt::Seven, _) => json!(7),
        (Spoilt::List, _) => json!([]),
        (Spoilt::Object, _) => json!({}),
        (Spoilt::TooLong, Ids | SomeIds) => too_many(1_001),
        (Spoilt::TooLong, Phones) => too_many(501),
        (Spoilt::TooLong, Places) => (0..10_001).map(|_| (Uuid::now_v7().to_string(), json!(1))).collect::<serde_json::Map<_, _>>().into(),
        _ => {
            let text = spoilt.text().unwrap();
            match takes {
                Ids | SomeIds | Phones => json!([text]),
                Places => json!({Uuid::now_v7().to_string(): text}),
                Links => json!({"site": text}),
                Switches => json!({"sound": text}),
                _ => json!(text),
            }
        }
    }
}

/// The body with this value in the field, as bytes.
fn written(good: &Value, field: &str, takes: Takes, spoilt: Spoilt) -> Vec<u8> {
    let mut body = good.clone();
    if spoilt == Spoilt::Missing {
        body.as_object_mut().unwrap().remove(field);
    } else {
        body[field] = value(takes, spoilt);
    }
    let text = body.to_string();
    let Some((before, behind)) = text.split_once(&format!("\"{PLACE}\"")) else { return text.into_bytes() };
    let odd: &[u8] = if spoilt == Spoilt::LoneSurrogate { br#""a\ud800b""# } else { b"\"a\xffb\"" };
    [before.as_bytes(), odd, behind.as_bytes()].concat()
}

impl Stage {
    /// Sends these bytes to where the good body goes.
    async fn send_bytes(&self, good: &Good, body: Vec<u8>) -> reqwest::Response {
        let (method, path) = good.route.split_once(' ').unwrap();
        let request = self.people.server.request(method.parse().unwrap(), path).header("content-type", "application/json").body(body);
        let request = if let Some(token) = &good.token { request.bearer_auth(token) } else { request };
        request.send().await.unwrap()
    }

    /// Spoils this field in every way; returns what came to something else than it should.
    async fn spoil(&self, call: &Operation, (field, need, takes): Field) -> Vec<String> {
        let (mut faults, route) = (Vec::new(), call.route());
        for spoilt in Spoilt::ALL {
            let good = self.good(call).await;
            let wanted = fate(need, takes, spoilt);
            let body = written(&good.body, field, takes, spoilt);
            let mut response = self.send_bytes(&good, body.clone()).await;
            // All rows come at once: what a busy machine turns away for a moment is sent again.
            for _ in 0..5 {
                let Some(wait) = response.headers().get("retry-after").filter(|_| response.status() == 503) else { break };
                tokio::time::sleep(Duration::from_secs(wait.to_str().unwrap().parse().unwrap())).await;
                response = self.send_bytes(&good, body.clone()).await;
            }
            let status = response.status().as_u16();
            let (expected, code) = match wanted {
                Fate::Taken => (200, ""),
                Fate::Named => (422, "validation_error"),
                Fate::Wrong(401) => (401, "unauthenticated"),
                Fate::Unreadable | Fate::Wrong(_) => (400, "bad_request"),
            };
            if status != expected {
                faults.push(format!("{route} {field} {spoilt:?}: {status} instead of {wanted:?}: {}", response.text().await.unwrap()));
                continue;
            }
            if status == 200 {
                continue;
            }
            let body = failure(response, expected, code).await;
            let loc = &body["detail"][0]["loc"];
            if wanted == Fate::Named && (loc[0] != "body" || loc[1] != field) {
                faults.push(format!("{route} {field} {spoilt:?}: {loc} is named"));
            }
        }
        faults
    }
}

#[test]
fn every_field_of_every_body_has_a_row() {
    let fields = |names: Vec<String>| {
        let mut names = names;
        names.sort_unstable();
        names
    };
    let documented: BTreeMap<_, _> = operations().into_iter().filter_map(|one| Some((one.route(), fields(one.fields.clone()?)))).collect();
    let named = |rows: &[Field]| fields(rows.iter().map(|(name, _, _)| (*name).to_owned()).collect());
    let rows: BTreeMap<_, _> = TABLE.iter().map(|(route, rows)| ((*route).to_owned(), named(rows))).collect();
    assert_eq!(rows, documented);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_spoilt_is_named_or_taken_and_never_a_fault_of_ours() {
    let stage = Stage::set().await;
    let calls = operations();
    let of_call = async |(route, rows): &(&str, &[Field])| {
        let call = calls.iter().find(|call| call.route() == *route).unwrap();
        join_all(rows.iter().map(|row| stage.spoil(call, *row))).await.concat()
    };
    let mut faults = Vec::new();
    // One call after the other: all at once keep a busy machine longer than a client waits.
    for row in TABLE {
        faults.extend(of_call(row).await);
    }
    assert!(faults.is_empty(), "{faults:#?}");
    stage.people.server.stop().await;
}
