//! Taking away what is no longer needed: dead containers and sandboxes, images, long logs.
//!
//! What goes is decided by pure functions ([`containers`], [`images`], [`logs`]); this file asks the runtime and obeys.
//!
//! **Invariant:** an image that a static pod names is never removed: without a registry it could not come back.

mod containers;
mod images;
mod logs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::Shutdown;
use tokio::time::{Instant, MissedTickBehavior};

use crate::runtime::client::Runtime;

const CONTAINERS_EVERY: Duration = Duration::from_secs(60);
const IMAGES_EVERY: Duration = Duration::from_secs(5 * 60);
const LOGS_EVERY: Duration = Duration::from_secs(10);

/// What the collector must know of the pods of this node.
pub(crate) trait Pods: Send + Sync + 'static {
    /// Pods that are there, those that are ending among them.
    fn uids(&self) -> BTreeSet<String>;
    /// The images that these pods name, static pods' among them, as they are written in the specs.
    fn images(&self) -> BTreeSet<String>;
    /// Running containers by id, and where their logs are.
    fn running_logs(&self) -> Vec<(String, PathBuf)>;
}

/// The bounds, from the kubelet's configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) images: images::Limits,
    pub(crate) log_bytes_max: u64,
    /// The one that is written to among them.
    pub(crate) log_files_max: u32,
}

impl Limits {
    pub(crate) fn of(config: &crate::config::Config) -> Self {
        Self {
            images: images::Limits {
                high_percent: config.image_high_percent,
                low_percent: config.image_low_percent,
                minimum_age: config.image_minimum_age,
            },
            log_bytes_max: config.log_max_bytes,
            log_files_max: config.log_max_files,
        }
    }
}

/// Runs until shutdown.
pub(crate) async fn run(runtime: Runtime, pods: Arc<dyn Pods>, limits: Limits, shutdown: Shutdown) {
    let every = |period| {
        // Not at the start: the first look needs the pods to be known.
        let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let (mut containers, mut images, mut logs) = (every(CONTAINERS_EVERY), every(IMAGES_EVERY), every(LOGS_EVERY));
    let mut seen = BTreeMap::new();
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = containers.tick() => collect_containers(&runtime, pods.as_ref()).await,
            _ = images.tick() => collect_images(&runtime, pods.as_ref(), limits.images, &mut seen).await,
            _ = logs.tick() => rotate_logs(&runtime, pods.as_ref(), limits).await,
        }
    }
}

async fn collect_containers(runtime: &Runtime, pods: &dyn Pods) {
    let listed = match runtime.list_all().await {
        Ok(listed) => listed,
        Err(error) => return tracing::debug!(%error, "listing containers to remove"),
    };
    let plan = containers::decide(&listed, &pods.uids());
    for id in plan.containers {
        if let Err(error) = runtime.remove_container(&id).await {
            tracing::info!(container = id, %error, "a dead container can't be removed");
        }
    }
    for id in plan.sandboxes {
        // Stopping again frees a network that an earlier stop did not.
        if let Err(error) = runtime.stop_sandbox(&id).await {
            tracing::info!(sandbox = id, %error, "a dead sandbox can't be stopped");
            continue;
        }
        if let Err(error) = runtime.remove_sandbox(&id).await {
            tracing::info!(sandbox = id, %error, "a dead sandbox can't be removed");
        }
    }
}

async fn collect_images(runtime: &Runtime, pods: &dyn Pods, limits: images::Limits, seen: &mut BTreeMap<String, images::Seen>) {
    let now = std::time::SystemTime::now();
    let (images, containers, usage) = match tokio::try_join!(runtime.images(), runtime.list_all(), runtime.image_filesystems()) {
        Ok(all) => all,
        Err(error) => return tracing::debug!(%error, "listing images to remove"),
    };
    let mut needed = pods.images();
    needed.extend(containers.into_iter().map(|c| c.image));
    let images = images::note(images, &needed, now, seen);
    let Some(filesystem) = usage.iter().find_map(|u| disk(&u.fs_id.as_ref()?.mountpoint)) else { return };
    let plan = images::decide(&images, filesystem, limits, now);
    for id in &plan.remove {
        match runtime.remove_image(id).await {
            Ok(()) => tracing::info!(image = id, "removed an image that nothing uses"),
            Err(error) => tracing::info!(image = id, %error, "an unused image can't be removed"),
        }
    }
    if plan.missing_bytes > 0 {
        tracing::warn!(bytes = plan.missing_bytes, "the image file system is too full, and no more images can be removed");
    }
}

/// Capacity and free bytes of the file system of a path.
fn disk(path: &str) -> Option<images::Filesystem> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(images::Filesystem { capacity_bytes: stat.f_blocks * stat.f_frsize, available_bytes: stat.f_bavail * stat.f_frsize })
}

async fn rotate_logs(runtime: &Runtime, pods: &dyn Pods, limits: Limits) {
    for (id, path) in pods.running_logs() {
        let size = std::fs::metadata(&path).map_or(0, |m| m.len());
        if size < limits.log_bytes_max {
            continue;
        }
        let reopen = async || runtime.reopen_log(&id).await;
        if let Err(error) = logs::rotate(&path, limits.log_files_max, reopen).await {
            tracing::warn!(path = %path.display(), %error, "a long log can't be rotated");
        }
    }
}
