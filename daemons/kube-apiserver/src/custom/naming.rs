//! Which names a definition gets: those that no other definition of its group has. Pure.

use std::collections::BTreeSet;

use machinery::field::aggregate;
use machinery::meta;
use serde_json::{Map, Value, json};

/// The status that a definition should have, given all definitions there are; none when it has it.
///
/// Names are accepted one by one; a definition is established with its first complete set of names, for good.
pub fn decide(definition: &Value, all: &[Value], now: &str) -> Option<Value> {
    let wanted = &definition["spec"]["names"];
    let given = &definition["status"]["acceptedNames"];
    let settled = normal(wanted) == normal(given) && find(definition, "NamesAccepted").is_some();
    if settled && (is_true(definition, "Established") || !is_true(definition, "NamesAccepted")) {
        return None;
    }
    let taken = Taken::by_others(definition, all);
    let (names, accepted) = accept(wanted, given, &taken);
    let mut new = definition.clone();
    meta::set_path(&mut new, &["status", "acceptedNames"], names);
    let all_accepted = accepted.1 == "NoConflicts";
    set_condition(&mut new, "NamesAccepted", if all_accepted { "True" } else { "False" }, &accepted.1, &accepted.0, now);
    if !is_true(definition, "Established") {
        if all_accepted && super::definition::wrong_authorities(definition).is_some() {
            let message = "The conversion webhook CABundle is invalid";
            set_condition(&mut new, "Established", "False", "InvalidCABundle", message, now);
        } else if all_accepted {
            set_condition(&mut new, "Established", "True", "InitialNamesAccepted", "the initial names have been accepted", now);
        } else {
            set_condition(&mut new, "Established", "False", "NotAccepted", "not all names are accepted", now);
        }
    }
    (new["status"] != definition["status"]).then(|| new["status"].take())
}

/// Whether the condition is there and true.
pub fn is_true(definition: &Value, kind: &str) -> bool {
    find(definition, kind).is_some_and(|condition| condition["status"] == "True")
}

pub(super) fn find<'d>(definition: &'d Value, kind: &str) -> Option<&'d Value> {
    definition["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Sets a condition; its time changes with its status only.
pub(super) fn set_condition(definition: &mut Value, kind: &str, status: &str, reason: &str, message: &str, now: &str) {
    let condition = json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now});
    let status_map = meta::as_object_mut(meta::as_object_mut(definition).entry("status").or_insert(Value::Null));
    let conditions = status_map.entry("conditions").or_insert(Value::Null);
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Value::Array(conditions) = conditions else { return };
    match conditions.iter_mut().find(|known| known["type"] == kind) {
        Some(known) => {
            let since = if known["status"] == status { known["lastTransitionTime"].clone() } else { json!(now) };
            *known = condition;
            known["lastTransitionTime"] = since;
        }
        None => conditions.push(condition),
    }
}

/// Names without what is empty.
fn normal(names: &Value) -> Map<String, Value> {
    let is_set = |value: &Value| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty()) && *value != "";
    names.as_object().into_iter().flatten().filter(|(_, v)| is_set(v)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// What other definitions of the group have.
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    fn by_others(definition: &Value, all: &[Value]) -> Self {
        let mut taken = Self { resources: BTreeSet::new(), kinds: BTreeSet::new() };
        let others = all
            .iter()
            .filter(|other| other["spec"]["group"] == definition["spec"]["group"] && meta::name(other) != meta::name(definition));
        for other in others {
            let names = &other["status"]["acceptedNames"];
            let texts = |fields: [&str; 2]| fields.map(|field| names[field].as_str().unwrap_or_default().to_owned());
            taken.resources.extend(texts(["plural", "singular"]));
            taken.resources.extend(short_names(names).into_iter().map(str::to_owned));
            taken.kinds.extend(texts(["kind", "listKind"]));
        }
        taken
    }
}

fn short_names(names: &Value) -> Vec<&str> {
    names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The names that can be given, with the message and reason of the condition.
fn accept(wanted: &Value, given: &Value, taken: &Taken) -> (Value, (String, String)) {
    let mut names = if given.is_object() { given.clone() } else { json!({"plural": "", "kind": ""}) };
    let mut verdict = ("no conflicts found".to_owned(), "NoConflicts".to_owned());
    let in_use = |name: &str| format!("{name:?} is already in use");
    let mut single = |field: &str, reason: &str, used: &BTreeSet<String>| {
        let name = wanted[field].as_str().unwrap_or_default();
        if name != given[field].as_str().unwrap_or_default() && used.contains(name) {
            verdict = (in_use(name), reason.to_owned());
        } else {
            names[field] = json!(name);
        }
    };
    single("plural", "PluralConflict", &taken.resources);
    single("singular", "SingularConflict", &taken.resources);
    let known = short_names(given);
    let fresh = short_names(wanted).into_iter().filter(|name| !known.contains(name));
    let conflicts: Vec<String> = fresh.filter(|name| taken.resources.contains(*name)).map(in_use).collect();
    let short_conflict = !conflicts.is_empty();
    single("kind", "KindConflict", &taken.kinds);
    single("listKind", "ListKindConflict", &taken.kinds);
    if short_conflict {
        if verdict.1 == "NoConflicts" || verdict.1 == "PluralConflict" || verdict.1 == "SingularConflict" {
            verdict = (aggregate(conflicts), "ShortNamesConflict".to_owned());
        }
    } else {
        copy(wanted, &mut names, "shortNames");
    }
    copy(wanted, &mut names, "categories");
    (names, verdict)
}

fn copy(from: &Value, to: &mut Value, field: &str) {
    match from.get(field) {
        Some(value) => to[field] = value.clone(),
        None => {
            meta::as_object_mut(to).remove(field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({"metadata": {"name": format!("{plural}.g.io")}, "spec": {"group": "g.io", "names":
            {"plural": plural, "singular": plural, "kind": kind, "listKind": format!("{kind}List"), "shortNames": short}}})
    }

    fn settled(mut definition: Value, all: &[Value]) -> Value {
        if let Some(status) = decide(&definition, all, "t") {
            definition["status"] = status;
        }
        definition
    }

    fn conditions(definition: &Value) -> Vec<String> {
        let all = definition["status"]["conditions"].as_array().unwrap();
        all.iter()
            .map(|c| {
                format!("{}={} {}", c["type"].as_str().unwrap(), c["status"].as_str().unwrap(), c["reason"].as_str().unwrap())
            })
            .collect()
    }

    #[test]
    fn the_first_gets_the_names() {
        let first = settled(definition("as", "A", &["x"]), &[]);
        assert_eq!(conditions(&first), ["NamesAccepted=True NoConflicts", "Established=True InitialNamesAccepted"]);
        assert_eq!(decide(&first, std::slice::from_ref(&first), "later"), None);
        let second = settled(definition("bs", "A", &["x"]), std::slice::from_ref(&first));
        assert_eq!(conditions(&second), ["NamesAccepted=False ListKindConflict", "Established=False NotAccepted"]);
        assert_eq!(second["status"]["acceptedNames"]["plural"], "bs");
        let third = settled(definition("cs", "C", &["x"]), std::slice::from_ref(&first));
        assert_eq!(find(&third, "NamesAccepted").unwrap()["message"], "\"x\" is already in use");
        // The names are free again: the others get them.
        let second = settled(second, &[]);
        assert_eq!(conditions(&second), ["NamesAccepted=True NoConflicts", "Established=True InitialNamesAccepted"]);
    }

    #[test]
    fn a_webhook_that_cannot_be_believed_is_not_established() {
        let mut first = definition("as", "A", &[]);
        first["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"clientConfig": {"caBundle": "bm8gUEVN"}}});
        let first = settled(first, &[]);
        assert_eq!(conditions(&first), ["NamesAccepted=True NoConflicts", "Established=False InvalidCABundle"]);
        assert_eq!(decide(&first, std::slice::from_ref(&first), "later"), None);
        let mut mended = first;
        // White space is nothing, and trusts what the host trusts.
        mended["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] = json!("IAo=");
        assert_eq!(conditions(&settled(mended, &[]))[1], "Established=True InitialNamesAccepted");
    }

    #[test]
    fn an_established_definition_stays_so() {
        let first = settled(definition("as", "A", &[]), &[]);
        let other = settled(definition("bs", "B", &["y"]), &[]);
        let mut renamed = first.clone();
        renamed["spec"]["names"]["shortNames"] = json!(["y"]);
        let renamed = settled(renamed, std::slice::from_ref(&other));
        assert_eq!(conditions(&renamed), ["NamesAccepted=False ShortNamesConflict", "Established=True InitialNamesAccepted"]);
    }
}
