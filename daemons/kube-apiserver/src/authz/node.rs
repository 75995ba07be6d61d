//! The Node authorizer: a kubelet may read what the pods on its node refer to, and nothing else.
//!
//! An index of pods by node with the names each pod refers to answers in the time it takes to look at one node's pods.
//! What a kubelet may *write* to the objects it reaches is checked at admission by NodeRestriction.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, RwLock};

use machinery::pod::References;
use serde_json::Value;

use super::rule::Rule;
use super::{Attributes, Decision, ResourceAttributes};
use crate::lookup::Lookup;

/// (namespace, name)
type Key = (String, String);

#[derive(Default)]
struct Index {
    nodes: HashMap<String, HashMap<Key, References>>,
    node_of: HashMap<Key, String>,
}

pub struct NodeAuthorizer {
    index: RwLock<Index>,
    /// What every node may do besides: the rules of the role `system:node`.
    rules: Vec<Rule>,
    lookup: Arc<dyn Lookup>,
}

impl NodeAuthorizer {
    pub fn new(rules: Vec<Rule>, lookup: Arc<dyn Lookup>) -> Self {
        Self { index: RwLock::default(), rules, lookup }
    }

    /// A pod changed; `pod` is none when it was deleted.
    pub fn apply_pod(&self, namespace: &str, name: &str, pod: Option<&Value>) {
        let key = (namespace.to_owned(), name.to_owned());
        let node = pod.and_then(|pod| pod["spec"]["nodeName"].as_str()).unwrap_or_default();
        let mut index = self.index.write().unwrap_or_else(|e| e.into_inner());
        if let Some(old) = index.node_of.remove(&key)
            && let Some(pods) = index.nodes.get_mut(&old)
        {
            pods.remove(&key);
            if pods.is_empty() {
                index.nodes.remove(&old);
            }
        }
        if let Some(pod) = pod.filter(|_| !node.is_empty()) {
            index.nodes.entry(node.to_owned()).or_default().insert(key.clone(), references(pod));
            index.node_of.insert(key, node.to_owned());
        }
    }

    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let Some(node) = attributes.user.and_then(|user| user.node_name()) else { return Decision::NoOpinion(String::new()) };
        if let Some(resource) = &attributes.resource
            && let Some(answer) = self.subdivided(node, attributes.verb, resource)
        {
            return match answer {
                Ok(()) => Decision::Allow(String::new()),
                Err(reason) => Decision::NoOpinion(reason),
            };
        }
        if self.rules.iter().any(|rule| rule.allows(attributes)) {
            Decision::Allow(String::new())
        } else {
            Decision::NoOpinion(String::new())
        }
    }

    /// Resources of which a node sees a part. None leaves the request to the rules.
    fn subdivided(&self, node: &str, verb: &str, r: &ResourceAttributes<'_>) -> Option<Result<(), String>> {
        let reads = |names: fn(&References) -> &BTreeSet<String>| {
            check_read(verb, r)?;
            self.related(node, r, |pod| names(pod).contains(r.name))
        };
        Some(match (r.group, r.resource) {
            ("", "secrets") => check_read(verb, r).and_then(|()| {
                self.related(node, r, |pod| pod.secrets.contains(r.name))
                    .or_else(|why| if self.secret_of_volume(node, r) { Ok(()) } else { Err(why) })
            }),
            ("", "configmaps") => reads(|pod| &pod.config_maps),
            ("", "persistentvolumeclaims") if r.subresource == "status" => match verb {
                "update" | "patch" => self.related(node, r, |pod| pod.claims.contains(r.name)),
                _ => Err("can only get/update/patch this type".to_owned()),
            },
            ("", "persistentvolumeclaims") => {
                check_get(verb, r).and_then(|()| self.related(node, r, |p| p.claims.contains(r.name)))
            }
            ("", "persistentvolumes") => check_get(verb, r).and_then(|()| self.volume(node, r.name)),
            ("resource.k8s.io", "resourceclaims") => {
                check_get(verb, r).and_then(|()| self.related(node, r, |pod| pod.resource_claims.contains(r.name)))
            }
            ("storage.k8s.io", "volumeattachments") => check_get(verb, r).and_then(|()| self.attachment(node, r.name)),
            ("", "serviceaccounts") if verb == "get" && r.subresource.is_empty() => {
                check_read(verb, r).and_then(|()| self.related(node, r, |pod| pod.service_account == r.name))
            }
            ("", "serviceaccounts") => match (verb, r.subresource) {
                ("create", _) if r.name.is_empty() => Err("can only create tokens for individual service accounts".to_owned()),
                ("create", "token") => self.related(node, r, |pod| pod.service_account == r.name),
                ("create", _) => Err("can only create token subresource of serviceaccount".to_owned()),
                _ => Err("can only create tokens for individual service accounts".to_owned()),
            },
            ("coordination.k8s.io", "leases") => check_lease(node, verb, r),
            ("storage.k8s.io", "csinodes") => check_own(node, verb, r, "CSINode"),
            ("resource.k8s.io", "resourceslices") => check_slice(node, verb, r, self.lookup.as_ref()),
            ("", "nodes") => check_node(node, verb, r)?,
            ("", "pods") => self.check_pod(node, verb, r)?,
            ("certificates.k8s.io", "podcertificaterequests") => check_pod_certificate(node, verb, r, self.lookup.as_ref()),
            _ => return None,
        })
    }

    /// Whether a pod of that namespace on the node refers to the object.
    fn related(&self, node: &str, r: &ResourceAttributes<'_>, refers: impl Fn(&References) -> bool) -> Result<(), String> {
        if r.name.is_empty() {
            return Err("No Object name found".to_owned());
        }
        let index = self.index.read().unwrap_or_else(|e| e.into_inner());
        let found = index
            .nodes
            .get(node)
            .is_some_and(|pods| pods.iter().any(|((namespace, _), pod)| namespace == r.namespace && refers(pod)));
        if found { Ok(()) } else { Err(no_relationship(node)) }
    }

    fn check_pod(&self, node: &str, verb: &str, r: &ResourceAttributes<'_>) -> Option<Result<(), String>> {
        let on_node = || {
            let key = (r.namespace.to_owned(), r.name.to_owned());
            let index = self.index.read().unwrap_or_else(|e| e.into_inner());
            if index.node_of.get(&key).is_some_and(|n| n == node) { Ok(()) } else { Err(no_relationship(node)) }
        };
        Some(match (r.subresource, verb) {
            ("", "get") => on_node(),
            ("", "list" | "watch") if selects(r.field_selector, "spec.nodeName", node) => Ok(()),
            ("", "list" | "watch") if !r.name.is_empty() => on_node(),
            ("", "list" | "watch") => Err("can only list/watch pods with spec.nodeName field selector".to_owned()),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        })
    }

    fn volume(&self, node: &str, name: &str) -> Result<(), String> {
        let volume = self.lookup.object("", "persistentvolumes", "", name).ok_or_else(|| no_relationship(node))?;
        let claim = &volume["spec"]["claimRef"];
        let r = ResourceAttributes {
            namespace: claim["namespace"].as_str().unwrap_or_default(),
            name: claim["name"].as_str().unwrap_or_default(),
            ..Default::default()
        };
        self.related(node, &r, |pod| pod.claims.contains(r.name))
    }

    /// Secrets that a volume bound to a claim of the node's pods refers to.
    fn secret_of_volume(&self, node: &str, r: &ResourceAttributes<'_>) -> bool {
        let claims: Vec<Key> = {
            let index = self.index.read().unwrap_or_else(|e| e.into_inner());
            let pods = index.nodes.get(node).into_iter().flatten();
            pods.flat_map(|((namespace, _), pod)| pod.claims.iter().map(|claim| (namespace.clone(), claim.clone()))).collect()
        };
        claims.iter().any(|(namespace, claim)| {
            let claim = self.lookup.object("", "persistentvolumeclaims", namespace, claim);
            let volume = claim.as_ref().and_then(|claim| claim["spec"]["volumeName"].as_str());
            volume
                .and_then(|name| self.lookup.object("", "persistentvolumes", "", name))
                .is_some_and(|volume| refers_to_secret(&volume["spec"], r.namespace, r.name, namespace))
        })
    }

    fn attachment(&self, node: &str, name: &str) -> Result<(), String> {
        let attachment = self.lookup.object("storage.k8s.io", "volumeattachments", "", name);
        if attachment.is_some_and(|a| a["spec"]["nodeName"] == node) { Ok(()) } else { Err(no_relationship(node)) }
    }
}

fn no_relationship(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

fn check_read(verb: &str, r: &ResourceAttributes<'_>) -> Result<(), String> {
    match verb {
        "get" | "list" | "watch" if !r.subresource.is_empty() => Err("cannot read subresource".to_owned()),
        "get" | "list" | "watch" if r.namespace.is_empty() => Err("can only read namespaced object of this type".to_owned()),
        "get" | "list" | "watch" => Ok(()),
        _ => Err("can only read resources of this type".to_owned()),
    }
}

fn check_get(verb: &str, r: &ResourceAttributes<'_>) -> Result<(), String> {
    match verb {
        "get" if r.subresource.is_empty() => Ok(()),
        "get" => Err("cannot get subresource".to_owned()),
        _ => Err("can only get individual resources of this type".to_owned()),
    }
}

fn check_lease(node: &str, verb: &str, r: &ResourceAttributes<'_>) -> Result<(), String> {
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a node lease".to_owned());
    }
    if r.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    // The name of an object being created is in its body: NodeRestriction checks it.
    if verb != "create" && r.name != node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

fn check_own(node: &str, verb: &str, r: &ResourceAttributes<'_>, kind: &str) -> Result<(), String> {
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err(format!("can only get, create, update, patch, or delete a {kind}"));
    }
    if !r.subresource.is_empty() {
        return Err(format!("cannot authorize {kind} subresources"));
    }
    if verb != "create" && r.name != node {
        return Err(format!("can only access {kind} with the same name as the requesting node"));
    }
    Ok(())
}

fn check_slice(node: &str, verb: &str, r: &ResourceAttributes<'_>, lookup: &dyn Lookup) -> Result<(), String> {
    match verb {
        _ if !r.subresource.is_empty() => Err("cannot authorize ResourceSlice subresources".to_owned()),
        "create" => Ok(()),
        "get" | "update" | "patch" | "delete" => {
            let slice = lookup.object("resource.k8s.io", "resourceslices", "", r.name);
            if slice.is_some_and(|s| s["spec"]["nodeName"] == node) { Ok(()) } else { Err(no_relationship(node)) }
        }
        "watch" | "list" | "deletecollection" if selects(r.field_selector, "spec.nodeName", node) => Ok(()),
        "watch" | "list" | "deletecollection" => {
            Err("can only list/watch/deletecollection resourceslices with nodeName field selector".to_owned())
        }
        _ => Err("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection".to_owned()),
    }
}

fn check_pod_certificate(node: &str, verb: &str, r: &ResourceAttributes<'_>, lookup: &dyn Lookup) -> Result<(), String> {
    match verb {
        _ if !r.subresource.is_empty() => Err("nodes may not access the status subresource of PodCertificateRequests".to_owned()),
        "create" => Ok(()),
        "get" => {
            let request = lookup.object(r.group, r.resource, r.namespace, r.name);
            if request.is_some_and(|q| q["spec"]["nodeName"] == node) { Ok(()) } else { Err(no_relationship(node)) }
        }
        "list" | "watch" if selects(r.field_selector, "spec.nodeName", node) => Ok(()),
        "list" | "watch" => Err("can only list/watch podcertificaterequests with nodeName field selector".to_owned()),
        _ => Err(format!("nodes may not {verb} podcertificaterequests")),
    }
}

fn check_node(node: &str, verb: &str, r: &ResourceAttributes<'_>) -> Option<Result<(), String>> {
    Some(match (r.subresource, verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") if r.name == node => Ok(()),
        ("", "get" | "list" | "watch") if r.name.is_empty() => {
            Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => Err(format!("node '{node}' cannot read '{}', only its own Node object", r.name)),
        _ => Err(String::new()),
    })
}

/// Whether a field selector restricts the answer to this value.
fn selects(selector: &str, field: &str, value: &str) -> bool {
    selector.split(',').any(|term| {
        term.trim()
            .strip_prefix(field)
            .and_then(|rest| rest.strip_prefix('='))
            .is_some_and(|rest| rest.strip_prefix('=').unwrap_or(rest) == value)
    })
}

/// Every name that a pod opens to its node.
fn references(pod: &Value) -> References {
    // Mirror pods show what already runs from a file; they must not open other objects to the node.
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
        References::of(pod)
    } else {
        References::default()
    }
}

/// Whether some `…SecretRef` below a persistent volume's spec names the secret.
fn refers_to_secret(value: &Value, namespace: &str, name: &str, default_namespace: &str) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            let in_namespace = value["namespace"].as_str().unwrap_or(default_namespace) == namespace;
            let named = key.ends_with("ecretRef") && value["name"] == name && in_namespace;
            named || refers_to_secret(value, namespace, name, default_namespace)
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::authn::user::{NODES, User};
    use crate::lookup::Fixed;

    fn authorizer() -> NodeAuthorizer {
        let lookup = Fixed(vec![
            (
                "persistentvolumes",
                json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "ns", "name": "claim"},
                "csi": {"nodeStageSecretRef": {"namespace": "ns", "name": "stage"}}}}),
            ),
            ("persistentvolumeclaims", json!({"metadata": {"namespace": "ns", "name": "claim"}, "spec": {"volumeName": "pv"}})),
            ("volumeattachments", json!({"metadata": {"name": "va"}, "spec": {"nodeName": "n1"}})),
        ]);
        let rule = json!({"verbs": ["list"], "apiGroups": [""], "resources": ["services"]});
        let authorizer = NodeAuthorizer::new(vec![serde_json::from_value(rule).unwrap()], Arc::new(lookup));
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "nodeName": "n1", "serviceAccountName": "sa", "imagePullSecrets": [{"name": "pull"}],
            "ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "eph"}}]}],
            "containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "cm"}}}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "e", "ephemeral": {}}, {"projected": {"sources": [{"configMap": {"name": "root-ca"}}]}},
                {"name": "c", "csi": {"nodePublishSecretRef": {"name": "publish"}}}],
            "resourceClaims": [{"name": "r", "resourceClaimName": "device"}]},
            "status": {"resourceClaimStatuses": [{"name": "t", "resourceClaimName": "template-made"}],
                "extendedResourceClaimStatus": {"resourceClaimName": "extended"}}});
        authorizer.apply_pod("ns", "p", Some(&pod));
        authorizer
    }

    /// `verb group/resource[/sub] namespace/name [selector]`
    fn check(question: &str, node: &str, allowed: bool) {
        let parts: Vec<&str> = question.split(' ').collect();
        let mut path = parts[1].splitn(3, '/');
        let (group, resource, subresource) = (path.next().unwrap(), path.next().unwrap(), path.next().unwrap_or(""));
        let (namespace, name) = parts[2].split_once('/').unwrap();
        let field_selector = parts.get(3).copied().unwrap_or("");
        let user = User::new(format!("system:node:{node}"), &[NODES]);
        let attributes =
            ResourceAttributes { group, resource, subresource, namespace, name, field_selector, ..Default::default() };
        let decision = authorizer().authorize(&Attributes::resource(&user, parts[0], attributes));
        assert_eq!(decision.allowed(), allowed, "{question} by {node}: {}", decision.reason());
    }

    #[test]
    fn what_a_node_may_read() {
        for secret in ["pull", "eph", "publish", "stage"] {
            check(&format!("get /secrets ns/{secret}"), "n1", true);
            check(&format!("get /secrets ns/{secret}"), "n2", false);
            check(&format!("get /secrets other/{secret}"), "n1", false);
        }
        check("list /secrets ns/", "n1", false);
        check("watch /secrets ns/pull", "n1", true);
        check("update /secrets ns/pull", "n1", false);
        check("get /secrets ns/unrelated", "n1", false);
        check("get /configmaps ns/cm", "n1", true);
        check("get /configmaps ns/root-ca", "n1", true);
        check("get /persistentvolumeclaims ns/claim", "n1", true);
        check("get /persistentvolumeclaims ns/p-e", "n1", true);
        check("patch /persistentvolumeclaims/status ns/claim", "n1", true);
        check("get /persistentvolumeclaims/status ns/claim", "n1", false);
        check("patch /persistentvolumeclaims/status ns/claim", "n2", false);
        check("get resource.k8s.io/resourceclaims ns/device", "n1", true);
        check("get resource.k8s.io/resourceclaims ns/template-made", "n1", true);
        check("get resource.k8s.io/resourceclaims ns/extended", "n1", true);
        check("get resource.k8s.io/resourceclaims ns/other", "n1", false);
        check("get resource.k8s.io/resourceclaims ns/device", "n2", false);
        check("get /serviceaccounts ns/sa", "n1", true);
        check("get /serviceaccounts ns/sa", "n2", false);
        check("list resource.k8s.io/resourceslices / spec.nodeName=n1", "n1", true);
        check("list resource.k8s.io/resourceslices / spec.nodeName=n2", "n1", false);
        check("list resource.k8s.io/resourceslices /", "n1", false);
        check("get /persistentvolumes /pv", "n1", true);
        check("get /persistentvolumes /pv", "n2", false);
        check("get storage.k8s.io/volumeattachments /va", "n1", true);
        check("get storage.k8s.io/volumeattachments /va", "n2", false);
        check("create /serviceaccounts/token ns/sa", "n1", true);
        check("create /serviceaccounts/token ns/sa", "n2", false);
        check("create /serviceaccounts/token ns/other", "n1", false);
        check("list /services /", "n1", true);
        check("delete /services ns/x", "n1", false);
    }

    #[test]
    fn its_own_objects() {
        check("get /nodes /n1", "n1", true);
        check("get /nodes /n2", "n1", false);
        check("list /nodes /", "n1", false);
        check("patch /nodes/status /n1", "n1", true);
        check("delete /nodes /n1", "n1", false);
        check("list /pods / spec.nodeName=n1", "n1", true);
        check("watch /pods / spec.nodeName==n1", "n1", true);
        check("list /pods / spec.nodeName=n2", "n1", false);
        check("list /pods /", "n1", false);
        check("get /pods ns/p", "n1", true);
        check("get /pods ns/p", "n2", false);
        check("get /pods/log ns/p", "n1", false);
        check("create /pods ns/x", "n1", true);
        check("create coordination.k8s.io/leases kube-node-lease/", "n1", true);
        check("update coordination.k8s.io/leases kube-node-lease/n1", "n1", true);
        check("update coordination.k8s.io/leases kube-node-lease/n2", "n1", false);
        check("get coordination.k8s.io/leases default/n1", "n1", false);
        check("get storage.k8s.io/csinodes /n1", "n1", true);
        check("get storage.k8s.io/csinodes /n2", "n1", false);
    }

    #[test]
    fn a_pod_that_moved_or_went_opens_nothing() {
        let authorizer = authorizer();
        authorizer.apply_pod("ns", "p", None);
        assert!(authorizer.index.read().unwrap().nodes.is_empty());
    }
}
