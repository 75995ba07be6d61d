//! JSON bodies: what the API server makes of one, strictly and leniently.

use schema::{TypeRef, builtin, strict};
use serde_json::Value;

use crate::documents::{DEPTH_MAX, depth, same};

pub(crate) fn run(data: &[u8]) {
    let lenient = serde_json::from_slice::<Value>(data);
    let Ok((value, _)) = machinery::json::parse_strict(data) else {
        assert!(lenient.is_err(), "only the strict reader refuses it");
        return;
    };
    assert_eq!(lenient.ok().as_ref(), Some(&value), "both readers agree");
    assert!(depth(&value) <= DEPTH_MAX);
    let (again, repeated) = machinery::json::parse_strict(value.to_string().as_bytes()).expect("what is printed can be read");
    assert!(same(&again, &value) && repeated.is_empty(), "{again} is not {value}");
    decoded(value);
}

/// The type that an object says it has, or that of Pods.
pub(crate) fn type_of(value: &Value) -> TypeRef<'static> {
    let (api_version, kind) = (machinery::meta::api_version(value), machinery::meta::kind(value));
    let pod = || builtin().type_of_api_version("v1", "Pod").expect("Pods are built in");
    builtin().type_of_api_version(api_version, kind).unwrap_or_else(pod)
}

/// What is stored of a decoded object; none when it does not fit its type.
pub(crate) fn decoded(mut value: Value) -> Option<Value> {
    let ty = type_of(&value);
    let problems = strict::check(&value, ty);
    for problem in &problems {
        assert!(!problem.to_string().is_empty());
    }
    let mut pruned = value.clone();
    strict::prune(&mut pruned, ty);
    if problems.iter().any(strict::StrictError::is_fatal) {
        return None;
    }
    strict::normalise(&mut value, ty);
    assert_eq!(strict::check(&value, ty), [], "what is stored fits its type: {value}");
    let once = value.clone();
    strict::normalise(&mut value, ty);
    assert_eq!(value, once, "normalised is normalised");
    strict::normalise(&mut pruned, ty);
    assert_eq!(value, pruned, "undeclared fields are dropped by both");
    Some(value)
}
