//! Levels and versions, and the labels by which a namespace chooses them.

use std::fmt;

use machinery::field::{FieldErrors, Path};
use serde_json::{Map, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

/// The minor version of Kubernetes whose rules count; `None` is the newest.
pub(super) type Minor = Option<u32>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LevelVersion {
    pub level: Level,
    pub version: Minor,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Some(minor) => write!(f, "{level}:v1.{minor}"),
            None => write!(f, "{level}:latest"),
        }
    }
}

/// What is refused, what is noted in the audit log, what the client is warned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

const ANYTHING: LevelVersion = LevelVersion { level: Level::Privileged, version: None };

impl Default for Policy {
    fn default() -> Self {
        Self { enforce: ANYTHING, audit: ANYTHING, warn: ANYTHING }
    }
}

impl Policy {
    pub(super) fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|mode| mode.level == Level::Privileged)
    }

    /// The `defaults` of a configuration; what is not there or cannot be read is privileged.
    pub(super) fn configured(defaults: &Value) -> Self {
        let mode = |name: &str| LevelVersion {
            level: defaults[name].as_str().and_then(Level::parse).unwrap_or(Level::Privileged),
            version: defaults[format!("{name}-version")].as_str().and_then(parse_version).flatten(),
        };
        Self { enforce: mode("enforce"), audit: mode("audit"), warn: mode("warn") }
    }

    /// What a namespace's labels ask for, and what is wrong with them. A level that cannot be read is the strictest where it is
    /// enforced, and none otherwise.
    pub(super) fn of(labels: Option<&Map<String, Value>>, defaults: Self) -> (Self, FieldErrors) {
        let mut policy = defaults;
        let mut errors = FieldErrors::new();
        let enforces = mode(labels, "enforce", Level::Restricted, &mut policy.enforce, &mut errors);
        mode(labels, "audit", Level::Privileged, &mut policy.audit, &mut errors);
        let warns = mode(labels, "warn", Level::Privileged, &mut policy.warn, &mut errors);
        // What will be refused is also warned of, in workloads for example, unless the namespace says otherwise.
        if !warns.level_given && enforces.level_valid && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if !warns.version_given {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }
}

struct Given {
    level_given: bool,
    level_valid: bool,
    version_given: bool,
}

fn mode(
    labels: Option<&Map<String, Value>>,
    name: &str,
    otherwise: Level,
    to: &mut LevelVersion,
    errors: &mut FieldErrors,
) -> Given {
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    let path = |key: &str| Path::new("metadata").child("labels").key(key);
    let (level_key, version_key) =
        (format!("pod-security.kubernetes.io/{name}"), format!("pod-security.kubernetes.io/{name}-version"));
    let (level, version) = (label(&level_key), label(&version_key));
    let parsed = level.map(|text| (text, Level::parse(text)));
    if let Some((text, parsed)) = parsed {
        to.level = parsed.unwrap_or(otherwise);
        if parsed.is_none() {
            errors.invalid(&path(&level_key), text, "must be one of privileged, baseline, restricted");
        }
    }
    if let Some(text) = version {
        to.version = parse_version(text).unwrap_or_else(|| {
            errors.invalid(&path(&version_key), text, "must be \"latest\" or \"v1.x\"");
            None
        });
    }
    Given {
        level_given: level.is_some(),
        level_valid: parsed.is_some_and(|(_, parsed)| parsed.is_some()),
        version_given: version.is_some(),
    }
}

/// `latest`, or `v1.` and a number without leading zeros.
fn parse_version(text: &str) -> Option<Minor> {
    if text == "latest" {
        return Some(None);
    }
    let digits = text.strip_prefix("v1.")?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| plain).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(labels: Value, enforce: &str, audit: &str, warn: &str, errors: &[&str]) {
        let all: Map<String, Value> = labels
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), value.clone()))
            .collect();
        let (policy, found) = Policy::of(Some(&all), Policy::default());
        assert_eq!(
            (policy.enforce.to_string(), policy.audit.to_string(), policy.warn.to_string()),
            (enforce.to_owned(), audit.to_owned(), warn.to_owned()),
            "{labels}"
        );
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), errors);
    }

    #[test]
    fn labels() {
        let none = "privileged:latest";
        check(json!({}), none, none, none, &[]);
        check(json!({"enforce": "restricted"}), "restricted:latest", none, "restricted:latest", &[]);
        check(json!({"enforce": "baseline", "enforce-version": "v1.20"}), "baseline:v1.20", none, "baseline:v1.20", &[]);
        check(json!({"enforce": "baseline", "warn": "privileged"}), "baseline:latest", none, none, &[]);
        let audit = json!({"audit": "restricted", "audit-version": "v1.5", "warn": "baseline"});
        check(audit, none, "restricted:v1.5", "baseline:latest", &[]);
        let level = "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted";
        check(json!({"enforce": "strict"}), "restricted:latest", none, none, &[level]);
        let version =
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\"";
        check(
            json!({"warn": "none", "warn-version": "v1.01"}),
            none,
            none,
            none,
            &[
                "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"none\": must be one of privileged, baseline, restricted",
                version,
            ],
        );
    }
}
