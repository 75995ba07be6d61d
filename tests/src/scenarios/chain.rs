//! The chain that every text on Kubernetes tells, read from the audit log and the events: who did what, in which order.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::world::{World, eventually};

const AUDIT_LOG: &str = "/var/log/kubernetes/audit.log";

pub(super) fn run(world: &World) -> Result<()> {
    world.kctl(&["create", "deployment", "nginx", "--image=localhost/nginx:1", "--replicas=3"])?;
    world.kctl(&["rollout", "status", "deployment/nginx", "--timeout=120s"])?;
    let chain = eventually("the audit log", Duration::from_secs(20), || {
        let log = world.host(&["cat", AUDIT_LOG])?;
        let chain = read(&log)?;
        verify(&chain).map(|()| chain)
    })?;
    for (who, verb, what, name) in &chain {
        println!("  {who:<60} {verb:<7} {what:<20} {name}");
    }
    let events =
        world.kctl(&["get", "events", "-o", "jsonpath={range .items[*]}{.involvedObject.name} {.reason}{\"\\n\"}{end}"])?;
    for reason in ["ScalingReplicaSet", "SuccessfulCreate", "Scheduled", "Pulled", "Created", "Started"] {
        ensure!(events.lines().any(|l| l.starts_with("nginx") && l.ends_with(reason)), "no event {reason} in\n{events}");
    }
    world.kctl(&["delete", "deployment", "nginx"])?;
    Ok(())
}

type Link = (String, String, String, String);

/// Successful writes about the Deployment, its ReplicaSet and its pods, in the order of the log.
fn read(log: &str) -> Result<Vec<Link>> {
    let mut chain = Vec::new();
    for line in log.lines().filter(|l| !l.is_empty()) {
        let entry: Value = serde_json::from_str(line).with_context(|| format!("an audit entry: {line}"))?;
        let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let verb = text("/verb");
        let subresource = text("/objectRef/subresource");
        let what = [text("/objectRef/resource"), subresource].join("/").trim_end_matches('/').to_owned();
        let name = text("/objectRef/name");
        let succeeded = entry.pointer("/responseStatus/code").and_then(Value::as_u64).is_some_and(|c| c < 300);
        let about = name.is_empty() || name.starts_with("nginx");
        if text("/stage") == "ResponseComplete"
            && succeeded
            && about
            && text("/objectRef/namespace") == "default"
            && matches!(verb.as_str(), "create" | "update" | "patch")
            && matches!(what.as_str(), "deployments" | "replicasets" | "pods" | "pods/binding" | "pods/status")
        {
            chain.push((text("/user/username"), verb, what, name));
        }
    }
    Ok(chain)
}

/// Each link is there, made by whom it should be, after the one before it.
fn verify(chain: &[Link]) -> Result<()> {
    let find = |from: usize, who: &str, verbs: &[&str], what: &str| {
        chain[from..]
            .iter()
            .position(|(user, verb, resource, _)| user.contains(who) && verbs.contains(&verb.as_str()) && resource == what)
            .map(|i| from + i)
            .with_context(|| format!("no {verbs:?} of {what} by {who} after entry {from} in {chain:#?}"))
    };
    // The Deployment of this scenario is the last one that a user created.
    let deployment = chain
        .iter()
        .rposition(|(user, verb, resource, _)| !user.starts_with("system:") && verb == "create" && resource == "deployments")
        .or_else(|| {
            chain.iter().rposition(|(user, verb, what, _)| user.contains("admin") && verb == "create" && what == "deployments")
        })
        .context("no Deployment was created")?;
    let replica_set = find(deployment, "deployment-controller", &["create"], "replicasets")?;
    let pod = find(replica_set, "replicaset-controller", &["create"], "pods")?;
    let binding = find(pod, "system:kube-scheduler", &["create"], "pods/binding")?;
    find(binding, "system:node:", &["patch", "update"], "pods/status")?;
    for (who, what) in [("replicaset-controller", "pods"), ("system:kube-scheduler", "pods/binding")] {
        let count = chain[deployment..]
            .iter()
            .filter(|(user, verb, resource, _)| user.contains(who) && verb == "create" && resource == what)
            .count();
        ensure!(count == 3, "{who} created {count} {what}, not 3: {chain:#?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(user: &str, verb: &str, what: &str) -> Link {
        (user.into(), verb.into(), what.into(), "nginx".into())
    }

    #[test]
    fn the_order_counts() {
        let mut chain = vec![
            link("kubernetes-admin", "create", "deployments"),
            link("system:serviceaccount:kube-system:deployment-controller", "create", "replicasets"),
        ];
        chain.extend((0..3).map(|_| link("system:serviceaccount:kube-system:replicaset-controller", "create", "pods")));
        chain.extend((0..3).map(|_| link("system:kube-scheduler", "create", "pods/binding")));
        chain.push(link("system:node:n1", "patch", "pods/status"));
        verify(&chain).unwrap();
        chain.swap(0, 1);
        assert!(verify(&chain).is_err());
    }
}
