//! Service account tokens that lie in a Secret: valid without end, as long as the Secret has them (KEP-2799).
//!
//! That they are used is noted in the Secret's labels, day by day, so that those which nobody uses can be taken away.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::civil::Date;
use machinery::meta;
use serde::Deserialize;
use serde_json::Value;

use super::claims::claimed_issuer;
use super::service_account::{Accepted, Notes, ServiceAccountTokens};
use super::user::User;
use crate::lookup::Lookup;

/// Who issued them, they say.
pub const ISSUER: &str = "kubernetes/serviceaccount";
pub const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
pub const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

const AUTO_WARNING: &str =
    "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.";
const GONE: &str = "Token has been invalidated";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Claims {
    sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    account_uid: String,
}

/// A Secret whose token was used, which its labels do not say yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub day: Date,
}

/// Whether a token is good, and what is to be noted either way.
#[derive(Debug)]
pub struct Verdict {
    pub used: Option<Used>,
    pub result: Result<Accepted, String>,
}

/// None when it is no such token.
pub fn authenticate(
    tokens: &ServiceAccountTokens,
    token: &str,
    wanted: &[String],
    lookup: &dyn Lookup,
    now: Timestamp,
) -> Option<Verdict> {
    if claimed_issuer(token)? != ISSUER {
        return None;
    }
    let mut used = None;
    let result = check(tokens, token, wanted, lookup, now, &mut used);
    Some(Verdict { used, result })
}

fn check(
    tokens: &ServiceAccountTokens,
    token: &str,
    wanted: &[String],
    lookup: &dyn Lookup,
    now: Timestamp,
    used: &mut Option<Used>,
) -> Result<Accepted, String> {
    let verified = tokens.keys.verify::<Claims>(token);
    let claims = verified.map_err(|_| "failed to validate service account token signature".to_owned())?.claims;
    check_claims(&claims)?;
    // They name no audience: they are meant for the API server.
    let wanted = if wanted.is_empty() { &tokens.api_audiences } else { wanted };
    let audiences: Vec<String> = wanted.iter().filter(|audience| tokens.api_audiences.contains(audience)).cloned().collect();
    if audiences.is_empty() {
        return Err(format!("token audiences {:?} is invalid for the target audiences {wanted:?}", tokens.api_audiences));
    }
    let Claims { namespace, secret: name, account, account_uid, .. } = &claims;
    let secret =
        lookup.object("", "secrets", namespace, name).filter(|secret| meta::deletion_timestamp(secret).is_none()).ok_or(GONE)?;
    if !is_kept(&secret, token) {
        return Err("Token does not match server's copy".to_owned());
    }
    let object = lookup
        .object("", "serviceaccounts", namespace, account)
        .ok_or_else(|| format!("serviceaccounts {account:?} not found"))?;
    if meta::deletion_timestamp(&object).is_some() {
        return Err(format!("ServiceAccount {namespace}/{account} has been deleted"));
    }
    let uid = meta::uid(&object);
    if uid != account_uid {
        return Err(format!("ServiceAccount UID ({uid}) does not match claim ({account_uid})"));
    }
    *used = use_of(&secret, now);
    if meta::label(&secret, INVALID_SINCE).is_some_and(|since| !since.is_empty()) {
        return Err(format!(
            "the token in secret {namespace}/{name} for service account {namespace}/{account} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
        ));
    }
    let user = User::service_account(namespace, account, uid);
    Ok(Accepted { user, audiences, expires: i64::MAX, notes: notes(&object, name) })
}

fn check_claims(claims: &Claims) -> Result<(), String> {
    for (claim, value) in [
        ("sub", &claims.sub),
        ("namespace", &claims.namespace),
        ("secretName", &claims.secret),
        ("serviceAccountName", &claims.account),
        ("serviceAccountUID", &claims.account_uid),
    ] {
        if value.is_empty() {
            return Err(format!("{claim} claim is missing"));
        }
    }
    if claims.sub != User::service_account(&claims.namespace, &claims.account, "").name {
        return Err("sub claim is invalid".to_owned());
    }
    Ok(())
}

/// Whether the Secret has this very token, compared without telling by the time it takes how much of it is right.
fn is_kept(secret: &Value, token: &str) -> bool {
    let kept = secret["data"]["token"].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    let digest = |bytes: &[u8]| ring::digest::digest(&ring::digest::SHA256, bytes);
    digest(&kept).as_ref() == digest(token.as_bytes()).as_ref()
}

/// A Secret that its ServiceAccount lists was made by a controller of old, for nobody in particular.
fn notes(account: &Value, secret: &str) -> Notes {
    let listed = account["secrets"].as_array().is_some_and(|all| all.iter().any(|reference| reference["name"] == secret));
    let annotation = match listed {
        true => "authentication.k8s.io/legacy-token-autogenerated-secret",
        false => "authentication.k8s.io/legacy-token-manual-secret",
    };
    crate::metrics::legacy_token_used(listed);
    Notes { annotations: vec![(annotation, secret.to_owned())], warning: listed.then_some(AUTO_WARNING) }
}

/// What is to be written, unless a server has written it today, or one whose clock is ahead tomorrow.
fn use_of(secret: &Value, now: Timestamp) -> Option<Used> {
    let day = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let noted = meta::label(secret, LAST_USED).unwrap_or_default();
    let tomorrow = day.tomorrow().ok().map(|day| day.to_string());
    if noted == day.to_string() || tomorrow.as_deref() == Some(noted) {
        return None;
    }
    let text = |text: &str| text.to_owned();
    Some(Used { namespace: text(meta::namespace(secret)), name: text(meta::name(secret)), uid: text(meta::uid(secret)), day })
}

#[cfg(test)]
mod tests {
    use pki::{Key, TokenSigner, TokenVerifier};
    use serde_json::json;

    use super::*;
    use crate::lookup::Fixed;

    const DAY: &str = "2026-03-04T05:06:07Z";

    fn claims() -> Value {
        json!({"iss": ISSUER, "sub": "system:serviceaccount:ns:sa", "kubernetes.io/serviceaccount/namespace": "ns",
            "kubernetes.io/serviceaccount/secret.name": "s", "kubernetes.io/serviceaccount/service-account.name": "sa",
            "kubernetes.io/serviceaccount/service-account.uid": "1"})
    }

    fn verdict(claims: &Value, change: impl Fn(&mut Value, &mut Value), wanted: &[String]) -> Option<Verdict> {
        let signer = TokenSigner::new(&Key::generate().unwrap()).unwrap();
        let token = signer.sign(claims).unwrap();
        let mut secret =
            json!({"metadata": {"namespace": "ns", "name": "s", "uid": "2"}, "data": {"token": STANDARD.encode(&token)}});
        let mut account = json!({"metadata": {"namespace": "ns", "name": "sa", "uid": "1"}});
        change(&mut secret, &mut account);
        let objects = Fixed(vec![("secrets", secret), ("serviceaccounts", account)]);
        let tokens = ServiceAccountTokens {
            issuers: vec!["https://other".into()],
            keys: TokenVerifier::new(vec![signer.public_key().clone()]),
            api_audiences: vec!["api".into()],
        };
        authenticate(&tokens, &token, wanted, &objects, DAY.parse().unwrap())
    }

    fn check(change: impl Fn(&mut Value, &mut Value), expected: &str) {
        let got = verdict(&claims(), change, &[]).unwrap().result;
        assert_eq!(got.map_or_else(|why| why, |accepted| accepted.user.name), expected);
    }

    #[test]
    fn what_is_valid() {
        const USER: &str = "system:serviceaccount:ns:sa";
        const DELETED: &str = "2026-01-01T00:00:00Z";
        check(|_, _| {}, USER);
        check(|secret, _| secret["metadata"]["name"] = json!("other"), GONE);
        check(|secret, _| secret["metadata"]["deletionTimestamp"] = json!(DELETED), GONE);
        check(|secret, _| secret["data"]["token"] = json!("b3RoZXI="), "Token does not match server's copy");
        check(|secret, _| secret["data"] = Value::Null, "Token does not match server's copy");
        check(|_, account| account["metadata"]["name"] = json!("x"), "serviceaccounts \"sa\" not found");
        check(|_, account| account["metadata"]["uid"] = json!("9"), "ServiceAccount UID (9) does not match claim (1)");
        check(|_, account| account["metadata"]["deletionTimestamp"] = json!(DELETED), "ServiceAccount ns/sa has been deleted");
        let invalid = verdict(&claims(), |secret, _| secret["metadata"]["labels"] = json!({INVALID_SINCE: "2026-01-01"}), &[]);
        let invalid = invalid.unwrap();
        assert!(
            invalid
                .result
                .unwrap_err()
                .starts_with("the token in secret ns/s for service account ns/sa has been marked invalid.")
        );
        assert!(invalid.used.is_some(), "whoever wants to keep it sees that it is used");
    }

    #[test]
    fn what_a_token_must_say() {
        let check = |claim: &str, value: &str, expected: &str| {
            let mut claims = claims();
            claims[claim] = json!(value);
            let got = verdict(&claims, |_, _| {}, &[]).map(|verdict| verdict.result.err().unwrap_or_default());
            assert_eq!(got.as_deref().unwrap_or("not ours"), expected, "{claim}");
        };
        check("iss", "https://other", "not ours");
        check("sub", "", "sub claim is missing");
        check("sub", "system:serviceaccount:ns:other", "sub claim is invalid");
        check("kubernetes.io/serviceaccount/namespace", "", "namespace claim is missing");
        check("kubernetes.io/serviceaccount/secret.name", "", "secretName claim is missing");
        let elsewhere = verdict(&claims(), |_, _| {}, &["vault".to_owned()]).unwrap().result.unwrap_err();
        assert_eq!(elsewhere, "token audiences [\"api\"] is invalid for the target audiences [\"vault\"]");
    }

    #[test]
    fn what_is_noted() {
        let accepted = |change: fn(&mut Value, &mut Value)| verdict(&claims(), change, &[]).unwrap();
        let manual = accepted(|_, _| {});
        let used = Used { namespace: "ns".into(), name: "s".into(), uid: "2".into(), day: "2026-03-04".parse().unwrap() };
        assert_eq!(manual.used, Some(used));
        let notes = manual.result.unwrap().notes;
        assert_eq!(notes.annotations, [("authentication.k8s.io/legacy-token-manual-secret", "s".to_owned())]);
        assert_eq!(notes.warning, None);
        for (noted, again) in [("2026-03-03", true), ("2026-03-04", false), ("2026-03-05", false)] {
            let verdict = verdict(&claims(), |secret, _| secret["metadata"]["labels"] = json!({LAST_USED: noted}), &[]);
            assert_eq!(verdict.unwrap().used.is_some(), again, "{noted}");
        }
        let auto = accepted(|_, account| account["secrets"] = json!([{"name": "s"}])).result.unwrap().notes;
        assert_eq!(
            (auto.annotations[0].0, auto.warning),
            ("authentication.k8s.io/legacy-token-autogenerated-secret", Some(AUTO_WARNING))
        );
    }
}
