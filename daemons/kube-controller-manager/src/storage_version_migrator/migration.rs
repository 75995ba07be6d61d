//! A StorageVersionMigration as decisions see it, and what is noted in its status. Pure.

use api::jiff::Timestamp;
use machinery::gvk::GroupResource;
use machinery::{meta, time};
use serde_json::{Value, json};

pub(super) const RUNNING: &str = "Running";
pub(super) const SUCCEEDED: &str = "Succeeded";
pub(super) const FAILED: &str = "Failed";

/// The object as the server has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Migration(pub(super) Value);

impl Migration {
    pub(super) fn name(&self) -> &str {
        meta::name(&self.0)
    }

    /// What is to be migrated.
    pub(super) fn target(&self) -> GroupResource {
        let part = |name| meta::text(&self.0, &["spec", "resource", name]);
        GroupResource::new(part("group"), part("resource"))
    }

    /// Objects that are newer than this revision are stored as they should be. Empty: not known yet.
    pub(super) fn checkpoint(&self) -> &str {
        meta::text(&self.0, &["status", "resourceVersion"])
    }

    /// Without one it is as old as can be, which lets nothing wait.
    pub(super) fn created(&self) -> Timestamp {
        time::parse(meta::text(&self.0, &["metadata", "creationTimestamp"])).unwrap_or(Timestamp::MIN)
    }

    fn condition(&self, kind: &str) -> Option<&Value> {
        self.0["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|condition| condition["status"] == "True")
    }

    pub(super) fn has_ended(&self) -> bool {
        self.is(SUCCEEDED) || self.is(FAILED)
    }

    #[must_use]
    pub(super) fn at(mut self, checkpoint: u64) -> Self {
        meta::set_path(&mut self.0, &["status", "resourceVersion"], checkpoint.to_string().into());
        self
    }

    /// With that condition. One that was said stays as it is.
    #[must_use]
    pub(super) fn noting(self, kind: &str, reason: &str, message: &str, now: Timestamp) -> Self {
        if self.condition(kind).is_some_and(|condition| condition["status"] == "True" || condition["status"] == "False") {
            return self;
        }
        self.with(condition(kind, "True", reason, message, now))
    }

    #[must_use]
    pub(super) fn started(self, now: Timestamp) -> Self {
        self.noting(RUNNING, "MigrationRunning", "The migration is running", now)
    }

    #[must_use]
    pub(super) fn succeeded(self, now: Timestamp) -> Self {
        self.noting(SUCCEEDED, "StorageVersionMigrationSucceeded", "", now)
    }

    #[must_use]
    pub(super) fn failed(self, message: &str, now: Timestamp) -> Self {
        self.noting(FAILED, "StorageVersionMigrationFailed", message, now)
    }

    /// It has ended: the next one may begin.
    #[must_use]
    pub(super) fn finished(self, now: Timestamp) -> Self {
        self.with(condition(RUNNING, "False", "MigrationCompleted", "Migration completed", now))
    }

    /// With a condition in the place of the one of its type.
    fn with(mut self, condition: Value) -> Self {
        let mut conditions = self.0["status"]["conditions"].as_array().cloned().unwrap_or_default();
        match conditions.iter_mut().find(|old| old["type"] == condition["type"]) {
            Some(old) => *old = condition,
            None => conditions.push(condition),
        }
        meta::set_path(&mut self.0, &["status", "conditions"], conditions.into());
        self
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> Value {
    json!({"type": kind, "status": status, "lastTransitionTime": time::format(now), "reason": reason, "message": message})
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::storage_version_migrator) fn migration(name: &str, resource: &str, created: &str, status: Value) -> Migration {
        Migration(json!({"metadata": {"name": name, "creationTimestamp": created},
            "spec": {"resource": {"resource": resource}}, "status": status}))
    }

    pub(in crate::storage_version_migrator) fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().unwrap()
    }

    #[test]
    fn what_is_noted() {
        let new = migration("m", "secrets", "2026-01-01T00:00:00Z", json!({}));
        assert_eq!((new.name(), new.target(), new.checkpoint()), ("m", GroupResource::new("", "secrets"), ""));
        let running = new.started(now()).at(7);
        assert!(running.is(RUNNING) && !running.has_ended());
        assert_eq!(running.checkpoint(), "7");
        assert_eq!(running.clone().started("2027-01-01T00:00:00Z".parse().unwrap()), running, "once");
        let done = running.clone().succeeded(now());
        assert!(done.is(RUNNING) && done.has_ended());
        let finished = done.finished(now());
        assert_eq!(
            finished.0["status"]["conditions"],
            json!([{"type": "Running", "status": "False", "lastTransitionTime": "2026-01-01T00:01:00Z",
                    "reason": "MigrationCompleted", "message": "Migration completed"},
                {"type": "Succeeded", "status": "True", "lastTransitionTime": "2026-01-01T00:01:00Z",
                    "reason": "StorageVersionMigrationSucceeded", "message": ""}])
        );
        let failed = running.failed("why", now());
        assert!(failed.has_ended() && failed.is(FAILED));
        assert_eq!(failed.0["status"]["conditions"][1]["message"], "why");
    }
}
