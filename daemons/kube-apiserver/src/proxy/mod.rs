//! Streams through the server to kubelets, pods and services: `log`, `exec`, `attach`, `portforward`, `proxy`.

use std::sync::Arc;

use http::Response;
use http::request::Parts;
use machinery::status::Status;

use crate::authn::user::User;
use crate::pipeline::RequestBody;
use crate::request_info::ResourcePath;
use crate::respond::Body;
use crate::server::Server;

/// An authorised request for a stream. `parts.extensions` holds hyper's upgrade.
pub struct Connect {
    pub path: ResourcePath,
    pub user: Arc<User>,
    pub parts: Parts,
    pub body: RequestBody,
}

/// Whether the path names a stream.
pub fn is_connect(path: &ResourcePath) -> bool {
    path.group.is_empty()
        && match path.resource.as_str() {
            "pods" => matches!(path.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy"),
            "services" | "nodes" => path.subresource == "proxy",
            _ => false,
        }
}

pub async fn connect(_server: &Arc<Server>, connect: Connect) -> Result<Response<Body>, Status> {
    Err(Status::unavailable(format!("{} is not connected yet", connect.path.combined())))
}
