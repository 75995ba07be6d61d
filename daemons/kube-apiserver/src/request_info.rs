//! What a request is about, read once from its method, path and query: every later layer (authorization, audit, fairness,
//! registry) looks here and never at the path again.

use std::borrow::Cow;

use http::Method;

/// A request, as authorization and audit speak of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// The path, percent-decoded.
    pub path: String,
    /// A resource verb (`get`, `list`, `watch`, `create`…) for resources, else the method in lower case.
    pub verb: Cow<'static, str>,
    /// None for paths such as `/healthz` and `/apis`.
    pub resource: Option<ResourcePath>,
}

/// The parts of a path below `/api/v1` or `/apis/GROUP/VERSION`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcePath {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    /// Empty when the path names none. For namespaces themselves it is the name, as upstream has it.
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource (`services/NAME/proxy/THIS/AND/THIS`), without the leading slash.
    pub rest: String,
}

/// Subresources of Namespace: `namespaces/NAME/status` is not the resource `status` in that namespace.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads a request; `query` is the raw query string.
    pub fn parse(method: &Method, raw_path: &str, query: &str) -> Self {
        let path = percent_decode(raw_path);
        let parts: Vec<&str> = path.trim_matches('/').split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return Self { verb: Cow::Owned(method.as_str().to_ascii_lowercase()), path, resource: None },
        };
        let (legacy_watch, rest) = match rest {
            ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
            rest => (false, rest),
        };
        let mut target = resource_path(rest);
        target.group = group.to_owned();
        target.version = version.to_owned();
        let verb = if legacy_watch { "watch" } else { verb(method, &mut target, query) };
        Self { verb: Cow::Borrowed(verb), resource: Some(target), path }
    }

    pub fn is_watch(&self) -> bool {
        self.resource.is_some() && self.verb == "watch"
    }

    /// Requests that stay open as long as the client likes: they get no deadline and no seat.
    pub fn is_long_running(&self) -> bool {
        let Some(resource) = &self.resource else { return false };
        self.verb == "watch" || matches!(resource.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy" | "log")
    }

    /// Requests that change nothing.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb.as_ref(), "get" | "list" | "watch" | "head" | "options")
    }
}

impl ResourcePath {
    /// `pods`, or `pods/log`.
    pub fn combined(&self) -> String {
        if self.subresource.is_empty() { self.resource.clone() } else { format!("{}/{}", self.resource, self.subresource) }
    }
}

fn resource_path(parts: &[&str]) -> ResourcePath {
    let mut target = ResourcePath::default();
    let parts = match parts {
        ["namespaces", namespace, rest @ ..] => {
            target.namespace = (*namespace).to_owned();
            match rest {
                [] => parts,
                [sub, ..] if NAMESPACE_SUBRESOURCES.contains(sub) => parts,
                rest => rest,
            }
        }
        _ => parts,
    };
    if let Some(resource) = parts.first() {
        target.resource = (*resource).to_owned();
    }
    if let Some(name) = parts.get(1) {
        target.name = (*name).to_owned();
    }
    if let Some(subresource) = parts.get(2) {
        target.subresource = (*subresource).to_owned();
        target.rest = parts[3..].join("/");
    }
    target
}

fn verb(method: &Method, target: &mut ResourcePath, query: &str) -> &'static str {
    let verb = match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    };
    if !target.name.is_empty() {
        return verb;
    }
    let verb = match verb {
        "get" if query_flag(query, "watch") => "watch",
        "get" => "list",
        "delete" => "deletecollection",
        other => return other,
    };
    // A selector for one name is a question about that name, which a rule with resourceNames can allow.
    if let Some(selector) = query_value(query, "fieldSelector")
        && let Some(name) = selected_name(&selector)
    {
        target.name = name;
    }
    verb
}

fn selected_name(selector: &str) -> Option<String> {
    let name = selector.split(',').find_map(|term| term.trim().strip_prefix("metadata.name="))?;
    let name = name.trim_start_matches('=');
    (!name.is_empty()).then(|| name.to_owned())
}

/// The first value of a query parameter, decoded.
pub fn query_value(query: &str, name: &str) -> Option<String> {
    query_pairs(query).find(|(key, _)| key == name).map(|(_, value)| value)
}

/// All pairs of a query string, decoded.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(&key.replace('+', " ")), percent_decode(&value.replace('+', " ")))
    })
}

/// A boolean parameter as upstream reads it: present and neither `false` nor `0`.
pub fn query_flag(query: &str, name: &str) -> bool {
    query_value(query, name).is_some_and(|value| value != "false" && value != "0")
}

/// Decodes `%XX`; what is not valid UTF-8 afterwards is replaced, what is not a valid escape is kept.
pub fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escape = (bytes[i] == b'%')
            .then(|| bytes.get(i + 1..i + 3))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escape {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `verb group/version namespace resource/subresource name rest`, or `verb -` for a path that is no resource.
    fn check(request: &str, expected: &str) {
        let (method, target) = request.split_once(' ').expect("METHOD path");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let info = RequestInfo::parse(&method.parse().expect("a method"), path, query);
        let got = match &info.resource {
            None => format!("{} -", info.verb),
            Some(r) => format!(
                "{} {}/{} ns={} {} name={} rest={}",
                info.verb,
                r.group,
                r.version,
                r.namespace,
                r.combined(),
                r.name,
                r.rest
            ),
        };
        assert_eq!(got, expected, "{request}");
    }

    #[test]
    fn requests() {
        check("GET /healthz", "get -");
        check("POST /apis", "post -");
        check("GET /api/v1", "get -");
        check("GET /apis/apps/v1", "get -");
        check("GET /api/v1/nodes", "list /v1 ns= nodes name= rest=");
        check("GET /api/v1/nodes/n1", "get /v1 ns= nodes name=n1 rest=");
        check("GET /api/v1/namespaces", "list /v1 ns= namespaces name= rest=");
        check("GET /api/v1/namespaces/a", "get /v1 ns=a namespaces name=a rest=");
        check("PUT /api/v1/namespaces/a/finalize", "update /v1 ns=a namespaces/finalize name=a rest=");
        check("PUT /api/v1/namespaces/a/status", "update /v1 ns=a namespaces/status name=a rest=");
        check("GET /api/v1/namespaces/a/pods", "list /v1 ns=a pods name= rest=");
        check("GET /api/v1/namespaces/a/pods?watch=1", "watch /v1 ns=a pods name= rest=");
        check("GET /api/v1/namespaces/a/pods?watch=true", "watch /v1 ns=a pods name= rest=");
        check("GET /api/v1/namespaces/a/pods?watch=false", "list /v1 ns=a pods name= rest=");
        check("GET /api/v1/watch/namespaces/a/pods", "watch /v1 ns=a pods name= rest=");
        check("DELETE /apis/apps/v1/namespaces/a/deployments", "deletecollection apps/v1 ns=a deployments name= rest=");
        check("DELETE /apis/apps/v1/namespaces/a/deployments/d", "delete apps/v1 ns=a deployments name=d rest=");
        check("PATCH /apis/apps/v1/namespaces/a/deployments/d/scale", "patch apps/v1 ns=a deployments/scale name=d rest=");
        check("POST /api/v1/namespaces/a/pods/p/exec?command=x", "create /v1 ns=a pods/exec name=p rest=");
        check("GET /api/v1/namespaces/a/services/s:80/proxy/x/y", "get /v1 ns=a services/proxy name=s:80 rest=x/y");
        check("GET /api/v1/nodes?fieldSelector=metadata.name%3Dn1&watch=1", "watch /v1 ns= nodes name=n1 rest=");
        check("OPTIONS /api/v1/nodes", " /v1 ns= nodes name= rest=");
        check("GET /api/v1/namespaces/a/pods/p%2Fq", "get /v1 ns=a pods/q name=p rest=");
    }
}
