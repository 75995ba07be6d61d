//! hostPath: what must be there, and what is made.

use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Checks, and makes, what the type asks for; the error is upstream's text.
pub fn check(path: &Path, kind: &str) -> Result<(), String> {
    let shown = path.display();
    let failed = |error: io::Error| format!("hostPath {shown}: {error}");
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if !path.exists() => fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed),
        "FileOrCreate" if !path.exists() => {
            // As upstream: the directory must be there.
            fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path).map(drop).map_err(failed)
        }
        "DirectoryOrCreate" | "Directory" => expect(path, "directory", |t| t.is_dir()),
        "FileOrCreate" | "File" => expect(path, "file", |t| t.is_file()),
        "Socket" => expect(path, "socket file", |t| t.is_socket()),
        "CharDevice" => expect(path, "character device", |t| t.is_char_device()),
        "BlockDevice" => expect(path, "block device", |t| t.is_block_device()),
        other => Err(format!("hostPath type {other:?} is not known")),
    }
}

fn expect(path: &Path, what: &str, is: impl Fn(FileType) -> bool) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(found) if is(found.file_type()) => Ok(()),
        _ => Err(format!("hostPath type check failed: {} is not a {what}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let root = std::env::temp_dir().join(format!("kubelet-hostpath-{}", std::process::id()));
        assert!(check(&root, "Directory").is_err());
        assert!(check(&root, "DirectoryOrCreate").is_ok() && root.is_dir());
        assert!(check(&root.join("f"), "FileOrCreate").is_ok());
        for (name, kind, ok) in
            [("", "Directory", true), ("", "File", false), ("f", "File", true), ("f", "Socket", false), ("none", "", true)]
        {
            assert_eq!(check(&root.join(name), kind).is_ok(), ok, "{name} {kind}");
        }
        assert_eq!(
            check(&root.join("f"), "Directory").unwrap_err(),
            format!("hostPath type check failed: {} is not a directory", root.join("f").display())
        );
        fs::remove_dir_all(root).unwrap();
    }
}
