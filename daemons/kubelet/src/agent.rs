//! What all parts of the kubelet share: configuration, the runtime, the API once there is one, and the pods' tasks.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use api::core::{Node, ObjectReference, Pod, PodStatus, Service};
use api::{Kind as _, Resource as _};
use arc_swap::{ArcSwap, ArcSwapOption};
use client::events::{EventType, Recorder};
use client::{Client, Informer};
use tokio::sync::{Notify, watch};

use crate::cgroup::Cgroups;
use crate::config::Config;
use crate::node::machine::Machine;
use crate::objects::Watched;
use crate::pod::field_ref::Surroundings;
use crate::pod::spec;
use crate::pod::worker::{self, Wish};
use crate::probe::Results;
use crate::runtime::client::Runtime;
use crate::runtime::images::Images;
use crate::runtime::view::PodView;
use crate::status::manager::Statuses;
use crate::tokens::Tokens;

/// The API's side; there is none until the kubelet has credentials.
pub struct Api {
    pub client: Client,
    pub recorder: Recorder,
    /// The pods of this node.
    pub pods: Informer<Pod>,
    pub services: Informer<Service>,
    /// This node's object.
    pub node: Informer<Node>,
    pub config_maps: Watched<api::core::ConfigMap>,
    pub secrets: Watched<api::core::Secret>,
    pub tokens: Tokens,
}

/// What a pod's task shows to others.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub view: PodView,
    pub status: PodStatus,
    /// The node took it.
    pub admitted: bool,
    /// Its containers have ended and will not run again.
    pub ended: bool,
}

struct Handle {
    pod: Arc<Pod>,
    wish: watch::Sender<Wish>,
    wake: Arc<Notify>,
    shown: Arc<RwLock<Shown>>,
}

pub struct Agent {
    pub config: Config,
    pub machine: Machine,
    pub runtime: Runtime,
    /// `containerd`, `cri-o`.
    pub runtime_name: ArcSwap<String>,
    /// Why pods can't get a network; `None`: they can.
    pub network_error: ArcSwapOption<String>,
    pub cgroups: Cgroups,
    pub images: Images,
    pub probes: Results,
    pub statuses: Statuses,
    pub host_ips: ArcSwap<Vec<IpAddr>>,
    pub api: ArcSwapOption<Api>,
    /// What the runtime's and this kubelet's pods are known by: complete when true.
    pub sources_ready: watch::Sender<bool>,
    handles: Mutex<HashMap<String, Handle>>,
    /// A pod's task ended.
    pub ended: Notify,
}

impl Agent {
    pub fn new(config: Config, machine: Machine, runtime: Runtime, cgroups: Cgroups) -> Arc<Self> {
        let images = Images::new(config.parallel_pulls_max);
        let host_ips = if config.has_node_ip() {
            config.node_ips.clone()
        } else {
            let prefers_v6 = config.node_ips.first().is_some_and(IpAddr::is_ipv6);
            crate::node::machine::default_address(prefers_v6).into_iter().collect()
        };
        Arc::new(Self {
            config,
            machine,
            runtime,
            runtime_name: ArcSwap::from_pointee("containerd".to_owned()),
            network_error: ArcSwapOption::from_pointee("the runtime has not answered yet".to_owned()),
            cgroups,
            images,
            probes: Results::default(),
            statuses: Statuses::default(),
            host_ips: ArcSwap::from_pointee(host_ips),
            api: ArcSwapOption::empty(),
            sources_ready: watch::Sender::new(false),
            handles: Mutex::default(),
            ended: Notify::new(),
        })
    }

    fn handles(&self) -> std::sync::MutexGuard<'_, HashMap<String, Handle>> {
        self.handles.lock().unwrap_or_else(|e| e.into_inner())
    }

    // --- pods ---

    /// A pod is to run as it is said here; it gets its task when it is new.
    pub fn run_pod(self: &Arc<Self>, pod: Arc<Pod>) {
        let uid = pod.uid().to_owned();
        let mut handles = self.handles();
        if let Some(handle) = handles.get_mut(&uid) {
            handle.pod = pod.clone();
            handle.wish.send_replace(Wish::Run(pod));
            return;
        }
        let (wish, receiver) = watch::channel(Wish::Run(pod.clone()));
        let (wake, shown) = (Arc::new(Notify::new()), Arc::new(RwLock::new(Shown::default())));
        let handle = Handle { pod: pod.clone(), wish, wake: wake.clone(), shown: shown.clone() };
        handles.insert(uid.clone(), handle);
        drop(handles);
        let agent = self.clone();
        tokio::spawn(async move {
            worker::run(agent.clone(), pod, receiver, wake, shown).await;
            agent.handles().remove(&uid);
            agent.ended.notify_waiters();
        });
    }

    /// A pod's source no longer has it: it ends, and what it left is taken away.
    pub fn end_pod(&self, uid: &str) {
        if let Some(handle) = self.handles().get(uid) {
            handle.wish.send_replace(Wish::End);
        }
    }

    /// Something that a pod depends on has changed.
    pub fn wake(&self, uid: &str) {
        if let Some(handle) = self.handles().get(uid) {
            handle.wake.notify_one();
        }
    }

    pub fn wake_all(&self) {
        self.handles().values().for_each(|h| h.wake.notify_one());
    }

    pub fn knows(&self, uid: &str) -> bool {
        self.handles().contains_key(uid)
    }

    /// All pods with what their tasks show, in order of their names.
    pub fn pods(&self) -> Vec<(Arc<Pod>, Shown)> {
        let mut all: Vec<(Arc<Pod>, Shown)> =
            self.handles().values().map(|h| (h.pod.clone(), h.shown.read().unwrap_or_else(|e| e.into_inner()).clone())).collect();
        all.sort_by_cached_key(|(pod, _)| spec::full_name(pod));
        all
    }

    pub fn find(&self, namespace: &str, name: &str) -> Option<(Arc<Pod>, Shown)> {
        self.pods().into_iter().find(|(pod, _)| pod.namespace() == namespace && pod.name() == name)
    }

    /// The pods that the node took and that take room.
    pub fn taking_room(&self, except: &str) -> Vec<Arc<Pod>> {
        let shown = self.pods();
        shown.into_iter().filter(|(p, s)| s.admitted && !s.ended && p.uid() != except).map(|(p, _)| p).collect()
    }

    /// Another pod of the same name still runs: for static pods whose file changed.
    pub fn has_namesake(&self, pod: &Pod) -> bool {
        self.handles()
            .values()
            .any(|h| h.pod.uid() != pod.uid() && h.pod.name() == pod.name() && h.pod.namespace() == pod.namespace())
    }

    // --- what pods are told of the node ---

    /// What is left for pods, in thousandths of CPUs and bytes.
    pub fn allocatable(&self) -> BTreeMap<String, i64> {
        crate::node::status::allocatable(&self.config, &self.machine)
    }

    pub fn surroundings(&self, pod_ips: Vec<String>) -> Surroundings {
        Surroundings {
            node_name: self.config.node_name.clone(),
            host_ips: self.host_ips.load().iter().map(ToString::to_string).collect(),
            pod_ips,
            allocatable: self.allocatable(),
        }
    }

    pub fn api(&self) -> Option<Arc<Api>> {
        self.api.load_full()
    }

    /// The directory of a pod's logs.
    pub fn log_dir(&self, pod: &Pod) -> PathBuf {
        self.config.log_dir.join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid()))
    }

    // --- events ---

    /// Tells of something about a pod, or one of its containers.
    pub fn event(&self, pod: &Pod, container: Option<&str>, kind: EventType, reason: &str, message: String) {
        match kind {
            EventType::Normal => tracing::info!(pod = %spec::full_name(pod), container, reason, "{message}"),
            EventType::Warning => tracing::warn!(pod = %spec::full_name(pod), container, reason, "{message}"),
        }
        let Some(api) = self.api() else { return };
        let field_path = container.map(|name| {
            let list = match spec::find_container(pod, name) {
                Some((spec::Role::Init, _)) => "initContainers",
                Some((spec::Role::Ephemeral, _)) => "ephemeralContainers",
                _ => "containers",
            };
            format!("spec.{list}{{{name}}}")
        });
        let involved = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(Pod::KIND.to_owned()),
            name: Some(pod.name().to_owned()),
            namespace: Some(pod.namespace().to_owned()),
            uid: Some(pod.uid().to_owned()),
            resource_version: pod.meta().resource_version.clone(),
            field_path,
        };
        api.recorder.event_for(involved, kind, reason, message);
    }

    /// Tells of something about the node.
    pub fn node_event(&self, kind: EventType, reason: &str, message: String) {
        tracing::info!(reason, "{message}");
        let Some(api) = self.api() else { return };
        let name = self.config.node_name.clone();
        let involved = ObjectReference {
            kind: Some(Node::KIND.to_owned()),
            name: Some(name.clone()),
            // Upstream's events of nodes have the name for the uid.
            uid: Some(name),
            ..ObjectReference::default()
        };
        api.recorder.event_for(involved, kind, reason, message);
    }
}
