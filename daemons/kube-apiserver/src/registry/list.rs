//! List: a page of a snapshot, and the token with which the next page continues in the same snapshot.

use ::store::{Entry, Snapshot, StoreError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use machinery::selector::FieldSelector;
use machinery::status::Status;
use serde::{Deserialize, Serialize};

use super::options::{ListOptions, VersionMatch};
use super::{Registry, Served};

/// One page.
pub struct Page {
    pub entries: Vec<Entry>,
    pub revision: u64,
    /// Empty on the last page.
    pub continue_token: String,
    /// How many follow; none when a selector makes that unknown.
    pub remaining: Option<usize>,
}

/// The content of a continue token. The same as upstream's, so that either server continues the other's lists.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    v: String,
    /// Negative: continue in the newest state, the snapshot is gone.
    rv: i64,
    /// The key to start at, below the resource's prefix; it ends in a zero byte when that key is not included.
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

impl Token {
    fn encode(&self) -> String {
        // Strings and a number always serialise.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Self, Status> {
        let invalid = |why: String| Status::bad_request(format!("invalid continue token: continue key is not valid{why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| invalid(String::new()))?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_| {
            let why = machinery::gojson::syntax_error(&bytes);
            invalid(why.map_or_else(String::new, |why| format!(": {why}")))
        })?;
        let clean = !token.start.split('/').any(|part| part == "..") && !token.start.starts_with('/');
        if token.v == TOKEN_VERSION && clean && !token.start.is_empty() { Ok(token) } else { Err(invalid(String::new())) }
    }
}

impl Registry {
    pub async fn list(&self, served: &Served, namespace: &str, options: &ListOptions) -> Result<Page, Status> {
        options.check_list()?;
        check_fields(served, options)?;
        let prefix = served.store.prefix(namespace);
        let (snapshot, after) = if options.continue_token.is_empty() {
            (self.snapshot_for(served, options).await?, None)
        } else {
            let token = Token::decode(&options.continue_token)?;
            let after = format!("{prefix}{}", token.start.trim_end_matches('\0'));
            (self.snapshot_of(served, &token, options).await?, Some(after))
        };
        if served.selects_converted(options) {
            return page_of_converted(served, &snapshot, &prefix, after, options).await;
        }
        let mut page = page(&snapshot, &prefix, after.as_deref(), options);
        page.entries = served.read(page.entries).await?;
        Ok(page)
    }

    async fn snapshot_for(&self, served: &Served, options: &ListOptions) -> Result<Snapshot, Status> {
        match (options.resource_version, options.version_match) {
            (None, _) => served.store.consistent().await,
            (Some(0), _) => served.store.recent().await,
            (Some(revision), Some(VersionMatch::Exact)) => self.snapshot_at(served, revision).await,
            // A limit without a match asks for that very revision, as upstream has it.
            (Some(revision), None) if options.limit > 0 => self.snapshot_at(served, revision).await,
            (Some(revision), _) => served.store.fresh(revision).await,
        }
    }

    async fn snapshot_at(&self, served: &Served, revision: u64) -> Result<Snapshot, Status> {
        served.store.fresh(revision).await?;
        served.store.cache.at(revision).await.map_err(|error| served.store.error(error, ""))
    }

    async fn snapshot_of(&self, served: &Served, token: &Token, options: &ListOptions) -> Result<Snapshot, Status> {
        if options.resource_version.is_some_and(|revision| revision != 0) {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let Ok(revision) = u64::try_from(token.rv) else { return served.store.consistent().await };
        match served.store.cache.at(revision).await {
            Ok(snapshot) => Ok(snapshot),
            Err(StoreError::Compacted { .. }) => Err(expired(token)),
            Err(error) => Err(served.store.error(error, "")),
        }
    }
}

/// 410, with a token that continues at the same key in the newest state: the client decides whether that will do.
fn expired(token: &Token) -> Status {
    let inconsistent = Token { v: TOKEN_VERSION.to_owned(), rv: -1, start: token.start.clone() };
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
         the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
         Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
         deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.metadata.continue_token = inconsistent.encode();
    status
}

/// Every field of the selector must be one that the resource indexes.
pub fn check_fields(served: &Served, options: &ListOptions) -> Result<(), Status> {
    for term in options.fields.terms() {
        let declared =
            served.custom().is_none_or(|custom| term.field.starts_with("metadata.") || custom.is_selectable(&term.field));
        if !declared || !served.store.is_selectable(&term.field) {
            if served.custom().is_some() {
                return Err(Status::bad_request(format!("field label not supported: {}", term.field)));
            }
            return Err(served.store.unsupported_field(&term.field));
        }
    }
    Ok(())
}

/// Whether the selectors choose the object.
pub fn matches(options: &ListOptions, entry: &Entry) -> bool {
    let record = entry.record();
    (options.labels.is_empty() || options.labels.matches(record.labels.as_slice()))
        && (options.fields.is_empty() || options.fields.matches(|field| record.fields.get(field)))
}

fn page(snapshot: &Snapshot, prefix: &str, after: Option<&str>, options: &ListOptions) -> Page {
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let selective = !options.labels.is_empty() || !options.fields.is_empty();
    let mut entries: Vec<Entry> = Vec::new();
    let indexed = options.fields.requires_exact_match("spec.nodeName").and_then(|node| snapshot.indexed("spec.nodeName", node));
    let candidates: Box<dyn Iterator<Item = &Entry>> = match indexed {
        Some(found) => {
            Box::new(found.filter(move |entry| entry.key().starts_with(prefix) && after.is_none_or(|after| entry.key() > after)))
        }
        None => Box::new(snapshot.scan(prefix, after)),
    };
    let mut more = false;
    for entry in candidates.filter(|entry| !selective || matches(options, entry)) {
        if entries.len() == limit {
            more = true;
            break;
        }
        entries.push(entry.clone());
    }
    let last = entries.last().filter(|_| more).map(|entry| entry.key().to_owned());
    let continue_token = last.as_ref().map_or(String::new(), |last| continue_after(snapshot, prefix, last));
    let remaining = last.filter(|_| !selective).map(|last| snapshot.count(prefix, Some(&last)));
    Page { entries, revision: snapshot.revision(), continue_token, remaining }
}

/// The token of a page that ended with that key.
fn continue_after(snapshot: &Snapshot, prefix: &str, last: &str) -> String {
    let start = format!("{}\0", &last[prefix.len()..]);
    Token { v: TOKEN_VERSION.to_owned(), rv: i64::try_from(snapshot.revision()).unwrap_or(i64::MAX), start }.encode()
}

/// Objects that are converted at a time for a selector that names fields of their converted form.
const CONVERTED_CHUNK: usize = 500;

/// A page for such a selector.
async fn page_of_converted(
    served: &Served,
    snapshot: &Snapshot,
    prefix: &str,
    mut after: Option<String>,
    options: &ListOptions,
) -> Result<Page, Status> {
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let any_field = ListOptions { fields: FieldSelector::everything(), limit: CONVERTED_CHUNK, ..options.clone() };
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let chunk = page(snapshot, prefix, after.as_deref(), &any_field);
        after = chunk.entries.last().map(|entry| entry.key().to_owned());
        let converted = served.read(chunk.entries).await?;
        entries.extend(converted.into_iter().filter(|entry| matches(options, entry)));
        if chunk.continue_token.is_empty() || entries.len() > limit {
            break;
        }
    }
    let more = entries.len() > limit;
    entries.truncate(limit);
    let last = entries.last().filter(|_| more).map(Entry::key);
    let continue_token = last.map_or(String::new(), |last| continue_after(snapshot, prefix, last));
    Ok(Page { entries, revision: snapshot.revision(), continue_token, remaining: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let token = Token { v: TOKEN_VERSION.into(), rv: 7, start: "ns/name\0".into() };
        assert_eq!(Token::decode(&token.encode()).unwrap(), token);
        for start in ["../secrets/x", "/x", ""] {
            let bad = Token { v: TOKEN_VERSION.into(), rv: 7, start: start.into() };
            assert_eq!(Token::decode(&bad.encode()).unwrap_err().code(), 400, "{start}");
        }
        assert!(Token::decode("???").is_err());
    }
}
