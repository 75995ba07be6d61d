//! What a verified token's claims say: whether it is meant for us and still good, and who its user is.

use std::cell::LazyCell;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::config::{Claim, Issuer, Mapping};
use super::expressions::{Seen, check_user};
use crate::authn::CREDENTIAL_ID;
use crate::authn::user::User;

/// How far an issuer's clock may be ahead of ours.
const NOT_BEFORE_LEEWAY_SECONDS: i64 = 300;

pub type Claims = Map<String, Value>;

/// The user of a token whose signature was verified.
///
/// # Errors
/// Why it is not accepted, worded as upstream's.
pub fn user(issuer: &Issuer, claims: &Claims, now: Timestamp) -> Result<User, String> {
    check_standard(issuer, claims, now).map_err(|why| format!("oidc: verify token: {why}"))?;
    let seen = Lazy::new(Box::new(|| Seen::new(claims)));
    let user = User {
        name: username(issuer, claims, &seen)?,
        groups: groups(issuer, claims, &seen)?,
        uid: match &issuer.uid {
            Some(Mapping::Claim(Claim { name, .. })) => {
                text(claims, name).map_err(|why| format!("oidc: parse uid claim {name:?}: {why}"))?.to_owned()
            }
            Some(Mapping::Expression(program)) => seen.string(program, "uid")?,
            None => String::new(),
        },
        extra: extra(issuer, claims, &seen)?,
    };
    for (claim, wanted) in &issuer.required_claims {
        if !claims.contains_key(claim) {
            return Err(format!("oidc: required claim {claim} not present in ID token"));
        }
        let got = text(claims, claim).map_err(|why| format!("oidc: parse claim {claim}: {why}"))?;
        if got != wanted {
            return Err(format!("oidc: required claim {claim} value does not match. Got = {got}, want = {wanted}"));
        }
    }
    if !issuer.claim_rules.is_empty() {
        seen.check(&issuer.claim_rules)?;
    }
    check_user(&issuer.user_rules, &user)?;
    Ok(user)
}

/// Made when the first expression is evaluated: most issuers have none.
type Lazy<'c> = LazyCell<Seen, Box<dyn FnOnce() -> Seen + 'c>>;

/// Unix seconds after which the token is worth nothing.
pub fn expires(claims: &Claims) -> i64 {
    seconds(claims, "exp").unwrap_or(0)
}

fn check_standard(issuer: &Issuer, claims: &Claims, now: Timestamp) -> Result<(), String> {
    let now = now.as_second();
    let iss = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
    if iss != issuer.url {
        return Err(format!("oidc: id token issued by a different provider, expected {:?} got {iss:?}", issuer.url));
    }
    let audiences: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audiences.iter().any(|audience| issuer.audiences.iter().any(|ours| ours == audience)) {
        return Err(format!("oidc: expected audience in {:?} got {audiences:?}", issuer.audiences));
    }
    let expires = expires(claims);
    if expires < now {
        return Err(format!("oidc: token is expired (Token Expiry: {expires})"));
    }
    match seconds(claims, "nbf") {
        Some(from) if now + NOT_BEFORE_LEEWAY_SECONDS < from => {
            Err(format!("oidc: current time {now} before the nbf (not before) time: {from}"))
        }
        _ => Ok(()),
    }
}

/// Dates are numbers, with a fraction if the issuer likes.
fn seconds(claims: &Claims, name: &str) -> Option<i64> {
    let value = claims.get(name)?;
    // A token's lifetime is far within what both hold.
    value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))
}

fn username(issuer: &Issuer, claims: &Claims, seen: &Lazy<'_>) -> Result<String, String> {
    let Claim { name: claim, prefix } = match &issuer.username {
        Mapping::Claim(claim) => claim,
        Mapping::Expression(program) => {
            let name = seen.string(program, "username")?;
            return if name.is_empty() {
                Err("oidc: empty username via CEL expression is not allowed".to_owned())
            } else {
                Ok(name)
            };
        }
    };
    let name = text(claims, claim).map_err(|why| format!("oidc: parse username claims {claim:?}: {why}"))?;
    if claim == "email"
        && let Some(verified) = claims.get("email_verified")
    {
        match verified.as_bool() {
            Some(true) => {}
            Some(false) => return Err("oidc: email not verified".to_owned()),
            None => return Err("oidc: parse 'email_verified' claim: not a boolean".to_owned()),
        }
    }
    Ok(format!("{prefix}{name}"))
}

/// One string is a list of one: some issuers have a claim like `role`.
fn groups(issuer: &Issuer, claims: &Claims, seen: &Lazy<'_>) -> Result<Vec<String>, String> {
    let mapping = match &issuer.groups {
        None => return Ok(Vec::new()),
        Some(Mapping::Claim(claim)) => claim,
        Some(Mapping::Expression(program)) => {
            return seen.strings(program).map_err(|why| format!("oidc: error evaluating group claim expression: {why}"));
        }
    };
    let prefixed = |group: &str| format!("{}{group}", mapping.prefix);
    match claims.get(&mapping.name) {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![prefixed(one)]),
        Some(Value::Array(many)) if many.iter().all(Value::is_string) => {
            Ok(many.iter().filter_map(Value::as_str).map(prefixed).collect())
        }
        Some(_) => Err(format!("oidc: parse groups claim {:?}: neither a string nor a list of strings", mapping.name)),
    }
}

fn extra(issuer: &Issuer, claims: &Claims, seen: &Lazy<'_>) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut extra = BTreeMap::new();
    if let Some(id) = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty()) {
        extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
    }
    for (key, program) in &issuer.extra {
        let failed = |why| format!("oidc: error evaluating extra claim expression: {}: {why}", program.source());
        let values = seen.strings(program).map_err(failed)?;
        if !values.is_empty() {
            extra.insert(key.clone(), values);
        }
    }
    Ok(extra)
}

fn text<'c>(claims: &'c Claims, name: &str) -> Result<&'c str, &'static str> {
    claims.get(name).ok_or("claim not present")?.as_str().ok_or("not a string")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::expressions::{Rule, mapping};
    use super::*;

    fn check(change: impl Fn(&mut Issuer), claims: Value, expected: Result<(&str, &[&str]), &str>) {
        let mut issuer = Issuer {
            url: "https://idp".into(),
            audiences: vec!["kube".into()],
            username: Claim { name: "sub".into(), prefix: "p:".into() }.into(),
            groups: Some(Claim { name: "groups".into(), prefix: "g:".into() }.into()),
            ..Issuer::default()
        };
        change(&mut issuer);
        let mut all = json!({"iss": "https://idp", "aud": "kube", "exp": 2000, "sub": "ann"});
        for (key, value) in claims.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        let got = user(&issuer, all.as_object().unwrap(), Timestamp::from_second(1000).unwrap());
        let got = got.as_ref().map(|user| (user.name.as_str(), user.groups.clone())).map_err(String::as_str);
        let expected = expected.map(|(name, groups)| (name, groups.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>()));
        assert_eq!(got, expected, "{claims}");
    }

    #[test]
    fn claims() {
        let same = |_: &mut Issuer| {};
        let email = |issuer: &mut Issuer| issuer.username = Claim { name: "email".into(), prefix: String::new() }.into();
        let required = |issuer: &mut Issuer| {
            issuer.required_claims.insert("hd".into(), "example.com".into());
        };
        check(same, json!({}), Ok(("p:ann", &[])));
        check(same, json!({"groups": ["a", "b"]}), Ok(("p:ann", &["g:a", "g:b"])));
        check(same, json!({"groups": "a"}), Ok(("p:ann", &["g:a"])));
        check(same, json!({"groups": [1]}), Err("oidc: parse groups claim \"groups\": neither a string nor a list of strings"));
        check(same, json!({"aud": ["x", "kube"]}), Ok(("p:ann", &[])));
        check(same, json!({"aud": "x"}), Err("oidc: verify token: oidc: expected audience in [\"kube\"] got [\"x\"]"));
        check(same, json!({"exp": 999}), Err("oidc: verify token: oidc: token is expired (Token Expiry: 999)"));
        check(same, json!({"exp": null}), Err("oidc: verify token: oidc: token is expired (Token Expiry: 0)"));
        check(same, json!({"nbf": 1300}), Ok(("p:ann", &[])));
        check(
            same,
            json!({"nbf": 1301}),
            Err("oidc: verify token: oidc: current time 1000 before the nbf (not before) time: 1301"),
        );
        check(same, json!({"sub": 1}), Err("oidc: parse username claims \"sub\": not a string"));
        check(email, json!({}), Err("oidc: parse username claims \"email\": claim not present"));
        check(email, json!({"email": "a@b"}), Ok(("a@b", &[])));
        check(email, json!({"email": "a@b", "email_verified": false}), Err("oidc: email not verified"));
        check(required, json!({}), Err("oidc: required claim hd not present in ID token"));
        check(required, json!({"hd": "x"}), Err("oidc: required claim hd value does not match. Got = x, want = example.com"));
        check(required, json!({"hd": "example.com"}), Ok(("p:ann", &[])));
    }

    #[test]
    fn expressions() {
        let by = |issuer: &mut Issuer| {
            issuer.username = Mapping::Expression(mapping("claims.?name.orValue('')").unwrap());
            issuer.groups = Some(Mapping::Expression(mapping("claims.roles.split(',')").unwrap()));
            issuer.claim_rules = vec![Rule::of_claims("claims.exp - 1000 <= 1000", "too long".into()).unwrap()];
            issuer.user_rules = vec![Rule::of_user("user.username != 'root'", "no root".into()).unwrap()];
        };
        check(by, json!({"name": "ann", "roles": "a,,b"}), Ok(("ann", &["a", "b"])));
        check(by, json!({"roles": ""}), Err("oidc: empty username via CEL expression is not allowed"));
        check(
            by,
            json!({"name": "ann"}),
            Err(
                "oidc: error evaluating group claim expression: expression 'claims.roles.split(',')' resulted in error: no such key: roles",
            ),
        );
        check(
            by,
            json!({"name": "ann", "roles": "a", "exp": 2001}),
            Err(
                "oidc: error evaluating claim validation expression: validation expression 'claims.exp - 1000 <= 1000' failed: too long",
            ),
        );
        check(
            by,
            json!({"name": "root", "roles": "a"}),
            Err(
                "oidc: error evaluating user info validation rule: validation expression 'user.username != 'root'' failed: no root",
            ),
        );
    }

    #[test]
    fn extra_values() {
        let program = |text: &str| mapping(text).unwrap();
        let issuer =
            Issuer { extra: vec![("a.b/c".into(), program("claims.c")), ("a.b/d".into(), program("''"))], ..Issuer::default() };
        let claims = json!({"jti": "7", "c": ["x", "y"]});
        let claims = claims.as_object().unwrap();
        let seen = Lazy::new(Box::new(|| Seen::new(claims)));
        let got = extra(&issuer, claims, &seen).unwrap();
        let expected = [(CREDENTIAL_ID.to_owned(), vec!["JTI=7".to_owned()]), ("a.b/c".to_owned(), vec!["x".into(), "y".into()])];
        assert_eq!(got, BTreeMap::from(expected));
    }
}
