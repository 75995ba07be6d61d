//! The few kinds whose writes need more than the object: Services share addresses and ports, and certificate requests say
//! who made them.

use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::{Context, Registry, Served};
use crate::authn::user::User;
use crate::lookup::Lookup;
use crate::service_ip::{self, Held, ServiceNetwork};

/// What the generic verbs call around a write.
pub struct Hooks {
    pub services: ServiceNetwork,
}

impl Hooks {
    pub fn new(services: ServiceNetwork) -> Self {
        Self { services }
    }

    pub async fn before_create(
        &self,
        registry: &Registry,
        cx: &Context,
        served: &Served,
        object: &mut Value,
    ) -> Result<Held, Status> {
        if is_certificate_request(served) {
            set_requester(object, &cx.user);
        }
        if is_definition(served) {
            let all = registry.objects(&served.resource.group, &served.resource.plural, "");
            let now = machinery::time::format(cx.now);
            if let Some(status) = crate::custom::naming::decide(object, &all, &now) {
                meta::as_object_mut(object).insert("status".to_owned(), status);
            }
        }
        if is_service(served) { registry.allocate_numbers(cx, object, None).await } else { Ok(Held::default()) }
    }

    pub async fn before_update(
        &self,
        registry: &Registry,
        cx: &Context,
        served: &Served,
        new: &mut Value,
        old: &Value,
        subresource: &str,
    ) -> Result<Held, Status> {
        if is_certificate_request(served) {
            // Who asked, and for what, stays.
            meta::as_object_mut(new).insert("spec".to_owned(), old["spec"].clone());
        }
        if is_service(served) && subresource.is_empty() && new["spec"] != old["spec"] {
            return registry.allocate_numbers(cx, new, Some(old)).await;
        }
        Ok(Held::default())
    }

    /// The write succeeded or failed: numbers that are nobody's now are given back.
    pub async fn settle(&self, registry: &Registry, held: Held, succeeded: bool) {
        let free = if succeeded { held.given_up } else { held.new };
        if !free.is_empty() {
            registry.release_numbers(&free).await;
        }
    }

    /// The object is gone.
    pub async fn after_delete(&self, registry: &Registry, served: &Served, object: &Value) {
        if is_service(served) {
            registry.release_numbers(&Vec::from_iter(service_ip::taken::numbers(object))).await;
        }
    }
}

/// A definition gets its names with its creation where no other has them; `custom` sees to the rest.
fn is_definition(served: &Served) -> bool {
    served.resource.group == "apiextensions.k8s.io" && served.resource.plural == "customresourcedefinitions"
}

fn is_certificate_request(served: &Served) -> bool {
    served.resource.group == "certificates.k8s.io" && served.resource.plural == "certificatesigningrequests"
}

/// Whatever the client says of itself is replaced by what the server knows.
fn set_requester(request: &mut Value, user: &User) {
    let map = meta::as_object_mut(meta::as_object_mut(request).entry("spec").or_insert(Value::Null));
    for field in ["username", "uid", "groups", "extra"] {
        map.remove(field);
    }
    if let Value::Object(known) = user.to_value() {
        map.extend(known);
    }
}

fn is_service(served: &Served) -> bool {
    served.resource.group.is_empty() && served.resource.plural == "services"
}

impl Registry {
    /// All Services, as the store has them now.
    pub(crate) async fn services_in_use(&self) -> Result<Vec<Value>, Status> {
        let served = self.stored("", "services").ok_or_else(|| Status::internal("services are not served"))?;
        let snapshot = served.store.consistent().await?;
        Ok(snapshot.scan(&served.store.prefix(""), None).filter_map(super::store::EntryExt::value).collect())
    }
}
