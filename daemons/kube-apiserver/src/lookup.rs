//! What authentication, authorization and admission may ask about stored objects: reads from memory, nothing else.

use serde_json::Value;

/// Answers at once, from the watch caches.
pub trait Lookup: Send + Sync + 'static {
    /// One object. `namespace` is empty for cluster-scoped resources.
    fn object(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value>;
    /// All objects of a resource, in one namespace unless it is empty.
    fn objects(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value>;
}

/// A fixed set of objects: the double that tests use.
#[cfg(test)]
#[derive(Default)]
pub struct Fixed(pub Vec<(&'static str, Value)>);

#[cfg(test)]
impl Lookup for Fixed {
    fn object(&self, _group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.objects("", plural, namespace).into_iter().find(|object| object["metadata"]["name"] == name)
    }

    fn objects(&self, _group: &str, plural: &str, namespace: &str) -> Vec<Value> {
        let matches = |object: &Value| namespace.is_empty() || object["metadata"]["namespace"] == namespace;
        self.0.iter().filter(|(p, object)| *p == plural && matches(object)).map(|(_, object)| object.clone()).collect()
    }
}
