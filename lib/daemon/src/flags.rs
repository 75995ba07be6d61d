//! Flags of upstream's that a daemon takes though there is nothing for them to change, and those that it refuses by name.
//!
//! A manifest or a hardening guide written for upstream names them. What is taken in silence must be true: a flag stands here only
//! when the daemon already does what any of its values asks for, or has no such part at all. One whose effect would be missed is
//! refused with the reason.

use std::ffi::{OsStr, OsString};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::feature_gates::parse_bool;
use crate::zpages::VERSION;

/// Flags that are told apart by nothing but their names.
#[derive(Clone, Copy, Debug)]
pub struct Upstream {
    pub names: &'static [&'static str],
    pub takes: Takes,
    /// Why the value changes nothing, or why there can be none.
    pub why: &'static str,
}

/// The values that flags may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A switch: true, false, or no value at all.
    Switch,
    Text,
    /// Only these: with any other one the daemon would have to do something that it cannot.
    Only(&'static [&'static str]),
    /// None: the flag is refused.
    Nothing,
}

/// What every daemon takes.
pub const COMMON: &[Upstream] = &[
    Upstream {
        names: &["log-flush-frequency", "log-json-info-buffer-size", "log-text-info-buffer-size"],
        takes: Takes::Text,
        why: "each line of the log is written at once",
    },
    Upstream {
        names: &["log-json-split-stream", "log-text-split-stream"],
        takes: Takes::Only(&["false"]),
        why: "the log goes to standard error",
    },
    Upstream { names: &["vmodule"], takes: Takes::Text, why: "KCTL_LOG sets the verbosity of single modules" },
    Upstream {
        names: &["allow-metric-labels", "allow-metric-labels-manifest"],
        takes: Takes::Text,
        why: "label values of metrics come from small fixed sets",
    },
    Upstream { names: &["show-hidden-metrics-for-version"], takes: Takes::Text, why: "no metric is hidden" },
    Upstream { names: &["profiling", "contention-profiling"], takes: Takes::Switch, why: "there is no profiling endpoint" },
    Upstream {
        names: &["emulated-version", "min-compatibility-version"],
        takes: Takes::Only(&["1.36", "kube=1.36"]),
        why: "earlier versions are not emulated",
    },
];

/// What every daemon with a secure port takes.
pub const SECURE_PORT: &[Upstream] = &[
    Upstream {
        names: &["cert-dir"],
        takes: Takes::Text,
        why: "a certificate that the daemon makes for itself is kept in memory",
    },
    Upstream { names: &["permit-address-sharing"], takes: Takes::Switch, why: "SO_REUSEADDR is always set" },
];

/// The ways to know and admit users on the secure port of a daemon that knows client certificates alone.
pub const DELEGATED: &[Upstream] = &[
    Upstream {
        names: &["authentication-skip-lookup", "authentication-tolerate-lookup-failure"],
        takes: Takes::Switch,
        why: "clients are known by --client-ca-file alone",
    },
    Upstream {
        names: &[
            "authentication-token-webhook-cache-ttl",
            "authorization-webhook-cache-authorized-ttl",
            "authorization-webhook-cache-unauthorized-ttl",
            "requestheader-allowed-names",
            "requestheader-extra-headers-prefix",
            "requestheader-group-headers",
            "requestheader-uid-headers",
            "requestheader-username-headers",
        ],
        takes: Takes::Text,
        why: "clients are known by --client-ca-file alone",
    },
];

/// What every client of the API server takes.
pub const CLIENT: &[Upstream] = &[
    Upstream {
        names: &["kube-api-qps", "kube-api-burst"],
        takes: Takes::Text,
        why: "requests are not slowed down here: the API server's priority and fairness does that",
    },
    Upstream { names: &["kube-api-content-type"], takes: Takes::Text, why: "requests are JSON" },
];

/// The command with flags that were not declared.
pub(crate) fn add(mut command: Command, tables: &[&[Upstream]]) -> Command {
    let mut taken: Vec<&str> = Vec::new();
    for row in tables.iter().copied().flatten() {
        for name in row.names {
            if command.get_arguments().any(|arg| arg.get_long() == Some(name)) {
                continue;
            }
            let arg = Arg::new(*name).long(*name).hide(true).action(ArgAction::Append);
            command = command.arg(match row.takes {
                Takes::Switch => arg
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .value_parser(|text: &str| parse_bool(text).map(|on| on.to_string())),
                Takes::Text => {
                    arg.num_args(1).allow_hyphen_values(true).value_parser(|text: &str| Ok::<_, String>(text.to_owned()))
                }
                Takes::Only(values) => {
                    let why = row.why;
                    let arg = arg.value_parser(move |text: &str| one_of(values, text, why));
                    match values {
                        ["true"] | ["false"] => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
                        _ => arg.num_args(1),
                    }
                }
                Takes::Nothing => arg
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("")
                    .value_parser(|text: &str| Ok::<_, String>(text.to_owned())),
            });
            if row.takes != Takes::Nothing {
                taken.push(name);
            }
        }
    }
    taken.sort_unstable();
    let list = taken.iter().map(|name| format!("--{name}")).collect::<Vec<_>>().join(", ");
    command.after_help(format!("Taken as upstream's manifests give them, and without effect: {list}."))
}

fn one_of(values: &[&str], text: &str, why: &str) -> Result<String, String> {
    if values.contains(&text) {
        return Ok(text.to_owned());
    }
    let all = values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(" or ");
    Err(format!("only {all} is supported: {why}"))
}

/// The flags of the tables that were given, with the reasons why they change nothing.
///
/// # Errors
/// One that is refused, and why.
pub(crate) fn given(matches: &ArgMatches, tables: &[&[Upstream]]) -> Result<Vec<(&'static str, &'static str)>, String> {
    let mut given = Vec::new();
    for row in tables.iter().copied().flatten() {
        for name in row.names {
            if !matches!(matches.value_source(name), Some(ValueSource::CommandLine)) {
                continue;
            }
            if row.takes == Takes::Nothing {
                return Err(format!("--{name} is not supported: {}", row.why));
            }
            given.push((*name, row.why));
        }
    }
    Ok(given)
}

/// The line that `--version` asks for, as upstream's daemons print it: kubeadm reads the kubelet's.
pub(crate) fn version(args: &[OsString]) -> Option<String> {
    let asks = |arg: &OsString| matches!(arg.as_os_str(), a if ["--version", "--version=true", "--version=raw"].map(OsStr::new).contains(&a));
    args.iter().skip(1).any(asks).then(|| format!("Kubernetes v{VERSION}"))
}

/// For tests of daemons: every flag of upstream's is declared or stands in a table, and no table names another one.
///
/// # Panics
/// When that is not so; the message lists the flags. `names` has one on each line.
pub fn assert_known(command: &Command, tables: &[&[Upstream]], names: &str) {
    let of_tables = || tables.iter().copied().flatten().flat_map(|row| row.names).copied();
    let known = |name: &str| {
        command.get_arguments().any(|arg| arg.get_long() == Some(name))
            || of_tables().chain(COMMON.iter().flat_map(|row| row.names).copied()).any(|known| known == name)
            || matches!(name, "help" | "version")
    };
    let unknown: Vec<&str> = names.lines().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "flags of upstream's that are not known: {unknown:?}");
    let invented: Vec<&str> = of_tables().filter(|name| !names.lines().any(|line| line == *name)).collect();
    assert!(invented.is_empty(), "flags that upstream does not have: {invented:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Upstream] = &[
        Upstream { names: &["quick", "own"], takes: Takes::Switch, why: "it is quick" },
        Upstream { names: &["rate"], takes: Takes::Text, why: "no rate" },
        Upstream { names: &["cache"], takes: Takes::Only(&["true"]), why: "there is always one" },
        Upstream { names: &["tunnel"], takes: Takes::Nothing, why: "there are no tunnels" },
    ];

    fn parse(line: &str) -> Result<Vec<(&'static str, &'static str)>, String> {
        let own = Arg::new("own").long("own").num_args(1);
        let command = add(Command::new("d").arg(own), &[TABLE]);
        let matches = command.try_get_matches_from(line.split_whitespace()).map_err(|e| e.to_string())?;
        given(&matches, &[TABLE])
    }

    #[test]
    fn what_is_taken_and_what_is_not() {
        let quick = ("quick", "it is quick");
        assert_eq!(parse("d"), Ok(vec![]));
        assert_eq!(parse("d --quick"), Ok(vec![quick]));
        assert_eq!(parse("d --quick=f --rate -1 --quick"), Ok(vec![quick, ("rate", "no rate")]));
        assert_eq!(parse("d --cache --cache=true"), Ok(vec![("cache", "there is always one")]));
        let refused = parse("d --cache=false").unwrap_err();
        assert!(refused.contains("only \"true\" is supported: there is always one"), "{refused}");
        assert!(parse("d --quick=maybe").unwrap_err().contains("strconv.ParseBool"));
        assert_eq!(parse("d --tunnel=x"), Err("--tunnel is not supported: there are no tunnels".to_owned()));
        assert!(parse("d --other").unwrap_err().contains("unexpected argument '--other'"));
        // A flag that the daemon itself declares is its own.
        assert!(parse("d --own").is_err());
    }

    #[test]
    fn versions() {
        let version = |line: &str| version(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(version("kubelet --version").as_deref(), Some("Kubernetes v1.36.2"));
        assert_eq!(version("kubelet --v=2 --version=raw").as_deref(), Some("Kubernetes v1.36.2"));
        assert_eq!(version("kubelet --version=false"), None);
    }
}
