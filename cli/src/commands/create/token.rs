//! Tokens of service accounts.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::{
    kube::{Error, Request, Result, Session, globals::duration},
    output::{Format, OutputFlags, Printer},
};

/// Kinds that a token may be bound to, all of `v1`.
const BOUND_KINDS: [&str; 3] = ["Node", "Pod", "Secret"];

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
    /// Kind of an object the token is bound to: Pod, Secret, Node
    #[arg(long, value_name = "KIND")]
    bound_object_kind: Option<String>,
    /// Name of the object the token is bound to: it ends with it
    #[arg(long, value_name = "NAME")]
    bound_object_name: Option<String>,
    /// UID of the object the token is bound to; that of the present one when not given
    #[arg(long, value_name = "UID")]
    bound_object_uid: Option<String>,
    #[command(flatten)]
    output: OutputFlags,
}

impl TokenArgs {
    /// The specification of the TokenRequest.
    fn spec(&self) -> Result<Value> {
        let mut spec = json!({"audiences": self.audience});
        if let Some(duration) = self.duration.filter(|duration| !duration.is_zero()) {
            if duration.subsec_nanos() != 0 {
                return Err(Error::message("--duration cannot be expressed in units less than seconds"));
            }
            spec["expirationSeconds"] = duration.as_secs().into();
        }
        if self.audience.iter().any(String::is_empty) {
            return Err(Error::message("--audience must not be an empty string"));
        }
        let given = |value: &'_ Option<String>| value.clone().filter(|value| !value.is_empty());
        let (name, uid) = (given(&self.bound_object_name), given(&self.bound_object_uid));
        let Some(kind) = given(&self.bound_object_kind) else {
            let flags = [("name", name), ("uid", uid)];
            return match flags.iter().find(|(_, value)| value.is_some()) {
                Some((flag, _)) => {
                    Err(Error::message(format!("--bound-object-{flag} can only be set if --bound-object-kind is provided")))
                }
                None => Ok(spec),
            };
        };
        if !BOUND_KINDS.contains(&kind.as_str()) {
            return Err(Error::message(format!("supported --bound-object-kind values are {}", BOUND_KINDS.join(", "))));
        }
        let name = name.ok_or_else(|| Error::message("--bound-object-name is required if --bound-object-kind is provided"))?;
        spec["boundObjectRef"] = json!({"kind": kind, "apiVersion": "v1", "name": name});
        if let Some(uid) = uid {
            spec["boundObjectRef"]["uid"] = uid.into();
        }
        Ok(spec)
    }
}

pub(super) async fn run(args: TokenArgs, session: &Session) -> Result<()> {
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": args.spec()?});
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
