//! Strategic merge patches: of any object by any patch, and the diffs between valid ones.

use machinery::patch::strategic;
use serde_json::{Value, json};

use crate::choices::Choices;
use crate::documents::{depth, halves, value};
use crate::json::{decoded, type_of};
use crate::typed;

/// An object and a patch of it.
pub(crate) fn text(data: &[u8]) {
    let (object, patch) = halves(data);
    let (Some(object), Some(patch)) = (value(object), value(patch)) else { return };
    let ty = type_of(&object);
    let (before, change) = (depth(&object), depth(&patch));
    if let Ok(patched) = strategic::apply(&object, &patch, ty) {
        assert!(depth(&patched) <= before.max(change));
        decoded(patched);
    }
    if let Ok(diff) = strategic::create_two_way(&object, &patch, ty) {
        let _ = strategic::apply(&object, &diff, ty);
    }
    let _ = strategic::create_three_way(&patch, &object, &patch, ty).map(|diff| strategic::apply(&patch, &diff, ty));
}

/// Two valid objects of one kind: the diff of one to the other leads there.
pub(crate) fn typed(data: &[u8]) {
    let mut choices = Choices::new(data);
    let kind = typed::kind(&mut choices);
    let original = typed::object(kind, &mut choices);
    let modified = typed::object(kind, &mut choices);
    let ty = kind.2;

    assert_eq!(strategic::apply(&original, &json!({}), ty).as_ref(), Ok(&original));
    assert_eq!(strategic::create_two_way(&original, &original, ty), Ok(json!({})));
    let diff = strategic::create_two_way(&original, &modified, ty).expect("a diff");
    let there = strategic::apply(&original, &diff, ty).unwrap_or_else(|why| panic!("{why}: {diff}"));
    assert_eq!(sorted(&there), sorted(&modified), "{diff}");
    // Nobody else wrote: a three-way diff is a two-way one.
    let diff = strategic::create_three_way(&original, &modified, &original, ty).expect("a diff");
    let there = strategic::apply(&original, &diff, ty).unwrap_or_else(|why| panic!("{why}: {diff}"));
    assert_eq!(sorted(&there), sorted(&modified), "{diff}");
}

/// Lists in one order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(sorted).collect();
            items.sort_by_cached_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect()),
        other => other.clone(),
    }
}
