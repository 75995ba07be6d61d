//! Admission webhooks, with a webhook over TLS in the same process.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Api, CONFIG_MAPS, config_map, eventually};
use crate::tls::Hook;

impl Api {
    /// Registers one webhook and waits until it is asked.
    async fn register(&self, kind: &str, name: &str, hook: &Hook, change: Value) {
        let mut webhook = json!({"name": format!("{name}.example.com"), "clientConfig": hook.client_config(), "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]});
        for (field, value) in change.as_object().into_iter().flatten() {
            webhook[field] = value.clone();
        }
        let marker = format!("probe-{name}");
        let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["serviceaccounts"]});
        let mut probe = webhook.clone();
        probe["name"] = json!(format!("{marker}.example.com"));
        probe["rules"] = json!([rule]);
        probe["failurePolicy"] = json!("Fail");
        probe["clientConfig"] = json!({"url": "https://127.0.0.1:1/"});
        probe["objectSelector"] = json!({"matchLabels": {"probe": marker}});
        probe["namespaceSelector"] = json!({});
        probe.as_object_mut().unwrap().remove("matchConditions");
        let path = format!("/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations", kind.to_lowercase());
        self.ok("POST", &path, json!({"metadata": {"name": name}, "webhooks": [webhook, probe]})).await;
        let account = json!({"metadata": {"generateName": "probe-", "labels": {"probe": marker}}});
        eventually(|| async { self.answer("POST", "/api/v1/namespaces/ns/serviceaccounts", account.clone()).await.code >= 400 })
            .await;
    }
}

/// A webhook for admission: `decide` makes the response (without its uid) of the request; null is answered never.
async fn admission(decide: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Hook {
    Hook::start(move |review| {
        let mut response = decide(&review["request"]);
        if response.is_null() {
            return Value::Null;
        }
        if response.get("uid").is_none() {
            response["uid"] = review["request"]["uid"].clone();
        }
        json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response})
    })
    .await
}

fn patch(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}

#[tokio::test]
async fn a_webhook_refuses() {
    let api = Api::start().await;
    let hook = admission(|request| match request["object"]["data"]["bad"].is_null() {
        true => json!({"allowed": true, "warnings": ["be careful"]}),
        false => json!({"allowed": false, "status": {"code": 403, "message": "bad data", "reason": "Forbidden"}}),
    })
    .await;
    api.register("Validating", "deny", &hook, json!({})).await;
    let good = api.answer("POST", CONFIG_MAPS, config_map("good", json!({"a": "b"}))).await;
    assert_eq!((good.code, good.warnings()), (201, vec!["299 - \"be careful\"".to_owned()]));
    let bad = api.answer("POST", CONFIG_MAPS, config_map("bad", json!({"bad": "x"}))).await;
    assert_eq!(bad.code, 403);
    assert_eq!(bad.body["message"], "admission webhook \"deny.example.com\" denied the request: bad data");
    assert_eq!(api.answer("GET", &format!("{CONFIG_MAPS}/bad"), Value::Null).await.code, 404);
    let patched = api.answer("PATCH", &format!("{CONFIG_MAPS}/good"), json!({"data": {"bad": "x"}})).await;
    assert_eq!(patched.code, 403);
    let first = &hook.asked()[0];
    assert_eq!(
        (&first["operation"], &first["kind"]["kind"], &first["namespace"]),
        (&json!("CREATE"), &json!("ConfigMap"), &json!("ns"))
    );
    assert_eq!((&first["userInfo"]["username"], &first["dryRun"]), (&json!("system:apiserver"), &json!(false)));
    assert_eq!(first["oldObject"], Value::Null);
    let last = hook.asked().pop().unwrap();
    assert_eq!((&last["operation"], &last["options"]["kind"]), (&json!("UPDATE"), &json!("UpdateOptions")));
    assert_eq!(last["oldObject"]["data"], json!({"a": "b"}));
}

#[tokio::test]
async fn every_object_of_a_collection_is_asked_for() {
    let api = Api::start().await;
    for name in ["a", "b", "c"] {
        api.ok("POST", CONFIG_MAPS, config_map(name, json!({}))).await;
    }
    let hook = admission(|request| json!({"allowed": request["name"] != "b"})).await;
    let rules = json!([{"operations": ["DELETE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["configmaps"]}]);
    api.register("Validating", "keep", &hook, json!({"rules": rules})).await;
    let answer = api.answer("DELETE", CONFIG_MAPS, Value::Null).await;
    assert_eq!(answer.code, 400);
    assert_eq!(answer.body["message"], "admission webhook \"keep.example.com\" denied the request without explanation");
    assert!(hook.asked().iter().all(|request| request["oldObject"]["kind"] == "ConfigMap" && request["object"].is_null()));
    assert_eq!(api.answer("GET", &format!("{CONFIG_MAPS}/b"), Value::Null).await.code, 200);
}

#[tokio::test]
async fn failures() {
    let api = Api::start().await;
    let silent = admission(|_| Value::Null).await;
    let rules =
        |resource: &str| json!([{"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": [resource]}]);
    api.register("Validating", "slow", &silent, json!({"timeoutSeconds": 1})).await;
    let late = api.answer("POST", CONFIG_MAPS, config_map("late", json!({}))).await;
    assert_eq!(late.code, 500);
    let expected = format!(
        "Internal error occurred: failed calling webhook \"slow.example.com\": failed to call webhook: Post \"https://127.0.0.1:{}/hook?timeout=1s\": context deadline exceeded",
        silent.port
    );
    assert_eq!(late.body["message"], expected);
    // Nobody listens there.
    let refused = json!({"url": "https://127.0.0.1:1/x"});
    let closed = json!({"clientConfig": refused, "rules": rules("secrets")});
    api.register("Validating", "closed", &silent, closed).await;
    let answer = api.answer("POST", "/api/v1/namespaces/ns/secrets", json!({"metadata": {"name": "s"}})).await;
    let message = answer.body["message"].as_str().unwrap();
    assert!(
        message.ends_with("Post \"https://127.0.0.1:1/x?timeout=10s\": dial tcp 127.0.0.1:1: connect: connection refused"),
        "{message}"
    );
    let open = json!({"clientConfig": refused, "rules": rules("limitranges"), "failurePolicy": "Ignore"});
    api.register("Validating", "open", &silent, open).await;
    api.ok("POST", "/api/v1/namespaces/ns/limitranges", json!({"metadata": {"name": "l"}, "spec": {"limits": []}})).await;
    // Another authority than the one that signed.
    let other = admission(|_| json!({"allowed": true})).await;
    let stranger = json!({"url": format!("https://127.0.0.1:{}/", other.port), "caBundle": STANDARD.encode(&silent.ca)});
    api.register("Validating", "stranger", &silent, json!({"clientConfig": stranger, "rules": rules("podtemplates")})).await;
    let template = json!({"metadata": {"name": "t"}, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let answer = api.answer("POST", "/api/v1/namespaces/ns/podtemplates", template).await;
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.ends_with("tls: failed to verify certificate: x509: certificate signed by unknown authority"), "{message}");
}

#[tokio::test]
async fn an_answer_to_another_question_is_none() {
    let api = Api::start().await;
    let hook = admission(|_| json!({"allowed": true, "uid": "other"})).await;
    api.register("Validating", "wrong", &hook, json!({})).await;
    let answer = api.answer("POST", CONFIG_MAPS, config_map("a", json!({}))).await;
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.contains("received invalid webhook response: expected response.uid="), "{message}");
}

#[tokio::test]
async fn webhooks_change_objects_in_turn() {
    let api = Api::start().await;
    let first = admission(|request| match request["object"]["data"]["two"].is_null() {
        true => patch(json!([{"op": "add", "path": "/data/one", "value": "1"}, {"op": "add", "path": "/unknown", "value": 1}])),
        false => patch(json!([{"op": "add", "path": "/data/again", "value": "1"}])),
    })
    .await;
    let second = admission(|request| match request["object"]["data"]["one"].is_null() {
        true => json!({"allowed": false, "status": {"message": "out of order"}}),
        false => patch(json!([{"op": "add", "path": "/data/two", "value": "2"}])),
    })
    .await;
    api.register("Mutating", "a-first", &first, json!({"reinvocationPolicy": "IfNeeded"})).await;
    api.register("Mutating", "b-second", &second, json!({})).await;
    let created = api.ok("POST", CONFIG_MAPS, config_map("a", json!({"zero": "0"}))).await;
    assert_eq!(created["data"], json!({"zero": "0", "one": "1", "two": "2", "again": "1"}));
    assert!(created.get("unknown").is_none(), "{created}");
    assert_eq!((first.asked().len(), second.asked().len()), (2, 1));
    // A dry run is asked for, and said to be one.
    let path = format!("{CONFIG_MAPS}?dryRun=All");
    let dry = api.ok("POST", &path, config_map("dry", json!({"zero": "0"}))).await;
    assert_eq!(dry["data"]["two"], "2");
    assert_eq!((&second.asked()[1]["dryRun"], &second.asked()[1]["options"]["dryRun"]), (&json!(true), &json!(["All"])));
}

#[tokio::test]
async fn what_a_patch_may_not_do() {
    let api = Api::start().await;
    let hook = admission(|request| match request["name"].as_str().unwrap_or_default() {
        "kind" => patch(json!([{"op": "replace", "path": "/kind", "value": "Secret"}])),
        "type" => patch(json!([{"op": "add", "path": "/data", "value": 5}])),
        "path" => patch(json!([{"op": "remove", "path": "/nothing/here"}])),
        _ => json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode("no list")}),
    })
    .await;
    api.register("Mutating", "odd", &hook, json!({})).await;
    for (name, expected) in [("kind", "the object became a v1, Kind=Secret"), ("type", "data"), ("path", "/nothing/here")] {
        let answer = api.answer("POST", CONFIG_MAPS, config_map(name, json!({}))).await;
        let message = answer.body["message"].as_str().unwrap();
        assert!(answer.code == 500 && message.contains(expected), "{name}: {message}");
    }
    let answer = api.answer("POST", CONFIG_MAPS, config_map("text", json!({}))).await;
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.contains("failed calling webhook \"odd.example.com\": received undecodable patch"), "{message}");
}

#[tokio::test]
async fn another_version_of_the_same_object_matches() {
    let api = Api::start().await;
    let hook = admission(|request| match request["object"]["apiVersion"].as_str() {
        Some("autoscaling/v2") => patch(json!([{"op": "replace", "path": "/spec/minReplicas", "value": 2}])),
        _ => json!({"allowed": false}),
    })
    .await;
    let rules = json!([{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"], "resources": ["horizontalpodautoscalers"]}]);
    api.register("Mutating", "scaled", &hook, json!({"rules": rules})).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let scaler = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 5, "minReplicas": 1, "scaleTargetRef": target}});
    let created = api.ok("POST", "/apis/autoscaling/v1/namespaces/ns/horizontalpodautoscalers", scaler).await;
    assert_eq!((&created["apiVersion"], &created["spec"]["minReplicas"]), (&json!("autoscaling/v1"), &json!(2)));
    let asked = &hook.asked()[0];
    assert_eq!((&asked["resource"]["version"], &asked["requestResource"]["version"]), (&json!("v2"), &json!("v1")));
}

#[tokio::test]
async fn selectors_streams_and_services() {
    let api = Api::start().await;
    api.ok("POST", "/api/v1/namespaces", json!({"metadata": {"name": "free"}})).await;
    let hook = admission(|_| json!({"allowed": false, "status": {"message": "no"}})).await;
    // By a Service, whose name the certificate must have.
    let service = json!({"metadata": {"name": "hook"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    api.ok("POST", "/api/v1/namespaces/ns/services", service).await;
    let config = json!({"service": {"name": "hook", "namespace": "ns", "port": hook.port, "path": "/x"}, "caBundle": STANDARD.encode(&hook.ca)});
    let selectors = json!({"clientConfig": config, "namespaceSelector": {"matchLabels": {"env": "prod"}}});
    api.register("Validating", "here", &hook, selectors).await;
    api.ok("POST", "/api/v1/namespaces/free/configmaps", config_map("a", json!({}))).await;
    let refused = api.answer("POST", CONFIG_MAPS, config_map("a", json!({}))).await;
    assert_eq!(refused.body["message"], "admission webhook \"here.example.com\" denied the request: no");
    let connect = json!([{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/attach"]}]);
    api.register("Validating", "streams", &hook, json!({"rules": connect})).await;
    let refused = api.answer("POST", "/api/v1/namespaces/ns/pods/p/attach?stdin=true", Value::Null).await;
    assert_eq!(refused.body["message"], "admission webhook \"streams.example.com\" denied the request: no");
    let asked = hook.asked().pop().unwrap();
    assert_eq!((&asked["object"]["kind"], &asked["object"]["stdin"]), (&json!("PodAttachOptions"), &json!(true)));
}

/// A webhook may write Services itself before it answers.
#[tokio::test]
async fn a_service_that_waits_for_a_webhook_holds_no_other_up() {
    const SERVICES: &str = "/api/v1/namespaces/ns/services";
    let api = Api::start().await;
    let hook = admission(|request| if request["name"] == "slow" { Value::Null } else { json!({"allowed": true}) }).await;
    let rules = json!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["services"]}]);
    api.register("Validating", "services", &hook, json!({"rules": rules, "timeoutSeconds": 30})).await;
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let slow = api.call("POST", SERVICES, service("slow"));
    let quick = async {
        eventually(|| async { hook.asked().iter().any(|request| request["name"] == "slow") }).await;
        api.ok("POST", SERVICES, service("quick")).await;
        api.ok("PATCH", &format!("{SERVICES}/quick"), json!({"spec": {"type": "ClusterIP"}})).await;
        api.ok("DELETE", &format!("{SERVICES}/quick"), Value::Null).await;
    };
    tokio::select! {
        (code, body) = slow => panic!("it waits: {code} {body}"),
        () = quick => {}
    }
}

#[tokio::test]
async fn a_refused_service_gives_no_others_numbers_back() {
    const SERVICES: &str = "/api/v1/namespaces/ns/services";
    const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
    let api = Api::start().await;
    let service = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    let first = api.ok("POST", SERVICES, service(json!({"ports": [{"port": 80}]}))).await;
    let address = first["spec"]["clusterIP"].as_str().unwrap();
    let (code, again) = api.call("POST", SERVICES, service(json!({"ports": [{"port": 80}], "clusterIP": address}))).await;
    assert_eq!(code, 409, "{again}");
    api.ok("GET", &format!("{ADDRESSES}/{address}"), Value::Null).await;
}

#[tokio::test]
async fn configurations_are_nobodys_business() {
    let api = Api::start().await;
    let hook = admission(|_| json!({"allowed": false})).await;
    let rules = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]);
    api.register("Validating", "everything", &hook, json!({"rules": rules})).await;
    assert_eq!(api.answer("POST", CONFIG_MAPS, config_map("a", json!({}))).await.code, 400);
    api.ok("DELETE", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/everything", Value::Null).await;
    eventually(|| async { api.answer("POST", CONFIG_MAPS, config_map("a", json!({}))).await.code == 201 }).await;
}
