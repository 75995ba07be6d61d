//! Tolerations: which says as much as another, and how two lists become one (upstream's `pkg/util/tolerations`).

use serde_json::Value;

fn text<'a>(toleration: &'a Value, field: &str) -> &'a str {
    toleration[field].as_str().unwrap_or_default()
}

/// Whether everything that `small` tolerates, `large` tolerates too.
fn covers(large: &Value, small: &Value) -> bool {
    if large == small {
        return true;
    }
    let any_key = text(large, "key").is_empty() && text(large, "operator") == "Exists";
    let key = text(large, "key") == text(small, "key") || any_key;
    let effect = text(large, "effect") == text(small, "effect") || text(large, "effect").is_empty();
    let as_long = match large["tolerationSeconds"].as_i64().filter(|_| text(large, "effect") == "NoExecute") {
        Some(seconds) => small["tolerationSeconds"].as_i64().is_some_and(|other| other <= seconds),
        None => true,
    };
    let value = match text(large, "operator") {
        "Exists" => true,
        "Equal" | "" => text(small, "operator") == "Equal" && text(small, "value") == text(large, "value"),
        _ => false,
    };
    key && effect && as_long && value
}

/// Both lists, without what another one says already.
pub(super) fn merge(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (index, toleration) in all.iter().enumerate() {
        let said = merged.iter().any(|other| covers(other, toleration));
        let to_be_said = all[index + 1..].iter().any(|other| other != toleration && covers(other, toleration));
        if !said && !to_be_said {
            merged.push((*toleration).clone());
        }
    }
    merged
}

/// Whether each toleration is within one that is allowed.
pub(super) fn all_allowed(tolerations: &[Value], allowed: &[Value]) -> bool {
    allowed.is_empty() || tolerations.iter().all(|toleration| allowed.iter().any(|larger| covers(larger, toleration)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn coverage() {
        let all = json!({"operator": "Exists"});
        let key = json!({"key": "a", "operator": "Exists"});
        let equal = json!({"key": "a", "operator": "Equal", "value": "v", "effect": "NoSchedule"});
        let short = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let long = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9});
        for (large, small, expected) in [
            (&all, &equal, true),
            (&all, &long, true),
            (&key, &equal, true),
            (&equal, &key, false),
            (&long, &short, true),
            (&short, &long, false),
            (&equal, &equal, true),
        ] {
            assert_eq!(covers(large, small), expected, "{large} {small}");
        }
        assert_eq!(merge(&[equal.clone(), short.clone()], std::slice::from_ref(&long)), [equal.clone(), long.clone()]);
        assert_eq!(merge(std::slice::from_ref(&all), &[key, equal.clone()]), std::slice::from_ref(&all));
        assert!(all_allowed(&[short], &[long]) && !all_allowed(&[equal], &[json!({"key": "b", "operator": "Exists"})]));
    }
}
