//! `kctl set selector`.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use machinery::selector::{LabelSelector, Operator};
use serde_json::{Map, Value};

use super::change::{SetFlags, Wording};
use crate::kube::{Error, Result, Session, complete};

/// Sets which pods a service leads to
///
///   kctl set selector svc/web app=web,tier=front
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct SelectorArgs {
    /// TYPE NAME KEY=VALUE,…
    #[arg(value_name = "TYPE NAME KEY=VALUE", add = ArgValueCompleter::new(complete::resources))]
    words: Vec<String>,
    /// Change the object only if it is still at this version
    #[arg(long)]
    resource_version: Option<String>,
    #[command(flatten)]
    flags: SetFlags,
}

pub async fn run(args: SelectorArgs, session: &Session) -> Result<()> {
    args.flags.check()?;
    let Some((selector, words)) = args.words.split_last() else {
        return Err(Error::message("one selector is required"));
    };
    let labels = labels(selector)?;
    let wording = Wording { done: "selector updated", failed: "", unchanged_too: true };
    let change = |object: &mut Value| {
        if object["kind"] != "Service" {
            return Err(Error::message("setting a selector is only supported for Services"));
        }
        object["spec"]["selector"] = labels.clone().into();
        if let Some(version) = &args.resource_version {
            machinery::meta::metadata_mut(object).insert("resourceVersion".into(), version.as_str().into());
        }
        Ok(())
    };
    args.flags.each(words, session, wording, |_, object| change(object)).await
}

/// `a=b,c=d`: other operators are not for services.
fn labels(text: &str) -> Result<Map<String, Value>> {
    let selector = LabelSelector::parse(text).map_err(|error| Error::message(error.to_string()))?;
    let mut labels = Map::new();
    for requirement in selector.requirements() {
        match (requirement.operator(), requirement.values()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => {
                labels.insert(requirement.key().to_owned(), value.as_str().into());
            }
            (Operator::NotEquals, _) => return Err(Error::message("\"!=\" is not a valid label selector operator")),
            _ => return Err(Error::message(format!("match expression {text} not supported on this object"))),
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_equality() {
        assert_eq!(Value::Object(labels("a=b,c==d").unwrap()), json!({"a": "b", "c": "d"}));
        assert!(labels("a!=b").is_err() && labels("a").is_err() && labels("a in (b,c)").is_err());
    }
}
