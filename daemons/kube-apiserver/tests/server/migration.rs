//! Storage version migration (KEP-4192): the resource, and writes that change nothing but how an object is stored.

use std::sync::Arc;

use daemon::feature_gates::FeatureGates;
use daemon::reload::Reloading;
use kube_apiserver::encryption::kms::Plugins;
use kube_apiserver::encryption::{self, Encryption};
use kube_apiserver::{Config, runtime_config};
use serde_json::{Value, json};
use store::{Memory, Storage, Transformed};

use crate::harness::{Answer, Api, eventually};

const GROUP: &str = "/apis/storagemigration.k8s.io/v1beta1";
const MIGRATIONS: &str = "/apis/storagemigration.k8s.io/v1beta1/storageversionmigrations";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const APPLY: &str = "application/apply-patch+yaml";

fn ask(config: &mut Config) {
    config.gates = FeatureGates::parse(&["StorageVersionMigrator=true".into()]).unwrap();
    let asked = runtime_config::parse(&["storagemigration.k8s.io/v1beta1=true".into()], &config.gates);
    config.serving = asked.unwrap().serving;
}

fn migration(name: &str, group: &str, resource: &str) -> Value {
    json!({"apiVersion": "storagemigration.k8s.io/v1beta1", "kind": "StorageVersionMigration", "metadata": {"name": name},
        "spec": {"resource": {"group": group, "resource": resource}}})
}

#[tokio::test]
async fn it_is_served_when_it_is_asked_for() {
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:controller:storage-version-migrator-controller";
    let document = "/openapi/v3/apis/storagemigration.k8s.io/v1beta1";
    let without = Api::start().await;
    for path in [GROUP, MIGRATIONS, role, document, "/apis/storagemigration.k8s.io"] {
        assert_eq!(without.call("GET", path, Value::Null).await.0, 404, "{path}");
    }
    let groups = |all: &Value| all["groups"].as_array().unwrap().iter().map(|g| g["name"].clone()).collect::<Vec<_>>();
    let before = without.answer("GET", "/openapi/v2", Value::Null).await;
    assert!(before.body["paths"].get(format!("{MIGRATIONS}/{{name}}")).is_none());

    let api = Api::with(ask).await;
    let mut expected = groups(&without.ok("GET", "/apis", Value::Null).await);
    expected.push("storagemigration.k8s.io".into());
    assert_eq!(groups(&api.ok("GET", "/apis", Value::Null).await), expected, "its priority is the lowest");
    let resources = api.ok("GET", GROUP, Value::Null).await["resources"].clone();
    let names: Vec<&str> = resources.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["storageversionmigrations", "storageversionmigrations/status"]);
    assert_eq!((&resources[0]["namespaced"], &resources[0]["shortNames"]), (&json!(false), &Value::Null));
    let service = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.storagemigration.k8s.io";
    api.until(service, |code, _| code == 200).await;
    api.ok("GET", role, Value::Null).await;
    assert!(api.ok("GET", document, Value::Null).await["paths"].get(MIGRATIONS).is_some());
    let after = api.answer("GET", "/openapi/v2", Value::Null).await;
    assert!(after.body["paths"].get(format!("{MIGRATIONS}/{{name}}")).is_some());
    assert_ne!(before.headers["etag"], after.headers["etag"]);
}

#[tokio::test]
async fn the_resource_and_its_status() {
    let api = Api::with(ask).await;
    let mut wanted = migration("m", "", "secrets");
    wanted["status"] = json!({"resourceVersion": "5"});
    let made = api.ok("POST", MIGRATIONS, wanted).await;
    assert_eq!((&made["status"], made["metadata"].get("generation")), (&json!({}), None));
    let (code, refused) = api.call("POST", MIGRATIONS, migration("n", "A", "")).await;
    assert_eq!(code, 422);
    let message = refused["message"].as_str().unwrap();
    let start = "StorageVersionMigration.storagemigration.k8s.io \"n\" is invalid: [spec.resource.resource: Required value: resource \
                 is required to be set, spec.resource.group: Invalid value: \"A\": a lowercase RFC 1123 subdomain";
    assert!(message.starts_with(start), "{message}");

    let path = format!("{MIGRATIONS}/m");
    let (code, refused) = api.call("PATCH", &path, json!({"spec": {"resource": {"resource": "pods"}}})).await;
    assert_eq!((code, refused["details"]["causes"][0]["field"].as_str()), (422, Some("spec")), "{refused}");
    let mut blind = made.clone();
    blind["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    assert_eq!(api.call("PUT", &path, blind).await.0, 422, "an update says what it replaces");

    let status = format!("{path}/status");
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let change = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"resource": {"resource": "pods"}},
        "status": {"resourceVersion": "7", "conditions": [condition("Running", "True")]}});
    let changed = api.ok("PATCH", &status, change).await;
    assert_eq!((changed["metadata"].get("labels"), &changed["spec"]), (None, &made["spec"]), "the status alone");
    assert_eq!(changed["status"]["resourceVersion"], "7");
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let list = Answer::read(api.raw(&kube_apiserver::authn::user::User::server(), "GET", MIGRATIONS, &table, "").await).await;
    let columns: Vec<&str> =
        list.body["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "Resource", "Status"]);
    assert_eq!(list.body["rows"][0]["cells"], json!(["m", "secrets", "Running"]));
    let succeeded = json!({"status": {"conditions": [condition("Running", "False"), condition("Succeeded", "True")]}});
    api.ok("PATCH", &status, succeeded).await;
    let (code, refused) = api.call("PATCH", &status, json!({"status": {"resourceVersion": "8", "conditions": []}})).await;
    assert_eq!(code, 422);
    let causes: Vec<&str> =
        refused["details"]["causes"].as_array().unwrap().iter().map(|c| c["field"].as_str().unwrap()).collect();
    assert_eq!(causes, ["status.resourceVersion", "status.conditions"]);
    api.ok("DELETE", &path, Value::Null).await;
}

/// What the controller sends for each object.
async fn touch(api: &Api, path: &str, api_version: &str) -> (u16, Value) {
    let object = api.ok("GET", path, Value::Null).await;
    let empty = json!({"apiVersion": api_version, "kind": object["kind"],
        "metadata": {"uid": object["metadata"]["uid"], "resourceVersion": object["metadata"]["resourceVersion"]}});
    api.patch(&format!("{path}?fieldManager=storage-version-migrator-controller"), APPLY, empty).await
}

fn revision(object: &Value) -> u64 {
    machinery::meta::resource_version(object)
}

async fn sealing(storage: &Arc<dyn Storage>, providers: &str) -> Api {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n{providers}"
    );
    let configuration = encryption::config::parse(&text, &Arc::new(Plugins::default())).expect("a valid configuration");
    let sealed = Arc::new(Transformed::new(storage.clone(), Arc::new(Encryption::new(Reloading::fixed(configuration)))));
    let api = Api::begin(|config| config.storage = sealed).await;
    api.server.ready().await;
    api
}

fn provider(key: &str, byte: u8) -> String {
    use base64::Engine;
    let secret = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
    format!("  - aesgcm: {{keys: [{{name: {key}, secret: {secret}}}]}}\n")
}

#[tokio::test]
async fn a_write_that_changes_nothing_moves_a_secret_to_the_current_key() {
    const SECRETS: &str = "/api/v1/namespaces/default/secrets";
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let kept = async || storage.get("/registry/secrets/default/s").await.unwrap().unwrap().value;
    let path = format!("{SECRETS}/s");
    let (old, new) = (provider("old", 1), provider("new", 2));
    let plain = sealing(&storage, "  - identity: {}\n").await;
    plain.ok("POST", SECRETS, json!({"metadata": {"name": "s"}, "data": {"k": "dmFsdWU="}})).await;
    assert!(kept().await.starts_with(b"{"));
    drop(plain);
    for (providers, prefix) in [
        (format!("{old}  - identity: {{}}\n"), "k8s:enc:aesgcm:v1:old:"),
        (format!("{new}{old}"), "k8s:enc:aesgcm:v1:new:"),
        (format!("  - identity: {{}}\n{new}"), "{"),
    ] {
        let api = sealing(&storage, &providers).await;
        assert!(!kept().await.starts_with(prefix.as_bytes()), "{prefix} before");
        let before = api.ok("GET", &path, Value::Null).await;
        let (code, after) = touch(&api, &path, "v1").await;
        assert_eq!(code, 200, "{after}");
        assert!(kept().await.starts_with(prefix.as_bytes()), "{prefix}");
        assert!(revision(&after) > revision(&before));
        assert_eq!(
            (&after["data"], &after["metadata"]["managedFields"]),
            (&before["data"], &before["metadata"]["managedFields"])
        );
        // Once is enough.
        let (code, again) = touch(&api, &path, "v1").await;
        assert_eq!((code, revision(&again)), (200, revision(&after)));
    }
}

fn definition(storage: &str) -> Value {
    let version = |name: &str| {
        let schema = json!({"type": "object", "properties": {"size": {"type": "integer"}}});
        json!({"name": name, "served": true, "storage": name == storage, "schema": {"openAPIV3Schema": schema}})
    };
    json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"}, "versions": [version("v1"), version("v2")]}})
}

#[tokio::test]
async fn a_write_that_changes_nothing_stores_a_custom_resource_in_the_current_version() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let inner = storage.clone();
    let api = Api::with(move |config| config.storage = inner).await;
    let kept = async |name: &str| -> Value {
        let stored = storage.get(&format!("/registry/example.com/things/ns/{name}")).await.unwrap().unwrap();
        serde_json::from_slice::<Value>(&stored.value).unwrap()["apiVersion"].clone()
    };
    let things = |version: &str| format!("/apis/example.com/{version}/namespaces/ns/things");
    api.ok("POST", DEFINITIONS, definition("v1")).await;
    api.until("/apis/example.com/v2", |code, _| code == 200).await;
    for name in ["a", "b"] {
        api.ok(
            "POST",
            &things("v2"),
            json!({"apiVersion": "example.com/v2", "kind": "Thing", "metadata": {"name": name}, "size": 1}),
        )
        .await;
        assert_eq!(kept(name).await, "example.com/v1");
    }
    let a = format!("{}/a", things("v2"));
    let unchanged = api.ok("GET", &a, Value::Null).await;
    assert_eq!(revision(&touch(&api, &a, "example.com/v2").await.1), revision(&unchanged), "it is stored as it should be");

    let of_definition = format!("{DEFINITIONS}/things.example.com");
    api.ok("PATCH", &of_definition, json!({"spec": {"versions": definition("v2")["spec"]["versions"]}})).await;
    // The change counts soon, for objects that are made from then on.
    eventually(|| async {
        let probe = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "probe"}});
        api.ok("POST", &things("v1"), probe).await;
        let current = kept("probe").await == "example.com/v2";
        api.ok("DELETE", &format!("{}/probe", things("v1")), Value::Null).await;
        current
    })
    .await;
    for (name, version) in [("a", "v2"), ("b", "v1")] {
        let path = format!("{}/{name}", things(version));
        let before = api.ok("GET", &path, Value::Null).await;
        let (code, after) = touch(&api, &path, &format!("example.com/{version}")).await;
        assert_eq!((code, &after["size"]), (200, &json!(1)), "{after}");
        assert!(revision(&after) > revision(&before), "{name} was written");
        assert_eq!(kept(name).await, "example.com/v2");
        assert_eq!(after["metadata"]["managedFields"], before["metadata"]["managedFields"]);
        assert_eq!(revision(&touch(&api, &path, &format!("example.com/{version}")).await.1), revision(&after));
    }

    // Nothing is left of v1: the definition may forget it.
    let without = json!({"spec": {"versions": [definition("v2")["spec"]["versions"][1]]}});
    assert_eq!(api.call("PATCH", &of_definition, without.clone()).await.0, 422, "it still says that v1 is stored");
    api.ok("PATCH", &format!("{of_definition}/status"), json!({"status": {"storedVersions": ["v2"]}})).await;
    api.ok("PATCH", &of_definition, without).await;
    api.until(&format!("{}/b", things("v2")), |code, thing| code == 200 && thing["size"] == 1).await;
}

#[tokio::test]
async fn what_was_changed_or_made_anew_meanwhile_is_left_alone() {
    let api = Api::start().await;
    let path = "/api/v1/namespaces/ns/configmaps/c";
    let make = async || api.ok("POST", "/api/v1/namespaces/ns/configmaps", json!({"metadata": {"name": "c"}})).await;
    let send = async |of: &Value| {
        let empty = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"uid": of["metadata"]["uid"], "resourceVersion": of["metadata"]["resourceVersion"]}});
        api.patch(&format!("{path}?fieldManager=m"), APPLY, empty).await
    };
    let first = make().await;
    api.ok("PATCH", path, json!({"data": {"a": "b"}})).await;
    let (code, status) = send(&first).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")), "changed: {status}");
    api.ok("DELETE", path, Value::Null).await;
    let (code, status) = send(&first).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")), "gone: {status}");
    make().await;
    let (code, status) = send(&first).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")), "another: {status}");
}
