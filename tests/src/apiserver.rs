//! An API server on an etcd of its own, for tests and measurements: two processes and a directory, gone when dropped.

use std::ops::Deref;
use std::path::Path;

use anyhow::Result;

use crate::plane::{Plane, Ports};

/// A server that answers. Its directory has `admin.conf`, the kubeconfig of an administrator, and the logs.
pub struct ApiServer(Plane);

impl ApiServer {
    /// Starts `program`: `kctl`, or a kube-apiserver.
    pub async fn start(program: &Path, name: &str) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("kctl-{name}-{}", std::process::id()));
        // Nobody makes the service accounts that pods would need.
        Plane::start(&dir, program, Ports::free()?, &["--disable-admission-plugins=ServiceAccount"]).await.map(Self)
    }
}

impl Deref for ApiServer {
    type Target = Plane;

    fn deref(&self) -> &Plane {
        &self.0
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0.dir);
    }
}
