//! The flags that every command takes.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use super::{PluginPolicy, complete};

const HEADING: &str = "Connection";

#[derive(Args, Clone, Debug, Default)]
pub struct Globals {
    /// The kubeconfig file to use
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING, value_hint = ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,
    /// Preferences: aliases and defaults of flags (off: none)
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING, value_hint = ValueHint::FilePath)]
    pub kuberc: Option<PathBuf>,
    /// Which programs a kubeconfig may have asked for credentials.
    #[arg(skip)]
    pub plugins: PluginPolicy,
    /// The context of the kubeconfig to use
    #[arg(long, global = true, help_heading = HEADING, add = ArgValueCompleter::new(complete::contexts))]
    pub context: Option<String>,
    /// The cluster of the kubeconfig to use
    #[arg(long, global = true, help_heading = HEADING)]
    pub cluster: Option<String>,
    /// The user of the kubeconfig to use
    #[arg(long, global = true, help_heading = HEADING)]
    pub user: Option<String>,
    /// The namespace of this request
    #[arg(short, long, global = true, help_heading = HEADING, add = ArgValueCompleter::new(complete::namespaces))]
    pub namespace: Option<String>,
    /// Address of the API server
    #[arg(short, long, global = true, value_name = "URL", help_heading = HEADING)]
    pub server: Option<String>,
    /// Bearer token to authenticate with
    #[arg(long, global = true, help_heading = HEADING, hide_env_values = true)]
    pub token: Option<String>,
    /// User to act as
    #[arg(long = "as", global = true, value_name = "USER", help_heading = HEADING)]
    pub impersonate: Option<String>,
    /// Group to act as; may be given several times
    #[arg(long = "as-group", global = true, value_name = "GROUP", help_heading = HEADING)]
    pub impersonate_groups: Vec<String>,
    /// Uid to act as, with --as
    #[arg(long = "as-uid", global = true, value_name = "UID", help_heading = HEADING)]
    pub impersonate_uid: Option<String>,
    /// What else is known of who to act as, with --as: KEY=VALUE; may be given several times
    #[arg(long = "as-user-extra", global = true, value_name = "KEY=VALUE", help_heading = HEADING)]
    pub impersonate_extra: Vec<String>,
    /// Certificate authority of the API server
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING, value_hint = ValueHint::FilePath)]
    pub certificate_authority: Option<PathBuf>,
    /// Client certificate to authenticate with
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING, value_hint = ValueHint::FilePath)]
    pub client_certificate: Option<PathBuf>,
    /// Key of the client certificate
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING, value_hint = ValueHint::FilePath)]
    pub client_key: Option<PathBuf>,
    /// Do not verify the server's certificate
    #[arg(long, global = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, help_heading = HEADING)]
    pub insecure_skip_tls_verify: Option<bool>,
    /// Name to verify the server's certificate for
    #[arg(long, global = true, value_name = "NAME", help_heading = HEADING)]
    pub tls_server_name: Option<String>,
    /// How long one request may take (5s, 2m); 0 is for ever
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration, help_heading = HEADING)]
    pub request_timeout: Option<Duration>,
    /// How much to tell of what is done
    #[arg(short, long = "v", global = true, value_name = "LEVEL", help_heading = HEADING)]
    pub verbosity: Option<u8>,
}

/// A duration as Go writes it (`1h30m`, `500ms`); a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration (use 30s, 5m, 1h30m)");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(wrong()),
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

/// A duration as Go writes it: `1m0s`, `500ms`.
pub fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 && duration.subsec_millis() > 0 {
        return format!("{}ms", duration.subsec_millis());
    }
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_for_people() {
        for (millis, text) in [(0, "0s"), (500, "500ms"), (5000, "5s"), (60_000, "1m0s"), (3_661_000, "1h1m1s")] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn durations_as_go_writes_them() {
        for (text, millis) in [("30s", 30_000), ("1h30m", 5_400_000), ("1.5s", 1500), ("500ms", 500), ("7", 7000), ("0", 0)] {
            assert_eq!(duration(text).unwrap().as_millis(), millis, "{text}");
        }
        for text in ["s", "5x", "-1s", "1m5"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
