//! Client libraries that others wrote: kube-rs, the Python and the JavaScript client. Each is a program in `tests/` that goes
//! through objects, patches, watches, an informer and a leader election, and says which step failed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Runs them all against the cluster of that kubeconfig. `cache` keeps what npm and pip install; with the namespace and name of a
/// pod that has a shell, they also execute commands in it.
///
/// # Errors
/// With the output of the first that fails.
pub fn run(programs: &Path, cache: &Path, kubeconfig: &Path, pod: Option<[&str; 2]>) -> Result<()> {
    let pod = pod.as_ref().map_or(&[] as &[&str], |pod| pod);
    let mut kube_rs = Command::new(programs.join("kube-rs-client"));
    if !pod.is_empty() {
        kube_rs.arg("exec");
    }
    succeed(kube_rs.args(pod), kubeconfig)?;
    succeed(Command::new(python(cache)?).arg("-Wignore").arg(script("python_client.py")).args(pod), kubeconfig)?;
    let Some(modules) = javascript(cache)? else {
        println!("  there is no Node.js with npm on this machine: its client is left out");
        return Ok(());
    };
    succeed(Command::new("node").arg(script("javascript_client.mjs")).arg(modules).args(pod), kubeconfig)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

fn succeed(command: &mut Command, kubeconfig: &Path) -> Result<()> {
    let output = command.env("KUBECONFIG", kubeconfig).stdin(Stdio::null()).output()?;
    let text = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
    ensure!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    println!("  {}", text.lines().last().unwrap_or_default());
    Ok(())
}

fn python(cache: &Path) -> Result<PathBuf> {
    let venv = cache.join("python");
    let python = venv.join("bin/python");
    let ready = Command::new(&python).args(["-c", "import kubernetes.informer"]).output().is_ok_and(|o| o.status.success());
    if !ready {
        let make = Command::new("python3").args(["-m", "venv"]).arg(&venv).output().context("python3 -m venv")?;
        ensure!(make.status.success(), "python3 -m venv: {}", String::from_utf8_lossy(&make.stderr));
        let install = Command::new(&python).args(["-m", "pip", "install", "-q", "kubernetes>=37"]).output()?;
        ensure!(install.status.success(), "pip install kubernetes: {}", String::from_utf8_lossy(&install.stderr));
    }
    Ok(python)
}

/// A directory with the JavaScript client; none without Node.js. Version 1 is the one for every Node.js since 18.
fn javascript(cache: &Path) -> Result<Option<PathBuf>> {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !there("node") || !there("npm") {
        return Ok(None);
    }
    let modules = cache.join("javascript");
    if !modules.join("node_modules/@kubernetes/client-node").exists() {
        std::fs::create_dir_all(&modules)?;
        let install = ["install", "--silent", "--no-save", "--no-package-lock", "@kubernetes/client-node@1"];
        let output = Command::new("npm").current_dir(&modules).args(install).args(["--prefix", "."]).output()?;
        ensure!(output.status.success(), "npm install: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Some(modules))
}
