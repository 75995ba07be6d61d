//! Watch: the objects there are (when asked for), then every change that concerns the selection, in revision order.
//!
//! A change is told as the selection sees it: an object that comes to match is ADDED, one that no longer does is DELETED.

use std::sync::Arc;
use std::time::Duration;

use ::store::{Change, ChangeKind, Entry, StoreError, Watcher};
use futures::{Stream, stream};
use machinery::status::Status;
use tokio::time::Instant;

use super::list::{check_fields, matches};
use super::options::ListOptions;
use super::{Registry, Served};

const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// The last bookmark comes so long before the end.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// Events handed on at once.
const BATCH: usize = 128;

/// One event, before it is encoded.
#[derive(Clone, Debug)]
pub enum Event {
    Object {
        kind: &'static str,
        entry: Entry,
    },
    /// Everything up to this revision has been sent; `initial_end` marks the end of the initial objects.
    Bookmark {
        revision: u64,
        initial_end: bool,
    },
    /// The watch is over.
    Error(Status),
}

/// The state of one watch.
struct Watch {
    served: Arc<Served>,
    /// The selection is made among converted objects.
    of_converted: bool,
    watcher: Watcher,
    prefix: String,
    options: ListOptions,
    /// Objects still to be sent first, newest last so that they can be popped.
    initial: Vec<Entry>,
    initial_bookmark: Option<u64>,
    next_bookmark: Instant,
    end: Instant,
    shutdown: daemon::Shutdown,
    retired: tokio::sync::watch::Receiver<bool>,
    over: bool,
}

/// Where a watch begins.
enum Start {
    /// With the objects there are now, or at the given revision or later.
    Objects { not_older: Option<u64>, consistent: bool },
    /// With what happens after this revision.
    After(u64),
    /// With what happens from now on.
    Now,
}

impl Registry {
    /// Batches of events, until the time is up, the client goes, or the watch falls out of the history.
    pub async fn watch(
        &self,
        served: Arc<Served>,
        namespace: &str,
        options: ListOptions,
        shutdown: daemon::Shutdown,
    ) -> Result<impl Stream<Item = Vec<Event>> + Send + 'static, Status> {
        options.check_watch()?;
        check_fields(&served, &options)?;
        let prefix = served.store.prefix(namespace);
        let of_converted = served.selects_converted(&options);
        let with_bookmark = options.send_initial_events == Some(true) && options.allow_bookmarks;
        let (initial, after) = match start(&options) {
            Start::Objects { not_older, consistent } => {
                let snapshot = match not_older {
                    Some(revision) => served.store.fresh(revision).await?,
                    None if consistent => served.store.consistent().await?,
                    None => served.store.recent().await?,
                };
                let mut initial: Vec<Entry> = if of_converted {
                    let all = served.read(snapshot.scan(&prefix, None).cloned().collect()).await?;
                    all.into_iter().filter(|entry| matches(&options, entry)).collect()
                } else {
                    snapshot.scan(&prefix, None).filter(|entry| matches(&options, entry)).cloned().collect()
                };
                initial.reverse();
                (initial, snapshot.revision())
            }
            Start::After(revision) => (Vec::new(), revision),
            Start::Now => (Vec::new(), served.store.recent().await?.revision()),
        };
        let shortest = self.terms.watches.max(1);
        let seconds = options.timeout_seconds.unwrap_or_else(|| shortest.saturating_add(self.random() % shortest));
        let now = Instant::now();
        let watcher = match served.store.cache.watch(after).await {
            Ok(watcher) => watcher,
            Err(error) => return Ok(futures::future::Either::Left(refused(gone(&served, after, error)))),
        };
        let watch = Watch {
            watcher,
            prefix,
            initial,
            initial_bookmark: with_bookmark.then_some(after),
            next_bookmark: now + BOOKMARK_INTERVAL,
            end: now + Duration::from_secs(seconds),
            options,
            shutdown,
            retired: served.store.retirement(),
            served,
            of_converted,
            over: false,
        };
        Ok(futures::future::Either::Right(stream::unfold(watch, |mut watch| async move {
            let batch = watch.next().await?;
            let batch = watch.shown(batch).await?;
            Some((batch, watch))
        })))
    }
}

fn start(options: &ListOptions) -> Start {
    match (options.send_initial_events, options.resource_version) {
        (Some(true), None) => Start::Objects { not_older: None, consistent: true },
        (Some(true), Some(0)) => Start::Objects { not_older: None, consistent: false },
        (Some(true), Some(revision)) => Start::Objects { not_older: Some(revision), consistent: false },
        (Some(false), None | Some(0)) => Start::Now,
        (None, None) => Start::Objects { not_older: None, consistent: true },
        (None, Some(0)) => Start::Objects { not_older: None, consistent: false },
        (Some(false) | None, Some(revision)) => Start::After(revision),
    }
}

fn refused(status: Status) -> impl Stream<Item = Vec<Event>> + Send + 'static {
    stream::once(async move { vec![Event::Error(status)] })
}

fn gone(served: &Served, asked: u64, error: StoreError) -> Status {
    match error {
        StoreError::Compacted { revision } => Status::expired(format!("too old resource version: {asked} ({revision})")),
        error => served.store.error(error, ""),
    }
}

impl Watch {
    /// The next events; none when the watch is over. Waits until there is something to say.
    async fn next(&mut self) -> Option<Vec<Event>> {
        if self.over {
            return None;
        }
        if !self.initial.is_empty() {
            let rest = self.initial.len().saturating_sub(BATCH);
            let batch = self.initial.drain(rest..).rev();
            return Some(batch.map(|entry| Event::Object { kind: "ADDED", entry }).collect());
        }
        if let Some(revision) = self.initial_bookmark.take() {
            return Some(vec![Event::Bookmark { revision, initial_end: true }]);
        }
        loop {
            let bookmark = self.bookmark_due();
            let change = tokio::select! {
                biased;
                change = self.watcher.next() => change,
                () = tokio::time::sleep_until(bookmark), if self.options.allow_bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARK_INTERVAL;
                    return Some(vec![Event::Bookmark { revision: self.watcher.progress(), initial_end: false }]);
                }
                () = tokio::time::sleep_until(self.end) => return None,
                () = self.shutdown.requested() => return None,
                _ = self.retired.wait_for(|retired| *retired) => return None,
            };
            let batch = self.batch(change).await;
            if !batch.is_empty() {
                return Some(batch);
            }
        }
    }

    fn bookmark_due(&self) -> Instant {
        let before_end = self.end.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(self.end);
        if self.next_bookmark < before_end || Instant::now() >= before_end { self.next_bookmark } else { before_end }
    }

    /// The change, and what else has happened by now.
    async fn batch(&mut self, first: Result<Arc<Change>, StoreError>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut next = first.map(Some);
        loop {
            match next {
                Ok(Some(change)) if !change.entry.key().starts_with(&self.prefix) => {}
                Ok(Some(change)) if self.of_converted => match self.converted(&change).await {
                    Ok(event) => events.extend(event),
                    Err(status) => return self.ended(events, status),
                },
                Ok(Some(change)) => {
                    events.extend(self.event(change.kind, &change.entry, change.previous.as_ref(), change.revision));
                }
                Ok(None) => return events,
                Err(_) => return self.ended(events, Status::expired("too old resource version: the watch fell behind")),
            }
            if events.len() >= BATCH {
                return events;
            }
            next = self.watcher.try_next();
        }
    }

    fn ended(&mut self, mut events: Vec<Event>, why: Status) -> Vec<Event> {
        self.over = true;
        events.push(Event::Error(why));
        events
    }

    /// The batch in the version that is watched, if it is not yet; none when the server ends meanwhile.
    async fn shown(&mut self, batch: Vec<Event>) -> Option<Vec<Event>> {
        if self.of_converted || !self.served.asks_to_read() {
            return Some(batch);
        }
        let entry = |event: &Event| match event {
            Event::Object { entry, .. } => Some(entry.clone()),
            Event::Bookmark { .. } | Event::Error(_) => None,
        };
        let entries: Vec<Entry> = batch.iter().filter_map(entry).collect();
        let read = tokio::select! {
            biased;
            read = self.served.read_for_watchers(entries) => read,
            () = self.shutdown.requested() => return None,
        };
        let mut read = match read {
            Ok(read) => read.into_iter(),
            Err(status) => return Some(self.ended(Vec::new(), status)),
        };
        let show = |event: Event| match event {
            Event::Object { kind, entry } => Event::Object { kind, entry: read.next().unwrap_or(entry) },
            other => other,
        };
        Some(batch.into_iter().map(show).collect())
    }

    /// A change as a selection among converted objects sees it.
    async fn converted(&self, change: &Change) -> Result<Option<Event>, Status> {
        let states: Vec<Entry> = std::iter::once(&change.entry).chain(&change.previous).cloned().collect();
        let mut states = self.served.read_for_watchers(states).await?.into_iter();
        let Some(entry) = states.next() else { return Ok(None) };
        Ok(self.event(change.kind, &entry, states.next().as_ref(), change.revision))
    }

    fn event(&self, kind: ChangeKind, entry: &Entry, previous: Option<&Entry>, revision: u64) -> Option<Event> {
        let before = previous.filter(|previous| matches(&self.options, previous));
        let after = (kind != ChangeKind::Deleted && matches(&self.options, entry)).then_some(entry);
        match (before, after) {
            (None, Some(entry)) => Some(Event::Object { kind: "ADDED", entry: entry.clone() }),
            (Some(_), Some(entry)) => Some(Event::Object { kind: "MODIFIED", entry: entry.clone() }),
            (Some(_), None) if kind == ChangeKind::Deleted => Some(Event::Object { kind: "DELETED", entry: entry.clone() }),
            (Some(previous), None) => Some(Event::Object { kind: "DELETED", entry: previous.at_revision(revision) }),
            (None, None) => None,
        }
    }
}
