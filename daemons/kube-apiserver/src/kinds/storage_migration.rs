//! StorageVersionMigration: the wish that all objects of a resource be stored anew (KEP-4192).

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use super::Rules;
use super::table::{Column, NAME, column};
use super::validate;
use super::value::{items, text};

pub(super) struct StorageVersionMigration;

impl Rules for StorageVersionMigration {
    fn validate(&self, migration: &Value, errors: &mut FieldErrors) {
        let path = Path::new("spec").child("resource");
        let part = |name: &str| text(migration, &format!("/spec/resource/{name}"));
        match part("resource") {
            "" => errors.required(&path.child("resource"), "resource is required to be set"),
            plural => joined(&path.child("resource"), plural, names::dns1035_label(plural), errors),
        }
        let group = part("group");
        if !group.is_empty() {
            joined(&path.child("group"), group, names::dns1123_subdomain(group), errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        match subresource {
            "" => validate::immutable(&new["spec"], &old["spec"], &Path::new("spec"), errors),
            "status" => validate_status(new, old, errors),
            _ => {}
        }
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column { format: "", ..NAME },
            column("Resource", |row| {
                let part = |name: &str| text(row.object, &format!("/spec/resource/{name}"));
                match part("group") {
                    "" => part("resource").into(),
                    group => format!("{}.{group}", part("resource")).into(),
                }
            })
            .says("GroupResource to migrate"),
            column("Status", |row| {
                let shown =
                    |condition: &&Value| text(condition, "/status") == "True" && OUTCOMES.contains(&text(condition, "/type"));
                let last = items(row.object, "/status/conditions").iter().rfind(shown);
                last.map_or("Unknown", |condition| text(condition, "/type")).into()
            })
            .says("Status of the migration"),
        ];
        COLUMNS
    }
}

const SUCCEEDED: &str = "Succeeded";
const FAILED: &str = "Failed";
const OUTCOMES: &[&str] = &["Running", FAILED, SUCCEEDED];

/// One error for everything that is wrong with a value.
fn joined(path: &Path, value: &str, messages: Vec<String>, errors: &mut FieldErrors) {
    if !messages.is_empty() {
        errors.invalid(path, value, messages.join(","));
    }
}

/// What the controller noted stays noted.
fn validate_status(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status");
    let (is, was) = (text(new, "/status/resourceVersion"), text(old, "/status/resourceVersion"));
    if !is.is_empty() && !is_revision(is) {
        errors.invalid(&path.child("resourceVersion"), is, format!("resource version is not well formed: {is}"));
    }
    let conditions = path.child("conditions");
    validate::conditions(items(new, "/status/conditions"), &conditions, errors);
    if !was.is_empty() && is != was {
        errors.invalid(&path.child("resourceVersion"), is, validate::IMMUTABLE);
    }
    let mut refuse = |why: &str| errors.invalid(&conditions, new["status"]["conditions"].clone(), why);
    if is_true(new, SUCCEEDED) && is_true(new, FAILED) {
        refuse("Both success and failed conditions cannot be true at the same time");
    }
    if is_true(old, SUCCEEDED) && !is_true(new, SUCCEEDED) {
        refuse("Success condition cannot be set to false once it is true");
    }
    if is_true(old, FAILED) && !is_true(new, FAILED) {
        refuse("Failed condition cannot be set to false once it is true");
    }
}

/// The first condition of that type counts.
fn is_true(migration: &Value, kind: &str) -> bool {
    let found = items(migration, "/status/conditions").iter().find(|condition| text(condition, "/type") == kind);
    found.is_some_and(|condition| text(condition, "/status") == "True")
}

/// A positive number of any length, without zeros before it.
fn is_revision(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit() && first != '0') && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::kinds::table::Row;

    fn check(errors: FieldErrors, expected: &[&str]) {
        let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn what_may_be_migrated() {
        let of = |group: &str, resource: &str, expected: &[&str]| {
            let mut errors = FieldErrors::new();
            let object = json!({"spec": {"resource": {"group": group, "resource": resource}}});
            StorageVersionMigration.validate(&object, &mut errors);
            let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(got.len(), expected.len(), "{got:?}");
            got.iter().zip(expected).for_each(|(got, start)| assert!(got.starts_with(start), "{got}"));
        };
        of("", "secrets", &[]);
        of("example.com", "things", &[]);
        of("example.com", "", &["spec.resource.resource: Required value: resource is required to be set"]);
        of("", "secrets/status", &["spec.resource.resource: Invalid value: \"secrets/status\": a DNS-1035 label must"]);
        of(
            "Example",
            "1x",
            &["spec.resource.resource: Invalid value: \"1x\"", "spec.resource.group: Invalid value: \"Example\""],
        );
    }

    #[test]
    fn the_resource_stays() {
        let of = |resource: &str| json!({"spec": {"resource": {"group": "", "resource": resource}}});
        let mut errors = FieldErrors::new();
        StorageVersionMigration.validate_update(&of("secrets"), &of("secrets"), "", &mut errors);
        assert!(errors.is_empty());
        StorageVersionMigration.validate_update(&of("secrets"), &of("pods"), "", &mut errors);
        let got = errors.iter().next().unwrap().to_string();
        assert!(got.starts_with("spec: Invalid value: ") && got.ends_with(": field is immutable"), "{got}");
    }

    fn condition(kind: &str, status: &str) -> Value {
        json!({"type": kind, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn status(revision: &str, conditions: &[Value]) -> Value {
        json!({"status": {"resourceVersion": revision, "conditions": conditions}})
    }

    #[test]
    fn what_the_status_may_become() {
        let of = |old: &Value, new: &Value| {
            let mut errors = FieldErrors::new();
            StorageVersionMigration.validate_update(new, old, "status", &mut errors);
            errors
        };
        let (none, running, done) = (json!({}), condition("Running", "True"), condition("Succeeded", "True"));
        let failed = condition("Failed", "True");
        check(of(&none, &status("", std::slice::from_ref(&running))), &[]);
        check(of(&status("", &[]), &status("7", &[])), &[]);
        check(of(&status("7", &[]), &status("7", &[running, done.clone()])), &[]);
        check(
            of(&none, &status("07", &[])),
            &["status.resourceVersion: Invalid value: \"07\": resource version is not well formed: 07"],
        );
        check(of(&status("7", &[]), &status("8", &[])), &["status.resourceVersion: Invalid value: \"8\": field is immutable"]);
        let ends = |errors: FieldErrors, end: &str| {
            let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(got.len(), 1, "{got:?}");
            assert!(got[0].starts_with("status.conditions: Invalid value: ") && got[0].ends_with(end), "{got:?}");
        };
        ends(
            of(&none, &status("", &[done.clone(), failed.clone()])),
            "Both success and failed conditions cannot be true at the same time",
        );
        ends(of(&status("", &[done]), &status("", &[])), "Success condition cannot be set to false once it is true");
        ends(
            of(&status("", &[failed]), &status("", &[condition("Failed", "False")])),
            "Failed condition cannot be set to false once it is true",
        );
    }

    #[test]
    fn what_is_shown() {
        let of = |conditions: &[Value], expected: &str| {
            let object = json!({"metadata": {"name": "m"}, "spec": {"resource": {"group": "example.com", "resource": "things"}},
                "status": {"conditions": conditions}});
            let row = Row { object: &object, now: Timestamp::UNIX_EPOCH };
            let cells: Vec<Value> = StorageVersionMigration.columns().iter().map(|column| (column.cell)(&row)).collect();
            assert_eq!(cells, [json!("m"), json!("things.example.com"), json!(expected)]);
        };
        of(&[], "Unknown");
        of(&[condition("Running", "True")], "Running");
        of(&[condition("Running", "True"), condition("Succeeded", "True")], "Succeeded");
        of(&[condition("Running", "False"), condition("Failed", "True"), condition("Other", "True")], "Failed");
    }
}
