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
    args.flags.each(words, session, wording, |info, object| change(info, object, &images)).await
}

fn change(info: &Info, object: &mut Value, images: &[(&str, &str)]) -> Result<()> {
    let spec = pod_spec(info, object)?;
    for (name, image) in images {
        let mut containers = selected(spec, "*");
        containers.retain(|container| *name == "*" || container["name"] == *name);
        if containers.is_empty() {
            return Err(Error::message(format!("unable to find container named {name:?}")));
        }
        containers.into_iter().for_each(|container| container["image"] = (*image).into());
    }
    Ok(())
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
        let check = |images: &[(&str, &str)], want: Result<Value, &str>| {
            let mut after = before.clone();
            let got = change(&info, &mut after, images).map(|()| after).map_err(|error| error.text());
            assert_eq!(got, want.map_err(str::to_owned));
        };
        check(&[("a", "x:2")], Ok(object("x:2", "y:1")));
        check(&[("*", "z")], Ok(object("z", "z")));
        check(&[("a", "x:1")], Ok(object("x:1", "y:1")));
        check(&[("c", "x")], Err("error: unable to find container named \"c\""));
    }
}
