//! Logging to stderr: one line an event. Verbosity follows klog's numbers, so that `--v=4` means what it does upstream.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;

use crate::CommonArgs;

/// `--logging-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("unsupported log format {other:?}: use text or json")),
        }
    }
}

/// `KCTL_LOG` (an `EnvFilter`, as `RUST_LOG` elsewhere) wins over the verbosity flag.
pub fn init(args: &CommonArgs) {
    let level = match args.verbosity {
        0 => "warn",
        1..=3 => "info",
        4 | 5 => "debug",
        _ => "trace",
    };
    // The libraries below speak only when asked for by name.
    let filter = EnvFilter::try_from_env("KCTL_LOG").unwrap_or_else(|_| {
        EnvFilter::new(format!("{level},h2=warn,hyper=warn,hyper_util=warn,tonic=warn,rustls=warn,tower=warn,zbus=warn"))
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A second initialisation (several daemons in one test process) keeps the first.
    let _ = match args.logging_format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
}
