//! ComponentStatus: a resource that is not stored. Reading it asks the control plane's parts on this host how they are.
//!
//! As upstream (`pkg/registry/core/componentstatus`): controllers and scheduler are looked for on their default ports of the loopback
//! interface, whatever certificate they show. The API is deprecated since v1.19 for that reason.

mod probe;

use http::{Response, StatusCode};
use machinery::meta;
use machinery::status::Status;
use schema::Resource;
use serde_json::{Value, json};

use crate::endpoints::Call;
use crate::registry::list::check_fields;
use crate::registry::options::ListOptions;
use crate::respond::{self, Body};

/// Whom to ask, by the name of its object; in the order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Component {
    /// `https://127.0.0.1:PORT/healthz`
    Daemon {
        name: &'static str,
        port: u16,
    },
    Store,
}

const COMPONENTS: [Component; 3] = [
    Component::Daemon { name: "controller-manager", port: 10257 },
    Component::Store,
    Component::Daemon { name: "scheduler", port: 10259 },
];

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::Daemon { name, .. } => name,
            Self::Store => "etcd-0",
        }
    }

    fn named(name: &str) -> Option<Self> {
        COMPONENTS.into_iter().find(|component| component.name() == name)
    }
}

/// What a part said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Health {
    Healthy(String),
    /// It does not answer, or not well.
    Unhealthy(String),
    /// It could not be asked.
    Failed(String),
}

fn object(component: Component, health: &Health) -> Value {
    let mut condition = match health {
        Health::Healthy(message) => json!({"type": "Healthy", "status": "True", "message": message}),
        Health::Unhealthy(message) => json!({"type": "Healthy", "status": "False", "message": message}),
        Health::Failed(error) => json!({"type": "Healthy", "status": "False", "error": error}),
    };
    if condition["message"] == "" {
        meta::as_object_mut(&mut condition).remove("message");
    }
    json!({
        "kind": "ComponentStatus",
        "apiVersion": "v1",
        "metadata": {"name": component.name()},
        "conditions": [condition],
    })
}

/// Whether the selectors choose a part: it has a name and no labels.
fn is_chosen(component: Component, options: &ListOptions) -> bool {
    let field = |field: &str| if field == "metadata.name" { component.name() } else { "" };
    (options.labels.is_empty() || options.labels.matches_object(&Value::Null))
        && (options.fields.is_empty() || options.fields.matches(|name| Some(field(name))))
}

/// Whether that is the resource.
pub fn is_component_status(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "componentstatuses"
}

/// Answers `get` and `list`.
///
/// # Errors
/// 404 for a part that nobody knows; 405 for other verbs.
pub async fn handle(call: &Call<'_>, verb: &str) -> Result<Response<Body>, Status> {
    let accept = call.accept(true)?;
    match verb {
        "get" => {
            let name = call.path.name.as_str();
            let component = Component::named(name).ok_or_else(|| Status::not_found(("", "componentstatus"), name))?;
            let object = object(component, &probe::health(call.server, component).await);
            Ok(respond::object(StatusCode::OK, accept, call.served, object, call.query, call.cx.now))
        }
        "list" => {
            let options = ListOptions::parse_list(call.query)?;
            check_fields(call.served, &options)?;
            let chosen = COMPONENTS.into_iter().filter(|component| is_chosen(*component, &options));
            let objects = chosen.map(|component| async move { object(component, &probe::health(call.server, component).await) });
            let objects = futures::future::join_all(objects).await;
            Ok(respond::objects(accept, call.served, objects, json!({}), call.query, call.cx.now))
        }
        _ => Err(Status::method_not_served()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parts_say() {
        let scheduler = Component::named("scheduler").unwrap();
        let check = |health: Health, condition: Value| {
            let object = object(scheduler, &health);
            assert_eq!(object["conditions"], json!([condition]));
            assert_eq!(object["metadata"], json!({"name": "scheduler"}));
        };
        check(Health::Healthy("ok".into()), json!({"type": "Healthy", "status": "True", "message": "ok"}));
        check(Health::Healthy(String::new()), json!({"type": "Healthy", "status": "True"}));
        check(Health::Unhealthy("no".into()), json!({"type": "Healthy", "status": "False", "message": "no"}));
        check(Health::Failed("why".into()), json!({"type": "Healthy", "status": "False", "error": "why"}));
        assert_eq!(Component::named("kubelet"), None);
    }

    #[test]
    fn selectors_choose() {
        let chosen = |query: &str| {
            let options = ListOptions::parse_list(query).unwrap();
            COMPONENTS.into_iter().filter(|c| is_chosen(*c, &options)).map(Component::name).collect::<Vec<_>>()
        };
        assert_eq!(chosen(""), ["controller-manager", "etcd-0", "scheduler"]);
        assert_eq!(chosen("fieldSelector=metadata.name%3Detcd-0"), ["etcd-0"]);
        assert_eq!(chosen("fieldSelector=metadata.name!%3Detcd-0"), ["controller-manager", "scheduler"]);
        assert_eq!(chosen("labelSelector=a"), Vec::<&str>::new());
        assert_eq!(chosen("labelSelector=!a").len(), 3);
    }
}
