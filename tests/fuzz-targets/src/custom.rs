//! Schemas of CustomResourceDefinitions: a schema with its defaults and rules, and an object of it.

use cel::rules::{Rules, check};
use machinery::field::Path;
use schema::strict;
use schema::structural::Structural;
use serde_json::json;

use crate::documents::{halves, value};

pub(crate) fn run(data: &[u8]) {
    let (schema, object) = halves(data);
    let Some(schema) = value(schema) else { return };
    let mut object = value(object).unwrap_or_else(|| json!({"spec": {"a": 1}}));
    let errors = check(&schema, &Path::new("openAPIV3Schema"));
    let structural = Structural::compile(&schema, "Kind");
    let ty = structural.type_ref();
    let _ = strict::check(&object, ty);
    strict::prune(&mut object, ty);
    let pruned = object.clone();
    strict::prune(&mut object, ty);
    assert_eq!(object, pruned);
    structural.default(&mut object);
    if let Some(rules) = errors.is_empty().then(|| Rules::compile(&schema)).flatten() {
        let verdict = rules.validate(&object, Some(&pruned));
        assert!(verdict.errors.iter().all(|error| !error.to_string().is_empty()));
    }
}
