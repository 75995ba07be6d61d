//! `--runtime-config`: which versions are served besides those that are on by default. Pure.
//!
//! The versions that may be asked for stand in the schema table. What is on by default stays on: the server needs most of it
//! itself.

use std::collections::BTreeMap;

use daemon::feature_gates::{FeatureGates, parse_bool};
use schema::{OnRequest, Serving, builtin};

/// What the flag asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    pub serving: Serving,
    /// Asked for by name, while their feature gate is off.
    pub gated: Vec<OnRequest>,
}

/// What is asked of a version.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Named(bool),
    /// With others.
    Matched(bool),
}

/// Reads items of the form `GROUP/VERSION[/RESOURCE][=BOOL]` or `api/all|ga|beta|alpha=BOOL`. A version by its name counts more than
/// all of a kind, and of these the narrower.
///
/// # Errors
/// Another form, groups and versions that nobody knows, in upstream's words; what this server cannot do.
pub fn parse(items: &[String], gates: &FeatureGates) -> Result<Asked, String> {
    let items: BTreeMap<&str, &str> = items.iter().filter(|item| !item.is_empty()).map(|item| halves(item)).collect();
    if items.len() == 1 && items.get("api/all") == Some(&"false") {
        return Err("invalid runtime-config with only api/all=false".to_owned());
    }
    let mut wishes: BTreeMap<(&str, &str), Wish> = BTreeMap::new();
    for (key, stage) in [("api/all", None), ("api/ga", Some("")), ("api/beta", Some("beta")), ("api/alpha", Some("alpha"))] {
        let Some(value) = items.get(key) else { continue };
        let on = match *value {
            "true" => true,
            "false" => false,
            value => return Err(format!("invalid value {key}={value}")),
        };
        if !on && builtin().resources.iter().any(|r| r.served && stage.is_none_or(|stage| stage == stage_of(&r.version))) {
            return Err(format!("{key}=false: what is served by default cannot be switched off"));
        }
        let matching = builtin().on_request().iter().filter(|v| stage.is_none_or(|stage| stage == stage_of(v.version)));
        wishes.extend(matching.map(|version| ((version.group, version.version), Wish::Matched(on))));
    }
    let named = items.iter().filter(|(key, _)| !MATCHERS.contains(key));
    let mut unknown = Vec::new();
    for (key, value) in named {
        let (group, version) = group_version(key)?;
        if !builtin().resources.iter().any(|resource| resource.group == group) {
            unknown.push(format!("{group}/{version}"));
            continue;
        }
        let on = truth(key, value)?;
        check(group, version, on)?;
        wishes.insert((group, version), Wish::Named(on));
    }
    if !unknown.is_empty() {
        return Err(format!("unknown api groups {}", unknown.join(",")));
    }
    let wish = |version: &OnRequest| wishes.get(&(version.group, version.version)).copied();
    let all = builtin().on_request().iter().copied();
    let asked = |version: &OnRequest| matches!(wish(version), Some(Wish::Named(true) | Wish::Matched(true)));
    let (open, closed): (Vec<_>, Vec<_>) = all.filter(asked).partition(|version| gates.is_on(version.gate));
    let gated = closed.into_iter().filter(|version| wish(version) == Some(Wish::Named(true))).collect();
    Ok(Asked { serving: Serving::with(open), gated })
}

const MATCHERS: [&str; 4] = ["api/all", "api/ga", "api/beta", "api/alpha"];

fn halves(item: &str) -> (&str, &str) {
    let (key, value) = item.split_once('=').unwrap_or((item, ""));
    (key.trim(), value.trim())
}

/// `beta` of `v1beta2`; nothing of `v1`.
fn stage_of(version: &str) -> &str {
    version.trim_start_matches('v').trim_matches(|c: char| c.is_ascii_digit())
}

fn group_version(key: &str) -> Result<(&str, &str), String> {
    match key.split('/').collect::<Vec<_>>()[..] {
        [group, version] => Ok((group, version)),
        [group, version, resource] if resource == resource.to_lowercase() => Ok((group, version)),
        [_, _, resource] => {
            let why = "group/version/resource and resource is always lowercase plural, not";
            Err(format!("invalid key {key}: {why} {resource:?}"))
        }
        _ => Err(format!("runtime-config invalid key {key}")),
    }
}

fn truth(key: &str, value: &str) -> Result<bool, String> {
    if value.is_empty() {
        return Ok(true);
    }
    parse_bool(value).map_err(|why| format!("invalid value of {key}: {value}, err: {why}"))
}

/// Whether a version of a known group may be switched so.
fn check(group: &str, version: &str, on: bool) -> Result<(), String> {
    let Some(resource) = builtin().resources.iter().find(|r| r.group == group && r.version == version) else {
        return Err(format!("group version {group}/{version} that has not been registered"));
    };
    let on_request = builtin().on_request().iter().any(|v| v.group == group && v.version == version);
    match on {
        true if !resource.served && !on_request => Err(format!("{group}/{version} cannot be served")),
        false if resource.served => Err(format!("{group}/{version} is served by default, which cannot be switched off")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIGRATIONS: &str = "storagemigration.k8s.io/v1beta1";

    fn of(config: &str, gates: &str) -> Result<Asked, String> {
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        parse(&list(config), &FeatureGates::parse(&list(gates)).unwrap())
    }

    fn served(asked: &Asked) -> bool {
        asked.serving.resources().any(|resource| resource.api_version() == MIGRATIONS)
    }

    #[test]
    fn what_is_served() {
        let gate = "StorageVersionMigrator=true";
        let check = |config: &str, gates: &str, on: bool, gated: usize| {
            let asked = of(config, gates).unwrap();
            assert_eq!((served(&asked), asked.gated.len()), (on, gated), "{config} {gates}");
        };
        check("", gate, false, 0);
        check("storagemigration.k8s.io/v1beta1=true", gate, true, 0);
        check("storagemigration.k8s.io/v1beta1", gate, true, 0);
        check("storagemigration.k8s.io/v1beta1/storageversionmigrations=true", gate, true, 0);
        check("storagemigration.k8s.io/v1beta1=true", "", false, 1);
        check("storagemigration.k8s.io/v1beta1=false", gate, false, 0);
        for all in ["api/all=true", "api/beta=true", "api/alpha=false,api/beta=true", "apps/v1=true,api/all=true"] {
            check(all, gate, true, 0);
            check(all, "", false, 0);
        }
        check("api/beta=false", gate, false, 0);
        check("api/all=true,api/beta=false", gate, false, 0);
        check("api/all=true,storagemigration.k8s.io/v1beta1=false", gate, false, 0);
        check("resource.k8s.io/v1beta1=false", gate, false, 0);
    }

    #[test]
    fn what_is_refused() {
        let check = |config: &str, why: &str| assert_eq!(of(config, "").unwrap_err(), why);
        check("api/all=false", "invalid runtime-config with only api/all=false");
        check("api/beta=1", "invalid value api/beta=1");
        check("api/ga=false", "api/ga=false: what is served by default cannot be switched off");
        check("v1", "runtime-config invalid key v1");
        check("nobody.io/v1,api/v1=true", "unknown api groups api/v1,nobody.io/v1");
        check("apps/v9", "group version apps/v9 that has not been registered");
        check("apps/v1=false", "apps/v1 is served by default, which cannot be switched off");
        check("resource.k8s.io/v1beta1=true", "resource.k8s.io/v1beta1 cannot be served");
        check(
            "apps/v1/Deployments",
            "invalid key apps/v1/Deployments: group/version/resource and resource is always lowercase plural, not \"Deployments\"",
        );
        check("apps/v1=x", "invalid value of apps/v1: x, err: strconv.ParseBool: parsing \"x\": invalid syntax");
    }

    /// Nobody could switch on a version whose gate no daemon knows.
    #[test]
    fn every_gate_is_known() {
        for version in builtin().on_request() {
            let gates = FeatureGates::parse(&[format!("{}=true", version.gate)]).unwrap();
            assert!(gates.is_on(version.gate), "{}", version.gate);
        }
    }
}
