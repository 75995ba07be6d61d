//! Which kubeconfig files count, and what the flags change in them.

use std::path::PathBuf;

use client::{
    Config,
    kubeconfig::{Cluster, Context, Kubeconfig, User},
};

use super::{Error, Globals, Result, credential};

/// What `kctl init` writes for the host's administrator.
const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// The files in the order in which they win: `--kubeconfig`, else `$KUBECONFIG`, else `~/.kube/config`.
pub fn files(globals: &Globals) -> Vec<PathBuf> {
    if let Some(file) = &globals.kubeconfig {
        return vec![file.clone()];
    }
    match std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()) {
        Some(list) => std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect(),
        None => vec![default_file()],
    }
}

pub fn default_file() -> PathBuf {
    home().join(".kube/config")
}

pub fn home() -> PathBuf {
    std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| "/root".into())
}

/// All files merged. On a host that `kctl init` set up, its administrator needs none.
pub fn load(globals: &Globals) -> Result<Kubeconfig> {
    let mut files = files(globals);
    if globals.kubeconfig.is_none() {
        files.retain(|file| file.exists());
        if files.is_empty() && std::env::var_os("KUBECONFIG").is_none() && std::fs::File::open(ADMIN).is_ok() {
            files.push(ADMIN.into());
        }
    }
    let mut merged = Kubeconfig::default();
    for file in files {
        let next = Kubeconfig::read(&file).map_err(|error| Error::message(format!("{:#}", anyhow::Error::from(error))))?;
        merged = merged.merge(next);
    }
    Ok(merged)
}

/// Server, credentials and namespace after the flags.
pub fn config(globals: &Globals) -> Result<Config> {
    let kubeconfig = load(globals)?;
    let named = globals.context.is_some() || !kubeconfig.current_context.is_empty();
    if !named && globals.server.is_none() && globals.cluster.is_none() {
        if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
            return Ok(Config::in_cluster()?);
        }
        return Err(Error::Plain(
            "error: no cluster is configured: there is no kubeconfig with a current context.\n\
             Use --kubeconfig FILE, set KUBECONFIG, or make this host a cluster with `kctl init`"
                .into(),
        ));
    }
    let (mut cluster, mut user, context) = if named {
        if let Some(name) = &globals.context
            && !kubeconfig.contexts.iter().any(|context| &context.name == name)
        {
            return Err(Error::Plain(format!("Error in configuration: context was not found for specified context: {name}")));
        }
        let (cluster, user, context) =
            kubeconfig.select(globals.context.as_deref()).map_err(|e| Error::message(e.to_string()))?;
        (cluster.clone(), user, context.clone())
    } else {
        (Cluster::default(), User::default(), Context::default())
    };
    if let Some(name) = &globals.cluster {
        let found = kubeconfig.clusters.iter().find(|c| &c.name == name);
        cluster = found.ok_or_else(|| Error::message(format!("no server found for cluster {name:?}")))?.cluster.clone();
    }
    if let Some(name) = &globals.user {
        let found = kubeconfig.users.iter().find(|u| &u.name == name);
        user = found.ok_or_else(|| Error::message(format!("auth info {name:?} does not exist")))?.user.clone();
    }
    override_cluster(&mut cluster, globals);
    let called = globals.user.as_deref().unwrap_or(&context.user);
    override_user(&mut user, called, globals)?;
    let mut config = Config::new(&cluster, &user)?;
    match (&user.exec, &user.auth_provider) {
        // What the flags or the file say of itself wins over a plugin.
        _ if config.has_credentials() => {}
        (_, Some(provider)) => return Err(credential::refuse_provider(provider)),
        (Some(exec), None) => {
            let given = credential::ask(exec, &cluster, &globals.plugins)?;
            config = config.with_credentials(given.token, given.pair);
        }
        (None, None) => {}
    }
    if let Some(namespace) = context.namespace.filter(|namespace| !namespace.is_empty()) {
        config.namespace = namespace;
    }
    Ok(config)
}

fn override_cluster(cluster: &mut Cluster, globals: &Globals) {
    if let Some(server) = &globals.server {
        cluster.server = if server.contains("://") { server.clone() } else { format!("https://{server}") };
    }
    if let Some(file) = &globals.certificate_authority {
        cluster.certificate_authority = Some(file.clone());
        cluster.certificate_authority_data = None;
    }
    if let Some(insecure) = globals.insecure_skip_tls_verify {
        cluster.insecure_skip_tls_verify = insecure;
    }
    if let Some(name) = &globals.tls_server_name {
        cluster.tls_server_name = Some(name.clone());
    }
}

fn override_user(user: &mut User, called: &str, globals: &Globals) -> Result<()> {
    if let Some(token) = &globals.token {
        *user = User { token: Some(token.clone()), ..User::default() };
    }
    if let Some(file) = &globals.client_certificate {
        user.client_certificate = Some(file.clone());
        user.client_certificate_data = None;
    }
    if let Some(file) = &globals.client_key {
        user.client_key = Some(file.clone());
        user.client_key_data = None;
    }
    if let Some(name) = &globals.impersonate {
        user.impersonate = Some(name.clone());
    }
    if let Some(uid) = &globals.impersonate_uid {
        user.impersonate_uid = Some(uid.clone());
    }
    if !globals.impersonate_groups.is_empty() {
        user.impersonate_groups.clone_from(&globals.impersonate_groups);
    }
    for pair in &globals.impersonate_extra {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Error::message(format!("failed to parse impersonation extra {pair:?}: want KEY=VALUE")))?;
        user.impersonate_extra.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    if user.impersonate.as_deref().is_none_or(str::is_empty) && !user.impersonation().is_empty() {
        return Err(Error::message(format!("requesting uid, groups or user-extra for {called} without impersonating a user")));
    }
    Ok(())
}
