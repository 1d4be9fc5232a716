//! What people say of themselves, checked: names without tricks, addresses of bounded length, links merged key by key.
//! Absent stays, null clears; a picture that lies on the phone (`file:///…`) is left out and the rest is saved.

use std::collections::BTreeMap;

use poem_openapi::Object;
use poem_openapi::types::{Example, MaybeUndefined};
use serde::Deserialize;

use super::{MAX_BIO_CHARS, MAX_EMAIL_BYTES, MAX_NAME_CHARS, MAX_PLATFORM_BYTES, MAX_SOCIAL_LINKS, MAX_URL_BYTES, UserRecord};
use crate::error::{Error, Result};
use crate::text;

/// A wish to change one's profile.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Object)]
#[serde(default)]
#[oai(example)]
pub struct UpdateProfile {
    /// What others call one, up to 100 characters.
    pub display_name: MaybeUndefined<String>,
    /// One's own address; nobody else sees it.
    pub email: MaybeUndefined<String>,
    /// What one says of oneself, up to 500 characters.
    pub bio: MaybeUndefined<String>,
    /// http(s) address of one's picture; anything else is left out.
    pub avatar_url: MaybeUndefined<String>,
    /// The same as `avatar_url`, which wins.
    pub avatar: MaybeUndefined<String>,
    /// Platform → address; merged key by key, a null removes its key, null instead of the object removes all.
    pub social_links: MaybeUndefined<BTreeMap<String, Option<String>>>,
}

impl Example for UpdateProfile {
    fn example() -> Self {
        Self {
            display_name: MaybeUndefined::Value("Ada Lovelace".into()),
            bio: MaybeUndefined::Value("I write programs for engines.".into()),
            ..Self::default()
        }
    }
}

impl UpdateProfile {
    /// The same with every value cleaned; all wrong fields are named at once.
    pub(super) fn check(self) -> Result<Self> {
        let mut faults = Vec::new();
        let avatar = if self.avatar_url.is_undefined() { self.avatar } else { self.avatar_url };
        let checked = Self {
            display_name: checked(self.display_name, &mut faults, |name| clean_name(Some(name))),
            email: checked(self.email, &mut faults, |email| clean_email(Some(email))),
            bio: checked(self.bio, &mut faults, |bio| {
                let bio = at_most("bio", text::clean_text(&bio), MAX_BIO_CHARS)?;
                Ok(Some(bio).filter(|bio| !bio.is_empty()))
            }),
            avatar_url: match avatar {
                MaybeUndefined::Value(url) if !is_web_address(&url) => MaybeUndefined::Undefined,
                other => other,
            },
            avatar: MaybeUndefined::Undefined,
            social_links: checked(self.social_links, &mut faults, |links| check_links(links).map(Some)),
        };
        if faults.is_empty() { Ok(checked) } else { Err(Error::invalid_fields(faults)) }
    }

    /// Writes what was given into the record.
    pub(super) fn apply(&self, record: &mut UserRecord) -> Result<()> {
        set(&mut record.display_name, &self.display_name);
        set(&mut record.email, &self.email);
        set(&mut record.bio, &self.bio);
        set(&mut record.avatar_url, &self.avatar_url);
        match &self.social_links {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => record.social_links.clear(),
            MaybeUndefined::Value(links) => {
                for (platform, url) in links {
                    match url {
                        Some(url) => drop(record.social_links.insert(platform.clone(), url.clone())),
                        None => drop(record.social_links.remove(platform)),
                    }
                }
                if record.social_links.len() > MAX_SOCIAL_LINKS {
                    return Err(Error::invalid("social_links", format!("social_links can hold {MAX_SOCIAL_LINKS} links")));
                }
            }
        }
        Ok(())
    }
}

/// What somebody is called; blank is none.
pub fn clean_name(name: Option<String>) -> Result<Option<String>> {
    match name {
        Some(name) if !name.trim().is_empty() => {
            let name = text::clean_line(&name)
                .ok_or_else(|| Error::invalid("display_name", "display_name must have at least one visible character"))?;
            at_most("display_name", name, MAX_NAME_CHARS).map(Some)
        }
        _ => Ok(None),
    }
}

/// An e-mail address; blank is none. Only its shape is looked at: whether it exists, nobody can tell.
pub fn clean_email(email: Option<String>) -> Result<Option<String>> {
    let Some(email) = email.map(|email| email.trim().to_owned()).filter(|email| !email.is_empty()) else { return Ok(None) };
    if email.len() > MAX_EMAIL_BYTES {
        return Err(Error::invalid("email", format!("email can be {MAX_EMAIL_BYTES} bytes long")));
    }
    let plain = |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control());
    let well_formed = email.rsplit_once('@').is_some_and(|(local, domain)| {
        let named = domain.split('.').count() > 1 && domain.split('.').all(|label| !label.is_empty());
        plain(local) && plain(domain) && !local.contains('@') && named && text::clean_line(&email).as_deref() == Some(&email)
    });
    if well_formed { Ok(Some(email)) } else { Err(Error::invalid("email", "email must look like name@example.org")) }
}

/// `http://` or `https://`, a host, no blanks, of bounded length.
pub fn is_web_address(url: &str) -> bool {
    let scheme = url.split_once("://").filter(|(scheme, _)| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"));
    let host = scheme.map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    url.len() <= MAX_URL_BYTES && !host.is_empty() && !url.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn check_links(links: BTreeMap<String, Option<String>>) -> Result<BTreeMap<String, Option<String>>> {
    let mut checked = BTreeMap::new();
    for (platform, url) in links {
        let fits = platform.len() <= MAX_PLATFORM_BYTES && text::clean_line(&platform).is_some_and(|clean| clean == platform);
        if !fits {
            return Err(Error::invalid("social_links", format!("a platform is a plain word of up to {MAX_PLATFORM_BYTES} bytes")));
        }
        let url = url.and_then(|url| text::clean_line(&url));
        if let Some(url) = &url {
            // A handle like @ada is as good as an address; what a browser would run is neither.
            let is_address = url.contains("://") || url.split_once(':').is_some_and(|(scheme, _)| !scheme.contains(['.', '/', '@']));
            if url.len() > MAX_URL_BYTES || (is_address && !is_web_address(url)) {
                let at = format!("social_links.{platform}");
                return Err(Error::invalid(&at, format!("{at} must be an http(s) address or a name there, up to {MAX_URL_BYTES} bytes")));
            }
        }
        checked.insert(platform, url);
    }
    Ok(checked)
}

fn at_most(field: &str, text: String, chars: usize) -> Result<String> {
    if text.chars().count() > chars {
        return Err(Error::invalid(field, format!("{field} can be {chars} characters long")));
    }
    Ok(text)
}

/// A value that was given is cleaned; one that is cleaned away clears.
fn checked<T>(
    value: MaybeUndefined<T>,
    faults: &mut Vec<crate::error::FieldError>,
    clean: impl FnOnce(T) -> Result<Option<T>>,
) -> MaybeUndefined<T> {
    let MaybeUndefined::Value(value) = value else { return value };
    match clean(value) {
        Ok(Some(value)) => MaybeUndefined::Value(value),
        Ok(None) => MaybeUndefined::Null,
        Err(error) => {
            faults.extend(error.fields);
            MaybeUndefined::Undefined
        }
    }
}

fn set(field: &mut Option<String>, value: &MaybeUndefined<String>) {
    match value {
        MaybeUndefined::Undefined => {}
        MaybeUndefined::Null => *field = None,
        MaybeUndefined::Value(value) => *field = Some(value.clone()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::Timestamp;
    use crate::id::UserId;

    fn update(record: &UserRecord, wish: Value) -> Result<UserRecord> {
        let wish: UpdateProfile = serde_json::from_value(wish).unwrap();
        let mut record = record.clone();
        wish.check()?.apply(&mut record)?;
        Ok(record)
    }

    fn ada() -> UserRecord {
        let mut record = UserRecord::new(UserId::fresh(), "+12025550123".into(), Timestamp(1));
        record.display_name = Some("Ada".into());
        record.email = Some("ada@example.org".into());
        record.bio = Some("engines".into());
        record.avatar_url = Some("https://example.org/a.png".into());
        record.social_links.insert("x".into(), "https://example.org/x".into());
        record
    }

    fn refused(wish: Value) -> Vec<String> {
        update(&ada(), wish).unwrap_err().fields.iter().map(|field| field.loc.join(".")).collect()
    }

    #[test]
    fn absent_stays_and_null_clears() {
        let record = ada();
        assert_eq!(update(&record, json!({})).unwrap(), record);
        let cleared = update(&ada(), json!({"display_name": null, "email": null, "bio": null, "avatar_url": null, "social_links": null}));
        let cleared = cleared.unwrap();
        assert_eq!((cleared.display_name, cleared.email, cleared.bio, cleared.avatar_url), (None, None, None, None));
        assert!(cleared.social_links.is_empty());
        let blank = update(&ada(), json!({"display_name": " ", "email": "", "bio": "\t"})).unwrap();
        assert_eq!((blank.display_name, blank.email, blank.bio), (None, None, None));
    }

    #[test]
    fn links_merge_key_by_key() {
        let record = update(&ada(), json!({"social_links": {"y": "@ada", "x": null}})).unwrap();
        assert_eq!(record.social_links, BTreeMap::from([("y".to_owned(), "@ada".to_owned())]));
        let record = update(&ada(), json!({"social_links": {"y": "https://example.org/y", "z": ""}})).unwrap();
        assert_eq!(record.social_links.keys().collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn a_picture_on_the_phone_is_left_out_and_the_rest_saved() {
        for picture in ["file:///data/a.png", "content://a", "", "javascript:alert(1)", "https://", "https://a b"] {
            let record = update(&ada(), json!({"avatar_url": picture, "bio": "new"})).unwrap();
            assert_eq!(record.avatar_url.as_deref(), Some("https://example.org/a.png"), "{picture}");
            assert_eq!(record.bio.as_deref(), Some("new"));
        }
        let record = update(&ada(), json!({"avatar": "HTTPS://example.org/b.png"})).unwrap();
        assert_eq!(record.avatar_url.as_deref(), Some("HTTPS://example.org/b.png"));
        let record = update(&ada(), json!({"avatar": "https://example.org/b.png", "avatar_url": "https://example.org/c.png"})).unwrap();
        assert_eq!(record.avatar_url.as_deref(), Some("https://example.org/c.png"));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let wish =
            json!({"display_name": "\u{200b}", "email": "nobody", "bio": "x".repeat(501), "social_links": {"x": "javascript:alert(1)"}});
        assert_eq!(refused(wish), ["body.display_name", "body.email", "body.bio", "body.social_links.x"]);
        assert_eq!(refused(json!({"display_name": "x".repeat(101)})), ["body.display_name"]);
        assert_eq!(refused(json!({"social_links": {"a b\u{202e}": "y"}})), ["body.social_links"]);
        let many: BTreeMap<_, _> = (0..=MAX_SOCIAL_LINKS).map(|n| (format!("p{n}"), "y")).collect();
        assert_eq!(refused(json!({"social_links": many})), ["body.social_links"]);
    }

    #[test]
    fn lengths_count_characters() {
        let name = "🦊".repeat(MAX_NAME_CHARS);
        assert_eq!(update(&ada(), json!({"display_name": name})).unwrap().display_name, Some(name));
    }

    #[test]
    fn addresses_have_a_shape() {
        for good in ["a@b.co", " ada@example.org ", "a+b@sub.example.org"] {
            assert!(clean_email(Some(good.into())).is_ok_and(|email| email.is_some()), "{good}");
        }
        for bad in ["a", "a@", "@b.co", "a@b", "a@b..co", "a b@c.de", "a@b@c.de", "a\u{202e}@b.co", "a@b.co\u{0}"] {
            assert!(clean_email(Some(bad.into())).is_err(), "{bad:?}");
        }
        assert_eq!(clean_email(Some("  ".into())).unwrap(), None);
    }
}
