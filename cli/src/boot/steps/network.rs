//! The pod network of the node: CNI's bridge with the addresses that the cluster gave the node.

use std::time::Duration;

use anyhow::{Context as _, Result};
use api::core::Node;
use serde_json::json;

use super::wait;
use crate::boot::context::Context;
use crate::boot::files::{self, File};
use crate::boot::ledger::Effect;
use crate::boot::paths::{CNI_BRIDGE, CNI_CONFLIST};
use crate::boot::plan::Check;

async fn pod_cidr(context: &Context) -> Result<Option<String>> {
    let node: Node = context.api().await?.get("", &context.node_name).await.context("reading the node")?;
    Ok(node.spec.and_then(|spec| spec.pod_cidr).filter(|cidr| !cidr.is_empty()))
}

fn conflist(cidr: &str) -> File {
    let list = json!({
        "cniVersion": "1.0.0",
        "name": "kctl",
        "plugins": [
            {
                "type": "bridge",
                "bridge": CNI_BRIDGE,
                "isDefaultGateway": true,
                "ipMasq": true,
                // A pod reaches itself through its Service.
                "hairpinMode": true,
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": cidr }]] },
            },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
        ],
    });
    File::public(CNI_CONFLIST, format!("{list:#}\n"))
}

pub(super) async fn check(context: &Context) -> Result<Check> {
    Ok(match pod_cidr(context).await {
        Ok(Some(cidr)) => Check::of(files::differences(&[conflist(&cidr)])),
        Ok(None) => Check::Todo("the node has no podCIDR yet".to_owned()),
        Err(error) => Check::Todo(format!("{error:#}")),
    })
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    context.note(Effect::Interface { name: CNI_BRIDGE.to_owned() })?;
    context.note(Effect::Tree { path: "/var/lib/cni".into() })?;
    wait::until("getting a podCIDR", Duration::from_secs(120), async || {
        Ok(match pod_cidr(context).await? {
            Some(_) => None,
            None => Some("kube-controller-manager to give the node a podCIDR".to_owned()),
        })
    })
    .await?;
    let cidr = pod_cidr(context).await?.context("the podCIDR is gone again")?;
    files::write_all(context, &[conflist(&cidr)])
}
