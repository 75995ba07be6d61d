//! `kctl set serviceaccount`.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::{
    change::{SetFlags, Wording},
    containers::pod_spec,
};
use crate::kube::{Error, Result, Session, complete};

/// Sets the service account that pods run as
///
///   kctl set serviceaccount deploy/web web
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ServiceAccountArgs {
    /// TYPE NAME SERVICEACCOUNT
    #[arg(value_name = "TYPE NAME SERVICEACCOUNT", add = ArgValueCompleter::new(complete::resources))]
    words: Vec<String>,
    #[command(flatten)]
    flags: SetFlags,
}

pub async fn run(args: ServiceAccountArgs, session: &Session) -> Result<()> {
    args.flags.check()?;
    let Some((account, words)) = args.words.split_last() else {
        return Err(Error::message("serviceaccount is required"));
    };
    let wording = Wording { done: "serviceaccount updated", failed: "failed to patch ServiceAccountName", unchanged_too: true };
    args.flags
        .each(words, session, wording, |info, object| {
            pod_spec(info, object)?["serviceAccountName"] = account.as_str().into();
            Ok(())
        })
        .await
}
