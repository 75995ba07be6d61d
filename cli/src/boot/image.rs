//! `kctl image load`, and the image of this program itself: one layer, one file, a link for each daemon.

use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use tokio::io::AsyncWriteExt;

use super::cluster::Cluster;
use super::ledger::{Effect, Ledger};
use super::paths;
use super::runtime::Runtime;

/// Names under which the one executable is found in the image.
const PROGRAMS: &[&str] =
    &["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "cluster-dns", "pause"];
const CHUNK_BYTES: usize = 1 << 20;

/// Images of the node's container runtime.
#[derive(Args, Debug)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put an OCI archive, or every archive of a directory, into the runtime. `-` reads an archive from standard input.
    Load { file: PathBuf },
}

pub(crate) async fn run(args: ImageArgs) -> Result<ExitCode> {
    let Command::Load { file } = args.command;
    let cluster = match Path::new(paths::CLUSTER_FILE) {
        path if path.exists() => Cluster::read(path)?,
        _ => Cluster::default(),
    };
    let runtime = Runtime::of_socket(&cluster.cri_socket)?;
    for file in archives(&file)? {
        let before = runtime.images().await?;
        if file == Path::new("-") {
            import(runtime, std::io::stdin()).await?;
        } else {
            let archive = std::fs::File::open(&file).with_context(|| format!("opening {}", file.display()))?;
            import(runtime, archive).await.with_context(|| format!("loading {}", file.display()))?;
        }
        for reference in runtime.images().await? {
            if !before.contains(&reference) && !reference.starts_with("sha256:") {
                note(&reference)?;
                println!("{reference}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `reset` removes what was loaded into a cluster.
fn note(reference: &str) -> Result<()> {
    let mut ledger = Ledger::open(paths::LEDGER.as_ref())?;
    if ledger.is_empty() {
        return Ok(());
    }
    ledger.note(Effect::Image { reference: reference.to_owned() })
}

fn archives(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        if file.extension().is_some_and(|e| e == "tar" || e == "oci") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("{} has no .tar or .oci file", path.display());
    }
    Ok(files)
}

/// Streams an archive into the runtime.
pub(crate) async fn import(runtime: Runtime, mut archive: impl Read + Send + 'static) -> Result<()> {
    let mut child = runtime.importer()?;
    let mut stdin = child.stdin.take().context("the importer has an input")?;
    let (send, mut receive) = tokio::sync::mpsc::channel::<Vec<u8>>(4);
    let reader = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let length = archive.read(&mut chunk)?;
            chunk.truncate(length);
            // The importer is gone: its own message says why.
            if length == 0 || send.blocking_send(chunk).is_err() {
                return Ok(());
            }
        }
    });
    while let Some(chunk) = receive.recv().await {
        if stdin.write_all(&chunk).await.is_err() {
            break;
        }
    }
    drop((stdin, receive));
    reader.await.context("reading the archive")??;
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("the runtime refused the image: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}

/// Names the content, so that a new program gets new pods.
pub(crate) fn reference(digest: &str) -> String {
    format!("localhost/kctl:{}-{}", env!("CARGO_PKG_VERSION"), &digest[..12])
}

/// The OCI archive of this program, in an unnamed file.
pub(crate) fn archive_of(executable: &Path, reference: &str) -> Result<std::fs::File> {
    let mut layer = oci::LayerBuilder::new();
    layer.file("usr/bin/kctl", 0o755, executable)?;
    for name in PROGRAMS {
        layer.link(&format!("usr/bin/{name}"), "kctl")?;
    }
    layer.link("pause", "usr/bin/kctl")?;
    layer.directory("tmp", 0o1777)?;
    let scratch = std::env::temp_dir();
    let mut image = oci::Image {
        reference: reference.to_owned(),
        config: oci::Config {
            entrypoint: vec!["/pause".to_owned()],
            env: vec!["PATH=/usr/bin".to_owned()],
            ..oci::Config::default()
        },
        layers: vec![layer.build(&scratch)?],
    };
    let mut file = unnamed_file(&scratch)?;
    image.write_archive(&mut file)?;
    file.flush()?;
    file.rewind()?;
    Ok(file)
}

/// A file that goes when it is closed.
fn unnamed_file(directory: &Path) -> Result<std::fs::File> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR).context("making a temporary file")?.into())
}

/// SHA-256 of a file, in hex.
pub(crate) fn digest_of(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        digest.update(&chunk[..length]);
    }
    Ok(digest.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect())
}
