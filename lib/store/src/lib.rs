//! Where objects live: the [`Storage`] trait with its etcd and memory back-ends, and the watch cache above it.
//!
//! ```text
//!  kube-apiserver ── reads, watches ──▶ Cache (one per resource) ◀── Feed ◀── one watch of all keys ── Storage
//!        └──────────────────────────────────── writes ────────────────────────────────────────────────▶
//! ```
//!
//! * [`storage`]: the trait, its data and its errors. Bytes in, bytes out; nothing here knows Kubernetes.
//! * [`memory`], [`etcd`]: the two implementations. One suite (`tests/guarantees.rs`) holds both to the same promises.
//! * [`feed`]: follows the store through a single watch and is the only writer of every cache.
//! * [`cache`]: one resource in memory: encoded bytes, index records, secondary indexes, a ring of changes.
//! * [`transform`]: a store whose values are changed on their way in and out (encryption at rest).
//! * [`watcher`]: a cursor into that ring.
//!
//! **Invariant:** a cache is written by the feed alone, never by a request; a request that writes goes to the storage
//! and, when it must see its own write, waits until the feed has brought it ([`Cache::wait_fresh`]).

pub mod cache;
pub mod compactor;
pub mod entry;
pub mod etcd;
pub mod feed;
pub mod memory;
pub mod ordmap;
pub mod splice;
pub mod storage;
pub mod testing;
pub mod transform;
pub mod watcher;

pub use cache::{Cache, Change, ChangeKind, Config, Size, Snapshot};
pub use entry::{Entry, IndexRecord, Pairs};
pub use etcd::{Etcd, EtcdConfig, EtcdTls};
pub use feed::Feed;
pub use memory::Memory;
pub use storage::{Batch, Event, EventKind, ListOptions, Page, Storage, StoreError, Stored, WatchItem, WatchStream};
pub use transform::{TransformError, Transformed, Transformer};
pub use watcher::Watcher;
