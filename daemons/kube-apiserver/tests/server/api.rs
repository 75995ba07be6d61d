//! Verbs on built-in kinds.

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use kube_apiserver::authn::user::User;
use kube_apiserver::respond::Body;
use kube_apiserver::server::ModeName;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, CONFIG_MAPS, MERGE, config_map};

impl Api {
    async fn as_user(&self, user: &User, method: &str, path: &str, body: Value) -> u16 {
        self.bytes(user, method, path, "application/json", body.to_string()).await.0
    }
}

/// The next line of a watch.
async fn event(body: &mut Body) -> Value {
    let frame = tokio::time::timeout(std::time::Duration::from_secs(5), body.frame()).await.expect("an event in time");
    let data = frame.expect("an open watch").expect("a frame").into_data().expect("data");
    let mut lines = data.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    serde_json::from_slice(lines.next().expect("a line")).expect("JSON")
}

const PODS: &str = "/api/v1/namespaces/ns/pods";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn an_object_lives() {
    let api = Api::start().await;
    let created = api.ok("POST", CONFIG_MAPS, config_map("a", json!({"k": "v"}))).await;
    assert_eq!((created["kind"].as_str(), created["apiVersion"].as_str()), (Some("ConfigMap"), Some("v1")));
    let path = format!("{CONFIG_MAPS}/a");
    assert_eq!(api.ok("GET", &path, Value::Null).await, created);
    assert_eq!(api.call("POST", CONFIG_MAPS, config_map("a", json!({}))).await.0, 409);
    let mut changed = created.clone();
    changed["data"]["k"] = json!("w");
    let updated = api.ok("PUT", &path, changed.clone()).await;
    assert_ne!(updated["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    let (code, status) = api.call("PUT", &path, changed).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")));
    let same = api.ok("PUT", &path, updated.clone()).await;
    assert_eq!(same["metadata"]["resourceVersion"], updated["metadata"]["resourceVersion"], "no change is no write");
    assert_eq!(api.ok("DELETE", &path, Value::Null).await["status"], "Success");
    assert_eq!(api.call("GET", &path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn errors_are_statuses() {
    let api = Api::start().await;
    let check = async |method: &str, path: &str, body: Value, code: u16, reason: &str| {
        let (got, status) = api.call(method, path, body).await;
        assert_eq!((got, status["reason"].as_str()), (code, Some(reason)), "{method} {path}: {status}");
        assert_eq!(status["kind"], "Status");
    };
    check("GET", "/api/v9", Value::Null, 404, "NotFound").await;
    check("GET", "/apis/apps/v9/deployments", Value::Null, 404, "NotFound").await;
    check("GET", &format!("{CONFIG_MAPS}/none"), Value::Null, 404, "NotFound").await;
    check("PUT", CONFIG_MAPS, Value::Null, 405, "MethodNotAllowed").await;
    check("POST", "/api/v1/namespaces/none/configmaps", config_map("a", json!({})), 404, "NotFound").await;
    check("POST", CONFIG_MAPS, config_map("A_B", json!({})), 422, "Invalid").await;
    check("POST", CONFIG_MAPS, config_map("a", json!({"k": 5})), 400, "BadRequest").await;
    check("POST", CONFIG_MAPS, json!({"metadata": {"name": "a", "namespace": "other"}}), 400, "BadRequest").await;
    check("GET", &format!("{CONFIG_MAPS}?resourceVersion=x"), Value::Null, 400, "BadRequest").await;
    check("GET", &format!("{CONFIG_MAPS}?continue=x"), Value::Null, 400, "BadRequest").await;
    check("GET", &format!("{CONFIG_MAPS}?fieldSelector=data.k=v"), Value::Null, 400, "BadRequest").await;
    check("DELETE", "/api/v1/namespaces/default", Value::Null, 403, "Forbidden").await;
    let big = "x".repeat(3 * 1024 * 1024 + 1);
    check("POST", CONFIG_MAPS, config_map("a", json!({"k": big})), 413, "RequestEntityTooLarge").await;
    let (code, _) = api.bytes(&User::server(), "POST", CONFIG_MAPS, "text/plain", config_map("a", json!({})).to_string()).await;
    assert_eq!(code, 415);
    let aliases = (1..30).map(|i| format!("a{i}: &a{i} [*a{p}, *a{p}, *a{p}, *a{p}, *a{p}]\n", p = i - 1)).collect::<String>();
    for (content_type, body) in [
        ("application/json", "[".repeat(100_000)),
        ("application/json", "{\"metadata\":".repeat(5_000)),
        ("application/yaml", format!("a0: &a0 [x]\n{aliases}")),
        ("application/yaml", "a: b: c".to_owned()),
        ("application/vnd.kubernetes.protobuf", "k8s\0\u{1}garbage".to_owned()),
        ("application/vnd.kubernetes.protobuf", "not protobuf".to_owned()),
    ] {
        let (code, status) =
            Answer::read(api.raw(&User::server(), "POST", CONFIG_MAPS, &[("content-type", content_type)], body).await)
                .await
                .code_and_body();
        assert_eq!((code, status["kind"].as_str()), (400, Some("Status")), "{content_type}");
    }
    assert_eq!(api.ok("GET", CONFIG_MAPS, Value::Null).await["items"], json!([]), "nothing was stored");
}

#[tokio::test]
async fn unknown_fields_warn_or_fail() {
    let api = Api::start().await;
    let body = || json!({"metadata": {"name": "a"}, "nope": 1}).to_string();
    let headers = [("content-type", "application/json")];
    let warned = api.raw(&User::server(), "POST", CONFIG_MAPS, &headers, body()).await;
    assert_eq!(warned.headers()["warning"], "299 - \"unknown field \\\"nope\\\"\"");
    let strict = api.raw(&User::server(), "POST", &format!("{CONFIG_MAPS}?fieldValidation=Strict"), &headers, body()).await;
    let (code, status) = Answer::read(strict).await.code_and_body();
    assert_eq!(code, 400);
    assert!(status["message"].as_str().unwrap().ends_with("strict decoding error: unknown field \"nope\""), "{status}");
    let twice = r#"{"metadata":{"name":"b"},"data":{"k":"1","k":"2"}}"#;
    let repeated = api.raw(&User::server(), "POST", CONFIG_MAPS, &headers, twice).await;
    assert_eq!(repeated.headers()["warning"], "299 - \"duplicate field \\\"data.k\\\"\"");
}

#[tokio::test]
async fn lists_continue_in_their_snapshot() {
    let api = Api::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        api.ok("POST", CONFIG_MAPS, json!({"metadata": {"name": name, "labels": {"n": name}}})).await;
    }
    let first = api.ok("GET", &format!("{CONFIG_MAPS}?limit=2"), Value::Null).await;
    assert_eq!((first["items"].as_array().unwrap().len(), &first["metadata"]["remainingItemCount"]), (2, &json!(3)));
    api.ok("DELETE", &format!("{CONFIG_MAPS}/d"), Value::Null).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = api.ok("GET", &format!("{CONFIG_MAPS}?limit=10&continue={token}"), Value::Null).await;
    let names: Vec<&str> = rest["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["c", "d", "e"], "the page shows what was there when the list began");
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let selected = api.ok("GET", &format!("{CONFIG_MAPS}?labelSelector=n%20in%20(a,e)"), Value::Null).await;
    assert_eq!(selected["items"].as_array().unwrap().len(), 2);
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = format!("{CONFIG_MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(api.ok("GET", &exact, Value::Null).await["items"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn watches_tell_what_a_selection_sees() {
    let api = Api::start().await;
    api.ok("POST", CONFIG_MAPS, json!({"metadata": {"name": "a", "labels": {"on": "yes"}}})).await;
    let path = format!(
        "{CONFIG_MAPS}?watch=1&labelSelector=on%3Dyes&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let mut watch = api.raw(&User::server(), "GET", &path, &[], Bytes::new()).await.into_body();
    let first = event(&mut watch).await;
    assert_eq!((first["type"].as_str(), first["object"]["metadata"]["name"].as_str()), (Some("ADDED"), Some("a")));
    let bookmark = event(&mut watch).await;
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let a = format!("{CONFIG_MAPS}/a");
    for (labels, expected) in [(json!({"on": "no"}), "DELETED"), (json!({"on": "yes"}), "ADDED"), (json!({"x": "y"}), "MODIFIED")]
    {
        let (_, object) = api.patch(&a, MERGE, json!({"metadata": {"labels": labels}})).await;
        let got = event(&mut watch).await;
        assert_eq!(got["type"], expected);
        assert_eq!(got["object"]["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"]);
    }
    api.ok("DELETE", &a, Value::Null).await;
    assert_eq!(event(&mut watch).await["type"], "DELETED");
    let from = bookmark["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}");
    let mut resumed = api.raw(&User::server(), "GET", &path, &[], Bytes::new()).await.into_body();
    assert_eq!(event(&mut resumed).await["type"], "MODIFIED", "a watch resumes where the client left off");
}

#[tokio::test]
async fn the_four_patches() {
    let api = Api::start().await;
    api.ok("POST", PODS, pod("p")).await;
    let path = format!("{PODS}/p");
    let (code, patched) = api.patch(&path, STRATEGIC, json!({"spec": {"containers": [{"name": "c", "image": "j"}]}})).await;
    assert_eq!((code, patched["spec"]["containers"][0]["image"].as_str()), (200, Some("j")));
    let (_, patched) = api.patch(&path, MERGE, json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(patched["metadata"]["labels"], json!({"app": "p", "x": "y"}));
    let json_patch = json!([{"op": "remove", "path": "/metadata/labels/x"}]);
    let (_, patched) = api.patch(&path, "application/json-patch+json", json_patch.clone()).await;
    assert_eq!(patched["metadata"]["labels"], json!({"app": "p"}));
    assert_eq!(api.patch(&path, "application/json-patch+json", json_patch).await.0, 422);
    assert_eq!(api.patch(&path, "application/json", json!({})).await.0, 415);

    let applied = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"k": value}});
    let apply = async |manager: &str, value: &str, force: &str| {
        api.patch(&format!("{CONFIG_MAPS}/x?fieldManager={manager}{force}"), APPLY, applied(value)).await
    };
    let (code, object) = apply("one", "1", "").await;
    assert_eq!((code, object["metadata"]["managedFields"][0]["operation"].as_str()), (201, Some("Apply")));
    let (code, status) = apply("two", "2", "").await;
    assert_eq!((code, status["details"]["causes"][0]["reason"].as_str()), (409, Some("FieldManagerConflict")));
    assert_eq!(apply("two", "2", "&force=true").await.1["data"]["k"], "2");
    assert_eq!(api.patch(&format!("{CONFIG_MAPS}/x"), APPLY, applied("3")).await.0, 422, "who applies says who they are");
}

#[tokio::test]
async fn deletion_waits_for_whoever_must_act() {
    let api = Api::start().await;
    api.ok("POST", CONFIG_MAPS, json!({"metadata": {"name": "f", "finalizers": ["a.b/c"]}})).await;
    let path = format!("{CONFIG_MAPS}/f");
    let marked = api.ok("DELETE", &path, Value::Null).await;
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(api.patch(&path, MERGE, json!({"metadata": {"finalizers": null}})).await.0, 200);
    assert_eq!(api.call("GET", &path, Value::Null).await.0, 404);

    api.ok("POST", PODS, pod("p")).await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    api.ok("POST", &format!("{PODS}/p/binding"), binding.clone()).await;
    assert_eq!(api.call("POST", &format!("{PODS}/p/binding"), binding).await.0, 409);
    let path = format!("{PODS}/p");
    assert_eq!(api.ok("DELETE", &path, Value::Null).await["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = api.ok("DELETE", &format!("{path}?gracePeriodSeconds=5"), Value::Null).await;
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    api.ok("DELETE", &format!("{path}?gracePeriodSeconds=0"), Value::Null).await;
    assert_eq!(api.call("GET", &path, Value::Null).await.0, 404);

    let (code, _) = api.call("DELETE", "/api/v1/namespaces/ns", Value::Null).await;
    assert_eq!(code, 200);
    let namespace = api.ok("GET", "/api/v1/namespaces/ns", Value::Null).await;
    assert_eq!(namespace["status"]["phase"], "Terminating");
    assert_eq!(api.call("POST", CONFIG_MAPS, config_map("late", json!({}))).await.0, 403);
    let mut finalized = namespace;
    finalized["spec"]["finalizers"] = json!([]);
    api.ok("PUT", "/api/v1/namespaces/ns/finalize", finalized).await;
    assert_eq!(api.call("GET", "/api/v1/namespaces/ns", Value::Null).await.0, 404);
}

#[tokio::test]
async fn services_get_numbers_that_nobody_else_has() {
    let api = Api::start().await;
    let services = "/api/v1/namespaces/ns/services";
    let service = |name: String| json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let created = futures::future::join_all((0..20).map(|i| api.ok("POST", services, service(format!("s{i}"))))).await;
    let mut addresses: Vec<&str> = created.iter().map(|s| s["spec"]["clusterIP"].as_str().unwrap()).collect();
    let mut ports: Vec<u64> = created.iter().map(|s| s["spec"]["ports"][0]["nodePort"].as_u64().unwrap()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!((addresses.len(), ports.len()), (20, 20));
    let taken = json!({"metadata": {"name": "x"}, "spec": {"clusterIP": addresses[0], "ports": [{"port": 80}]}});
    assert_eq!(api.call("POST", services, taken).await.0, 422);
    let kubernetes = api.ok("GET", "/api/v1/namespaces/default/services/kubernetes", Value::Null).await;
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test]
async fn nobody_does_what_they_may_not() {
    let api = Api::with(|config| config.modes = vec![ModeName::Node, ModeName::Rbac]).await;
    let bob = User::new("bob", &["system:authenticated"]);
    assert_eq!(api.as_user(&bob, "GET", PODS, Value::Null).await, 403);
    assert_eq!(api.as_user(&bob, "GET", "/api", Value::Null).await, 200, "discovery is for everyone");
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/ns";
    let binding = |role: &str| {
        json!({"metadata": {"name": role}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"}]})
    };
    api.ok("POST", &format!("{rbac}/rolebindings"), binding("admin")).await;
    until(async || api.as_user(&bob, "GET", PODS, Value::Null).await == 200).await;
    assert_eq!(api.as_user(&bob, "GET", "/api/v1/nodes", Value::Null).await, 403);
    // An administrator of the namespace gives what they have, and no more.
    let code = api.as_user(&bob, "POST", &format!("{rbac}/rolebindings"), binding("view")).await;
    assert_eq!(code, 201);
    assert_eq!(api.as_user(&bob, "POST", &format!("{rbac}/rolebindings"), binding("cluster-admin")).await, 403);

    let node = User::new("system:node:n1", &["system:nodes", "system:authenticated"]);
    api.ok("POST", "/api/v1/namespaces/ns/secrets", json!({"metadata": {"name": "s"}})).await;
    let secret = "/api/v1/namespaces/ns/secrets/s";
    assert_eq!(api.as_user(&node, "GET", secret, Value::Null).await, 403);
    let mut uses = pod("uses");
    uses["spec"]["nodeName"] = json!("n1");
    uses["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "s"}}]);
    api.ok("POST", PODS, uses).await;
    until(async || api.as_user(&node, "GET", secret, Value::Null).await == 200).await;
    let other = User::new("system:node:n2", &["system:nodes", "system:authenticated"]);
    assert_eq!(api.as_user(&other, "GET", secret, Value::Null).await, 403);
}

/// Authorizers follow the caches: what was granted holds a moment later.
async fn until(condition: impl AsyncFn() -> bool) {
    for _ in 0..200 {
        if condition().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it did not come to hold");
}

#[tokio::test]
async fn tables_metadata_and_protobuf() {
    let api = Api::start().await;
    api.ok("POST", CONFIG_MAPS, config_map("a", json!({"k": "v"}))).await;
    let get = async |path: &str, accept: &str| api.raw(&User::server(), "GET", path, &[("accept", accept)], Bytes::new()).await;
    let (_, table) = Answer::read(get(CONFIG_MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io").await).await.code_and_body();
    assert_eq!((table["kind"].as_str(), &table["rows"][0]["cells"][0]), (Some("Table"), &json!("a")));
    let (_, list) = Answer::read(get(CONFIG_MAPS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await)
        .await
        .code_and_body();
    assert!(list["items"][0].get("data").is_none() && list["kind"] == "PartialObjectMetadataList");
    let answer = get(&format!("{CONFIG_MAPS}/a"), "application/vnd.kubernetes.protobuf").await;
    assert_eq!(answer.headers()["content-type"], "application/vnd.kubernetes.protobuf");
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(schema::proto::decode(&bytes).unwrap()["data"]["k"], "v");
    assert_eq!(get(CONFIG_MAPS, "text/html").await.status(), 406);
    let encoded = schema::proto::encode(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}})).unwrap();
    let headers = [("content-type", "application/vnd.kubernetes.protobuf")];
    assert_eq!(api.raw(&User::server(), "POST", CONFIG_MAPS, &headers, encoded).await.status(), 201);
}

/// Who writes is told the bytes that readers get, in both encodings and from both verbs; in another version, what that shows.
#[tokio::test]
async fn a_write_is_answered_with_what_is_stored() {
    let api = Api::start().await;
    let send = async |method: &str, path: &str, accept: &str, body: Value| {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let headers = [("content-type", "application/json"), ("accept", accept)];
        let answer = api.raw(&User::server(), method, path, &headers, body).await;
        assert!(answer.status().is_success(), "{method} {path}: {}", answer.status());
        answer.into_body().collect().await.unwrap().to_bytes()
    };
    for accept in ["application/json", "application/vnd.kubernetes.protobuf"] {
        let name = if accept.ends_with("json") { "j" } else { "p" };
        let path = format!("{CONFIG_MAPS}/{name}");
        let created = send("POST", CONFIG_MAPS, accept, config_map(name, json!({"k": "v"}))).await;
        assert_eq!(created, send("GET", &path, accept, Value::Null).await);
        let replaced = send("PUT", &path, accept, config_map(name, json!({"k": "w"}))).await;
        assert_ne!(replaced, created);
        assert_eq!(replaced, send("GET", &path, accept, Value::Null).await);
    }
    let event = json!({"metadata": {"name": "e"}, "regarding": {"kind": "Pod", "namespace": "ns", "name": "p"}, "reason": "R",
        "action": "A", "type": "Normal", "reportingController": "c", "reportingInstance": "i", "eventTime": "2026-01-01T00:00:00.000000Z"});
    let path = "/apis/events.k8s.io/v1/namespaces/ns/events";
    let created: Value = serde_json::from_slice(&send("POST", path, "application/json", event).await).unwrap();
    assert_eq!((created["apiVersion"].as_str(), created["regarding"]["name"].as_str()), (Some("events.k8s.io/v1"), Some("p")));
}

#[tokio::test]
async fn the_parts_of_the_control_plane_are_asked() {
    let api = Api::start().await;
    let path = "/api/v1/componentstatuses";
    let store = api.ok("GET", &format!("{path}/etcd-0"), Value::Null).await;
    assert_eq!(store["conditions"], json!([{"type": "Healthy", "status": "True", "message": "ok"}]));
    let list = api.ok("GET", &format!("{path}?fieldSelector=metadata.name%3Detcd-0"), Value::Null).await;
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&json!("ComponentStatusList"), &json!("etcd-0")));
    assert_eq!(api.call("GET", &format!("{path}/kubelet"), Value::Null).await.0, 404);
    assert_eq!(api.call("DELETE", &format!("{path}/etcd-0"), Value::Null).await.0, 405);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let api = Api::start().await;
    let dry = api.ok("POST", &format!("{CONFIG_MAPS}?dryRun=All"), config_map("a", json!({}))).await;
    assert!(dry["metadata"]["uid"].is_string());
    assert_eq!(api.call("GET", &format!("{CONFIG_MAPS}/a"), Value::Null).await.0, 404);
    api.ok("POST", CONFIG_MAPS, config_map("a", json!({}))).await;
    assert_eq!(api.call("POST", &format!("{CONFIG_MAPS}?dryRun=All"), config_map("a", json!({}))).await.0, 409);
    api.ok("DELETE", &format!("{CONFIG_MAPS}/a?dryRun=All"), Value::Null).await;
    api.ok("GET", &format!("{CONFIG_MAPS}/a"), Value::Null).await;
}

#[tokio::test]
async fn one_store_many_versions() {
    let api = Api::start().await;
    let event = json!({"metadata": {"name": "e", "namespace": "ns"}, "involvedObject": {"kind": "Pod", "namespace": "ns", "name": "p"},
        "reason": "R", "message": "m", "type": "Normal", "source": {"component": "c"}});
    api.ok("POST", "/api/v1/namespaces/ns/events", event).await;
    let new = api.ok("GET", "/apis/events.k8s.io/v1/namespaces/ns/events/e", Value::Null).await;
    assert_eq!((new["apiVersion"].as_str(), new["note"].as_str()), (Some("events.k8s.io/v1"), Some("m")));
    assert_eq!(new["regarding"]["name"], "p");
}

#[tokio::test]
async fn a_certificate_request_says_who_made_it() {
    let api = Api::start().await;
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let body = json!({"metadata": {"name": "c"}, "spec": {"request": "LS0=", "signerName": "example.com/x", "usages": ["client auth"], "username": "root"}});
    let headers = [("content-type", "application/json")];
    let user = User::new("ann", &["devs"]);
    let (code, made) = Answer::read(api.raw(&user, "POST", path, &headers, body.to_string()).await).await.code_and_body();
    // Whether this body is a certificate request at all is the kind's rule; who made it is not the client's to say.
    if code == 201 {
        assert_eq!((made["spec"]["username"].as_str(), &made["spec"]["groups"]), (Some("ann"), &json!(["devs"])));
    } else {
        assert_eq!(code, 422, "{made}");
    }
}

#[tokio::test]
async fn an_applied_object_is_stored_as_a_created_one() {
    let api = Api::start().await;
    let deployment = |name: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"volumes": [], "containers": [{"name": "c", "image": "i", "volumeMounts": [], "env": null}]}}}})
    };
    let path = "/apis/apps/v1/namespaces/ns/deployments";
    let created = api.ok("POST", path, deployment("created")).await;
    let (code, applied) = api.patch(&format!("{path}/applied?fieldManager=m"), APPLY, deployment("applied")).await;
    assert_eq!(code, 201, "{applied}");
    assert_eq!(applied["spec"], created["spec"]);
    let (code, again) = api.patch(&format!("{path}/applied?fieldManager=m"), APPLY, deployment("applied")).await;
    assert_eq!((code, &again["metadata"]["resourceVersion"]), (200, &applied["metadata"]["resourceVersion"]), "nothing changed");
}

#[tokio::test]
async fn custom_resources_are_served_as_others() {
    let api = Api::start().await;
    let definition = json!({"metadata": {"name": "backups.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "backups", "kind": "Backup", "listKind": "BackupList", "singular": "backup", "shortNames": ["bk"]},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "additionalPrinterColumns": [{"name": "Where", "type": "string", "jsonPath": ".spec.where"}],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "required": ["where"], "properties": {"where": {"type": "string"}, "n": {"type": "integer", "default": 3}}},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}});
    api.ok("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    let path = "/apis/example.com/v1/namespaces/ns/backups";
    until(async || api.call("GET", path, Value::Null).await.0 == 200).await;
    let body = |spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Backup", "metadata": {"name": "b"}, "spec": spec});
    assert_eq!(api.call("POST", path, body(json!({}))).await.0, 422);
    assert_eq!(api.call("POST", path, body(json!({"where": 5}))).await.0, 422);
    let created = api.ok("POST", path, body(json!({"where": "tape", "unknown": 1}))).await;
    assert_eq!((&created["spec"], &created["metadata"]["generation"]), (&json!({"where": "tape", "n": 3}), &json!(1)));
    let one = format!("{path}/b");
    let (_, changed) =
        api.patch(&format!("{one}/status"), MERGE, json!({"status": {"done": true}, "spec": {"where": "disk"}})).await;
    assert_eq!((&changed["status"], &changed["spec"]["where"]), (&json!({"done": true}), &json!("tape")));
    let (code, applied) = api.patch(&format!("{one}?fieldManager=m&force=true"), APPLY, body(json!({"where": "cloud"}))).await;
    assert_eq!((code, applied["spec"]["where"].as_str()), (200, Some("cloud")), "{applied}");
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let (_, table) = Answer::read(api.raw(&User::server(), "GET", path, &accept, Bytes::new()).await).await.code_and_body();
    assert_eq!(table["rows"][0]["cells"], json!(["b", "cloud"]));
    let groups = api.ok("GET", "/apis/example.com/v1", Value::Null).await;
    assert_eq!(groups["resources"][0]["shortNames"], json!(["bk"]));
    api.ok("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/backups.example.com", Value::Null).await;
    until(async || api.call("GET", path, Value::Null).await.0 == 404).await;
}

#[tokio::test]
async fn whoever_cannot_prove_themselves_gets_in_as_nobody() {
    let api = Api::with(|config| config.modes = vec![ModeName::Rbac]).await;
    let call = async |headers: &[(&str, &str)], path: &str| {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(http_body_util::Full::new(Bytes::new())).unwrap();
        Answer::read(api.server.handle(request).await).await.code_and_body()
    };
    assert_eq!(call(&[], "/healthz").await.0, 200);
    let (code, status) = call(&[], PODS).await;
    assert_eq!(code, 403);
    assert!(
        status["message"].as_str().unwrap().starts_with("pods is forbidden: User \"system:anonymous\" cannot list"),
        "{status}"
    );
    for token in ["Bearer nonsense", "Bearer a.b.c", "Bearer abcdef.0123456789abcdef", "Bearer eyJhbGciOiJub25lIn0.e30."] {
        assert_eq!(call(&[("authorization", token)], PODS).await.0, 401, "{token}");
    }
    // Headers that only a trusted proxy may send mean nothing from anybody else.
    assert_eq!(call(&[("x-remote-user", "admin"), ("x-remote-group", "system:masters")], PODS).await.0, 403);
    assert_eq!(call(&[("impersonate-user", "admin"), ("impersonate-group", "system:masters")], PODS).await.0, 403);
}

#[tokio::test]
async fn a_namespace_can_come_with_its_first_object() {
    let api = Api::with(|config| config.enable_admission = vec!["NamespaceAutoProvision".to_owned()]).await;
    let map = || config_map("a", json!({}));
    assert_eq!(api.call("POST", "/api/v1/namespaces/new/configmaps?dryRun=All", map()).await.0, 404);
    assert_eq!(api.call("POST", "/api/v1/namespaces/new/configmaps", map()).await.0, 201);
    assert_eq!(api.ok("GET", "/api/v1/namespaces/new", Value::Null).await["status"]["phase"], "Active");
    let (code, answer) = api.call("POST", "/api/v1/namespaces/Not_A_Name/configmaps", map()).await;
    assert!(code == 403 || code == 404, "{answer}");
}
