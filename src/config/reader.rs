//! How single settings are taken out of the layers: each is read, noted as read, and what is wrong with it collected, so that all
//! wrong settings are refused at once.

use std::cell::RefCell;

use super::value::Parsed;
use super::{Layers, Problem, Resolved, secrecy};

/// Takes values out of the layers and collects what is wrong with them.
pub(super) struct Reader<'a> {
    pub layers: &'a Layers,
    pub problems: RefCell<Vec<Problem>>,
    pub read: RefCell<Vec<&'static str>>,
}

impl Reader<'_> {
    fn resolved(&self, key: &'static str) -> Option<&Resolved> {
        self.read.borrow_mut().push(key);
        self.layers.values.iter().find(|resolved| resolved.setting.key == key)
    }

    /// The value, when there is one and it is good.
    pub fn get<T>(&self, key: &'static str, parse: impl FnOnce(&str) -> Parsed<T>) -> Option<T> {
        let resolved = self.resolved(key)?;
        let text = resolved.value.trim();
        if text.is_empty() {
            return None;
        }
        parse(text).map_err(|words| self.problems.borrow_mut().push(Problem::of_value(resolved, &words))).ok()
    }

    /// As [`Reader::get`]; the fallback is never used: a missing value is refused.
    pub fn need<T>(&self, key: &'static str, parse: impl FnOnce(&str) -> Parsed<T>, fallback: T) -> T {
        let before = self.problems.borrow().len();
        self.get(key, parse).unwrap_or_else(|| {
            if self.problems.borrow().len() == before {
                self.refuse(key, "a value is needed");
            }
            fallback
        })
    }

    pub fn text(&self, key: &'static str) -> Option<String> {
        self.get(key, |text| Ok(text.to_owned()))
    }

    pub fn hidden(&self, key: &'static str) -> Option<secrecy::Hidden> {
        self.text(key).map(secrecy::Hidden::new)
    }

    /// A name and its password, both or neither.
    pub fn login(&self, user: &'static str, password: &'static str) -> Option<(String, secrecy::Hidden)> {
        let (name, secret) = (self.text(user), self.hidden(password));
        for (key, lacks) in [(user, name.is_none()), (password, secret.is_none())] {
            if lacks && (name.is_some() || secret.is_some()) {
                self.refuse(key, "the other half of the login is set");
            }
        }
        name.zip(secret)
    }

    pub fn refuse(&self, key: &'static str, words: &str) {
        if let Some(resolved) = self.layers.values.iter().find(|resolved| resolved.setting.key == key) {
            self.problems.borrow_mut().push(Problem::of_value(resolved, words));
        }
    }
}
