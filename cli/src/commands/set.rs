//! `kctl set image`.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Value, json};

use super::targets::{Selectors, Targets, patch};
use crate::{
    kube::{Error, Files, Info, Result, Session, complete, session::STRATEGIC_PATCH},
    output::{
        OutputFlags,
        format::{DryRun, DryRunFlag, Reporter},
    },
};

/// Sets parts of objects
#[derive(Args, Clone, Debug)]
pub struct SetArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    Image(ImageArgs),
}

/// Sets the images of containers
///
///   kctl set image deploy/web nginx=nginx:1.29
///   kctl set image deploy --all '*=nginx:1.29'
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
struct ImageArgs {
    /// TYPE NAME CONTAINER=IMAGE…; `*` is every container
    #[arg(value_name = "TYPE NAME CONTAINER=IMAGE", add = ArgValueCompleter::new(complete::resources))]
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    dry_run: DryRunFlag,
}

pub async fn run(args: SetArgs, session: &Session) -> Result<()> {
    let What::Image(args) = args.what;
    let at = args.words.iter().position(|word| word.contains('=')).unwrap_or(args.words.len());
    let images: Vec<(&str, &str)> = args.words[at..].iter().filter_map(|word| word.split_once('=')).collect();
    if images.is_empty() {
        return Err(Error::message("at least one image update is required"));
    }
    if images.len() > 1 && images.iter().any(|(container, _)| *container == "*") {
        return Err(Error::message(
            "all containers are already specified by *, but saw more than one container_name=container_image pairs",
        ));
    }
    let targets = Targets { words: args.words[..at].to_vec(), files: args.files.clone(), selectors: args.selectors.clone() };
    let dry_run = args.dry_run.dry_run;
    let mut reporter = Reporter::new(&args.output, dry_run)?;
    targets
        .each(session, async |info| {
            let Some(body) = change(info, &images)? else { return Ok(()) };
            let after = if dry_run == DryRun::Client {
                info.object.clone()
            } else {
                patch(session, info, STRATEGIC_PATCH, &body, "set", dry_run).await?
            };
            reporter.done(info, &after, "image updated")
        })
        .await
        .map(drop)
}

/// The path to the pod template of each kind that has one.
pub fn template_path(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some("/spec"),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => {
            Some("/spec/template/spec")
        }
        "CronJob" => Some("/spec/jobTemplate/spec/template/spec"),
        _ => None,
    }
}

/// The patch that sets the images; `None` when they are set already.
fn change(info: &Info, images: &[(&str, &str)]) -> Result<Option<Value>> {
    let kind = &info.resource.kind;
    let path = template_path(kind).ok_or_else(|| Error::message(format!("{} does not have a pod template", info.label())))?;
    let spec = info.object.pointer(path).unwrap_or(&Value::Null);
    let mut changed = json!({});
    for (name, image) in images {
        let mut found = false;
        for list in ["initContainers", "containers"] {
            let containers = spec[list].as_array().into_iter().flatten();
            for container in containers.filter(|container| *name == "*" || container["name"] == *name) {
                found = true;
                if container["image"] == *image {
                    continue;
                }
                let entry = json!({"name": container["name"], "image": image});
                match &mut changed[list] {
                    Value::Array(entries) => entries.push(entry),
                    none => *none = json!([entry]),
                }
            }
        }
        if !found {
            return Err(Error::message(format!("unable to find container named {name:?}")));
        }
    }
    if changed == json!({}) {
        return Ok(None);
    }
    let parts = path.trim_start_matches('/').rsplit('/');
    Ok(Some(parts.fold(changed, |inner, part| json!({part: inner}))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::Resource;

    #[test]
    fn patches_the_template() {
        let object = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:1"}]}}}});
        let resource = Resource { kind: "Deployment".into(), ..Resource::default() };
        let info = Info { resource, namespace: "n".into(), name: "web".into(), object, source: None };
        let check = |images: &[(&str, &str)], want: Option<Value>| {
            let want = want.map(|containers| json!({"spec": {"template": {"spec": {"containers": containers}}}}));
            assert_eq!(change(&info, images).unwrap(), want);
        };
        check(&[("a", "x:2")], Some(json!([{"name": "a", "image": "x:2"}])));
        check(&[("*", "z")], Some(json!([{"name": "a", "image": "z"}, {"name": "b", "image": "z"}])));
        check(&[("a", "x:1")], None);
        assert_eq!(change(&info, &[("c", "x")]).unwrap_err().text(), "error: unable to find container named \"c\"");
    }
}
