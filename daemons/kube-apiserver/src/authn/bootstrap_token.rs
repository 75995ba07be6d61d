//! Bootstrap tokens: `id.secret`, kept in a Secret of kube-system, with which a new node asks for its certificate.

use base64::Engine;
use jiff::Timestamp;
use serde_json::Value;

use super::user::User;
use crate::lookup::Lookup;

const GROUP: &str = "system:bootstrappers";

/// The user of a bootstrap token; none when it is not one, not known, or not usable.
pub fn authenticate(token: &str, lookup: &dyn Lookup, now: Timestamp) -> Option<User> {
    let (id, secret) = parse(token)?;
    let object = lookup.object("", "secrets", "kube-system", &format!("bootstrap-token-{id}"))?;
    let data = |key: &str| data(&object, key);
    let usable = object["type"] == "bootstrap.kubernetes.io/token"
        && object["metadata"]["deletionTimestamp"].is_null()
        && same(data("token-secret").as_bytes(), secret.as_bytes())
        && data("token-id") == id
        && data("usage-bootstrap-authentication") == "true"
        && !expired(&data("expiration"), now);
    if !usable {
        return None;
    }
    let extra = data("auth-extra-groups");
    let mut groups = vec![GROUP.to_owned()];
    for group in extra.split(',').filter(|group| !group.is_empty()) {
        // Only groups of its own kind may be given: a Secret must not make an administrator.
        if !group.starts_with("system:bootstrappers:") {
            return None;
        }
        groups.push(group.to_owned());
    }
    groups.sort();
    groups.dedup();
    Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}

fn parse(token: &str) -> Option<(&str, &str)> {
    let valid = |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    token.split_once('.').filter(|(id, secret)| valid(id, 6) && valid(secret, 16))
}

fn data(secret: &Value, key: &str) -> String {
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
    secret["data"][key].as_str().and_then(decode).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

fn expired(expiration: &str, now: Timestamp) -> bool {
    !expiration.is_empty() && expiration.parse::<Timestamp>().map_or(true, |end| end <= now)
}

/// Compares in time that does not depend on where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lookup::Fixed;

    #[test]
    fn tokens() {
        let b64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let good = json!({"type": "bootstrap.kubernetes.io/token", "metadata": {"namespace": "kube-system", "name": "bootstrap-token-abcdef"},
            "data": {"token-id": b64("abcdef"), "token-secret": b64("0123456789abcdef"),
                "usage-bootstrap-authentication": b64("true"), "expiration": b64("2026-01-01T00:00:00Z"),
                "auth-extra-groups": b64("system:bootstrappers:kubeadm:default-node-token")}});
        let check = |token: &str, change: &dyn Fn(&mut Value), at: &str, accepted: bool| {
            let mut secret = good.clone();
            change(&mut secret);
            let user = authenticate(token, &Fixed(vec![("secrets", secret)]), at.parse().unwrap());
            assert_eq!(user.is_some(), accepted, "{token} at {at}");
        };
        const T: &str = "abcdef.0123456789abcdef";
        const BEFORE: &str = "2025-01-01T00:00:00Z";
        check(T, &|_| {}, BEFORE, true);
        check(T, &|_| {}, "2026-01-01T00:00:00Z", false);
        check("abcdef.0123456789abcdeX", &|_| {}, BEFORE, false);
        check("abcdef.0123456789abcde0", &|_| {}, BEFORE, false);
        check(T, &|s| s["type"] = json!("Opaque"), BEFORE, false);
        check(T, &|s| s["data"]["usage-bootstrap-authentication"] = json!(b64("false")), BEFORE, false);
        check(T, &|s| s["data"]["auth-extra-groups"] = json!(b64("system:masters")), BEFORE, false);
    }
}
