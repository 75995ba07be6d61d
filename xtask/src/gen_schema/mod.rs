//! `cargo xtask gen-schema`: makes `lib/schema/data/{types,docs}.txt` from facts in published crates.
//!
//! JSON names, types, required fields, resources and descriptions come from the source of `k8s-openapi`; protobuf field numbers
//! and list, map and patch markers from the source of `k8s-pb`, which is fetched but never built. What neither carries
//! is written by hand in `overlay.txt`. The formats are described in `lib/schema/src/builtin.rs`.

mod openapi;
mod print;
mod protobuf;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const K8S_OPENAPI: &str = "k8s-openapi";
const K8S_PB: &str = "k8s-pb";
const K8S_PB_REQUIREMENT: &str = "=0.9.0";

/// Makes the schema table anew from published crates.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only compare: fail when the committed files differ from what would be written.
    #[arg(long)]
    check: bool,
    /// The module of k8s-openapi to read.
    #[arg(long, default_value = "v1_36")]
    version: String,
    /// Source of k8s-openapi (default: where cargo keeps the workspace's).
    #[arg(long)]
    k8s_openapi: Option<PathBuf>,
    /// Source of k8s-pb (default: fetched by cargo).
    #[arg(long)]
    k8s_pb: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let openapi_source = match args.k8s_openapi {
        Some(path) => path,
        None => crate_source(&root.join("Cargo.toml"), K8S_OPENAPI)?,
    };
    let pb_source = match args.k8s_pb {
        Some(path) => path,
        None => crate_source(&scratch_manifest(root)?, K8S_PB)?,
    };
    let types = openapi::read_types(&openapi_source.join("src").join(&args.version))?;
    let messages = protobuf::read_messages(&pb_source.join("src"))?;
    let data = root.join("lib/schema/data");
    let mut stale = Vec::new();
    for (name, text) in [("types.txt", print::print_types(&types, &messages)?), ("docs.txt", print::print_docs(&types))] {
        let path = data.join(name);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        if args.check {
            stale.push(name);
        } else {
            fs::create_dir_all(&data)?;
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            println!("wrote {}", path.display());
        }
    }
    if !stale.is_empty() {
        bail!("{} differ from their sources: run `cargo xtask gen-schema`", stale.join(", "));
    }
    Ok(())
}

/// Where cargo keeps the source of a package that the manifest depends on.
fn crate_source(manifest: &Path, package: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--manifest-path"])
        .arg(manifest)
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let found = packages.iter().find(|p| p["name"] == package).with_context(|| format!("{package} is a dependency"))?;
    let manifest = found["manifest_path"].as_str().context("a package has a manifest")?;
    Ok(Path::new(manifest).parent().context("a manifest lies in a directory")?.to_owned())
}

/// A package outside the workspace whose one dependency is k8s-pb, so that cargo fetches its source.
fn scratch_manifest(root: &Path) -> Result<PathBuf> {
    let dir = root.join("target/gen-schema");
    fs::create_dir_all(dir.join("src"))?;
    fs::write(dir.join("src/lib.rs"), "")?;
    let manifest = dir.join("Cargo.toml");
    fs::write(
        &manifest,
        format!(
            "[package]\nname = \"gen-schema\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n{K8S_PB} = \"{K8S_PB_REQUIREMENT}\"\n"
        ),
    )?;
    Ok(manifest)
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}
