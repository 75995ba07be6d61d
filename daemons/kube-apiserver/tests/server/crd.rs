//! Custom resources.

use http_body_util::BodyExt;
use kube_apiserver::authn::user::User;
use serde_json::{Value, json};

use crate::harness::{Api, eventually};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const FOOS: &str = "/apis/example.com/v1/namespaces/ns/foos";

impl Api {
    async fn merge(&self, path: &str, body: Value) -> Value {
        self.ok("PATCH", path, body).await
    }

    async fn define(&self, definition: Value) -> Value {
        let created = self.ok("POST", DEFINITIONS, definition).await;
        let name = created["metadata"]["name"].as_str().unwrap();
        self.until(&format!("{DEFINITIONS}/{name}"), |_, d| condition(d, "Established") == "True").await;
        self.until("/apis/example.com/v1", |code, _| code == 200).await;
        created
    }
}

fn condition<'d>(definition: &'d Value, kind: &str) -> &'d str {
    let conditions = definition["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().find(|c| c["type"] == kind).and_then(|c| c["status"].as_str()).unwrap_or_default()
}

fn definition() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "pattern": "^[a-z]+$"},
            "replicas": {"type": "integer", "minimum": 0, "default": 1},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "phase": {"type": "string", "enum": ["A", "B"]}}},
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "foos.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo", "shortNames": ["fo"], "categories": ["all"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                    "selectableFields": [{"jsonPath": ".spec.name"}],
                    "additionalPrinterColumns": [{"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"}]},
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
            ],
        },
    })
}

fn foo(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_schema_is_obeyed() {
    let api = Api::start().await;
    api.define(definition()).await;
    let (code, status) =
        api.call("POST", FOOS, foo("bad", json!({"name": "A", "replicas": -1, "tags": ["x", "x"], "template": {}}))).await;
    assert_eq!(code, 422);
    let message = status["message"].as_str().unwrap();
    for part in [
        "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'",
        "spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0",
        "spec.tags[1]: Duplicate value: \"x\"",
        "spec.template.apiVersion: Required value",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let created = api.ok("POST", FOOS, foo("a", json!({"name": "x", "unknown": 1}))).await;
    assert_eq!(created["spec"], json!({"name": "x", "replicas": 1}));
    let strict = format!("{FOOS}?fieldValidation=Strict");
    let template = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "bogus": 1}});
    let (code, status) = api.call("POST", &strict, foo("b", json!({"name": "x", "unknown": 1, "template": template}))).await;
    assert_eq!(code, 400);
    let message = status["message"].as_str().unwrap();
    assert!(message.contains(r#"unknown field "spec.template.metadata.bogus", unknown field "spec.unknown""#), "{message}");
}

#[tokio::test]
async fn a_change_of_the_schema_counts_at_once() {
    let api = Api::start().await;
    api.define(definition()).await;
    api.ok("POST", FOOS, foo("a", json!({"name": "x", "replicas": 5}))).await;
    let mut stricter = definition();
    stricter["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["replicas"] =
        json!({"type": "integer", "maximum": 3, "default": 2});
    stricter["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["color"] =
        json!({"type": "string", "default": "red"});
    api.merge(&format!("{DEFINITIONS}/foos.example.com"), json!({"spec": stricter["spec"]})).await;
    // Stored objects have today's defaults.
    let read = api.until(&format!("{FOOS}/a"), |_, foo| foo["spec"]["color"] == "red").await;
    assert_eq!(read["spec"]["replicas"], 5);
    let list = api.ok("GET", FOOS, Value::Null).await;
    assert_eq!((&list["items"][0]["spec"]["color"], &list["items"][0]["kind"]), (&json!("red"), &json!("Foo")));
    // What was there may stay; what is new obeys.
    api.merge(&format!("{FOOS}/a"), json!({"spec": {"name": "y"}})).await;
    let (code, _) = api.call("PATCH", &format!("{FOOS}/a"), json!({"spec": {"replicas": 4}})).await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn status_scale_and_generation() {
    let api = Api::start().await;
    api.define(definition()).await;
    let with_status = json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": {"name": "x"},
        "status": {"replicas": 9}});
    let created = api.ok("POST", FOOS, with_status).await;
    assert!(created.get("status").is_none());
    let path = format!("{FOOS}/a");
    let status = api
        .merge(
            &format!("{path}/status"),
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"name": "no"}, "status": {"phase": "A"}}),
        )
        .await;
    assert_eq!((&status["spec"]["name"], &status["status"]["phase"]), (&json!("x"), &json!("A")));
    assert!(status["metadata"].get("labels").is_none());
    assert_eq!(status["metadata"]["generation"], 1);
    let (code, refused) = api.call("PATCH", &format!("{path}/status"), json!({"status": {"phase": "C"}})).await;
    assert_eq!(code, 422);
    assert!(
        refused["message"].as_str().unwrap().contains("status.phase: Unsupported value: \"C\": supported values: \"A\", \"B\""),
        "{refused}"
    );
    api.merge(&format!("{path}/scale"), json!({"spec": {"replicas": 3}})).await;
    let foo = api.ok("GET", &path, Value::Null).await;
    assert_eq!((&foo["spec"]["replicas"], &foo["metadata"]["generation"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn selectors_tables_and_versions() {
    let api = Api::start().await;
    api.define(definition()).await;
    for name in ["a", "b"] {
        api.ok("POST", FOOS, foo(name, json!({"name": name}))).await;
    }
    let list = api.ok("GET", &format!("{FOOS}?fieldSelector=spec.name%3Db"), Value::Null).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(list["items"][0]["metadata"]["name"], "b");
    let (code, _) = api.call("GET", &format!("{FOOS}?fieldSelector=spec.replicas%3D1"), Value::Null).await;
    assert_eq!(code, 400);
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let response = api.raw(&User::server(), "GET", FOOS, &accept, "").await;
    let table: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(table["columnDefinitions"][1]["name"], "Replicas");
    assert_eq!(table["rows"][0]["cells"], json!(["a", 1]));
    let beta = api.raw(&User::server(), "GET", "/apis/example.com/v1beta1/namespaces/ns/foos/a", &[], "").await;
    let warning = beta.headers()["warning"].to_str().unwrap().to_owned();
    assert_eq!(warning, "299 - \"example.com/v1beta1 Foo is deprecated\"");
    let beta: Value = serde_json::from_slice(&beta.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!((&beta["apiVersion"], &beta["spec"]["name"]), (&json!("example.com/v1beta1"), &json!("a")));
    let resources = api.ok("GET", "/apis/example.com/v1", Value::Null).await;
    assert_eq!(
        (&resources["resources"][0]["shortNames"], &resources["resources"][0]["categories"]),
        (&json!(["fo"]), &json!(["all"]))
    );
}

#[tokio::test]
async fn names_are_given_once() {
    let api = Api::start().await;
    api.define(definition()).await;
    let mut other = definition();
    other["metadata"]["name"] = json!("bars.example.com");
    other["spec"]["names"] = json!({"plural": "bars", "kind": "Foo", "shortNames": ["fo"]});
    let created = api.ok("POST", DEFINITIONS, other).await;
    assert_eq!(condition(&created, "NamesAccepted"), "False");
    let path = format!("{DEFINITIONS}/bars.example.com");
    // The first goes, and its names are free.
    api.ok("DELETE", &format!("{DEFINITIONS}/foos.example.com"), Value::Null).await;
    let settled = api.until(&path, |_, definition| condition(definition, "NamesAccepted") == "True").await;
    assert_eq!(condition(&settled, "Established"), "True");
    api.until("/apis/example.com/v1/namespaces/ns/bars", |code, _| code == 200).await;
}

#[tokio::test]
async fn objects_go_before_their_definition() {
    let api = Api::start().await;
    api.define(definition()).await;
    let mut held = foo("held", json!({"name": "x"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    api.ok("POST", FOOS, held).await;
    api.ok("POST", FOOS, foo("free", json!({"name": "x"}))).await;
    let path = format!("{DEFINITIONS}/foos.example.com");
    let deleted = api.ok("DELETE", &path, Value::Null).await;
    assert_eq!(deleted["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    assert_eq!(condition(&deleted, "Terminating"), "True");
    api.until(&format!("{FOOS}/free"), |code, _| code == 404).await;
    let held = api.until(&format!("{FOOS}/held"), |_, foo| foo["metadata"]["deletionTimestamp"].is_string()).await;
    assert_eq!(held["spec"]["name"], "x");
    let (code, status) = api.call("POST", FOOS, foo("new", json!({"name": "x"}))).await;
    assert_eq!(code, 403);
    assert!(status["message"].as_str().unwrap().ends_with("create not allowed while custom resource definition is terminating"));
    api.merge(&format!("{FOOS}/held"), json!({"metadata": {"finalizers": null}})).await;
    api.until(&path, |code, _| code == 404).await;
    api.until(FOOS, |code, _| code == 404).await;
}

#[tokio::test]
async fn definitions_are_checked() {
    let api = Api::start().await;
    let mut bad = definition();
    bad["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["name"] = json!({"pattern": "("});
    let (code, status) = api.call("POST", DEFINITIONS, bad).await;
    assert_eq!(code, 422);
    let message = status["message"].as_str().unwrap();
    let path = "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[name]";
    assert!(
        message.contains(&format!("{path}.type: Required value: must not be empty for specified object fields")),
        "{message}"
    );
    assert!(message.contains(&format!("{path}.pattern: Invalid value: \"(\": must be a valid regular expression")), "{message}");
}

#[tokio::test]
async fn conditions_of_definitions() {
    let api = Api::start().await;
    let mut approved = definition();
    approved["metadata"] =
        json!({"name": "foos.example.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}});
    approved["spec"]["group"] = json!("example.k8s.io");
    api.ok("POST", DEFINITIONS, approved).await;
    let path = format!("{DEFINITIONS}/foos.example.k8s.io");
    const CONFORMANT: &str = "KubernetesAPIApprovalPolicyConformant";
    api.until(&path, |_, definition| condition(definition, CONFORMANT) == "False").await;
    api.merge(&path, json!({"metadata": {"annotations": {"api-approved.kubernetes.io": "https://example.com/1"}}})).await;
    api.until(&path, |_, definition| condition(definition, CONFORMANT) == "True").await;
    // Whom nobody can believe is not established until that is mended; then it stays mended.
    let mut unbelievable = definition();
    let webhook = |bundle: &str| {
        json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://example.com/", "caBundle": bundle}}})
    };
    unbelievable["spec"]["conversion"] = webhook("bm8gUEVN");
    api.ok("POST", DEFINITIONS, unbelievable).await;
    let path = format!("{DEFINITIONS}/foos.example.com");
    api.until(&path, |_, definition| condition(definition, "Established") == "False").await;
    api.merge(&path, json!({"spec": {"conversion": webhook("")}})).await;
    api.until(&path, |_, definition| condition(definition, "Established") == "True").await;
    let (code, status) = api.call("PATCH", &path, json!({"spec": {"conversion": webhook("bm8gUEVN")}})).await;
    let message = status["message"].as_str().unwrap();
    assert!(code == 422 && message.contains("spec.conversion.webhookClientConfig.caBundle: Invalid value: "), "{message}");
}

#[tokio::test]
async fn what_was_wrong_before_is_told() {
    let api = Api::start().await;
    api.define(definition()).await;
    api.ok("POST", FOOS, foo("a", json!({"name": "x", "replicas": 5}))).await;
    let rules = json!([{"rule": "self.replicas < 3", "message": "too many"}]);
    let mut stricter = definition();
    stricter["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] = rules;
    api.merge(&format!("{DEFINITIONS}/foos.example.com"), json!({"spec": stricter["spec"]})).await;
    api.until(&format!("{FOOS}/a"), |code, _| code == 200).await;
    eventually(|| async {
        api.call("POST", &format!("{FOOS}?dryRun=All"), foo("b", json!({"name": "y", "replicas": 4}))).await.0 == 422
    })
    .await;
    let written = api.answer("PATCH", &format!("{FOOS}/a"), json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!((written.code, written.warnings()), (200, vec!["299 - \"spec: Invalid value: too many\"".to_owned()]));
    let (code, _) = api.call("PATCH", &format!("{FOOS}/a"), json!({"spec": {"name": "z"}})).await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn documents_show_custom_resources() {
    let api = Api::start().await;
    api.define(definition()).await;
    let v2 = api.ok("GET", "/openapi/v2", Value::Null).await;
    let foo = &v2["definitions"]["com.example.v1.Foo"];
    assert_eq!(foo["x-kubernetes-group-version-kind"], json!([{"group": "example.com", "version": "v1", "kind": "Foo"}]));
    assert_eq!(foo["properties"]["spec"]["properties"]["replicas"], json!({"type": "integer", "minimum": 0}));
    assert_eq!(foo["properties"]["metadata"]["$ref"], "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    assert_eq!(v2["definitions"]["com.example.v1beta1.Foo"]["type"], "object");
    let path = "/apis/example.com/v1/namespaces/{namespace}/foos/{name}/status";
    assert_eq!(v2["paths"][path]["get"]["operationId"], "readExampleComV1NamespacedFooStatus");
    let index = api.ok("GET", "/openapi/v3", Value::Null).await;
    let url = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap();
    let v3 = api.ok("GET", url, Value::Null).await;
    let foo = &v3["components"]["schemas"]["com.example.v1.Foo"];
    assert_eq!(foo["properties"]["spec"]["properties"]["replicas"]["default"], 1);
    assert!(v3["paths"]["/apis/example.com/v1/foos"]["get"].is_object());
    // Who has the document hears so, until it changes.
    let first = api.raw(&User::server(), "GET", "/openapi/v2", &[], "").await;
    let etag = first.headers()["etag"].to_str().unwrap().to_owned();
    let same = api.raw(&User::server(), "GET", "/openapi/v2", &[("if-none-match", &etag)], "").await;
    assert_eq!(same.status().as_u16(), 304);
    api.ok("DELETE", &format!("{DEFINITIONS}/foos.example.com"), Value::Null).await;
    api.until("/openapi/v2", |_, v2| v2["definitions"].get("com.example.v1.Foo").is_none()).await;
    api.until("/openapi/v3", |_, index| index["paths"].get("apis/example.com/v1").is_none()).await;
}
