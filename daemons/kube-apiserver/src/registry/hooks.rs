//! The few places where writing one kind touches what other objects hold: addresses and ports of Services.

use machinery::status::Status;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use super::{Registry, Served};
use crate::service_ip::ServiceNetwork;

/// What the generic verbs call around a write.
pub struct Hooks {
    pub services: ServiceNetwork,
    service_turn: Mutex<()>,
}

impl Hooks {
    pub fn new(services: ServiceNetwork) -> Self {
        Self { services, service_turn: Mutex::default() }
    }

    /// Whoever holds this is the only one writing a resource whose objects share numbers.
    pub async fn turn(&self, served: &Served) -> Option<MutexGuard<'_, ()>> {
        if is_service(served) { Some(self.service_turn.lock().await) } else { None }
    }

    pub async fn before_create(&self, registry: &Registry, served: &Served, object: &mut Value) -> Result<(), Status> {
        if is_service(served) {
            self.services.allocate(&registry.services_in_use().await?, object, None, registry.random())?;
        }
        Ok(())
    }

    pub async fn before_update(
        &self,
        registry: &Registry,
        served: &Served,
        new: &mut Value,
        old: &Value,
        subresource: &str,
    ) -> Result<(), Status> {
        if is_service(served) && subresource.is_empty() {
            self.services.allocate(&registry.services_in_use().await?, new, Some(old), registry.random())?;
        }
        Ok(())
    }
}

fn is_service(served: &Served) -> bool {
    served.resource.group.is_empty() && served.resource.plural == "services"
}

impl Registry {
    /// All Services, as the store has them now.
    async fn services_in_use(&self) -> Result<Vec<Value>, Status> {
        let served = self.stored("", "services").ok_or_else(|| Status::internal("services are not served"))?;
        let snapshot = served.store.consistent().await?;
        Ok(snapshot.scan(&served.store.prefix(""), None).filter_map(super::store::EntryExt::value).collect())
    }
}
