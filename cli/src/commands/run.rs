//! `kctl run`: one pod from flags.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{
    create::{self, CreateFlags},
    detach::{self, DetachKeys},
    flags::{OverrideFlags, Removal},
    wait,
};
use crate::{
    kube::{Error, Info, Request, Result, Session},
    output::format::DryRun,
};

/// Runs an image in a pod
///
///   kctl run web --image=nginx --port=80
///   kctl run box --image=busybox --rm -it --restart=Never -- sh
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct RunArgs {
    /// The pod's name
    name: String,
    /// The image
    #[arg(long)]
    image: String,
    /// KEY=VALUE for the container; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// The port that the container listens on
    #[arg(long)]
    port: Option<u16>,
    /// Labels instead of run=NAME
    #[arg(short, long, value_name = "KEY=VALUE,…")]
    labels: Option<String>,
    /// KEY=VALUE; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    annotations: Vec<String>,
    /// Whether a container that ended starts again: Always, OnFailure, Never
    #[arg(long, default_value = "Always")]
    restart: String,
    /// When the image is pulled: Always, IfNotPresent, Never
    #[arg(long)]
    image_pull_policy: Option<String>,
    /// The words after -- are the command, not its arguments
    #[arg(long)]
    command: bool,
    /// With all of the host's rights
    #[arg(long)]
    privileged: bool,
    /// A service for the port too
    #[arg(long, requires = "port")]
    expose: bool,
    #[command(flatten)]
    overrides: OverrideFlags,
    /// Attach to the container
    #[arg(long)]
    attach: bool,
    /// Keep standard input open, and attach
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Keep the container's standard input open when the first attached session ends
    #[arg(long)]
    leave_stdin_open: bool,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// Keys that end the session and leave the container as it is
    #[arg(long, value_name = "KEYS", default_value = detach::DEFAULT)]
    detach_keys: String,
    /// Delete the pod when it is over
    #[arg(long)]
    rm: bool,
    /// Say nothing beside the container's output
    #[arg(short, long)]
    quiet: bool,
    /// How long the pod may take to start
    #[arg(long, value_parser = crate::kube::globals::duration, default_value = "1m")]
    pod_running_timeout: Duration,
    #[command(flatten)]
    removal: Removal,
    #[command(flatten)]
    flags: CreateFlags,
    /// Arguments of the container
    #[arg(last = true)]
    args: Vec<String>,
}

impl RunArgs {
    fn attached(&self) -> bool {
        self.attach || self.stdin
    }

    fn labels(&self) -> Result<Value> {
        let Some(text) = self.labels.as_deref().filter(|text| !text.is_empty()) else { return Ok(json!({"run": self.name})) };
        pairs(text.split(',').map(str::trim))
    }

    fn pod(&self) -> Result<Value> {
        let mut container = json!({"name": self.name, "image": self.image, "resources": {}});
        if !self.args.is_empty() {
            container[if self.command { "command" } else { "args" }] = json!(self.args);
        }
        if !self.env.is_empty() {
            let env = self.env.iter().map(|pair| {
                let (name, value) = pair.split_once('=').ok_or_else(|| Error::message(format!("invalid env: {pair}")))?;
                Ok(json!({"name": name, "value": value}))
            });
            container["env"] = env.collect::<Result<Vec<_>>>()?.into();
        }
        if let Some(port) = self.port {
            container["ports"] = json!([{"containerPort": port}]);
        }
        if let Some(policy) = &self.image_pull_policy {
            container["imagePullPolicy"] = policy.as_str().into();
        }
        if self.privileged {
            container["securityContext"] = json!({"privileged": true});
        }
        if self.stdin {
            container["stdin"] = true.into();
            if !self.leave_stdin_open {
                container["stdinOnce"] = true.into();
            }
        }
        if self.tty {
            container["tty"] = true.into();
        }
        if !["Always", "OnFailure", "Never"].contains(&self.restart.as_str()) {
            let message = format!("error: invalid restart policy: {}", self.restart);
            return Err(Error::Usage { command: "run", message });
        }
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "labels": self.labels()?},
            "spec": {"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": self.restart},
            "status": {},
        });
        if !self.annotations.is_empty() {
            pod["metadata"]["annotations"] = pairs(self.annotations.iter().map(String::as_str))?;
        }
        self.overrides.apply(pod)
    }

    fn service(&self) -> Result<Value> {
        let port = json!({"port": self.port, "protocol": "TCP", "targetPort": self.port});
        Ok(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": self.name}, "spec": {"selector": self.labels()?, "ports": [port]}, "status": {"loadBalancer": {}},
        }))
    }
}

fn pairs<'a>(words: impl Iterator<Item = &'a str>) -> Result<Value> {
    let pair = |word: &str| {
        let (key, value) = word.split_once('=').ok_or_else(|| Error::message(format!("unexpected label spec: {word}")))?;
        Ok((key.to_owned(), Value::from(value)))
    };
    words.map(pair).collect::<Result<serde_json::Map<_, _>>>().map(Value::Object)
}

pub async fn run(args: RunArgs, session: &Session) -> Result<()> {
    if args.rm && !args.attached() {
        return Err(Error::message("--rm should only be used for attached containers"));
    }
    let dry_run = args.flags.write.dry_run();
    if args.attached() && dry_run != DryRun::No {
        return Err(Error::message(
            "--dry-run=client|server can't be used with attached containers options (--attach, --stdin, or --tty)",
        ));
    }
    let detach = DetachKeys::parse(&args.detach_keys)?;
    let mut pod = args.pod()?;
    let mut reporter = args.flags.write.reporter()?;
    let mut made: Vec<Info> = Vec::new();
    if args.expose {
        let mut service = args.service()?;
        let info = create::info(session, &mut service, &args.flags).await?;
        let created = create::submit(session, &info, &args.flags).await?;
        reporter.done(&info, &created, "created")?;
        made.push(info);
    }
    let info = create::info(session, &mut pod, &args.flags).await?;
    let created = create::submit(session, &info, &args.flags).await?;
    if !args.attached() {
        return reporter.done(&info, &created, "created");
    }
    made.push(info.clone());
    let outcome = super::attach::to_new_pod(
        session,
        &info.namespace,
        &info.name,
        super::attach::Streams { stdin: args.stdin, tty: args.tty, quiet: args.quiet, detach },
        args.pod_running_timeout,
    )
    .await;
    if args.rm {
        for info in &made {
            session.json(Request::delete(info.path(), &args.removal.options())).await?;
            if !args.quiet {
                println!("{} {:?} deleted from {} namespace", info.resource.label(), info.name, info.namespace);
            }
        }
        if args.removal.wait {
            let until = tokio::time::Instant::now() + args.removal.patience();
            for info in &made {
                wait::gone(session, info, None, until).await?;
            }
        }
    }
    match outcome? {
        0 => Ok(()),
        code => Err(Error::Exit(code)),
    }
}
