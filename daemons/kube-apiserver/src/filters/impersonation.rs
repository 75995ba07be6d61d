//! Impersonation: acting as somebody else, for whom RBAC allows it.

use http::HeaderMap;
use machinery::status::Status;

use crate::authn::user::{ANONYMOUS, AUTHENTICATED, SERVICE_ACCOUNTS, UNAUTHENTICATED, User};
use crate::authz::{Attributes, Authorizer, ResourceAttributes, forbidden};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// The user whom the request is made as; none without the headers. The headers are removed.
pub fn apply(authorizer: &Authorizer, user: &User, headers: &mut HeaderMap) -> Result<Option<User>, Status> {
    let wanted = wanted(headers);
    let names: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in names {
        headers.remove(name);
    }
    let Some(wanted) = wanted? else { return Ok(None) };
    check(authorizer, user, &wanted)?;
    Ok(Some(complete(wanted)))
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
}

fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let name = values(headers, USER).into_iter().next().unwrap_or_default();
    let mut user = User {
        name,
        uid: values(headers, UID).into_iter().next().unwrap_or_default(),
        groups: values(headers, GROUP),
        ..User::default()
    };
    for key in headers.keys() {
        if let Some(extra) = key.as_str().strip_prefix(EXTRA) {
            user.extra.insert(crate::request_info::percent_decode(extra), values(headers, key.as_str()));
        }
    }
    let anything = !user.groups.is_empty() || !user.extra.is_empty() || !user.uid.is_empty();
    match (user.name.is_empty(), anything) {
        (false, _) => Ok(Some(user)),
        (true, false) => Ok(None),
        (true, true) => Err(Status::internal("requested impersonation without impersonating a user")),
    }
}

/// Each part needs its own permission.
fn check(authorizer: &Authorizer, user: &User, wanted: &User) -> Result<(), Status> {
    let ask = |resource: ResourceAttributes<'_>| {
        let attributes = Attributes::resource(user, "impersonate", resource);
        match authorizer.authorize(&attributes) {
            decision if decision.allowed() => Ok(()),
            decision => Err(forbidden(&attributes, decision.reason())),
        }
    };
    match wanted.service_account_name() {
        Some((namespace, name)) => {
            ask(ResourceAttributes { resource: "serviceaccounts", namespace, name, ..Default::default() })?;
        }
        None => ask(ResourceAttributes { resource: "users", name: &wanted.name, ..Default::default() })?,
    }
    for group in &wanted.groups {
        ask(ResourceAttributes { resource: "groups", name: group, ..Default::default() })?;
    }
    let of_authentication = ResourceAttributes { group: "authentication.k8s.io", ..Default::default() };
    if !wanted.uid.is_empty() {
        ask(ResourceAttributes { resource: "uids", name: &wanted.uid, ..of_authentication })?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            ask(ResourceAttributes { resource: "userextras", subresource: key, name: value, ..of_authentication })?;
        }
    }
    Ok(())
}

/// The groups that the authenticator would have given.
fn complete(mut user: User) -> User {
    if user.groups.is_empty()
        && let Some((namespace, _)) = user.service_account_name()
    {
        user.groups = vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
    }
    let known = user.is_in(AUTHENTICATED) || user.is_in(UNAUTHENTICATED);
    if !known {
        let group = if user.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
        user.groups.push(group.to_owned());
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::user::MASTERS;
    use crate::authz::Mode;

    fn act(user: &User, pairs: &[(&'static str, &str)]) -> Result<Option<User>, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        let result = apply(&Authorizer::new(vec![Mode::AlwaysDeny]), user, &mut headers).map_err(|status| status.code());
        assert!(headers.is_empty());
        result
    }

    #[test]
    fn who_may() {
        let (admin, bob) = (User::new("admin", &[MASTERS]), User::new("bob", &[]));
        assert_eq!(act(&bob, &[]), Ok(None));
        assert_eq!(act(&bob, &[(USER, "ann")]), Err(403));
        assert_eq!(act(&admin, &[(GROUP, "x")]), Err(500));
        let ann = act(&admin, &[(USER, "ann"), (GROUP, "x")]).unwrap().unwrap();
        assert_eq!((ann.name.as_str(), ann.groups), ("ann", vec!["x".to_owned(), AUTHENTICATED.to_owned()]));
        let bot = act(&admin, &[(USER, "system:serviceaccount:ns:bot")]).unwrap().unwrap();
        assert!(bot.is_in("system:serviceaccounts:ns") && bot.is_in(AUTHENTICATED));
    }
}
