//! Label and field selectors.

use machinery::selector::{FieldSelector, LabelSelector};
use serde_json::json;

use crate::documents::value;

pub(crate) fn labels(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let object = json!({"metadata": {"labels": {"a": "b", "x": "5", "app.kubernetes.io/name": "n", "empty": ""}}});
    if let Some(selector) = value(data).and_then(|value| LabelSelector::from_label_selector(&value).ok()) {
        selector.matches_object(&object);
    }
    let Ok(selector) = LabelSelector::parse(text) else { return };
    let printed = selector.to_string();
    let again = LabelSelector::parse(&printed).unwrap_or_else(|why| panic!("{why}: {printed}"));
    assert_eq!(again.to_string(), printed);
    assert_eq!(again.matches_object(&object), selector.matches_object(&object), "{printed}");
}

pub(crate) fn fields(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(selector) = FieldSelector::parse(text) else { return };
    // A term that a selector requires is one that it matches by.
    for term in selector.terms() {
        let required = selector.requires_exact_match(&term.field);
        assert!(!term.equal || required.is_some(), "{text}");
    }
    let exact: Vec<(&str, &str)> =
        selector.terms().iter().filter(|term| term.equal).map(|term| (term.field.as_str(), term.value.as_str())).collect();
    let get = |field: &str| exact.iter().find(|(known, _)| *known == field).map(|(_, value)| *value);
    let contradicts = selector.terms().iter().any(|term| (get(&term.field).unwrap_or_default() == term.value) != term.equal);
    assert_eq!(selector.matches(get), !contradicts);
}
