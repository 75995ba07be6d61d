//! Images: whether one has to be pulled, pulling it with the right credentials, and waiting between failures.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use api::Kind as _;
use api::core::{Container, Pod, Secret};
use base64::Engine;
use cri::v1;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::backoff::Backoff;
use super::client::Runtime;
use super::container::ImageUser;

/// An image that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    pub id: String,
    pub user: ImageUser,
}

/// Why there is no image, in the words of the container's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageError {
    pub reason: &'static str,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Always,
    IfNotPresent,
    Never,
}

/// The policy of a container; `Always` for a tag that moves.
pub fn policy(container: &Container) -> Policy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        Some("IfNotPresent") => Policy::IfNotPresent,
        _ if is_latest(container.image.as_deref().unwrap_or_default()) => Policy::Always,
        _ => Policy::IfNotPresent,
    }
}

fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// `host[:port]/repository` is what can be pulled; anything with blanks or capitals in the repository can't.
fn is_valid(image: &str) -> bool {
    let name = image.split('@').next().unwrap_or_default();
    let (front, tag) = match name.rsplit_once(':') {
        Some((front, tag)) if !tag.contains('/') => (front, tag),
        _ => (name, ""),
    };
    let path = match front.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => front,
    };
    let part = |p: &str| {
        !p.is_empty()
            && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && p.as_bytes()[0].is_ascii_alphanumeric()
    };
    let tag_fits = tag.len() <= 128 && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    path.split('/').all(part) && tag_fits && !name.ends_with(':')
}

/// Tells of what happens: event kind, reason, message.
pub type Tell<'a> = &'a (dyn Fn(client::events::EventType, &str, String) + Send + Sync);

pub struct Images {
    slots: Semaphore,
    backoff: Mutex<Backoff>,
    /// The last failure for each pod and image, told again while waiting.
    failures: Mutex<BTreeMap<String, String>>,
}

impl Images {
    pub fn new(parallel_max: usize) -> Self {
        Self { slots: Semaphore::new(parallel_max), backoff: Mutex::default(), failures: Mutex::default() }
    }

    /// The image of a container, pulled if it has to be.
    pub async fn ensure(
        &self,
        runtime: &Runtime,
        pod: &Pod,
        container: &Container,
        secrets: &[Secret],
        sandbox: &v1::PodSandboxConfig,
        tell: Tell<'_>,
    ) -> Result<Present, ImageError> {
        use client::events::EventType::{Normal, Warning};
        let image = container.image.as_deref().unwrap_or_default();
        if !is_valid(image) {
            let message = format!(
                "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": invalid reference format"
            );
            tell(Warning, "InspectFailed", message.clone());
            return Err(ImageError { reason: "InvalidImageName", message });
        }
        let inspect = |error: super::client::RuntimeError| {
            let message = format!("Failed to inspect image \"{image}\": {error}");
            tell(Warning, "Failed", message.clone());
            ImageError { reason: "ImageInspectError", message }
        };
        let policy = policy(container);
        let present = runtime.image(image).await.map_err(inspect)?;
        match (policy, present) {
            (Policy::Never, None) => {
                let message = format!("Container image \"{image}\" is not present with pull policy of Never");
                tell(Warning, "ErrImageNeverPull", message.clone());
                return Err(ImageError { reason: "ErrImageNeverPull", message });
            }
            (Policy::Never | Policy::IfNotPresent, Some(found)) => {
                tell(
                    Normal,
                    "Pulled",
                    format!("Container image \"{image}\" already present on machine and can be accessed by the pod"),
                );
                return Ok(as_present(found));
            }
            (Policy::Always, _) | (Policy::IfNotPresent, None) => {}
        }
        self.pull(runtime, pod, image, secrets, sandbox, tell).await?;
        match runtime.image(image).await.map_err(inspect)? {
            Some(found) => Ok(as_present(found)),
            None => Err(ImageError { reason: "ErrImagePull", message: format!("image \"{image}\" is gone after it was pulled") }),
        }
    }

    async fn pull(
        &self,
        runtime: &Runtime,
        pod: &Pod,
        image: &str,
        secrets: &[Secret],
        sandbox: &v1::PodSandboxConfig,
        tell: Tell<'_>,
    ) -> Result<(), ImageError> {
        use client::events::EventType::{Normal, Warning};
        let key = format!("{}_{image}", pod.uid());
        let now = Timestamp::now();
        let waits = self.backoff.lock().unwrap_or_else(|e| e.into_inner()).until(&key, self.failed_at(&key), now).is_some();
        if waits {
            let mut message = format!("Back-off pulling image \"{image}\"");
            tell(Normal, "BackOff", message.clone());
            if let Some(before) = self.failures.lock().unwrap_or_else(|e| e.into_inner()).get(&key) {
                message = format!("{message}: {}", before.split_once('\n').map_or("", |(_, m)| m));
            }
            return Err(ImageError { reason: "ImagePullBackOff", message });
        }
        let asked = Instant::now();
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await.expect("an open semaphore");
        tell(Normal, "Pulling", format!("Pulling image \"{image}\""));
        let begun = Instant::now();
        let mut candidates: Vec<Option<v1::AuthConfig>> = credentials(image, secrets).into_iter().map(Some).collect();
        candidates.push(None);
        let mut last = None;
        for auth in candidates {
            match runtime.pull(image, auth, sandbox.clone()).await {
                Ok(_) => {
                    let size = runtime.image(image).await.ok().flatten().map_or(0, |i| i.size);
                    let took = |since: Instant| format!("{:.3}s", since.elapsed().as_secs_f64());
                    tell(
                        Normal,
                        "Pulled",
                        format!(
                            "Successfully pulled image \"{image}\" in {} ({} including waiting). Image size: {size} bytes.",
                            took(begun),
                            took(asked)
                        ),
                    );
                    self.failures.lock().unwrap_or_else(|e| e.into_inner()).remove(&key);
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
        }
        // At least one candidate was tried.
        let error = last.map(|e| e.to_string()).unwrap_or_default();
        tell(Warning, "Failed", format!("Failed to pull image \"{image}\": {error}"));
        let now = Timestamp::now();
        self.backoff.lock().unwrap_or_else(|e| e.into_inner()).next(&key, now, now);
        let mut failures = self.failures.lock().unwrap_or_else(|e| e.into_inner());
        if failures.len() > 1000 {
            failures.clear();
        }
        failures.insert(key, format!("{}\nErrImagePull: {error}", now.as_second()));
        Err(ImageError { reason: "ErrImagePull", message: error })
    }

    fn failed_at(&self, key: &str) -> Timestamp {
        let failures = self.failures.lock().unwrap_or_else(|e| e.into_inner());
        let seconds = failures.get(key).and_then(|f| f.split_once('\n')?.0.parse().ok()).unwrap_or(0);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

fn as_present(image: v1::Image) -> Present {
    Present { id: image.id, user: ImageUser { uid: image.uid.map(|u| u.value), username: image.username } }
}

/// The credentials of the secrets that fit the image's registry, longest match first.
fn credentials(image: &str, secrets: &[Secret]) -> Vec<v1::AuthConfig> {
    let mut found: Vec<(usize, v1::AuthConfig)> = Vec::new();
    for secret in secrets {
        let data = secret.data.as_ref();
        let config = data.and_then(|d| d.get(".dockerconfigjson"));
        let legacy = data.and_then(|d| d.get(".dockercfg"));
        let Some(parsed) = config.or(legacy).and_then(|b| serde_json::from_slice::<Value>(&b.0).ok()) else { continue };
        let auths = if config.is_some() { &parsed["auths"] } else { &parsed };
        for (registry, entry) in auths.as_object().into_iter().flatten() {
            if let Some(length) = matches(registry, image) {
                found.extend(auth(registry, entry).map(|a| (length, a)));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, a)| a).collect()
}

/// The image's name with its registry, as pulled: `nginx` is `docker.io/library/nginx`.
fn full_name(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

fn matches(registry: &str, image: &str) -> Option<usize> {
    let key = registry.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.strip_suffix("/v1").or(key.strip_suffix("/v2")).unwrap_or(key);
    let key = if key == "index.docker.io" { "docker.io" } else { key };
    let name = full_name(image);
    let (host, path) = key.split_once('/').map_or((key, ""), |(h, p)| (h, p));
    let (image_host, image_path) = name.split_once('/')?;
    let host_fits = match host.strip_prefix("*.") {
        Some(domain) => image_host.split_once('.').is_some_and(|(_, d)| d == domain),
        None => host == image_host,
    };
    let path_fits = path.is_empty() || image_path == path || image_path.starts_with(&format!("{path}/"));
    (host_fits && path_fits).then_some(key.len())
}

fn auth(registry: &str, entry: &Value) -> Option<v1::AuthConfig> {
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    if username.is_empty()
        && let Some(both) = entry["auth"].as_str()
    {
        let decoded = base64::engine::general_purpose::STANDARD.decode(both.trim()).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (u, p) = decoded.split_once(':')?;
        (username, password) = (u.to_owned(), p.trim_end_matches('\0').to_owned());
    }
    Some(v1::AuthConfig {
        username,
        password,
        server_address: registry.to_owned(),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
        ..v1::AuthConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn policies() {
        let of = |image: &str, policy_text: Option<&str>| {
            policy(&Container {
                image: Some(image.into()),
                image_pull_policy: policy_text.map(str::to_owned),
                ..Container::default()
            })
        };
        for (image, given, want) in [
            ("nginx", None, Policy::Always),
            ("nginx:latest", None, Policy::Always),
            ("nginx:1", None, Policy::IfNotPresent),
            ("host:5000/nginx", None, Policy::Always),
            ("nginx@sha256:aa", None, Policy::IfNotPresent),
            ("nginx", Some("Never"), Policy::Never),
        ] {
            assert_eq!(of(image, given), want, "{image}");
        }
    }

    #[test]
    fn names() {
        for (image, ok) in [
            ("nginx", true),
            ("localhost/kctl:0.1.0-abc", true),
            ("reg.io:5000/a/b_c:V1", true),
            ("a@sha256:0123", true),
            ("Nginx", false),
            ("", false),
            ("a b", false),
            ("a:", false),
            ("a//b", false),
        ] {
            assert_eq!(is_valid(image), ok, "{image}");
        }
    }

    #[test]
    fn credentials_fit_the_registry() {
        let secret = Secret::decode_value(json!({"metadata": {}, "data": {".dockerconfigjson": base64::engine::general_purpose::STANDARD.encode(
            json!({"auths": {"reg.io/team": {"auth": "dTpw"}, "reg.io": {"username": "a", "password": "b"}, "https://index.docker.io/v1/": {"auth": "ZDpk"}}}).to_string())}}))
        .unwrap();
        let users =
            |image: &str| credentials(image, std::slice::from_ref(&secret)).into_iter().map(|a| a.username).collect::<Vec<_>>();
        assert_eq!(users("reg.io/team/x:1"), ["u", "a"]);
        assert_eq!(users("reg.io/other/x"), ["a"]);
        assert_eq!(users("nginx"), ["d"]);
        assert!(users("evil.io/x").is_empty());
    }
}
