//! Upstream's daemons with ours: the same table of checks for controllers and scheduler against an API server, for each pairing
//! of ours and upstream's of which the programs are given. Each has an etcd of its own, and two Nodes without kubelets.
//!
//!     interchange [--kube-apiserver PROGRAM] [--kube-controller-manager PROGRAM --kube-scheduler PROGRAM] [--kctl PROGRAM]
//!                 [--only CHECK]… [--dir DIR] [--port N]
//!
//! Prints a line for each check of each pairing, then a table; exits with 1 when something failed where a daemon of ours takes
//! part. Logs stay in DIR.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use kctl_tests::interchange::{CHECKS, Outcome, run};
use kctl_tests::plane::{Plane, Ports};
use kctl_tests::{nodes, pods};

const NODES: &[&str] = &["node-a", "node-b"];
/// The address is of a range for documentation: nobody is there, and a loopback address cannot be an endpoint.
const FLAGS: &[&str] = &["--allow-privileged", "--advertise-address=192.0.2.1"];

struct Arguments {
    api_server: Option<PathBuf>,
    controllers: Option<PathBuf>,
    scheduler: Option<PathBuf>,
    kctl: PathBuf,
    only: Vec<String>,
    dir: PathBuf,
    port: Option<u16>,
}

fn parse() -> Result<Arguments> {
    let mut arguments = Arguments {
        api_server: None,
        controllers: None,
        scheduler: None,
        kctl: std::env::current_exe()?.with_file_name("kctl"),
        only: Vec::new(),
        dir: std::env::temp_dir().join(format!("kctl-interchange-{}", std::process::id())),
        port: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} takes a value"));
        match word.as_str() {
            "--kube-apiserver" => arguments.api_server = Some(value()?.into()),
            "--kube-controller-manager" => arguments.controllers = Some(value()?.into()),
            "--kube-scheduler" => arguments.scheduler = Some(value()?.into()),
            "--kctl" => arguments.kctl = value()?.into(),
            "--only" => arguments.only.push(value()?),
            "--dir" => arguments.dir = value()?.into(),
            "--port" => arguments.port = Some(value()?.parse()?),
            other => bail!("{other:?} is not an argument"),
        }
    }
    if let Some(unknown) = arguments.only.iter().find(|name| CHECKS.iter().all(|check| check.name != **name)) {
        bail!("there is no check {unknown:?}");
    }
    Ok(arguments)
}

/// Whose daemons work together.
struct Pairing {
    name: &'static str,
    ours: bool,
    server: PathBuf,
    controllers: PathBuf,
    scheduler: PathBuf,
}

/// The pairings of the programs that are there.
fn pairings(arguments: &Arguments) -> Vec<Pairing> {
    let kctl = || Some(arguments.kctl.clone());
    let (server, controllers, scheduler) =
        (|| arguments.api_server.clone(), || arguments.controllers.clone(), || arguments.scheduler.clone());
    [
        ("upstream's controllers and scheduler, our API server", true, kctl(), controllers(), scheduler()),
        ("our controllers and scheduler, upstream's API server", true, server(), kctl(), kctl()),
        ("all ours", true, kctl(), kctl(), kctl()),
        ("all upstream's", false, server(), controllers(), scheduler()),
    ]
    .into_iter()
    .filter_map(|(name, ours, server, controllers, scheduler)| {
        Some(Pairing { name, ours, server: server?, controllers: controllers?, scheduler: scheduler? })
    })
    .collect()
}

fn main() -> Result<ExitCode> {
    daemon::install_crypto();
    let arguments = parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (mut table, mut failed) = (BTreeMap::<&str, Vec<bool>>::new(), false);
    let pairings = pairings(&arguments);
    for (number, pairing) in pairings.iter().enumerate() {
        println!("{}: {}", number + 1, pairing.name);
        for outcome in runtime.block_on(checked(&arguments, pairing, number))? {
            print(&outcome);
            failed |= pairing.ours && outcome.result.is_err();
            table.entry(outcome.name).or_default().push(outcome.result.is_ok());
        }
    }
    for (name, results) in table {
        let marks: Vec<&str> = results.into_iter().map(|passed| if passed { "ok    " } else { "FAILED" }).collect();
        println!("{name:24}{}", marks.join("  "));
    }
    println!("logs in {}", arguments.dir.display());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn checked(arguments: &Arguments, pairing: &Pairing, number: usize) -> Result<Vec<Outcome>> {
    let dir = arguments.dir.join((number + 1).to_string());
    let ports = arguments.port.map_or_else(Ports::free, |first| Ok(Ports::from(first)))?;
    let mut plane = Plane::start(&dir, &pairing.server, ports, FLAGS).await?;
    plane.start_controllers(&pairing.controllers)?;
    plane.start_scheduler(&pairing.scheduler)?;
    nodes::create(&plane.client, NODES).await?;
    let client = plane.client.clone();
    let kubelets = tokio::spawn(async move {
        tokio::join!(nodes::keep_ready(&client, NODES), pods::run(&client));
    });
    let chosen = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let outcomes = run(&plane.client, chosen).await;
    kubelets.abort();
    Ok(outcomes)
}

fn print(outcome: &Outcome) {
    let seconds = outcome.took.as_secs_f64();
    match &outcome.result {
        Ok(()) => println!("  ok      {:24} {seconds:6.1} s", outcome.name),
        Err(error) => println!("  FAILED  {:24} {seconds:6.1} s  {error:#}", outcome.name),
    }
}
