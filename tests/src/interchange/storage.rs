//! Volumes and claims.

use anyhow::Result;
use serde_json::{Value, json};

use super::bed::{Bed, pod_spec};

const VOLUMES: &str = "/api/v1/persistentvolumes";

async fn bind(bed: &Bed, name: &str) -> Result<()> {
    let size = json!({"storage": "1Gi"});
    // A class of its own: no other claim fits.
    let spec = json!({"capacity": size, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/none"},
        "storageClassName": name, "persistentVolumeReclaimPolicy": "Retain"});
    bed.post(VOLUMES, json!({"metadata": {"name": name}, "spec": spec})).await?;
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": name, "resources": {"requests": size}});
    bed.post(&bed.path("v1", "persistentvolumeclaims", ""), json!({"metadata": {"name": "data"}, "spec": spec})).await?;
    let bound = |object: &Value| object["status"]["phase"] == "Bound";
    bed.until(&bed.path("v1", "persistentvolumeclaims", "data"), "is bound", bound).await?;
    bed.until(&format!("{VOLUMES}/{name}"), "is bound", bound).await?;
    Ok(())
}

pub(super) async fn claim(bed: Bed) -> Result<()> {
    bind(&bed, "interchange-claim").await?;
    bed.delete(&bed.path("v1", "persistentvolumeclaims", "data"), "Background").await?;
    let released = |volume: &Value| volume["status"]["phase"] == "Released";
    bed.until(&format!("{VOLUMES}/interchange-claim"), "is released", released).await?;
    bed.delete(&format!("{VOLUMES}/interchange-claim"), "Background").await?;
    bed.gone(&format!("{VOLUMES}/interchange-claim")).await
}

/// A claim that a pod uses stays until the pod is gone.
pub(super) async fn protection(bed: Bed) -> Result<()> {
    bind(&bed, "interchange-protection").await?;
    let mut spec = pod_spec();
    spec["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    bed.post(&bed.path("v1", "pods", ""), json!({"metadata": {"name": "p"}, "spec": spec})).await?;
    let (claim, pod) = (bed.path("v1", "persistentvolumeclaims", "data"), bed.path("v1", "pods", "p"));
    bed.until(&pod, "runs", |pod| pod["status"]["phase"] == "Running").await?;
    bed.delete(&claim, "Background").await?;
    bed.until(&claim, "waits", |claim| claim["metadata"]["deletionTimestamp"].is_string()).await?;
    bed.delete(&pod, "Background").await?;
    bed.gone(&claim).await
}
