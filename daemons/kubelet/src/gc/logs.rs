//! Rotating a container's log: the file is renamed, the runtime opens a new one, older ones are compressed or go.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

/// What becomes of the rotated files of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plan {
    remove: Vec<String>,
    compress: Vec<String>,
}

/// `rotated`: names of earlier rotations, `0.log.20260102-150405` or the same with `.gz`. With the file that is written to
/// and the one that is about to be rotated, at most `files_max` stay; `kubectl logs` may still read the newest, so it is
/// compressed at the next rotation only.
fn plan(mut rotated: Vec<String>, files_max: u32) -> Plan {
    rotated.sort();
    let keep = usize::try_from(files_max.saturating_sub(2)).unwrap_or(usize::MAX);
    let remove: Vec<String> = rotated.drain(..rotated.len().saturating_sub(keep)).collect();
    let compress = rotated.into_iter().filter(|name| !name.ends_with(".gz")).collect();
    Plan { remove, compress }
}

/// Rotates the log at `path`.
///
/// # Errors
/// When a file can't be renamed, or the runtime does not open a new log; then the old one is put back.
pub(super) async fn rotate<E>(path: &Path, files_max: u32, reopen: impl AsyncFn() -> Result<(), E>) -> io::Result<()>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let owned = path.to_owned();
    // Compression takes a while: it must not hold up the runtime's other tasks.
    tokio::task::spawn_blocking(move || tidy(&owned, files_max)).await.map_err(io::Error::other)??;
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let aside = beside(path, &format!(".{stamp}"));
    std::fs::rename(path, &aside)?;
    if let Err(error) = reopen().await {
        std::fs::rename(&aside, path)?;
        return Err(io::Error::other(error));
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn tidy(path: &Path, files_max: u32) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else { return Ok(()) };
    let prefix = format!("{name}.");
    let mut rotated = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if name.ends_with(".tmp") && name.starts_with(&prefix) {
            // Left by a run that was killed while it compressed.
            std::fs::remove_file(dir.join(name))?;
        } else if name.starts_with(&prefix) {
            rotated.push(name);
        }
    }
    let plan = plan(rotated, files_max);
    for name in plan.remove {
        std::fs::remove_file(dir.join(name))?;
    }
    for name in plan.compress {
        compress(&dir.join(name))?;
    }
    Ok(())
}

fn compress(path: &Path) -> io::Result<()> {
    let partial = beside(path, ".tmp");
    let mut encoder = GzEncoder::new(File::create(&partial)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    std::fs::rename(&partial, beside(path, ".gz"))?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays() {
        let check = |rotated: &[&str], files_max, remove: &[&str], compress: &[&str]| {
            let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
            assert_eq!(plan(own(rotated), files_max), Plan { remove: own(remove), compress: own(compress) });
        };
        check(&[], 5, &[], &[]);
        check(&["0.log.1.gz", "0.log.2"], 5, &[], &["0.log.2"]);
        check(&["0.log.3", "0.log.1.gz", "0.log.2.gz"], 4, &["0.log.1.gz"], &["0.log.3"]);
        check(&["0.log.1"], 2, &["0.log.1"], &[]);
    }

    #[tokio::test]
    async fn a_log_is_renamed_and_earlier_ones_are_compressed() {
        let dir = std::env::temp_dir().join(format!("kubelet-rotate-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("0.log");
        std::fs::write(&path, "now").unwrap();
        std::fs::write(dir.join("0.log.20260101-000000"), "before").unwrap();
        rotate(&path, 5, async || std::fs::write(&path, "")).await.unwrap();
        let mut names: Vec<String> =
            std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(names[1], "0.log.20260101-000000.gz");
        assert_eq!(std::fs::read_to_string(dir.join(&names[2])).unwrap(), "now");
        // The runtime refuses: the log is back in its place.
        std::fs::write(&path, "kept").unwrap();
        rotate(&path, 5, async || Err(io::Error::other("no"))).await.unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
