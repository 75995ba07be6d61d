//! The user's editor, and the file it is given.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use crate::kube::{Error, Result};

/// Opens `$KUBE_EDITOR`, `$EDITOR`, else `vi`, and waits until it ends.
pub fn open(file: &Path) -> Result<()> {
    let editor =
        ["KUBE_EDITOR", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".into());
    let (program, arguments) = command(&editor, file);
    match Command::new(program).args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !editor.contains('/') => {
            Err(Error::message(format!("unable to launch the editor {editor:?}")))
        }
        _ => Err(Error::message(format!("there was a problem with the editor {editor:?}"))),
    }
}

/// The program of the user's editor and its arguments: words, or a line for a shell when it has quotes.
fn command(editor: &str, file: &Path) -> (String, Vec<OsString>) {
    if editor.contains(' ') && editor.contains(['"', '\'', '\\']) {
        let shell = std::env::var("SHELL").ok().filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/bash".into());
        let line = format!("{editor} {}", machinery::gotext::quote(&file.to_string_lossy()));
        return (shell, vec!["-c".into(), line.into()]);
    }
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi").to_owned();
    (program, words.map(OsString::from).chain([file.into()]).collect())
}

/// A file only we can read, gone when it is done with.
pub struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// Named by chance alone: the name becomes part of a shell's line, and an object may be called `$(anything)`.
    pub fn new(end: &str) -> Result<Self> {
        use std::{hash::BuildHasher, os::unix::fs::OpenOptionsExt};
        let chance = std::hash::RandomState::new().hash_one(std::process::id());
        let name = format!("kctl-edit-{chance:016x}.{end}");
        let path = std::env::temp_dir().join(name);
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn keep(self) -> PathBuf {
        let path = self.0.clone();
        std::mem::forget(self);
        path
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // it holds nothing that is needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_names_a_shell_reads_as_they_are() {
        let (one, other) = (TemporaryFile::new("yaml").unwrap(), TemporaryFile::new("yaml").unwrap());
        assert_ne!(one.path(), other.path());
        for file in [&one, &other] {
            let name = file.path().file_name().unwrap().to_str().unwrap();
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)), "{name}");
        }
        let gone = one.path().to_owned();
        drop(one);
        assert!(!gone.exists() && other.path().exists());
    }

    #[test]
    fn editors() {
        let check = |editor: &str, program: &str, arguments: &[&str]| {
            let (got, words) = command(editor, Path::new("/tmp/x"));
            assert_eq!((got.as_str(), words), (program, arguments.iter().map(OsString::from).collect()), "{editor}");
        };
        check("vi", "vi", &["/tmp/x"]);
        check("code --wait", "code", &["--wait", "/tmp/x"]);
        let (_, words) = command("sed -i 's/a/b/'", Path::new("/tmp/x"));
        assert_eq!(words, ["-c", "sed -i 's/a/b/' \"/tmp/x\""]);
    }
}
