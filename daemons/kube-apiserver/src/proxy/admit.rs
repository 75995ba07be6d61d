//! Admission of streams: CONNECT, with the options that the query stands for as its object.

use std::sync::Arc;

use http::Uri;
use machinery::status::Status;
use serde_json::{Map, Value, json};

use crate::admission::{Operation, Request};
use crate::authn::user::User;
use crate::registry::Context;
use crate::registry::options::WriteOptions;
use crate::request_info::{ResourcePath, query_pairs};
use crate::server::Server;

/// Asks the admission plugins, unless the path is only read (`log`).
pub(super) async fn admit(server: &Arc<Server>, path: &ResourcePath, user: &Arc<User>, uri: &Uri) -> Result<(), Status> {
    let Some((kind, mut options)) = options(path, uri.query().unwrap_or_default(), uri.path()) else { return Ok(()) };
    let served = server.registry.served("", "v1", &path.resource).ok_or_else(Status::no_such_path)?;
    let cx = Context::new(user.clone(), (server.now)(), WriteOptions::default());
    let request =
        Request::new(&cx, &served, Operation::Connect, &path.subresource, &path.namespace, &path.name).of_kind("v1", kind);
    let admission = &server.registry.admission;
    admission.mutate(&request, &mut options, None).await?;
    admission.validate(&request, &options, None).await
}

/// The kind of a stream's options, and the options.
fn options(path: &ResourcePath, query: &str, uri_path: &str) -> Option<(&'static str, Value)> {
    let flag = |name: &'static str, default: bool| {
        let given = query_pairs(query).find(|(key, _)| key == name).map(|(_, value)| !matches!(value.as_str(), "false" | "0"));
        given.unwrap_or(default).then(|| (name.to_owned(), json!(true)))
    };
    let text =
        |name: &'static str| query_pairs(query).find(|(key, _)| key == name).map(|(_, value)| (name.to_owned(), json!(value)));
    let all = |name: &str| -> Vec<String> { query_pairs(query).filter(|(key, _)| key == name).map(|(_, value)| value).collect() };
    let (kind, fields): (_, Map<String, Value>) = match (path.resource.as_str(), path.subresource.as_str()) {
        ("pods", "exec" | "attach") => {
            let streams =
                [flag("stdin", false), flag("stdout", true), flag("stderr", true), flag("tty", false), text("container")];
            let mut fields: Map<String, Value> = streams.into_iter().flatten().collect();
            if path.subresource == "exec" {
                fields.insert("command".to_owned(), json!(all("command")));
            }
            (if path.subresource == "exec" { "PodExecOptions" } else { "PodAttachOptions" }, fields)
        }
        ("pods", "portforward") => {
            let ports: Vec<u16> = all("ports").iter().flat_map(|list| list.split(',')).filter_map(|p| p.parse().ok()).collect();
            let fields = (!ports.is_empty()).then(|| ("ports".to_owned(), json!(ports)));
            ("PodPortForwardOptions", fields.into_iter().collect())
        }
        (resource, "proxy") => {
            let below = uri_path.split_once("/proxy").map(|(_, rest)| rest).filter(|rest| !rest.is_empty());
            let kind = match resource {
                "pods" => "PodProxyOptions",
                "services" => "ServiceProxyOptions",
                _ => "NodeProxyOptions",
            };
            (kind, below.map(|below| ("path".to_owned(), json!(below))).into_iter().collect())
        }
        _ => return None,
    };
    let mut options = json!({"kind": kind, "apiVersion": "v1"});
    machinery::meta::as_object_mut(&mut options).extend(fields);
    Some((kind, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_streams() {
        let check = |resource: &str, subresource: &str, query: &str, uri: &str, expected: Value| {
            let path = ResourcePath { resource: resource.into(), subresource: subresource.into(), ..ResourcePath::default() };
            assert_eq!(
                options(&path, query, uri).map_or(Value::Null, |(_, options)| options),
                expected,
                "{resource}/{subresource}"
            );
        };
        let exec = json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdout": true, "tty": true, "container": "c", "command": ["a", "b"]});
        check("pods", "exec", "command=a&command=b&stderr=false&tty=true&container=c", "", exec);
        check("pods", "attach", "stdout=0&stderr=0", "", json!({"kind": "PodAttachOptions", "apiVersion": "v1"}));
        check("pods", "portforward", "ports=80", "", json!({"kind": "PodPortForwardOptions", "apiVersion": "v1", "ports": [80]}));
        let proxy = json!({"kind": "ServiceProxyOptions", "apiVersion": "v1", "path": "/x"});
        check("services", "proxy", "", "/api/v1/namespaces/a/services/s/proxy/x", proxy);
        check("pods", "log", "", "", Value::Null);
    }
}
