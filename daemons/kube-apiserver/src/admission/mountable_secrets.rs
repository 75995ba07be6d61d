//! Secrets that the pods of a service account may refer to, when its annotation says that there are no others (deprecated, and
//! still held): `kubernetes.io/enforce-mountable-secrets`.

use std::collections::BTreeSet;

use machinery::meta;
use machinery::pod::Role;
use machinery::pod::containers;
use serde_json::Value;

const ANNOTATION: &str = "kubernetes.io/enforce-mountable-secrets";

/// As Go reads it.
const YES: [&str; 6] = ["1", "t", "T", "TRUE", "true", "True"];

/// What of a pod is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A new one.
    Whole,
    /// One that gets ephemeral containers.
    Ephemeral,
}

/// # Errors
/// The first reference to what the account does not list, in upstream's words.
pub(super) fn check(pod: &Value, account: &Value, part: Part) -> Result<(), String> {
    let enforced = meta::annotation(account, ANNOTATION).is_some_and(|text| YES.contains(&text));
    if !enforced {
        return Ok(());
    }
    let listed = |field: &str| -> BTreeSet<&str> {
        account[field].as_array().into_iter().flatten().filter_map(|reference| reference["name"].as_str()).collect()
    };
    let (mountable, name) = (listed("secrets"), meta::name(account));
    let refused = |what: String, secret: &str| {
        Err(format!(
            "{what} referencing secret.secretName={secret:?} is not allowed because service account {name} does not reference that secret"
        ))
    };
    if part == Part::Whole {
        for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
            if let Some(secret) = volume["secret"]["secretName"].as_str().filter(|secret| !mountable.contains(secret)) {
                return Err(format!(
                    "volume with secret.secretName={secret:?} is not allowed because service account {name} does not reference that secret"
                ));
            }
        }
    }
    for (role, container) in
        containers::each(&pod["spec"]).filter(|(role, _)| (*role == Role::Ephemeral) == (part == Part::Ephemeral))
    {
        let what = match role {
            Role::Init => "init container",
            Role::Main => "container",
            Role::Ephemeral => "ephemeral container",
        };
        let what = format!("{what} {}", container["name"].as_str().unwrap_or_default());
        for variable in container["env"].as_array().into_iter().flatten() {
            let secret = variable["valueFrom"]["secretKeyRef"]["name"].as_str();
            if let Some(secret) = secret.filter(|secret| !mountable.contains(secret)) {
                return refused(format!("{what} with envVar {}", variable["name"].as_str().unwrap_or_default()), secret);
            }
        }
        for source in container["envFrom"].as_array().into_iter().flatten() {
            if let Some(secret) = source["secretRef"]["name"].as_str().filter(|secret| !mountable.contains(secret)) {
                return refused(format!("{what} with envFrom"), secret);
            }
        }
    }
    let pulls = listed("imagePullSecrets");
    let wanted = pod["spec"]["imagePullSecrets"].as_array().into_iter().flatten().enumerate();
    for (index, secret) in wanted.filter(|_| part == Part::Whole) {
        let secret = secret["name"].as_str().unwrap_or_default();
        if !pulls.contains(secret) {
            return Err(format!(
                "imagePullSecrets[{index}].name={secret:?} is not allowed because service account {name} does not reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn account(enforced: &str) -> Value {
        json!({"metadata": {"name": "sa", "annotations": {ANNOTATION: enforced}}, "secrets": [{"name": "mine"}],
            "imagePullSecrets": [{"name": "pull"}]})
    }

    #[test]
    fn what_is_not_listed_is_refused() {
        let check = |spec: Value, part: Part, expected: &str| {
            let pod = json!({"spec": spec});
            assert_eq!(check(&pod, &account("true"), part).err().unwrap_or_default(), expected);
            assert_eq!(super::check(&pod, &account("false"), part), Ok(()));
        };
        let env = |field: &str, secret: &str| json!({field: [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]}]});
        let env_from = |field: &str, secret: &str| json!({field: [{"name": "c", "envFrom": [{"secretRef": {"name": secret}}]}]});
        const NOT: &str =
            "referencing secret.secretName=\"other\" is not allowed because service account sa does not reference that secret";
        check(json!({"volumes": [{"secret": {"secretName": "mine"}}, {"emptyDir": {}}]}), Part::Whole, "");
        check(
            json!({"volumes": [{"secret": {"secretName": "other"}}]}),
            Part::Whole,
            "volume with secret.secretName=\"other\" is not allowed because service account sa does not reference that secret",
        );
        check(env("containers", "mine"), Part::Whole, "");
        check(env("containers", "other"), Part::Whole, &format!("container c with envVar E {NOT}"));
        check(env("initContainers", "other"), Part::Whole, &format!("init container c with envVar E {NOT}"));
        check(env_from("containers", "other"), Part::Whole, &format!("container c with envFrom {NOT}"));
        check(env_from("ephemeralContainers", "other"), Part::Ephemeral, &format!("ephemeral container c with envFrom {NOT}"));
        check(env_from("containers", "other"), Part::Ephemeral, "");
        check(
            json!({"imagePullSecrets": [{"name": "pull"}, {"name": "x"}]}),
            Part::Whole,
            "imagePullSecrets[1].name=\"x\" is not allowed because service account sa does not reference that imagePullSecret",
        );
    }
}
