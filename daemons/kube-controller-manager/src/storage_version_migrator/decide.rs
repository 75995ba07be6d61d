//! Whose turn it is, what comes next, and which objects are written. Pure.

use api::jiff::{SignedDuration, Timestamp};
use api::{Meta, ResourceId};
use client::Error;

use super::migration::{Migration, RUNNING};
use crate::discovery::Resources;

/// A resource that came just now may not be known yet. As upstream waits.
const DISCOVERY_WAIT: SignedDuration = SignedDuration::from_secs(60);
/// What a resource must be able to do.
const VERBS: [&str; 3] = ["update", "patch", "list"];

/// Of one resource, one migration runs at a time.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Turn<'m> {
    /// They have ended and still say that they run.
    pub(super) finish: Vec<&'m Migration>,
    /// The oldest that waits, when none runs.
    pub(super) start: Option<&'m Migration>,
}

/// Looks at all migrations of one resource.
pub(super) fn turn(migrations: &[Migration]) -> Turn<'_> {
    let (running, others): (Vec<_>, Vec<_>) = migrations.iter().partition(|migration| migration.is(RUNNING));
    let (finish, busy): (Vec<_>, Vec<_>) = running.into_iter().partition(|migration| migration.has_ended());
    let waiting = others.into_iter().filter(|migration| !migration.has_ended() && busy.is_empty());
    let start = waiting.min_by(|a, b| (a.created(), a.name()).cmp(&(b.created(), b.name())));
    Turn { finish, start }
}

/// What comes next for one migration.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    /// Its resource is not known yet.
    Wait(&'static str),
    Fail(String),
    /// Note the revision from which on objects are stored as they should be.
    Checkpoint(ResourceId),
    /// Write every object that is not newer.
    Migrate(ResourceId, u64),
}

pub(super) fn step(migration: &Migration, resources: &Resources, now: Timestamp) -> Step {
    let checkpoint = migration.checkpoint();
    if migration.has_ended() || (checkpoint.is_empty() && !migration.is(RUNNING)) {
        return Step::Nothing;
    }
    let target = migration.target();
    let found = resources.all.iter().find(|d| d.resource.group == target.group && d.resource.plural == target.resource);
    let is_new = now.duration_since(migration.created()) < DISCOVERY_WAIT;
    match (found, checkpoint) {
        (None, _) if is_new => Step::Wait("resource does not exist in our rest mapper, requeuing to attempt again"),
        (None, "") => Step::Fail("resource does not exist in discovery".to_owned()),
        (None, _) => Step::Fail(unhandled("unable to obtain GVR from discovery")),
        (Some(found), "") if !VERBS.iter().all(|verb| found.can(verb)) => {
            let (resource, verbs) = (gvr(&found.resource), VERBS.join(" "));
            Step::Fail(format!("resource {resource:?} does not support discovery operations: [{verbs}]"))
        }
        (Some(found), "") => Step::Checkpoint(found.resource.clone()),
        (Some(found), checkpoint) => match checkpoint.parse() {
            Ok(checkpoint) => Step::Migrate(found.resource.clone(), checkpoint),
            Err(_) => Step::Fail(unhandled(&not_well_formed(checkpoint))),
        },
    }
}

/// The revision to note, of a list that was read just now.
///
/// # Errors
/// The list has none.
pub(super) fn checkpoint_of(resource: &ResourceId, revision: u64) -> Result<u64, String> {
    let why = || format!("latest resourceVersion for {} is not valid: {}", gvr(resource), not_well_formed(""));
    if revision == 0 { Err(why()) } else { Ok(revision) }
}

/// Whether an object is from before the checkpoint.
///
/// # Errors
/// It does not say.
pub(super) fn is_before(object: &Meta, checkpoint: u64) -> Result<bool, String> {
    match object.resource_version {
        0 => Err(unhandled(&not_well_formed(""))),
        revision => Ok(revision <= checkpoint),
    }
}

/// What became of an object's write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is stored as it should be: it was written, or changed, made anew or deleted meanwhile.
    Done,
    /// The migration begins again later; what was written already is newer than the checkpoint then.
    Later(String),
    Fail(String),
}

pub(super) fn judge(answer: Result<(), &Error>) -> Fate {
    match answer {
        Ok(()) => Fate::Done,
        Err(error) if error.is_conflict() => Fate::Done,
        Err(error) if error.is_retriable() => Fate::Later(error.to_string()),
        Err(error) => Fate::Fail(unhandled(&error.to_string())),
    }
}

pub(super) fn unhandled(why: &str) -> String {
    format!("migration encountered unhandled error: {why}")
}

fn not_well_formed(revision: &str) -> String {
    format!("resource version is not well formed: {revision}")
}

/// As upstream prints a resource.
fn gvr(resource: &ResourceId) -> String {
    format!("{}/{}, Resource={}", resource.group, resource.version, resource.plural)
}

#[cfg(test)]
mod tests {
    use machinery::gvk::GroupResource;
    use machinery::status::Status;
    use serde_json::{Value, json};

    use super::super::migration::tests::{migration, now};
    use super::*;
    use crate::discovery::Discovered;

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-01T00:00:01Z";

    fn conditions(kinds: &[&str]) -> Value {
        let all: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
        json!({"conditions": all})
    }

    #[test]
    fn one_at_a_time() {
        let check = |rows: &[(&str, &str, &[&str])], finish: &[&str], start: Option<&str>| {
            let all: Vec<Migration> =
                rows.iter().map(|(name, at, kinds)| migration(name, "secrets", at, conditions(kinds))).collect();
            let turn = turn(&all);
            assert_eq!(turn.finish.iter().map(|m| m.name()).collect::<Vec<_>>(), finish, "{rows:?}");
            assert_eq!(turn.start.map(Migration::name), start, "{rows:?}");
        };
        check(&[], &[], None);
        check(&[("b", LATE, &[]), ("a", EARLY, &[])], &[], Some("a"));
        check(&[("b", EARLY, &[]), ("a", EARLY, &[])], &[], Some("a"));
        check(&[("a", EARLY, &[]), ("b", LATE, &["Running"])], &[], None);
        check(&[("a", EARLY, &["Running", "Succeeded"]), ("b", LATE, &[])], &["a"], Some("b"));
        check(&[("a", EARLY, &["Running", "Failed"]), ("b", LATE, &["Running"])], &["a"], None);
        check(&[("a", EARLY, &["Succeeded"]), ("b", LATE, &["Failed"])], &[], None);
    }

    fn resources(verbs: &[&str]) -> Resources {
        let verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
        Resources { all: vec![Discovered { resource: secrets(), verbs, scalable: false }], stale: Vec::new() }
    }

    fn secrets() -> ResourceId {
        ResourceId { group: "".into(), version: "v1".into(), kind: "Secret".into(), plural: "secrets".into(), namespaced: true }
    }

    #[test]
    fn what_comes_next() {
        let all = resources(&["get", "list", "patch", "update"]);
        let (old, new) = (EARLY, LATE);
        let running = || conditions(&["Running"]);
        let at = |revision: &str| {
            let mut status = running();
            status["resourceVersion"] = json!(revision);
            status
        };
        let check = |resource: &str, created: &str, status: Value, known: &Resources, expected: Step| {
            let subject = migration("m", resource, created, status);
            assert_eq!(step(&subject, known, now()), expected, "{subject:?}");
        };
        check("secrets", old, json!({}), &all, Step::Nothing);
        check("secrets", old, conditions(&["Running", "Succeeded"]), &all, Step::Nothing);
        check("secrets", old, conditions(&["Running", "Failed"]), &all, Step::Nothing);
        check("secrets", old, running(), &all, Step::Checkpoint(secrets()));
        check("secrets", old, at("17"), &all, Step::Migrate(secrets(), 17));
        let wait = || Step::Wait("resource does not exist in our rest mapper, requeuing to attempt again");
        check("things", new, running(), &all, wait());
        check("things", new, at("17"), &all, wait());
        check("things", old, running(), &all, Step::Fail("resource does not exist in discovery".into()));
        let why = "migration encountered unhandled error: unable to obtain GVR from discovery";
        check("things", old, at("17"), &all, Step::Fail(why.into()));
        let why = "migration encountered unhandled error: resource version is not well formed: x";
        check("secrets", old, at("x"), &all, Step::Fail(why.into()));
        let why = "resource \"/v1, Resource=secrets\" does not support discovery operations: [update patch list]";
        check("secrets", old, running(), &resources(&["get", "list"]), Step::Fail(why.into()));
    }

    #[test]
    fn revisions() {
        assert_eq!(checkpoint_of(&secrets(), 5), Ok(5));
        let why = "latest resourceVersion for /v1, Resource=secrets is not valid: resource version is not well formed: ";
        assert_eq!(checkpoint_of(&secrets(), 0), Err(why.to_owned()));
        let of = |resource_version| is_before(&Meta { resource_version, ..Meta::default() }, 5);
        assert_eq!((of(4), of(5), of(6)), (Ok(true), Ok(true), Ok(false)));
        assert!(of(0).is_err());
    }

    #[test]
    fn answers() {
        let check = |status: Status, expected: Fate| {
            let error = Error::Api(Box::new(status));
            assert_eq!(judge(Err(&error)), expected);
        };
        assert_eq!(judge(Ok(())), Fate::Done);
        let secrets = || GroupResource::new("", "secrets");
        check(Status::modified(secrets(), "s"), Fate::Done);
        check(Status::unavailable("later"), Fate::Later("later".into()));
        check(Status::internal("a webhook failed"), Fate::Later("Internal error occurred: a webhook failed".into()));
        let why = "migration encountered unhandled error: secrets \"s\" not found";
        check(Status::not_found(secrets(), "s"), Fate::Fail(why.into()));
    }
}
