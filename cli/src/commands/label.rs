//! `kctl label`.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::pairs::{self, Field, PairArgs};
use crate::kube::{Error, Result, Session, complete};

/// Sets and removes labels
///
///   kctl label pod a tier=front           kctl label pods --all env=test --overwrite
///   kctl label pod a tier-                removes the label
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct LabelArgs {
    /// TYPE NAME… KEY=VALUE… KEY-…
    #[arg(value_name = "TYPE NAME KEY=VALUE", add = ArgValueCompleter::new(complete::resources))]
    words: Vec<String>,
    #[command(flatten)]
    pairs: PairArgs,
}

pub const FIELD: Field = Field {
    name: "labels",
    manager: "kctl-label",
    noun: "label",
    check,
    added: "labeled",
    removed: "unlabeled",
    both: "modified",
    unchanged: "not labeled",
    taken: |taken| {
        let taken = taken
            .iter()
            .map(|(key, _, now)| Error::message(format!("'{key}' already has a value ({now}), and --overwrite is false")));
        Error::all(taken.collect()).err().unwrap_or(Error::Exit(1))
    },
};

fn check(spec: &str, value: &str) -> Result<()> {
    if value.contains('=') {
        return Err(Error::message(format!("invalid label spec: {spec}")));
    }
    let errors = machinery::names::label_value(value);
    if errors.is_empty() { Ok(()) } else { Err(Error::message(format!("invalid label value: {spec:?}: {}", errors.join(";")))) }
}

pub async fn run(args: LabelArgs, session: &Session) -> Result<()> {
    pairs::run(&args.words, &args.pairs, &FIELD, session).await
}
