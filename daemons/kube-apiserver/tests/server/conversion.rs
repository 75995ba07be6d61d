//! Custom resources in several versions, which a webhook converts.

use kube_apiserver::authn::user::User;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, Watch, eventually};
use crate::tls::Hook;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/example.com/v1/namespaces/ns/places";
const V2: &str = "/apis/example.com/v2/namespaces/ns/places";

/// v1 has `hostPort`, v2 has `host` and `port`. `defaulted` and `junk` show what schemas do.
fn definition(hook: &Hook, reviews: &[&str], storage: &str) -> Value {
    let text = json!({"type": "string"});
    let schema = |properties: Value| json!({"openAPIV3Schema": {"type": "object", "properties": properties}});
    let defaulted = |version: &str| json!({"type": "string", "default": format!("of {version}")});
    let status = json!({"type": "object", "properties": {"phase": text}});
    let versions = json!([
        {"name": "v1", "served": true, "storage": storage == "v1", "subresources": {"status": {}},
            "schema": schema(json!({"hostPort": text, "defaulted": defaulted("v1"), "status": status})),
            "selectableFields": [{"jsonPath": ".hostPort"}]},
        {"name": "v2", "served": true, "storage": storage == "v2", "subresources": {"status": {}},
            "schema": schema(json!({"host": text, "port": text, "defaulted": defaulted("v2"), "status": status})),
            "selectableFields": [{"jsonPath": ".host"}, {"jsonPath": ".port"}],
            "additionalPrinterColumns": [{"name": "Host", "type": "string", "jsonPath": ".host"}]},
    ]);
    json!({"metadata": {"name": "places.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "places", "kind": "Place"}, "versions": versions,
        "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": hook.client_config(), "conversionReviewVersions": reviews}}}})
}

fn converted(object: &Value, desired: &str) -> Value {
    let mut new = object.clone();
    let map = new.as_object_mut().unwrap();
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    map.insert("apiVersion".into(), json!(desired));
    map.insert("junk".into(), json!("of the webhook"));
    if desired == "example.com/v2" {
        map.remove("hostPort");
        let (host, port) = (text("hostPort"), text("hostPort"));
        map.insert("host".into(), json!(host.split(':').next()));
        map.insert("port".into(), json!(port.split(':').nth(1)));
    } else {
        map.remove("host");
        map.remove("port");
        map.insert("hostPort".into(), json!(format!("{}:{}", text("host"), text("port"))));
    }
    new
}

/// The answer to a review; `spoil` may change the answer.
fn answer(review: &Value, spoil: impl Fn(&mut Value)) -> Value {
    let request = &review["request"];
    let desired = request["desiredAPIVersion"].as_str().unwrap();
    let objects = request["objects"].as_array().unwrap();
    let objects: Vec<Value> = objects.iter().map(|object| converted(object, desired)).collect();
    let mut answer = json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview",
        "response": {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects}});
    spoil(&mut answer);
    answer
}

async fn converter() -> Hook {
    Hook::start(|review| answer(review, |_| {})).await
}

const APPLY: &str = "application/apply-patch+yaml";

async fn define(api: &Api, definition: Value) {
    api.ok("POST", DEFINITIONS, definition).await;
    api.until("/apis/example.com/v2", |code, _| code == 200).await;
}

/// Has other objects stored in `version` from now on.
async fn store_as(api: &Api, hook: &Hook, version: &str) {
    let path = format!("{DEFINITIONS}/places.example.com");
    let mut definition = api.ok("GET", &path, Value::Null).await;
    for entry in definition["spec"]["versions"].as_array_mut().unwrap() {
        entry["storage"] = json!(entry["name"] == version);
    }
    api.ok("PUT", &path, definition).await;
    // From then on a write through that version needs no conversion.
    let path = format!("/apis/example.com/{version}/namespaces/ns/places");
    eventually(|| async {
        hook.take_reviews();
        api.ok("POST", &path, place(version, "probe", json!({}))).await;
        let asked = hook.take_reviews();
        api.ok("DELETE", &format!("{path}/probe"), Value::Null).await;
        asked.is_empty()
    })
    .await;
}

fn place(version: &str, name: &str, fields: Value) -> Value {
    let mut object = json!({"apiVersion": format!("example.com/{version}"), "kind": "Place", "metadata": {"name": name}});
    for (field, value) in fields.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}

#[tokio::test]
async fn an_object_in_two_versions() {
    let (api, hook) = (Api::start().await, converter().await);
    define(&api, definition(&hook, &["v1"], "v1")).await;
    let mut first = api.ok("POST", V1, place("v1", "a", json!({"hostPort": "h:80"}))).await;
    assert_eq!(api.ok("GET", &format!("{V1}/a"), Value::Null).await, first);
    assert!(hook.asked().is_empty(), "the stored version needs no conversion");
    let shown = api.ok("GET", &format!("{V2}/a"), Value::Null).await;
    assert_eq!((&shown["apiVersion"], &shown["host"], &shown["port"]), (&json!("example.com/v2"), &json!("h"), &json!("80")));
    // What the schema of v2 does not know is gone; the stored version's default stays.
    assert_eq!((shown.get("junk"), shown.get("hostPort"), &shown["defaulted"]), (None, None, &json!("of v1")));
    assert_eq!(shown["metadata"], first["metadata"]);
    let asked = hook.take_reviews();
    assert_eq!((asked.len(), &asked[0]["apiVersion"]), (1, &json!("apiextensions.k8s.io/v1")));
    assert_eq!(asked[0]["request"]["desiredAPIVersion"], "example.com/v2");
    first["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    assert_eq!(asked[0]["request"]["objects"], json!([first]));

    // Written through the other version, each way of writing.
    let created = api.ok("POST", V2, place("v2", "b", json!({"host": "x", "port": "1", "unknown": 1}))).await;
    assert_eq!((&created["defaulted"], created.get("unknown")), (&json!("of v2"), None));
    let stored = api.ok("GET", &format!("{V1}/b"), Value::Null).await;
    assert_eq!((&stored["hostPort"], &stored["defaulted"], stored.get("junk")), (&json!("x:1"), &json!("of v2"), None));
    let mut update = api.ok("GET", &format!("{V2}/b"), Value::Null).await;
    update["port"] = json!("2");
    let updated = api.ok("PUT", &format!("{V2}/b"), update).await;
    assert_eq!((&updated["port"], &updated["metadata"]["generation"]), (&json!("2"), &json!(2)));
    api.ok("PATCH", &format!("{V2}/b"), json!({"host": "y"})).await;
    api.ok("PATCH", &format!("{V2}/b/status"), json!({"status": {"phase": "A"}})).await;
    let stored = api.ok("GET", &format!("{V1}/b"), Value::Null).await;
    assert_eq!((&stored["hostPort"], &stored["status"]["phase"]), (&json!("y:2"), &json!("A")));
    let path = format!("{V2}/c?fieldManager=me");
    let (code, applied) = api.patch(&path, APPLY, place("v2", "c", json!({"host": "z", "port": "3"}))).await;
    assert_eq!((code, &applied["host"]), (201, &json!("z")));
    assert_eq!(api.ok("GET", &format!("{V1}/c"), Value::Null).await["hostPort"], "z:3");

    let table = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let table = Answer::read(api.raw(&User::server(), "GET", V2, &[table], "").await).await.body;
    let cells: Vec<&Value> = table["rows"].as_array().unwrap().iter().map(|row| &row["cells"][1]).collect();
    assert_eq!(cells, ["h", "y", "z"]);
    let deleted = api.ok("DELETE", &format!("{V2}/c"), Value::Null).await;
    assert_eq!(deleted["status"], "Success");
}

#[tokio::test]
async fn a_list_of_mixed_versions_is_one_review() {
    let (api, hook) = (Api::start().await, converter().await);
    define(&api, definition(&hook, &["v1"], "v1")).await;
    for name in ["a", "b"] {
        api.ok("POST", V1, place("v1", name, json!({"hostPort": format!("{name}:1")}))).await;
    }
    store_as(&api, &hook, "v2").await;
    api.ok("POST", V2, place("v2", "c", json!({"host": "c", "port": "2"}))).await;
    hook.take_reviews();
    let list = api.ok("GET", V2, Value::Null).await;
    let hosts: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|item| &item["host"]).collect();
    assert_eq!(hosts, ["a", "b", "c"]);
    let asked = hook.take_reviews();
    assert_eq!(asked.len(), 1);
    // What is in the desired version already is not asked about.
    let names: Vec<&Value> =
        asked[0]["request"]["objects"].as_array().unwrap().iter().map(|object| &object["metadata"]["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    let list = api.ok("GET", V1, Value::Null).await;
    let ports: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|item| &item["hostPort"]).collect();
    assert_eq!(ports, ["a:1", "b:1", "c:2"]);
    assert_eq!(hook.take_reviews()[0]["request"]["objects"].as_array().unwrap().len(), 1);
    // A write brings an object into the version that is stored now.
    api.ok("PATCH", &format!("{V1}/a"), json!({"metadata": {"labels": {"moved": "yes"}}})).await;
    hook.take_reviews();
    assert_eq!(api.ok("GET", &format!("{V2}/a"), Value::Null).await["host"], "a");
    assert!(hook.asked().is_empty());
}

#[tokio::test]
async fn watchers_see_their_version() {
    let (api, hook) = (Api::start().await, converter().await);
    define(&api, definition(&hook, &["v1"], "v1")).await;
    api.ok("POST", V1, place("v1", "a", json!({"hostPort": "a:1"}))).await;
    let mut watches = [Watch::start(&api, &format!("{V2}?watch=1")).await, Watch::start(&api, &format!("{V2}?watch=1")).await];
    for watch in &mut watches {
        let (kind, object) = watch.event().await;
        assert_eq!((kind.as_str(), &object["host"], &object["port"]), ("ADDED", &json!("a"), &json!("1")));
    }
    api.ok("PATCH", &format!("{V1}/a"), json!({"hostPort": "b:2"})).await;
    for watch in &mut watches {
        let (kind, object) = watch.event().await;
        assert_eq!((kind.as_str(), &object["host"], &object["apiVersion"]), ("MODIFIED", &json!("b"), &json!("example.com/v2")));
    }
    let deleted = api.ok("DELETE", &format!("{V1}/a"), Value::Null).await;
    assert_eq!(deleted["status"], "Success");
    for watch in &mut watches {
        let (kind, object) = watch.event().await;
        assert_eq!((kind.as_str(), &object["port"]), ("DELETED", &json!("2")));
    }
    assert_eq!(hook.asked().len(), 3, "each state is converted once, however many watch");
}

#[tokio::test]
async fn selectors_name_fields_of_the_version_that_is_asked() {
    let (api, hook) = (Api::start().await, converter().await);
    define(&api, definition(&hook, &["v1"], "v1")).await;
    let mut watch = Watch::start(&api, &format!("{V2}?watch=1&fieldSelector=host=h,port=80")).await;
    for (name, port) in [("a", "h:80"), ("b", "h:8080"), ("c", "i:80")] {
        api.ok("POST", V1, place("v1", name, json!({"hostPort": port}))).await;
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&api.ok("GET", &format!("{V2}?fieldSelector=host=h"), Value::Null).await), ["a", "b"]);
    assert_eq!(names(&api.ok("GET", &format!("{V2}?fieldSelector=host=h,port=80"), Value::Null).await), ["a"]);
    assert_eq!(names(&api.ok("GET", &format!("{V1}?fieldSelector=hostPort=h:8080"), Value::Null).await), ["b"]);
    let page = api.ok("GET", &format!("{V2}?fieldSelector=host=h&limit=1"), Value::Null).await;
    let token = page["metadata"]["continue"].as_str().unwrap();
    assert_eq!(names(&page), ["a"]);
    assert_eq!(names(&api.ok("GET", &format!("{V2}?fieldSelector=host=h&limit=1&continue={token}"), Value::Null).await), ["b"]);
    let other = api.answer("GET", &format!("{V2}?fieldSelector=hostPort=h:80"), Value::Null).await;
    assert_eq!((other.code, other.message()), (400, "field label not supported: hostPort"));
    let (kind, object) = watch.event().await;
    assert_eq!((kind.as_str(), &object["metadata"]["name"]), ("ADDED", &json!("a")));
    // It leaves the selection.
    api.ok("PATCH", &format!("{V2}/a"), json!({"host": "j"})).await;
    let (kind, object) = watch.event().await;
    assert_eq!((kind.as_str(), &object["host"]), ("DELETED", &json!("h")));
}

#[tokio::test]
async fn a_webhook_that_fails() {
    let api = Api::start().await;
    let hook = Hook::start(|review| {
        let failure = json!({"status": "Failure", "message": "not today"});
        answer(review, |answer| answer["response"]["result"] = failure.clone())
    })
    .await;
    define(&api, definition(&hook, &["v1"], "v1")).await;
    api.ok("POST", V1, place("v1", "a", json!({"hostPort": "a:1"}))).await;
    let message = "conversion webhook for example.com/v1, Kind=Place failed: not today";
    for (method, path) in [("GET", format!("{V2}/a")), ("GET", V2.to_owned()), ("DELETE", format!("{V2}/a"))] {
        let answer = api.answer(method, &path, Value::Null).await;
        assert_eq!((answer.code, answer.message()), (500, message), "{method} {path}");
    }
    let created = api.answer("POST", V2, place("v2", "b", json!({"host": "b"}))).await;
    let message_back = "conversion webhook for example.com/v2, Kind=Place failed: not today";
    assert_eq!((created.code, created.message()), (500, message_back));
    let mut watch = Watch::start(&api, &format!("{V2}?watch=1")).await;
    let (kind, status) = watch.event().await;
    assert_eq!((kind.as_str(), &status["code"], &status["message"]), ("ERROR", &json!(500), &json!(message)));
    assert_eq!(watch.next().await, None);
    // The stored version is nobody's business but the server's.
    assert_eq!(api.ok("GET", &format!("{V1}/a"), Value::Null).await["hostPort"], "a:1");
    api.ok("DELETE", &format!("{V1}/a"), Value::Null).await;
}

#[tokio::test]
async fn nobody_listens() {
    let (api, hook) = (Api::start().await, converter().await);
    let mut definition = definition(&hook, &["v1"], "v1");
    definition["spec"]["conversion"]["webhook"]["clientConfig"] = json!({"service": {"name": "none", "namespace": "ns"}});
    define(&api, definition).await;
    api.ok("POST", V1, place("v1", "a", json!({"hostPort": "a:1"}))).await;
    let answer = api.answer("GET", &format!("{V2}/a"), Value::Null).await;
    let expected = "conversion webhook for example.com/v1, Kind=Place failed: Post \"https://none.ns.svc:443/?timeout=30s\": service \"none\" not found";
    assert_eq!((answer.code, answer.message()), (500, expected));
}

/// What the webhook does wrong is named by the object.
#[tokio::test]
async fn answers_that_do_not_count() {
    let api = Api::start().await;
    let hook = Hook::start(|review| {
        let name = review["request"]["objects"][0]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        answer(review, |answer| {
            let object = &mut answer["response"]["convertedObjects"][0];
            match name.as_str() {
                "uid" => object["metadata"]["uid"] = json!("other"),
                "name" => object["metadata"]["name"] = json!("other"),
                "version" => object["apiVersion"] = json!("example.com/v1"),
                "labels" => object["metadata"]["labels"] = json!({"a": 1}),
                "count" => answer["response"]["convertedObjects"] = json!([]),
                "review" => answer["response"]["uid"] = json!("other"),
                // All of this is put back but the labels.
                _ => {
                    object["metadata"]["finalizers"] = json!(["example.com/f"]);
                    object["metadata"]["labels"] = json!({"converted": "yes"});
                    object["metadata"]["generation"] = json!(77);
                }
            }
        })
    })
    .await;
    define(&api, definition(&hook, &["v1"], "v1")).await;
    let of = "conversion webhook for example.com/v1, Kind=Place";
    for (name, expected) in [
        ("uid", "returned invalid object: must have the same UID: "),
        ("name", "returned invalid object: must have the same name: name != other"),
        (
            "version",
            "returned invalid object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v1)",
        ),
        ("labels", "returned invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object"),
        ("count", "returned 0 objects, expected 1"),
        ("review", "failed: expected response.uid="),
    ] {
        api.ok("POST", V1, place("v1", name, json!({"hostPort": "a:1"}))).await;
        let answer = api.answer("GET", &format!("{V2}/{name}"), Value::Null).await;
        let expected = format!("{of} {expected}");
        assert!(answer.code == 500 && answer.message().starts_with(&expected), "{name}: {}", answer.message());
    }
    api.ok("POST", V1, place("v1", "other", json!({"hostPort": "a:1"}))).await;
    let shown = api.ok("GET", &format!("{V2}/other"), Value::Null).await["metadata"].clone();
    assert_eq!(
        (shown.get("finalizers"), &shown["generation"], &shown["labels"]),
        (None, &json!(1), &json!({"converted": "yes"}))
    );
}

#[tokio::test]
async fn the_first_review_version_that_is_known() {
    let (api, hook) = (Api::start().await, converter().await);
    define(&api, definition(&hook, &["v9", "v1beta1", "v1"], "v1")).await;
    api.ok("POST", V1, place("v1", "a", json!({"hostPort": "a:1"}))).await;
    assert_eq!(api.ok("GET", &format!("{V2}/a"), Value::Null).await["host"], "a");
    assert_eq!(hook.take_reviews()[0]["apiVersion"], "apiextensions.k8s.io/v1beta1");
}

#[tokio::test]
async fn admission_sees_the_version_that_its_rules_name() {
    let (api, hook) = (Api::start().await, converter().await);
    define(&api, definition(&hook, &["v1"], "v1")).await;
    let admit = Hook::start(|review| {
        let request = &review["request"];
        let right = request["object"]["hostPort"] == "h:80" && request["object"]["apiVersion"] == "example.com/v1";
        let patch = json!([{"op": "replace", "path": "/hostPort", "value": "changed:81"}]).to_string();
        use base64::Engine;
        let patch = base64::engine::general_purpose::STANDARD.encode(patch);
        json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview",
            "response": {"uid": request["uid"], "allowed": right, "patchType": "JSONPatch", "patch": patch}})
    })
    .await;
    let rules = json!([{"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["places"]}]);
    let webhook = json!({"name": "w.example.com", "clientConfig": admit.client_config(), "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "rules": rules});
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    api.ok("POST", path, json!({"metadata": {"name": "w"}, "webhooks": [webhook]})).await;
    let probe = format!("{V2}?dryRun=All");
    eventually(|| async { api.answer("POST", &probe, place("v2", "p", json!({}))).await.code >= 400 }).await;
    let created = api.ok("POST", V2, place("v2", "a", json!({"host": "h", "port": "80"}))).await;
    assert_eq!((&created["host"], &created["port"]), (&json!("changed"), &json!("81")));
    let request = &admit.asked().pop().unwrap();
    assert_eq!((&request["kind"]["version"], &request["requestKind"]["version"]), (&json!("v1"), &json!("v2")));
    assert_eq!(api.ok("GET", &format!("{V1}/a"), Value::Null).await["hostPort"], "changed:81");
}

#[tokio::test]
async fn a_policy_sees_the_version_that_its_rules_name() {
    let (api, hook) = (Api::start().await, converter().await);
    define(&api, definition(&hook, &["v1"], "v1")).await;
    let rules = json!([{"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["places"]}]);
    let policy = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": "object.hostPort != 'bad:1'", "message": "bad place"}]}});
    let group = "/apis/admissionregistration.k8s.io/v1";
    api.ok("POST", &format!("{group}/validatingadmissionpolicies"), policy).await;
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    api.ok("POST", &format!("{group}/validatingadmissionpolicybindings"), binding).await;
    let bad = place("v2", "a", json!({"host": "bad", "port": "1"}));
    eventually(|| async { api.answer("POST", &format!("{V2}?dryRun=All"), bad.clone()).await.code == 422 }).await;
    let refused = api.answer("POST", V2, bad).await;
    assert!(refused.message().ends_with("denied request: bad place"), "{}", refused.message());
    api.ok("POST", V2, place("v2", "a", json!({"host": "good", "port": "1"}))).await;
}
