//! kube-rs against the cluster of `$KUBECONFIG`: list, every patch type, watch, informers, leader election, exec, logs.
//!
//! It is a program, so that the end-to-end tests run it against whichever cluster they have; it exits with 1 and says
//! which step failed. `kube-rs-client exec NAMESPACE POD` adds the steps that need a running pod with a shell.

mod election;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::io::AsyncReadExt;

const TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let client = Client::try_default().await.context("a client from $KUBECONFIG")?;
    let args: Vec<String> = std::env::args().collect();
    let checks = async {
        let namespace = format!("kube-rs-{}", std::process::id());
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
        namespaces.create(&PostParams::default(), &object).await.context("creating the namespace")?;
        let result = objects(&client, &namespace).await;
        namespaces.delete(&namespace, &DeleteParams::background()).await.context("deleting the namespace")?;
        result?;
        if let [_, command, namespace, pod] = args.as_slice() {
            ensure!(command == "exec", "usage: kube-rs-client [exec NAMESPACE POD]");
            step("exec and logs", pods(&client, namespace, pod)).await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(TIMEOUT, checks).await.context("no end within a minute")??;
    println!("kube-rs: all steps passed");
    Ok(())
}

fn config_map(name: &str, value: &str) -> Result<ConfigMap> {
    Ok(serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": "kube-rs"}}, "data": {"key": value}}))?)
}

fn value(map: &ConfigMap) -> Option<&str> {
    map.data.as_ref()?.get("key").map(String::as_str)
}

/// Says what is done, so that a step which never ends has a name.
async fn step(name: &str, work: impl Future<Output = Result<()>>) -> Result<()> {
    println!("kube-rs: {name}");
    tokio::time::timeout(TIMEOUT / 3, work).await.with_context(|| format!("{name}: no end"))?.with_context(|| name.to_owned())
}

async fn objects(client: &Client, namespace: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    step("create, get, list, replace", crud(&maps)).await?;
    step("patches", patches(&maps)).await?;
    step("watch", watches(&maps)).await?;
    step("informer", informer(&maps)).await?;
    step("leader election", election::election(&Api::namespaced(client.clone(), namespace))).await?;
    step("paging", paging(&maps)).await?;
    step("strategic merge patch of a Deployment", deployment(client, namespace)).await?;
    Ok(())
}

async fn crud(maps: &Api<ConfigMap>) -> Result<()> {
    let created = maps.create(&PostParams::default(), &config_map("a", "1")?).await?;
    ensure!(created.uid().is_some() && created.resource_version().is_some());
    let again = maps.create(&PostParams::default(), &config_map("a", "1")?).await;
    ensure!(matches!(&again, Err(kube::Error::Api(s)) if s.code == 409 && s.reason == "AlreadyExists"), "{again:?}");
    ensure!(maps.get_opt("none").await?.is_none());
    let mut newer = created.clone();
    newer.data = Some(BTreeMap::from([("key".to_owned(), "2".to_owned())]));
    let replaced = maps.replace("a", &PostParams::default(), &newer).await?;
    ensure!(value(&replaced) == Some("2"));
    let stale = maps.replace("a", &PostParams::default(), &newer).await;
    ensure!(matches!(&stale, Err(kube::Error::Api(s)) if s.code == 409 && s.reason == "Conflict"), "{stale:?}");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &config_map("dry", "1")?).await?;
    ensure!(maps.get_opt("dry").await?.is_none(), "a dry run stores nothing");
    ensure!(maps.list(&ListParams::default().labels("app=kube-rs")).await?.items.len() == 1);
    ensure!(maps.list(&ListParams::default().fields("metadata.name=b")).await?.items.is_empty());
    Ok(())
}

async fn patches(maps: &Api<ConfigMap>) -> Result<()> {
    let params = PatchParams::default();
    let merged = maps.patch("a", &params, &Patch::Merge(json!({"data": {"key": "merge"}}))).await?;
    ensure!(value(&merged) == Some("merge"));
    let strategic = maps.patch("a", &params, &Patch::Strategic(json!({"data": {"key": "strategic"}}))).await?;
    ensure!(value(&strategic) == Some("strategic"));
    let operations: json_patch::Patch = serde_json::from_value(json!([{"op": "replace", "path": "/data/key", "value": "json"}]))?;
    ensure!(value(&maps.patch("a", &params, &Patch::Json::<()>(operations)).await?) == Some("json"));
    let apply = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"key": value}});
    let conflict = maps.patch("a", &PatchParams::apply("kube-rs-test"), &Patch::Apply(apply("applied"))).await;
    ensure!(matches!(&conflict, Err(kube::Error::Api(s)) if s.code == 409), "another manager owns the field: {conflict:?}");
    let forced = maps.patch("a", &PatchParams::apply("kube-rs-test").force(), &Patch::Apply(apply("applied"))).await?;
    ensure!(value(&forced) == Some("applied"));
    ensure!(forced.managed_fields().iter().any(|m| m.manager.as_deref() == Some("kube-rs-test")));
    Ok(())
}

/// A watch, and another one that goes on where it ended.
async fn watches(maps: &Api<ConfigMap>) -> Result<()> {
    let start = maps.list(&ListParams::default()).await?.metadata.resource_version.context("a list has a revision")?;
    maps.create(&PostParams::default(), &config_map("w", "1")?).await?;
    maps.patch("w", &PatchParams::default(), &Patch::Merge(json!({"data": {"key": "2"}}))).await?;
    maps.delete("w", &DeleteParams::default()).await?;
    let (first, revision) = until(maps, &start, "MODIFIED w").await?;
    ensure!(first == ["ADDED w", "MODIFIED w"], "{first:?}");
    let (rest, _) = until(maps, &revision, "DELETED w").await?;
    ensure!(rest == ["DELETED w"], "a watch that goes on: {rest:?}");
    Ok(())
}

/// What a watch from that revision sees up to that event, and the revision there.
async fn until(maps: &Api<ConfigMap>, revision: &str, last: &str) -> Result<(Vec<String>, String)> {
    let mut events = maps.watch(&WatchParams::default().timeout(20), revision).await?.boxed();
    let mut seen = Vec::new();
    while let Some(event) = events.try_next().await? {
        let (name, object) = match event {
            WatchEvent::Added(object) => ("ADDED", object),
            WatchEvent::Modified(object) => ("MODIFIED", object),
            WatchEvent::Deleted(object) => ("DELETED", object),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(error) => anyhow::bail!("{error:?}"),
        };
        seen.push(format!("{name} {}", object.name_any()));
        if seen.last().is_some_and(|event| event == last) {
            return Ok((seen, object.resource_version().context("a revision")?));
        }
    }
    anyhow::bail!("{last:?} did not come: {seen:?}")
}

/// Both ways of filling a store: list and watch, and the streaming list of KEP-3157.
async fn informer(maps: &Api<ConfigMap>) -> Result<()> {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let (reader, writer) = reflector::store();
        let stream = reflector(writer, watcher(maps.clone(), config.labels("app=kube-rs"))).applied_objects().boxed();
        let task = tokio::spawn(stream.for_each(|_| async {}));
        reader.wait_until_ready().await?;
        ensure!(reader.state().iter().any(|o| o.name_any() == "a"));
        maps.create(&PostParams::default(), &config_map("late", "1")?).await?;
        let arrived = async {
            while !reader.state().iter().any(|o| o.name_any() == "late") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), arrived).await.context("the informer never saw the new object")?;
        maps.delete("late", &DeleteParams::default()).await?;
        task.abort();
    }
    Ok(())
}

async fn paging(maps: &Api<ConfigMap>) -> Result<()> {
    for i in 0..7 {
        maps.create(&PostParams::default(), &config_map(&format!("page-{i}"), "x")?).await?;
    }
    let mut params = ListParams::default().labels("app=kube-rs").limit(3);
    let (mut names, mut pages) = (Vec::new(), 0);
    loop {
        let page = maps.list(&params).await?;
        pages += 1;
        names.extend(page.items.iter().map(ResourceExt::name_any));
        match page.metadata.continue_.filter(|c| !c.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    ensure!(pages == 3 && names.len() == 8, "{pages} pages: {names:?}");
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("app=kube-rs")).await?;
    ensure!(maps.list(&ListParams::default().labels("app=kube-rs")).await?.items.is_empty());
    Ok(())
}

async fn deployment(client: &Client, namespace: &str) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let object = serde_json::from_value(json!({
        "metadata": {"name": "d"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "d"}}, "template": {
            "metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{"name": "one", "image": "localhost/one:1"}, {"name": "two", "image": "localhost/two:1"}]}}}
    }))?;
    deployments.create(&PostParams::default(), &object).await?;
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "two", "image": "localhost/two:2"}]}}}});
    let patched = deployments.patch("d", &PatchParams::default(), &Patch::Strategic(patch)).await?;
    let pod = patched.spec.context("spec")?.template.spec.context("template")?;
    // Patch items come first: upstream puts what a patch names before what it does not.
    let images: Vec<_> = pod.containers.iter().map(|c| c.image.as_deref().unwrap_or_default()).collect();
    ensure!(images.len() == 2 && images.contains(&"localhost/one:1") && images.contains(&"localhost/two:2"), "{images:?}");
    let scale = deployments.patch_scale("d", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 0}}))).await?;
    ensure!(scale.spec.and_then(|s| s.replicas).unwrap_or(0) == 0);
    Ok(())
}

async fn pods(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = AttachParams::default().stdout(true).stderr(true);
    let mut process = pods.exec(name, ["sh", "-c", "echo out; echo err >&2; exit 3"], &params).await.context("exec")?;
    let (mut out, mut err) = (String::new(), String::new());
    let status = process.take_status().context("a status")?;
    let mut stdout = process.stdout().context("stdout")?;
    let mut stderr = process.stderr().context("stderr")?;
    tokio::try_join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err))?;
    ensure!((out.as_str(), err.as_str()) == ("out\n", "err\n"), "{out:?} {err:?}");
    let status = status.await.context("the status came")?;
    let causes = status.details.and_then(|d| d.causes).unwrap_or_default();
    ensure!(causes.iter().any(|c| c.reason.as_deref() == Some("ExitCode") && c.message.as_deref() == Some("3")), "{causes:?}");
    pods.logs(name, &LogParams { tail_lines: Some(1), ..LogParams::default() }).await.context("logs")?;
    Ok(())
}
