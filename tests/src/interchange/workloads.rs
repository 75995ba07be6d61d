//! Controllers of pods.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, condition, deployment as a_deployment, observed, template};
use crate::pods::FINISH;

const APPS: &str = "apps/v1";
const BATCH: &str = "batch/v1";

pub(super) async fn deployment(bed: Bed) -> Result<()> {
    let web = bed.path(APPS, "deployments", "web");
    bed.post(&bed.path(APPS, "deployments", ""), a_deployment("web", 2)).await?;
    let available = |d: &Value| observed(d) && d["status"]["availableReplicas"] == 2 && condition(d, "Available", "True");
    let deployment = bed.until(&web, "has two pods", available).await?;
    let sets = bed.items(&bed.path(APPS, "replicasets", "")).await?;
    ensure!(sets.len() == 1 && sets[0]["metadata"]["ownerReferences"][0]["uid"] == deployment["metadata"]["uid"], "{sets:?}");
    let pods = bed.items(&bed.path("v1", "pods", "")).await?;
    ensure!(pods.iter().all(|pod| pod["spec"]["nodeName"].is_string()), "bound pods");

    bed.merge(&web, json!({"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}})).await?;
    let updated = |d: &Value| available(d) && d["status"]["updatedReplicas"] == 2 && d["status"]["replicas"] == 2;
    let deployment = bed.until(&web, "is rolled out", updated).await?;
    ensure!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2", "its revision");
    let sets = bed.items(&bed.path(APPS, "replicasets", "")).await?;
    ensure!(sets.len() == 2 && sets.iter().any(|set| set["spec"]["replicas"] == 0), "the old set stays, with no pods");
    Ok(())
}

pub(super) async fn replication_controller(bed: Bed) -> Result<()> {
    let labels = json!({"app": "rc"});
    let spec = json!({"replicas": 2, "selector": labels, "template": template(labels.clone())});
    bed.post(&bed.path("v1", "replicationcontrollers", ""), json!({"metadata": {"name": "rc"}, "spec": spec})).await?;
    let rc = bed.path("v1", "replicationcontrollers", "rc");
    bed.until(&rc, "has two pods", |rc| observed(rc) && rc["status"]["availableReplicas"] == 2).await?;
    bed.merge(&rc, json!({"spec": {"replicas": 0}})).await?;
    bed.until(&rc, "has none", |rc| observed(rc) && rc["status"]["replicas"] == 0).await?;
    Ok(())
}

pub(super) async fn stateful_set(bed: Bed) -> Result<()> {
    let labels = json!({"app": "s"});
    let spec =
        json!({"replicas": 2, "serviceName": "s", "selector": {"matchLabels": labels}, "template": template(labels.clone())});
    bed.post(&bed.path(APPS, "statefulsets", ""), json!({"metadata": {"name": "s"}, "spec": spec})).await?;
    let path = bed.path(APPS, "statefulsets", "s");
    let ready = |s: &Value| {
        let status = &s["status"];
        observed(s) && status["readyReplicas"] == 2 && status["currentRevision"] == status["updateRevision"]
    };
    bed.until(&path, "has two pods", ready).await?;
    let revisions = bed.items(&bed.path(APPS, "controllerrevisions", "")).await?;
    ensure!(revisions.len() == 1, "one revision");
    let pod = bed.get(&bed.path("v1", "pods", "s-1")).await?;
    ensure!(pod["spec"]["hostname"] == "s-1" && pod["spec"]["subdomain"] == "s", "a pod has its name in the network");
    bed.merge(&path, json!({"spec": {"replicas": 1}})).await?;
    bed.gone(&bed.path("v1", "pods", "s-1")).await?;
    bed.until(&path, "has one pod", |s| s["status"]["replicas"] == 1).await?;
    Ok(())
}

pub(super) async fn daemon_set(bed: Bed) -> Result<()> {
    let labels = json!({"app": "d"});
    let spec = json!({"selector": {"matchLabels": labels}, "template": template(labels.clone())});
    bed.post(&bed.path(APPS, "daemonsets", ""), json!({"metadata": {"name": "d"}, "spec": spec})).await?;
    let ready = |d: &Value| observed(d) && d["status"]["desiredNumberScheduled"] == 2 && d["status"]["numberReady"] == 2;
    bed.until(&bed.path(APPS, "daemonsets", "d"), "runs on both nodes", ready).await?;
    let pods = bed.items(&bed.path("v1", "pods", "")).await?;
    ensure!(pods.len() == 2 && pods[0]["spec"]["nodeName"] != pods[1]["spec"]["nodeName"], "one on each node");
    Ok(())
}

fn finishing(labels: Value) -> Value {
    let mut template = template(labels);
    template["metadata"]["labels"][FINISH] = json!("yes");
    template["spec"]["restartPolicy"] = json!("Never");
    template
}

pub(super) async fn job(bed: Bed) -> Result<()> {
    let spec = json!({"completions": 3, "parallelism": 2, "template": finishing(json!({}))});
    bed.post(&bed.path(BATCH, "jobs", ""), json!({"metadata": {"name": "j"}, "spec": spec})).await?;
    let done = |j: &Value| {
        j["status"]["succeeded"] == 3 && condition(j, "Complete", "True") && j["status"]["completionTime"].is_string()
    };
    bed.until(&bed.path(BATCH, "jobs", "j"), "is complete", done).await?;
    let pods = bed.items(&bed.path("v1", "pods", "")).await?;
    let tracked = |pod: &Value| pod["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    ensure!(!pods.iter().any(tracked), "counted pods have no finalizer");
    Ok(())
}

pub(super) async fn job_ttl(bed: Bed) -> Result<()> {
    let spec = json!({"ttlSecondsAfterFinished": 1, "template": finishing(json!({}))});
    bed.post(&bed.path(BATCH, "jobs", ""), json!({"metadata": {"name": "j"}, "spec": spec})).await?;
    bed.gone(&bed.path(BATCH, "jobs", "j")).await
}

pub(super) async fn cron_job(bed: Bed) -> Result<()> {
    let spec = json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"template": finishing(json!({}))}}});
    bed.post(&bed.path(BATCH, "cronjobs", ""), json!({"metadata": {"name": "c"}, "spec": spec})).await?;
    let started = |c: &Value| c["status"]["lastScheduleTime"].is_string();
    bed.until(&bed.path(BATCH, "cronjobs", "c"), "was started", started).await?;
    let succeeded = |jobs: &Value| jobs["items"][0]["status"]["succeeded"] == 1;
    let jobs = bed.until(&bed.path(BATCH, "jobs", ""), "have succeeded", succeeded).await?;
    ensure!(jobs["items"][0]["metadata"]["ownerReferences"][0]["kind"] == "CronJob", "its owner");
    bed.until(&bed.path(BATCH, "cronjobs", "c"), "knows of it", |c| c["status"]["lastSuccessfulTime"].is_string()).await?;
    Ok(())
}

pub(super) async fn autoscaler(bed: Bed) -> Result<()> {
    bed.post(&bed.path(APPS, "deployments", ""), a_deployment("web", 1)).await?;
    let metric =
        json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    let target = json!({"apiVersion": APPS, "kind": "Deployment", "name": "web"});
    let spec = json!({"minReplicas": 2, "maxReplicas": 4, "scaleTargetRef": target, "metrics": [metric]});
    let group = "autoscaling/v2";
    bed.post(&bed.path(group, "horizontalpodautoscalers", ""), json!({"metadata": {"name": "h"}, "spec": spec})).await?;
    bed.until(&bed.path(APPS, "deployments", "web"), "is scaled up", |d| d["spec"]["replicas"] == 2).await?;
    // There is no API of metrics.
    let told = |h: &Value| condition(h, "AbleToScale", "True") && condition(h, "ScalingActive", "False");
    let h = bed.until(&bed.path(group, "horizontalpodautoscalers", "h"), "says what it sees", told).await?;
    ensure!(h["status"]["desiredReplicas"].is_number() && h["status"]["lastScaleTime"].is_string(), "{}", h["status"]);
    Ok(())
}
