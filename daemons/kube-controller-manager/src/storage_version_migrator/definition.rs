//! What the status of a CustomResourceDefinition says of a migration of its objects. Pure.

use api::jiff::Timestamp;
use machinery::{meta, time};
use serde_json::{Value, json};

const MIGRATING: &str = "StorageMigrating";

/// The status to apply when a migration begins.
pub(super) fn begun(definition: &Value, migration: &str, now: Timestamp) -> Value {
    let condition = condition(definition, "True", "MigrationRunning", &format!("Migration {migration} is running"), now);
    applied(definition, condition, stored(definition))
}

/// The status to apply when it has ended: nothing but the current version is stored, if it succeeded and the definition is still as
/// it was when it began. (Upstream forgets the other versions after a failure, too, while objects are stored in them.)
pub(super) fn ended(definition: &Value, succeeded: bool, now: Timestamp) -> Value {
    let same = migrating(definition).is_some_and(|c| c["observedGeneration"].as_i64() == Some(meta::generation(definition)));
    let (reason, message) = match (succeeded, same) {
        (true, true) => ("MigrationSucceeded", "The migration has succeeded and the stored versions have been updated"),
        (true, false) => (
            "MigrationSucceeded",
            "The migration has succeeded but the stored versions have not been updated due to a generation mismatch",
        ),
        (false, _) => ("MigrationFailed", "The migration has failed"),
    };
    let versions = definition["spec"]["versions"].as_array();
    let current = versions.into_iter().flatten().find(|version| version["storage"] == true);
    let stored = match current {
        Some(version) if same && succeeded => json!([version["name"]]),
        _ => stored(definition),
    };
    applied(definition, condition(definition, "False", reason, message, now), stored)
}

fn stored(definition: &Value) -> Value {
    definition["status"]["storedVersions"].clone()
}

fn migrating(definition: &Value) -> Option<&Value> {
    definition["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == MIGRATING)
}

fn condition(definition: &Value, status: &str, reason: &str, message: &str, now: Timestamp) -> Value {
    json!({"type": MIGRATING, "status": status, "lastTransitionTime": time::format(now), "reason": reason, "message": message,
        "observedGeneration": meta::generation(definition)})
}

/// On exactly the version that was read. The stored versions are always part of it: an apply that leaves out what an earlier one
/// set takes it away.
fn applied(definition: &Value, condition: Value, stored: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": meta::name(definition), "resourceVersion": definition["metadata"]["resourceVersion"]},
        "status": {"conditions": [condition], "storedVersions": stored}})
}

#[cfg(test)]
mod tests {
    use super::super::migration::tests::now;
    use super::*;

    fn definition(generation: i64, observed: Option<i64>) -> Value {
        let mut definition = json!({"metadata": {"name": "things.example.com", "resourceVersion": "9", "generation": generation},
            "spec": {"versions": [{"name": "v1", "storage": false}, {"name": "v2", "storage": true}]},
            "status": {"storedVersions": ["v1", "v2"], "conditions": [{"type": "Established", "status": "True"}]}});
        if let Some(observed) = observed {
            let condition = json!({"type": MIGRATING, "status": "True", "observedGeneration": observed});
            definition["status"]["conditions"].as_array_mut().unwrap().push(condition);
        }
        definition
    }

    fn check(applied: &Value, expected: (&str, &str, &str, &[&str])) {
        let condition = &applied["status"]["conditions"][0];
        let text = |field: &str| condition[field].as_str().unwrap();
        let stored: Vec<&str> =
            applied["status"]["storedVersions"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        assert_eq!((text("status"), text("reason"), text("message"), stored.as_slice()), expected);
        assert_eq!(applied["metadata"], json!({"name": "things.example.com", "resourceVersion": "9"}));
        assert_eq!((&condition["type"], &condition["observedGeneration"]), (&json!(MIGRATING), &json!(2)));
    }

    #[test]
    fn what_is_said() {
        let both = &["v1", "v2"];
        check(&begun(&definition(2, None), "m", now()), ("True", "MigrationRunning", "Migration m is running", both));
        let ended = |observed: Option<i64>, succeeded: bool| ended(&definition(2, observed), succeeded, now());
        let all = "The migration has succeeded and the stored versions have been updated";
        check(&ended(Some(2), true), ("False", "MigrationSucceeded", all, &["v2"]));
        let changed = "The migration has succeeded but the stored versions have not been updated due to a generation mismatch";
        check(&ended(Some(1), true), ("False", "MigrationSucceeded", changed, both));
        check(&ended(None, true), ("False", "MigrationSucceeded", changed, both));
        check(&ended(Some(2), false), ("False", "MigrationFailed", "The migration has failed", both));
    }
}
