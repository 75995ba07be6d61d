//! Static pods: the files of a directory, as pods. They run whether or not there is an API server.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::Kind as _;
use api::core::Pod;
use rustix::fs::inotify;
use serde_json::{Value, json};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::spec;
use crate::agent::Agent;

/// A file larger than this is not a manifest.
const FILE_BYTES_MAX: u64 = 10 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{path}: reading")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {message}")]
    Content { path: PathBuf, message: String },
}

/// Follows the directory for as long as the kubelet runs: what changes takes effect at once where the kernel tells, and at
/// the latest at the next look.
pub async fn run(agent: Arc<Agent>, directory: PathBuf, first_read: tokio::sync::oneshot::Sender<()>) {
    let mut first_read = Some(first_read);
    let mut known: BTreeMap<String, Arc<Pod>> = BTreeMap::new();
    let mut changes = Changes::of(&directory);
    loop {
        let node = agent.config.node_name.clone();
        let path = directory.clone();
        // Reading files of a directory that may lie on a slow disk.
        if let Ok(read) = tokio::task::spawn_blocking(move || read_directory(&path, &node)).await {
            apply(&agent, &mut known, read);
        }
        if let Some(tell) = first_read.take() {
            let _ = tell.send(());
        }
        let pause = tokio::time::sleep(agent.config.file_check_frequency);
        match &changes {
            Some(watch) => tokio::select! { () = watch.next() => {}, () = pause => {} },
            None => {
                pause.await;
                changes = Changes::of(&directory);
            }
        }
    }
}

fn apply(agent: &Arc<Agent>, known: &mut BTreeMap<String, Arc<Pod>>, read: Vec<Result<Pod, ManifestError>>) {
    let mut now: BTreeMap<String, Arc<Pod>> = BTreeMap::new();
    let mut unreadable = false;
    for result in read {
        match result {
            Ok(pod) => {
                now.insert(spec::full_name(&pod), Arc::new(pod));
            }
            Err(error) => {
                unreadable = true;
                tracing::error!("{}", daemon::chain(&error));
            }
        }
    }
    for (name, pod) in known.iter() {
        match now.get(name) {
            Some(new) if new.uid() == pod.uid() => {}
            Some(_) => agent.end_pod(pod.uid()),
            // A file that can't be read at this moment is half written, perhaps: its pod stays.
            None if unreadable => {
                now.insert(name.clone(), pod.clone());
            }
            None => agent.end_pod(pod.uid()),
        }
    }
    for (name, pod) in &now {
        if known.get(name).is_none_or(|k| k.uid() != pod.uid()) {
            tracing::info!(pod = name, uid = pod.uid(), "static pod");
            agent.run_pod(pod.clone());
        }
    }
    *known = now;
}

/// The pods of a directory, or of a single file.
pub fn read_directory(path: &Path, node: &str) -> Vec<Result<Pod, ManifestError>> {
    let failed = |path: &Path, source| ManifestError::Read { path: path.to_owned(), source };
    let files = match std::fs::metadata(path) {
        Ok(m) if m.is_file() => vec![path.to_owned()],
        Ok(_) => {
            let entries = match std::fs::read_dir(path) {
                Ok(entries) => entries,
                Err(error) => return vec![Err(failed(path, error))],
            };
            let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
            files.retain(|f| {
                let name = f.file_name().unwrap_or_default().to_string_lossy();
                !name.starts_with('.') && f.is_file()
            });
            files.sort();
            files
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![Err(failed(path, error))],
    };
    files
        .iter()
        .map(|file| {
            let size = std::fs::metadata(file).map_err(|e| failed(file, e))?.len();
            if size > FILE_BYTES_MAX {
                return Err(ManifestError::Content {
                    path: file.clone(),
                    message: format!("larger than {FILE_BYTES_MAX} bytes"),
                });
            }
            let text = std::fs::read_to_string(file).map_err(|e| failed(file, e))?;
            parse(&text, node).map_err(|message| ManifestError::Content { path: file.clone(), message })
        })
        .collect()
}

/// A manifest as a pod of this node: named after it, with a uid that is the hash of its content, and with the defaults that
/// the API server would give.
pub fn parse(text: &str, node: &str) -> Result<Pod, String> {
    let mut values = machinery::yaml::to_values(text).map_err(|e| e.to_string())?;
    if values.len() != 1 {
        return Err(format!("one pod is expected, {} documents were found", values.len()));
    }
    let mut value = values.remove(0);
    if value["apiVersion"] != "v1" || value["kind"] != "Pod" {
        return Err(format!("kind Pod of v1 is expected, found {} of {}", value["kind"], value["apiVersion"]));
    }
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err("metadata.name is missing".to_owned());
    }
    let namespace = value["metadata"]["namespace"].as_str().filter(|n| !n.is_empty()).unwrap_or("default").to_owned();
    let name = format!("{name}-{node}");
    value["metadata"]["name"] = name.clone().into();
    value["metadata"]["namespace"] = namespace.clone().into();
    value["spec"]["nodeName"] = node.into();
    if let Some(meta) = value["metadata"].as_object_mut() {
        for field in ["uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "generation"] {
            meta.remove(field);
        }
    }
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    // The order of keys in a Value is that of their names: the same content has the same hash.
    let digest = ring::digest::digest(&ring::digest::SHA256, value.to_string().as_bytes());
    let hash: String = digest.as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect();
    value["metadata"]["uid"] = hash.clone().into();
    let annotations = &mut value["metadata"]["annotations"];
    if !annotations.is_object() {
        *annotations = json!({});
    }
    annotations[spec::CONFIG_HASH] = hash.into();
    annotations[spec::CONFIG_SOURCE] = "file".into();
    annotations[spec::CONFIG_SEEN] = jiff::Timestamp::now().to_string().into();
    defaults(&mut value["spec"]);
    let pod = Pod::decode_value(value).map_err(|e| daemon::chain(&e))?;
    validate(&pod)?;
    Ok(pod)
}

/// What the kubelet uses in paths and names must be fit for it; the API server is not there to check.
fn validate(pod: &Pod) -> Result<(), String> {
    let check = |what: &str, messages: Vec<String>| match messages.first() {
        None => Ok(()),
        Some(message) => Err(format!("{what}: {message}")),
    };
    check("metadata.name", machinery::names::dns1123_subdomain(pod.name()))?;
    check("metadata.namespace", machinery::names::dns1123_label(pod.namespace()))?;
    let containers = spec::containers(pod);
    if spec::spec(pod).containers.is_empty() {
        return Err("spec.containers: at least one is needed".to_owned());
    }
    for (_, container) in &containers {
        check("container name", machinery::names::dns1123_label(&container.name))?;
        if container.image.as_deref().unwrap_or_default().is_empty() {
            return Err(format!("container {}: image is missing", container.name));
        }
    }
    for volume in spec::spec(pod).volumes.iter().flatten() {
        check("volume name", machinery::names::dns1123_label(&volume.name))?;
    }
    if spec::spec(pod).service_account_name.as_deref().is_some_and(|s| !s.is_empty()) {
        return Err("a static pod may not have a service account".to_owned());
    }
    Ok(())
}

/// Defaults that decide what the kubelet does.
fn defaults(spec: &mut Value) {
    let set = |v: &mut Value, key: &str, default: Value| {
        if v.get(key).is_none_or(Value::is_null) {
            v[key] = default;
        }
    };
    set(spec, "restartPolicy", "Always".into());
    set(spec, "dnsPolicy", "ClusterFirst".into());
    set(spec, "terminationGracePeriodSeconds", 30.into());
    set(spec, "enableServiceLinks", true.into());
    set(spec, "schedulerName", "default-scheduler".into());
    set(spec, "securityContext", json!({}));
    // Static pods stay whatever happens to their node.
    set(spec, "tolerations", json!([{"operator": "Exists", "effect": "NoExecute"}]));
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            set(container, "terminationMessagePath", "/dev/termination-log".into());
            set(container, "terminationMessagePolicy", "File".into());
            let image = container["image"].as_str().unwrap_or_default().to_owned();
            let policy = crate::runtime::images::policy(&api::core::Container { image: Some(image), ..Default::default() });
            set(container, "imagePullPolicy", format!("{policy:?}").into());
        }
        if spec[list].is_null()
            && let Some(object) = spec.as_object_mut()
        {
            object.remove(list);
        }
    }
}

/// Tells when something in the directory changes.
struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    fn of(directory: &Path) -> Option<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
        let what = inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::CREATE;
        inotify::add_watch(&fd, directory, what).ok()?;
        #[expect(deprecated, reason = "its flaw is with types that close early; an OwnedFd lives as long as the AsyncFd")]
        AsyncFd::with_interest(fd, Interest::READABLE).ok().map(Self)
    }

    async fn next(&self) {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                return std::future::pending().await;
            };
            let mut buffer = [0_u8; 4096];
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer)?)) {
                Ok(_) => break,
                Err(_would_block) => {}
            }
        }
        // Editors write a file in several steps.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd, namespace: kube-system}\nspec:\n  containers:\n  - {name: c, image: 'i:1'}\n";

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let pod = parse(MANIFEST, "n1").unwrap();
        assert_eq!((pod.name(), pod.namespace(), pod.uid().len()), ("etcd-n1", "kube-system", 32));
        assert!(spec::is_static(&pod) && spec::is_critical(&pod));
        assert_eq!(spec::annotation(&pod, spec::CONFIG_HASH), Some(pod.uid()));
        assert_eq!(pod.spec.as_ref().unwrap().containers[0].image_pull_policy.as_deref(), Some("IfNotPresent"));
    }

    #[test]
    fn the_uid_is_the_content() {
        let uid = |text: &str| parse(text, "n1").unwrap().uid().to_owned();
        assert_eq!(
            uid(MANIFEST),
            uid(&MANIFEST.replace("{name: etcd, namespace: kube-system}", "{namespace: kube-system, name: etcd}"))
        );
        assert_ne!(uid(MANIFEST), uid(&MANIFEST.replace("i:1", "i:2")));
        assert_ne!(uid(MANIFEST), parse(MANIFEST, "n2").unwrap().uid());
    }

    #[test]
    fn what_can_not_be_used_is_refused() {
        for (from, to) in [
            ("kind: Pod", "kind: Deployment"),
            ("name: etcd", "name: ../x"),
            ("name: c", "name: a/b"),
            ("containers:", "serviceAccountName: x\n  containers:"),
            ("{name: c, image: 'i:1'}", "{name: c}"),
            ("spec:", "---\na: b\n---\nspec:"),
        ] {
            assert!(parse(&MANIFEST.replace(from, to), "n1").is_err(), "{to}");
        }
    }
}
