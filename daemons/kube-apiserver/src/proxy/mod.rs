//! Streams through the server to kubelets, pods and services: `log`, `exec`, `attach`, `portforward`, `proxy`.
//!
//! | Question | Answer |
//! |---|---|
//! | To which machine does a request go? | [`target`] |
//! | What do admission plugins see of it? | [`admit`] |
//! | How is that machine reached? | [`backend`] |
//! | How do exec, attach and port-forward get through? | [`command`] |
//! | How do logs? | [`log`] |
//! | How does plain HTTP to pods, services and nodes? | [`forward`] |
//!
//! **Invariants:** a redirect of a backend is never followed; a connection is handed over to a backend only after that
//! backend answered 101; credentials of the client are never passed on.

mod admit;
pub(crate) mod backend;
mod command;
mod forward;
mod log;
mod target;

use std::sync::Arc;

use http::Response;
use http::request::Parts;
use machinery::status::Status;

pub(crate) use self::backend::strip_connection;
use crate::authn::user::User;
use crate::authz::{Attributes, ResourceAttributes, forbidden};
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

impl Connect {
    fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }
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

pub async fn connect(server: &Arc<Server>, connect: Connect) -> Result<Response<Body>, Status> {
    match connect.path.subresource.as_str() {
        "log" => log::serve(server, connect).await,
        "exec" | "attach" => {
            may_create(server, &connect.path, &connect.user).await?;
            admit::admit(server, &connect.path, &connect.user, &connect.parts.uri).await?;
            command::exec(server, connect).await
        }
        "portforward" => {
            may_create(server, &connect.path, &connect.user).await?;
            admit::admit(server, &connect.path, &connect.user, &connect.parts.uri).await?;
            command::port_forward(server, connect).await
        }
        _ => {
            admit::admit(server, &connect.path, &connect.user, &connect.parts.uri).await?;
            forward::serve(server, connect).await
        }
    }
}

/// A WebSocket begins with GET, which was authorised as `get`; but running a command is a `create`, however it begins.
async fn may_create(server: &Server, path: &ResourcePath, user: &User) -> Result<(), Status> {
    let resource = ResourceAttributes {
        group: &path.group,
        resource: &path.resource,
        subresource: &path.subresource,
        namespace: &path.namespace,
        name: &path.name,
        version: &path.version,
        ..Default::default()
    };
    let attributes = Attributes::resource(user, "create", resource);
    let decision = server.authorizer.decide(&attributes).await;
    if decision.allowed() { Ok(()) } else { Err(forbidden(&attributes, decision.reason())) }
}

#[cfg(test)]
mod tests;
