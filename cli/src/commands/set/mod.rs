//! `kctl set`: parts of objects, one file for each part.

mod change;
mod containers;
mod env;
mod image;
mod resources;
mod selector;
mod service_account;
mod subject;

use clap::{Args, Subcommand};

use crate::kube::{Result, Session};

/// Sets parts of objects
#[derive(Args, Clone, Debug)]
pub struct SetArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    Env(env::EnvArgs),
    Image(image::ImageArgs),
    Resources(resources::ResourcesArgs),
    Selector(selector::SelectorArgs),
    #[command(alias = "sa")]
    Serviceaccount(service_account::ServiceAccountArgs),
    Subject(subject::SubjectArgs),
}

impl SetArgs {
    /// `--user` of a binding is its subject, not the user of the kubeconfig.
    pub fn names_users(&self) -> bool {
        matches!(self.what, What::Subject(_))
    }
}

pub async fn run(args: SetArgs, session: &Session) -> Result<()> {
    match args.what {
        What::Env(args) => env::run(args, session).await,
        What::Image(args) => image::run(args, session).await,
        What::Resources(args) => resources::run(args, session).await,
        What::Selector(args) => selector::run(args, session).await,
        What::Serviceaccount(args) => service_account::run(args, session).await,
        What::Subject(args) => subject::run(args, session).await,
    }
}
