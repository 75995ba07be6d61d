//! `kctl set resources`.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use machinery::quantity::Quantity;
use serde_json::{Value, json};

use super::{
    change::{SetFlags, Wording},
    containers::{pod_spec, selected},
};
use crate::kube::{Error, Info, Result, Session, complete};

/// Sets what containers request and what they are limited to
///
///   kctl set resources deploy/web --requests=cpu=100m,memory=64Mi --limits=memory=128Mi
///   kctl set resources deploy/web -c nginx --limits=cpu=1
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ResourcesArgs {
    /// TYPE NAME… or TYPE/NAME…
    #[arg(value_name = "TYPE NAME | TYPE/NAME", add = ArgValueCompleter::new(complete::resources))]
    words: Vec<String>,
    /// RESOURCE=QUANTITY,…
    #[arg(long, default_value = "", hide_default_value = true)]
    limits: String,
    /// RESOURCE=QUANTITY,…
    #[arg(long, default_value = "", hide_default_value = true)]
    requests: String,
    /// Only containers with this name; `*` stands for any text
    #[arg(short, long, default_value = "*")]
    containers: String,
    #[command(flatten)]
    flags: SetFlags,
}

pub async fn run(args: ResourcesArgs, session: &Session) -> Result<()> {
    args.flags.check()?;
    if args.limits.is_empty() && args.requests.is_empty() {
        return Err(Error::message("you must specify an update to requests or limits (in the form of --requests/--limits)"));
    }
    let amounts = [("limits", amounts(&args.limits)?), ("requests", amounts(&args.requests)?)];
    let wording = Wording {
        done: "resource requirements updated",
        failed: "failed to patch resources update to pod template",
        unchanged_too: false,
    };
    args.flags.each(&args.words, session, wording, |info, object| change(info, object, &args.containers, &amounts)).await
}

type Amounts = Vec<(String, String)>;

fn amounts(spec: &str) -> Result<Amounts> {
    let pairs = spec.split(',').filter(|_| !spec.is_empty());
    pairs
        .map(|pair| match pair.split('=').collect::<Vec<_>>().as_slice() {
            [name, amount] => {
                let quantity = Quantity::parse(amount).map_err(|error| Error::message(error.to_string()))?;
                Ok(((*name).to_owned(), quantity.canonical()))
            }
            _ => Err(Error::message(format!("Invalid argument syntax {pair}, expected <resource>=<value>"))),
        })
        .collect()
}

fn change(info: &Info, object: &mut Value, pattern: &str, amounts: &[(&str, Amounts)]) -> Result<()> {
    let containers = selected(pod_spec(info, object)?, pattern);
    if containers.is_empty() {
        return Err(Error::message(format!("unable to find container named {pattern}")));
    }
    for container in containers {
        if !container["resources"].is_object() {
            container["resources"] = json!({});
        }
        for (field, amounts) in amounts {
            amounts.iter().for_each(|(name, amount)| container["resources"][*field][name] = amount.as_str().into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::Resource;

    #[test]
    fn adds_to_what_is_there() {
        let mut object = json!({"kind": "Pod", "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}}}]}});
        let (resource, object_before) = (Resource::default(), object.clone());
        let info = Info { resource, namespace: String::new(), name: "p".into(), object: object_before, source: None };
        let wanted = [("limits", amounts("memory=1Gi").unwrap()), ("requests", amounts("cpu=0.5,memory=1").unwrap())];
        change(&info, &mut object, "*", &wanted).unwrap();
        let resources = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1"}});
        assert_eq!(object["spec"]["containers"][0]["resources"], resources);
        let missing = change(&info, &mut object, "b", &wanted).unwrap_err();
        assert_eq!(missing.text(), "error: unable to find container named b");
        assert_eq!(amounts("cpu").unwrap_err().text(), "error: Invalid argument syntax cpu, expected <resource>=<value>");
    }
}
