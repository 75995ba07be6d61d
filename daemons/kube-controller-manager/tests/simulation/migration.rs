//! Storage version migrations: whatever happens to the controller, nothing is left in the old version when a definition forgets it.

use std::time::Duration;

use client::{Client, Error};
use daemon::feature_gates::FeatureGates;
use http::Method;
use kube_apiserver::{Config, runtime_config};
use serde_json::{Value, json};
use store::ListOptions;

use crate::faults::Faults;
use crate::world::{World, with_seeds};

const MINUTE: Duration = Duration::from_secs(60);
const MIGRATIONS: &str = "/apis/storagemigration.k8s.io/v1beta1/storageversionmigrations";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

pub fn gates() -> FeatureGates {
    FeatureGates::parse(&["StorageVersionMigrator=true".into()]).expect("a gate")
}

/// Has the server serve migrations.
pub fn ask(config: &mut Config) {
    let asked = runtime_config::parse(&["storagemigration.k8s.io/v1beta1=true".into()], &gates());
    config.serving = asked.expect("a version").serving;
}

pub fn migration(name: &str, group: &str, resource: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"resource": {"group": group, "resource": resource}}})
}

/// `status` and `reason` of a condition, and the message.
pub fn condition(object: &Value, kind: &str) -> Option<(String, String, String)> {
    let condition = object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)?;
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

pub fn definition(storage: &str) -> Value {
    let version = |name: &str| {
        let schema = json!({"type": "object", "properties": {"size": {"type": "integer"}}});
        json!({"name": name, "served": true, "storage": name == storage, "schema": {"openAPIV3Schema": schema}})
    };
    json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"}, "versions": [version("v1"), version("v2")]}})
}

pub async fn send(client: &Client, method: Method, path: &str, body: &Value) -> Result<Value, Error> {
    let media_type = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let bytes = client.call(method, path, Some((media_type, body.to_string().into()))).await?;
    Ok(serde_json::from_slice(&bytes).expect("JSON"))
}

impl World {
    async fn send(&self, method: Method, path: &str, body: Value) -> Value {
        send(&self.client, method, path, &body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn read(&self, path: &str) -> Value {
        self.client.get_value(path).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The versions in which the objects are stored.
    async fn kept(&self, prefix: &str) -> Vec<String> {
        let page = self.api.server().registry.feed.storage().list(prefix, ListOptions::default()).await.expect("a list");
        let version = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON")["apiVersion"].clone();
        let versions = page.items.iter().map(|stored| version(&stored.value));
        versions.map(|version| version.as_str().expect("a version").to_owned()).collect()
    }

    async fn until_ended(&self, name: &str) -> Value {
        let path = format!("{MIGRATIONS}/{name}");
        self.until("the migration ends", 10 * MINUTE, async |w| {
            condition(&w.read(&path).await, "Running").is_some_and(|(status, ..)| status == "False")
        })
        .await;
        self.read(&path).await
    }
}

#[test]
fn a_custom_resource_gets_to_its_new_version() {
    const COUNT: usize = 30;
    with_seeds(0..10, |seed| async move {
        let mut world = World::start_with(seed, 0, gates(), ask).await;
        world.send(Method::POST, DEFINITIONS, definition("v1")).await;
        let things = "/apis/example.com/v1/namespaces/default/things";
        world.until("v1 is served", MINUTE, async |w| w.client.get_value(things).await.is_ok()).await;
        for n in 0..COUNT {
            let thing =
                json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": format!("t{n}")}, "size": n});
            world.send(Method::POST, things, thing).await;
        }
        let of_definition = format!("{DEFINITIONS}/things.example.com");
        let versions = json!({"spec": {"versions": definition("v2")["spec"]["versions"]}});
        let changed = world.send(Method::PATCH, &of_definition, versions).await;
        assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
        assert_eq!(world.kept("/registry/example.com/things/").await, vec!["example.com/v1"; COUNT]);
        world.send(Method::POST, MIGRATIONS, migration("first", "example.com", "things")).await;
        world.send(Method::POST, MIGRATIONS, migration("second", "example.com", "things")).await;

        // It dies anywhere on its way, and another goes on.
        let dies = usize::try_from(seed * 4).expect("small");
        world.start_manager(Faults { dies_after_write: dies, stale_ms: 300, cut_watches: 60, ..Faults::default() });
        world.manager_died(MINUTE).await;
        world.start_manager(Faults { stale_ms: 300, lost_requests: 20, lost_answers: 20, ..Faults::default() });
        for name in ["first", "second"] {
            let ended = world.until_ended(name).await;
            let succeeded = ("True".into(), "StorageVersionMigrationSucceeded".into(), String::new());
            assert_eq!(condition(&ended, "Succeeded"), Some(succeeded), "{ended}");
            let running = ("False".into(), "MigrationCompleted".into(), "Migration completed".into());
            assert_eq!(condition(&ended, "Running"), Some(running), "{ended}");
        }
        assert_eq!(world.kept("/registry/example.com/things/").await, vec!["example.com/v2"; COUNT]);
        let migrated = world.read(&of_definition).await;
        assert_eq!(migrated["status"]["storedVersions"], json!(["v2"]));
        let message = "The migration has succeeded and the stored versions have been updated";
        let expected = ("False".into(), "MigrationSucceeded".into(), message.into());
        assert_eq!(condition(&migrated, "StorageMigrating"), Some(expected));
        assert_eq!(condition(&migrated, "Established").map(|(status, ..)| status).as_deref(), Some("True"));

        let only = json!({"spec": {"versions": [definition("v2")["spec"]["versions"][1]]}});
        world.send(Method::PATCH, &of_definition, only).await;
        let list = world.read("/apis/example.com/v2/namespaces/default/things").await;
        let sizes: usize =
            list["items"].as_array().expect("items").iter().map(|t| t["size"].as_u64().expect("a size") as usize).sum();
        assert_eq!(sizes, COUNT * (COUNT - 1) / 2);
    });
}

#[test]
fn what_cannot_be_migrated_is_said() {
    with_seeds(0..2, |seed| async move {
        let mut world = World::start_with(seed, 0, gates(), ask).await;
        world.start_manager(Faults::default());
        for (name, group, resource, why) in [
            ("unknown", "example.com", "nothings", "resource does not exist in discovery"),
            (
                "reviews",
                "authentication.k8s.io",
                "tokenreviews",
                "resource \"authentication.k8s.io/v1, Resource=tokenreviews\" does not support discovery operations: [update patch list]",
            ),
        ] {
            world.send(Method::POST, MIGRATIONS, migration(name, group, resource)).await;
            let ended = world.until_ended(name).await;
            let failed = ("True".into(), "StorageVersionMigrationFailed".into(), why.into());
            assert_eq!(condition(&ended, "Failed"), Some(failed), "{ended}");
        }
    });
}

#[test]
fn without_its_gate_nothing_runs() {
    with_seeds(0..1, |seed| async move {
        let mut world = World::start_with(seed, 0, FeatureGates::default(), ask).await;
        world.start_manager(Faults::default());
        world.send(Method::POST, MIGRATIONS, migration("m", "", "secrets")).await;
        tokio::time::sleep(10 * MINUTE).await;
        assert_eq!(world.read(&format!("{MIGRATIONS}/m")).await["status"], json!({}));
    });
}
