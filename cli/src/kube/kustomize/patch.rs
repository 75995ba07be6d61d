//! Patches: strategic ones, which are objects, and JSON ones, which are lists.

use machinery::{gvk::Gvk, meta, patch};
use serde_json::Value;

use super::{
    Item,
    file::{Patch, Target},
};

pub fn apply(items: &mut Vec<Item>, text: &str, source: &Patch) -> Result<(), String> {
    for document in machinery::yaml::to_values(text).map_err(|error| format!("unable to parse a patch: {error}"))? {
        match &document {
            Value::Null => {}
            Value::Array(_) => {
                let target = source.target.as_ref().ok_or("must specify a target for JSON patch")?;
                let mut found = false;
                for item in items.iter_mut().filter(|item| matches(target, item)) {
                    found = true;
                    patch::json::apply(&mut item.object, &document).map_err(|error| error.to_string())?;
                }
                if !found {
                    return Err(format!("no resource matches the target of a patch: {target:?}"));
                }
            }
            _ => strategic(items, &document, source.target.as_ref())?,
        }
    }
    Ok(())
}

fn strategic(items: &mut Vec<Item>, change: &Value, target: Option<&Target>) -> Result<(), String> {
    let wanted = |item: &Item| match target {
        Some(target) => matches(target, item),
        None => {
            item.kind() == meta::kind(change)
                && meta::api_version(&item.object) == meta::api_version(change)
                && item.former.iter().any(|name| name == meta::name(change))
                && (meta::namespace(change).is_empty() || meta::namespace(change) == meta::namespace(&item.object))
        }
    };
    let at: Vec<usize> = items.iter().enumerate().filter(|(_, item)| wanted(item)).map(|(at, _)| at).collect();
    if at.is_empty() && target.is_none() {
        return Err(format!(
            "no matches for Id {}.{}; failed to find unique target for patch",
            meta::kind(change),
            meta::name(change)
        ));
    }
    if change["$patch"] == "delete" {
        let mut position = 0;
        items.retain(|_| {
            position += 1;
            !at.contains(&(position - 1))
        });
        return Ok(());
    }
    for index in at {
        let object = &mut items[index].object;
        let mut change = change.clone();
        // A patch names its object; it does not rename it.
        for field in ["name", "namespace"] {
            match object["metadata"].get(field).cloned() {
                Some(own) => change["metadata"][field] = own,
                None => drop(meta::metadata_mut(&mut change).remove(field)),
            }
        }
        for field in ["kind", "apiVersion"] {
            change[field] = object[field].clone();
        }
        let gvk = Gvk::of(object);
        match gvk.and_then(|gvk| schema::builtin().type_of(&gvk.group, &gvk.version, &gvk.kind)) {
            Some(ty) => *object = patch::strategic::apply(object, &change, ty).map_err(|error| error.to_string())?,
            None => patch::merge::apply(object, &change),
        }
    }
    Ok(())
}

fn matches(target: &Target, item: &Item) -> bool {
    let object = &item.object;
    let (group, version) = meta::api_version(object).split_once('/').unwrap_or(("", meta::api_version(object)));
    let like = |pattern: &str, text: &str| pattern.is_empty() || expression(pattern, text);
    let select = |selector: &str, of: Option<&serde_json::Map<String, Value>>| {
        let pairs = of.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()));
        let labels: std::collections::BTreeMap<String, String> =
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        selector.is_empty() || machinery::selector::LabelSelector::parse(selector).is_ok_and(|selector| selector.matches(&labels))
    };
    like(&target.group, group)
        && like(&target.version, version)
        && like(&target.kind, item.kind())
        && (target.name.is_empty() || item.former.iter().any(|name| expression(&target.name, name)))
        && like(&target.namespace, meta::namespace(object))
        && select(&target.label_selector, meta::labels(object))
        && select(&target.annotation_selector, meta::annotations(object))
}

/// A regular expression for the whole text, of which alternatives and `.*` are understood.
fn expression(pattern: &str, text: &str) -> bool {
    let one = |pattern: &str| match pattern.split_once(".*") {
        None => pattern == text,
        Some((start, end)) => text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end),
    };
    pattern.trim_start_matches('^').trim_end_matches('$').split('|').any(one)
}

#[cfg(test)]
mod tests {
    #[test]
    fn patterns() {
        let check = |pattern: &str, text: &str, want| assert_eq!(super::expression(pattern, text), want, "{pattern} {text}");
        check("web", "web", true);
        check("web", "webs", false);
        check("web.*", "webs", true);
        check("^.*-x$", "a-x", true);
        check("a|b", "b", true);
    }
}
