//! The files of a volume that is made of objects: configMap, secret, downwardAPI, projected. Pure.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use api::Kind as _;
use api::core::{DownwardAPIVolumeFile, KeyToPath, Pod, Volume};

use crate::pod::env::Objects;
use crate::pod::field_ref::{self, FieldError, Surroundings};
use crate::pod::spec;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
}

/// Files by their path within the volume.
pub type Payload = BTreeMap<String, File>;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PayloadError {
    #[error("configmap \"{0}\" not found")]
    NoConfigMap(String),
    #[error("secret \"{0}\" not found")]
    NoSecret(String),
    #[error("references non-existent config key: {0}")]
    NoConfigKey(String),
    #[error("references non-existent secret key: {0}")]
    NoSecretKey(String),
    #[error("invalid path {0:?}: must be relative, without \"..\" as an element or at its start")]
    Path(String),
    #[error("no token for service account {0}")]
    NoToken(String),
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("{0} is not supported in a projected volume")]
    Unsupported(&'static str),
}

/// A token that a projected volume holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenKey {
    pub audience: String,
    pub expiration_seconds: i64,
}

/// All tokens that a pod's volumes hold.
pub fn tokens(pod: &Pod) -> Vec<TokenKey> {
    let projected = spec::spec(pod).volumes.iter().flatten().filter_map(|v| v.projected.as_ref());
    let sources = projected.flat_map(|p| p.sources.iter().flatten());
    let mut keys: Vec<TokenKey> = sources.filter_map(|s| s.service_account_token.as_ref()).map(token_key).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn token_key(source: &api::core::ServiceAccountTokenProjection) -> TokenKey {
    TokenKey {
        audience: source.audience.clone().unwrap_or_default(),
        expiration_seconds: source.expiration_seconds.unwrap_or(3600),
    }
}

/// What volumes are made of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub objects: Objects,
    pub tokens: BTreeMap<TokenKey, String>,
    pub around: Surroundings,
}

/// The files of a volume; `None` when it is not of a kind that is made of objects.
pub fn payload(pod: &Pod, volume: &Volume, sources: &Sources) -> Result<Option<Payload>, PayloadError> {
    let mut files = Payload::new();
    if let Some(v) = &volume.config_map {
        let optional = v.optional == Some(true);
        config_map(&mut files, &v.name, v.items.as_deref(), optional, mode(v.default_mode), sources)?;
    } else if let Some(v) = &volume.secret {
        let name = v.secret_name.as_deref().unwrap_or_default();
        secret(&mut files, name, v.items.as_deref(), v.optional == Some(true), mode(v.default_mode), sources)?;
    } else if let Some(v) = &volume.downward_api {
        downward(&mut files, pod, v.items.as_deref().unwrap_or_default(), mode(v.default_mode), sources)?;
    } else if let Some(v) = &volume.projected {
        let default = mode(v.default_mode);
        for source in v.sources.iter().flatten() {
            if let Some(s) = &source.config_map {
                config_map(&mut files, &s.name, s.items.as_deref(), s.optional == Some(true), default, sources)?;
            } else if let Some(s) = &source.secret {
                secret(&mut files, &s.name, s.items.as_deref(), s.optional == Some(true), default, sources)?;
            } else if let Some(s) = &source.downward_api {
                downward(&mut files, pod, s.items.as_deref().unwrap_or_default(), default, sources)?;
            } else if let Some(s) = &source.service_account_token {
                let account = spec::spec(pod).service_account_name.as_deref().unwrap_or("default");
                let token = sources.tokens.get(&token_key(s)).ok_or_else(|| PayloadError::NoToken(account.to_owned()))?;
                let grouped = spec::spec(pod).security_context.as_ref().is_some_and(|c| c.fs_group.is_some());
                let mode = if grouped { 0o600 } else { default };
                put(&mut files, &s.path, token.clone().into_bytes(), mode)?;
            } else if source.cluster_trust_bundle.is_some() {
                return Err(PayloadError::Unsupported("clusterTrustBundle"));
            } else if source.pod_certificate.is_some() {
                return Err(PayloadError::Unsupported("podCertificate"));
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

fn mode(default: Option<i32>) -> u32 {
    default.and_then(|m| u32::try_from(m).ok()).unwrap_or(0o644) & 0o777
}

fn put(files: &mut Payload, path: &str, data: Vec<u8>, mode: u32) -> Result<(), PayloadError> {
    let parts: Vec<Component<'_>> = Path::new(path).components().collect();
    let plain = !parts.is_empty() && parts.iter().all(|c| matches!(c, Component::Normal(_)));
    // Names that begin with two dots are those of the writer's own links.
    if !plain || path.starts_with("..") || path.len() > 4096 || parts.iter().any(|c| c.as_os_str().len() > 255) {
        return Err(PayloadError::Path(path.to_owned()));
    }
    let normal: Vec<String> = parts.iter().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    files.insert(normal.join("/"), File { data, mode });
    Ok(())
}

/// Some of the keys, under the paths that the items say, or all.
fn keys(
    files: &mut Payload,
    all: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    default: u32,
    missing: impl Fn(String) -> PayloadError,
) -> Result<(), PayloadError> {
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        for (key, data) in all {
            put(files, key, data.clone(), default)?;
        }
        return Ok(());
    };
    for item in items {
        match all.get(&item.key) {
            Some(data) => put(files, &item.path, data.clone(), item.mode.map_or(default, |m| mode(Some(m))))?,
            None if optional => {}
            None => return Err(missing(item.key.clone())),
        }
    }
    Ok(())
}

fn config_map(
    files: &mut Payload,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: bool,
    default: u32,
    sources: &Sources,
) -> Result<(), PayloadError> {
    let Some(map) = sources.objects.config_maps.get(name).and_then(Option::as_ref) else {
        return if optional { Ok(()) } else { Err(PayloadError::NoConfigMap(name.to_owned())) };
    };
    let text = map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
    keys(files, &text.chain(binary).collect(), items, optional, default, PayloadError::NoConfigKey)
}

fn secret(
    files: &mut Payload,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: bool,
    default: u32,
    sources: &Sources,
) -> Result<(), PayloadError> {
    let Some(secret) = sources.objects.secrets.get(name).and_then(Option::as_ref) else {
        return if optional { Ok(()) } else { Err(PayloadError::NoSecret(name.to_owned())) };
    };
    let data = secret.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect();
    keys(files, &data, items, optional, default, PayloadError::NoSecretKey)
}

fn downward(
    files: &mut Payload,
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default: u32,
    sources: &Sources,
) -> Result<(), PayloadError> {
    for item in items {
        let text = if let Some(selector) = &item.field_ref {
            field_ref::field(pod, selector, &sources.around)?
        } else if let Some(selector) = &item.resource_field_ref {
            field_ref::resource(pod, None, selector, &sources.around)?
        } else {
            continue;
        };
        put(files, &item.path, text.into_bytes(), item.mode.map_or(default, |m| mode(Some(m))))?;
    }
    Ok(())
}

/// The name of the service account of a pod.
pub fn service_account(pod: &Pod) -> (String, String) {
    let name = spec::spec(pod).service_account_name.clone().filter(|n| !n.is_empty());
    (pod.namespace().to_owned(), name.unwrap_or_else(|| "default".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::core::{ConfigMap, Secret};
    use serde_json::{Value, json};

    fn sources() -> Sources {
        let map =
            ConfigMap::decode_value(json!({"metadata": {}, "data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}})).unwrap();
        let secret = Secret::decode_value(json!({"metadata": {}, "data": {"p": "eA=="}})).unwrap();
        Sources {
            objects: Objects {
                config_maps: [("m".to_owned(), Some(map))].into(),
                secrets: [("s".to_owned(), Some(secret)), ("gone".to_owned(), None)].into(),
            },
            tokens: [(TokenKey { audience: String::new(), expiration_seconds: 3607 }, "tok".to_owned())].into(),
            around: Surroundings::default(),
        }
    }

    /// The files as `path=data:mode`.
    fn made(volume: Value) -> Result<String, String> {
        let mut volume = volume;
        volume["name"] = "v".into();
        let pod = Pod::decode_value(json!({"metadata": {"name": "p", "namespace": "n", "labels": {"x": "y"}},
            "spec": {"containers": [], "volumes": [volume]}}))
        .unwrap();
        let files =
            payload(&pod, &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0], &sources()).map_err(|e| e.to_string())?;
        let files = files.unwrap();
        Ok(files
            .iter()
            .map(|(p, f)| format!("{p}={}:{:o}", String::from_utf8_lossy(&f.data), f.mode))
            .collect::<Vec<_>>()
            .join(" "))
    }

    #[test]
    fn files() {
        for (volume, want) in [
            (json!({"configMap": {"name": "m"}}), Ok("a=1:644 b=2:644 c=\0\x01:644")),
            (json!({"configMap": {"name": "m", "items": [{"key": "a", "path": "x/y", "mode": 256}]}}), Ok("x/y=1:400")),
            (
                json!({"configMap": {"name": "m", "items": [{"key": "z", "path": "x"}]}}),
                Err("references non-existent config key: z"),
            ),
            (json!({"configMap": {"name": "no"}}), Err("configmap \"no\" not found")),
            (json!({"configMap": {"name": "no", "optional": true}}), Ok("")),
            (json!({"secret": {"secretName": "s", "defaultMode": 256}}), Ok("p=x:400")),
            (json!({"secret": {"secretName": "gone"}}), Err("secret \"gone\" not found")),
            (
                json!({"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
                Ok("l=x=\"y\":644"),
            ),
            (
                json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                    {"configMap": {"name": "m", "items": [{"key": "a", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}),
                Ok("ca.crt=1:644 namespace=n:644 token=tok:644"),
            ),
        ] {
            assert_eq!(made(volume.clone()), want.map(str::to_owned).map_err(str::to_owned), "{volume}");
        }
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["/etc/passwd", "../x", "a/../../x", "..data", "", "."] {
            let volume = json!({"configMap": {"name": "m", "items": [{"key": "a", "path": path}]}});
            assert!(made(volume).is_err(), "{path}");
        }
    }
}
