//! Tokens of service accounts.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::{
    kube::{Error, Request, Result, Session, globals::duration},
    output::{Format, OutputFlags, Printer},
};

/// Makes a token for a service account
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// The service account
    name: String,
    /// Whom the token is meant for
    #[arg(long, value_delimiter = ',')]
    audience: Vec<String>,
    /// How long it is valid
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    output: OutputFlags,
}

pub(super) async fn run(args: TokenArgs, session: &Session) -> Result<()> {
    let mut spec = json!({"audiences": args.audience});
    if let Some(duration) = args.duration {
        spec["expirationSeconds"] = duration.as_secs().into();
    }
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{}/token", session.namespace, args.name);
    let answer = session.json(Request::post(path, &request)).await.map_err(|error| match error {
        Error::Status(status) => Error::message(format!("failed to create token: {}", status.message)),
        error => error,
    })?;
    let mut printer = Printer::new(&args.output)?;
    if matches!(printer.format(), Format::Human { .. }) {
        println!("{}", answer["status"]["token"].as_str().unwrap_or_default());
        return Ok(());
    }
    printer.print(&answer, &|_| format!("serviceaccount/{}", args.name))
}
