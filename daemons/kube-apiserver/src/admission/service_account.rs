//! ServiceAccount: every pod runs as one, with a token of its own mounted where clients look for it.

use machinery::meta;
use machinery::pod::{References, containers};
use machinery::status::Status;
use serde_json::{Value, json};

use super::mountable_secrets::{self, Part};
use super::{Operation, Plugin, Request, is_mirror_pod};
use crate::lookup::Lookup;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_SECONDS: i64 = 3607;

pub(super) struct ServiceAccount;

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn mutate(&self, request: &Request<'_>, pod: &mut Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        if request.operation != Operation::Create || !request.is("", "pods") || is_mirror_pod(pod) {
            return Ok(());
        }
        let name = match pod["spec"]["serviceAccountName"].as_str() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => "default".to_owned(),
        };
        meta::set_path(pod, &["spec", "serviceAccountName"], json!(name));
        meta::set_path(pod, &["spec", "serviceAccount"], json!(name));
        let account = lookup.object("", "serviceaccounts", request.namespace, &name).ok_or_else(|| {
            request.forbidden(format!(
                "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                request.namespace
            ))
        })?;
        if mounts_token(pod, &account) {
            let suffix = machinery::names::generate_name("kube-api-access-", seed(pod));
            mount_token(pod, &suffix);
        }
        let secrets = &account["imagePullSecrets"];
        if pod["spec"]["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
            && secrets.as_array().is_some_and(|s| !s.is_empty())
        {
            meta::set_path(pod, &["spec", "imagePullSecrets"], secrets.clone());
        }
        Ok(())
    }

    fn validate(&self, request: &Request<'_>, pod: &Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        let is_pod = request.resource.group.is_empty() && request.resource.resource == "pods";
        let part = match (request.operation, request.subresource) {
            (Operation::Create, "") if is_pod => Part::Whole,
            (Operation::Update, "ephemeralcontainers") if is_pod => Part::Ephemeral,
            _ => return Ok(()),
        };
        if is_mirror_pod(pod) {
            return if part == Part::Whole { mirror_pod(request, pod) } else { Ok(()) };
        }
        let name = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
        let Some(account) = lookup.object("", "serviceaccounts", request.namespace, name) else {
            let why = format!("error looking up service account {}/{name}: serviceaccount {name:?} not found", request.namespace);
            return Err(request.forbidden(why));
        };
        mountable_secrets::check(pod, &account, part).map_err(|why| request.forbidden(why))
    }
}

fn mirror_pod(request: &Request<'_>, pod: &Value) -> Result<(), Status> {
    if !pod["spec"]["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        return Err(request.forbidden("a mirror pod may not reference service accounts"));
    }
    let references = References::of(pod);
    if !references.secrets.is_empty() {
        return Err(request.forbidden("a mirror pod may not reference secrets"));
    }
    Ok(())
}

/// The pod decides, then its account; yes otherwise.
fn mounts_token(pod: &Value, account: &Value) -> bool {
    let of = |value: &Value| value["automountServiceAccountToken"].as_bool();
    of(&pod["spec"]).or(of(account)).unwrap_or(true)
}

/// The volume's name comes of the pod's, so that a dry run and the real thing agree.
fn seed(pod: &Value) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, meta::uid(pod).as_bytes());
    digest.as_ref().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

fn mount_token(pod: &mut Value, volume: &str) {
    let existing = pod["spec"]["volumes"].as_array().into_iter().flatten().find_map(|volume| {
        let name = volume["name"].as_str()?;
        (name.starts_with("kube-api-access-") && volume["projected"].is_object()).then(|| name.to_owned())
    });
    let volume = existing.as_deref().unwrap_or(volume);
    let mut mounted = false;
    for (_, container) in containers::each_mut(&mut pod["spec"]) {
        let container = meta::as_object_mut(container);
        let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
        let Some(mounts) = mounts.as_array_mut() else { continue };
        if !mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
            mounted = true;
        }
    }
    if mounted && existing.is_none() {
        let volumes = meta::as_object_mut(&mut pod["spec"]).entry("volumes").or_insert_with(|| json!([]));
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.push(token_volume(volume));
        }
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_a_token() {
        for (pod, account, mounts) in
            [(None, None, true), (None, Some(false), false), (Some(true), Some(false), true), (Some(false), None, false)]
        {
            let of = |value: Option<bool>| json!({"automountServiceAccountToken": value});
            assert_eq!(mounts_token(&json!({"spec": of(pod)}), &of(account)), mounts);
        }
    }

    #[test]
    fn a_container_with_its_own_mount_keeps_it() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "x", "mountPath": MOUNT_PATH}]}],
            "initContainers": [{"name": "i"}]}});
        mount_token(&mut pod, "kube-api-access-abcde");
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], "kube-api-access-abcde");
        assert_eq!(pod["spec"]["initContainers"][0]["volumeMounts"][0]["readOnly"], true);
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
        assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 1);
    }
}
