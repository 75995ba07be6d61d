//! Which images go when the disk is full: those that nothing uses, the longest unused first. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use cri::v1;

/// `imageGCHighThresholdPercent`, `imageGCLowThresholdPercent`, `imageMinimumGCAge`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) high_percent: u8,
    pub(crate) low_percent: u8,
    pub(crate) minimum_age: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Filesystem {
    pub(super) capacity_bytes: u64,
    pub(super) available_bytes: u64,
}

/// What is remembered of an image between two looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    first: SystemTime,
    last_used: SystemTime,
}

/// An image and whether it may go.
#[derive(Clone, Debug)]
pub(super) struct Image {
    id: String,
    size_bytes: u64,
    needed: bool,
    seen: Seen,
}

/// Ids to remove, and how many bytes are still too many after that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) remove: Vec<String>,
    pub(super) missing_bytes: u64,
}

/// Joins what the runtime has with what was remembered; images that are gone are forgotten.
pub(super) fn note(
    images: Vec<v1::Image>,
    needed: &BTreeSet<String>,
    now: SystemTime,
    seen: &mut BTreeMap<String, Seen>,
) -> Vec<Image> {
    let ids: BTreeSet<&String> = images.iter().map(|i| &i.id).collect();
    seen.retain(|id, _| ids.contains(id));
    images
        .iter()
        .map(|image| {
            let names = [&image.id].into_iter().chain(&image.repo_tags).chain(&image.repo_digests);
            let used = image.pinned || names.into_iter().any(|name| needed.iter().any(|n| same(n, name)));
            let entry = seen.entry(image.id.clone()).or_insert(Seen { first: now, last_used: SystemTime::UNIX_EPOCH });
            if used {
                entry.last_used = now;
            }
            Image { id: image.id.clone(), size_bytes: image.size, needed: used, seen: *entry }
        })
        .collect()
}

/// A name in a spec may leave out what every runtime adds: `nginx` is `docker.io/library/nginx:latest`.
fn same(spec: &str, full: &str) -> bool {
    spec == full || normal(spec) == full
}

fn normal(name: &str) -> String {
    let (path, tag) = match name.split_once('@') {
        Some((path, digest)) => (path, format!("@{digest}")),
        None => match name.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, format!(":{tag}")),
            _ => (name, ":latest".to_owned()),
        },
    };
    let path = match path.split_once('/') {
        None => format!("docker.io/library/{path}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => path.to_owned(),
        Some(_) => format!("docker.io/{path}"),
    };
    path + &tag
}

/// Above the high threshold, images go until the low one is reached.
pub(super) fn decide(images: &[Image], filesystem: Filesystem, limits: Limits, now: SystemTime) -> Plan {
    let Filesystem { capacity_bytes: capacity, available_bytes: available } = filesystem;
    let used_percent = 100 - (available.min(capacity) * 100).checked_div(capacity).unwrap_or(100);
    if used_percent < u64::from(limits.high_percent) {
        return Plan::default();
    }
    let allowed = capacity / 100 * u64::from(limits.low_percent.min(100));
    let mut missing = (capacity - available.min(capacity)).saturating_sub(allowed);
    let mut candidates: Vec<&Image> = images
        .iter()
        .filter(|i| !i.needed && now.duration_since(i.seen.first).unwrap_or_default() >= limits.minimum_age)
        .collect();
    candidates.sort_by_key(|i| (i.seen.last_used, i.seen.first));
    let mut plan = Plan::default();
    for image in candidates {
        if missing == 0 {
            break;
        }
        missing = missing.saturating_sub(image.size_bytes);
        plan.remove.push(image.id.clone());
    }
    plan.missing_bytes = missing;
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const LIMITS: Limits = Limits { high_percent: 85, low_percent: 80, minimum_age: Duration::from_secs(120) };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn image(id: &str, gib: u64, needed: bool, last_used: u64) -> Image {
        Image { id: id.into(), size_bytes: gib * GIB, needed, seen: Seen { first: at(0), last_used: at(last_used) } }
    }

    fn check(images: &[Image], available_gib: u64, want: &[&str], missing: u64) {
        let filesystem = Filesystem { capacity_bytes: 100 * GIB, available_bytes: available_gib * GIB };
        let plan = decide(images, filesystem, LIMITS, at(1000));
        assert_eq!(
            (plan.remove.iter().map(String::as_str).collect::<Vec<_>>(), plan.missing_bytes),
            (want.to_vec(), missing * GIB)
        );
    }

    #[test]
    fn what_goes() {
        let images = [image("new", 5, false, 900), image("old", 5, false, 100), image("static", 50, true, 1000)];
        check(&images, 50, &[], 0);
        check(&images, 15, &["old"], 0);
        check(&images, 11, &["old", "new"], 0);
        // What is needed never goes, however full the disk is.
        check(&images, 0, &["old", "new"], 10);
    }

    #[test]
    fn a_young_image_stays() {
        let mut young = image("young", 5, false, 0);
        young.seen.first = at(950);
        check(&[young], 10, &[], 10);
    }

    #[test]
    fn an_image_is_needed_by_any_of_its_names() {
        let runtime = |id: &str, tag: &str| v1::Image { id: id.into(), repo_tags: vec![tag.into()], ..v1::Image::default() };
        let needed = ["nginx", "localhost/kctl:1", "sha256:abc"].map(str::to_owned).into();
        let mut seen = BTreeMap::from([("gone".to_owned(), Seen { first: at(0), last_used: at(0) })]);
        let images = vec![
            runtime("sha256:1", "docker.io/library/nginx:latest"),
            runtime("sha256:2", "localhost/kctl:1"),
            runtime("sha256:abc", "x"),
            runtime("sha256:3", "docker.io/library/nginx:1"),
        ];
        let noted = note(images, &needed, at(5), &mut seen);
        assert_eq!(noted.iter().map(|i| i.needed).collect::<Vec<_>>(), [true, true, true, false]);
        assert!(!seen.contains_key("gone"));
    }

    #[test]
    fn names_in_full() {
        for (short, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("bitnami/nginx:1", "docker.io/bitnami/nginx:1"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a:2", "localhost:5000/a:2"),
            ("r.io/a@sha256:0", "r.io/a@sha256:0"),
        ] {
            assert_eq!(normal(short), full);
        }
    }
}
