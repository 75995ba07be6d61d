//! kubeconfig files: clusters, users, contexts, and how several files merge.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// `~/.kube/config`'s content. Fields that this version does not know are kept out of the way, not refused.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Kubeconfig {
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    pub kind: String,
    pub current_context: String,
    pub clusters: Vec<NamedCluster>,
    pub users: Vec<NamedUser>,
    pub contexts: Vec<NamedContext>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct NamedCluster {
    pub name: String,
    pub cluster: Cluster,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Cluster {
    pub server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<PathBuf>,
    /// PEM in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority_data: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_tls_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct NamedUser {
    pub name: String,
    pub user: User,
}

/// Credentials. Debug shows which kinds are there, never their content.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct User {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(rename = "tokenFile", skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub impersonate: Option<String>,
    #[serde(rename = "as-uid", skip_serializing_if = "Option::is_none")]
    pub impersonate_uid: Option<String>,
    #[serde(rename = "as-groups", skip_serializing_if = "Vec::is_empty")]
    pub impersonate_groups: Vec<String>,
    #[serde(rename = "as-user-extra", skip_serializing_if = "BTreeMap::is_empty")]
    pub impersonate_extra: BTreeMap<String, Vec<String>>,
    /// A program that gives credentials. Daemons refuse it: they have nobody who could be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// Of clients before 1.26; only that it is there matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_provider: Option<AuthProvider>,
}

/// A credential plugin (`client.authentication.k8s.io`).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exec {
    pub api_version: String,
    pub command: String,
    pub args: Option<Vec<String>>,
    pub env: Option<Vec<ExecEnv>>,
    pub install_hint: Option<String>,
    pub provide_cluster_info: bool,
    /// `Never`, `IfAvailable` or `Always`.
    pub interactive_mode: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ExecEnv {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct AuthProvider {
    pub name: String,
}

impl User {
    /// The headers of a request that say who to act as.
    pub fn impersonation(&self) -> Vec<(String, String)> {
        let single = [("impersonate-user", &self.impersonate), ("impersonate-uid", &self.impersonate_uid)];
        let single = single.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        let groups = self.impersonate_groups.iter().map(|group| ("impersonate-group".to_owned(), group.clone()));
        let extra = self.impersonate_extra.iter().flat_map(|(key, values)| {
            let name = format!("impersonate-extra-{}", header_escape(key));
            values.iter().map(move |value| (name.clone(), value.clone()))
        });
        single.chain(groups).chain(extra).filter(|(_, value)| !value.is_empty()).collect()
    }
}

/// What may not stand in a header's name, and `%`, as `%XX`.
fn header_escape(key: &str) -> String {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    key.bytes().map(|byte| if legal(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("certificate", &(self.client_certificate.is_some() || self.client_certificate_data.is_some()))
            .field("token", &(self.token.is_some() || self.token_file.is_some()))
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct NamedContext {
    pub name: String,
    pub context: Context,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Context {
    pub cluster: String,
    pub user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("reading kubeconfig {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("kubeconfig {path} can't be read: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("context \"{0}\" does not exist")]
    NoContext(String),
    #[error("cluster \"{0}\" does not exist")]
    NoCluster(String),
    #[error("auth info \"{0}\" does not exist")]
    NoUser(String),
}

impl Kubeconfig {
    pub fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })?;
        let mut config: Self =
            serde_yaml::from_str(&text).map_err(|e| KubeconfigError::Parse { path: path.to_owned(), message: e.to_string() })?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Paths in a kubeconfig are relative to the file they stand in.
    fn resolve(&mut self, dir: &Path) {
        let fix = |path: &mut Option<PathBuf>| {
            if let Some(p) = path
                && p.is_relative()
                && !p.as_os_str().is_empty()
            {
                *p = dir.join(&*p);
            }
        };
        self.clusters.iter_mut().for_each(|c| fix(&mut c.cluster.certificate_authority));
        for user in &mut self.users {
            fix(&mut user.user.client_certificate);
            fix(&mut user.user.client_key);
            fix(&mut user.user.token_file);
            // A program without a slash is looked for in PATH.
            if let Some(exec) = user.user.exec.as_mut().filter(|exec| exec.command.contains('/')) {
                exec.command = dir.join(&exec.command).display().to_string();
            }
        }
    }

    /// As client-go merges: the first file that names a thing wins.
    pub fn merge(mut self, later: Self) -> Self {
        if self.current_context.is_empty() {
            self.current_context = later.current_context;
        }
        for c in later.clusters {
            if !self.clusters.iter().any(|x| x.name == c.name) {
                self.clusters.push(c);
            }
        }
        for u in later.users {
            if !self.users.iter().any(|x| x.name == u.name) {
                self.users.push(u);
            }
        }
        for c in later.contexts {
            if !self.contexts.iter().any(|x| x.name == c.name) {
                self.contexts.push(c);
            }
        }
        self
    }

    /// The cluster, the user and the context of a context's name, or of the current one.
    pub fn select(&self, context: Option<&str>) -> Result<(&Cluster, User, &Context), KubeconfigError> {
        let name = context.unwrap_or(&self.current_context);
        let context =
            &self.contexts.iter().find(|c| c.name == name).ok_or_else(|| KubeconfigError::NoContext(name.to_owned()))?.context;
        let cluster = &self
            .clusters
            .iter()
            .find(|c| c.name == context.cluster)
            .ok_or_else(|| KubeconfigError::NoCluster(context.cluster.clone()))?
            .cluster;
        let user = match self.users.iter().find(|u| u.name == context.user) {
            Some(user) => user.user.clone(),
            None if context.user.is_empty() => User::default(),
            None => return Err(KubeconfigError::NoUser(context.user.clone())),
        };
        Ok((cluster, user, context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: &str = "
apiVersion: v1
kind: Config
current-context: admin@k
clusters:
- name: k
  cluster: {server: 'https://10.0.0.1:6443', certificate-authority: pki/ca.crt}
users:
- name: admin
  user: {token: s3cret, extensions: [{name: x}]}
contexts:
- name: admin@k
  context: {cluster: k, user: admin, namespace: web}
";

    #[test]
    fn a_context_selects_its_parts_and_paths_are_relative_to_the_file() {
        let dir = std::env::temp_dir().join(format!("kctl-kubeconfig-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("config");
        std::fs::write(&path, ADMIN).unwrap();
        let config = Kubeconfig::read(&path).unwrap();
        let (cluster, user, context) = config.select(None).unwrap();
        assert_eq!(cluster.certificate_authority.as_deref(), Some(dir.join("pki/ca.crt").as_path()));
        assert_eq!(context.namespace.as_deref(), Some("web"));
        assert_eq!(user.token.as_deref(), Some("s3cret"));
        assert!(!format!("{user:?}").contains("s3cret"), "secrets have no Debug");
        assert_eq!(config.select(Some("x")).unwrap_err().to_string(), "context \"x\" does not exist");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_first_file_wins() {
        let named = |name: &str, server: &str| Kubeconfig {
            clusters: vec![NamedCluster { name: name.into(), cluster: Cluster { server: server.into(), ..Cluster::default() } }],
            current_context: server.into(),
            ..Kubeconfig::default()
        };
        let merged = named("a", "1").merge(named("a", "2")).merge(named("b", "3"));
        assert_eq!(merged.current_context, "1");
        assert_eq!(merged.clusters.iter().map(|c| c.cluster.server.as_str()).collect::<Vec<_>>(), ["1", "3"]);
    }
}
