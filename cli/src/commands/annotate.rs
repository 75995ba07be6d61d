//! `kctl annotate`.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::pairs::{self, Field, PairArgs};
use crate::kube::{Error, Result, Session, complete};

/// Sets and removes annotations
///
///   kctl annotate deploy web owner=me     kctl annotate deploy web owner-
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct AnnotateArgs {
    /// TYPE NAME… KEY=VALUE… KEY-…
    #[arg(value_name = "TYPE NAME KEY=VALUE", add = ArgValueCompleter::new(complete::resources))]
    words: Vec<String>,
    #[command(flatten)]
    pairs: PairArgs,
}

pub const FIELD: Field = Field {
    name: "annotations",
    manager: "kctl-annotate",
    noun: "annotation",
    check: |_, _| Ok(()),
    added: "annotated",
    removed: "annotated",
    both: "annotated",
    unchanged: "annotated",
    taken: |taken| {
        let taken: Vec<String> = taken.iter().map(|(key, _, now)| format!("'{key}' already has a value ({now})")).collect();
        Error::message(format!("--overwrite is false but found the following declared annotation(s): {}", taken.join("; ")))
    },
};

pub async fn run(args: AnnotateArgs, session: &Session) -> Result<()> {
    pairs::run(&args.words, &args.pairs, &FIELD, session).await
}
