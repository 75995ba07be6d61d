//! A log file that never outgrows its bound: at the limit it becomes `NAME.1`, what was `NAME.1` becomes `NAME.2`, and so on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How large the file may get, and how many earlier ones are kept.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    pub bytes_max: u64,
    pub kept_max: u32,
    /// Older ones go when the next is put aside.
    pub age_max: Option<Duration>,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { bytes_max: 100 << 20, kept_max: 5, age_max: None }
    }
}

/// Readable by its owner only. Lines are never split between files.
pub(super) struct RotatingFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    bytes: u64,
}

impl RotatingFile {
    /// Continues the file that is there.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = append_to(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), rotation, file, bytes })
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        name.into()
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.rotation.kept_max).rev() {
            rename_if_there(&self.numbered(number), &self.numbered(number + 1))?;
        }
        if self.rotation.kept_max > 0 {
            rename_if_there(&self.path, &self.numbered(1))?;
        } else {
            std::fs::remove_file(&self.path)?;
        }
        if let Some(age_max) = self.rotation.age_max {
            for path in (1..=self.rotation.kept_max).map(|number| self.numbered(number)) {
                let age = std::fs::metadata(&path).and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
                if age.is_some_and(|age| age > age_max) {
                    std::fs::remove_file(&path)?;
                }
            }
        }
        self.file = append_to(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.rotation.bytes_max {
            self.rotate()?;
        }
        let written = self.file.write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_go() {
        let directory = std::env::temp_dir().join(format!("rotating-{}", std::process::id()));
        let path = directory.join("log");
        let mut log = RotatingFile::open(&path, Rotation { bytes_max: 8, kept_max: 2, age_max: None }).unwrap();
        for line in ["one\n", "two\n", "three\n", "four\n", "five5\n", "six666\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
        assert_eq!(read("log").as_deref(), Some("six666\n"));
        assert_eq!((read("log.1").as_deref(), read("log.2").as_deref()), (Some("five5\n"), Some("four\n")));
        assert_eq!(read("log.3"), None);
        let rotation = Rotation { bytes_max: 8, kept_max: 2, age_max: Some(Duration::ZERO) };
        RotatingFile::open(&path, rotation).unwrap().write_all(b"seven77\n").unwrap();
        assert_eq!((read("log").as_deref(), read("log.1"), read("log.2")), (Some("seven77\n"), None, None));
        let again = RotatingFile::open(&path, Rotation::default()).unwrap();
        assert_eq!(again.bytes, 8);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
