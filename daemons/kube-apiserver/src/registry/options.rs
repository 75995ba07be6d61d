//! The options of a request: from its query, or from an options object in its body.

use machinery::selector::{FieldSelector, LabelSelector};
use machinery::status::Status;
use serde::{Deserialize, Serialize};

use crate::request_info::query_pairs;

/// What the client wants to hear about unknown and repeated fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Options of create, update, patch and apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: String,
    /// Whether the client named the manager itself.
    pub manager_given: bool,
    pub field_validation: FieldValidation,
    /// Take over fields that others manage (apply only).
    pub force: Option<bool>,
}

const MANAGER_BYTES_MAX: usize = 128;

impl WriteOptions {
    /// Reads the query. Without a manager's name the client's program names it.
    pub fn parse(query: &str, user_agent: &str, kind: &str) -> Result<Self, Status> {
        let mut options = Self::default();
        for (key, value) in query_pairs(query) {
            match key.as_str() {
                "dryRun" => options.dry_run = dry_run(&value, kind)?,
                "fieldManager" => options.field_manager = value,
                "fieldValidation" => options.field_validation = field_validation(&value, kind)?,
                "force" => options.force = Some(value != "false" && value != "0"),
                _ => {}
            }
        }
        if options.field_manager.len() > MANAGER_BYTES_MAX {
            let error = machinery::field::FieldError::too_long(&machinery::field::Path::new("fieldManager"), MANAGER_BYTES_MAX);
            return Err(Status::invalid(("meta.k8s.io", kind), "", vec![error]));
        }
        if let Some((at, c)) = options.field_manager.chars().enumerate().find(|(_, c)| c.is_control()) {
            let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
            let path = machinery::field::Path::new("fieldManager");
            let error = machinery::field::FieldError::invalid(&path, options.field_manager.as_str(), why);
            return Err(Status::invalid(("meta.k8s.io", kind), "", vec![error]));
        }
        options.manager_given = !options.field_manager.is_empty();
        if !options.manager_given {
            options.field_manager = manager_of_agent(user_agent);
        }
        Ok(options)
    }
}

/// `kubectl/v1.33.0 (linux/amd64) …` is managed by `kubectl`.
fn manager_of_agent(user_agent: &str) -> String {
    let name: String = user_agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let mut end = name.len().min(MANAGER_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    if end == 0 { "unknown".to_owned() } else { name[..end].to_owned() }
}

fn unsupported(kind: &str, field: &str, value: serde_json::Value, supported: &[&str]) -> Status {
    let error = machinery::field::FieldError::not_supported(&machinery::field::Path::new(field), value, supported);
    Status::invalid(("meta.k8s.io", kind), "", vec![error])
}

fn dry_run(value: &str, kind: &str) -> Result<bool, Status> {
    match value {
        "" => Ok(false),
        "All" => Ok(true),
        other => Err(unsupported(kind, "dryRun", serde_json::json!([other]), &["All"])),
    }
}

fn field_validation(value: &str, kind: &str) -> Result<FieldValidation, Status> {
    match value {
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        other => Err(unsupported(kind, "fieldValidation", other.into(), &["", "Ignore", "Strict", "Warn"])),
    }
}

/// What must hold of a patch's options: who applies says who they are, and only who applies may force.
pub fn check_patch(query: &str, applies: bool) -> Result<(), Status> {
    let given = |name: &str| crate::request_info::query_value(query, name).is_some_and(|value| !value.is_empty());
    let path = |field: &str| machinery::field::Path::new(field);
    let error = match applies {
        true if !given("fieldManager") => {
            machinery::field::FieldError::required(&path("fieldManager"), "is required for apply patch")
        }
        false if given("force") => {
            machinery::field::FieldError::forbidden(&path("force"), "may not be specified for non-apply patch")
        }
        _ => return Ok(()),
    };
    Err(Status::invalid(("meta.k8s.io", "PatchOptions"), "", vec![error]))
}

/// How a list's resourceVersion is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// Options of get, list, watch and deletecollection.
#[derive(Clone, Debug)]
pub struct ListOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    pub limit: usize,
    pub continue_token: String,
    /// None when not given: the newest state.
    pub resource_version: Option<u64>,
    pub version_match: Option<VersionMatch>,
    pub timeout_seconds: Option<u64>,
    pub allow_bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self {
            labels: LabelSelector::everything(),
            fields: FieldSelector::everything(),
            limit: 0,
            continue_token: String::new(),
            resource_version: None,
            version_match: None,
            timeout_seconds: None,
            allow_bookmarks: false,
            send_initial_events: None,
        }
    }
}

impl ListOptions {
    pub fn parse(query: &str) -> Result<Self, Status> {
        let mut options = Self::default();
        for (key, value) in query_pairs(query).filter(|(_, value)| !value.is_empty()) {
            let flag = || value != "false" && value != "0";
            match key.as_str() {
                "labelSelector" => {
                    options.labels = LabelSelector::parse(&value).map_err(|error| Status::bad_request(error.to_string()))?;
                }
                "fieldSelector" => {
                    options.fields = FieldSelector::parse(&value).map_err(|error| Status::bad_request(error.to_string()))?;
                }
                "limit" => options.limit = usize::try_from(number(&value)?.max(0)).unwrap_or(usize::MAX),
                "continue" => options.continue_token = value,
                "resourceVersion" => options.resource_version = Some(resource_version(&value)?),
                "resourceVersionMatch" => options.version_match = Some(version_match(&value)?),
                "timeoutSeconds" => options.timeout_seconds = u64::try_from(number(&value)?).ok(),
                "allowWatchBookmarks" => options.allow_bookmarks = flag(),
                "sendInitialEvents" => options.send_initial_events = Some(flag()),
                _ => {}
            }
        }
        Ok(options)
    }

    /// The options of a list, whose resourceVersion upstream looks at once more.
    pub fn parse_list(query: &str) -> Result<Self, Status> {
        Self::parse(query).map_err(|status| match status.code() {
            500 => Status::bad_request(format!("invalid resource version: {}", status.message)),
            _ => status,
        })
    }

    /// What must hold of a list's options.
    pub fn check_list(&self) -> Result<(), Status> {
        if self.send_initial_events.is_some() {
            return Err(invalid("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"));
        }
        let Some(matching) = self.version_match else { return Ok(()) };
        if !self.continue_token.is_empty() {
            return Err(invalid("resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided"));
        }
        match self.resource_version {
            None => Err(invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            )),
            Some(0) if matching == VersionMatch::Exact => Err(invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            )),
            _ => Ok(()),
        }
    }

    /// What must hold of a watch's options.
    pub fn check_watch(&self) -> Result<(), Status> {
        let mut errors = Vec::new();
        if self.version_match.is_some() && self.send_initial_events.is_none() {
            errors.push(forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        match self.version_match {
            None if self.send_initial_events.is_some() => errors.push(forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
            Some(VersionMatch::Exact) => {
                let path = machinery::field::Path::new("resourceVersionMatch");
                errors.push(machinery::field::FieldError::not_supported(&path, "Exact", &["NotOlderThan"]));
            }
            _ => {}
        }
        if errors.is_empty() { Ok(()) } else { Err(Status::invalid(("meta.k8s.io", "ListOptions"), "", errors)) }
    }
}

fn forbidden(field: &str, detail: &str) -> machinery::field::FieldError {
    machinery::field::FieldError::forbidden(&machinery::field::Path::new(field), detail)
}

/// `FIELD: Forbidden: WHY`.
fn invalid(message: &str) -> Status {
    let (field, detail) = message.split_once(": Forbidden: ").unwrap_or(("", message));
    Status::invalid(("meta.k8s.io", "ListOptions"), "", vec![forbidden(field, detail)])
}

fn number(value: &str) -> Result<i64, Status> {
    value.parse().map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {value:?}: invalid syntax")))
}

/// Reads a resourceVersion. What is none is an unexpected error, as upstream has it.
pub fn resource_version(value: &str) -> Result<u64, Status> {
    value.parse().map_err(|_| {
        Status::unexpected(format!(
            "resourceVersion: Invalid value: {value:?}: strconv.ParseUint: parsing {value:?}: invalid syntax"
        ))
    })
}

fn version_match(value: &str) -> Result<VersionMatch, Status> {
    match value {
        "Exact" => Ok(VersionMatch::Exact),
        "NotOlderThan" => Ok(VersionMatch::NotOlderThan),
        other => Err(unsupported("ListOptions", "resourceVersionMatch", other.into(), &["Exact", "NotOlderThan", ""])),
    }
}

/// `meta/v1` DeleteOptions.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeleteOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<String>,
    /// The older way to say `Orphan` or `Background`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orphan_dependents: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Preconditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// What happens to the objects that a deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl DeleteOptions {
    /// The query counts only when there is no body.
    pub fn from_query(query: &str) -> Result<Self, Status> {
        let mut options = Self::default();
        for (key, value) in query_pairs(query).filter(|(_, value)| !value.is_empty()) {
            match key.as_str() {
                "gracePeriodSeconds" => options.grace_period_seconds = Some(number(&value)?),
                "propagationPolicy" => options.propagation_policy = Some(value),
                "orphanDependents" => options.orphan_dependents = Some(value != "false" && value != "0"),
                "dryRun" => options.dry_run = Some(vec![value]),
                _ => {}
            }
        }
        Ok(options)
    }

    /// What must hold of the options, whatever the object.
    pub fn check(&self) -> Result<(), Status> {
        self.propagation()?;
        self.is_dry_run().map(|_| ())
    }

    pub fn is_dry_run(&self) -> Result<bool, Status> {
        self.dry_run.iter().flatten().try_fold(false, |any, value| Ok(any | dry_run(value, "DeleteOptions")?))
    }

    /// The policy the client asked for, if any.
    pub fn propagation(&self) -> Result<Option<Propagation>, Status> {
        let forbidden = |detail: &str| {
            let path = machinery::field::Path::new("propagationPolicy");
            let policy = self.propagation_policy.clone().unwrap_or_default();
            Status::invalid(
                ("meta.k8s.io", "DeleteOptions"),
                "",
                vec![machinery::field::FieldError::invalid(&path, policy, detail)],
            )
        };
        match (self.propagation_policy.as_deref(), self.orphan_dependents) {
            (Some(_), Some(_)) => Err(forbidden("orphanDependents and deletionPropagation cannot be both set")),
            (Some("Background"), None) => Ok(Some(Propagation::Background)),
            (Some("Foreground"), None) => Ok(Some(Propagation::Foreground)),
            (Some("Orphan"), None) => Ok(Some(Propagation::Orphan)),
            (Some(other), None) => {
                let path = machinery::field::Path::new("propagationPolicy");
                let error =
                    machinery::field::FieldError::not_supported(&path, other, &["Foreground", "Background", "Orphan", "nil"]);
                Err(Status::invalid(("meta.k8s.io", "DeleteOptions"), "", vec![error]))
            }
            (None, Some(true)) => Ok(Some(Propagation::Orphan)),
            (None, Some(false)) => Ok(Some(Propagation::Background)),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers() {
        for (agent, manager) in [("kubectl/v1.33.0 (linux)", "kubectl"), ("", "unknown"), ("curl", "curl")] {
            assert_eq!(manager_of_agent(agent), manager);
        }
    }

    #[test]
    fn names_of_managers() {
        let check = |manager: &str, code: Option<u16>| {
            let query = format!("fieldManager={manager}");
            assert_eq!(WriteOptions::parse(&query, "", "CreateOptions").err().map(|status| status.code()), code, "{manager}");
        };
        check("kubectl-client-side-apply", None);
        check("%C3%A4", None);
        check("a%00", Some(422));
        check(&"x".repeat(129), Some(422));
    }

    #[test]
    fn list_options() {
        let check = |query: &str, accepted: bool| {
            let result = ListOptions::parse(query).and_then(|options| options.check_list());
            assert_eq!(result.is_ok(), accepted, "{query}: {result:?}");
        };
        check("limit=500&labelSelector=a%3Db", true);
        check("resourceVersion=x", false);
        check("resourceVersionMatch=Exact", false);
        check("resourceVersionMatch=Exact&resourceVersion=0", false);
        check("resourceVersionMatch=Exact&resourceVersion=5", true);
        check("resourceVersionMatch=NotOlderThan&resourceVersion=0", true);
        check("resourceVersionMatch=Newest&resourceVersion=5", false);
        check("sendInitialEvents=true", false);
    }

    #[test]
    fn propagation() {
        let policy = |policy: &str| DeleteOptions { propagation_policy: Some(policy.into()), ..DeleteOptions::default() };
        assert_eq!(policy("Orphan").propagation().unwrap(), Some(Propagation::Orphan));
        assert_eq!(policy("Never").propagation().unwrap_err().code(), 422);
        let orphan = DeleteOptions { orphan_dependents: Some(true), ..DeleteOptions::default() };
        assert_eq!(orphan.propagation().unwrap(), Some(Propagation::Orphan));
    }
}
