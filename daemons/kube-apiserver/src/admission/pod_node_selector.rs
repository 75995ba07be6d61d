//! PodNodeSelector: the pods of a namespace go to the nodes that its annotation names.

use std::collections::BTreeMap;

use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
const CONFLICT: &str = "pod node label selector conflicts with its namespace node label selector";

type Labels = BTreeMap<String, String>;

/// By `clusterDefaultNodeSelector` what holds where a namespace says nothing, and by namespace what is allowed, as `a=b,c=d`.
pub(super) struct PodNodeSelector {
    configured: BTreeMap<String, String>,
}

impl Plugin for PodNodeSelector {
    fn name(&self) -> &'static str {
        "PodNodeSelector"
    }

    fn mutate(&self, request: &Request<'_>, pod: &mut Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        if request.operation != Operation::Create || !request.is("", "pods") {
            return Ok(());
        }
        let wanted = self.of_namespace(request, lookup)?;
        let own = selector(pod);
        if conflicts(&wanted, &own) {
            return Err(request.forbidden(CONFLICT));
        }
        for (key, value) in wanted {
            meta::set_path(pod, &["spec", "nodeSelector", &key], value.into());
        }
        Ok(())
    }

    fn validate(&self, request: &Request<'_>, pod: &Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        if request.operation != Operation::Create || !request.is("", "pods") {
            return Ok(());
        }
        let own = selector(pod);
        if conflicts(&self.of_namespace(request, lookup)?, &own) {
            return Err(request.forbidden(CONFLICT));
        }
        let allowed = self.labels(request, request.namespace)?;
        if !allowed.is_empty() && own.iter().any(|(key, value)| allowed.get(key) != Some(value)) {
            return Err(request.forbidden("pod node label selector labels conflict with its namespace whitelist"));
        }
        Ok(())
    }
}

impl PodNodeSelector {
    pub(super) fn configured(configuration: &Value) -> Self {
        let entries = configuration["podNodeSelectorPluginConfig"].as_object().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self { configured: entries.map(|(key, value)| (key.clone(), text(value))).collect() }
    }

    fn of_namespace(&self, request: &Request<'_>, lookup: &dyn Lookup) -> Result<Labels, Status> {
        let namespace = lookup.object("", "namespaces", "", request.namespace);
        match namespace.as_ref().and_then(|namespace| meta::annotation(namespace, ANNOTATION)) {
            Some(text) => parse(text).map_err(|why| request.forbidden(why)),
            None => self.labels(request, "clusterDefaultNodeSelector"),
        }
    }

    fn labels(&self, request: &Request<'_>, key: &str) -> Result<Labels, Status> {
        self.configured.get(key).map_or(Ok(Labels::new()), |text| parse(text).map_err(|why| request.forbidden(why)))
    }
}

/// `a=b, c=d`
fn parse(text: &str) -> Result<Labels, String> {
    let pairs = text.split(',').filter(|pair| !text.is_empty() && !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("invalid selector: {pair}"))?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

fn selector(pod: &Value) -> Labels {
    let entries = pod["spec"]["nodeSelector"].as_object().into_iter().flatten();
    entries.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn conflicts(a: &Labels, b: &Labels) -> bool {
    a.iter().any(|(key, value)| b.get(key).is_some_and(|other| other != value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        let labels = parse("a=b, c=d").unwrap();
        assert_eq!(labels.len(), 2);
        assert!(parse("").unwrap().is_empty());
        assert_eq!(parse("nonsense").unwrap_err(), "invalid selector: nonsense");
        assert!(conflicts(&labels, &parse("a=x").unwrap()));
        assert!(!conflicts(&labels, &parse("a=b,e=f").unwrap()));
    }
}
