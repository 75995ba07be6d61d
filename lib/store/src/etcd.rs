//! The store in etcd, through `etcd-client`: any etcd from 3.4 on.
//!
//! Reads are retried within a call; writes never are, for nobody knows whether the first attempt happened. Watches
//! reconnect by themselves and continue after the last revision they delivered.

mod connection;
mod leases;
mod watch;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use etcd_client::{
    Compare, CompareOp, DeleteOptions, Error, GetOptions, KvClient, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use futures::{FutureExt, future::BoxFuture};

use self::{connection::Connection, leases::Leases};
use crate::storage::{ListOptions, Page, Result, Storage, StoreError, Stored, WatchStream};

/// A single request to etcd, until it is given up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A list may move hundreds of megabytes.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// Tries of a read, in all.
const READ_TRIES: u32 = 4;
const READ_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Where etcd is.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// `https://127.0.0.1:2379`, …
    pub endpoints: Vec<String>,
    /// For `https` endpoints.
    pub tls: Option<EtcdTls>,
}

/// PEM files. They may be replaced at any time; the next connection uses the new ones.
#[derive(Clone, Debug)]
pub struct EtcdTls {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A store in etcd. Clones share the connection.
#[derive(Clone)]
pub struct Etcd {
    connection: Arc<Connection>,
    leases: Arc<Leases>,
}

impl Etcd {
    /// Does not wait for etcd: while it is away, requests fail with [`StoreError::Unavailable`].
    ///
    /// # Errors
    /// When the configuration is wrong or the files cannot be read.
    pub async fn new(config: EtcdConfig) -> Result<Self> {
        let connection = Arc::new(Connection::new(config).await?);
        Ok(Self { connection, leases: Arc::new(Leases::default()) })
    }

    async fn kv(&self) -> KvClient {
        // Pages of large objects exceed the default of 4 MiB.
        self.connection.client().await.kv_client().max_decoding_message_size(usize::MAX)
    }

    /// One attempt within `limit`; an unanswered request is an error that says so.
    async fn attempt<T>(&self, limit: Duration, request: impl Future<Output = std::result::Result<T, Error>>) -> Result<T> {
        match tokio::time::timeout(limit, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(store_error(error)),
            Err(_) => Err(StoreError::unavailable(format!("etcd did not answer within {} s", limit.as_secs()))),
        }
    }

    async fn range(&self, key: &str, options: GetOptions, limit: Duration) -> Result<etcd_client::GetResponse> {
        let mut tries = 1;
        loop {
            let mut kv = self.kv().await;
            match self.attempt(limit, kv.get(key, Some(options.clone()))).await {
                Err(StoreError::Unavailable(error)) if tries < READ_TRIES => {
                    tracing::debug!(key, %error, "retrying a read");
                    tokio::time::sleep(READ_RETRY_DELAY * tries).await;
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }

    /// Runs `write` if the key is at `expected` (0: does not exist); otherwise says what is there.
    async fn write(&self, key: &str, expected: u64, write: TxnOp) -> Result<u64> {
        let unchanged = Compare::mod_revision(key, CompareOp::Equal, signed(expected));
        let txn = Txn::new().when([unchanged]).and_then([write]).or_else([TxnOp::get(key, None)]);
        let mut kv = self.kv().await;
        let answer = self.attempt(REQUEST_TIMEOUT, kv.txn(txn)).await?;
        if answer.succeeded() {
            return Ok(revision(answer.header()));
        }
        Err(match found(&answer) {
            None => StoreError::NotFound,
            Some(_) if expected == 0 => StoreError::Exists,
            Some(current) => StoreError::Conflict { current },
        })
    }

    async fn put(&self, key: &str, value: Bytes, expected: u64, ttl: Option<Duration>) -> Result<u64> {
        let Some(ttl) = ttl else {
            return self.write(key, expected, TxnOp::put(key, value, None)).await;
        };
        let grant = async |seconds: i64| {
            let mut leases = self.connection.client().await.lease_client();
            self.attempt(REQUEST_TIMEOUT, leases.grant(seconds, None)).await.map(|granted| granted.id())
        };
        let lease = self.leases.get(ttl, grant).await?;
        let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
        let answer = self.write(key, expected, put).await;
        if matches!(&answer, Err(StoreError::Unavailable(_))) {
            self.leases.forget(lease); // it may have been revoked or lost with its etcd
        }
        answer
    }
}

impl Storage for Etcd {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>>> {
        async move {
            let mut answer = self.range(key, GetOptions::new(), REQUEST_TIMEOUT).await?;
            answer.take_kvs().into_iter().next().map(stored).transpose()
        }
        .boxed()
    }

    fn create<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<u64>> {
        self.put(key, value, 0, ttl).boxed()
    }

    fn update<'a>(&'a self, key: &'a str, value: Bytes, expected: u64, ttl: Option<Duration>) -> BoxFuture<'a, Result<u64>> {
        async move {
            if expected == 0 {
                return Err(StoreError::NotFound);
            }
            self.put(key, value, expected, ttl).await
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, expected: u64) -> BoxFuture<'a, Result<u64>> {
        async move {
            if expected == 0 {
                return Err(StoreError::NotFound);
            }
            self.write(key, expected, TxnOp::delete(key, Some(DeleteOptions::new()))).await
        }
        .boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str, options: ListOptions) -> BoxFuture<'a, Result<Page>> {
        async move {
            let mut range = GetOptions::new();
            let start = match &options.start_after {
                Some(key) if key.as_str() >= prefix => format!("{key}\0"),
                // etcd refuses an empty key; "\0" is the first one there can be.
                _ if prefix.is_empty() => "\0".to_owned(),
                _ => prefix.to_owned(),
            };
            range = range.with_range(prefix_end(prefix)).with_limit(options.limit.try_into().unwrap_or(i64::MAX));
            if let Some(revision) = options.revision {
                range = range.with_revision(signed(revision));
            }
            let mut answer = match self.range(&start, range, LIST_TIMEOUT).await {
                // etcd does not say which revision would do.
                Err(StoreError::Compacted { .. }) => {
                    return Err(StoreError::Compacted { revision: options.revision.unwrap_or(0) });
                }
                Err(StoreError::Future { .. }) => {
                    return Err(StoreError::Future { current: self.current_revision().await? });
                }
                answer => answer?,
            };
            let current = revision(answer.header());
            let count = u64::try_from(answer.count()).unwrap_or(0);
            let items = answer.take_kvs().into_iter().map(stored).collect::<Result<Vec<_>>>()?;
            let remaining = count.saturating_sub(items.len() as u64);
            Ok(Page { items, revision: options.revision.unwrap_or(current), remaining })
        }
        .boxed()
    }

    fn watch(&self, prefix: &str, after: u64) -> WatchStream {
        watch::watch(Arc::clone(&self.connection), prefix.to_owned(), after)
    }

    fn current_revision(&self) -> BoxFuture<'_, Result<u64>> {
        async {
            let options = GetOptions::new().with_count_only();
            let answer = self.range("\0", options, REQUEST_TIMEOUT).await?;
            Ok(revision(answer.header()))
        }
        .boxed()
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<()>> {
        async move {
            let mut kv = self.kv().await;
            match self.attempt(REQUEST_TIMEOUT, kv.compact(signed(revision), None)).await {
                Err(StoreError::Compacted { .. }) => Err(StoreError::Compacted { revision }),
                answer => answer.map(drop),
            }
        }
        .boxed()
    }
}

/// etcd's revisions are signed on the wire and never negative.
fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

fn revision(header: Option<&etcd_client::ResponseHeader>) -> u64 {
    header.map_or(0, |header| unsigned(header.revision()))
}

/// The end of the range of keys with a prefix: the prefix with its last byte raised. The empty prefix is every key.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        // UTF-8 has no byte 0xFF.
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end
}

fn stored(kv: etcd_client::KeyValue) -> Result<Stored> {
    let revision = unsigned(kv.mod_revision());
    let (key, value) = kv.into_key_value();
    Ok(Stored { key: text(key)?.into(), value: value.into(), revision })
}

fn text(key: Vec<u8>) -> Result<String> {
    String::from_utf8(key).map_err(StoreError::unavailable)
}

/// What the failed branch of a write read.
fn found(answer: &TxnResponse) -> Option<Stored> {
    match answer.op_responses().into_iter().next()? {
        TxnOpResponse::Get(mut get) => stored(get.take_kvs().into_iter().next()?).ok(),
        _ => None,
    }
}

fn store_error(error: Error) -> StoreError {
    let Error::GRpcStatus(status) = &error else { return StoreError::unavailable(error) };
    // etcd tells these apart only by their text.
    let message = status.message();
    if message.contains("has been compacted") {
        StoreError::Compacted { revision: 0 }
    } else if message.contains("future revision") {
        StoreError::Future { current: 0 }
    } else if message.contains("request is too large") || message.contains("trying to send message larger than max") {
        StoreError::TooLarge
    } else {
        StoreError::unavailable(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        for (prefix, end) in [("", "\0"), ("/registry/pods/", "/registry/pods0"), ("a", "b")] {
            assert_eq!(prefix_end(prefix), end.as_bytes());
        }
    }
}
