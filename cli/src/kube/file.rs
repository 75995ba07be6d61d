//! Files of the user, written in one step.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Writes a whole file: who reads meanwhile sees the old content or the new. Its directory is made when it is missing.
///
/// # Errors
/// When it cannot be written; then it is as it was.
pub fn replace(file: &Path, content: &str, mode: u32) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    // A link keeps pointing at the file that is changed.
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let next = file.with_extension(format!("{}.new", std::process::id()));
    let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(&next)?;
    out.write_all(content.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&next, &file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn whole_and_through_links() {
        let directory = std::env::temp_dir().join(format!("kctl-file-{}", std::process::id()));
        let (file, link) = (directory.join("sub/rc"), directory.join("link"));
        replace(&file, "one", 0o600).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, "two", 0o600).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.join("sub")).unwrap().count(), 1, "nothing is left beside it");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
