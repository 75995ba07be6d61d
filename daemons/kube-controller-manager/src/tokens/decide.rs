//! What a service account token's Secret lacks, or why it goes.

use api::ByteString;
use api::core::{Secret, ServiceAccount};
use api::metav1::ObjectMeta;
use serde_json::{Value, json};

pub(super) const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
pub(super) const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const CA: &str = "ca.crt";
const NAMESPACE: &str = "namespace";
const TOKEN: &str = "token";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub ca: bool,
    pub namespace: bool,
    pub token: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Nothing,
    /// Its account is gone.
    Delete,
    Fill(Missing),
}

fn annotation<'m>(meta: &'m ObjectMeta, name: &str) -> &'m str {
    meta.annotations.as_ref().and_then(|all| all.get(name)).map_or("", String::as_str)
}

/// The account that a Secret names, by name and, if it says so, by uid.
pub(super) fn account_of(secret: &Secret) -> (&str, &str) {
    (annotation(&secret.metadata, ACCOUNT_NAME), annotation(&secret.metadata, ACCOUNT_UID))
}

/// Whether that is the account which the Secret means, and not its namesake that came after.
pub(super) fn is_meant(secret: &Secret, account: &ServiceAccount) -> bool {
    let (name, uid) = account_of(secret);
    let is = |field: &Option<String>, value: &str| field.as_deref() == Some(value);
    is(&account.metadata.name, name) && (uid.is_empty() || is(&account.metadata.uid, uid))
}

/// `account` is the one that the Secret means, if it is there.
pub(super) fn decide(secret: &Secret, account: Option<&ServiceAccount>, root_ca: Option<&str>) -> Plan {
    if account_of(secret).0.is_empty() || secret.metadata.deletion_timestamp.is_some() {
        return Plan::Nothing;
    }
    if account.is_none() {
        return Plan::Delete;
    }
    let value =
        |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice()).unwrap_or_default();
    let missing = Missing {
        ca: root_ca.is_some_and(|ca| !ca.is_empty() && value(CA) != ca.as_bytes()),
        namespace: value(NAMESPACE).is_empty(),
        token: value(TOKEN).is_empty(),
    };
    if missing == Missing::default() { Plan::Nothing } else { Plan::Fill(missing) }
}

/// The Secret with what it lacked; `token` is there when that was missing.
pub(super) fn filled(
    secret: &Secret,
    account: &ServiceAccount,
    missing: Missing,
    root_ca: Option<&str>,
    token: Option<String>,
) -> Secret {
    let mut filled = secret.clone();
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let data = filled.data.get_or_insert_default();
    if missing.ca {
        data.extend(root_ca.map(|ca| (CA.to_owned(), ByteString(ca.as_bytes().to_vec()))));
    }
    if missing.namespace {
        data.insert(NAMESPACE.to_owned(), ByteString(text(&secret.metadata.namespace).into_bytes()));
    }
    data.extend(token.map(|token| (TOKEN.to_owned(), ByteString(token.into_bytes()))));
    let annotations = filled.metadata.annotations.get_or_insert_default();
    annotations.insert(ACCOUNT_NAME.to_owned(), text(&account.metadata.name));
    annotations.insert(ACCOUNT_UID.to_owned(), text(&account.metadata.uid));
    filled
}

/// The claims of a token that is valid for as long as its Secret has it.
pub(super) fn claims(secret: &Secret, account: &ServiceAccount) -> Value {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (namespace, name) = (text(&account.metadata.namespace), text(&account.metadata.name));
    json!({
        "iss": "kubernetes/serviceaccount",
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": text(&secret.metadata.name),
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": text(&account.metadata.uid),
    })
}

/// The account without a Secret that is gone, or none when it does not list it.
pub(super) fn without(account: &ServiceAccount, secret: &str) -> Option<ServiceAccount> {
    let is_it = |reference: &api::core::ObjectReference| reference.name.as_deref() == Some(secret);
    account.secrets.as_ref().filter(|all| all.iter().any(is_it))?;
    let mut without = account.clone();
    without.secrets.get_or_insert_default().retain(|reference| !is_it(reference));
    Some(without)
}

#[cfg(test)]
mod tests {
    use api::Kind;

    use super::*;

    fn secret(data: Value) -> Secret {
        Secret::decode_value(json!({"metadata": {"namespace": "ns", "name": "s", "annotations": {ACCOUNT_NAME: "sa"}},
            "type": "kubernetes.io/service-account-token", "data": data}))
        .unwrap()
    }

    fn account() -> ServiceAccount {
        ServiceAccount::decode_value(
            json!({"metadata": {"namespace": "ns", "name": "sa", "uid": "1"}, "secrets": [{"name": "s"}, {"name": "t"}]}),
        )
        .unwrap()
    }

    #[test]
    fn what_is_missing() {
        let check = |data: Value, ca: Option<&str>, expected: Plan| {
            assert_eq!(decide(&secret(data.clone()), Some(&account()), ca), expected, "{data}");
        };
        let fill = |ca, namespace, token| Plan::Fill(Missing { ca, namespace, token });
        check(json!({}), Some("CA"), fill(true, true, true));
        check(json!({}), None, fill(false, true, true));
        // CA, ns, t
        check(json!({"ca.crt": "Q0E=", "namespace": "bnM=", "token": "dA=="}), Some("CA"), Plan::Nothing);
        check(json!({"ca.crt": "Q0E=", "namespace": "bnM=", "token": "dA=="}), Some("CB"), fill(true, false, false));
        check(json!({"ca.crt": "Q0E=", "namespace": "bnM=", "token": ""}), Some("CA"), fill(false, false, true));
        assert_eq!(decide(&secret(json!({})), None, None), Plan::Delete);
        let mut nobodys = secret(json!({}));
        nobodys.metadata.annotations = None;
        assert_eq!(decide(&nobodys, None, None), Plan::Nothing);
    }

    #[test]
    fn the_account_that_is_meant() {
        let mut secret = secret(json!({}));
        assert!(is_meant(&secret, &account()));
        for (uid, expected) in [("1", true), ("2", false)] {
            secret.metadata.annotations.get_or_insert_default().insert(ACCOUNT_UID.into(), uid.into());
            assert_eq!(is_meant(&secret, &account()), expected, "{uid}");
        }
    }

    #[test]
    fn a_filled_secret() {
        let missing = Missing { ca: true, namespace: true, token: true };
        let filled = filled(&secret(json!({"x": "eA=="})), &account(), missing, Some("CA"), Some("t".into()));
        let data: Vec<_> = filled.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
        let expected: [(&str, &[u8]); 4] = [("ca.crt", b"CA"), ("namespace", b"ns"), ("token", b"t"), ("x", b"x")];
        assert_eq!(data, expected);
        assert_eq!(account_of(&filled), ("sa", "1"));
        assert_eq!(decide(&filled, Some(&account()), Some("CA")), Plan::Nothing);
        assert_eq!(claims(&filled, &account())["sub"], "system:serviceaccount:ns:sa");
    }

    #[test]
    fn a_reference_to_what_is_gone() {
        let names =
            |account: ServiceAccount| account.secrets.unwrap_or_default().into_iter().filter_map(|r| r.name).collect::<Vec<_>>();
        assert_eq!(without(&account(), "s").map(names), Some(vec!["t".to_owned()]));
        assert_eq!(without(&account(), "u"), None);
    }
}
