//! Service account tokens: signed by a known key, and every object they are bound to still there.

use jiff::Timestamp;
use pki::TokenVerifier;
use serde_json::Value;

use super::claims::{self, Bound, Claims, Reference};
use super::user::User;
use crate::lookup::Lookup;

/// Clocks may differ by this much.
const LEEWAY_SECONDS: i64 = 60;

pub const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
pub const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
pub const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
pub const NODE_UID: &str = "authentication.kubernetes.io/node-uid";

/// Verifies tokens of these issuers.
pub struct ServiceAccountTokens {
    /// The first is the one new tokens get.
    pub issuers: Vec<String>,
    pub keys: TokenVerifier,
    /// Audiences that mean this server.
    pub api_audiences: Vec<String>,
}

/// A token that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub user: User,
    /// The audiences both asked for and granted.
    pub audiences: Vec<String>,
    /// Unix seconds.
    pub expires: i64,
    pub notes: Notes,
}

/// What is said about a credential that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// To the audit log.
    pub annotations: Vec<(&'static str, String)>,
    /// To the client.
    pub warning: Option<&'static str>,
}

impl ServiceAccountTokens {
    /// None when the token is no business of ours; an error when it is and is not valid.
    pub fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
        lookup: &dyn Lookup,
        now: Timestamp,
    ) -> Option<Result<Accepted, String>> {
        let issuer = claims::claimed_issuer(token)?;
        if !self.issuers.contains(&issuer) {
            return None;
        }
        Some(self.check(token, audiences, lookup, now))
    }

    fn check(&self, token: &str, wanted: &[String], lookup: &dyn Lookup, now: Timestamp) -> Result<Accepted, String> {
        let verified = self.keys.verify::<Claims>(token);
        let claims = verified.map_err(|_| "failed to validate service account token signature".to_owned())?.claims;
        check_times(&claims, now)?;
        let wanted = if wanted.is_empty() { &self.api_audiences } else { wanted };
        // Tokens without audiences are meant for the API server.
        let granted = if claims.aud.is_empty() { &self.api_audiences } else { &claims.aud };
        let audiences: Vec<String> = wanted.iter().filter(|audience| granted.contains(audience)).cloned().collect();
        if audiences.is_empty() {
            return Err(format!("token audiences {granted:?} is invalid for the target audiences {wanted:?}"));
        }
        let user = bound_user(&claims.kubernetes, &claims.jti, lookup, now)?;
        if claims.sub != user.name {
            return Err("sub claim does not match the service account".to_owned());
        }
        Ok(Accepted { user, audiences, expires: claims.exp, notes: stale(&claims, now) })
    }
}

/// Tokens that live longer than they were asked to, so that clients which never read theirs again go on working.
fn stale(claims: &Claims, now: Timestamp) -> Notes {
    let after = claims.kubernetes.warnafter.filter(|warn| *warn > 0).map_or(0, |warn| now.as_second() - warn);
    if after <= 0 {
        return Notes::default();
    }
    let text = format!("subject: {}, seconds after warning threshold: {after}", claims.sub);
    Notes { annotations: vec![("authentication.k8s.io/stale-token", text)], warning: None }
}

fn check_times(claims: &Claims, now: Timestamp) -> Result<(), String> {
    let now = now.as_second();
    if now - LEEWAY_SECONDS > claims.exp {
        return Err("service account token has expired".to_owned());
    }
    if now + LEEWAY_SECONDS < claims.nbf {
        return Err("service account token is not valid yet".to_owned());
    }
    if now + LEEWAY_SECONDS < claims.iat {
        return Err("service account token is issued in the future".to_owned());
    }
    Ok(())
}

fn bound_user(bound: &Bound, jti: &str, lookup: &dyn Lookup, now: Timestamp) -> Result<User, String> {
    let namespace = &bound.namespace;
    let account = &bound.serviceaccount;
    let object = lookup
        .object("", "serviceaccounts", namespace, &account.name)
        .ok_or_else(|| format!("serviceaccount \"{}\" not found", account.name))?;
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    if uid != account.uid {
        return Err(format!("service account UID ({uid}) does not match claim ({})", account.uid));
    }
    if deleted_before(&object, now) {
        return Err(format!("service account {namespace}/{} has been deleted", account.name));
    }
    let mut user = User::service_account(namespace, &account.name, uid);
    if let Some(secret) = &bound.secret {
        check_bound(("secrets", "secret"), namespace, secret, lookup, now)?;
    }
    if let Some(pod) = &bound.pod {
        check_bound(("pods", "pod"), namespace, pod, lookup, now)?;
        user.extra.insert(POD_NAME.to_owned(), vec![pod.name.clone()]);
        user.extra.insert(POD_UID.to_owned(), vec![pod.uid.clone()]);
    }
    if let Some(node) = &bound.node {
        if bound.pod.is_none() {
            check_bound(("nodes", "node"), "", node, lookup, now)?;
        }
        user.extra.insert(NODE_NAME.to_owned(), vec![node.name.clone()]);
        user.extra.insert(NODE_UID.to_owned(), vec![node.uid.clone()]);
    }
    if !jti.is_empty() {
        user.extra.insert(super::CREDENTIAL_ID.to_owned(), vec![format!("JTI={jti}")]);
    }
    Ok(user)
}

fn check_bound(
    (plural, kind): (&str, &str),
    namespace: &str,
    bound: &Reference,
    lookup: &dyn Lookup,
    now: Timestamp,
) -> Result<(), String> {
    const GONE: &str = "service account token has been invalidated";
    let object = lookup.object("", plural, namespace, &bound.name).ok_or(GONE)?;
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    if uid != bound.uid {
        return Err(format!("{kind} UID ({uid}) does not match service account {kind} ref claim ({})", bound.uid));
    }
    if deleted_before(&object, now) { Err(GONE.to_owned()) } else { Ok(()) }
}

/// Deleted longer ago than clocks may differ; an object that is still ending its grace keeps its tokens.
fn deleted_before(object: &Value, now: Timestamp) -> bool {
    object["metadata"]["deletionTimestamp"]
        .as_str()
        .and_then(|text| text.parse::<Timestamp>().ok())
        .is_some_and(|deleted| deleted.as_second() < now.as_second() - LEEWAY_SECONDS)
}

#[cfg(test)]
mod tests {
    use pki::{Key, TokenSigner};
    use serde_json::json;

    use super::*;
    use crate::lookup::Fixed;

    fn objects() -> Fixed {
        Fixed(vec![
            ("serviceaccounts", json!({"metadata": {"namespace": "ns", "name": "sa", "uid": "1"}})),
            ("pods", json!({"metadata": {"namespace": "ns", "name": "pod", "uid": "2"}})),
            (
                "pods",
                json!({"metadata": {"namespace": "ns", "name": "old", "uid": "3",
                "deletionTimestamp": "1970-01-01T00:00:00Z"}}),
            ),
        ])
    }

    #[test]
    fn tokens_past_their_warning_are_noted() {
        let mut claims = claims();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(stale(&claims, at(1500)), Notes::default());
        claims.kubernetes.warnafter = Some(1400);
        assert_eq!(stale(&claims, at(1400)), Notes::default());
        let noted = "subject: system:serviceaccount:ns:sa, seconds after warning threshold: 100";
        assert_eq!(stale(&claims, at(1500)).annotations, [("authentication.k8s.io/stale-token", noted.to_owned())]);
    }

    fn claims() -> Claims {
        Claims {
            iss: "me".into(),
            sub: "system:serviceaccount:ns:sa".into(),
            aud: vec!["api".into()],
            iat: 1000,
            nbf: 1000,
            exp: 2000,
            kubernetes: Bound {
                namespace: "ns".into(),
                serviceaccount: Reference { name: "sa".into(), uid: "1".into() },
                ..Bound::default()
            },
            ..Claims::default()
        }
    }

    fn check(change: impl Fn(&mut Claims), at: i64, expected: &str) {
        let signer = TokenSigner::new(&Key::generate().unwrap()).unwrap();
        let mut claims = claims();
        change(&mut claims);
        let tokens = ServiceAccountTokens {
            issuers: vec!["me".into()],
            keys: TokenVerifier::new(vec![signer.public_key().clone()]),
            api_audiences: vec!["api".into()],
        };
        let token = signer.sign(&claims).unwrap();
        let got = match tokens.authenticate(&token, &[], &objects(), Timestamp::from_second(at).unwrap()) {
            None => "not ours".to_owned(),
            Some(Ok(accepted)) => accepted.user.name,
            Some(Err(why)) => why,
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn tokens() {
        const USER: &str = "system:serviceaccount:ns:sa";
        const GONE: &str = "service account token has been invalidated";
        let pod = |name: &str, uid: &str| Some(Reference { name: name.into(), uid: uid.into() });
        check(|_| {}, 1500, USER);
        check(|_| {}, 2061, "service account token has expired");
        check(|_| {}, 2060, USER);
        check(|_| {}, 900, "service account token is not valid yet");
        check(|c| c.iss = "other".into(), 1500, "not ours");
        check(
            |c| c.aud = vec!["vault".into()],
            1500,
            "token audiences [\"vault\"] is invalid for the target audiences [\"api\"]",
        );
        check(|c| c.kubernetes.serviceaccount.uid = "9".into(), 1500, "service account UID (1) does not match claim (9)");
        check(|c| c.sub = "system:serviceaccount:ns:other".into(), 1500, "sub claim does not match the service account");
        check(|c| c.kubernetes.pod = pod("pod", "2"), 1500, USER);
        check(|c| c.kubernetes.pod = pod("pod", "x"), 1500, "pod UID (2) does not match service account pod ref claim (x)");
        check(|c| c.kubernetes.pod = pod("none", "2"), 1500, GONE);
        check(|c| c.kubernetes.pod = pod("old", "3"), 1500, GONE);
    }
}
