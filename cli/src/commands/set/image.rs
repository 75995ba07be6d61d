//! `kctl set image`.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::Value;

use super::{
    change::{SetFlags, Wording},
    containers::{pod_spec, selected},
};
use crate::kube::{Error, Info, Result, Session, complete};

/// Sets the images of containers
///
///   kctl set image deploy/web nginx=nginx:1.29
///   kctl set image deploy --all '*=nginx:1.29'
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ImageArgs {
    /// TYPE NAME CONTAINER=IMAGE…; `*` is every container
    #[arg(value_name = "TYPE NAME CONTAINER=IMAGE", add = ArgValueCompleter::new(complete::resources))]
    words: Vec<String>,
    #[command(flatten)]
    flags: SetFlags,
}

pub async fn run(args: ImageArgs, session: &Session) -> Result<()> {
    let at = args.words.iter().position(|word| word.contains('=')).unwrap_or(args.words.len());
    let (words, pairs) = args.words.split_at(at);
    args.flags.check()?;
    let mut images: Vec<(&str, &str)> = Vec::new();
    for pair in pairs {
        let (name, image) = pair.split_once('=').unwrap_or((pair, ""));
        if !pair.contains('=') {
            return Err(Error::message(format!("all resources must be specified before image changes: {pair}")));
        }
        if name.is_empty() || image.is_empty() {
            return Err(Error::message(format!("invalid image format: {pair}")));
        }
        images.push((name, image));
    }
    if words.is_empty() && args.flags.files.is_empty() {
        return Err(Error::message("one or more resources must be specified as <resource> <name> or <resource>/<name>"));
    }
    if images.is_empty() {
        return Err(Error::message("at least one image update is required"));
    }
    if images.len() > 1 && images.iter().any(|(name, _)| *name == "*") {
        return Err(Error::message(
            "all containers are already specified by *, but saw more than one container_name=container_image pairs",
        ));
    }
    let wording =
        Wording { done: "image updated", failed: "failed to patch image update to pod template:", unchanged_too: false };
    let mut missing = Vec::new();
    let change = |info: &Info, object: &mut Value| {
        missing.extend(self::change(info, object, &images)?);
        Ok(())
    };
    let outcome = args.flags.each(words, session, wording, change).await;
    let missing = missing.iter().map(|name| Error::message(format!("error: unable to find container named {name:?}")));
    Error::all(missing.chain(outcome.err()).collect())
}

/// Changes the containers that are there; the names of those that are not come back.
fn change<'n>(info: &Info, object: &mut Value, images: &[(&'n str, &str)]) -> Result<Vec<&'n str>> {
    let spec = pod_spec(info, object)?;
    let mut missing = Vec::new();
    for (name, image) in images {
        let mut containers = selected(spec, "*");
        containers.retain(|container| *name == "*" || container["name"] == *name);
        if containers.is_empty() {
            missing.push(*name);
        }
        containers.into_iter().for_each(|container| container["image"] = (*image).into());
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::Resource;

    #[test]
    fn changes_the_template() {
        let object = |a: &str, b: &str| json!({"kind": "Deployment", "spec": {"template": {"spec": {"containers": [{"name": "a", "image": a}, {"name": "b", "image": b}]}}}});
        let before = object("x:1", "y:1");
        let info = Info {
            resource: Resource::default(),
            namespace: "n".into(),
            name: "web".into(),
            object: before.clone(),
            source: None,
        };
        let check = |images: &[(&str, &str)], want: Value, missing: &[&str]| {
            let mut after = before.clone();
            assert_eq!(change(&info, &mut after, images).unwrap(), missing);
            assert_eq!(after, want);
        };
        check(&[("a", "x:2")], object("x:2", "y:1"), &[]);
        check(&[("*", "z")], object("z", "z"), &[]);
        check(&[("a", "x:1")], object("x:1", "y:1"), &[]);
        check(&[("c", "x"), ("b", "y:2")], object("x:1", "y:2"), &["c"]);
    }
}
