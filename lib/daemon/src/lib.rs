//! What every daemon shares, written once: start-up, signals, logging, TLS serving with reload, health, metrics.
//!
//! A daemon's `main` parses its flags and calls [`run_main`]; everything that must behave alike in all of them is here.

pub mod duration;
pub mod endpoints;
pub mod feature_gates;
pub mod fields;
pub mod flags;
pub mod health;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod reload;
pub mod serving;
pub mod shutdown;
pub mod sni;
pub mod tls;
pub mod tls_policy;
pub mod zpages;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

pub use shutdown::Shutdown;

/// Makes ring the process's TLS provider. Calling it again changes nothing.
pub fn install_crypto() {
    // The only error is "already installed", which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Flags that every daemon takes beside its own.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonArgs {
    /// Number for the log level verbosity: 0 warnings, 2 information, 4 debug, 6 trace.
    #[arg(short = 'v', long = "v", default_value_t = 2, global = true, value_name = "LEVEL")]
    pub verbosity: u8,
    /// Log format: text or json.
    #[arg(long = "logging-format", default_value = "text", global = true, value_name = "FORMAT")]
    pub logging_format: logging::Format,
    /// Metrics that are not shown, separated by commas.
    #[arg(long, global = true, value_delimiter = ',', value_name = "NAMES")]
    pub disabled_metrics: Vec<String>,
}

/// Parses flags, sets up logging, cryptography and signals, and runs the daemon until it ends or is told to.
///
/// `upstream` are flags that it takes, or refuses with a reason, beside those that `A` declares ([`flags`]).
///
/// Exit codes: 0 after a requested shutdown, 1 after an error (printed once, with its chain), 2 for wrong flags.
pub fn run_main<A, F, E>(
    args: impl Iterator<Item = OsString>,
    threads: Threads,
    upstream: &[&[flags::Upstream]],
    common: fn(&A) -> &CommonArgs,
    run: fn(A, Shutdown) -> F,
) -> ExitCode
where
    A: clap::Parser,
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let args: Vec<OsString> = args.collect();
    if let Some(line) = flags::version(&args) {
        println!("{line}");
        return ExitCode::SUCCESS;
    }
    let mut tables = vec![flags::COMMON];
    tables.extend(upstream);
    let mut command = flags::add(A::command(), &tables);
    let parsed = command.try_get_matches_from_mut(args).and_then(|matches| {
        zpages::note(&command, &matches);
        let without_effect = flags::given(&matches, &tables);
        let without_effect = without_effect.map_err(|why| command.error(clap::error::ErrorKind::UnknownArgument, why))?;
        A::from_arg_matches(&matches).map(|args| (args, without_effect)).map_err(|error| error.format(&mut command))
    });
    let (args, without_effect) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    logging::init(common(&args));
    metrics::hide(&common(&args).disabled_metrics);
    for (name, why) in without_effect {
        tracing::info!("--{name} changes nothing: {why}");
    }
    install_crypto();
    let mut builder = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::PerCore => tokio::runtime::Builder::new_multi_thread(),
    };
    // Idle threads end: file operations come in bursts, and a blocked thread's stack is memory.
    builder.max_blocking_threads(64).thread_keep_alive(std::time::Duration::from_secs(2));
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "starting the runtime");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async move {
        let shutdown = Shutdown::on_signals();
        run(args, shutdown).await
    });
    // Blocking calls that are still under way (a name look-up, a read) must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(error.into().as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// How many threads a daemon's runtime has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// For daemons that mostly wait: the least memory.
    One,
    /// For daemons that serve.
    PerCore,
}

/// An error and its causes on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}
