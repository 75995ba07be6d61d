//! What the server serves: kinds, their names and short names, versions and verbs.
//!
//! Read in two requests (aggregated discovery) and remembered on disk for a while, so that a command does one request and
//! completion none.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Request, Result, Session, kubeconfig};

/// How long the remembered answer is believed. What is not found in it is asked for again at once.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// One served resource in one version.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub singular: String,
    #[serde(default)]
    pub short_names: Vec<String>,
    #[serde(default)]
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    #[serde(default)]
    pub subresources: Vec<String>,
}

impl Resource {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `apps/v1`, and `/v1` of the core group, as Go prints a group and version.
    pub fn api_version_of_group(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    /// `deployments.apps`.
    pub fn full_name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `deployment.apps`, as messages name an object's kind.
    pub fn label(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() { kind } else { format!("{kind}.{}", self.group) }
    }

    /// The path of the collection or of one object. The namespace counts for namespaced resources only; an empty one is
    /// all of them.
    pub fn path(&self, namespace: &str, name: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if self.namespaced && !namespace.is_empty() {
            path += &format!("/namespaces/{}", escape(namespace));
        }
        path += &format!("/{}", self.plural);
        if let Some(name) = name {
            path += &format!("/{}", escape(name));
        }
        path
    }

    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// A path segment or a query value; names may hold a colon (RBAC).
pub fn escape(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Discovery {
    /// In the server's order: groups by priority, versions by preference.
    pub resources: Vec<Resource>,
}

impl Discovery {
    /// What is remembered, else the server's answer.
    pub async fn load(session: &Session) -> Result<Self> {
        match Self::remembered(&session.url(), REMEMBERED_FOR) {
            Some(discovery) => Ok(discovery),
            None => Self::refresh(session).await,
        }
    }

    /// The server's answer, to be remembered.
    pub async fn refresh(session: &Session) -> Result<Self> {
        let discovery = fetch(session).await?;
        discovery.remember(&session.url());
        Ok(discovery)
    }

    pub fn remembered(url: &str, age_max: Duration) -> Option<Self> {
        let file = file(url);
        let age = SystemTime::now().duration_since(file.metadata().ok()?.modified().ok()?).unwrap_or_default();
        if age > age_max {
            return None;
        }
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    /// Failing to remember costs time only.
    fn remember(&self, url: &str) {
        let file = file(url);
        let Some(directory) = file.parent() else { return };
        let Ok(text) = serde_json::to_vec(self) else { return };
        let next = file.with_extension(format!("{}", std::process::id()));
        if std::fs::create_dir_all(directory).is_ok()
            && std::fs::write(&next, text).is_ok()
            && std::fs::rename(&next, &file).is_err()
        {
            let _ = std::fs::remove_file(next);
        }
    }

    /// By plural, singular, kind or short name, with an optional group (`deploy`, `deployments.apps`) and version
    /// (`deployments.v1.apps`). A name that is no short name wins over one that is.
    pub fn find(&self, word: &str) -> Option<&Resource> {
        let word = word.to_lowercase();
        let mut parts = word.splitn(3, '.');
        let name = parts.next().unwrap_or_default();
        if let (Some(version), Some(group)) = (parts.next(), parts.next()) {
            let exact = self.named(name).into_iter().find(|r| r.version == version && r.group == group);
            if exact.is_some() {
                return exact;
            }
        }
        let named = self.named(name);
        let found = |test: &dyn Fn(&Resource) -> bool| named.iter().find(|resource| test(resource)).copied();
        match word.split_once('.') {
            None => named.first().copied(),
            Some((_, group)) => found(&|r| r.group == group)
                .or_else(|| found(&|r| r.version == group && r.group.is_empty()))
                .or_else(|| found(&|r| r.group.starts_with(group))),
        }
    }

    fn named(&self, name: &str) -> Vec<&Resource> {
        let full = self.resources.iter().filter(|r| r.plural == name || r.singular == name || r.kind.to_lowercase() == name);
        full.chain(self.resources.iter().filter(|r| r.short_names.iter().any(|short| short == name))).collect()
    }

    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.kind == kind && r.api_version() == api_version)
    }

    /// Resources of a category (`all`), each in its preferred version.
    pub fn category<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Resource> {
        self.preferred().filter(move |r| r.categories.iter().any(|category| category == name))
    }

    /// Each resource once, in its preferred version.
    pub fn preferred(&self) -> impl Iterator<Item = &Resource> {
        self.resources.iter().enumerate().filter_map(|(at, resource)| {
            let earlier = self.resources[..at].iter().any(|r| r.group == resource.group && r.plural == resource.plural);
            (!earlier).then_some(resource)
        })
    }
}

fn file(url: &str) -> PathBuf {
    let name: String =
        url.trim_start_matches("https://").chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
    kubeconfig::home().join(".kube/cache/kctl").join(format!("{name}.json"))
}

async fn fetch(session: &Session) -> Result<Discovery> {
    let (core, groups) = tokio::join!(
        session.json(Request::get("/api").accept(AGGREGATED)),
        session.json(Request::get("/apis").accept(AGGREGATED))
    );
    let mut resources = Vec::new();
    for answer in [core?, groups?] {
        if answer["kind"] == "APIGroupDiscoveryList" {
            resources.extend(aggregated(&answer));
        } else {
            resources.extend(legacy(session, &answer).await?);
        }
    }
    Ok(Discovery { resources })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn aggregated(answer: &Value) -> Vec<Resource> {
    let mut found = Vec::new();
    for group in list(&answer["items"]) {
        for version in list(&group["versions"]) {
            for resource in list(&version["resources"]) {
                let kind = text(&resource["responseKind"]["kind"]);
                if kind.is_empty() {
                    continue; // subresources only
                }
                found.push(Resource {
                    group: text(&group["metadata"]["name"]),
                    version: text(&version["version"]),
                    kind,
                    plural: text(&resource["resource"]),
                    singular: text(&resource["singularResource"]),
                    short_names: texts(&resource["shortNames"]),
                    categories: texts(&resource["categories"]),
                    namespaced: resource["scope"] == "Namespaced",
                    verbs: texts(&resource["verbs"]),
                    subresources: list(&resource["subresources"]).iter().map(|sub| text(&sub["subresource"])).collect(),
                });
            }
        }
    }
    found
}

/// Servers without aggregated discovery: a request for each version of each group.
async fn legacy(session: &Session, answer: &Value) -> Result<Vec<Resource>> {
    let mut paths: Vec<(String, String)> = texts(&answer["versions"]).into_iter().map(|v| (format!("/api/{v}"), v)).collect();
    for group in list(&answer["groups"]) {
        let preferred = text(&group["preferredVersion"]["groupVersion"]);
        let mut versions: Vec<String> = list(&group["versions"]).iter().map(|v| text(&v["groupVersion"])).collect();
        versions.sort_by_key(|version| *version != preferred);
        paths.extend(versions.into_iter().map(|gv| (format!("/apis/{gv}"), gv)));
    }
    let answers = futures::future::join_all(paths.iter().map(|(path, _)| session.json(Request::get(path.clone())))).await;
    let mut found: Vec<Resource> = Vec::new();
    for ((_, group_version), answer) in paths.iter().zip(answers) {
        let Ok(answer) = answer else { continue }; // an aggregated API that is down must not hide the others
        let (group, version) = group_version.rsplit_once('/').unwrap_or(("", group_version));
        for resource in list(&answer["resources"]) {
            let name = text(&resource["name"]);
            if let Some((plural, subresource)) = name.split_once('/') {
                if let Some(parent) =
                    found.iter_mut().rev().find(|r| r.plural == plural && r.group == group && r.version == version)
                {
                    parent.subresources.push(subresource.to_owned());
                }
                continue;
            }
            found.push(Resource {
                group: group.to_owned(),
                version: version.to_owned(),
                kind: text(&resource["kind"]),
                plural: name,
                singular: text(&resource["singularName"]),
                short_names: texts(&resource["shortNames"]),
                categories: texts(&resource["categories"]),
                namespaced: resource["namespaced"] == true,
                verbs: texts(&resource["verbs"]),
                subresources: Vec::new(),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(group: &str, version: &str, kind: &str, plural: &str, short: &[&str]) -> Resource {
        Resource {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            singular: kind.to_lowercase(),
            short_names: short.iter().map(|s| (*s).into()).collect(),
            namespaced: true,
            ..Resource::default()
        }
    }

    #[test]
    fn words_name_resources() {
        let discovery = Discovery {
            resources: vec![
                resource("", "v1", "Event", "events", &["ev"]),
                resource("", "v1", "Pod", "pods", &["po"]),
                resource("apps", "v1", "Deployment", "deployments", &["deploy"]),
                resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", &["hpa"]),
                resource("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", &["hpa"]),
                resource("events.k8s.io", "v1", "Event", "events", &["ev"]),
                resource("example.com", "v1", "Po", "pos", &[]),
            ],
        };
        let check = |word: &str, want: Option<&str>| {
            let got = discovery.find(word).map(|r| format!("{}.{}", r.full_name(), r.version));
            assert_eq!(got.as_deref(), want, "{word}");
        };
        check("pods", Some("pods.v1"));
        check("Pod", Some("pods.v1"));
        check("po", Some("pos.example.com.v1"));
        check("deploy", Some("deployments.apps.v1"));
        check("deployments.apps", Some("deployments.apps.v1"));
        check("deployment.v1.apps", Some("deployments.apps.v1"));
        check("deployments.app", Some("deployments.apps.v1"));
        check("deployments.v2.apps", None);
        check("hpa", Some("horizontalpodautoscalers.autoscaling.v2"));
        check("hpa.v1.autoscaling", Some("horizontalpodautoscalers.autoscaling.v1"));
        check("events", Some("events.v1"));
        check("events.events.k8s.io", Some("events.events.k8s.io.v1"));
        check("pods.v1", Some("pods.v1"));
        check("nothing", None);
        assert_eq!(discovery.preferred().count(), 6);
    }

    #[test]
    fn paths() {
        let deployments = resource("apps", "v1", "Deployment", "deployments", &[]);
        assert_eq!(deployments.path("a", Some("b")), "/apis/apps/v1/namespaces/a/deployments/b");
        assert_eq!(deployments.path("", None), "/apis/apps/v1/deployments");
        let mut roles = resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", &[]);
        roles.namespaced = false;
        assert_eq!(roles.path("a", Some("system:x/y")), "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:x%2Fy");
    }
}
