//! Every container of a pod's spec.

use std::sync::LazyLock;

use schema::{ListKind, Shape};
use serde_json::Value;

use crate::field::Path;

/// What a list of containers is for. The order is that of upstream's visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Init,
    Main,
    Ephemeral,
}

/// One container, and where it is.
#[derive(Clone, Debug)]
pub struct Visit<'a> {
    pub role: Role,
    /// The list's field in the spec.
    pub field: &'static str,
    pub path: Path,
    pub container: &'a Value,
}

/// The fields of a pod's spec that hold containers, ordered by role.
pub fn lists() -> &'static [(&'static str, Role)] {
    static LISTS: LazyLock<Vec<(&'static str, Role)>> = LazyLock::new(|| {
        let Some(Shape::Object(spec)) = schema::builtin().types().named(SPEC).map(|ty| ty.shape()) else { return Vec::new() };
        let mut lists: Vec<_> =
            spec.fields().filter_map(|field| Some((field.name, role(field.name, field.ty.shape())?))).collect();
        lists.sort_by_key(|(_, role)| *role);
        lists
    });
    &LISTS
}

const SPEC: &str = "api.core.v1.PodSpec";

fn role(field: &str, shape: Shape<'_>) -> Option<Role> {
    let Shape::List { item, kind: ListKind::Map(_) } = shape else { return None };
    match item.name() {
        "api.core.v1.EphemeralContainer" => Some(Role::Ephemeral),
        "api.core.v1.Container" if field == "containers" => Some(Role::Main),
        "api.core.v1.Container" => Some(Role::Init),
        _ => None,
    }
}

/// Every container of a pod's spec, init containers first, ephemeral ones last.
pub fn all<'a>(spec: &'a Value, path: &Path) -> Vec<Visit<'a>> {
    let mut visits = Vec::new();
    for (field, role) in lists() {
        let list = path.child(field);
        let containers = spec.get(*field).and_then(Value::as_array).into_iter().flatten();
        visits.extend(containers.enumerate().map(|(index, container)| Visit {
            role: *role,
            field,
            path: list.index(index),
            container,
        }));
    }
    visits
}

/// The same without their paths.
pub fn each(spec: &Value) -> impl Iterator<Item = (Role, &Value)> {
    lists().iter().flat_map(|(field, role)| spec.get(*field).and_then(Value::as_array).into_iter().flatten().map(|c| (*role, c)))
}

/// The same, to be changed.
pub fn each_mut(spec: &mut Value) -> impl Iterator<Item = (Role, &mut Value)> {
    let role_of = |field: &str| lists().iter().find(|(list, _)| *list == field).map(|(_, role)| *role);
    spec.as_object_mut()
        .into_iter()
        .flatten()
        .filter_map(move |(field, list)| Some((role_of(field)?, list.as_array_mut()?)))
        .flat_map(|(role, list)| list.iter_mut().map(move |container| (role, container)))
}

/// An init container that keeps running beside the main ones.
pub fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_schema_has_three_lists() {
        assert_eq!(
            lists(),
            [("initContainers", Role::Init), ("containers", Role::Main), ("ephemeralContainers", Role::Ephemeral)]
        );
    }

    #[test]
    fn none_is_forgotten() {
        let mut spec = json!({"containers": [{"name": "a"}, {"name": "b"}], "ephemeralContainers": [{"name": "e"}],
            "initContainers": [{"name": "i"}], "volumes": [{"name": "v"}]});
        let paths: Vec<String> = all(&spec, &Path::new("spec")).iter().map(|visit| visit.path.to_string()).collect();
        assert_eq!(paths, ["spec.initContainers[0]", "spec.containers[0]", "spec.containers[1]", "spec.ephemeralContainers[0]"]);
        each_mut(&mut spec).for_each(|(_, container)| container["image"] = json!("x"));
        assert_eq!(each(&spec).filter(|(_, container)| container["image"] == "x").count(), 4);
        assert!(spec["volumes"][0].get("image").is_none());
    }
}
