//! `--tracing-config-file`: a TracingConfiguration of `apiserver.config.k8s.io` (KEP-647).

use machinery::field::{FieldErrors, Path};
use serde::Deserialize;

use super::sampler::{MILLION, Sampler};

const VERSIONS: [&str; 3] = ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];
/// Where collectors listen on their own host.
const ENDPOINT: &str = "localhost:4317";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    endpoint: Option<String>,
    sampling_rate_per_million: Option<i32>,
}

/// Where spans go, and of how many requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingConfiguration {
    /// `host:port`.
    pub endpoint: String,
    pub sampler: Sampler,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading the tracing configuration: {0}")]
    Syntax(String),
    #[error("no kind {kind:?} is registered for version {version:?}")]
    Kind { kind: String, version: String },
    #[error("invalid tracing configuration: {0}")]
    Invalid(FieldErrors),
}

impl TracingConfiguration {
    /// # Errors
    ///
    /// The text is no such configuration, or names what is not possible.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let file: File = machinery::yaml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        if file.kind != "TracingConfiguration" || !VERSIONS.contains(&file.api_version.as_str()) {
            return Err(ConfigError::Kind { kind: file.kind, version: file.api_version });
        }
        let rate = file.sampling_rate_per_million.unwrap_or(0);
        let endpoint = file.endpoint.as_deref().unwrap_or(ENDPOINT);
        let mut errors = FieldErrors::new();
        check_rate(rate, &Path::new("samplingRatePerMillion"), &mut errors);
        let address = address(endpoint, &Path::new("endpoint"), &mut errors);
        if !errors.is_empty() {
            return Err(ConfigError::Invalid(errors));
        }
        // In range: it was just checked.
        Ok(Self { endpoint: address, sampler: Sampler::per_million(rate.unsigned_abs()) })
    }
}

fn check_rate(rate: i32, path: &Path, errors: &mut FieldErrors) {
    if rate < 0 {
        errors.invalid(path, rate, "sampling rate must be positive");
    }
    if i64::from(rate) > i64::from(MILLION) {
        errors.invalid(path, rate, "sampling rate per million must be less than or equal to one million");
    }
}

/// `host:port` of gRPC's names: plain, or `dns://AUTHORITY/host:port`.
fn address(endpoint: &str, path: &Path, errors: &mut FieldErrors) -> String {
    let address = match endpoint.split_once("//") {
        None => endpoint.strip_prefix("dns:").unwrap_or(endpoint),
        Some(("dns:", rest)) => rest.split_once('/').map_or(rest, |(_authority, name)| name),
        Some((scheme, _)) => {
            let detail = format!("unsupported scheme: {}.  Options are none or dns", scheme.trim_end_matches(':'));
            errors.invalid(path, endpoint, detail);
            return String::new();
        }
    };
    if address.parse::<http::uri::Authority>().is_err() {
        errors.invalid(path, endpoint, "must be host:port");
    }
    address.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<TracingConfiguration, String> {
        let text = format!("apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n{rest}");
        TracingConfiguration::parse(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn files() {
        let good = |endpoint: &str, rate| {
            Ok(TracingConfiguration { endpoint: endpoint.to_owned(), sampler: Sampler::per_million(rate) })
        };
        assert_eq!(parse(""), good("localhost:4317", 0));
        assert_eq!(parse("samplingRatePerMillion: 1000000"), good("localhost:4317", MILLION));
        assert_eq!(parse("endpoint: collector:4317"), good("collector:4317", 0));
        assert_eq!(parse("endpoint: dns:///collector:4317"), good("collector:4317", 0));
        for (text, message) in [
            ("samplingRatePerMillion: -1", "samplingRatePerMillion: Invalid value: -1: sampling rate must be positive"),
            (
                "samplingRatePerMillion: 1000001",
                "samplingRatePerMillion: Invalid value: 1000001: sampling rate per million must be less than or equal to one million",
            ),
            (
                "endpoint: unix:///run/otel.sock",
                "endpoint: Invalid value: \"unix:///run/otel.sock\": unsupported scheme: unix.  Options are none or dns",
            ),
            ("endpoint: 'a b'", "endpoint: Invalid value: \"a b\": must be host:port"),
        ] {
            assert_eq!(parse(text), Err(format!("invalid tracing configuration: {message}")));
        }
        assert!(parse("unknown: 1").unwrap_err().starts_with("reading the tracing configuration: "));
        let other = TracingConfiguration::parse("apiVersion: v1\nkind: Pod\n").unwrap_err().to_string();
        assert_eq!(other, "no kind \"Pod\" is registered for version \"v1\"");
    }
}
