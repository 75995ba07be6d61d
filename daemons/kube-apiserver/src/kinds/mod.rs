//! What is particular to a kind: defaults, preparation, validation, table columns, selectable fields.
//!
//! The registry (see `registry`) serves every kind alike and asks a [`Strategy`] for the differences. A kind says only what is
//! its own by implementing [`Rules`]; hooks it does not need have defaults, so that a kind without rules stores, lists,
//! watches and patches like any other. Nothing here does I/O or reads a clock.

mod admission;
mod autoscaling;
mod certificates;
mod config;
mod containers;
mod defaults;
mod devices;
mod endpoints;
mod event;
mod extension;
mod flow_control;
mod jobs;
mod lease;
mod namespace;
mod networking;
mod node;
mod pod;
mod pod_spec;
mod pod_validation;
mod policy;
mod quota;
mod rbac;
mod scheduling;
mod service;
mod service_cidr;
mod storage;
mod storage_migration;
mod table;
mod validate;
mod value;
mod volumes;
mod workloads;

use jiff::Timestamp;
use machinery::field::FieldErrors;
use machinery::meta;
use machinery::selector::{FieldSelector, FieldTerm};
use schema::{Resource, TypeRef, builtin};
use serde_json::{Value, json};

use crate::authn::user::User;

pub use pod_spec::qos_class;
pub use table::Column;

/// A field that field selectors may name, and how its value is read.
pub type Selectable = (&'static str, fn(&Value) -> String);

/// What a kind does differently from the generic one. Objects arrive in the version they were sent in, with known
/// fields of the right types only.
pub trait Rules: Send + Sync + 'static {
    /// Fills in what the sender left out, beyond what its types' defaults do.
    fn default(&self, _object: &mut Value) {}
    /// Removes what a creator may not set and adds what the server decides. The status is gone already.
    fn prepare_for_create(&self, _object: &mut Value) {}
    /// The same for an update of the object (`subresource` is empty) or of a subresource. Status and the rest are kept apart
    /// already.
    fn prepare_for_update(&self, _new: &mut Value, _old: &Value, _subresource: &str) {}
    /// Everything that is wrong with the object beyond its metadata.
    fn validate(&self, _object: &Value, _errors: &mut FieldErrors) {}
    /// What may not be in a new object, though it may come later.
    fn validate_new(&self, _object: &Value, _errors: &mut FieldErrors) {}
    /// Everything that is wrong with the change beyond what `validate` says of the new object.
    fn validate_update(&self, _new: &Value, _old: &Value, _subresource: &str, _errors: &mut FieldErrors) {}
    /// The table that `kubectl get` prints.
    fn columns(&self) -> &'static [Column] {
        table::GENERIC
    }
    /// Beyond `metadata.name` and `metadata.namespace`.
    fn selectable(&self) -> &'static [Selectable] {
        &[]
    }
    /// What the store calls a field that selectors of this version name otherwise.
    fn stored_field(&self, _field: &str) -> Option<&'static str> {
        None
    }
    /// Notes who creates the object, in kinds that record it.
    fn set_creator(&self, _object: &mut Value, _user: &User) {}
    /// What the client should hear about an object that is accepted all the same.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }
    /// Whether a creator's status is kept: a node reports itself.
    fn keeps_status(&self) -> bool {
        false
    }
    /// Whether an update of the status leaves labels, annotations and the like as they are.
    fn status_keeps_metadata(&self) -> bool {
        false
    }
    /// Whether `metadata.generation` counts the changes of everything but metadata and status.
    fn has_generation(&self) -> bool {
        false
    }
    /// Whether it counts this change of the metadata too.
    fn counts_metadata(&self, _new: &Value, _old: &Value) -> bool {
        false
    }
}

/// A kind that only has columns.
struct Columns(&'static [Column]);

impl Rules for Columns {
    fn columns(&self) -> &'static [Column] {
        self.0
    }
}

/// A kind without rules.
struct Generic;

impl Rules for Generic {}

/// A custom resource: it counts its changes, and that is all.
struct Custom;

impl Rules for Custom {
    fn has_generation(&self) -> bool {
        true
    }
}

fn rules(group: &str, kind: &str) -> &'static dyn Rules {
    match (group, kind) {
        ("", "ComponentStatus") => &Columns(node::COMPONENT_STATUS),
        ("", "ConfigMap") => &config::ConfigMap,
        ("", "Endpoints") => &endpoints::Endpoints,
        ("", "Event") => &event::CoreEvent,
        ("", "LimitRange") => &quota::LimitRange,
        ("", "Namespace") => &namespace::Namespace,
        ("", "Node") => &node::Node,
        ("", "PersistentVolume") => &volumes::PersistentVolume,
        ("", "PersistentVolumeClaim") => &volumes::PersistentVolumeClaim,
        ("", "Pod") => &pod::Pod,
        ("", "PodTemplate") => &workloads::PodTemplate,
        ("", "ReplicationController") => &workloads::ReplicationController,
        ("", "ResourceQuota") => &quota::ResourceQuota,
        ("", "Secret") => &config::Secret,
        ("", "Service") => &service::Service,
        ("", "ServiceAccount") => &config::ServiceAccount,
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            &admission::WebhookConfiguration
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => &admission::ValidatingPolicy,
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => &admission::MutatingPolicy,
        ("admissionregistration.k8s.io", _) => &admission::PolicyBinding,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => &extension::CustomResourceDefinition,
        ("apiregistration.k8s.io", "APIService") => &extension::ApiService,
        ("apps", "ControllerRevision") => &workloads::ControllerRevision,
        ("apps", "DaemonSet") => &workloads::DaemonSet,
        ("apps", "Deployment") => &workloads::Deployment,
        ("apps", "ReplicaSet") => &workloads::ReplicaSet,
        ("apps", "StatefulSet") => &workloads::StatefulSet,
        ("autoscaling", "HorizontalPodAutoscaler") => &autoscaling::HorizontalPodAutoscaler,
        ("autoscaling", "Scale") => &autoscaling::Scale,
        ("batch", "CronJob") => &jobs::CronJob,
        ("batch", "Job") => &jobs::Job,
        ("certificates.k8s.io", "CertificateSigningRequest") => &certificates::CertificateSigningRequest,
        ("coordination.k8s.io", "Lease") => &lease::Lease,
        ("discovery.k8s.io", "EndpointSlice") => &endpoints::EndpointSlice,
        ("events.k8s.io", "Event") => &event::NewEvent,
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => &flow_control::FlowSchema,
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => &flow_control::PriorityLevel,
        ("networking.k8s.io", "Ingress") => &networking::Ingress,
        ("networking.k8s.io", "IngressClass") => &networking::IngressClass,
        ("networking.k8s.io", "IPAddress") => &service_cidr::IpAddress,
        ("networking.k8s.io", "NetworkPolicy") => &networking::NetworkPolicy,
        ("networking.k8s.io", "ServiceCIDR") => &service_cidr::ServiceCidr,
        ("node.k8s.io", "RuntimeClass") => &scheduling::RuntimeClass,
        ("policy", "PodDisruptionBudget") => &policy::PodDisruptionBudget,
        ("rbac.authorization.k8s.io", "ClusterRole" | "Role") => &rbac::Role,
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => &rbac::CLUSTER_ROLE_BINDING,
        ("rbac.authorization.k8s.io", "RoleBinding") => &rbac::ROLE_BINDING,
        ("resource.k8s.io", "DeviceClass") => &devices::DeviceClass,
        ("resource.k8s.io", "ResourceClaim") => &devices::ResourceClaim,
        ("resource.k8s.io", "ResourceClaimTemplate") => &Columns(table::NAME_AND_AGE),
        ("resource.k8s.io", "ResourceSlice") => &devices::ResourceSlice,
        ("scheduling.k8s.io", "PriorityClass") => &scheduling::PriorityClass,
        ("storage.k8s.io", "CSIDriver") => &storage::CsiDriver,
        ("storage.k8s.io", "CSINode") => &Columns(storage::CSI_NODE),
        ("storage.k8s.io", "StorageClass") => &storage::StorageClass,
        ("storage.k8s.io", "VolumeAttachment") => &storage::VolumeAttachment,
        ("storage.k8s.io", "VolumeAttributesClass") => &Columns(storage::VOLUME_ATTRIBUTES_CLASS),
        ("storagemigration.k8s.io", "StorageVersionMigration") => &storage_migration::StorageVersionMigration,
        _ => &Generic,
    }
}

/// The rules of one resource with what all kinds have in common. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Strategy {
    rules: &'static dyn Rules,
    ty: Option<TypeRef<'static>>,
    has_status: bool,
}

/// The strategy of a built-in resource.
pub fn strategy(resource: &Resource) -> Strategy {
    Strategy {
        rules: rules(&resource.group, &resource.kind),
        ty: builtin().type_of(&resource.group, &resource.version, &resource.kind),
        has_status: resource.subresource("status").is_some(),
    }
}

impl Strategy {
    /// The strategy of a kind that a CustomResourceDefinition defines.
    pub fn custom(has_status: bool) -> Self {
        Self { rules: &Custom, ty: None, has_status }
    }

    /// Fills in what the sender left out. Idempotent.
    pub fn default(&self, object: &mut Value) {
        self.rules.default(object);
        if let Some(ty) = self.ty {
            defaults::complete(object, ty);
        }
    }

    /// Removes what a creator may not set (status) and sets the first generation.
    pub fn prepare_for_create(&self, object: &mut Value) {
        if self.has_status && !self.rules.keeps_status() {
            match self.ty {
                Some(_) => value::set(object, "status", json!({})),
                None => value::unset(object, "status"),
            }
        }
        if self.rules.has_generation() {
            meta::metadata_mut(object).insert("generation".to_owned(), json!(1));
        }
        self.rules.prepare_for_create(object);
    }

    /// Keeps the parts that this request may not change as they were and counts the generation up. `subresource` is empty
    /// for the object itself.
    pub fn prepare_for_update(&self, new: &mut Value, old: &Value, subresource: &str) {
        match subresource {
            "" if self.has_status => value::restore(new, old, "status"),
            "status" => {
                keep_all_but_status(new, old);
                if self.is_custom() || self.rules.status_keeps_metadata() {
                    keep_metadata(new, old);
                }
            }
            _ => {}
        }
        self.rules.prepare_for_update(new, old, subresource);
        if self.rules.has_generation() {
            // A custom resource without that subresource has a status like any other field.
            let status = self.is_custom() && !self.has_status && new.get("status") != old.get("status");
            let changed = subresource != "status" && (status || is_changed(new, old) || self.rules.counts_metadata(new, old));
            let generation = meta::generation(old) + i64::from(changed);
            meta::metadata_mut(new).insert("generation".to_owned(), json!(generation));
        }
    }

    fn is_custom(&self) -> bool {
        self.ty.is_none()
    }

    /// Notes who creates the object, in kinds that record it.
    pub fn set_creator(&self, object: &mut Value, user: &User) {
        self.rules.set_creator(object, user);
    }

    /// What the client should hear about an object that is accepted all the same.
    pub fn warnings(&self, object: &Value) -> Vec<String> {
        self.rules.warnings(object)
    }

    pub fn validate_create(&self, object: &Value) -> FieldErrors {
        let mut errors = FieldErrors::default();
        self.rules.validate(object, &mut errors);
        self.rules.validate_new(object, &mut errors);
        errors
    }

    pub fn validate_update(&self, new: &Value, old: &Value, subresource: &str) -> FieldErrors {
        let mut errors = FieldErrors::default();
        self.rules.validate_update(new, old, subresource, &mut errors);
        if subresource.is_empty() {
            self.rules.validate(new, &mut errors);
        }
        errors
    }

    pub fn columns(&self) -> &'static [Column] {
        self.rules.columns()
    }

    /// The cells of one row, one for each column.
    pub fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let row = table::Row { object, now };
        self.rules.columns().iter().map(|column| (column.cell)(&row)).collect()
    }

    /// The selector in the store's names of fields: versions of a kind share a store, and may name fields differently.
    pub fn stored_selector(&self, selector: FieldSelector) -> FieldSelector {
        let stored = |term: &FieldTerm| {
            let field = self.rules.stored_field(&term.field).map_or_else(|| term.field.clone(), str::to_owned);
            FieldTerm { field, ..term.clone() }
        };
        FieldSelector::new(selector.terms().iter().map(stored).collect())
    }

    /// The fields a field selector may name, with their values.
    pub fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let metadata =
            [("metadata.name", meta::name(object).to_owned()), ("metadata.namespace", meta::namespace(object).to_owned())];
        let own = self.rules.selectable().iter().map(|(name, read)| (*name, read(object)));
        metadata.into_iter().chain(own).collect()
    }
}

/// An update of the status changes nothing else but labels and annotations.
fn keep_all_but_status(new: &mut Value, old: &Value) {
    let (Some(new), Some(old)) = (new.as_object_mut(), old.as_object()) else { return };
    let kept = |field: &str| !matches!(field, "status" | "metadata" | "apiVersion" | "kind");
    new.retain(|field, _| !kept(field));
    for (field, value) in old.iter().filter(|(field, _)| kept(field)) {
        new.insert(field.clone(), value.clone());
    }
}

/// Leaves the metadata as it is, but for who changed what.
fn keep_metadata(new: &mut Value, old: &Value) {
    let managed = meta::metadata_mut(new).remove("managedFields");
    value::restore(new, old, "metadata");
    let metadata = meta::metadata_mut(new);
    metadata.remove("managedFields");
    metadata.extend(managed.map(|managed| ("managedFields".to_owned(), managed)));
}

/// Whether anything but metadata and status differs.
fn is_changed(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return new != old };
    let counted = |field: &str| !matches!(field, "status" | "metadata" | "apiVersion" | "kind");
    let differs = |a: &serde_json::Map<String, Value>, b: &serde_json::Map<String, Value>| {
        a.iter().any(|(field, value)| counted(field) && b.get(field) != Some(value))
    };
    differs(new, old) || differs(old, new)
}

#[cfg(test)]
mod tests;
