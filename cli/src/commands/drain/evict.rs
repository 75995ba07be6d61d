//! Evictions and deletions of a drain, and the wait for the pods to be gone.

use std::time::Duration;

use futures::{StreamExt, stream};
use machinery::{meta, status::Reason};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::filter;
use crate::{
    commands::wait,
    kube::{Error, Info, Request, Resource, Session, globals::go_duration},
    output::format::DryRun,
};

/// A budget that does not allow an eviction now may allow it later.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// "For ever".
const FOREVER: Duration = Duration::from_secs(7 * 24 * 3600);
/// Pods that are evicted and waited for at the same time.
const CONCURRENT: usize = 256;

pub struct Removal<'a> {
    pub session: &'a Session,
    /// Below 0: as the pod says.
    pub grace_period: i64,
    /// Zero is for ever.
    pub timeout: Duration,
    pub dry_run: DryRun,
    /// Seconds after which a pod that is being deleted is not waited for; 0 is never.
    pub skip_after: u32,
    pub disable_eviction: bool,
}

impl Removal<'_> {
    /// Removes the pods and waits until they are gone. What went wrong is returned, worded as kubectl's.
    pub async fn remove(&self, pods: &[Value]) -> Vec<String> {
        if pods.is_empty() {
            return Vec::new();
        }
        let resource = match self.session.resource("pods").await {
            Ok(resource) => resource,
            Err(error) => return vec![error.bare()],
        };
        let until = Instant::now() + if self.timeout.is_zero() { FOREVER } else { self.timeout };
        let evictable = resource.subresources.iter().any(|subresource| subresource == "eviction");
        if evictable && !self.disable_eviction {
            let all = stream::iter(pods).map(|pod| self.evict(&resource, pod, until)).buffer_unordered(CONCURRENT);
            return all.filter_map(async |outcome| outcome.err()).collect().await;
        }
        for pod in pods {
            let request = Request::delete(path(pod, ""), &self.options()).query_some("dryRun", self.dry_run.parameter());
            match self.session.json(request).await {
                Err(error) if !error.is_not_found() => return vec![error.bare()],
                _ => {}
            }
        }
        let all = stream::iter(pods).map(|pod| self.gone(&resource, pod, "deleted", until)).buffer_unordered(CONCURRENT);
        all.filter_map(async |outcome| outcome.err().map(|error| error.bare())).collect().await
    }

    fn options(&self) -> Value {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if self.grace_period >= 0 {
            options["gracePeriodSeconds"] = self.grace_period.into();
        }
        if self.dry_run == DryRun::Server {
            options["dryRun"] = json!(["All"]);
        }
        options
    }

    async fn evict(&self, resource: &Resource, pod: &Value, until: Instant) -> Result<(), String> {
        let (namespace, name) = (meta::namespace(pod), meta::name(pod));
        let mut current = pod.clone();
        loop {
            println!("evicting pod {namespace}/{name}{}", self.dry_run.suffix());
            let eviction = json!({
                "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace},
                "deleteOptions": self.options(),
            });
            let request = Request::post(path(&current, "/eviction"), &eviction).at_once();
            let Err(error) = self.session.json(request).await else { break };
            if error.is_not_found() {
                return Ok(());
            }
            let about = match retry(&error, meta::deletion_timestamp(&current).is_some()) {
                Retry::Done => break,
                Retry::Budget => format!("error when evicting pods/{name:?} -n {namespace:?}"),
                Retry::Namespace => format!("error when evicting pod {name:?} from terminating namespace {namespace:?}"),
                Retry::No => return Err(format!("error when evicting pods/{name:?} -n {namespace:?}: {}", error.bare())),
            };
            eprintln!("{about} (will retry after {}): {}", go_duration(RETRY_DELAY), error.bare());
            tokio::time::sleep(RETRY_DELAY).await;
            if Instant::now() >= until {
                let reached = go_duration(self.timeout);
                return Err(format!("error when evicting pods/{name:?} -n {namespace:?}: global timeout reached: {reached}"));
            }
            // Another pod may have the name by now; with no answer the eviction itself finds out.
            if let Ok(fresh) = self.session.json(Request::get(path(pod, ""))).await {
                current = fresh;
            }
        }
        if self.dry_run == DryRun::Server {
            return Ok(());
        }
        self.gone(resource, &current, "evicted", until).await.map_err(|error| {
            format!("error when waiting for pod {name:?} in namespace {namespace:?} to terminate: {}", error.bare())
        })
    }

    /// Waits for a pod to be gone, and says so.
    async fn gone(&self, resource: &Resource, pod: &Value, what: &str, until: Instant) -> Result<(), Error> {
        let (namespace, name) = (meta::namespace(pod).to_owned(), meta::name(pod).to_owned());
        let info = Info { resource: resource.clone(), namespace, name, object: Value::Null, source: None };
        let skip = async {
            if self.skip_after == 0 {
                return std::future::pending().await;
            }
            loop {
                let now = self.session.json(Request::get(path(pod, ""))).await;
                if now.is_ok_and(|pod| filter::deleted_for(&pod, self.skip_after.into(), jiff::Timestamp::now())) {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            gone = wait::gone(self.session, &info, Some(meta::uid(pod)), until) => gone.map_err(|error| match error {
                Error::Message(text) if text.starts_with("timed out") => {
                    Error::message(format!("global timeout reached: {}", go_duration(self.timeout)))
                }
                error => error,
            })?,
            () = skip => {
                println!("pod {:?} has DeletionTimestamp older than {} seconds, skipping", info.name, self.skip_after);
                return Ok(());
            }
        }
        println!("pod/{} {what}{}", info.name, self.dry_run.suffix());
        Ok(())
    }
}

fn path(pod: &Value, subresource: &str) -> String {
    format!("/api/v1/namespaces/{}/pods/{}{subresource}", meta::namespace(pod), meta::name(pod))
}

#[derive(Debug, PartialEq, Eq)]
enum Retry {
    /// It is being deleted; only the wait is left.
    Done,
    /// A disruption budget says not now.
    Budget,
    /// In a namespace that ends nothing is evicted; its pods are deleted soon.
    Namespace,
    No,
}

fn retry(error: &Error, deleting: bool) -> Retry {
    let Some(status) = error.status() else { return Retry::No };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let terminating = error.is(Reason::Forbidden) && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating");
    match (status.code(), terminating, deleting) {
        (429, _, _) => Retry::Budget,
        (_, true, true) => Retry::Done,
        (_, true, false) => Retry::Namespace,
        _ => Retry::No,
    }
}
