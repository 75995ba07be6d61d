//! Asking.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use machinery::gotext;

use super::{Component, Health};
use crate::proxy::backend::{Backend, Security};
use crate::server::Server;

const TIMEOUT: Duration = Duration::from_secs(20);
const ANSWER_BYTES_MAX: usize = 10 * 1024;

/// Asks a part, and waits for its answer.
pub(super) async fn health(server: &Arc<Server>, component: Component) -> Health {
    match component {
        Component::Daemon { port, .. } => daemon(server, port).await,
        Component::Store => store(server).await,
    }
}

async fn daemon(server: &Arc<Server>, port: u16) -> Health {
    let backend = Backend { host: "127.0.0.1".to_owned(), port, security: Security::AnyServer };
    let url = gotext::quote(&format!("https://{}/healthz", backend.authority()));
    let Ok(request) = Request::get("/healthz").body(Full::<Bytes>::default()) else {
        return Health::Failed(format!("failed to construct probe request: {url}"));
    };
    let asked = async {
        let answer = backend.send(&server.kubelet, request).await.map_err(|error| error.to_string())?;
        let code = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((code, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(Ok((code, body))) if code.is_success() => Health::Healthy(body),
        Ok(Ok((code, _))) => Health::Unhealthy(format!("HTTP probe failed with statuscode: {}", code.as_u16())),
        Ok(Err(why)) => Health::Unhealthy(format!("Get {url}: {why}")),
        Err(_) => Health::Unhealthy(format!("Get {url}: context deadline exceeded")),
    }
}

async fn store(server: &Arc<Server>) -> Health {
    match tokio::time::timeout(TIMEOUT, server.registry.feed.storage().current_revision()).await {
        Ok(Ok(_)) => Health::Healthy("ok".to_owned()),
        Ok(Err(error)) => Health::Failed(error.to_string()),
        Err(_) => Health::Failed("context deadline exceeded".to_owned()),
    }
}
