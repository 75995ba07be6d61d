//! The parameters that a binding gives its policy: objects of the kind the policy names.

use machinery::selector::LabelSelector;
use serde_json::Value;

use super::definition::{ParamKind, ParamRef};
use crate::registry::store::EntryExt;
use crate::registry::{Registry, Served};

/// The policy is evaluated once for each; null stands for none.
///
/// # Errors
/// Why the binding cannot be used, in upstream's words.
pub async fn collect(
    registry: &Registry,
    kind: Option<&ParamKind>,
    reference: Option<&ParamRef>,
    request_namespace: &str,
) -> Result<Vec<Value>, String> {
    let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![Value::Null]) };
    let served = registry
        .of_kind(&kind.api_version, &kind.kind)
        .ok_or_else(|| format!("paramKind kind `&ParamKind{{APIVersion:{},Kind:{},}}` not known", kind.api_version, kind.kind))?;
    let namespace = namespace(served.resource.namespaced, &reference.namespace, request_namespace)?;
    let found = find(&served, reference, namespace).await?;
    if found.is_empty() && reference.not_found_denies {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found)
}

/// The namespace to look in: the reference's, else that of the request.
fn namespace<'n>(namespaced: bool, given: &'n str, request: &'n str) -> Result<&'n str, String> {
    match (namespaced, given.is_empty(), request.is_empty()) {
        (false, true, _) => Ok(""),
        (false, false, _) => Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()),
        (true, false, _) => Ok(given),
        (true, true, false) => Ok(request),
        (true, true, true) => {
            Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned())
        }
    }
}

async fn find(served: &Served, reference: &ParamRef, namespace: &str) -> Result<Vec<Value>, String> {
    let snapshot = served.store.recent().await.map_err(|status| status.to_string())?;
    if !reference.name.is_empty() {
        let entry = snapshot.get(&served.store.key(namespace, &reference.name));
        let Some(entry) = entry else { return Ok(Vec::new()) };
        return served.object(entry).await.map(|object| vec![object]).map_err(|status| status.to_string());
    }
    let selector = LabelSelector::from_label_selector(&reference.selector).map_err(|error| error.to_string())?;
    let prefix = served.store.prefix(namespace);
    let selected = snapshot.scan(&prefix, None).filter(|entry| selector.matches(entry.record().labels.as_slice()));
    let read = served.read(selected.cloned().collect()).await.map_err(|status| status.to_string())?;
    Ok(read.iter().filter_map(EntryExt::value).map(|object| served.from_storage(object)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_parameters_are() {
        assert_eq!(namespace(true, "a", "b"), Ok("a"));
        assert_eq!(namespace(true, "", "b"), Ok("b"));
        assert_eq!(namespace(false, "", "b"), Ok(""));
        assert!(namespace(true, "", "").is_err() && namespace(false, "a", "b").is_err());
    }
}
