//! Objects that every cluster has: roles of the node and the control plane, cluster DNS.

use std::time::Duration;

use anyhow::{Context as _, Result};
use api::ResourceId;
use api::core::ConfigMap;
use client::{Client, Patch, PatchParams, Scope};
use serde_json::{Value, json};

use super::wait;
use crate::boot::context::Context;
use crate::boot::manifest::with_options;
use crate::boot::plan::Check;
use crate::boot::template::render;

const ROLES: &str = include_str!("../../../../manifests/roles.yaml");
const DNS: &str = include_str!("../../../../manifests/cluster-dns.yaml");
const DNS_DEPLOYMENT: &str = include_str!("../../../../manifests/cluster-dns-deployment.yaml");
const MANAGER: &str = "kctl-init";
const NAMESPACE: &str = "kube-system";
/// Says which add-ons are in the cluster; written when all of them are.
const RECORD: &str = "kctl-config";

fn objects(context: &Context) -> Result<Vec<Value>> {
    let values = [
        ("IMAGE", context.image_reference()),
        ("DNS", context.dns_address()?.to_string()),
        ("DOMAIN", context.cluster.network.domain.clone()),
    ];
    let deployment = with_options(&render(DNS_DEPLOYMENT, &values)?, &context.cluster.daemons.cluster_dns)?;
    let mut objects = Vec::new();
    for text in [render(ROLES, &values)?, render(DNS, &values)?, deployment] {
        objects.extend(machinery::yaml::to_values(&text).map_err(|e| anyhow::anyhow!("a manifest of ours: {e}"))?);
    }
    // The node's role can't be set by the kubelet itself.
    objects.push(json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": context.node_name, "labels": { "node-role.kubernetes.io/control-plane": "" } },
    }));
    Ok(objects)
}

fn record(context: &Context, objects: &[Value]) -> Result<Value> {
    let text = serde_json::to_vec(objects)?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &text);
    let digest: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    Ok(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": RECORD, "namespace": NAMESPACE },
        "data": { "addons": digest, "cluster.yaml": context.cluster.to_yaml()? },
    }))
}

pub(super) async fn check(context: &Context) -> Result<Check> {
    let wanted = record(context, &objects(context)?)?;
    let there: Result<ConfigMap, _> = context.api().await?.get(NAMESPACE, RECORD).await;
    Ok(match there {
        Ok(map) if serde_json::to_value(&map.data)? == wanted["data"] => Check::Done,
        Ok(_) => Check::Todo("the cluster has those of another configuration".to_owned()),
        Err(error) => Check::Todo(format!("{error}")),
    })
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    let client = context.api().await?;
    let objects = objects(context)?;
    wait::until("registering the node", Duration::from_secs(120), async || {
        let node: Result<api::core::Node, _> = client.get("", &context.node_name).await;
        Ok(node.err().map(|error| format!("node {}: {error}", context.node_name)))
    })
    .await?;
    for object in objects.iter().chain([&record(context, &objects)?]) {
        let what = format!(
            "{} {}",
            object["kind"].as_str().unwrap_or_default(),
            object["metadata"]["name"].as_str().unwrap_or_default()
        );
        // Right after its start the API server may still be making its namespaces.
        wait::until(&format!("creating {what}"), Duration::from_secs(60), async || {
            server_side_apply(client, object).await.map(|()| None)
        })
        .await?;
    }
    Ok(())
}

async fn server_side_apply(client: &Client, object: &Value) -> Result<()> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let resource = schema::builtin()
        .by_kind(group, version, text("/kind"))
        .with_context(|| format!("{} is not a kind that is built in", text("/kind")))?;
    let resource = ResourceId {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: resource.kind.clone(),
        plural: resource.plural.clone(),
        namespaced: resource.namespaced,
    };
    let scope = Scope { resource: &resource, namespace: text("/metadata/namespace") };
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), force: true, ..PatchParams::default() };
    client.patch_bytes(scope, text("/metadata/name"), &Patch::Apply(object.clone()), &params).await?;
    Ok(())
}
