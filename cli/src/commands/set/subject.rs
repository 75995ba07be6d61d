//! `kctl set subject`.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Value, json};

use super::change::{SetFlags, Wording};
use crate::{
    commands::create::Subjects,
    kube::{Error, Info, Result, Session, complete},
};

/// Adds users, groups and service accounts to role bindings
///
///   kctl set subject rolebinding/admins --user=jane --serviceaccount=web:deployer
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct SubjectArgs {
    /// TYPE NAME… or TYPE/NAME…
    #[arg(value_name = "TYPE NAME | TYPE/NAME", add = ArgValueCompleter::new(complete::resources))]
    words: Vec<String>,
    #[command(flatten)]
    subjects: Subjects,
    #[command(flatten)]
    flags: SetFlags,
}

pub async fn run(args: SubjectArgs, session: &Session) -> Result<()> {
    args.flags.check()?;
    let subjects = args.subjects.sorted().objects(Some(&session.namespace))?;
    if subjects.is_empty() {
        return Err(Error::message("you must specify at least one value of user, group or serviceaccount"));
    }
    let wording = Wording { done: "subjects updated", failed: "failed to patch subjects to rolebinding:", unchanged_too: false };
    args.flags.each(&args.words, session, wording, |info, object| change(info, object, &subjects)).await
}

fn change(info: &Info, object: &mut Value, subjects: &[Value]) -> Result<()> {
    if !["RoleBinding", "ClusterRoleBinding"].contains(&machinery::meta::kind(object)) {
        let label = format!("{}/{}", info.resource.plural, info.name);
        return Err(Error::Plain(format!(
            "error: {label} setting subjects is only supported for RoleBinding/ClusterRoleBinding"
        )));
    }
    if !object["subjects"].is_array() {
        object["subjects"] = json!([]);
    }
    let Some(present) = object["subjects"].as_array_mut() else { return Ok(()) };
    for subject in subjects {
        if !present.contains(subject) {
            present.push(subject.clone());
        }
    }
    Ok(())
}
