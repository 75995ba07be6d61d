//! Which old value a value corresponds to, and whether it changed (ratcheting, KEP-4008).

use serde_json::Value as Json;

/// A value with its old state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    new: &'a Json,
    old: &'a Json,
}

/// What is known of a place's old state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Correlation<'a> {
    current: Option<Pair<'a>>,
    /// The nearest place above that corresponds to an old one.
    above: Option<Pair<'a>>,
}

impl<'a> Correlation<'a> {
    pub fn root(new: &'a Json, old: Option<&'a Json>) -> Self {
        Self { current: old.map(|old| Pair { new, old }), above: None }
    }

    /// What it is beneath `allOf`.
    pub fn nested(self) -> Self {
        Self { current: None, above: self.above }
    }

    pub fn key(self, key: &str) -> Self {
        let Some(pair) = self.current else { return self };
        if self.above.is_none() && matches!(key, "apiVersion" | "kind") {
            return Self::default();
        }
        let below = pair.new.get(key).zip(pair.old.get(key));
        Self { current: below.map(|(new, old)| Pair { new, old }), above: self.current }
    }

    pub fn index(self, item: &'a Json, keys: &[String]) -> Self {
        let Some(pair) = self.current else { return self };
        let old = old_item(item, Some(pair.old), keys);
        Self { current: old.map(|old| Pair { new: item, old }), above: self.current }
    }

    /// True when the place, or what it is part of, is as it was.
    pub fn is_unchanged(self) -> bool {
        self.current.or(self.above).is_some_and(|pair| pair.new == pair.old)
    }
}

/// The item of the old list that has the same keys; lists without keys have none.
pub(super) fn old_item<'a>(item: &Json, old: Option<&'a Json>, keys: &[String]) -> Option<&'a Json> {
    if keys.is_empty() {
        return None;
    }
    old?.as_array()?.iter().find(|old| keys.iter().all(|key| old.get(key) == item.get(key)))
}
