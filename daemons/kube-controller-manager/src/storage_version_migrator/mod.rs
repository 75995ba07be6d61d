//! storage-version-migrator-controller: has all objects of a resource stored anew, in the version and under the key of today
//! (KEP-4192). Runs with the feature gate StorageVersionMigrator.
//!
//! A migration gets its turn (`Running`), notes the revision from which on objects are stored as they should be, and has every
//! object written that is not newer. Nothing is kept between the steps but what its status says, so that another controller
//! manager goes on where this one ended. While objects of a CustomResourceDefinition migrate, that says so, and at the end which
//! version is stored.

mod decide;
mod definition;
mod migration;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use api::ResourceId;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Cached, Client, Informer, InformerConfig, ObjectKey, Patch, PatchParams, Scope, object_path};
use http::Method;
use machinery::gvk::GroupResource;
use serde_json::Value;
use tokio::sync::watch;

use self::decide::{Fate, Step, checkpoint_of, step, turn};
use self::migration::{Migration, SUCCEEDED};
use self::walk::Walk;
use crate::context::Context;
use crate::discovery::Resources;
use crate::error::{During, Error};

pub(crate) const NAME: &str = "storage-version-migrator-controller";
pub(crate) const GATE: &str = "StorageVersionMigrator";
/// Who owns what a CustomResourceDefinition says of migrations.
const DEFINITIONS_MANAGER: &str = "migration-runner-controller";
const WORKERS: usize = 5;
const CONFLICT_WAIT: Duration = Duration::from_millis(100);
/// No namespace has this name: a list of it has a revision and no objects.
const NOWHERE: &str = "@fake:svm_ns!";

fn cluster_scoped(group: &str, version: &str, kind: &str, plural: &str) -> ResourceId {
    ResourceId { group: group.into(), version: version.into(), kind: kind.into(), plural: plural.into(), namespaced: false }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// Whose turn is it, of those that migrate this resource?
    Turn(GroupResource),
    /// Take the next step of this migration.
    Advance(ObjectKey),
}

struct Migrator {
    client: Client,
    migrations: Informer<()>,
    resource: ResourceId,
    definitions: ResourceId,
    resources: watch::Receiver<Arc<Resources>>,
    ctx: Arc<Context>,
}

pub(crate) async fn run(ctx: Arc<Context>) {
    let resource = cluster_scoped("storagemigration.k8s.io", "v1beta1", "StorageVersionMigration", "storageversionmigrations");
    let migrations = Informer::<()>::of_resource(ctx.root(), resource.clone(), InformerConfig::default());
    migrations.synced().await;
    let mut resources = ctx.resources();
    // The first answer, whatever it takes.
    if resources.wait_for(|resources| !resources.all.is_empty()).await.is_err() {
        return;
    }
    let queue: Queue<Work> = Queue::new();
    let q = queue.clone();
    migrations.subscribe(move |change| {
        if let Some(migration) = value(change.object()) {
            q.add(Work::Turn(migration.target()));
        }
        q.add(Work::Advance(change.object().key()));
    });
    let migrator = Arc::new(Migrator {
        client: ctx.client(NAME),
        migrations,
        resource,
        definitions: cluster_scoped("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions"),
        resources,
        ctx,
    });
    client::controller::run(NAME, queue, WORKERS, move |work| {
        let migrator = migrator.clone();
        async move { migrator.work(work).await }
    })
    .await;
}

fn value(cached: &Cached<()>) -> Option<Migration> {
    serde_json::from_slice(cached.bytes()).ok().map(Migration)
}

impl Migrator {
    async fn work(&self, work: Work) -> Result<Outcome, Error> {
        let result = match &work {
            Work::Turn(target) => self.turn(target).await,
            Work::Advance(key) => self.advance(key).await,
        };
        match result {
            // Somebody else changed it in between: look again.
            Err(error) if error.is_conflict() => Ok(Outcome::Again(CONFLICT_WAIT)),
            other => other.map(|()| Outcome::Done),
        }
    }

    async fn turn(&self, target: &GroupResource) -> Result<(), Error> {
        let mut all: Vec<Migration> = self.migrations.list().iter().filter_map(value).collect();
        all.retain(|migration| migration.target() == *target);
        let turn = turn(&all);
        for ended in turn.finish {
            if let Some(definition) = self.definition(target).await? {
                let status = definition::ended(&definition, ended.is(SUCCEEDED), self.ctx.clock.now());
                self.apply_to_definition(status).await?;
            }
            self.put_status(ended.clone().finished(self.ctx.clock.now())).await?;
        }
        if let Some(next) = turn.start {
            if let Some(definition) = self.definition(target).await? {
                self.apply_to_definition(definition::begun(&definition, next.name(), self.ctx.clock.now())).await?;
            }
            self.put_status(next.clone().started(self.ctx.clock.now())).await?;
        }
        Ok(())
    }

    async fn advance(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(migration) = self.migrations.get_key(key).and_then(|cached| value(&cached)) else { return Ok(()) };
        let resources = self.resources.borrow().clone();
        let now = || self.ctx.clock.now();
        let noted = match step(&migration, &resources, now()) {
            Step::Nothing => return Ok(()),
            Step::Wait(why) => return Err(Error::Other(why.to_owned())),
            Step::Fail(why) => migration.failed(&why, now()),
            Step::Checkpoint(resource) => match checkpoint_of(&resource, self.revision(&resource).await?) {
                Ok(revision) => migration.at(revision),
                Err(why) => migration.failed(&why, now()),
            },
            Step::Migrate(resource, checkpoint) => {
                let walk = Walk { client: &self.client, resource: &resource, checkpoint };
                let goes_on = || self.migrations.get_key(key).is_some();
                match walk.run(goes_on).await {
                    Fate::Done => migration.succeeded(now()),
                    Fate::Fail(why) => migration.failed(&why, now()),
                    Fate::Later(why) => {
                        return Err(Error::Other(format!("migrating {}: {why}", migration.target())));
                    }
                }
            }
        };
        self.put_status(noted).await
    }

    /// The revision of a list that is read now.
    async fn revision(&self, resource: &ResourceId) -> Result<u64, Error> {
        let namespace = if resource.namespaced { NOWHERE } else { "" };
        let page = self.client.metadata_page(Scope { resource, namespace }, 1, "").await;
        let page = page.during(|| format!("error getting latest resourceVersion for {}", resource.plural))?;
        Ok(page.resource_version)
    }

    /// On exactly the version that was looked at. One that is deleted meanwhile needs no status.
    async fn put_status(&self, migration: Migration) -> Result<(), Error> {
        let path = object_path(Scope { resource: &self.resource, namespace: "" }, migration.name(), "status");
        let body = migration.0.to_string();
        match self.client.call(Method::PUT, &path, Some(("application/json", body.into()))).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(drop).during(|| format!("error updating status for {}", migration.name())),
        }
    }

    /// The definition of a custom resource.
    async fn definition(&self, of: &GroupResource) -> Result<Option<Value>, Error> {
        if of.group.is_empty() {
            return Ok(None);
        }
        let (scope, name) = (Scope { resource: &self.definitions, namespace: "" }, format!("{}.{}", of.resource, of.group));
        match self.client.get_bytes(scope, &name).await {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error).during(|| format!("reading the definition of {of}")),
        }
    }

    async fn apply_to_definition(&self, status: Value) -> Result<(), Error> {
        let scope = Scope { resource: &self.definitions, namespace: "" };
        let name = machinery::meta::name(&status).to_owned();
        let params = PatchParams { field_manager: Some(DEFINITIONS_MANAGER.into()), force: true, ..PatchParams::status() };
        match self.client.patch_bytes(scope, &name, &Patch::Apply(status), &params).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(drop).during(|| format!("changing the status of the definition {name}")),
        }
    }
}
