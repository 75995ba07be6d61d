//! What is to be admitted.

use machinery::gvk::{GroupResource, Gvk, Gvr};
use machinery::status::Status;
use schema::Resource;
use serde_json::{Value, json};

use crate::authn::user::User;
use crate::registry::options::{DeleteOptions, FieldValidation, WriteOptions};
use crate::registry::{Context, Served};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// As rules and reviews name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A request as admission plugins see it. Its object and the old one are given beside it.
pub struct Request<'r> {
    pub cx: &'r Context,
    /// The resource as it was asked for, with its version.
    pub definition: &'r Resource,
    pub user: &'r User,
    pub operation: Operation,
    pub resource: GroupResource,
    /// The resource's kind.
    pub kind: &'r str,
    /// (apiVersion, kind) of the object, where a subresource has one of its own.
    pub own_kind: Option<(&'r str, &'r str)>,
    pub subresource: &'r str,
    pub namespace: &'r str,
    /// Empty when the name is still to be generated.
    pub name: &'r str,
    pub dry_run: bool,
    /// Of a deletion.
    pub grace_period_seconds: Option<i64>,
    /// Of a deletion.
    pub delete_options: Option<&'r DeleteOptions>,
}

impl<'r> Request<'r> {
    pub fn new(
        cx: &'r Context,
        served: &'r Served,
        operation: Operation,
        subresource: &'r str,
        namespace: &'r str,
        name: &'r str,
    ) -> Self {
        Self {
            cx,
            definition: &served.resource,
            user: &cx.user,
            operation,
            resource: served.group_resource(),
            kind: &served.resource.kind,
            own_kind: None,
            subresource,
            namespace,
            name,
            dry_run: cx.options.dry_run,
            grace_period_seconds: None,
            delete_options: None,
        }
    }

    /// A request for a built-in resource, for tests.
    #[cfg(test)]
    pub fn for_tests(
        cx: &'r Context,
        operation: Operation,
        resource: GroupResource,
        subresource: &'r str,
        namespace: &'r str,
        name: &'r str,
    ) -> Self {
        let all = &schema::builtin().resources;
        let of = |r: &&Resource| r.group == resource.group && r.plural == resource.resource;
        let definition = all.iter().find(of).expect("a built-in resource");
        Self {
            cx,
            definition,
            user: &cx.user,
            operation,
            resource,
            kind: &definition.kind,
            own_kind: None,
            subresource,
            namespace,
            name,
            dry_run: false,
            grace_period_seconds: None,
            delete_options: None,
        }
    }

    /// The same, about an object of another kind than the resource's.
    #[must_use]
    pub fn of_kind(mut self, api_version: &'r str, kind: &'r str) -> Self {
        self.own_kind = Some((api_version, kind));
        self
    }

    /// The same, for a deletion.
    #[must_use]
    pub fn deleting(mut self, options: &'r DeleteOptions, dry_run: bool) -> Self {
        self.grace_period_seconds = options.grace_period_seconds;
        self.delete_options = Some(options);
        self.dry_run |= dry_run;
        self
    }

    /// Whether this is about the resource itself, not a subresource.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.resource == resource && self.subresource.is_empty()
    }

    pub fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(&self.resource, self.name, why)
    }

    /// Group, version and kind of the object in the request.
    pub fn object_kind(&self) -> Gvk {
        match self.own_kind {
            Some((api_version, kind)) => {
                let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
                Gvk::new(group, version, kind)
            }
            None => Gvk::new(&self.definition.group, &self.definition.version, self.kind),
        }
    }

    /// Group, version and plural name as they were asked for.
    pub fn requested(&self) -> Gvr {
        let resource = self.definition;
        Gvr::new(&resource.group, &resource.version, &resource.plural)
    }

    /// The namespace as rules see it: the request about a namespace is in that namespace.
    pub fn rule_namespace<'a>(&'a self, object: &'a Value) -> &'a str {
        match self.resource.group.is_empty() && self.resource.resource == "namespaces" {
            true if self.name.is_empty() => machinery::meta::name(object),
            true => self.name,
            false => self.namespace,
        }
    }

    /// The options object of the request; null when the operation has none.
    pub fn options(&self) -> Value {
        match (self.operation, self.delete_options) {
            (Operation::Create, _) => write_options("CreateOptions", &self.cx.options),
            (Operation::Update, _) => write_options("UpdateOptions", &self.cx.options),
            (Operation::Delete, options) => {
                let mut value = options.and_then(|options| serde_json::to_value(options).ok()).unwrap_or_else(|| json!({}));
                value["kind"] = json!("DeleteOptions");
                value["apiVersion"] = json!("meta.k8s.io/v1");
                value
            }
            (Operation::Connect, _) => Value::Null,
        }
    }
}

fn write_options(kind: &str, options: &WriteOptions) -> Value {
    let mut value = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if options.dry_run {
        value["dryRun"] = json!(["All"]);
    }
    if options.manager_given {
        value["fieldManager"] = json!(options.field_manager);
    }
    match options.field_validation {
        FieldValidation::Warn => {}
        FieldValidation::Ignore => value["fieldValidation"] = json!("Ignore"),
        FieldValidation::Strict => value["fieldValidation"] = json!("Strict"),
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_objects() {
        let given = WriteOptions { dry_run: true, field_manager: "me".into(), manager_given: true, ..WriteOptions::default() };
        let expected = json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"], "fieldManager": "me"});
        assert_eq!(write_options("CreateOptions", &given), expected);
        let guessed = WriteOptions { field_manager: "curl".into(), ..WriteOptions::default() };
        assert_eq!(write_options("UpdateOptions", &guessed), json!({"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"}));
    }
}
