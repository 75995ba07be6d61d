//! Rules of CustomResourceDefinitions (`x-kubernetes-validations`): what is wrong with them when a definition is written, and
//! what they say of an object. Upstream's `apiextensions-apiserver/pkg/apiserver/schema/cel`. Pure.

mod compile;
mod correlation;
mod definition;
mod path;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use machinery::field::FieldErrors;
use serde_json::Value as Json;

use crate::{Decl, Program};

pub use definition::check;

/// The rules of one version's schema, compiled.
#[derive(Debug)]
pub struct Rules(Node);

/// What rules say of an object.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    pub errors: FieldErrors,
    /// What was wrong before and did not change (CRDValidationRatcheting, KEP-4008): told, not held against the writer.
    pub warnings: Vec<String>,
}

impl Rules {
    /// The rules of a version's `openAPIV3Schema`; nothing when it has none.
    pub fn compile(schema: &Json) -> Option<Self> {
        if !compile::has_rules(schema) {
            return None;
        }
        let decl = Decl::from_schema(schema, true, compile::SELF_TYPE).map(Arc::new);
        Node::compile(schema, schema, decl).map(Self)
    }

    /// Evaluates every rule under upstream's budget for one object; rules about a change only where there is an old state.
    pub fn validate(&self, object: &Json, old: Option<&Json>) -> Verdict {
        validate::validate(&self.0, object, old)
    }
}

/// The rules of one place in a schema and beneath it.
#[derive(Debug)]
struct Node {
    /// The schema's type, which upstream shows instead of the value.
    ty: String,
    decl: Option<Arc<Decl>>,
    rules: Vec<Rule>,
    items: Option<Box<Node>>,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    all_of: Vec<Node>,
    /// The keys of a list-map; empty for other lists.
    list_keys: Vec<String>,
}

/// One rule.
#[derive(Debug)]
struct Rule {
    program: Result<Program, String>,
    uses_old: bool,
    optional_old: bool,
    text: String,
    message: String,
    message_program: Option<Result<Program, String>>,
    reason: String,
    /// Relative to the place of the rule.
    field_path: Option<String>,
}

impl Rule {
    /// How messages name the rule.
    fn name(&self) -> &str {
        if self.message.is_empty() { self.text.trim() } else { self.message.trim() }
    }

    fn default_message(&self) -> String {
        if self.message.is_empty() { format!("failed rule: {}", self.text.trim()) } else { self.message.trim().to_owned() }
    }
}
