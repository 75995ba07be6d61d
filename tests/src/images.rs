//! Images for tests and examples, made offline from Debian packages: real nginx, and busybox as a client.
//!
//! Each is an OCI archive below a directory of the caller's, made once and kept.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use oci::{Config, Image, LayerBuilder};

/// An image that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestImage {
    /// Debian's nginx on port 80; it answers `nginx 1 from POD` or `nginx 2 from POD`.
    Nginx1,
    Nginx2,
    /// A shell, curl, nslookup and nc.
    Busybox,
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nadm:x:4:\nwww-data:x:33:\nnogroup:x:65534:\n";
const APPLETS: &[&str] = &[
    "awk",
    "cat",
    "chmod",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "echo",
    "env",
    "false",
    "find",
    "free",
    "grep",
    "head",
    "hostname",
    "id",
    "ip",
    "kill",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mount",
    "mv",
    "nc",
    "nslookup",
    "ping",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "stty",
    "sync",
    "tail",
    "tar",
    "tee",
    "test",
    "timeout",
    "top",
    "touch",
    "tr",
    "true",
    "umount",
    "uname",
    "uniq",
    "vi",
    "wc",
    "which",
    "whoami",
    "xargs",
    "yes",
];

impl TestImage {
    pub const ALL: [Self; 3] = [Self::Nginx1, Self::Nginx2, Self::Busybox];

    /// The name that pods ask for.
    pub fn reference(self) -> &'static str {
        match self {
            Self::Nginx1 => "localhost/nginx:1",
            Self::Nginx2 => "localhost/nginx:2",
            Self::Busybox => "localhost/busybox:1",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Nginx1 | Self::Nginx2 => "nginx-light",
            // busybox's own wget crashes when it looks up a name.
            Self::Busybox => "busybox,curl",
        }
    }

    /// The archive's path below `dir`; it is made when it is not there.
    pub fn build(self, dir: &Path) -> Result<PathBuf> {
        let archive = dir.join(format!("{}.tar", self.reference().replace(['/', ':'], "-")));
        if archive.exists() {
            return Ok(archive);
        }
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let root = unpack(self.package(), dir)?;
        let mut layer = LayerBuilder::new();
        layer.tree(&root)?;
        layer.without("/dev").without("/var/cache").without("/var/lib/apt").without("/var/lib/dpkg").without("/usr/share/doc");
        layer.without("/usr/share/man").without("/usr/share/perl").without("/usr/lib/x86_64-linux-gnu/perl-base");
        layer.bytes("/etc/passwd", 0o644, PASSWD)?;
        layer.bytes("/etc/group", 0o644, GROUP)?;
        layer.directory("/tmp", 0o1777)?;
        let config = match self {
            Self::Nginx1 | Self::Nginx2 => self.nginx(&mut layer)?,
            Self::Busybox => busybox(&mut layer)?,
        };
        let layer = layer.build(dir)?;
        let mut image = Image { reference: self.reference().to_owned(), config, layers: vec![layer] };
        // Under its name only when it is whole.
        let partial = archive.with_extension("partial");
        let file = File::create(&partial).with_context(|| format!("creating {}", partial.display()))?;
        image.write_archive(BufWriter::new(file))?;
        fs::rename(&partial, &archive)?;
        Ok(archive)
    }

    fn nginx(self, layer: &mut LayerBuilder) -> Result<Config> {
        let version = if self == Self::Nginx1 { 1 } else { 2 };
        let conf = format!(
            "daemon off;\nuser www-data;\nworker_processes 1;\npid /run/nginx.pid;\nerror_log /dev/stderr notice;\nevents {{}}\n\
             http {{\n  access_log /dev/stdout;\n  default_type text/plain;\n  server {{\n    listen 80 default_server;\n    \
             location / {{ return 200 \"nginx {version} from $hostname\\n\"; }}\n  }}\n}}\n"
        );
        layer.bytes("/etc/nginx/nginx.conf", 0o644, conf)?;
        for dir in ["/run", "/var/log/nginx", "/var/lib/nginx"] {
            layer.directory(dir, 0o755)?;
        }
        Ok(Config {
            entrypoint: vec!["/usr/sbin/nginx".into()],
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            // nginx ends gracefully on SIGQUIT, and cuts its connections on SIGTERM.
            stop_signal: "SIGQUIT".into(),
            ..Config::default()
        })
    }
}

fn busybox(layer: &mut LayerBuilder) -> Result<Config> {
    for applet in APPLETS {
        layer.link(&format!("/bin/{applet}"), "busybox")?;
    }
    Ok(Config { cmd: vec!["sh".into()], env: vec!["PATH=/bin:/usr/bin".into()], ..Config::default() })
}

/// The files of packages (a list with commas) and of all that they depend on; maintainer scripts are not run.
fn unpack(package: &str, dir: &Path) -> Result<PathBuf> {
    let root = dir.join(format!("root-{}", package.replace(',', "-")));
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
    }
    let output = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=extract", &format!("--include={package}"), "bookworm"])
        .arg(&root)
        .output()
        .context("running mmdebstrap: is it installed?")?;
    if !output.status.success() {
        bail!("mmdebstrap for {package}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let names: std::collections::BTreeSet<_> = TestImage::ALL.iter().map(|i| i.reference()).collect();
        assert_eq!(names.len(), TestImage::ALL.len());
    }
}
