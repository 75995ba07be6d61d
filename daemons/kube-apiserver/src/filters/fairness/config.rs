//! FlowSchemas and PriorityLevelConfigurations as decisions need them (`flowcontrol.apiserver.k8s.io/v1`).

use std::collections::BTreeMap;

use http::HeaderValue;
use serde::Deserialize;
use serde_json::Value;

use super::queues::{Limits, Overload};

pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
pub const EXEMPT: &str = "exempt";
pub const CATCH_ALL: &str = "catch-all";

/// Everything that is configured: schemas in the order in which they are asked, levels by name.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub schemas: Vec<Schema>,
    pub levels: BTreeMap<String, Level>,
}

/// Which requests go to which priority level, and which of them are one flow.
#[derive(Clone, Debug)]
pub struct Schema {
    pub name: String,
    pub precedence: i64,
    pub level: String,
    pub distinguisher: Distinguisher,
    pub rules: Vec<Rule>,
    /// Its uid, as the answer's header has it.
    pub uid: HeaderValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distinguisher {
    Nothing,
    User,
    Namespace,
}

/// The requests of one priority.
#[derive(Clone, Debug)]
pub struct Level {
    /// None for the exempt one.
    pub limits: Option<Limits>,
    pub uid: HeaderValue,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    pub subjects: Vec<Subject>,
    pub resource_rules: Vec<ResourceRule>,
    pub non_resource_rules: Vec<NonResourceRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Subject {
    pub user: Option<Named>,
    pub group: Option<Named>,
    pub service_account: Option<Named>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourceRule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub cluster_scope: bool,
    pub namespaces: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NonResourceRule {
    pub verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    pub urls: Vec<String>,
}

/// What the objects make of `seats` seats. A schema whose level does not exist is not asked; the mandatory ones are there,
/// whatever was done to the objects.
pub fn configuration(schemas: &BTreeMap<String, Value>, levels: &BTreeMap<String, Value>, seats: u32) -> Configuration {
    let defaults = super::defaults::mandatory();
    let mut schemas = schemas.clone();
    let mut levels = levels.clone();
    for object in defaults {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let kind = if object["kind"] == "FlowSchema" { &mut schemas } else { &mut levels };
        match kind.get_mut(&name) {
            Some(there) => there["spec"] = object["spec"].clone(),
            None => {
                kind.insert(name, object);
            }
        }
    }
    let shares: f64 = levels.values().map(shares).sum();
    let levels: BTreeMap<String, Level> =
        levels.iter().map(|(name, object)| (name.clone(), level(object, shares, seats))).collect();
    let mut schemas: Vec<Schema> = schemas.iter().filter_map(|(name, object)| schema(name, object)).collect();
    schemas.retain(|schema| levels.contains_key(&schema.level));
    schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
    Configuration { schemas, levels }
}

fn uid(object: &Value) -> HeaderValue {
    HeaderValue::from_str(object["metadata"]["uid"].as_str().unwrap_or_default()).unwrap_or(HeaderValue::from_static(""))
}

fn schema(name: &str, object: &Value) -> Option<Schema> {
    let spec = &object["spec"];
    Some(Schema {
        name: name.to_owned(),
        precedence: spec["matchingPrecedence"].as_i64().unwrap_or(1000),
        level: spec["priorityLevelConfiguration"]["name"].as_str()?.to_owned(),
        distinguisher: match spec["distinguisherMethod"]["type"].as_str() {
            Some("ByUser") => Distinguisher::User,
            Some("ByNamespace") => Distinguisher::Namespace,
            _ => Distinguisher::Nothing,
        },
        rules: Vec::<Rule>::deserialize(&spec["rules"]).unwrap_or_default(),
        uid: uid(object),
    })
}

fn limited(object: &Value) -> &Value {
    if object["spec"]["type"] == "Exempt" { &object["spec"]["exempt"] } else { &object["spec"]["limited"] }
}

fn shares(object: &Value) -> f64 {
    let default = if object["spec"]["type"] == "Exempt" { 0.0 } else { 30.0 };
    limited(object)["nominalConcurrencyShares"].as_f64().unwrap_or(default)
}

fn level(object: &Value, all_shares: f64, seats: u32) -> Level {
    if object["spec"]["type"] == "Exempt" {
        return Level { limits: None, uid: uid(object) };
    }
    let limited = limited(object);
    let part = |percent: f64, of: u32| (f64::from(of) * percent / 100.0).round() as u32;
    let nominal = if all_shares > 0.0 { (f64::from(seats) * shares(object) / all_shares).ceil() as u32 } else { 0 };
    let queuing = &limited["limitResponse"]["queuing"];
    let number = |field: &str, default: u64| queuing[field].as_u64().unwrap_or(default) as usize;
    let overload = if limited["limitResponse"]["type"] == "Queue" {
        let queues = number("queues", 64).max(1);
        Overload::Queue { queues, hand: number("handSize", 8).clamp(1, queues), length_max: number("queueLengthLimit", 50) }
    } else {
        Overload::Reject
    };
    let limits = Limits {
        nominal,
        lendable: part(limited["lendablePercent"].as_f64().unwrap_or(0.0), nominal).min(nominal),
        borrow_max: limited["borrowingLimitPercent"].as_f64().map_or(u32::MAX, |percent| part(percent, nominal)),
        overload,
    };
    Level { limits: Some(limits), uid: uid(object) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn by_name(objects: Vec<Value>, kind: &str) -> BTreeMap<String, Value> {
        let of_kind = objects.into_iter().filter(|object| object["kind"] == kind);
        of_kind.map(|object| (object["metadata"]["name"].as_str().unwrap().to_owned(), object)).collect()
    }

    #[test]
    fn the_default_objects() {
        let all = || super::super::defaults::all();
        let configuration = configuration(&by_name(all(), "FlowSchema"), &by_name(all(), "PriorityLevelConfiguration"), 600);
        let order: Vec<&str> = configuration.schemas.iter().map(|schema| schema.name.as_str()).collect();
        assert_eq!((order[0], order[1], order[order.len() - 1]), ("exempt", "probes", "catch-all"));
        // 600 seats and 245 shares.
        for (name, nominal, lendable) in [
            ("system", 74, 24),
            ("node-high", 98, 25),
            ("workload-low", 245, 221),
            ("catch-all", 13, 0),
            ("leader-election", 25, 0),
        ] {
            let limits = configuration.levels[name].limits.as_ref().unwrap();
            assert_eq!((limits.nominal, limits.lendable), (nominal, lendable), "{name}");
        }
        assert!(configuration.levels[EXEMPT].limits.is_none());
    }

    #[test]
    fn the_mandatory_ones_cannot_be_taken_away() {
        let broken = json!({"metadata": {"name": "exempt", "uid": "u"}, "spec": {"type": "Limited",
            "limited": {"nominalConcurrencyShares": 0}}});
        let levels = [("exempt".to_owned(), broken)].into();
        let configuration = configuration(&BTreeMap::new(), &levels, 10);
        assert!(configuration.levels[EXEMPT].limits.is_none());
        assert_eq!(configuration.levels[EXEMPT].uid, "u");
        assert_eq!(configuration.schemas.len(), 2);
    }

    #[test]
    fn a_schema_without_a_level_is_not_asked() {
        let lost = json!({"metadata": {"name": "lost"}, "spec": {"priorityLevelConfiguration": {"name": "none"}}});
        let schemas = [("lost".to_owned(), lost)].into();
        assert!(configuration(&schemas, &BTreeMap::new(), 10).schemas.iter().all(|schema| schema.name != "lost"));
    }
}
