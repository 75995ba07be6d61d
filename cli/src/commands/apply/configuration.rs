//! What client-side apply writes down of itself: the object as it was applied, as JSON in an annotation.

use machinery::{apply::LAST_APPLIED, gotext, meta};
use serde_json::{Value, json};

/// The object without the annotation, with annotations even if there are none, as kubectl writes it down.
pub fn bare(object: &Value) -> Value {
    let mut bare = object.clone();
    meta::set_annotation(&mut bare, LAST_APPLIED, None);
    meta::metadata_mut(&mut bare).entry("annotations").or_insert_with(|| json!({}));
    bare
}

/// The text of the annotation for an object.
pub fn text(object: &Value) -> String {
    gotext::json(&bare(object)) + "\n"
}

/// The same of an object that was made from flags: with nothing in it that is not said, and the namespace only if it was.
pub fn annotated_as_is(object: &Value, namespace_given: bool) -> Value {
    let mut said = object.clone();
    if !namespace_given {
        meta::metadata_mut(&mut said).remove("namespace");
    }
    let text = gotext::json(&said) + "\n";
    let mut object = object.clone();
    meta::set_annotation(&mut object, LAST_APPLIED, Some(&text));
    object
}

/// The object with what is applied now as its annotation.
pub fn annotated(object: &Value) -> Value {
    let mut object = object.clone();
    let text = text(&object);
    meta::set_annotation(&mut object, LAST_APPLIED, Some(&text));
    object
}

/// What was applied last; none for an object that nobody applied.
///
/// # Errors
/// When the annotation is no JSON.
pub fn last_applied(object: &Value) -> Result<Option<Value>, serde_json::Error> {
    meta::annotation(object, LAST_APPLIED).filter(|text| !text.is_empty()).map(serde_json::from_str).transpose()
}

/// A null in a file means that a field is not there. A patch says so with it; a new object just has no such field.
pub fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down() {
        let object = json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "<1>", "y": null}});
        let want = "{\"data\":{\"x\":\"\\u003c1\\u003e\",\"y\":null},\"kind\":\"ConfigMap\",\"metadata\":{\"annotations\":{},\"name\":\"a\"}}\n";
        assert_eq!(text(&object), want);
        let applied = annotated(&object);
        assert_eq!(meta::annotation(&applied, LAST_APPLIED), Some(want));
        assert_eq!(text(&applied), want, "the annotation is no part of itself");
        assert_eq!(last_applied(&applied).unwrap().unwrap()["data"], object["data"]);
        assert!(last_applied(&object).unwrap().is_none());
    }

    #[test]
    fn nulls_of_a_new_object() {
        let mut object = json!({"a": null, "b": {"c": null, "d": [{"e": null}, 1]}});
        drop_nulls(&mut object);
        assert_eq!(object, json!({"b": {"d": [{}, 1]}}));
    }
}
