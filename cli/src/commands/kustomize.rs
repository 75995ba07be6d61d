//! `kctl kustomize`.

use clap::Args;

use crate::kube::{Error, Result, kustomize};

/// Prints the objects of a directory with a kustomization
///
///   kctl kustomize overlays/prod         kctl apply -k overlays/prod
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct KustomizeArgs {
    #[arg(value_name = "DIR", default_value = ".", value_hint = clap::ValueHint::DirPath)]
    directory: String,
    /// Write the objects to this file
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<String>,
}

pub fn run(args: KustomizeArgs) -> Result<()> {
    let text = kustomize::to_yaml(&kustomize::build(&args.directory)?);
    match &args.output {
        Some(file) => std::fs::write(file, text).map_err(|error| Error::message(format!("writing {file}: {error}"))),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}
