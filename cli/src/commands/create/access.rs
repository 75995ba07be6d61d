//! Service accounts, roles and bindings.

use clap::Args;
use serde_json::{Value, json};

use super::CreateFlags;
use crate::kube::{Error, Result, Session};

/// Creates a service account
#[derive(Args, Clone, Debug)]
pub struct ServiceAccountArgs {
    name: String,
    #[command(flatten)]
    pub(super) flags: CreateFlags,
}

impl ServiceAccountArgs {
    pub(super) fn object(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": self.name}})
    }
}

/// Creates a role
#[derive(Args, Clone, Debug)]
pub struct RoleArgs {
    name: String,
    /// What may be done: get, list, watch, create, …
    #[arg(long, value_delimiter = ',')]
    verb: Vec<String>,
    /// To what: TYPE[.GROUP][/SUBRESOURCE]
    #[arg(long, value_delimiter = ',')]
    resource: Vec<String>,
    /// Only to objects with these names
    #[arg(long, value_delimiter = ',')]
    resource_name: Vec<String>,
    /// To paths that are no objects (cluster roles)
    #[arg(long, value_delimiter = ',', value_name = "PATH", hide = true)]
    non_resource_url: Vec<String>,
    #[command(flatten)]
    pub(super) flags: CreateFlags,
}

/// Creates a cluster role
#[derive(Args, Clone, Debug)]
pub struct ClusterRoleArgs {
    #[command(flatten)]
    pub(super) role: RoleArgs,
    /// The rules of all cluster roles with these labels
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    aggregation_rule: Vec<String>,
}

pub(super) async fn role(args: &RoleArgs, session: &Session) -> Result<Value> {
    if !args.non_resource_url.is_empty() {
        return Err(Error::message("--non-resource-url is for cluster roles"));
    }
    let rules = rules(args, session).await?;
    Ok(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": args.name}, "rules": rules}))
}

pub(super) async fn cluster_role(args: &ClusterRoleArgs, session: &Session) -> Result<Value> {
    let mut object =
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": args.role.name}});
    if args.aggregation_rule.is_empty() {
        object["rules"] = rules(&args.role, session).await?.into();
        return Ok(object);
    }
    let mut labels = json!({});
    for pair in &args.aggregation_rule {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| Error::message(format!("invalid label {pair:?}: KEY=VALUE is expected")))?;
        labels[key] = value.into();
    }
    object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
    object["rules"] = Value::Null;
    Ok(object)
}

/// One rule for each group, as kubectl makes them.
async fn rules(args: &RoleArgs, session: &Session) -> Result<Vec<Value>> {
    if args.verb.is_empty() {
        return Err(Error::message("at least one verb must be specified"));
    }
    if args.resource.is_empty() && args.non_resource_url.is_empty() {
        return Err(Error::message("at least one resource must be specified"));
    }
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for word in &args.resource {
        let (kind, subresource) = word.split_once('/').unwrap_or((word, ""));
        let (group, mut plural) = if kind == "*" {
            (String::new(), "*".to_owned())
        } else {
            let resource = session.resource(kind).await.map_err(Error::without_prefix)?;
            (resource.group, resource.plural)
        };
        if !subresource.is_empty() {
            plural = format!("{plural}/{subresource}");
        }
        match groups.iter_mut().find(|(other, _)| *other == group) {
            Some((_, resources)) if resources.contains(&plural) => {}
            Some((_, resources)) => resources.push(plural),
            None => groups.push((group, vec![plural])),
        }
    }
    let mut verbs: Vec<&String> = Vec::new();
    args.verb.iter().for_each(|verb| {
        if !verbs.contains(&verb) {
            verbs.push(verb)
        }
    });
    let mut rules: Vec<Value> = groups
        .into_iter()
        .map(|(group, resources)| {
            let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
            if !args.resource_name.is_empty() {
                rule["resourceNames"] = json!(args.resource_name);
            }
            rule
        })
        .collect();
    if !args.non_resource_url.is_empty() {
        rules.push(json!({"nonResourceURLs": args.non_resource_url, "verbs": verbs}));
    }
    Ok(rules)
}

/// Creates a binding of a role to users, groups and service accounts
#[derive(Args, Clone, Debug)]
pub struct BindingArgs {
    name: String,
    /// The role (of the namespace)
    #[arg(long)]
    role: Option<String>,
    /// The cluster role
    #[arg(long)]
    clusterrole: Option<String>,
    #[command(flatten)]
    subjects: Subjects,
    #[command(flatten)]
    pub(super) flags: CreateFlags,
}

/// Users, groups and service accounts.
#[derive(Args, Clone, Debug)]
pub struct Subjects {
    #[arg(long, value_delimiter = ',')]
    user: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    group: Vec<String>,
    /// NAMESPACE:NAME
    #[arg(long, value_delimiter = ',', value_name = "NAMESPACE:NAME")]
    serviceaccount: Vec<String>,
}

impl Subjects {
    /// As bindings have them. `namespace` is that of service accounts that name none.
    pub fn objects(&self, namespace: Option<&str>) -> Result<Vec<Value>> {
        let subject = |kind: &str, name: &String| json!({"kind": kind, "apiGroup": GROUP, "name": name});
        let mut subjects: Vec<Value> = self.user.iter().map(|name| subject("User", name)).collect();
        subjects.extend(self.group.iter().map(|name| subject("Group", name)));
        for account in &self.serviceaccount {
            let parts = account.split_once(':').filter(|(_, name)| !name.is_empty() && !name.contains(':'));
            let own = |(own, name): (_, _)| Some((if str::is_empty(own) { namespace? } else { own }, name));
            let (namespace, name) =
                parts.and_then(own).ok_or_else(|| Error::message("serviceaccount must be <namespace>:<name>"))?;
            subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
        }
        Ok(subjects)
    }

    /// In the order of their names, each once.
    pub fn sorted(mut self) -> Self {
        for names in [&mut self.user, &mut self.group, &mut self.serviceaccount] {
            names.sort();
            names.dedup();
        }
        self
    }
}

const GROUP: &str = "rbac.authorization.k8s.io";

impl BindingArgs {
    pub(super) fn object(&self, kind: &str) -> Result<Value> {
        let (role_kind, role) = match (&self.role, &self.clusterrole) {
            (Some(role), None) => ("Role", role),
            (None, Some(role)) => ("ClusterRole", role),
            _ if kind == "ClusterRoleBinding" => return Err(Error::message("required flag(s) \"clusterrole\" not set")),
            _ => return Err(Error::message("exactly one of clusterrole or role must be specified")),
        };
        let subjects = self.subjects.objects(None)?;
        let mut object = json!({
            "apiVersion": format!("{GROUP}/v1"),
            "kind": kind,
            "metadata": {"name": self.name},
            "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role},
        });
        if !subjects.is_empty() {
            object["subjects"] = subjects.into();
        }
        Ok(object)
    }
}
