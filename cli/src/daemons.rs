//! One executable, many programs: the daemons by the name that the executable is called by.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

type Main = fn(std::vec::IntoIter<OsString>) -> ExitCode;

/// Every program that this executable can be, beside `kctl` itself.
pub const DAEMONS: &[(&str, Main)] = &[
    ("kube-apiserver", |args| kube_apiserver::main(args)),
    ("kube-controller-manager", |args| kube_controller_manager::main(args)),
    ("kube-scheduler", |args| kube_scheduler::main(args)),
    ("kubelet", |args| kubelet::main(args)),
    ("kube-proxy", |args| kube_proxy::main(args)),
    ("cluster-dns", |args| cluster_dns::main(args)),
    ("pause", |_| crate::pause::main()),
];

/// The daemon that `args` name: by `argv[0]` (`/usr/local/bin/kubelet --flags`), or as `kctl daemon NAME --flags`.
/// Its arguments come with it, program name first.
pub fn named_by(args: &[OsString]) -> Option<(Main, Vec<OsString>)> {
    let find = |name: &OsStr| DAEMONS.iter().find(|(n, _)| name == *n).map(|(_, main)| *main);
    let program = Path::new(args.first()?).file_name()?;
    if let Some(main) = find(program) {
        return Some((main, args.to_vec()));
    }
    if args.get(1)? == "daemon" {
        return Some((find(args.get(2)?)?, args[2..].to_vec()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_link_or_by_command() {
        let check = |line: &str, want: Option<&str>| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let got = named_by(&args).map(|(_, rest)| rest.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" "));
            assert_eq!(got.as_deref(), want, "{line}");
        };
        check("/usr/bin/kubelet --config x", Some("/usr/bin/kubelet --config x"));
        check("kctl daemon kube-proxy -v 4", Some("kube-proxy -v 4"));
        check("kctl get pods", None);
        check("kctl daemon no-such", None);
        check("kctl", None);
    }
}
