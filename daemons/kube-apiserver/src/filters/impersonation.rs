//! Impersonation: acting as somebody else, for whom that is allowed.
//!
//! Constrained impersonation (KEP-5284) is tried first: the user may be impersonated, and this request may be made as them.
//! Then the older form, where whoever may impersonate may do everything the other may.

use std::collections::BTreeMap;

use http::HeaderMap;
use machinery::status::Status;

use crate::authn::service_account::NODE_NAME;
use crate::authn::user::{ANONYMOUS, AUTHENTICATED, MASTERS, NODE_PREFIX, NODES, SERVICE_ACCOUNTS, UNAUTHENTICATED, User};
use crate::authz::{Attributes, Authorizer, ResourceAttributes, forbidden};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";
/// What the authorizer is told of a service account that acts as its own node: the node is not its choice.
const ASSOCIATED_NODE_KEYS: &str = "authentication.kubernetes.io/associated-node-keys";
/// From so many questions on, one for all of them is asked first.
const MANY: usize = 4;

/// Whom the request is made as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonated {
    pub user: User,
    /// `impersonate:MODE`; empty for the older form.
    pub constraint: &'static str,
}

/// The user whom the request is made as; none without the headers. The headers are removed.
pub async fn apply(
    authorizer: &Authorizer,
    request: &Attributes<'_>,
    headers: &mut HeaderMap,
) -> Result<Option<Impersonated>, Status> {
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(None);
    }
    let wanted = wanted(headers);
    let names: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in names {
        headers.remove(name);
    }
    let Some(wanted) = wanted? else { return Ok(None) };
    let requestor = request.user.cloned().unwrap_or_default();
    let mut first = None;
    for mode in Mode::ALL {
        if !mode.fits(&wanted, &requestor) {
            continue;
        }
        match check(authorizer, mode, request, &requestor, &wanted).await {
            Ok(()) => return Ok(Some(Impersonated { user: complete(mode, wanted), constraint: mode.verb().1 })),
            Err(status) => first = first.or(Some(status)),
        }
    }
    // The older form fits everybody, so there is an error.
    Err(first.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
}

fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let first = |name| values(headers, name).into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in headers.keys() {
        if let Some(name) = key.as_str().strip_prefix(EXTRA) {
            extra.entry(crate::request_info::percent_decode(name)).or_default().extend(values(headers, key.as_str()));
        }
    }
    let user = User { name: first(USER), uid: first(UID), groups: values(headers, GROUP), extra };
    let anything = !user.groups.is_empty() || !user.extra.is_empty() || !user.uid.is_empty();
    match (user.name.is_empty(), anything) {
        (false, _) => Ok(Some(user)),
        (true, false) => Ok(None),
        (true, true) => Err(Status::bad_request(format!("requested {user:?} without impersonating a user name"))),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

impl Mode {
    const ALL: [Self; 5] = [Self::AssociatedNode, Self::ArbitraryNode, Self::ServiceAccount, Self::UserInfo, Self::Legacy];

    /// (verb of the questions about the user, the same for the audit log)
    fn verb(self) -> (&'static str, &'static str) {
        match self {
            Self::AssociatedNode => ("impersonate:associated-node", "impersonate:associated-node"),
            Self::ArbitraryNode => ("impersonate:arbitrary-node", "impersonate:arbitrary-node"),
            Self::ServiceAccount => ("impersonate:serviceaccount", "impersonate:serviceaccount"),
            Self::UserInfo => ("impersonate:user-info", "impersonate:user-info"),
            Self::Legacy => ("impersonate", ""),
        }
    }

    fn fits(self, wanted: &User, requestor: &User) -> bool {
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node_of(wanted);
        match self {
            Self::AssociatedNode => {
                let own = requestor.extra.get(NODE_NAME).filter(|names| names.len() == 1).map(|names| names[0].as_str());
                only_name && node.is_some() && own == node && requestor.service_account_name().is_some()
            }
            Self::ArbitraryNode => only_name && node.is_some(),
            Self::ServiceAccount => only_name && wanted.service_account_name().is_some(),
            Self::UserInfo => node.is_none() && wanted.service_account_name().is_none(),
            Self::Legacy => true,
        }
    }
}

fn node_of(user: &User) -> Option<&str> {
    user.name.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty())
}

/// May the request be made in this mode, and every part of the user be taken on? Each part needs its own permission.
async fn check(
    authorizer: &Authorizer,
    mode: Mode,
    request: &Attributes<'_>,
    requestor: &User,
    wanted: &User,
) -> Result<(), Status> {
    let asking = match mode {
        Mode::AssociatedNode => {
            let keys = requestor.extra.keys().cloned().collect();
            User { extra: [(ASSOCIATED_NODE_KEYS.to_owned(), keys)].into(), ..requestor.clone() }
        }
        _ => requestor.clone(),
    };
    let (verb, constraint) = mode.verb();
    if let Some(name) = constraint.strip_prefix("impersonate:") {
        let verb = format!("impersonate-on:{name}:{}", request.verb);
        ask(authorizer, &Attributes { user: Some(&asking), verb: &verb, ..request.clone() }).await?;
    }
    let question = |resource| Attributes::resource(&asking, verb, resource);
    if mode != Mode::Legacy {
        sane(wanted).map_err(|(resource, why)| forbidden(&question(resource), &why))?;
    }
    ask(authorizer, &question(name_attributes(mode, wanted))).await?;
    let of_authentication = ResourceAttributes { group: AUTHENTICATION, ..Default::default() };
    if !wanted.uid.is_empty() {
        ask(authorizer, &question(ResourceAttributes { resource: "uids", name: &wanted.uid, ..of_authentication })).await?;
    }
    let group = if mode == Mode::Legacy { "" } else { AUTHENTICATION };
    let groups = |name| ResourceAttributes { group, resource: "groups", name, ..Default::default() };
    let all = mode != Mode::Legacy && wanted.groups.len() >= MANY && ask(authorizer, &question(groups("*"))).await.is_ok();
    for name in &wanted.groups {
        if !all {
            ask(authorizer, &question(groups(name))).await?;
        }
    }
    let extras = |subresource, name| ResourceAttributes { resource: "userextras", subresource, name, ..of_authentication };
    let count: usize = wanted.extra.values().map(|values| values.len().max(1)).sum();
    let all = mode != Mode::Legacy && count >= MANY && ask(authorizer, &question(extras("*", "*"))).await.is_ok();
    for (key, values) in &wanted.extra {
        for value in values {
            if !all {
                ask(authorizer, &question(extras(key, value))).await?;
            }
        }
    }
    Ok(())
}

fn name_attributes(mode: Mode, wanted: &User) -> ResourceAttributes<'_> {
    let group = if mode == Mode::Legacy { "" } else { AUTHENTICATION };
    let of = |resource, namespace, name| ResourceAttributes { group, resource, namespace, name, ..Default::default() };
    match (mode, wanted.service_account_name(), node_of(wanted)) {
        (_, Some((namespace, name)), _) => of("serviceaccounts", namespace, name),
        // One permission for whichever node the account runs on.
        (Mode::AssociatedNode, ..) => of("nodes", "", "*"),
        (Mode::ArbitraryNode, _, Some(node)) => of("nodes", "", node),
        _ => of("users", "", &wanted.name),
    }
}

/// What the constrained modes never allow.
fn sane(wanted: &User) -> Result<(), (ResourceAttributes<'static>, String)> {
    let groups = |name| ResourceAttributes { group: AUTHENTICATION, resource: "groups", name, ..Default::default() };
    let extras = ResourceAttributes { group: AUTHENTICATION, resource: "userextras", ..Default::default() };
    if wanted.groups.iter().any(String::is_empty) {
        return Err((groups(""), "impersonating the empty string group is not allowed".to_owned()));
    }
    if wanted.is_in(MASTERS) {
        return Err((groups(MASTERS), "impersonating the system:masters group is not allowed".to_owned()));
    }
    for (key, values) in &wanted.extra {
        let why = if key.is_empty() {
            "impersonating the empty string key in extra is not allowed".to_owned()
        } else if *key != key.to_lowercase() {
            format!("impersonating a non-lowercase key in extra is not allowed: {key:?}")
        } else if !key.split_once('/').is_some_and(|(domain, path)| !domain.is_empty() && !path.is_empty()) {
            format!(
                "impersonating an invalid key in extra is not allowed: {key:?} must be a domain-prefixed path (such as \"acme.io/foo\")"
            )
        } else if values.is_empty() {
            "impersonating empty values in extra is not allowed".to_owned()
        } else if values.iter().any(String::is_empty) {
            "impersonating the empty string value in extra is not allowed".to_owned()
        } else {
            continue;
        };
        return Err((extras, why));
    }
    Ok(())
}

async fn ask(authorizer: &Authorizer, attributes: &Attributes<'_>) -> Result<(), Status> {
    let decision = authorizer.decide(attributes).await;
    if decision.allowed() { Ok(()) } else { Err(forbidden(attributes, decision.reason())) }
}

/// The groups that the authenticator would have given.
fn complete(mode: Mode, mut user: User) -> User {
    if matches!(mode, Mode::AssociatedNode | Mode::ArbitraryNode) {
        user.groups = vec![NODES.to_owned()];
    }
    if user.groups.is_empty()
        && let Some((namespace, _)) = user.service_account_name()
    {
        user.groups = vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
    }
    let group = match user.name.as_str() {
        ANONYMOUS => UNAUTHENTICATED,
        _ if user.is_in(UNAUTHENTICATED) => return user,
        _ => AUTHENTICATED,
    };
    if !user.is_in(group) {
        user.groups.push(group.to_owned());
    }
    user
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use daemon::reload::Reloading;
    use serde_json::json;

    use super::*;
    use crate::authz::rbac::Rbac;
    use crate::authz::{Local, Mode as Authorization};

    /// `USER may VERB GROUP/RESOURCE` for each entry, as rules of one role each.
    fn authorizer(grants: &[(&str, &str, &str, &str)]) -> Authorizer {
        let rbac = Rbac::default();
        for (index, (user, verb, group, resource)) in grants.iter().enumerate() {
            let name = format!("r{index}");
            let role = json!({"rules": [{"verbs": [verb], "apiGroups": [group], "resources": [resource]}]});
            let binding = json!({"roleRef": {"kind": "ClusterRole", "name": name}, "subjects": [{"kind": "User", "name": user}]});
            rbac.apply("clusterroles", "", &name, Some(&role));
            rbac.apply("clusterrolebindings", "", &name, Some(&binding));
        }
        Authorizer::new(Reloading::fixed(vec![Authorization::Rbac]), Local { node: None, rbac: Arc::new(rbac) })
    }

    async fn act(
        grants: &[(&str, &str, &str, &str)],
        user: &User,
        pairs: &[(&'static str, &str)],
    ) -> Result<Option<Impersonated>, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        let request = ResourceAttributes { resource: "pods", ..Default::default() };
        let request = Attributes::resource(user, "list", request);
        let result = apply(&authorizer(grants), &request, &mut headers).await.map_err(|status| status.code());
        assert!(headers.is_empty());
        result
    }

    #[tokio::test]
    async fn who_may() {
        let (admin, bob) = (User::new("admin", &[MASTERS]), User::new("bob", &[]));
        assert_eq!(act(&[], &bob, &[]).await, Ok(None));
        assert_eq!(act(&[], &bob, &[(USER, "ann")]).await, Err(403));
        assert_eq!(act(&[], &admin, &[(GROUP, "x")]).await, Err(400));
        let ann = act(&[], &admin, &[(USER, "ann"), (GROUP, "x")]).await.unwrap().unwrap().user;
        assert_eq!((ann.name.as_str(), ann.groups), ("ann", vec!["x".to_owned(), AUTHENTICATED.to_owned()]));
        let bot = act(&[], &admin, &[(USER, "system:serviceaccount:ns:bot")]).await.unwrap().unwrap().user;
        assert!(bot.is_in("system:serviceaccounts:ns") && bot.is_in(AUTHENTICATED));
        // Administrators can take on each other's group, by the older form.
        let master = act(&[], &admin, &[(USER, "ann"), (GROUP, MASTERS)]).await.unwrap().unwrap();
        assert_eq!((master.constraint, master.user.is_in(MASTERS)), ("", true));
    }

    #[tokio::test]
    async fn every_part_needs_its_permission() {
        let bob = User::new("bob", &[]);
        let users = ("bob", "impersonate", "", "users");
        let ann = [(USER, "ann")];
        assert_eq!(act(&[users], &bob, &ann).await.unwrap().unwrap().constraint, "");
        for (header, value, resource) in [
            (GROUP, "dev", ("", "groups")),
            (UID, "1", (AUTHENTICATION, "uids")),
            ("impersonate-extra-a.b%2Fc", "v", (AUTHENTICATION, "userextras/a.b/c")),
        ] {
            let headers = [(USER, "ann"), (header, value)];
            assert_eq!(act(&[users], &bob, &headers).await, Err(403), "{header}");
            let grants = [users, ("bob", "impersonate", resource.0, resource.1)];
            assert!(act(&grants, &bob, &headers).await.is_ok(), "{header}");
        }
        let account = [(USER, "system:serviceaccount:ns:bot")];
        assert_eq!(act(&[users], &bob, &account).await, Err(403));
        assert!(act(&[("bob", "impersonate", "", "serviceaccounts")], &bob, &account).await.is_ok());
    }

    #[tokio::test]
    async fn constrained() {
        let bob = User::new("bob", &[]);
        let on = ("bob", "impersonate-on:user-info:list", "", "pods");
        let as_whom = ("bob", "impersonate:user-info", AUTHENTICATION, "users");
        let ann = act(&[on, as_whom], &bob, &[(USER, "ann")]).await.unwrap().unwrap();
        assert_eq!(ann.constraint, "impersonate:user-info");
        for grants in [[on, on], [as_whom, as_whom]] {
            assert_eq!(act(&grants, &bob, &[(USER, "ann")]).await, Err(403), "{grants:?}");
        }
        // Neither nodes nor service accounts are reached by the permission for people.
        for name in ["system:node:n1", "system:serviceaccount:ns:bot"] {
            assert_eq!(act(&[on, as_whom], &bob, &[(USER, name)]).await, Err(403), "{name}");
        }
        let group = ("bob", "impersonate:user-info", AUTHENTICATION, "groups");
        assert_eq!(act(&[on, as_whom, group], &bob, &[(USER, "ann"), (GROUP, MASTERS)]).await, Err(403));
    }

    #[tokio::test]
    async fn an_agent_acts_as_its_own_node() {
        const AGENT: &str = "system:serviceaccount:ns:agent";
        let mut agent = User::service_account("ns", "agent", "1");
        agent.extra.insert(NODE_NAME.to_owned(), vec!["n1".to_owned()]);
        let grants = [
            (AGENT, "impersonate-on:associated-node:list", "", "pods"),
            (AGENT, "impersonate:associated-node", AUTHENTICATION, "nodes"),
        ];
        let node = act(&grants, &agent, &[(USER, "system:node:n1")]).await.unwrap().unwrap().user;
        assert_eq!((node.node_name(), node.name.as_str()), (Some("n1"), "system:node:n1"));
        assert_eq!(act(&grants, &agent, &[(USER, "system:node:n2")]).await, Err(403));
    }
}
