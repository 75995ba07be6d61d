//! Headers for browsers: which pages of other origins may ask (`--cors-allowed-origins`), and that the server is never to be asked
//! without TLS (`--strict-transport-security-directives`).

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use machinery::regexp::{self, Regex};

/// What is said to browsers. The default is nothing.
#[derive(Clone, Debug, Default)]
pub struct Browsers {
    strict_transport: Option<HeaderValue>,
    origins: Vec<Regex>,
}

const TO_ALLOWED: [(HeaderName, &str); 4] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, OPTIONS, PUT, DELETE, PATCH"),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Requested-With, If-Modified-Since",
    ),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
];

impl Browsers {
    /// `origins` are regular expressions, one for each origin that may ask.
    ///
    /// # Errors
    /// A directive or an expression that upstream refuses, in its words.
    pub fn new(directives: &[String], origins: &[String]) -> Result<Self, String> {
        for directive in directives {
            check_directive(directive)?;
        }
        let strict_transport = match directives {
            [] => None,
            some => Some(HeaderValue::try_from(some.join("; ")).map_err(|error| error.to_string())?),
        };
        Ok(Self { strict_transport, origins: origins.iter().map(|text| pattern(text)).collect::<Result<_, _>>()? })
    }

    /// The origin of a page that may ask; none for what no page asked.
    pub fn allowed<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        if self.origins.is_empty() {
            return None;
        }
        let origin = headers.get(header::ORIGIN)?;
        let text = origin.to_str().ok().filter(|text| !text.is_empty())?;
        self.origins.iter().any(|pattern| pattern.is_match(text)).then_some(origin)
    }

    /// Whether this is only the question whether a page may ask: answered without looking at who asks.
    pub fn is_preflight(&self, method: &Method, headers: &HeaderMap) -> bool {
        method == Method::OPTIONS && self.allowed(headers).is_some()
    }

    /// Adds what is to be said; `origin` is the one that [`Self::allowed`] found.
    pub fn tell(&self, origin: Option<HeaderValue>, response: &mut HeaderMap) {
        if let Some(strict) = &self.strict_transport {
            response.entry(header::STRICT_TRANSPORT_SECURITY).or_insert_with(|| strict.clone());
        }
        if let Some(origin) = origin {
            response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            response.extend(TO_ALLOWED.map(|(name, value)| (name, HeaderValue::from_static(value))));
        }
    }
}

fn check_directive(directive: &str) -> Result<(), String> {
    if directive.trim().is_empty() {
        return Err("empty value in strict-transport-security-directives".to_owned());
    }
    let max_age = directive.strip_prefix("max-age=").is_some_and(|rest| !rest.contains('='));
    if max_age || matches!(directive, "includeSubDomains" | "preload") {
        return Ok(());
    }
    Err("--strict-transport-security-directives invalid, allowed values: max-age=expireTime, includeSubDomains, preload. see \
         https://tools.ietf.org/html/rfc6797#section-6.1 for more information"
        .to_owned())
}

/// An expression that is bound to the host's start and end, so that `example.com` does not allow `example.com.evil.org`
/// (CVE-2022-1996).
fn pattern(text: &str) -> Result<Regex, String> {
    let start = ["^", "//"].iter().any(|part| text.contains(part));
    let end = ["$", ":"].iter().any(|part| text.contains(part));
    if !start || !end {
        return Err(format!(
            "regular expression does not pin to start/end of host in the origin header - \"--cors-allowed-origins\": {text}"
        ));
    }
    regexp::compile(text).map_err(|error| format!("--cors-allowed-origins has an invalid regular expression: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    fn from(origin: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ORIGIN, origin.parse().unwrap())])
    }

    #[test]
    fn origins() {
        let browsers = Browsers::new(&[], &list(&[r"^https://ui\.example\.com$", r"//localhost(:|$)"])).unwrap();
        for (origin, allowed) in [
            ("https://ui.example.com", true),
            ("https://ui.example.com.evil.org", false),
            ("https://evil.org/ui.example.com", false),
            ("http://localhost", true),
            ("http://localhost:8080", true),
            ("", false),
        ] {
            assert_eq!(browsers.allowed(&from(origin)).is_some(), allowed, "{origin}");
            assert_eq!(browsers.is_preflight(&Method::OPTIONS, &from(origin)), allowed, "{origin}");
            assert!(!browsers.is_preflight(&Method::GET, &from(origin)));
        }
        assert!(Browsers::default().allowed(&from("http://localhost")).is_none());
        for wrong in ["example.com", "^example", "com$", "^(://$"] {
            assert!(Browsers::new(&[], &list(&[wrong])).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_said() {
        let directives = list(&["max-age=31536000", "includeSubDomains", "preload"]);
        let browsers = Browsers::new(&directives, &list(&["//a$"])).unwrap();
        let mut response = HeaderMap::new();
        browsers.tell(None, &mut response);
        assert_eq!(response.len(), 1);
        assert_eq!(response[header::STRICT_TRANSPORT_SECURITY], "max-age=31536000; includeSubDomains; preload");
        browsers.tell(Some(HeaderValue::from_static("http://a")), &mut response);
        assert_eq!((response.len(), &response[header::ACCESS_CONTROL_ALLOW_ORIGIN]), (6, &HeaderValue::from_static("http://a")));
        for wrong in ["", "max-age", "max-age=1=2", "Preload"] {
            assert!(Browsers::new(&list(&[wrong]), &[]).is_err(), "{wrong}");
        }
    }
}
