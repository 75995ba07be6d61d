//! Admission policies, as their users see them.

use std::future::Future;

use serde_json::{Value, json};

use crate::harness::{Api, CONFIG_MAPS, config_map, eventually};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/ns/deployments";

impl Api {
    /// Makes a policy and a binding of it, and waits until `probe` shows that they are in effect.
    async fn bind<F: Future<Output = bool>>(&self, kind: &str, spec: Value, binding: Value, probe: impl Fn() -> F) {
        let plural = format!("{POLICIES}/{}admissionpolicies", kind.to_lowercase());
        self.ok("POST", &plural, json!({"metadata": {"name": "policy"}, "spec": spec})).await;
        let mut binding = binding;
        binding["policyName"] = json!("policy");
        let plural = format!("{POLICIES}/{}admissionpolicybindings", kind.to_lowercase());
        self.ok("POST", &plural, json!({"metadata": {"name": "binding"}, "spec": binding})).await;
        eventually(probe).await;
    }

    /// Whether creating this is refused.
    async fn refuses(&self, path: &str, object: Value) -> bool {
        self.answer("POST", &format!("{path}?dryRun=All"), object).await.code >= 400
    }
}

fn matching(group: &str, resource: &str) -> Value {
    json!({"resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]}]})
}

fn deployment(name: &str, replicas: u32) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template":
        {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn a_policy_denies() {
    let api = Api::start().await;
    let spec = json!({"matchConstraints": matching("apps", "deployments"),
        "variables": [{"name": "replicas", "expression": "object.spec.replicas"}],
        "validations": [{"expression": "variables.replicas > 1", "messageExpression": "'wants more than ' + string(variables.replicas)", "reason": "Forbidden"},
            {"expression": "namespaceObject.metadata.labels['env'] == 'prod' && request.namespace == 'ns'"}]});
    let probe = || api.refuses(DEPLOYMENTS, deployment("probe", 1));
    api.bind("Validating", spec, json!({"validationActions": ["Deny"]}), probe).await;
    let refused = api.answer("POST", DEPLOYMENTS, deployment("d", 1)).await;
    assert_eq!((refused.code, refused.body["reason"].as_str()), (403, Some("Forbidden")));
    let expected = "deployments.apps \"d\" is forbidden: ValidatingAdmissionPolicy 'policy' with binding 'binding' denied request: wants more than 1";
    assert_eq!(refused.message(), expected);
    api.ok("POST", DEPLOYMENTS, deployment("d", 2)).await;
    let patched = api.answer("PATCH", &format!("{DEPLOYMENTS}/d"), json!({"spec": {"replicas": 0}})).await;
    assert!(patched.code == 403 && patched.message().ends_with("wants more than 0"), "{}", patched.body);
    api.ok("DELETE", &format!("{POLICIES}/validatingadmissionpolicybindings/binding"), Value::Null).await;
    eventually(|| async { !api.refuses(DEPLOYMENTS, deployment("probe", 1)).await }).await;
}

#[tokio::test]
async fn parameters_decide() {
    let api = Api::start().await;
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConstraints": matching("apps", "deployments"),
        "validations": [{"expression": "object.spec.replicas <= int(params.data.max)", "messageExpression": "'at most ' + params.data.max"}]});
    let binding = json!({"validationActions": ["Deny"], "paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}});
    api.bind("Validating", spec, binding, || api.refuses(DEPLOYMENTS, deployment("probe", 1))).await;
    let missing = api.answer("POST", DEPLOYMENTS, deployment("d", 1)).await;
    assert!(
        missing
            .message()
            .ends_with("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction")
    );
    api.ok("POST", CONFIG_MAPS, config_map("limits", json!({"max": "3"}))).await;
    api.ok("POST", DEPLOYMENTS, deployment("d", 3)).await;
    let refused = api.answer("POST", DEPLOYMENTS, deployment("e", 4)).await;
    assert!(refused.code == 422 && refused.message().ends_with("denied request: at most 3"), "{}", refused.body);
}

#[tokio::test]
async fn warnings_instead_of_denials() {
    let api = Api::start().await;
    let spec = json!({"matchConstraints": matching("", "configmaps"),
        "matchConditions": [{"name": "not-exempt", "expression": "!object.metadata.name.startsWith('exempt')"}],
        "validations": [{"expression": "has(object.data)", "message": "data, please"}]});
    let warned = |name: &'static str| {
        let api = &api;
        async move { api.answer("POST", &format!("{CONFIG_MAPS}?dryRun=All"), json!({"metadata": {"name": name}})).await.warnings() }
    };
    api.bind("Validating", spec, json!({"validationActions": ["Warn"]}), || async { !warned("a").await.is_empty() }).await;
    let expected = "299 - \"Validation failed for ValidatingAdmissionPolicy 'policy' with binding 'binding': data, please\"";
    assert_eq!(warned("a").await, [expected]);
    assert!(warned("exempt-a").await.is_empty());
}

#[tokio::test]
async fn expressions_are_checked_against_types() {
    let api = Api::start().await;
    let confused = json!([{"expression": "object.spec.replicas > '1'", "messageExpression": "'got ' + object.spec.replicas"}]);
    let policy = |validations: Value| json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": matching("apps", "deployments"), "validations": validations}});
    let path = format!("{POLICIES}/validatingadmissionpolicies");
    api.ok("POST", &path, policy(confused)).await;
    let one = format!("{path}/p");
    eventually(|| async { api.ok("GET", &one, Value::Null).await["status"]["observedGeneration"] == 1 }).await;
    let status = api.ok("GET", &one, Value::Null).await["status"].clone();
    let warnings = status["typeChecking"]["expressionWarnings"].as_array().expect("warnings");
    assert_eq!(warnings.len(), 2, "{status}");
    assert_eq!(warnings[1]["fieldRef"], "spec.validations[0].messageExpression");
    assert!(warnings[0]["warning"].as_str().unwrap().contains("found no matching overload for '_>_' applied to '(int, string)'"));
    api.ok("PATCH", &one, json!({"spec": {"validations": [{"expression": "object.spec.replicas > 1"}]}})).await;
    eventually(|| async { api.ok("GET", &one, Value::Null).await["status"]["observedGeneration"] == 2 }).await;
    assert_eq!(api.ok("GET", &one, Value::Null).await["status"]["typeChecking"], json!({}));
}

#[tokio::test]
async fn what_does_not_compile_is_refused() {
    let api = Api::start().await;
    let policy = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": matching("apps", "deployments"), "validations": [{"expression": "object."}]}});
    let refused = api.answer("POST", &format!("{POLICIES}/validatingadmissionpolicies"), policy).await;
    assert!(refused.code == 422 && refused.message().contains("compilation failed"), "{}", refused.body);
    let webhook = json!({"name": "a.b.c", "clientConfig": {"url": "https://h/"}, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "matchConditions": [{"name": "c", "expression": "... [}"}]});
    let configuration = json!({"metadata": {"name": "w"}, "webhooks": [webhook]});
    let refused = api.answer("POST", &format!("{POLICIES}/validatingwebhookconfigurations"), configuration).await;
    assert!(refused.code == 422 && refused.message().contains("compilation failed"), "{}", refused.body);
}

#[tokio::test]
async fn a_policy_changes_objects() {
    let api = Api::start().await;
    let mutations = json!([
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {'env': 'prod'}}, spec: Object.spec{paused: true}}"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/metadata/annotations', value: {'replicas': string(object.spec.replicas)}}]"}}]);
    let spec =
        json!({"matchConstraints": matching("apps", "deployments"), "reinvocationPolicy": "Never", "mutations": mutations});
    let probe = || async {
        let made = api.answer("POST", &format!("{DEPLOYMENTS}?dryRun=All"), deployment("probe", 1)).await;
        made.body["spec"]["paused"] == true
    };
    api.bind("Mutating", spec, json!({}), probe).await;
    let made = api.ok("POST", DEPLOYMENTS, deployment("d", 3)).await;
    assert_eq!((&made["metadata"]["labels"]["env"], &made["spec"]["paused"]), (&json!("prod"), &json!(true)));
    assert_eq!(made["metadata"]["annotations"]["replicas"], "3");
    assert_eq!(made["spec"]["template"]["spec"]["containers"][0]["name"], "c");
}

#[tokio::test]
async fn a_mutation_that_fails_refuses() {
    let api = Api::start().await;
    let mutation = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{data: Object.data{x: params.data.x}}"}});
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConstraints": matching("", "secrets"), "reinvocationPolicy": "IfNeeded", "mutations": [mutation]});
    let secrets = "/api/v1/namespaces/ns/secrets";
    api.ok("POST", CONFIG_MAPS, json!({"metadata": {"name": "p", "labels": {"p": "q"}}})).await;
    let binding = json!({"paramRef": {"selector": {"matchLabels": {"p": "q"}}, "parameterNotFoundAction": "Deny"}});
    let secret = || json!({"metadata": {"name": "s"}});
    api.bind("Mutating", spec, binding, || api.refuses(secrets, secret())).await;
    let refused = api.answer("POST", secrets, secret()).await;
    assert!(
        refused.message().starts_with("policy 'policy' with binding 'binding' denied request: expression '"),
        "{}",
        refused.body
    );
    api.ok("PATCH", &format!("{CONFIG_MAPS}/p"), json!({"data": {"x": "eQ=="}})).await;
    assert_eq!(api.ok("POST", secrets, secret()).await["data"]["x"], "eQ==");
}
