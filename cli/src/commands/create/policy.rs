//! Quotas, disruption budgets and priority classes.

use clap::Args;
use machinery::{quantity::Quantity, selector::LabelSelector};
use serde_json::{Map, Value, json};

use super::CreateFlags;
use crate::kube::{Error, Result};

/// Creates a resource quota
#[derive(Args, Clone, Debug)]
pub struct QuotaArgs {
    name: String,
    /// RESOURCE=QUANTITY,…
    #[arg(long, default_value = "", hide_default_value = true)]
    hard: String,
    /// Only objects in these scopes: BestEffort, NotTerminating, …
    #[arg(long, value_delimiter = ',')]
    scopes: Vec<String>,
    #[command(flatten)]
    pub(super) flags: CreateFlags,
}

impl QuotaArgs {
    pub(super) fn object(&self) -> Result<Value> {
        let mut hard = Map::new();
        for pair in self.hard.split(',').filter(|_| !self.hard.is_empty()) {
            let [name, amount] = pair.split('=').collect::<Vec<_>>()[..] else {
                return Err(Error::message(format!("Invalid argument syntax {pair}, expected <resource>=<value>")));
            };
            let quantity = Quantity::parse(amount).map_err(|error| Error::message(error.to_string()))?;
            hard.insert(name.to_owned(), quantity.canonical().into());
        }
        let mut spec = json!({});
        if !hard.is_empty() {
            spec["hard"] = hard.into();
        }
        if !self.scopes.is_empty() {
            spec["scopes"] = json!(self.scopes);
        }
        Ok(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": self.name}, "spec": spec, "status": {}}))
    }
}

/// Creates a pod disruption budget
#[derive(Args, Clone, Debug)]
pub struct BudgetArgs {
    name: String,
    /// The pods that it is about (a=b,c!=d,e in (f,g))
    #[arg(long, default_value = "", hide_default_value = true)]
    selector: String,
    /// How many pods must be there: a number or a percentage
    #[arg(long)]
    min_available: Option<String>,
    /// How many pods may be away: a number or a percentage
    #[arg(long)]
    max_unavailable: Option<String>,
    #[command(flatten)]
    pub(super) flags: CreateFlags,
}

impl BudgetArgs {
    pub(super) fn object(&self) -> Result<Value> {
        if self.selector.is_empty() {
            return Err(Error::message("a selector must be specified"));
        }
        let selector = label_selector(&self.selector)?;
        let (field, amount) = match (&self.min_available, &self.max_unavailable) {
            (None, None) => return Err(Error::message("one of min-available or max-unavailable must be specified")),
            (Some(_), Some(_)) => {
                return Err(Error::message("min-available and max-unavailable cannot be both specified"));
            }
            (Some(amount), None) => ("minAvailable", amount),
            (None, Some(amount)) => ("maxUnavailable", amount),
        };
        let amount = amount.parse::<i32>().map_or_else(|_| Value::from(amount.as_str()), Value::from);
        Ok(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": self.name},
            "spec": {field: amount, "selector": selector},
            "status": {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0},
        }))
    }
}

/// A selector's text as a `LabelSelector` object.
fn label_selector(text: &str) -> Result<Value> {
    use machinery::selector::Operator;
    let parsed = LabelSelector::parse(text).map_err(|error| Error::message(error.to_string()))?;
    let (mut labels, mut expressions) = (Map::new(), Vec::new());
    for requirement in parsed.requirements() {
        let (key, values) = (requirement.key(), requirement.values());
        let operator = match (requirement.operator(), values) {
            (Operator::Equals | Operator::DoubleEquals, [value]) => {
                labels.insert(key.to_owned(), value.as_str().into());
                continue;
            }
            (Operator::NotEquals | Operator::NotIn, _) => "NotIn",
            (Operator::Exists, _) => "Exists",
            (Operator::DoesNotExist, _) => "DoesNotExist",
            (Operator::In, _) => "In",
            _ => return Err(Error::message(format!("{text:?}: only equality and sets are label selectors"))),
        };
        let mut expression = json!({"key": key, "operator": operator});
        if !values.is_empty() {
            expression["values"] = json!(values);
        }
        expressions.push(expression);
    }
    let mut selector = json!({});
    if !labels.is_empty() {
        selector["matchLabels"] = labels.into();
    }
    if !expressions.is_empty() {
        selector["matchExpressions"] = expressions.into();
    }
    Ok(selector)
}

/// Creates a priority class
#[derive(Args, Clone, Debug)]
pub struct PriorityClassArgs {
    name: String,
    /// The priority of its pods
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    value: i32,
    /// Of pods that name no class
    #[arg(long)]
    global_default: bool,
    /// What it is for
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// Whether its pods may drive others away: PreemptLowerPriority or Never
    #[arg(long, default_value = "PreemptLowerPriority")]
    preemption_policy: String,
    #[command(flatten)]
    pub(super) flags: CreateFlags,
}

impl PriorityClassArgs {
    pub(super) fn object(&self) -> Value {
        let mut object = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": self.name},
            "preemptionPolicy": self.preemption_policy, "value": self.value,
        });
        if self.global_default {
            object["globalDefault"] = true.into();
        }
        if !self.description.is_empty() {
            object["description"] = self.description.as_str().into();
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_as_objects() {
        let check = |text: &str, want: Value| assert_eq!(label_selector(text).unwrap(), want, "{text}");
        check("a=b,c==d", json!({"matchLabels": {"a": "b", "c": "d"}}));
        check(
            "a in (x,y),!b",
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["x", "y"]}, {"key": "b", "operator": "DoesNotExist"}]}),
        );
        check("a!=b", json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}));
        assert!(label_selector("a>1").is_err());
    }
}
