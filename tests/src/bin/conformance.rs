//! Runs upstream's conformance tests against our API server and controllers, with etcd and two Nodes without kubelets:
//!
//!     conformance --e2e-test PATH --kubectl PATH [--tests FILE] [--update] [--processes N] [--dir DIR] [--port N]
//!                 [--api-server PROGRAM] [--controllers PROGRAM]
//!
//! Without `--tests` the tests of tests/conformance.txt run, which is the list of those that pass; `--update` adds what newly
//! passes. The exit code is 1 when a listed test fails. Logs and reports stay in DIR.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use kctl_tests::conformance::{Outcome, Shards, Verdict, focus, names, outcomes};
use kctl_tests::nodes;
use kctl_tests::plane::{Plane, Ports};
use kctl_tests::process::Process;

const NODES: &[&str] = &["node-a", "node-b"];
const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance.txt");
const TIMEOUT: &str = "90m";
/// The address is of a range for documentation: nobody is there, and a loopback address cannot be an endpoint.
const FLAGS: &[&str] = &["--allow-privileged", "--advertise-address=192.0.2.1"];

struct Arguments {
    e2e_test: PathBuf,
    kubectl: PathBuf,
    tests: PathBuf,
    update: bool,
    processes: usize,
    dir: PathBuf,
    port: Option<u16>,
    api_server: PathBuf,
    controllers: PathBuf,
}

fn parse() -> Result<Arguments> {
    let kctl = std::env::current_exe()?.with_file_name("kctl");
    let mut arguments = Arguments {
        e2e_test: PathBuf::new(),
        kubectl: "kubectl".into(),
        tests: LIST.into(),
        update: false,
        processes: 4,
        dir: std::env::temp_dir().join(format!("kctl-conformance-{}", std::process::id())),
        port: None,
        api_server: kctl.clone(),
        controllers: kctl,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} takes a value"));
        match word.as_str() {
            "--e2e-test" => arguments.e2e_test = value()?.into(),
            "--kubectl" => arguments.kubectl = value()?.into(),
            "--tests" => arguments.tests = value()?.into(),
            "--update" => arguments.update = true,
            "--processes" => arguments.processes = value()?.parse()?,
            "--dir" => arguments.dir = value()?.into(),
            "--port" => arguments.port = Some(value()?.parse()?),
            "--api-server" => arguments.api_server = value()?.into(),
            "--controllers" => arguments.controllers = value()?.into(),
            other => bail!("{other:?} is not an argument"),
        }
    }
    if arguments.e2e_test.as_os_str().is_empty() {
        bail!("--e2e-test is needed: upstream's conformance suite, `make WHAT=test/e2e/e2e.test` in its source");
    }
    Ok(arguments)
}

fn main() -> Result<ExitCode> {
    daemon::install_crypto();
    let arguments = parse()?;
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let listed = names(&read(LIST.as_ref())?);
    let chosen = names(&read(&arguments.tests)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let ports = arguments.port.map_or_else(Ports::free, |first| Ok(Ports::from(first)))?;
    let mut plane = runtime.block_on(Plane::start(&arguments.dir, &arguments.api_server, ports, FLAGS))?;
    plane.start_controllers(&arguments.controllers)?;
    runtime.block_on(nodes::create(&plane.client, NODES))?;
    let client = plane.client.clone();
    runtime.spawn(async move { nodes::keep_ready(&client, NODES).await });
    println!("{} tests, logs in {}", chosen.len(), arguments.dir.display());

    let shards = Shards::deal(&chosen, arguments.processes);
    let mut outcomes = run(&arguments, &shards.parallel, "parallel")?;
    if !shards.serial.is_empty() {
        outcomes.extend(run(&arguments, &[shards.serial], "serial")?);
    }
    let verdict = Verdict::of(&listed, &chosen, &outcomes);
    print(&verdict, chosen.len());
    if arguments.update {
        let all: Vec<String> = listed.union(&verdict.progress).cloned().collect();
        std::fs::write(LIST, all.join("\n") + "\n")?;
    }
    Ok(if verdict.regressions.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a process of the suite for each shard, all at the same time.
fn run(arguments: &Arguments, shards: &[Vec<String>], label: &str) -> Result<BTreeMap<String, Outcome>> {
    let mut running = Vec::new();
    for (i, shard) in shards.iter().enumerate() {
        let report = arguments.dir.join(format!("{label}-{i}.json"));
        let mut command = Command::new(&arguments.e2e_test);
        command.current_dir(&arguments.dir).env_remove("KUBECONFIG");
        command.arg(format!("--kubeconfig={}", arguments.dir.join("admin.conf").display()));
        command.arg(format!("--kubectl-path={}", arguments.kubectl.display()));
        command.args(["--provider=skeleton", "--dump-logs-on-failure=false", "--ginkgo.no-color"]);
        command.arg(format!("--ginkgo.timeout={TIMEOUT}"));
        command.arg(format!("--ginkgo.json-report={}", report.display()));
        command.arg(format!("--ginkgo.focus={}", focus(shard)));
        running.push((Process::start(command, &arguments.dir.join(format!("{label}-{i}.log")))?, report));
    }
    let mut all = BTreeMap::new();
    for (mut process, report) in running {
        process.wait()?;
        // A suite that was cut off leaves none; its tests count as not run.
        if let Ok(text) = std::fs::read_to_string(&report) {
            all.extend(outcomes(&text)?);
        }
    }
    Ok(all)
}

fn print(verdict: &Verdict, chosen: usize) {
    let table = |title: &str, rows: &BTreeMap<String, String>| {
        for (name, why) in rows {
            println!("{title} {name}\n    {}", why.lines().take(12).collect::<Vec<_>>().join("\n    "));
        }
    };
    table("FAILED", &verdict.failures);
    table("FAILED, BUT LISTED", &verdict.regressions);
    let progress: &BTreeSet<String> = &verdict.progress;
    progress.iter().for_each(|name| println!("PASSES NOW {name}"));
    println!(
        "{} of {chosen} passed, {} of them new; {} failed, {} of them listed",
        verdict.passed,
        progress.len(),
        verdict.failures.len() + verdict.regressions.len(),
        verdict.regressions.len()
    );
}
