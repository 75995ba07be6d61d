//! DefaultStorageClass and DefaultIngressClass: who names no class gets the cluster's default one.

use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

/// One kind of class.
pub(super) struct DefaultClass {
    plugin: &'static str,
    /// Whose objects are completed: group, resource.
    of: (&'static str, &'static str),
    /// The field of their spec that names a class.
    field: &'static str,
    /// The annotation that named it before there was a field.
    old_annotation: &'static str,
    classes: (&'static str, &'static str),
    /// One of these says `true` on the default class.
    marks: &'static [&'static str],
}

pub(super) const STORAGE: DefaultClass = DefaultClass {
    plugin: "DefaultStorageClass",
    of: ("", "persistentvolumeclaims"),
    field: "storageClassName",
    old_annotation: "volume.beta.kubernetes.io/storage-class",
    classes: ("storage.k8s.io", "storageclasses"),
    marks: &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"],
};

pub(super) const INGRESS: DefaultClass = DefaultClass {
    plugin: "DefaultIngressClass",
    of: ("networking.k8s.io", "ingresses"),
    field: "ingressClassName",
    old_annotation: "kubernetes.io/ingress.class",
    classes: ("networking.k8s.io", "ingressclasses"),
    marks: &["ingressclass.kubernetes.io/is-default-class"],
};

impl Plugin for DefaultClass {
    fn name(&self) -> &'static str {
        self.plugin
    }

    fn mutate(&self, request: &Request<'_>, object: &mut Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        if request.operation == Operation::Create && request.is(self.of.0, self.of.1) {
            self.complete(object, lookup);
        }
        Ok(())
    }
}

impl DefaultClass {
    fn complete(&self, object: &mut Value, lookup: &dyn Lookup) {
        if object["spec"][self.field].is_string() || meta::annotation(object, self.old_annotation).is_some() {
            return;
        }
        let is_default = |class: &Value| self.marks.iter().any(|mark| meta::annotation(class, mark) == Some("true"));
        let mut classes = lookup.objects(self.classes.0, self.classes.1, "");
        classes.retain(is_default);
        // Of several the newest counts; of equally new ones the first by name.
        let created = |class: &Value| meta::text(class, &["metadata", "creationTimestamp"]).to_owned();
        classes.sort_by(|a, b| created(b).cmp(&created(a)).then_with(|| meta::name(a).cmp(meta::name(b))));
        if let Some(class) = classes.first() {
            meta::set_path(object, &["spec", self.field], json!(meta::name(class)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookup::Fixed;

    fn class(name: &str, created: &str, default: &str) -> Value {
        let annotations = json!({"storageclass.kubernetes.io/is-default-class": default,
            "ingressclass.kubernetes.io/is-default-class": default});
        json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": annotations}})
    }

    #[test]
    fn the_newest_default_counts() {
        let classes = ["storageclasses", "ingressclasses"].into_iter().flat_map(|plural| {
            [
                ("old", "2025-01-01T00:00:00Z", "true"),
                ("b", "2026-01-01T00:00:00Z", "true"),
                ("a", "2026-01-01T00:00:00Z", "true"),
                ("no", "2026-02-01T00:00:00Z", "false"),
            ]
            .map(|(name, created, default)| (plural, class(name, created, default)))
        });
        let lookup = Fixed(classes.collect());
        for plugin in [STORAGE, INGRESS] {
            let check = |mut object: Value, expected: Value| {
                plugin.complete(&mut object, &lookup);
                assert_eq!(object["spec"][plugin.field], expected, "{}", plugin.plugin);
            };
            check(json!({}), json!("a"));
            check(json!({"spec": {plugin.field: "mine"}}), json!("mine"));
            check(json!({"spec": {plugin.field: ""}}), json!(""));
            check(json!({"metadata": {"annotations": {plugin.old_annotation: "x"}}, "spec": {}}), Value::Null);
        }
    }
}
