//! Server-side apply: several managers apply and update one object.

use jiff::Timestamp;
use machinery::apply::{ApplyError, Element, Set, Writer, apply, decode_managers, path_text, update_managers};
use machinery::meta;
use serde_json::Value;

use crate::choices::Choices;
use crate::typed::{self, Kind};

const MANAGERS: [&str; 3] = ["a", "b", "kubectl"];
const STEPS_MAX: i64 = 8;

pub(crate) fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let kind = typed::kind(&mut choices);
    let mut live: Option<Value> = None;
    for step in 0..STEPS_MAX {
        if choices.is_empty() {
            break;
        }
        let writer = Writer {
            manager: choices.one(&MANAGERS),
            api_version: kind.0,
            subresource: "",
            now: Timestamp::from_second(1_700_000_000 + step).expect("a time of this century"),
            ignored: None,
            versions: None,
        };
        let action = choices.below(4);
        let object = typed::object(kind, &mut choices);
        let next = match action {
            0 => updated(live.as_ref(), object, kind, &writer),
            1 => applied(live.as_ref(), &object, kind, &writer, true),
            _ => match applied_if_no_conflict(live.as_ref(), &object, kind, &writer) {
                Some(next) => next,
                None => continue,
            },
        };
        owners_own_what_is_there(&next);
        live = Some(next);
    }
}

fn updated(live: Option<&Value>, mut new: Value, kind: Kind, writer: &Writer<'_>) -> Value {
    update_managers(live, &mut new, kind.2, writer);
    let mut same = new.clone();
    update_managers(Some(&new), &mut same, kind.2, writer);
    assert_eq!(same, new, "an update that changes nothing changes no owner");
    new
}

fn applied_if_no_conflict(live: Option<&Value>, object: &Value, kind: Kind, writer: &Writer<'_>) -> Option<Value> {
    match apply(live, object, kind.2, writer, false) {
        Err(error @ ApplyError::Conflicts(_)) => {
            assert!(error.to_string().starts_with("Apply failed with "));
            applied(live, object, kind, writer, true);
            None
        }
        _ => Some(applied(live, object, kind, writer, false)),
    }
}

fn applied(live: Option<&Value>, object: &Value, kind: Kind, writer: &Writer<'_>, force: bool) -> Value {
    // Upstream takes a map away that is emptied and held only what goes, though it is applied again as an empty one. So do we.
    let _ = apply(live, object, kind.2, writer, force);
    let object = &without_empty_maps(object);
    let next = apply(live, object, kind.2, writer, force).unwrap_or_else(|why| panic!("{why}: {object}"));
    assert!(holds(&next, object), "{object} was applied, and the result is {next}");
    let later = Writer { now: Timestamp::from_second(1_800_000_000).expect("a time of this century"), ..*writer };
    let again = apply(Some(&next), object, kind.2, &later, false).unwrap_or_else(|why| panic!("again: {why}"));
    assert_eq!(again, next, "applying twice is applying once");
    next
}

fn without_empty_maps(value: &Value) -> Value {
    let Value::Object(map) = value else { return value.clone() };
    let kept = map.iter().map(|(key, value)| (key.clone(), without_empty_maps(value)));
    kept.filter(|(_, value)| value.as_object().is_none_or(|map| !map.is_empty())).collect()
}

/// Whether everything in the configuration stands in the object; items of lists may have moved.
fn holds(object: &Value, configuration: &Value) -> bool {
    match (object, configuration) {
        (Value::Object(object), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| object.get(key).is_some_and(|value| holds(value, wanted)))
        }
        (Value::Array(items), Value::Array(wanted)) => wanted.iter().all(|wanted| items.iter().any(|item| holds(item, wanted))),
        (value, wanted) => value == wanted,
    }
}

fn owners_own_what_is_there(object: &Value) {
    for manager in decode_managers(object) {
        assert_eq!(Set::from_fields_v1(&manager.fields.to_fields_v1()), manager.fields, "a set survives its encoding");
        manager.fields.each(&mut |path| {
            assert!(at(object, path).is_some(), "{} owns {}, which is not in {}", manager.name, path_text(path), bare(object));
        });
    }
}

fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    meta::remove_path(&mut object, &["metadata", "managedFields"]);
    object
}

fn at<'o>(value: &'o Value, path: &[Element]) -> Option<&'o Value> {
    let Some((first, rest)) = path.split_first() else { return Some(value) };
    let mut items = value.as_array().into_iter().flatten();
    let below = match first {
        Element::Field(name) => value.get(name)?,
        // A key field that is left out has its default.
        Element::Key(keys) => items.find(|item| keys.iter().all(|(key, value)| item.get(key).is_none_or(|v| v == value)))?,
        Element::Value(wanted) => items.find(|item| *item == wanted)?,
        Element::Index(index) => value.get(usize::try_from(*index).ok()?)?,
    };
    at(below, rest)
}
