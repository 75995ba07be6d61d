//! A watch on etcd that outlives its connections.
//!
//! It continues after the last revision it delivered, and drops what a new connection repeats. etcd sends all changes of
//! one revision in one message (fragments are not asked for), so a revision is never half delivered.

use std::{sync::Arc, time::Duration};

use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream as Stream};
use futures::StreamExt;

use super::{connection::Connection, prefix_end, store_error, unsigned};
use crate::storage::{Batch, Event, EventKind, Result, StoreError, WatchItem, WatchStream};

const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(50);
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(2);
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

struct Follow {
    connection: Arc<Connection>,
    prefix: String,
    after: u64,
    stream: Option<Stream>,
    delay: Duration,
}

pub(super) fn watch(connection: Arc<Connection>, prefix: String, after: u64) -> WatchStream {
    let follow = Follow { connection, prefix, after, stream: None, delay: RECONNECT_DELAY_MIN };
    futures::stream::unfold(Some(follow), |follow| async move {
        let mut follow = follow?;
        match follow.next().await {
            Ok(item) => Some((Ok(item), Some(follow))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Follow {
    async fn next(&mut self) -> Result<WatchItem> {
        loop {
            match self.message().await {
                Ok(message) => {
                    if let Some(item) = read(&message, &mut self.after)? {
                        self.delay = RECONNECT_DELAY_MIN;
                        return Ok(item);
                    }
                }
                Err(error @ StoreError::Compacted { .. }) => return Err(error),
                Err(error) => {
                    tracing::debug!(prefix = self.prefix, after = self.after, %error, "the watch on etcd broke");
                    self.stream = None;
                    tokio::time::sleep(self.delay).await;
                    self.delay = (self.delay * 2).min(RECONNECT_DELAY_MAX);
                }
            }
        }
    }

    async fn message(&mut self) -> Result<WatchResponse> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(open(&self.connection, &self.prefix, self.after).await?),
        };
        match stream.message().await {
            Ok(Some(message)) if message.canceled() && message.compact_revision() == 0 => {
                Err(StoreError::unavailable(format!("etcd ended the watch: {}", message.cancel_reason())))
            }
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(StoreError::unavailable("etcd closed the watch")),
            Err(error) => Err(store_error(error)),
        }
    }
}

async fn open(connection: &Connection, prefix: &str, after: u64) -> Result<Stream> {
    let key = if prefix.is_empty() { "\0" } else { prefix };
    let options =
        WatchOptions::new().with_range(prefix_end(prefix)).with_start_revision(super::signed(after + 1)).with_progress_notify();
    let mut client = connection.client().await.watch_client().max_decoding_message_size(usize::MAX);
    match tokio::time::timeout(OPEN_TIMEOUT, client.watch(key, Some(options))).await {
        Ok(stream) => stream.map_err(store_error),
        Err(_) => Err(StoreError::unavailable("etcd did not open the watch in time")),
    }
}

/// What a message says beyond revision `after`, which it moves on. `None` when it says nothing new.
fn read(message: &WatchResponse, after: &mut u64) -> Result<Option<WatchItem>> {
    if message.canceled() {
        return Err(StoreError::Compacted { revision: unsigned(message.compact_revision()) });
    }
    let revision = super::revision(message.header());
    if message.created() {
        // A store that is behind what we saw was restored from a backup: what we know is not its history.
        return if revision < *after { Err(StoreError::Compacted { revision }) } else { Ok(None) };
    }
    if message.events().is_empty() {
        if revision <= *after {
            return Ok(None);
        }
        *after = revision;
        return Ok(Some(WatchItem::Progress(revision)));
    }
    let mut events = Vec::with_capacity(message.events().len());
    for event in message.events() {
        let Some(kv) = event.kv() else { continue };
        let revision = unsigned(kv.mod_revision());
        if revision <= *after {
            continue;
        }
        let kind = match event.event_type() {
            EventType::Delete => EventKind::Delete,
            EventType::Put if kv.version() == 1 => EventKind::Create,
            EventType::Put => EventKind::Update,
        };
        let key = kv.key_str().map_err(StoreError::unavailable)?.into();
        events.push(Event { kind, key, value: kv.value().to_vec().into(), revision });
    }
    let Some(last) = events.last() else { return Ok(None) };
    let revision = last.revision;
    *after = revision;
    Ok(Some(WatchItem::Changes(Batch { events, revision, missed: Vec::new() })))
}
