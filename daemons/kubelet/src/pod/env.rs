//! A container's environment: from maps, fields, services, with `$(VAR)` expanded. Pure: what it needs is given.

use std::collections::BTreeMap;

use api::core::{ConfigMap, Container, EnvVar, Pod, Secret, Service};
use api::{Kind as _, Metadata as _};

use super::field_ref::{self, FieldError, Surroundings};
use super::spec;

/// The objects that a pod refers to, fetched before; `None`: it does not exist.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    pub config_maps: BTreeMap<String, Option<ConfigMap>>,
    pub secrets: BTreeMap<String, Option<Secret>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    #[error("configmap \"{0}\" not found")]
    NoConfigMap(String),
    #[error("secret \"{0}\" not found")]
    NoSecret(String),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { key: String, kind: &'static str, namespace: String, name: String },
    #[error(transparent)]
    Field(#[from] FieldError),
}

impl Objects {
    fn config_map(&self, name: &str) -> Option<&ConfigMap> {
        self.config_maps.get(name)?.as_ref()
    }
    fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)?.as_ref()
    }
}

/// The environment in order, each name once.
pub fn environment(
    pod: &Pod,
    container: &Container,
    services: &[Service],
    objects: &Objects,
    around: &Surroundings,
) -> Result<Vec<(String, String)>, EnvError> {
    let mut env = Ordered::default();
    for source in container.env_from.as_deref().unwrap_or_default() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(from) = &source.config_map_ref {
            match objects.config_map(&from.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        env.set(format!("{prefix}{key}"), value.clone());
                    }
                }
                None if from.optional == Some(true) => {}
                None => return Err(EnvError::NoConfigMap(from.name.clone())),
            }
        }
        if let Some(from) = &source.secret_ref {
            match objects.secret(&from.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        env.set(format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
                    }
                }
                None if from.optional == Some(true) => {}
                None => return Err(EnvError::NoSecret(from.name.clone())),
            }
        }
    }
    let links = service_variables(pod, services);
    for variable in container.env.as_deref().unwrap_or_default() {
        let value = match &variable.value_from {
            None => {
                let lookup = |name: &str| env.get(name).or_else(|| links.get(name).map(String::as_str));
                Some(expand(variable.value.as_deref().unwrap_or_default(), lookup))
            }
            Some(_) => value_from(pod, container, variable, objects, around)?,
        };
        if let Some(value) = value {
            env.set(variable.name.clone(), value);
        }
    }
    for (name, value) in links {
        if env.get(&name).is_none() {
            env.set(name, value);
        }
    }
    Ok(env.0)
}

fn value_from(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    objects: &Objects,
    around: &Surroundings,
) -> Result<Option<String>, EnvError> {
    let Some(from) = &variable.value_from else { return Ok(None) };
    if let Some(selector) = &from.field_ref {
        return Ok(Some(field_ref::field(pod, selector, around)?));
    }
    if let Some(selector) = &from.resource_field_ref {
        return Ok(Some(field_ref::resource(pod, Some(container), selector, around)?));
    }
    let missing = |kind, key: &str, name: &str| EnvError::NoKey {
        key: key.to_owned(),
        kind,
        namespace: pod.namespace().to_owned(),
        name: name.to_owned(),
    };
    if let Some(selector) = &from.config_map_key_ref {
        let optional = selector.optional == Some(true);
        return match objects.config_map(&selector.name) {
            None if optional => Ok(None),
            None => Err(EnvError::NoConfigMap(selector.name.clone())),
            Some(map) => match map.data.as_ref().and_then(|d| d.get(&selector.key)) {
                Some(value) => Ok(Some(value.clone())),
                None if optional => Ok(None),
                None => Err(missing("ConfigMap", &selector.key, &selector.name)),
            },
        };
    }
    if let Some(selector) = &from.secret_key_ref {
        let optional = selector.optional == Some(true);
        return match objects.secret(&selector.name) {
            None if optional => Ok(None),
            None => Err(EnvError::NoSecret(selector.name.clone())),
            Some(secret) => match secret.data.as_ref().and_then(|d| d.get(&selector.key)) {
                Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
                None if optional => Ok(None),
                None => Err(missing("Secret", &selector.key, &selector.name)),
            },
        };
    }
    Ok(None)
}

/// Names in the order in which they were first set; a later value replaces an earlier one.
#[derive(Default)]
struct Ordered(Vec<(String, String)>);

impl Ordered {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some((_, v)) => *v = value,
            None => self.0.push((name, value)),
        }
    }
}

/// `$(NAME)` becomes the value; `$$` becomes `$`; a name that is not known stays as it is written.
pub fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('(') {
            match after.find(')') {
                Some(end) => {
                    let name = &after[..end];
                    match lookup(name) {
                        Some(value) => out.push_str(value),
                        None => {
                            out.push_str("$(");
                            out.push_str(name);
                            out.push(')');
                        }
                    }
                    rest = &after[end + 1..];
                }
                None => {
                    out.push_str("$(");
                    rest = after;
                }
            }
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// Variables that name the services of the pod's namespace, and `kubernetes` always.
fn service_variables(pod: &Pod, services: &[Service]) -> BTreeMap<String, String> {
    let links = spec::spec(pod).enable_service_links.unwrap_or(true);
    let mut vars = BTreeMap::new();
    for service in services {
        let master = service.namespace() == "default" && service.name() == "kubernetes";
        let linked = links && service.namespace() == pod.namespace();
        if !master && !linked {
            continue;
        }
        // A service of the same name in the pod's own namespace wins.
        if master && !linked && services.iter().any(|s| links && s.namespace() == pod.namespace() && s.name() == "kubernetes") {
            continue;
        }
        variables_of(service, &mut vars);
    }
    vars
}

fn variables_of(service: &Service, vars: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let upper = |text: &str| text.replace('-', "_").to_uppercase();
    let prefix = upper(service.metadata().name.as_deref().unwrap_or_default());
    let joined = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    vars.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    vars.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            vars.insert(format!("{prefix}_SERVICE_PORT_{}", upper(name)), port.port.to_string());
        }
    }
    for (i, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{joined}:{}", protocol.to_lowercase(), port.port);
        if i == 0 {
            vars.insert(format!("{prefix}_PORT"), url.clone());
        }
        let p = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        vars.insert(p.clone(), url);
        vars.insert(format!("{p}_PROTO"), protocol.to_lowercase());
        vars.insert(format!("{p}_PORT"), port.port.to_string());
        vars.insert(format!("{p}_ADDR"), ip.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expansion() {
        let lookup = |n: &str| (n == "A").then_some("1");
        for (text, want) in [
            ("$(A)", "1"),
            ("x$(A)y$(B)", "x1y$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("cost: 5$", "cost: 5$"),
            ("$$", "$"),
        ] {
            assert_eq!(expand(text, lookup), want, "{text}");
        }
    }

    fn pod(container: serde_json::Value) -> Pod {
        Pod::decode_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [container]}})).unwrap()
    }

    fn env(p: &Pod, objects: &Objects, services: &[Service]) -> Result<BTreeMap<String, String>, EnvError> {
        let container = &p.spec.as_ref().unwrap().containers[0];
        environment(p, container, services, objects, &Surroundings::default()).map(|e| e.into_iter().collect())
    }

    fn objects() -> Objects {
        let map = ConfigMap::decode_value(json!({"metadata": {"name": "m"}, "data": {"k": "v"}})).unwrap();
        let secret = Secret::decode_value(json!({"metadata": {"name": "s"}, "data": {"p": "aHVudGVyMg=="}})).unwrap();
        Objects {
            config_maps: [("m".to_owned(), Some(map)), ("gone".to_owned(), None)].into(),
            secrets: [("s".to_owned(), Some(secret))].into(),
        }
    }

    #[test]
    fn later_values_win_and_may_use_earlier_ones() {
        let p =
            pod(json!({"name": "c", "envFrom": [{"prefix": "X_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}}],
            "env": [{"name": "A", "value": "a"}, {"name": "B", "value": "$(A)-$(X_k)-$(p)"}, {"name": "A", "value": "$(A)2"},
                    {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}));
        let e = env(&p, &objects(), &[]).unwrap();
        assert_eq!((e["B"].as_str(), e["A"].as_str(), e["N"].as_str()), ("a-v-hunter2", "a2", "p"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let from =
            |r: serde_json::Value| env(&pod(json!({"name": "c", "env": [{"name": "A", "valueFrom": r}]})), &objects(), &[]);
        let text = |r| from(r).unwrap_err().to_string();
        assert_eq!(text(json!({"configMapKeyRef": {"name": "m", "key": "x"}})), "couldn't find key x in ConfigMap n/m");
        assert_eq!(text(json!({"configMapKeyRef": {"name": "gone", "key": "x"}})), "configmap \"gone\" not found");
        assert_eq!(text(json!({"secretKeyRef": {"name": "gone", "key": "x"}})), "secret \"gone\" not found");
        assert_eq!(from(json!({"secretKeyRef": {"name": "gone", "key": "x", "optional": true}})).unwrap().get("A"), None);
    }

    #[test]
    fn services_become_variables() {
        let service = |ns: &str, name: &str| {
            Service::decode_value(json!({"metadata": {"name": name, "namespace": ns},
                "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "web-x", "port": 80}]}}))
            .unwrap()
        };
        let services = [service("default", "kubernetes"), service("n", "my-db"), service("other", "far")];
        let e = env(&pod(json!({"name": "c"})), &Objects::default(), &services).unwrap();
        assert_eq!(e["KUBERNETES_SERVICE_HOST"], "10.0.0.1");
        assert_eq!(e["MY_DB_SERVICE_PORT_WEB_X"], "80");
        assert_eq!(e["MY_DB_PORT"], "tcp://10.0.0.1:80");
        assert_eq!(e["MY_DB_PORT_80_TCP_ADDR"], "10.0.0.1");
        assert!(!e.keys().any(|k| k.starts_with("FAR")));
    }
}
