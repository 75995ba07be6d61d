//! Server-side apply and field ownership, after upstream's structured merge.
//!
//! Each manager owns a set of fields. Applying merges a configuration into the live object, takes away what the manager
//! applied before and does not any more, and fails when it would change a field that another manager owns with another
//! value. Every other write moves the fields it changes to its own entry.
//!
//! Sets written at another version of the API are taken as they are, as the built-in kinds keep their fields' names; a kind whose
//! versions differ brings [`Versions`].

mod configuration;
mod element;
mod managers;
mod set;
mod versions;
mod walk;

use jiff::Timestamp;
use schema::TypeRef;
use serde_json::Value;

pub use configuration::merge_configuration;
pub use element::Element;
pub use managers::{Manager, Operation, decode as decode_managers, encode as encode_managers};
pub use set::{FieldPath, Set, path_text};
use versions::Changes;
pub use versions::Versions;
pub use walk::TypeError;

use crate::status::{Cause, Status};
use crate::{meta, time};

/// Where client-side apply keeps what it applied last.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations of one object may hold this many bytes.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Owner of what an object held before anyone's fields were recorded.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, where, when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager; empty is `unknown`.
    pub manager: &'a str,
    /// Of the request: `apps/v1`.
    pub api_version: &'a str,
    /// `status`, `scale` …, or empty.
    pub subresource: &'a str,
    pub now: Timestamp,
    /// Fields that this endpoint does not write (the status on the main resource): nobody comes to own them here.
    pub ignored: Option<&'a Set>,
    /// Where fields may have other names in other versions.
    pub versions: Option<&'a dyn Versions>,
}

impl Writer<'_> {
    fn name(&self) -> &str {
        if self.manager.is_empty() { "unknown" } else { self.manager }
    }

    fn entry(&self, operation: Operation, fields: Set) -> Manager {
        Manager {
            name: self.name().to_owned(),
            operation,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
            time: None,
            fields,
        }
    }
}

/// A field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// As messages name it: `"kubectl" using apps/v1`.
    pub manager: String,
    pub path: FieldPath,
}

/// Why a configuration was not applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    #[error("{0}")]
    BadRequest(String),
    #[error("failed to create typed patch object ({object}): {}", type_message(.errors))]
    Type { object: String, errors: Vec<TypeError> },
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, path_text(&one.path));
    }
    let mut lines: Vec<String> = Vec::new();
    let mut last = None;
    for c in conflicts {
        if last != Some(&c.manager) {
            lines.push(format!("conflicts with {}:", c.manager));
            last = Some(&c.manager);
        }
        lines.push(format!("- {}", path_text(&c.path)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

fn type_message(errors: &[TypeError]) -> String {
    match errors {
        [one] => one.to_string(),
        many => {
            let lines: Vec<String> = many.iter().map(|e| format!("\n  {e}")).collect();
            format!("errors:{}", lines.concat())
        }
    }
}

impl From<ApplyError> for Status {
    fn from(e: ApplyError) -> Self {
        let message = e.to_string();
        match e {
            ApplyError::Conflicts(conflicts) => {
                let causes = conflicts
                    .iter()
                    .map(|c| Cause {
                        reason: "FieldManagerConflict".to_owned(),
                        message: format!("conflict with {}", c.manager),
                        field: path_text(&c.path),
                    })
                    .collect();
                Self::apply_conflict(causes, message)
            }
            ApplyError::BadRequest(m) => Self::bad_request(m),
            // Upstream answers 500 here, though the client is at fault.
            ApplyError::Type { .. } => Self::bad_request(message),
        }
    }
}

/// What nobody owns: the identity of the object and what the server keeps itself.
fn unowned() -> Set {
    Set::of_fields([
        "apiVersion",
        "kind",
        "metadata",
        "metadata.name",
        "metadata.namespace",
        "metadata.creationTimestamp",
        "metadata.selfLink",
        "metadata.uid",
        "metadata.clusterName",
        "metadata.generation",
        "metadata.managedFields",
        "metadata.resourceVersion",
    ])
}

fn without_managers(object: &Value) -> Value {
    let mut object = object.clone();
    meta::remove_path(&mut object, &["metadata", "managedFields"]);
    object
}

fn empty_of(object: &Value) -> Value {
    serde_json::json!({"apiVersion": object.get("apiVersion"), "kind": object.get("kind"), "metadata": {}})
}

/// Records who changed what in an object that was created, updated or patched. `new` is what will be stored; its
/// `managedFields` are replaced.
pub fn update_managers(live: Option<&Value>, new: &mut Value, ty: TypeRef<'_>, writer: &Writer<'_>) {
    let mut managers = match live {
        // A subresource does not let clients touch owners.
        Some(live) if !writer.subresource.is_empty() => decode_managers(live),
        _ if managers::is_reset(new) => Vec::new(),
        Some(live) => match decode_managers(new) {
            none if none.is_empty() => decode_managers(live),
            given => given,
        },
        None => decode_managers(new),
    };
    meta::remove_path(new, &["metadata", "managedFields"]);
    // An object that was never tracked stays so until it is applied.
    if managers.is_empty() && live.is_some() {
        return;
    }
    let old = live.map_or_else(|| empty_of(new), without_managers);
    track(&mut managers, &old, new, ty, writer);
    encode_managers(new, managers);
}

fn track(managers: &mut Vec<Manager>, old: &Value, new: &Value, ty: TypeRef<'_>, writer: &Writer<'_>) {
    let change = walk::compare(old, new, ty).without(writer.ignored);
    let mut changes = Changes::new(old, new, &change, writer);
    managers.retain_mut(|m| {
        let Some(seen) = changes.seen_by(m) else { return false };
        m.fields = m.fields.difference(&seen.modified.union(&seen.added).union(&seen.removed));
        !m.fields.is_empty()
    });
    let owned = change.modified.union(&change.added).difference(&unowned());
    if !owned.is_empty() {
        let mut entry = writer.entry(Operation::Update, owned);
        entry.time = Some(time::format(writer.now));
        match managers.iter_mut().find(|m| m.same_as(&entry)) {
            Some(previous) => {
                previous.fields.extend(&entry.fields);
                previous.time = entry.time;
            }
            None => managers.push(entry),
        }
    }
    managers::cap(managers);
}

/// Applies a configuration. Returns the object to store, with its `managedFields`.
///
/// # Errors
/// Conflicts unless `force` is set; a configuration that does not fit the type.
pub fn apply(
    live: Option<&Value>,
    applied: &Value,
    ty: TypeRef<'_>,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let version = meta::api_version(applied);
    if version != writer.api_version {
        return Err(ApplyError::BadRequest(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            writer.api_version
        )));
    }
    if meta::get_path(applied, &["metadata", "managedFields"]).is_some_and(|m| !m.is_null()) {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".to_owned()));
    }
    walk::validate(applied, ty).map_err(|errors| {
        // Go prints the core group as an empty name before the slash.
        let slash = if version.contains('/') { "" } else { "/" };
        let (namespace, name, kind) = (meta::namespace(applied), meta::name(applied), meta::kind(applied));
        ApplyError::Type { object: format!("{namespace}/{name}; {slash}{version}, Kind={kind}"), errors }
    })?;

    let before = live.map_or_else(|| empty_of(applied), without_managers);
    let mut managers = live.map(decode_managers).unwrap_or_default();
    if managers.is_empty() && live.is_some() {
        let first = Writer { manager: BEFORE_FIRST_APPLY, ..*writer };
        track(&mut managers, &empty_of(applied), &before, ty, &first);
    }

    let mut outcome = merge_in(&before, applied, ty, &managers, writer, force);
    if let Err(ApplyError::Conflicts(conflicts)) = &outcome
        && writer.name() == "kubectl"
        && let Some(allowed) = live.and_then(|l| allowed_by_last_applied(l, &before, ty, version))
    {
        // What client-side apply wrote and nobody changed since, kubectl may take over.
        let left: Vec<Conflict> = conflicts.iter().filter(|c| !allowed.contains(&c.path)).cloned().collect();
        outcome = if left.is_empty() {
            merge_in(&before, applied, ty, &managers, writer, true)
        } else {
            Err(ApplyError::Conflicts(left))
        };
    }
    let (mut object, mut after) = outcome?;
    // As upstream: who applies what is there already comes to own it, without a time of its own.
    let changed = object != before;

    if writer.name() == "kubectl" && meta::annotation(&object, LAST_APPLIED).is_some_and(|a| !a.is_empty()) {
        sync_last_applied(&mut object, applied);
    }
    if changed && let Some(own) = after.iter_mut().find(|m| m.is(writer.name(), Operation::Apply, version, writer.subresource)) {
        own.time = Some(time::format(writer.now));
    }
    encode_managers(&mut object, after);
    Ok(object)
}

/// Merges, prunes and finds conflicts.
fn merge_in(
    live: &Value,
    applied: &Value,
    ty: TypeRef<'_>,
    managers: &[Manager],
    writer: &Writer<'_>,
    force: bool,
) -> Result<(Value, Vec<Manager>), ApplyError> {
    let mut managers = managers.to_vec();
    let mut fields = walk::field_set(applied, ty);
    if let Some(ignored) = writer.ignored {
        fields = fields.recursive_difference(ignored);
    }
    let mut entry = writer.entry(Operation::Apply, fields);
    let previous = managers.iter().position(|m| m.same_as(&entry)).map(|i| managers.remove(i));
    entry.time = previous.as_ref().and_then(|p| p.time.clone());

    let mut object = walk::merge(live, applied, ty);
    if let Some(previous) = &previous {
        let elsewhere = |m: &Manager| m.api_version != writer.api_version;
        let versions = writer.versions.filter(|_| elsewhere(previous) || managers.iter().any(elsewhere));
        object = match versions {
            Some(versions) => {
                let (last, now) = ((previous.api_version.as_str(), &previous.fields), (writer.api_version, &entry.fields));
                versions::prune(&object, last, now, &managers, versions).unwrap_or(object)
            }
            None => prune(&object, ty, &previous.fields, &entry.fields, &managers),
        };
    }

    let change = walk::compare(live, &object, ty).without(writer.ignored);
    let mut changes = Changes::new(live, &object, &change, writer);
    let mut conflicts = Vec::new();
    managers.sort_by(|a, b| (&a.name, a.operation, &a.api_version).cmp(&(&b.name, b.operation, &b.api_version)));
    managers.retain_mut(|m| {
        let Some(seen) = changes.seen_by(m) else { return false };
        let disputed = m.fields.intersection(&seen.modified.union(&seen.added));
        disputed.each(&mut |path| {
            conflicts.push(Conflict { manager: m.described(), path: path.to_vec() });
        });
        m.fields = m.fields.difference(&disputed).difference(&seen.removed);
        !m.fields.is_empty()
    });
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    entry.fields = entry.fields.difference(&unowned());
    if !entry.fields.is_empty() {
        managers.push(entry);
    }
    Ok((object, managers))
}

/// Takes away what this manager applied last time and not now, unless another owner claims it.
fn prune(merged: &Value, ty: TypeRef<'_>, last: &Set, now: &Set, others: &[Manager]) -> Value {
    if last.is_empty() {
        return merged.clone();
    }
    let named = |set: &Set| set.with_named_fields(Some(ty));
    let last = named(last);
    let all = named(&walk::field_set(merged, ty));

    let without_last = walk::remove(merged, &last, ty);
    let mut owned = now.clone();
    for m in others {
        owned.extend(&m.fields);
    }
    let kept = named(&walk::field_set(&without_last, ty)).union(&named(&owned));
    let with_owned = walk::remove(merged, &all.difference(&kept), ty);

    // Only what this manager owned may go; items nobody owns stay.
    let kept = named(&walk::field_set(&with_owned, ty));
    walk::remove(merged, &all.difference(&kept).intersection(&last), ty)
}

/// The fields client-side apply wrote that are still as it wrote them.
fn allowed_by_last_applied(live: &Value, bare: &Value, ty: TypeRef<'_>, version: &str) -> Option<Set> {
    let last: Value = serde_json::from_str(meta::annotation(live, LAST_APPLIED)?).ok()?;
    if meta::api_version(&last) != version {
        return None;
    }
    let change = walk::compare(&last, bare, ty);
    Some(walk::field_set(&last, ty).difference(&change.modified).difference(&change.added).difference(&change.removed))
}

fn sync_last_applied(object: &mut Value, applied: &Value) {
    let mut applied = applied.clone();
    meta::set_annotation(&mut applied, LAST_APPLIED, None);
    let text = crate::gotext::json(&applied) + "\n";
    let others: usize = meta::annotations(object)
        .into_iter()
        .flatten()
        .filter(|(k, _)| *k != LAST_APPLIED)
        .map(|(k, v)| k.len() + v.as_str().map_or(0, str::len))
        .sum();
    let fits = others + LAST_APPLIED.len() + text.len() <= ANNOTATIONS_BYTES_MAX;
    meta::set_annotation(object, LAST_APPLIED, fits.then_some(text.as_str()));
}

#[cfg(test)]
mod tests;
