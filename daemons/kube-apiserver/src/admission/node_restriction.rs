//! NodeRestriction: a kubelet writes its own Node and the pods bound to it, and of those only what is its business.

use std::collections::BTreeSet;

use machinery::meta;
use machinery::status::Status;
use serde_json::{Map, Value};

use super::{MIRROR, Operation, Plugin, Request};
use crate::lookup::Lookup;

pub(super) struct NodeRestriction;

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn validate(&self, request: &Request<'_>, object: &Value, old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        let Some(node) = request.user.node_name() else { return Ok(()) };
        let question = Question { node, request, object, old: old.unwrap_or(&Value::Null), lookup };
        let answer = match (request.resource.group.as_str(), request.resource.resource.as_str()) {
            ("", "pods") => question.pod(),
            ("", "nodes") => question.node(),
            ("", "persistentvolumeclaims") => question.claim_status(),
            ("", "serviceaccounts") => question.token(),
            ("coordination.k8s.io", "leases") => question.lease(),
            ("storage.k8s.io", "csinodes") => question.own("CSINode"),
            ("resource.k8s.io", "resourceslices") => question.slice(),
            ("certificates.k8s.io", "podcertificaterequests") => question.pod_certificate(),
            _ => Ok(()),
        };
        answer.map_err(|why| request.forbidden(why))
    }
}

struct Question<'q> {
    node: &'q str,
    request: &'q Request<'q>,
    object: &'q Value,
    old: &'q Value,
    lookup: &'q dyn Lookup,
}

type Answer = Result<(), String>;

impl Question<'_> {
    fn require(&self, holds: bool, why: impl FnOnce(&str) -> String) -> Answer {
        if holds { Ok(()) } else { Err(why(self.node)) }
    }

    fn pod(&self) -> Answer {
        let bound_here = |pod: &Value| pod["spec"]["nodeName"] == self.node;
        match (self.request.subresource, self.request.operation) {
            ("", Operation::Create) => self.mirror_pod(),
            ("", Operation::Delete) => self.require(bound_here(self.old), |node| {
                format!("node {node:?} can only delete pods with spec.nodeName set to itself")
            }),
            ("", operation) => Err(format!(
                "unexpected operation {:?}, node {:?} can only create and delete mirror pods",
                format!("{operation:?}").to_uppercase(),
                self.node
            )),
            ("status", Operation::Update) => {
                self.require(bound_here(self.old), |node| {
                    format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")
                })?;
                self.require(meta::labels(self.old) == meta::labels(self.object), |node| {
                    format!("node {node:?} cannot update labels through pod status")
                })?;
                let claims = "resourceClaimStatuses";
                self.require(self.old["status"][claims] == self.object["status"][claims], |node| {
                    format!("node {node:?} cannot update resource claim statues")
                })?;
                let extended = "extendedResourceClaimStatus";
                self.require(self.old["status"][extended] == self.object["status"][extended], |node| {
                    format!("node {node:?} cannot update extended resource claim status")
                })
            }
            ("eviction", Operation::Create) => {
                let pod = self.lookup.object("", "pods", self.request.namespace, self.request.name);
                self.require(pod.as_ref().is_some_and(bound_here), |node| {
                    format!("node {node} can only evict pods with spec.nodeName set to itself")
                })
            }
            (other, _) => Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed")),
        }
    }

    fn mirror_pod(&self) -> Answer {
        let pod = self.object;
        self.require(meta::annotation(pod, MIRROR).is_some(), |node| {
            format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods")
        })?;
        self.require(pod["spec"]["nodeName"] == self.node, |node| {
            format!("node {node:?} can only create pods with spec.nodeName set to itself")
        })?;
        let owners = pod["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
        let [owner] = owners else {
            return Err(format!("node {:?} can only create pods with a single owner reference set to itself", self.node));
        };
        let is_node = owner["apiVersion"] == "v1" && owner["kind"] == "Node" && owner["name"] == self.node;
        self.require(is_node, |node| format!("node {node:?} can only create pods with an owner reference set to itself"))?;
        self.require(owner["controller"] == true, |node| {
            format!("node {node:?} can only create pods with a controller owner reference set to itself")
        })?;
        self.require(owner["blockOwnerDeletion"] != true, |node| {
            format!("node {node:?} must not set blockOwnerDeletion on an owner reference")
        })?;
        let node = self.lookup.object("", "nodes", "", self.node).ok_or_else(|| format!("node {:?} not found", self.node))?;
        self.require(owner["uid"] == node["metadata"]["uid"], |name| {
            format!("node {name} UID mismatch: expected {} got {}", owner["uid"], node["metadata"]["uid"])
        })?;
        let references = machinery::pod::References::of(pod);
        let named = [
            ("secrets", !references.secrets.is_empty()),
            ("configmaps", !references.config_maps.is_empty()),
            ("serviceaccounts", !references.service_account.is_empty()),
            ("persistentvolumeclaims", !references.claims.is_empty()),
            ("resourceclaims", !references.resource_claims.is_empty()),
        ];
        match named.iter().find(|(_, refers)| *refers) {
            Some((resource, _)) => Err(format!("node {:?} can not create pods that reference {resource}", self.node)),
            None => Ok(()),
        }
    }

    fn node(&self) -> Answer {
        let name = if self.request.name.is_empty() { meta::name(self.object) } else { self.request.name };
        self.require(name == self.node, |node| format!("node {node:?} is not allowed to modify node {name:?}"))?;
        let (new, old) = (self.object, self.old);
        match self.request.operation {
            Operation::Create => {
                let forbidden = forbidden_labels(meta::labels(new), None);
                self.require(forbidden.is_empty(), |node| {
                    format!("node {node:?} is not allowed to set the following labels: {}", forbidden.join(", "))
                })
            }
            Operation::Update => {
                let same = |a: &Value, b: &Value| a == b || (is_empty(a) && is_empty(b));
                self.require(same(&new["spec"]["taints"], &old["spec"]["taints"]), |node| {
                    format!("node {node:?} is not allowed to modify taints")
                })?;
                let owners = "ownerReferences";
                self.require(same(&new["metadata"][owners], &old["metadata"][owners]), |node| {
                    format!("node {node:?} is not allowed to modify ownerReferences")
                })?;
                let forbidden = forbidden_labels(meta::labels(new), meta::labels(old));
                self.require(forbidden.is_empty(), |_| format!("is not allowed to modify labels: {}", forbidden.join(", ")))
            }
            _ => Ok(()),
        }
    }

    fn claim_status(&self) -> Answer {
        if self.request.subresource != "status" {
            return Err("may only update PVC status".to_owned());
        }
        let rest = |claim: &Value| {
            let mut claim = claim.clone();
            for field in ["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"] {
                meta::remove_path(&mut claim, &["status", field]);
            }
            for field in ["resourceVersion", "managedFields"] {
                meta::remove_path(&mut claim, &["metadata", field]);
            }
            claim
        };
        self.require(rest(self.object) == rest(self.old), |node| {
            format!("node {node:?} is not allowed to update fields other than status.quantity and status.conditions")
        })
    }

    /// Tokens only for pods that run here, and bound to them.
    fn token(&self) -> Answer {
        if self.request.subresource != "token" || self.request.operation != Operation::Create {
            return Ok(());
        }
        let bound = &self.object["spec"]["boundObjectRef"];
        if bound.is_null() {
            return Err("node requested token not bound to a pod".to_owned());
        }
        if bound["kind"] != "Pod" || bound["apiVersion"].as_str().is_some_and(|version| version != "v1") {
            return Err("node requested token not bound to a pod".to_owned());
        }
        let uid = bound["uid"].as_str().unwrap_or_default();
        if uid.is_empty() {
            return Err("node requested token with a pod binding without a uid".to_owned());
        }
        let name = bound["name"].as_str().unwrap_or_default();
        let pod =
            self.lookup.object("", "pods", self.request.namespace, name).ok_or_else(|| format!("pod {name:?} not found"))?;
        if meta::uid(&pod) != uid {
            let current = meta::uid(&pod);
            return Err(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated ({current})"
            ));
        }
        self.require(pod["spec"]["nodeName"] == self.node, |_| {
            "node requested token bound to a pod scheduled on a different node".to_owned()
        })?;
        self.require(pod["spec"]["serviceAccountName"] == self.request.name, |_| {
            format!("node requested token for service account {:?} which the pod does not run as", self.request.name)
        })
    }

    fn lease(&self) -> Answer {
        self.require(self.request.namespace == "kube-node-lease", |_| {
            "can only access leases in the \"kube-node-lease\" system namespace".to_owned()
        })?;
        self.own("lease")
    }

    /// The object must be called as the node is.
    fn own(&self, what: &str) -> Answer {
        let name = if self.request.name.is_empty() { meta::name(self.object) } else { self.request.name };
        self.require(name == self.node, |_| format!("can only access {what} with the same name as the requesting node"))
    }

    fn slice(&self) -> Answer {
        let slice = if self.request.operation == Operation::Create { self.object } else { self.old };
        self.require(slice["spec"]["nodeName"] == self.node, |_| {
            "can only create/delete ResourceSlices with the same NodeName as the requesting node".to_owned()
        })
    }

    fn pod_certificate(&self) -> Answer {
        if self.request.operation != Operation::Create {
            return Ok(());
        }
        let spec = &self.object["spec"];
        self.require(spec["nodeName"] == self.node, |node| {
            format!("PodCertificateRequest.Spec.NodeName must be the requesting node {node:?}")
        })?;
        let name = spec["podName"].as_str().unwrap_or_default();
        let pod = self.lookup.object("", "pods", self.request.namespace, name);
        let matches = pod.is_some_and(|pod| pod["metadata"]["uid"] == spec["podUID"] && pod["spec"]["nodeName"] == self.node);
        self.require(matches, |node| format!("pod {name:?} is not running on node {node:?}"))
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().map_or(value.is_null(), Vec::is_empty)
}

type Labels<'l> = Option<&'l Map<String, Value>>;

/// The labels that differ and that a kubelet may not choose: others place pods by them.
fn forbidden_labels(new: Labels<'_>, old: Labels<'_>) -> Vec<String> {
    let value = |labels: Labels<'_>, key: &str| labels.and_then(|labels| labels.get(key)).cloned();
    let keys: BTreeSet<&String> = new.into_iter().chain(old).flat_map(|labels| labels.keys()).collect();
    let changed = keys.into_iter().filter(|key| value(new, key) != value(old, key));
    changed.filter(|key| is_forbidden(key)).cloned().collect()
}

const KUBELET_LABELS: [&str; 13] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "node.kubernetes.io/windows-build",
    "node.kubernetes.io/exclude-from-external-load-balancers",
];
const KUBELET_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

fn is_forbidden(key: &str) -> bool {
    let Some((namespace, _)) = key.split_once('/') else { return false };
    let below = |domain: &str| namespace == domain || namespace.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if below("node-restriction.kubernetes.io") {
        return true;
    }
    let kubernetes = below("kubernetes.io") || below("k8s.io");
    kubernetes && !KUBELET_LABELS.contains(&key) && !KUBELET_NAMESPACES.iter().any(|own| below(own))
}

#[cfg(test)]
mod tests {
    use machinery::gvk::GroupResource;
    use serde_json::json;

    use super::*;
    use crate::authn::user::{NODES, User};
    use crate::lookup::Fixed;
    use crate::registry::Context;
    use crate::registry::options::WriteOptions;

    fn check(operation: Operation, resource: &str, name: &str, object: Value, old: Value, expected: Result<(), &str>) {
        let user = User::new("system:node:n1", &[NODES]);
        let (path, subresource) = resource.split_once(':').unwrap_or((resource, ""));
        let cx = Context::new(user.into(), jiff::Timestamp::UNIX_EPOCH, WriteOptions::default());
        let request = Request::for_tests(&cx, operation, GroupResource::from(path), subresource, "ns", name);
        let lookup = Fixed(vec![
            ("nodes", json!({"metadata": {"name": "n1", "uid": "u"}})),
            (
                "pods",
                json!({"metadata": {"namespace": "ns", "name": "p", "uid": "pu"}, "spec": {"nodeName": "n1", "serviceAccountName": "sa"}}),
            ),
            (
                "pods",
                json!({"metadata": {"namespace": "ns", "name": "far", "uid": "fu"}, "spec": {"nodeName": "n2", "serviceAccountName": "sa"}}),
            ),
        ]);
        let got = NodeRestriction.validate(&request, &object, Some(&old), &lookup).map_err(|status| status.to_string());
        match (got, expected) {
            (Ok(()), Ok(())) => {}
            (Err(got), Err(expected)) => assert!(got.contains(expected), "{got}"),
            (got, expected) => panic!("{resource} {name}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn pods() {
        let mirror = |change: fn(&mut Value)| {
            let mut pod = json!({"metadata": {"annotations": {MIRROR: "x"}, "ownerReferences":
                [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u", "controller": true}]}, "spec": {"nodeName": "n1"}});
            change(&mut pod);
            pod
        };
        let create = |pod, expected| check(Operation::Create, "pods", "", pod, Value::Null, expected);
        create(mirror(|_| {}), Ok(()));
        create(mirror(|p| p["metadata"]["annotations"] = json!({})), Err("can only create mirror pods"));
        create(mirror(|p| p["spec"]["nodeName"] = json!("n2")), Err("spec.nodeName set to itself"));
        create(mirror(|p| p["metadata"]["ownerReferences"][0]["uid"] = json!("x")), Err("UID mismatch"));
        create(mirror(|p| p["spec"]["volumes"] = json!([{"secret": {"secretName": "s"}}])), Err("reference secrets"));
        // CVE-2025-4563
        create(
            mirror(|p| p["spec"]["resourceClaims"] = json!([{"name": "c", "resourceClaimName": "theirs"}])),
            Err("reference resourceclaims"),
        );
        let pod = |node: &str| json!({"spec": {"nodeName": node}});
        check(Operation::Delete, "pods", "p", Value::Null, pod("n1"), Ok(()));
        check(Operation::Delete, "pods", "p", Value::Null, pod("n2"), Err("can only delete pods"));
        check(Operation::Update, "pods:status", "p", pod("n1"), pod("n1"), Ok(()));
        check(Operation::Update, "pods:status", "p", pod("n1"), pod("n2"), Err("can only update pod status"));
        let claimed = |field: &str, value: Value| {
            let mut pod = pod("n1");
            pod["status"] = json!({field: value});
            pod
        };
        let theirs = claimed("resourceClaimStatuses", json!([{"name": "c", "resourceClaimName": "theirs"}]));
        check(Operation::Update, "pods:status", "p", theirs, pod("n1"), Err("cannot update resource claim statues"));
        let theirs = claimed("extendedResourceClaimStatus", json!({"resourceClaimName": "theirs"}));
        check(Operation::Update, "pods:status", "p", theirs, pod("n1"), Err("cannot update extended resource claim status"));
        check(Operation::Update, "pods", "p", pod("n1"), pod("n1"), Err("unexpected operation"));
    }

    #[test]
    fn nodes() {
        let node = |labels: Value| json!({"metadata": {"name": "n1", "labels": labels}});
        check(Operation::Update, "nodes", "n2", Value::Null, Value::Null, Err("not allowed to modify node \"n2\""));
        check(Operation::Update, "nodes", "n1", node(json!({"a": "b", "kubernetes.io/arch": "x"})), node(json!({})), Ok(()));
        let role = json!({"node-role.kubernetes.io/control-plane": ""});
        check(Operation::Update, "nodes", "n1", node(role.clone()), node(json!({})), Err("modify labels: node-role"));
        check(Operation::Update, "nodes", "n1", node(json!({})), node(role.clone()), Err("modify labels: node-role"));
        check(Operation::Create, "nodes", "n1", node(role), Value::Null, Err("set the following labels"));
        let tainted = json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "x"}]}});
        check(Operation::Update, "nodes", "n1", node(json!({})), tainted, Err("modify taints"));
    }

    #[test]
    fn tokens() {
        let token = |name: &str, uid: &str| json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}}});
        let create =
            |account, object, expected| check(Operation::Create, "serviceaccounts:token", account, object, Value::Null, expected);
        create("sa", token("p", "pu"), Ok(()));
        create("other", token("p", "pu"), Err("does not run as"));
        create("sa", token("p", "x"), Err("UID"));
        create("sa", token("far", "fu"), Err("different node"));
        create("sa", json!({"spec": {}}), Err("not bound to a pod"));
    }
}
