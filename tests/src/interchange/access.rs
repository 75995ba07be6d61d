//! Tokens, certificates and roles.

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use pki::{Key, Profile, Request};
use serde_json::{Value, json};

use super::bed::Bed;

pub(super) async fn service_account(bed: Bed) -> Result<()> {
    let root = bed.path("v1", "configmaps", "kube-root-ca.crt");
    bed.until(&root, "holds a certificate", |map| map["data"]["ca.crt"].to_string().contains("BEGIN CERTIFICATE")).await?;
    let account = bed.path("v1", "serviceaccounts", "default");
    bed.delete(&account, "Background").await?;
    bed.until(&account, "is made again", |account| account["metadata"]["deletionTimestamp"].is_null()).await?;
    let answer = bed.post(&format!("{account}/token"), json!({"spec": {"expirationSeconds": 600}})).await?;
    let token = answer["status"]["token"].as_str().context("a token")?;
    let user = reviewed(&bed, token).await?;
    ensure!(user == format!("system:serviceaccount:{}:default", bed.namespace), "{user}");
    Ok(())
}

/// The user whom a token is of; empty when it is refused.
async fn reviewed(bed: &Bed, token: &str) -> Result<String> {
    let review = bed.post("/apis/authentication.k8s.io/v1/tokenreviews", json!({"spec": {"token": token}})).await?;
    Ok(review["status"]["user"]["username"].as_str().unwrap_or_default().to_owned())
}

/// The tokens of old, in a Secret.
pub(super) async fn token_secret(bed: Bed) -> Result<()> {
    bed.post(&bed.path("v1", "serviceaccounts", ""), json!({"metadata": {"name": "robot"}})).await?;
    let metadata = json!({"name": "robot", "annotations": {"kubernetes.io/service-account.name": "robot"}});
    bed.post(&bed.path("v1", "secrets", ""), json!({"metadata": metadata, "type": "kubernetes.io/service-account-token"}))
        .await?;
    let path = bed.path("v1", "secrets", "robot");
    let filled = |secret: &Value| secret["data"]["token"].is_string() && secret["data"]["ca.crt"].is_string();
    bed.until(&path, "is filled in", filled).await?;
    bed.delete(&bed.path("v1", "serviceaccounts", "robot"), "Background").await?;
    bed.gone(&path).await
}

pub(super) async fn signing_request(bed: Bed) -> Result<()> {
    let key = Key::generate()?;
    let hour = SignedDuration::from_hours(1);
    let request = Request::make(&Profile::client("interchange", Some("interchange"), hour), &key)?;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let spec = json!({"request": api::ByteString(request.into_bytes()), "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth", "digital signature"], "expirationSeconds": 3600});
    let mut object = bed.post(requests, json!({"metadata": {"name": "interchange"}, "spec": spec})).await?;
    object["status"]["conditions"] = json!([{"type": "Approved", "status": "True", "reason": "Test", "message": "test"}]);
    bed.put(&format!("{requests}/interchange/approval"), &object).await?;
    bed.until(&format!("{requests}/interchange"), "is signed", |r| r["status"]["certificate"].is_string()).await?;
    Ok(())
}

pub(super) async fn aggregated_role(bed: Bed) -> Result<()> {
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let labels = json!({"interchange.example.com/aggregate": "yes"});
    let sum = json!({"metadata": {"name": "interchange-sum"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": labels}]},
        "rules": []});
    bed.post(roles, sum).await?;
    let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
    bed.post(roles, json!({"metadata": {"name": "interchange-part", "labels": labels}, "rules": [rule]})).await?;
    bed.until(&format!("{roles}/interchange-sum"), "has the rule", |role| role["rules"] == json!([rule])).await?;
    Ok(())
}
