//! `kctl certificate`: whether a request for a certificate is granted.

use clap::{Args, Subcommand};
use machinery::meta;
use serde_json::{Value, json};

use crate::{
    kube::{Error, Files, Info, Query, Request, Result, Session, session::JSON},
    output::{
        OutputFlags,
        format::{DryRun, Reporter},
    },
};
use reqwest::Method;

/// Tries while others change the request too.
const TRIES_MAX: usize = 10;

/// Approves and denies requests for certificates
#[derive(Args, Clone, Debug)]
pub struct CertificateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Lets the signer give the certificate
    Approve(DecideArgs),
    /// Keeps the signer from it
    Deny(DecideArgs),
}

#[derive(Args, Clone, Debug)]
struct DecideArgs {
    #[arg(value_name = "CSR")]
    names: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Even if it is decided already
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: OutputFlags,
}

pub async fn run(args: CertificateArgs, session: &Session) -> Result<()> {
    let (args, decision) = match args.what {
        What::Approve(args) => (args, Decision { kind: "Approved", other: "Denied", reason: "KctlApprove", done: "approved" }),
        What::Deny(args) => (args, Decision { kind: "Denied", other: "Approved", reason: "KctlDeny", done: "denied" }),
    };
    if args.names.is_empty() && args.files.is_empty() {
        return Err(Error::message("one or more CSRs must be specified as <name> or -f <filename>"));
    }
    let mut words = vec!["certificatesigningrequests".to_owned()];
    words.extend(args.names.iter().cloned());
    let words = if args.names.is_empty() { Vec::new() } else { words };
    let query = Query { words, files: args.files.clone(), ..Query::default() };
    let (infos, mut errors) = query.fetch(session).await?;
    let mut reporter = Reporter::new(&args.output, DryRun::No)?;
    for info in infos {
        match decide(session, &info, &decision, args.force).await {
            Ok(object) => reporter.done(&info, &object, decision.done)?,
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors)
}

struct Decision {
    kind: &'static str,
    other: &'static str,
    reason: &'static str,
    done: &'static str,
}

async fn decide(session: &Session, info: &Info, decision: &Decision, force: bool) -> Result<Value> {
    let mut object = info.object.clone();
    for tried in 0.. {
        if !condition(&mut object, decision, force, jiff::Timestamp::now())? {
            return Ok(object);
        }
        let request = Request::new(Method::PUT, format!("{}/approval", info.path())).body(JSON, object.to_string());
        match session.json(request).await {
            Err(error) if error.is(machinery::status::Reason::Conflict) && tried + 1 < TRIES_MAX => {
                object = session.json(Request::get(info.path())).await?;
            }
            outcome => return outcome,
        }
    }
    Ok(object)
}

/// Adds the decision to a request; false if it has it already.
fn condition(object: &mut Value, decision: &Decision, force: bool, now: jiff::Timestamp) -> Result<bool> {
    let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    if conditions.iter().any(|condition| condition["type"] == decision.other) {
        let (name, other) = (meta::name(object), decision.other);
        return Err(Error::message(format!("certificate signing request {name:?} is already {other}")));
    }
    if conditions.iter().any(|condition| condition["type"] == decision.kind) {
        if !force {
            return Ok(false);
        }
        conditions.retain(|condition| condition["type"] != decision.kind);
    }
    conditions.push(json!({
        "type": decision.kind, "status": "True", "reason": decision.reason,
        "message": format!("This CSR was {} by kctl certificate {}.", decision.done, decision.done.trim_end_matches('d').replace("denie", "deny")),
        "lastUpdateTime": machinery::time::format(now),
    }));
    object["status"]["conditions"] = conditions.into();
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_once() {
        let approve = Decision { kind: "Approved", other: "Denied", reason: "r", done: "approved" };
        let deny = Decision { kind: "Denied", other: "Approved", reason: "r", done: "denied" };
        let now = jiff::Timestamp::UNIX_EPOCH;
        let mut request = json!({"metadata": {"name": "x"}});
        assert!(condition(&mut request, &approve, false, now).unwrap());
        assert_eq!(request["status"]["conditions"][0]["message"], "This CSR was approved by kctl certificate approve.");
        assert!(!condition(&mut request, &approve, false, now).unwrap());
        assert!(condition(&mut request, &approve, true, now).unwrap());
        assert_eq!(request["status"]["conditions"].as_array().map(Vec::len), Some(1));
        let error = condition(&mut request, &deny, true, now).unwrap_err();
        assert!(error.text().contains("is already Approved"));
        let mut other = json!({"metadata": {"name": "y"}});
        assert!(condition(&mut other, &deny, false, now).unwrap());
        assert_eq!(other["status"]["conditions"][0]["message"], "This CSR was denied by kctl certificate deny.");
    }
}
