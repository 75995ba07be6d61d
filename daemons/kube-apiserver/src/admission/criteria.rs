//! Whether a webhook or policy is about a request: rules, then the namespace's and the object's labels.

use std::sync::{Arc, OnceLock};

use machinery::gvk::{Gvk, Gvr};
use machinery::meta;
use machinery::selector::LabelSelector;
use machinery::status::Status;
use serde_json::{Map, Value};

use super::rules::{Rule, Subject};
use super::{Operation, Request};
use crate::lookup::Lookup;
use crate::registry::{Registry, Served};

/// What is matched.
pub struct Candidate<'c> {
    pub request: &'c Request<'c>,
    /// Null of a deletion.
    pub object: &'c Value,
    pub old: Option<&'c Value>,
    pub registry: &'c Registry,
    /// The same objects in other versions, sought when the first rule asks for one.
    equivalents: &'c Equivalents,
}

/// The resources of other versions that share a request's objects.
#[derive(Default)]
pub struct Equivalents(OnceLock<Vec<Arc<Served>>>);

/// As what a webhook or policy sees a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Matched {
    pub resource: Gvr,
    pub kind: Gvk,
    /// The object is to be shown in that version instead of the one it came in.
    pub converted: bool,
}

/// The matching part of a webhook, of a policy's `matchConstraints` or of a binding's `matchResources`.
#[derive(Debug)]
pub struct Criteria {
    /// None matches every resource.
    rules: Option<Vec<Rule>>,
    excluded: Vec<Rule>,
    /// Whether rules for another version of the same objects count.
    equivalent: bool,
    namespaces: Result<LabelSelector, String>,
    objects: Result<LabelSelector, String>,
}

impl<'c> Candidate<'c> {
    pub fn new(
        request: &'c Request<'c>,
        object: &'c Value,
        old: Option<&'c Value>,
        registry: &'c Registry,
        equivalents: &'c Equivalents,
    ) -> Self {
        Self { request, object, old, registry, equivalents }
    }

    fn equivalents(&self) -> &[Arc<Served>] {
        self.equivalents.0.get_or_init(|| self.registry.equivalents(self.request.definition))
    }

    /// The labels of the request's namespace; none when the request is in no namespace.
    fn namespace_labels(&self) -> Result<Option<Map<String, Value>>, Status> {
        let request = self.request;
        let own = |object: &Value| Some(meta::labels(object).cloned().unwrap_or_default());
        let is_namespace = request.resource.group.is_empty() && request.resource.resource == "namespaces";
        // The cache does not have what this very request makes of a namespace.
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if is_namespace && request.subresource.is_empty() && writes {
            return Ok(own(self.object));
        }
        let name = request.rule_namespace(self.object);
        if name.is_empty() {
            return Ok(None);
        }
        let namespace = self.registry.object("", "namespaces", "", name);
        namespace.map(|namespace| own(&namespace)).ok_or_else(|| Status::not_found("namespaces", name))
    }
}

impl Criteria {
    /// Of a webhook. Everything that can be left out has its default already.
    pub fn of_webhook(webhook: &Value) -> Self {
        Self { rules: Some(Rule::parse_all(&webhook["rules"])), excluded: Vec::new(), ..Self::selectors(webhook) }
    }

    /// Of a policy (`matchConstraints`).
    pub fn of_policy(constraints: &Value) -> Self {
        let rules = Rule::parse_all(&constraints["resourceRules"]);
        let excluded = Rule::parse_all(&constraints["excludeResourceRules"]);
        Self { rules: Some(rules), excluded, ..Self::selectors(constraints) }
    }

    /// Of a binding (`matchResources`): without rules it is about everything its policy is about.
    pub fn of_binding(resources: &Value) -> Self {
        let policy = Self::of_policy(resources);
        Self { rules: policy.rules.filter(|rules| !rules.is_empty()), ..policy }
    }

    fn selectors(value: &Value) -> Self {
        let selector = |field: &str| match &value[field] {
            Value::Null => Ok(LabelSelector::everything()),
            selector => LabelSelector::from_label_selector(selector).map_err(|error| error.to_string()),
        };
        Self {
            rules: None,
            excluded: Vec::new(),
            equivalent: value["matchPolicy"] != "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// As what the candidate is to be shown; none when this is not about it.
    ///
    /// # Errors
    /// A selector that cannot be read, or a namespace that is not there.
    pub fn matches(&self, candidate: &Candidate<'_>) -> Result<Option<Matched>, Status> {
        let Some(matched) = self.resource(candidate) else { return Ok(None) };
        if !self.object(candidate)? || !self.namespace(candidate)? {
            return Ok(None);
        }
        Ok(Some(matched))
    }

    fn resource(&self, candidate: &Candidate<'_>) -> Option<Matched> {
        let request = candidate.request;
        let namespace = request.rule_namespace(candidate.object);
        let requested = request.requested();
        let by = |rules: &[Rule], resource: &Gvr| {
            let subject = Subject {
                operation: request.operation,
                resource,
                subresource: request.subresource,
                namespace,
                name: request.name,
            };
            rules.iter().any(|rule| rule.matches(subject))
        };
        let others = || candidate.equivalents().iter().filter(|_| self.equivalent);
        let version_of = |served: &Served| {
            let resource = &served.resource;
            Gvr::new(&resource.group, &resource.version, &resource.plural)
        };
        let excluded = |resource: &Gvr| !self.excluded.is_empty() && by(&self.excluded, resource);
        if excluded(&requested) || (!self.excluded.is_empty() && others().any(|served| excluded(&version_of(served)))) {
            return None;
        }
        let itself = || Matched { resource: requested.clone(), kind: request.object_kind(), converted: false };
        let Some(rules) = &self.rules else { return Some(itself()) };
        if by(rules, &requested) {
            return Some(itself());
        }
        let first = |rule: &Rule| others().find(|served| by(std::slice::from_ref(rule), &version_of(served)));
        let served = rules.iter().find_map(first)?;
        let (kind, converted) = match request.own_kind {
            Some(_) => (request.object_kind(), false),
            None => {
                let resource = &served.resource;
                (Gvk::new(&resource.group, &resource.version, &resource.kind), true)
            }
        };
        Some(Matched { resource: version_of(served), kind, converted })
    }

    fn object(&self, candidate: &Candidate<'_>) -> Result<bool, Status> {
        let selector = self.objects.as_ref().map_err(Status::internal)?;
        let matches = |object: &Value| object.is_object() && selector.matches_object(object);
        Ok(selector.is_empty() || matches(candidate.object) || candidate.old.is_some_and(matches))
    }

    fn namespace(&self, candidate: &Candidate<'_>) -> Result<bool, Status> {
        let selector = self.namespaces.as_ref().map_err(Status::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        // What is in no namespace is never exempt by a namespace's labels.
        Ok(candidate.namespace_labels()?.is_none_or(|labels| selector.matches(&labels)))
    }
}

impl Matched {
    /// An object of the request as this match shows it.
    ///
    /// # Errors
    /// Of a conversion webhook.
    pub async fn show(&self, registry: &Registry, object: &Value) -> Result<Value, Status> {
        if self.converted && object.is_object() {
            return registry.shown_as(object, &self.resource).await;
        }
        Ok(object.clone())
    }

    /// The old object as this match shows it; null when there is none.
    ///
    /// # Errors
    /// Of a conversion webhook.
    pub async fn show_old(&self, registry: &Registry, old: Option<&Value>) -> Result<Value, Status> {
        match old {
            Some(old) => self.show(registry, old).await,
            None => Ok(Value::Null),
        }
    }

    /// What was made of a shown object, in the version that the request has.
    ///
    /// # Errors
    /// Of a conversion webhook.
    pub async fn take_back(&self, registry: &Registry, request: &Request<'_>, shown: Value) -> Result<Value, Status> {
        if self.converted { registry.shown_as(&shown, &request.requested()).await } else { Ok(shown) }
    }
}
