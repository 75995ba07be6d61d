//! `--authorization-config`: the authorizers in order, as a file (`apiserver.config.k8s.io/v1` AuthorizationConfiguration).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::conditions::Conditions;

const API_VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// How one webhook is asked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub name: String,
    /// `v1` or `v1beta1`, as the other side speaks it.
    pub version: String,
    pub timeout: Duration,
    /// How long a yes is remembered; zero forgets it at once.
    pub authorized_ttl: Duration,
    /// How long anything else is.
    pub unauthorized_ttl: Duration,
    /// What no answer means: a refusal, or that the next authorizer decides.
    pub denies_on_failure: bool,
    /// It is asked only where these hold.
    pub conditions: Arc<Conditions>,
}

impl Default for Settings {
    /// As the flags have it.
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            version: "v1beta1".to_owned(),
            timeout: TIMEOUT_MAX,
            authorized_ttl: Duration::from_secs(300),
            unauthorized_ttl: Duration::from_secs(30),
            denies_on_failure: false,
            conditions: Arc::default(),
        }
    }
}

/// One authorizer, in order.
#[derive(Clone, Debug)]
pub enum Entry {
    Node,
    Rbac,
    AlwaysAllow,
    AlwaysDeny,
    Webhook { kubeconfig: PathBuf, settings: Settings },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    authorizers: Vec<FileEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileEntry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    webhook: Option<FileWebhook>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FileWebhook {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    cache_unauthorized_requests: Option<bool>,
    timeout: Option<String>,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: ConnectionInfo,
    match_conditions: Vec<MatchCondition>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MatchCondition {
    expression: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ConnectionInfo {
    #[serde(rename = "type")]
    kind: String,
    kube_config_file: Option<PathBuf>,
}

/// Reads the file's text.
pub fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let file: File = machinery::yaml::from_str(text).map_err(|error| error.to_string())?;
    if file.kind != "AuthorizationConfiguration" || !API_VERSIONS.contains(&file.api_version.as_str()) {
        return Err(format!("no kind {:?} is registered for version {:?}", file.kind, file.api_version));
    }
    if file.authorizers.is_empty() {
        return Err("authorizers: Required value: at least one authorization mode must be defined".to_owned());
    }
    let (mut names, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    let mut entries = Vec::new();
    for (index, entry) in file.authorizers.into_iter().enumerate() {
        let at = |what: &str| format!("authorizers[{index}].{what}");
        if entry.name.is_empty() {
            return Err(at("name: Required value"));
        }
        if !names.insert(entry.name.clone()) {
            return Err(at(&format!("name: Duplicate value: {:?}", entry.name)));
        }
        if entry.kind != "Webhook" && !kinds.insert(entry.kind.clone()) {
            return Err(at(&format!("type: Duplicate value: {:?}", entry.kind)));
        }
        entries.push(match (entry.kind.as_str(), entry.webhook) {
            ("Webhook", Some(file)) => webhook(entry.name, file).map_err(|why| at(&format!("webhook.{why}")))?,
            ("Webhook", None) => return Err(at("webhook: Required value: required when type=Webhook")),
            (_, Some(_)) => return Err(at("webhook: Invalid value: may only be specified when type=Webhook")),
            ("Node", None) => Entry::Node,
            ("RBAC", None) => Entry::Rbac,
            ("AlwaysAllow", None) => Entry::AlwaysAllow,
            ("AlwaysDeny", None) => Entry::AlwaysDeny,
            (kind, None) => return Err(at(&format!("type: Unsupported value: {kind:?}"))),
        });
    }
    Ok(entries)
}

fn webhook(name: String, file: FileWebhook) -> Result<Entry, String> {
    let expressions: Vec<String> = file.match_conditions.into_iter().map(|condition| condition.expression).collect();
    match file.match_condition_subject_access_review_version.as_str() {
        "" if expressions.is_empty() => {}
        "" => {
            return Err(
                "matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified".into()
            );
        }
        "v1" => {}
        other => {
            return Err(format!(
                "matchConditionSubjectAccessReviewVersion: Unsupported value: {other:?}: supported values: \"v1\""
            ));
        }
    }
    let denies_on_failure = match file.failure_policy.as_str() {
        "Deny" => true,
        "NoOpinion" => false,
        "" => return Err("failurePolicy: Required value".to_owned()),
        other => return Err(format!("failurePolicy: Unsupported value: {other:?}: supported values: \"NoOpinion\", \"Deny\"")),
    };
    if !matches!(file.subject_access_review_version.as_str(), "v1" | "v1beta1") {
        return Err(format!(
            "subjectAccessReviewVersion: Unsupported value: {:?}: supported values: \"v1\", \"v1beta1\"",
            file.subject_access_review_version
        ));
    }
    let kubeconfig = match (file.connection_info.kind.as_str(), file.connection_info.kube_config_file) {
        ("KubeConfigFile", Some(path)) if path.is_absolute() => path,
        ("KubeConfigFile", Some(path)) => {
            return Err(format!("connectionInfo.kubeConfigFile: Invalid value: {path:?}: must be an absolute path"));
        }
        ("KubeConfigFile", None) => return Err("connectionInfo.kubeConfigFile: Required value".to_owned()),
        (other, _) => {
            return Err(format!("connectionInfo.type: Unsupported value: {other:?}: supported values: \"KubeConfigFile\""));
        }
    };
    let default = Settings::default();
    let timeout = duration("timeout", file.timeout)?.ok_or("timeout: Required value")?;
    if timeout.is_zero() || timeout > TIMEOUT_MAX {
        return Err("timeout: Invalid value: must be > 0s and <= 30s".to_owned());
    }
    let ttl = |path, given, cached: Option<bool>, default| {
        let ttl = duration(path, given)?.unwrap_or(default);
        Ok::<_, String>(if cached == Some(false) { Duration::ZERO } else { ttl })
    };
    let settings = Settings {
        name,
        version: file.subject_access_review_version,
        timeout,
        authorized_ttl: ttl("authorizedTTL", file.authorized_ttl, file.cache_authorized_requests, default.authorized_ttl)?,
        unauthorized_ttl: ttl(
            "unauthorizedTTL",
            file.unauthorized_ttl,
            file.cache_unauthorized_requests,
            default.unauthorized_ttl,
        )?,
        denies_on_failure,
        conditions: Arc::new(Conditions::compile(&expressions)?),
    };
    Ok(Entry::Webhook { kubeconfig, settings })
}

fn duration(path: &str, text: Option<String>) -> Result<Option<Duration>, String> {
    let Some(text) = text else { return Ok(None) };
    let parsed: Result<jiff::SignedDuration, _> = text.parse();
    let duration = parsed.ok().and_then(|duration| Duration::try_from(duration).ok());
    duration.map(Some).ok_or_else(|| format!("{path}: Invalid value: {text:?}: must be a duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(authorizers: &str) -> Result<Vec<Entry>, String> {
        parse(&format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n{authorizers}"))
    }

    const WEBHOOK: &str = "- type: Webhook\n  name: w\n  webhook:\n    timeout: 3s\n    failurePolicy: Deny\n    subjectAccessReviewVersion: v1\n    authorizedTTL: 1m\n    cacheUnauthorizedRequests: false\n    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /w.conf}\n";

    #[test]
    fn a_file() {
        let entries = file(&format!("- {{type: Node, name: node}}\n{WEBHOOK}- {{type: RBAC, name: rbac}}\n")).unwrap();
        assert!(matches!((&entries[0], &entries[2]), (Entry::Node, Entry::Rbac)));
        let Entry::Webhook { kubeconfig, settings } = &entries[1] else { unreachable!("it is a webhook") };
        assert_eq!((kubeconfig.to_str(), settings.name.as_str(), settings.version.as_str()), (Some("/w.conf"), "w", "v1"));
        assert_eq!((settings.timeout, settings.denies_on_failure), (Duration::from_secs(3), true));
        assert_eq!((settings.authorized_ttl, settings.unauthorized_ttl), (Duration::from_secs(60), Duration::ZERO));
    }

    #[test]
    fn what_a_file_may_not_say() {
        let check = |authorizers: &str, expected: &str| {
            let error = file(authorizers).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("", "at least one authorization mode");
        check("- {type: Node, name: a}\n- {type: Node, name: b}\n", "authorizers[1].type: Duplicate value");
        check("- {type: Node, name: a}\n- {type: RBAC, name: a}\n", "authorizers[1].name: Duplicate value");
        check("- {type: ABAC, name: a}\n", "Unsupported value: \"ABAC\"");
        check("- {type: Webhook, name: a}\n", "required when type=Webhook");
        check(&WEBHOOK.replace("3s", "31s"), "timeout: Invalid value");
        check(&WEBHOOK.replace("Deny", "Maybe"), "failurePolicy: Unsupported value");
        check(&WEBHOOK.replace("/w.conf", "w.conf"), "must be an absolute path");
        let with = |expression: &str, version: &str| {
            format!(
                "{WEBHOOK}    matchConditions: [{{expression: '{expression}'}}]\n    matchConditionSubjectAccessReviewVersion: {version}\n"
            )
        };
        assert!(file(&with("true", "v1")).is_ok());
        check(&with("true", "''"), "required if match conditions are specified");
        check(&with("true", "v2"), "matchConditionSubjectAccessReviewVersion: Unsupported value: \"v2\"");
        check(
            &with("1", "v1"),
            "authorizers[0].webhook.matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool",
        );
    }
}
