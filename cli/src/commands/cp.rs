//! `kctl cp`: copies files to and from containers, through `tar` in the container.
//!
//! What comes from a container is not trusted: nothing it sends can be written outside of the destination, and links are
//! left out.

use std::{
    io::{Read, Write},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::Value;
use stream::remotecommand::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{exec, pods, stream as streams};
use crate::kube::{Error, Request, Result, Session, complete};

/// Before a copy is taken up again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// What the container's tar says of an error.
const MESSAGE_BYTES_MAX: u64 = 64 * 1024;

/// Copies files and directories to and from containers, which need `tar`
///
///   kctl cp ./conf web-1:/etc/app        kctl cp web/web-1:/var/log ./log -c nginx
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct CpArgs {
    /// [[NAMESPACE/]POD:]PATH
    source: String,
    /// [[NAMESPACE/]POD:]PATH
    destination: String,
    /// The container
    #[arg(short, long, add = ArgValueCompleter::new(complete::containers))]
    container: Option<String>,
    /// Do not keep owners and modes
    #[arg(long)]
    no_preserve: bool,
    /// How often a copy from a container that was cut off is taken up again; below 0, for as long as it takes
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, hide_default_value = true)]
    retries: i64,
}

/// A path here, or in a pod.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Local(PathBuf),
    Pod { namespace: Option<String>, pod: String, path: String },
}

impl Place {
    fn parse(text: &str) -> Result<Self> {
        let Some((pod, path)) = text.split_once(':').filter(|(pod, _)| !pod.starts_with(['.', '/'])) else {
            return Ok(Self::Local(text.into()));
        };
        let (namespace, pod) = match pod.split_once('/') {
            Some((namespace, pod)) => (Some(namespace.to_owned()), pod),
            None => (None, pod),
        };
        if pod.is_empty() || pod.contains('/') || path.is_empty() || namespace.as_deref() == Some("") {
            return Err(Error::message("filespec must match the canonical format: [[namespace/]pod:]file/path"));
        }
        Ok(Self::Pod { namespace, pod: pod.to_owned(), path: path.to_owned() })
    }
}

pub async fn run(args: CpArgs, session: &Session) -> Result<()> {
    match (Place::parse(&args.source)?, Place::parse(&args.destination)?) {
        (Place::Local(source), Place::Pod { namespace, pod, path }) => {
            let remote = Remote::find(&args, session, namespace, &pod).await?;
            remote.upload(&source, &path, args.no_preserve).await
        }
        (Place::Pod { namespace, pod, path }, Place::Local(destination)) => {
            let remote = Remote::find(&args, session, namespace, &pod).await?;
            remote.download(&path, &destination, args.retries).await
        }
        _ => Err(Error::message("one of src or dest must be a remote file specification")),
    }
}

struct Remote<'a> {
    session: &'a Session,
    pod: Value,
    container: String,
}

impl<'a> Remote<'a> {
    async fn find(args: &CpArgs, session: &'a Session, namespace: Option<String>, pod: &str) -> Result<Self> {
        let namespace = namespace.unwrap_or_else(|| session.namespace.clone());
        let pod = session.json(Request::get(format!("/api/v1/namespaces/{namespace}/pods/{pod}"))).await?;
        let container = match &args.container {
            Some(container) => pods::check_container(&pod, container)?,
            None => pods::default_container(&pod)?,
        };
        Ok(Self { session, pod, container })
    }

    fn request(&self, command: &[&str]) -> Request {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        exec::request(&self.pod, &self.container, &command)
    }

    /// Whether a path in the container is a directory.
    async fn is_directory(&self, path: &str) -> Result<bool> {
        let options = Options { stdout: true, stderr: true, ..Options::default() };
        let command = streams::start(self.session, self.request(&["test", "-d", path]), options).await?;
        Ok(matches!(command.status.outcome().await?, stream::remotecommand::Outcome::Success))
    }

    async fn upload(&self, source: &Path, path: &str, no_preserve: bool) -> Result<()> {
        if !source.exists() {
            return Err(Error::message(format!("{} doesn't exist in local filesystem", source.display())));
        }
        // cp's rule: into a directory that is there, else as the destination's name.
        let name = source.canonicalize()?.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (directory, name) = if self.is_directory(path).await? {
            (path.to_owned(), name)
        } else {
            let path = path.trim_end_matches('/');
            let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
            (if directory.is_empty() { "/".to_owned() } else { directory.to_owned() }, name.to_owned())
        };
        let mut unpack = vec!["tar"];
        if no_preserve {
            unpack.extend(["--no-same-permissions", "--no-same-owner"]);
        }
        unpack.extend(["-xmf", "-", "-C", &directory]);
        let options = Options { stdin: true, stdout: true, stderr: true, tty: false };
        let mut command = streams::start(self.session, self.request(&unpack), options).await?;
        let mut stdin = command.stdin.take().ok_or_else(|| Error::message("the server gave no standard input"))?;
        let (mut reader, writer) = bridge()?;
        let source = source.to_owned();
        let packing = tokio::task::spawn_blocking(move || pack(&source, &name, writer));
        let sent = tokio::io::copy(&mut reader, &mut stdin).await;
        let _ = stdin.shutdown().await;
        let message = read_all(command.stderr.take()).await;
        packing.await.map_err(|error| Error::message(error.to_string()))??;
        finish(command.status.outcome().await?, &message)?;
        sent.map(drop).map_err(Error::from)
    }

    /// The container's archive of `name` in `directory`, from a byte on, into `to`. `taken` counts what was passed on.
    async fn archive(&self, directory: &str, name: &str, taken: &mut u64, to: &mut tokio::net::UnixStream) -> Result<()> {
        let options = Options { stdout: true, stderr: true, ..Options::default() };
        let request = self.request(&["tar", "-cf", "-", "-C", directory, "--", name]);
        let mut command = streams::start(self.session, request, options).await?;
        let mut stdout = command.stdout.take().ok_or_else(|| Error::message("the server gave no output"))?;
        let known = *taken;
        // When nobody unpacks any more, the container's tar is not waited for.
        let ((), message) = tokio::try_join!(
            async {
                tokio::io::copy(&mut (&mut stdout).take(known), &mut tokio::io::sink()).await?;
                let mut buffer = vec![0; 64 * 1024];
                loop {
                    let count = stdout.read(&mut buffer).await?;
                    if count == 0 {
                        return std::io::Result::Ok(());
                    }
                    to.write_all(&buffer[..count]).await?;
                    *taken += count as u64;
                }
            },
            async { Ok(read_all(command.stderr.take()).await) }
        )?;
        finish(command.status.outcome().await?, &message)
    }

    async fn download(&self, path: &str, destination: &Path, retries: i64) -> Result<()> {
        let trimmed = path.trim_end_matches('/');
        let (directory, name) = trimmed
            .rsplit_once('/')
            .map_or((".", trimmed), |(directory, name)| (if directory.is_empty() { "/" } else { directory }, name));
        if name.is_empty() || name == ".." {
            return Err(Error::message(format!("{path:?} names no file to copy")));
        }
        let target = if destination.is_dir() { destination.join(name) } else { destination.to_owned() };
        let (mut writer, reader) = bridge()?;
        let unpacking = {
            let name = name.to_owned();
            tokio::task::spawn_blocking(move || unpack(reader, &name, &target))
        };
        let (mut taken, mut tries) = (0, 0);
        let (received, unwritable) = loop {
            let outcome = self.archive(directory, name, &mut taken, &mut writer).await;
            // What tar says it would say again, and what can't be written here will not be.
            let unwritable = unpacking.is_finished();
            let cut_off = outcome.as_ref().is_err_and(|error| !matches!(error, Error::Exit(_))) && !unwritable;
            if !cut_off || retries == 0 {
                break (outcome, unwritable);
            }
            if retries > 0 && tries == retries {
                eprintln!("Dropping out copy after {tries} retries");
                break (outcome, unwritable);
            }
            tries += 1;
            eprintln!("Resuming copy at {taken} bytes, retry {tries}/{retries}");
            tokio::time::sleep(RETRY_DELAY).await;
        };
        drop(writer);
        let unpacked = unpacking.await.map_err(|error| Error::message(error.to_string()))?;
        // The first that failed says why.
        if unwritable { unpacked.and(received) } else { received.and(unpacked) }
    }
}

/// A pipe between this task and a thread that packs or unpacks.
fn bridge() -> Result<(tokio::net::UnixStream, std::os::unix::net::UnixStream)> {
    let (ours, threads) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((tokio::net::UnixStream::from_std(ours)?, threads))
}

fn finish(outcome: stream::remotecommand::Outcome, message: &str) -> Result<()> {
    match streams::exit_code(outcome)? {
        0 => Ok(()),
        code => {
            if !message.is_empty() {
                eprintln!("{}", message.trim_end());
            }
            eprintln!("command terminated with exit code {code}");
            Err(Error::Exit(1))
        }
    }
}

async fn read_all(from: Option<stream::remotecommand::BoxRead>) -> String {
    let mut text = Vec::new();
    if let Some(from) = from {
        // Half a message is better than none.
        let _ = from.take(MESSAGE_BYTES_MAX).read_to_end(&mut text).await;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Writes a file or a tree as an archive in which it is called `name`.
fn pack(source: &Path, name: &str, out: impl Write) -> Result<()> {
    let mut archive = tar::Builder::new(out);
    archive.follow_symlinks(false);
    if source.is_dir() {
        archive.append_dir_all(name, source)?;
    } else {
        archive.append_path_with_name(source.canonicalize()?, name)?;
    }
    archive.into_inner()?.flush().map_err(Error::from)
}

/// Writes what an archive has under `name` to `target`. Only plain files and directories, only inside `target`.
fn unpack(from: impl Read, name: &str, target: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(inner) = inside(&path, name) else {
            eprintln!("warning: skipping {:?}: it is outside of what was asked for", path.display());
            continue;
        };
        let file = if inner.as_os_str().is_empty() { target.to_owned() } else { target.join(&inner) };
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                std::fs::create_dir_all(target)?;
                create_directory(target, &inner)?;
            }
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                if let Some(parent) = inner.parent() {
                    create_directory(target, parent)?;
                }
                // A link that was there before must not lead elsewhere.
                if file.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
                    std::fs::remove_file(&file)?;
                }
                let mut out =
                    std::fs::File::create(&file).map_err(|error| Error::message(format!("{}: {error}", file.display())))?;
                std::io::copy(&mut entry, &mut out)?;
                if let Ok(mode) = entry.header().mode() {
                    use std::os::unix::fs::PermissionsExt;
                    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode & 0o777))?;
                }
            }
            _ => eprintln!("warning: skipping {:?}: it is no file and no directory", path.display()),
        }
    }
    // The rest of the stream must be taken, or the container's tar is cut off.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
    Ok(())
}

/// Makes the directories of a relative path below `target`, none of which may be a link.
fn create_directory(target: &Path, inner: &Path) -> Result<()> {
    let mut path = target.to_owned();
    if inner.as_os_str().is_empty() {
        // The file itself is the target: its directory is the user's.
        return Ok(());
    }
    std::fs::create_dir_all(&path)?;
    for part in inner.components() {
        path.push(part);
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(Error::message(format!("{} is no directory", path.display()))),
            Err(_) => std::fs::create_dir(&path)?,
        }
    }
    Ok(())
}

/// The path of an entry below `name`; `None` when it leads anywhere else.
fn inside(path: &Path, name: &str) -> Option<PathBuf> {
    let mut parts = path.components().filter(|part| *part != Component::CurDir);
    if parts.next()? != Component::Normal(name.as_ref()) {
        return None;
    }
    parts.map(|part| matches!(part, Component::Normal(_)).then_some(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let pod = |namespace: Option<&str>, pod: &str, path: &str| Place::Pod {
            namespace: namespace.map(Into::into),
            pod: pod.into(),
            path: path.into(),
        };
        assert_eq!(Place::parse("web-1:/x").unwrap(), pod(None, "web-1", "/x"));
        assert_eq!(Place::parse("n/web-1:x").unwrap(), pod(Some("n"), "web-1", "x"));
        assert_eq!(Place::parse("./a:b").unwrap(), Place::Local("./a:b".into()));
        assert_eq!(Place::parse("/tmp/x").unwrap(), Place::Local("/tmp/x".into()));
        for wrong in ["web:", ":x", "a/b/c:x", "/:x/"] {
            assert!(Place::parse(wrong).is_err() || matches!(Place::parse(wrong), Ok(Place::Local(_))), "{wrong}");
        }
    }

    #[test]
    fn nothing_gets_out_of_the_destination() {
        let directory = std::env::temp_dir().join(format!("kctl-cp-{}", std::process::id()));
        let target = directory.join("target");
        std::fs::create_dir_all(&directory).unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind: tar::EntryType, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_entry_type(kind);
            if kind == tar::EntryType::Symlink {
                header.set_link_name("/etc").unwrap();
            }
            // The crate refuses such names itself; a container's tar may not.
            let name = &mut header.as_old_mut().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            archive.append(&header, content).unwrap();
        };
        add("src/", tar::EntryType::Directory, b"");
        add("src/a", tar::EntryType::Regular, b"a");
        add("src/sub/b", tar::EntryType::Regular, b"b");
        add("src/../../evil", tar::EntryType::Regular, b"x");
        add("/etc/evil", tar::EntryType::Regular, b"x");
        add("other/evil", tar::EntryType::Regular, b"x");
        add("src/link", tar::EntryType::Symlink, b"");
        add("src/link/evil", tar::EntryType::Regular, b"y");
        let bytes = archive.into_inner().unwrap();
        unpack(&bytes[..], "src", &target).unwrap();
        let mut found: Vec<String> = Vec::new();
        let mut directories = vec![directory.clone()];
        while let Some(next) = directories.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    found.push(path.strip_prefix(&directory).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        assert_eq!(found, ["target/a", "target/link/evil", "target/sub/b"], "the link became a plain directory");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
