//! The `scale` subresource of any kind that has one, built-in or custom.

use client::{Client, Error as ClientError, Scope, object_path};
use serde_json::Value;

use crate::discovery::{Discovered, Resources};

/// What a scale says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) uid: String,
    /// `spec.replicas`: what is asked for.
    pub(crate) replicas: i32,
    /// `status.replicas`: what is there.
    pub(crate) current: i32,
    /// `status.selector`: which pods are meant, as text.
    pub(crate) selector: String,
    /// Where it was read, and what was read: to be written back with another number.
    pub(crate) path: String,
    pub(crate) object: Value,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ScaleError {
    #[error("no matches for kind {kind:?} in group {group:?}")]
    NoKind { group: String, kind: String },
    #[error("{0} does not implement the scale subresource")]
    NotScalable(String),
    #[error(transparent)]
    Request(#[from] ClientError),
}

/// Reads the scale of an object; `None` when there is no such object.
///
/// # Errors
/// The server has no such kind, the kind cannot be scaled, or the request fails.
pub(crate) async fn read(
    client: &Client,
    resources: &Resources,
    api_version: &str,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<Scale>, ScaleError> {
    let found = resolve(resources, api_version, kind)?;
    let path = object_path(Scope { resource: &found.resource, namespace }, name, "scale");
    match client.get_value(&path).await {
        Ok(object) => Ok(Some(parse(path, object))),
        Err(error) if error.is_not_found() && found.scalable => Ok(None),
        Err(error) if error.is_not_found() => Err(ScaleError::NotScalable(group_resource(found))),
        Err(error) => Err(error.into()),
    }
}

/// Asks for another number of replicas. The scale must not have changed since it was read.
pub(crate) async fn write(client: &Client, scale: &Scale, replicas: i32) -> Result<(), ClientError> {
    let mut object = scale.object.clone();
    object["spec"]["replicas"] = replicas.into();
    // A Value's keys are strings: encoding it can't fail.
    let body = serde_json::to_vec(&object).expect("a Value encodes").into();
    client.call(http::Method::PUT, &scale.path, Some(("application/json", body))).await.map(drop)
}

fn resolve<'a>(resources: &'a Resources, api_version: &str, kind: &str) -> Result<&'a Discovered, ScaleError> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let found = resources.all.iter().find(|d| d.resource.group == group && d.resource.kind == kind);
    found.ok_or_else(|| ScaleError::NoKind { group: group.to_owned(), kind: kind.to_owned() })
}

/// `deployments.apps`, as messages name it.
fn group_resource(found: &Discovered) -> String {
    let (plural, group) = (&found.resource.plural, &found.resource.group);
    if group.is_empty() { plural.clone() } else { format!("{plural}.{group}") }
}

fn parse(path: String, object: Value) -> Scale {
    let number = |value: &Value| value.as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
    Scale {
        uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
        replicas: number(&object["spec"]["replicas"]),
        current: number(&object["status"]["replicas"]),
        selector: object["status"]["selector"].as_str().unwrap_or_default().to_owned(),
        path,
        object,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::ResourceId;
    use serde_json::json;

    #[test]
    fn a_scale_is_read() {
        let object = json!({"metadata": {"uid": "u"}, "spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "a=b"}});
        let scale = parse("/p".into(), object);
        assert_eq!((scale.uid.as_str(), scale.replicas, scale.current, scale.selector.as_str()), ("u", 3, 2, "a=b"));
        assert_eq!(parse("/p".into(), json!({"metadata": {}, "spec": {}})).replicas, 0);
    }

    #[test]
    fn a_kind_is_found_whatever_its_version() {
        let resource = ResourceId {
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            plural: "deployments".into(),
            namespaced: true,
        };
        let found = Discovered { resource, verbs: Vec::new(), scalable: true };
        let resources = Resources { all: vec![found], stale: Vec::new() };
        assert_eq!(group_resource(resolve(&resources, "apps/v1beta1", "Deployment").unwrap()), "deployments.apps");
        let error = resolve(&resources, "v1", "Deployment").unwrap_err();
        assert_eq!(error.to_string(), "no matches for kind \"Deployment\" in group \"\"");
    }
}
