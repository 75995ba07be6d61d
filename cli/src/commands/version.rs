//! `kctl version`.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    kube::{Error, Globals, Request, Result, Session},
    output::format::json_text,
};

/// Versions of kctl and of the server
#[derive(Args, Clone, Debug)]
pub struct VersionArgs {
    /// Do not ask the server
    #[arg(long)]
    client: bool,
    /// json or yaml
    #[arg(short, long)]
    output: Option<String>,
}

pub async fn run(args: VersionArgs, globals: &Globals) -> Result<()> {
    let client = concat!("v", env!("CARGO_PKG_VERSION"));
    let server = if args.client { None } else { Some(server(globals).await) };
    let mut value = json!({"clientVersion": {"gitVersion": client, "platform": platform()}});
    if let Some(Ok(server)) = &server {
        value["serverVersion"] = server.clone();
    }
    match args.output.as_deref() {
        None => {
            println!("Client Version: {client}");
            if let Some(Ok(server)) = &server {
                println!("Server Version: {}", server["gitVersion"].as_str().unwrap_or_default());
            }
        }
        Some("json") => println!("{}", json_text(&value)),
        Some("yaml") => print!("{}", machinery::yaml::to_string(&value)),
        Some(_) => return Err(Error::message("--output must be 'yaml' or 'json'")),
    }
    match server {
        Some(Err(error)) => Err(error),
        _ => Ok(()),
    }
}

async fn server(globals: &Globals) -> Result<Value> {
    Session::new(globals)?.json(Request::get("/version")).await
}

fn platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{architecture}", std::env::consts::OS)
}
