//! PodSecurity: namespaces choose by label how much their pods may do to the host (the Pod Security Standards).

mod checks;
mod policy;

use std::collections::BTreeMap;

use machinery::meta;
use machinery::pod::containers;
use machinery::status::Status;
use serde_json::Value;

use self::checks::{Pod, details, evaluate, reasons};
use self::policy::{Level, LevelVersion, Policy};
use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

/// Of a namespace whose level changes, so many pods are looked at.
const PODS_MAX: usize = 3000;
/// Below a pod, what is not part of its spec.
const OTHER_SUBRESOURCES: &[&str] = &["attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "status"];

/// Whoever and whatever is never looked at.
struct Exemptions {
    users: Vec<String>,
    namespaces: Vec<String>,
    runtime_classes: Vec<String>,
}

pub(super) struct PodSecurity {
    exemptions: Exemptions,
    /// What holds for a namespace that says nothing.
    defaults: Policy,
}

impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn validate(&self, request: &Request<'_>, object: &Value, old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        match (request.resource.group.as_str(), request.resource.resource.as_str()) {
            ("", "namespaces") if request.subresource.is_empty() => {
                let (warnings, result) = self.namespace(object, old, lookup);
                warnings.into_iter().for_each(|warning| request.cx.warn(warning));
                result
            }
            ("", "pods") if !OTHER_SUBRESOURCES.contains(&request.subresource) => {
                if old.is_some_and(|old| !has_new_images(object, old)) || self.is_exempt(request) {
                    return Ok(());
                }
                let pod = Pod { annotations: meta::annotations(object), spec: &object["spec"] };
                self.pod(request, pod, &self.policy_of(request, lookup), true)
            }
            (group, resource) if request.subresource.is_empty() => {
                let Some(template) = template(group, resource, object) else { return Ok(()) };
                if self.is_exempt(request) {
                    return Ok(());
                }
                let pod = Pod { annotations: meta::annotations(template), spec: &template["spec"] };
                self.pod(request, pod, &self.policy_of(request, lookup), false)
            }
            _ => Ok(()),
        }
    }
}

impl PodSecurity {
    /// A `pod-security.admission.config.k8s.io/v1` PodSecurityConfiguration.
    pub(super) fn configured(configuration: &Value) -> Self {
        let list = |field: &str| -> Vec<String> {
            let items = configuration["exemptions"][field].as_array().into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            exemptions: Exemptions {
                users: list("usernames"),
                namespaces: list("namespaces"),
                runtime_classes: list("runtimeClasses"),
            },
            defaults: Policy::configured(&configuration["defaults"]),
        }
    }

    /// The audit log is told why.
    fn is_exempt(&self, request: &Request<'_>) -> bool {
        let named = |list: &[String], name: &str| list.iter().any(|other| other == name);
        let why = if named(&self.exemptions.namespaces, request.namespace) {
            "namespace"
        } else if named(&self.exemptions.users, &request.user.name) {
            "user"
        } else {
            return false;
        };
        request.cx.annotate(annotation("exempt"), why);
        true
    }

    fn policy_of(&self, request: &Request<'_>, lookup: &dyn Lookup) -> Policy {
        let namespace = lookup.object("", "namespaces", "", request.namespace);
        namespace.map_or(self.defaults, |namespace| Policy::of(meta::labels(&namespace), self.defaults).0)
    }

    /// Refuses a pod; of a workload's template the client is only warned: its pods will be refused.
    fn pod(&self, request: &Request<'_>, pod: Pod<'_>, policy: &Policy, enforce: bool) -> Result<(), Status> {
        let class = pod.spec["runtimeClassName"].as_str().unwrap_or_default();
        if self.exemptions.runtime_classes.iter().any(|exempt| exempt == class) {
            request.cx.annotate(annotation("exempt"), "runtimeClass");
            return Ok(());
        }
        let refused = if enforce {
            request.cx.annotate(annotation("enforce-policy"), policy.enforce.to_string());
            let violations = evaluate(policy.enforce, pod);
            let why = || format!("violates PodSecurity \"{}\": {}", policy.enforce, details(&violations));
            (!violations.is_empty()).then(|| request.forbidden(why()))
        } else {
            None
        };
        let violations = evaluate(policy.audit, pod);
        if !violations.is_empty() {
            let why = format!("would violate PodSecurity \"{}\": {}", policy.audit, details(&violations));
            request.cx.annotate(annotation("audit-violations"), why);
        }
        // Who is refused need not be warned.
        if let Some(refused) = refused {
            return Err(refused);
        }
        let violations = evaluate(policy.warn, pod);
        if !violations.is_empty() {
            request.cx.warn(format!("would violate PodSecurity \"{}\": {}", policy.warn, details(&violations)));
        }
        Ok(())
    }

    fn namespace(&self, namespace: &Value, old: Option<&Value>, lookup: &dyn Lookup) -> (Vec<String>, Result<(), Status>) {
        let name = meta::name(namespace);
        let (policy, errors) = Policy::of(meta::labels(namespace), self.defaults);
        let (before, errors_before) = Policy::of(old.and_then(meta::labels), self.defaults);
        let known = old.is_some() && errors.iter().eq(errors_before.iter());
        if !errors.is_empty() && !known {
            return (Vec::new(), Err(Status::invalid(("", "Namespace"), name, errors)));
        }
        let warnings = if self.exemptions.namespaces.iter().any(|exempt| exempt == name) {
            exempt_warning(name, &policy, &self.defaults, namespace).into_iter().collect()
        } else if old.is_some() && is_stricter(&policy.enforce, &before.enforce) {
            let pods = lookup.objects("", "pods", name);
            let looked_at = pods.iter().filter(|pod| {
                let class = pod["spec"]["runtimeClassName"].as_str().unwrap_or_default();
                !self.exemptions.runtime_classes.iter().any(|exempt| exempt == class)
            });
            existing_pods(name, policy.enforce, &prioritized(looked_at))
        } else {
            Vec::new()
        };
        (warnings, Ok(()))
    }
}

/// As the audit log has it.
fn annotation(name: &str) -> String {
    format!("pod-security.kubernetes.io/{name}")
}

/// Where kinds that make pods hold the template.
fn template<'a>(group: &str, resource: &str, object: &'a Value) -> Option<&'a Value> {
    let pointer = match (group, resource) {
        ("", "podtemplates") => "/template",
        ("", "replicationcontrollers")
        | ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
        | ("batch", "jobs") => "/spec/template",
        ("batch", "cronjobs") => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    object.pointer(pointer).filter(|template| template.is_object())
}

/// Of what the rules look at, only images and ephemeral containers may change.
fn has_new_images(pod: &Value, old: &Value) -> bool {
    let images = |pod: &Value| -> Vec<(containers::Role, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        containers::each(&pod["spec"]).map(|(role, c)| (role, text(&c["name"]), text(&c["image"]))).collect()
    };
    images(pod) != images(old)
}

/// Whether pods that were allowed might not be any more.
fn is_stricter(new: &LevelVersion, old: &LevelVersion) -> bool {
    new != old && new.level != Level::Privileged && (new.version != old.version || new.level > old.level)
}

/// One pod of each controller first: its others are the same.
fn prioritized<'a>(pods: impl Iterator<Item = &'a Value>) -> Vec<&'a Value> {
    let mut seen = std::collections::BTreeSet::new();
    let (mut first, mut more) = (Vec::new(), Vec::new());
    for pod in pods {
        let controller = meta::controller_of(pod).and_then(|owner| owner["uid"].as_str());
        if controller.is_none_or(|uid| seen.insert(uid)) { first.push(pod) } else { more.push(pod) }
    }
    first.append(&mut more);
    first
}

/// What a namespace that becomes stricter holds against its own rules.
fn existing_pods(namespace: &str, policy: LevelVersion, pods: &[&Value]) -> Vec<String> {
    let mut found: BTreeMap<String, (usize, &str)> = BTreeMap::new();
    for pod in pods.iter().take(PODS_MAX) {
        let violations = evaluate(policy, Pod { annotations: meta::annotations(pod), spec: &pod["spec"] });
        if !violations.is_empty() {
            let name = meta::name(pod);
            let (count, first) = found.entry(reasons(&violations)).or_insert((0, name));
            *count += 1;
            *first = name.min(*first);
        }
    }
    let mut warnings = Vec::new();
    if pods.len() > PODS_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {} existing pods",
            pods.len()
        ));
    }
    if !found.is_empty() {
        let all = format!("existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{policy}\"");
        warnings.push(all);
    }
    let mut each: Vec<String> = found
        .into_iter()
        .map(|(reason, (count, name))| match count {
            1 => format!("{name}: {reason}"),
            2 => format!("{name} (and 1 other pod): {reason}"),
            more => format!("{name} (and {} other pods): {reason}", more - 1),
        })
        .collect();
    each.sort();
    warnings.append(&mut each);
    warnings
}

fn exempt_warning(name: &str, policy: &Policy, defaults: &Policy, namespace: &Value) -> Option<String> {
    if policy.is_privileged() || policy == defaults {
        return None;
    }
    let modes = [("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn)];
    let said = |mode: &str| {
        ["", "-version"]
            .iter()
            .any(|suffix| meta::label(namespace, &format!("pod-security.kubernetes.io/{mode}{suffix}")).is_some())
    };
    let shown: Vec<String> = modes
        .iter()
        .filter(|(mode, level)| level.level != Level::Privileged && said(mode))
        .map(|(mode, level)| format!("{mode}={level}"))
        .collect();
    Some(format!("namespace \"{name}\" is exempt from Pod Security, and the policy ({}) will be ignored", shown.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn which_changes_are_looked_at() {
        let pod = |image: &str, ephemeral: Value| json!({"spec": {"containers": [{"name": "a", "image": image}], "ephemeralContainers": ephemeral}});
        let old = pod("x", json!([]));
        assert!(!has_new_images(&pod("x", json!([])), &old));
        assert!(has_new_images(&pod("y", json!([])), &old));
        assert!(has_new_images(&pod("x", json!([{"name": "e"}])), &old));
    }

    #[test]
    fn pods_of_a_namespace_that_becomes_stricter() {
        let pod = |name: &str, owner: &str, host: bool| {
            let owners = json!([{"controller": true, "uid": owner}]);
            json!({"metadata": {"name": name, "ownerReferences": if owner.is_empty() { json!([]) } else { owners }},
                "spec": {"hostNetwork": host, "containers": []}})
        };
        let pods = [pod("c", "", true), pod("b", "1", true), pod("a", "1", true), pod("d", "", false)];
        let all = prioritized(pods.iter());
        assert_eq!(all.iter().map(|pod| meta::name(pod)).collect::<Vec<_>>(), ["c", "b", "d", "a"]);
        let policy = LevelVersion { level: Level::Baseline, version: None };
        let expected = [
            "existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 2 other pods): host namespaces",
        ];
        assert_eq!(existing_pods("ns", policy, &all), expected);
        assert!(is_stricter(&policy, &LevelVersion { level: Level::Privileged, version: None }));
        assert!(!is_stricter(&policy, &LevelVersion { level: Level::Restricted, version: None }));
        assert!(is_stricter(&policy, &LevelVersion { level: Level::Restricted, version: Some(5) }));
    }

    #[test]
    fn exempt_namespaces_are_told() {
        let labels = json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/audit": "restricted"});
        let namespace = json!({"metadata": {"labels": labels}});
        let (policy, _) = Policy::of(meta::labels(&namespace), Policy::default());
        let expected = "namespace \"n\" is exempt from Pod Security, and the policy (enforce=baseline:latest, audit=restricted:latest) will be ignored";
        assert_eq!(exempt_warning("n", &policy, &Policy::default(), &namespace).as_deref(), Some(expected));
    }
}
