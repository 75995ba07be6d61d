//! A webhook's `clientConfig`: where it is and which authority signed its certificate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

const DEFAULT_PORT: u16 = 443;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Service { namespace: String, name: String, port: u16 },
    Host { host: String, port: u16 },
}

/// Where a webhook is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub address: Address,
    /// Path and query, beginning with a slash.
    pub path: String,
    /// Certificates in PEM; empty trusts what the host trusts.
    pub ca_bundle: Vec<u8>,
    /// As messages show it: scheme, authority and path.
    pub shown: String,
}

impl Target {
    /// Reads the `clientConfig` of a webhook or of a conversion.
    ///
    /// # Errors
    /// What is wrong with it, as upstream words it.
    pub fn parse(config: &Value) -> Result<Self, String> {
        let ca_bundle = match config["caBundle"].as_str() {
            Some(text) => {
                let bundle =
                    STANDARD.decode(text.trim()).map_err(|error| format!("unable to load root certificates: {error}"))?;
                // White space is nothing.
                if bundle.trim_ascii().is_empty() { Vec::new() } else { bundle }
            }
            None => Vec::new(),
        };
        let service = &config["service"];
        if service.is_object() {
            let text = |field: &str| service[field].as_str().unwrap_or_default();
            let port = service["port"].as_u64().and_then(|p| u16::try_from(p).ok()).unwrap_or(DEFAULT_PORT);
            let (name, namespace) = (text("name").to_owned(), text("namespace").to_owned());
            let path = format!("/{}", text("path").trim_start_matches('/'));
            let shown = format!("https://{name}.{namespace}.svc:{port}{path}");
            return Ok(Self { address: Address::Service { namespace, name, port }, path, ca_bundle, shown });
        }
        let Some(url) = config["url"].as_str() else {
            return Err("webhook configuration must have either service or URL".to_owned());
        };
        let uri: http::Uri = url.parse().map_err(|error| format!("Unparsable URL: {error}"))?;
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if uri.scheme_str() != Some("https") || host.is_empty() {
            return Err(format!("Unparsable URL: {url}"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let address = Address::Host { host: host.to_owned(), port: uri.port_u16().unwrap_or(DEFAULT_PORT) };
        Ok(Self { address, path, ca_bundle, shown: url.to_owned() })
    }

    /// The name its certificate must be for.
    pub fn server_name(&self) -> String {
        match &self.address {
            Address::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
            Address::Host { host, .. } => host.clone(),
        }
    }

    /// `name:port`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        let (name, port) = match &self.address {
            Address::Service { port, .. } => (self.server_name(), *port),
            Address::Host { host, port } => (host.clone(), *port),
        };
        if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn client_configs() {
        let check = |config: Value, expected: Result<(&str, &str, &str), &str>| {
            let target = Target::parse(&config);
            let got = target.as_ref().map(|t| (t.authority(), t.path.as_str(), t.shown.as_str())).map_err(String::as_str);
            assert_eq!(got, expected.map(|(a, p, s)| (a.to_owned(), p, s)), "{config}");
        };
        let service = json!({"service": {"name": "s", "namespace": "n", "path": "/p", "port": 8443}});
        check(service, Ok(("s.n.svc:8443", "/p", "https://s.n.svc:8443/p")));
        let short = json!({"service": {"name": "s", "namespace": "n"}, "caBundle": "eA=="});
        check(short, Ok(("s.n.svc:443", "/", "https://s.n.svc:443/")));
        check(json!({"url": "https://h/x?y=1"}), Ok(("h:443", "/x?y=1", "https://h/x?y=1")));
        check(json!({"url": "https://[::1]:9/x"}), Ok(("[::1]:9", "/x", "https://[::1]:9/x")));
        check(json!({}), Err("webhook configuration must have either service or URL"));
        check(json!({"url": "http://h/"}), Err("Unparsable URL: http://h/"));
    }
}
