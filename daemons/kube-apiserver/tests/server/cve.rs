//! Each class of known vulnerabilities of API servers as a test: what was possible once is refused here.
//!
//! Some stand beside the code that refuses:
//!
//! | vulnerability | test |
//! |---|---|
//! | CVE-2018-1002105: a connection that was not upgraded stays open to a backend | `proxy/tests.rs`: `exec_that_cannot_be` |
//! | CVE-2018-1002102, CVE-2020-8559: a kubelet redirects the server | `proxy/forward.rs`: `redirects_stay_inside`; `proxy/tests.rs`: `exec_that_cannot_be` |
//! | CVE-2020-8562, CVE-2022-3294: proxies to the server's own network | `proxy/target.rs`: `addresses_that_are_refused`; `proxy/tests.rs`: `the_servers_own_network_is_out_of_reach` |
//! | CVE-2020-8561: a webhook redirects the server | `tests/server/webhooks.rs`: `failures` |
//! | CVE-2022-3172: an aggregated server redirects clients | `aggregation/proxy.rs`: `redirects_do_not_leave`; `tests/server/aggregation.rs`: `another_server_is_reached` |
//! | CVE-2020-8554: external addresses of Services | `admission/external_ips.rs`: `only_fewer` |
//! | CVE-2023-2727, CVE-2023-2728, CVE-2024-3177: containers and references that admission forgets | `machinery/pod`: one visitor, held against the schema; `admission/mountable_secrets.rs` |
//! | CVE-2025-4563: a node takes devices by a mirror pod | `admission/node_restriction.rs`: `pods` |
//! | GHSA-6vch-q96h-7gc3: TLS handshakes without end | `lib/daemon/src/http.rs` |

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use kube_apiserver::authn::user::User;
use kube_apiserver::respond::Body;
use kube_apiserver::server::ModeName;
use serde_json::{Value, json};

use crate::harness::{Api, CONFIG_MAPS};

impl Api {
    /// A request as it comes from the network, where nobody says who it is.
    async fn anonymous(&self, request: Request<&'static str>) -> Response<Body> {
        let request = request.map(|body| http_body_util::Full::new(Bytes::from_static(body.as_bytes())));
        self.server.handle(request).await
    }
}

async fn with_widgets(scope: &str) -> Api {
    let api = Api::start().await;
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": scope, "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let (code, answer) = api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    assert_eq!(code, 201, "{answer}");
    let list = "/apis/example.com/v1/widgets";
    let begun = Instant::now();
    while api.call("GET", list, Value::Null).await.0 != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the resource is not served");
        tokio::task::yield_now().await;
    }
    api
}

/// CVE-2019-11247: objects of a cluster-scoped custom resource were reachable below a namespace.
#[tokio::test]
async fn cve_2019_11247_cluster_scoped_objects_below_a_namespace() {
    let api = with_widgets("Cluster").await;
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    assert_eq!(api.call("POST", "/apis/example.com/v1/widgets", widget).await.0, 201);
    for (method, path) in [("GET", "/w"), ("DELETE", "/w"), ("GET", ""), ("GET", "?watch=1")] {
        let path = format!("/apis/example.com/v1/namespaces/ns/widgets{path}");
        assert_eq!(api.call(method, &path, Value::Null).await.0, 404, "{method} {path}");
    }
    assert_eq!(api.call("GET", "/apis/example.com/v1/widgets/w", Value::Null).await.0, 200);
}

/// CVE-2022-3162: names with path segments reached the objects of another resource of the same group.
#[tokio::test]
async fn cve_2022_3162_names_are_no_paths() {
    let api = with_widgets("Namespaced").await;
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    assert_eq!(api.call("POST", "/apis/example.com/v1/namespaces/ns/widgets", widget).await.0, 201);
    for path in [
        "/apis/example.com/v1/namespaces/%2e%2e/widgets/w",
        "/apis/example.com/v1/namespaces/ns/widgets/..%2fwidgets%2fw",
        "/apis/example.com/v1/namespaces/ns/gadgets/..%2fwidgets%2fns%2fw",
        "/apis/example.com/v1/namespaces/..%2fwidgets%2fns/gadgets/w",
        "/api/v1/namespaces/ns%2f..%2f..%2fsecrets/configmaps/x",
    ] {
        let (code, answer) = api.call("GET", path, Value::Null).await;
        let refused = answer["kind"] == "Status" || answer == "404 page not found\n";
        assert!((400..=405).contains(&code) && refused, "{path}: {code} {answer}");
    }
    for name in ["..", ".", "a/b", "a%2fb"] {
        let (code, answer) = api.call("POST", CONFIG_MAPS, json!({"metadata": {"name": name}})).await;
        assert_eq!(code, 422, "{name}: {answer}");
    }
}

/// CVE-2019-11253: YAML whose aliases multiply (a billion laughs) took all memory.
#[tokio::test]
async fn cve_2019_11253_yaml_that_multiplies() {
    let api = Api::start().await;
    let mut bomb = String::from(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\ndata:\n  a: &a [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n",
    );
    for (level, name) in ('b'..='j').enumerate() {
        let earlier = char::from(b'a' + level as u8);
        bomb.push_str(&format!("  {name}: &{name} [{}]\n", vec![format!("*{earlier}"); 9].join(",")));
    }
    let begun = Instant::now();
    let (code, answer) = api.bytes(&User::server(), "POST", CONFIG_MAPS, "application/yaml", bomb).await;
    assert!((400..500).contains(&code), "{code} {answer}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// CVE-2019-11254: YAML that is slow to read held up the server.
#[tokio::test]
async fn cve_2019_11254_yaml_that_is_slow() {
    let api = Api::start().await;
    for body in [format!("a: {}", "[".repeat(50_000)), format!("{}a", "- ".repeat(50_000)), format!("? {}", "{".repeat(50_000))] {
        let begun = Instant::now();
        let (code, _) = api.bytes(&User::server(), "POST", CONFIG_MAPS, "application/yaml", body).await;
        assert!((400..500).contains(&code), "{code}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

/// CVE-2019-1002100: a JSON patch of very many operations took all memory.
#[tokio::test]
async fn cve_2019_1002100_patches_of_many_operations() {
    let api = Api::start().await;
    api.call("POST", CONFIG_MAPS, json!({"metadata": {"name": "a"}})).await;
    let operation = json!({"op": "add", "path": "/data", "value": {"k": "v"}}).to_string();
    let patch = format!("[{}]", vec![operation; 10_001].join(","));
    let path = format!("{CONFIG_MAPS}/a");
    let (code, answer) = api.bytes(&User::server(), "PATCH", &path, "application/json-patch+json", patch).await;
    assert_eq!(code, 413, "{answer}");
    let copies = json!([{"op": "add", "path": "/data", "value": {"k": "x".repeat(100_000)}}]);
    let mut operations = copies.as_array().cloned().unwrap_or_default();
    operations.extend((0..9000).map(|n| json!({"op": "copy", "from": "/data/k", "path": format!("/data/k{n}")})));
    let patch = Value::Array(operations).to_string();
    let (code, _) = api.bytes(&User::server(), "PATCH", &path, "application/json-patch+json", patch).await;
    assert!((400..500).contains(&code), "{code}");
}

/// CVE-2020-8551, CVE-2020-8552: bodies without a bound.
#[tokio::test]
async fn cve_2020_8552_bodies_are_bounded() {
    let api = Api::start().await;
    let body = json!({"metadata": {"name": "big"}, "data": {"k": "x".repeat(3 * 1024 * 1024)}});
    assert_eq!(api.call("POST", CONFIG_MAPS, body).await.0, 413);
}

/// The nesting of a body is bounded too, in every form it can have.
#[tokio::test]
async fn deep_bodies_do_not_end_the_server() {
    let api = Api::start().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let object = format!(r#"{{"metadata":{{"name":"a"}},"data":{deep}}}"#);
    let path = format!("{CONFIG_MAPS}/a");
    let as_protobuf = |body: &str| [b"k8s\0".as_slice(), body.as_bytes()].concat();
    for (method, path, content_type, body) in [
        ("POST", CONFIG_MAPS, "application/json", object.clone().into_bytes()),
        ("POST", CONFIG_MAPS, "application/yaml", object.clone().into_bytes()),
        ("POST", CONFIG_MAPS, "application/vnd.kubernetes.protobuf", as_protobuf(&deep)),
        ("PATCH", &path, "application/merge-patch+json", object.clone().into_bytes()),
        ("PATCH", &path, "application/apply-patch+yaml", object.clone().into_bytes()),
    ] {
        let code = api.bytes(&User::server(), method, path, content_type, body).await.0;
        assert!((400..500).contains(&code), "{method} {content_type}: {code}");
    }
    assert_eq!(api.call("GET", CONFIG_MAPS, Value::Null).await.0, 200);
}

/// A patch of a few megabytes nested an object deeper than the stack: the server ended when it dropped it. What may be stored
/// may also be changed again.
#[tokio::test]
async fn patches_do_not_nest_without_end() {
    const REVISIONS: &str = "/apis/apps/v1/namespaces/ns/controllerrevisions";
    let api = Api::start().await;
    let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"a": inner}));
    let revision = |name: &str, data: Value| json!({"metadata": {"name": name}, "revision": 1, "data": data});
    api.ok("POST", REVISIONS, revision("x", json!({"x": 1}))).await;
    let deepen = [
        json!({"op": "add", "path": "/data/y", "value": nested(90)}),
        json!({"op": "move", "from": "/data/x", "path": format!("/data/y{}/z", "/a".repeat(90))}),
        json!({"op": "move", "from": "/data/y", "path": "/data/x"}),
    ];
    for times in [2, 1000] {
        let patch = Value::Array(vec![deepen.clone(); times].concat());
        let (code, answer) = api.patch(&format!("{REVISIONS}/x"), "application/json-patch+json", patch).await;
        assert!((400..500).contains(&code), "{times}: {code} {answer}");
    }
    for levels in 90..=130 {
        let path = format!("{REVISIONS}/r{levels}");
        let (code, answer) = api.call("POST", REVISIONS, revision(&format!("r{levels}"), nested(levels))).await;
        match code {
            201 => {
                api.ok("PATCH", &path, json!({"metadata": {"labels": {"a": "b"}}})).await;
                api.ok("DELETE", &path, Value::Null).await;
            }
            code => assert!((400..500).contains(&code), "{levels}: {code} {answer}"),
        }
    }
}

/// A WebSocket begins with GET; running a command in a pod is a `create` all the same (kubernetes#83465).
#[tokio::test]
async fn exec_over_a_websocket_needs_create() {
    let api = Api::with(|config| config.modes = vec![ModeName::Rbac]).await;
    let role = json!({"metadata": {"name": "reader"}, "rules": [{"apiGroups": [""], "resources": ["pods", "pods/exec"], "verbs": ["get"]}]});
    let binding = json!({"metadata": {"name": "reader"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"}]});
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/ns";
    assert_eq!(api.call("POST", &format!("{RBAC}/roles"), role).await.0, 201);
    assert_eq!(api.call("POST", &format!("{RBAC}/rolebindings"), binding).await.0, 201);
    let bob = User::new("bob", &["system:authenticated"]);
    let begun = Instant::now();
    // 404 once the permission counts: there is no such pod.
    while api.raw(&bob, "GET", "/api/v1/namespaces/ns/pods/p", &[], "").await.status() != 404 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the binding does not count");
        tokio::task::yield_now().await;
    }
    let exec = api.raw(&bob, "GET", "/api/v1/namespaces/ns/pods/p/exec?command=id", &[], "").await;
    assert_eq!(exec.status(), 403);
}

/// CVE-2021-25735, CVE-2025-5187: a node that changes of itself what others decide by.
#[tokio::test]
async fn cve_2025_5187_a_node_does_not_end_itself() {
    let api = Api::with(|config| {
        config.modes = vec![ModeName::Node, ModeName::Rbac];
        config.enable_admission = vec!["NodeRestriction".to_owned()];
    })
    .await;
    let node = User::new("system:node:n1", &["system:nodes", "system:authenticated"]);
    assert_eq!(api.call("POST", "/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await.0, 201);
    assert_eq!(api.call("POST", CONFIG_MAPS, json!({"metadata": {"name": "owner"}})).await.0, 201);
    for patch in [
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "u"}]}}),
        json!({"metadata": {"labels": {"node-restriction.kubernetes.io/tier": "trusted"}}}),
        json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
    ] {
        let content_type = "application/merge-patch+json";
        let (code, answer) = api.bytes(&node, "PATCH", "/api/v1/nodes/n1", content_type, patch.to_string()).await;
        assert_eq!(code, 403, "{patch}: {answer}");
    }
    assert_eq!(api.bytes(&node, "DELETE", "/api/v1/nodes/n1", "", String::new()).await.0, 403);
}

/// Headers that a front proxy would send make nobody a user, when they do not come from it.
#[tokio::test]
async fn names_in_headers_are_not_believed() {
    let api = Api::with(|config| config.modes = vec![ModeName::Rbac]).await;
    for (name, value) in [("x-remote-user", "admin"), ("impersonate-user", "admin"), ("authorization", "Bearer x")] {
        let request = Request::builder().uri(CONFIG_MAPS).header(name, value).header("x-remote-group", "system:masters");
        let code = api.anonymous(request.body("").unwrap()).await.status().as_u16();
        assert!(matches!(code, 401 | 403), "{name}: {code}");
    }
}

/// CVE-2019-11248: what tells about the process is not for everybody.
#[tokio::test]
async fn cve_2019_11248_no_inspection_for_anonymous_clients() {
    let api = Api::with(|config| config.modes = vec![ModeName::Rbac]).await;
    for path in ["/metrics", "/debug/pprof/heap", "/logs", "/flagz", "/statusz", "/configz"] {
        let request = Request::builder().uri(path).body("").unwrap();
        assert_eq!(api.anonymous(request).await.status(), 403, "{path}");
    }
    let health = Request::builder().uri("/livez").body("").unwrap();
    assert_eq!(api.anonymous(health).await.status(), 200);
}

/// CVE-2021-25737: endpoints in the node's own network, where others trust whoever comes.
#[tokio::test]
async fn cve_2021_25737_endpoints_are_not_the_nodes_own() {
    let api = Api::start().await;
    for (address, expected) in [
        ("10.0.0.1", 201),
        ("127.0.0.1", 422),
        ("169.254.169.254", 422),
        ("224.0.0.1", 422),
        ("::1", 422),
        ("fe80::1", 422),
        ("fd00::1", 201),
    ] {
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        let slice = json!({"metadata": {"generateName": "s-"}, "addressType": family, "endpoints": [{"addresses": [address]}]});
        let (code, answer) = api.call("POST", "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices", slice).await;
        assert_eq!(code, expected, "{address}: {answer}");
        let endpoints = json!({"metadata": {"generateName": "e-"}, "subsets": [{"addresses": [{"ip": address}]}]});
        let (code, answer) = api.call("POST", "/api/v1/namespaces/ns/endpoints", endpoints).await;
        assert_eq!(code, expected, "{address}: {answer}");
    }
}

/// CVE-2023-2728, CVE-2024-3177: Secrets that an account may not mount, through ephemeral containers and `envFrom`.
#[tokio::test]
async fn cve_2024_3177_no_way_to_a_secret_is_forgotten() {
    let api = Api::start().await;
    let account = json!({"metadata": {"name": "narrow", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
        "automountServiceAccountToken": false, "secrets": [{"name": "mine"}]});
    assert_eq!(api.call("POST", "/api/v1/namespaces/ns/serviceaccounts", account).await.0, 201);
    let from = |secret: &str| json!([{"secretRef": {"name": secret}}]);
    let pod = |secret: &str| {
        json!({"metadata": {"generateName": "p-"}, "spec": {"serviceAccountName": "narrow",
            "containers": [{"name": "c", "image": "i", "envFrom": from(secret)}]}})
    };
    const PODS: &str = "/api/v1/namespaces/ns/pods";
    let begun = Instant::now();
    // 201 once the account is known to admission.
    let created = loop {
        let (code, created) = api.call("POST", PODS, pod("mine")).await;
        if code == 201 {
            break created;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "the account does not count: {created}");
        tokio::task::yield_now().await;
    };
    let (code, refused) = api.call("POST", PODS, pod("theirs")).await;
    assert_eq!(code, 403);
    assert!(refused["message"].as_str().unwrap().contains("container c with envFrom referencing secret.secretName=\"theirs\""));
    let path = format!("{PODS}/{}/ephemeralcontainers", created["metadata"]["name"].as_str().unwrap());
    let more = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i", "envFrom": from("theirs")}]}});
    let content_type = "application/strategic-merge-patch+json";
    let (code, refused) = api.bytes(&User::server(), "PATCH", &path, content_type, more.to_string()).await;
    assert_eq!(code, 403, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("ephemeral container e with envFrom"));
}

/// CVE-2019-11250, CVE-2020-8563 and others: credentials and Secrets in logs.
#[tokio::test]
async fn cve_2019_11250_no_secret_is_logged() {
    const CANARY: &str = "c4n4ry-0f-4-s3cr3t";
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let api = Api::with(|config| config.modes = vec![ModeName::Rbac]).await;
    let encoded = "YzRuNHJ5LTBmLTQtczNjcjN0";
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": CANARY}});
    assert_eq!(api.call("POST", "/api/v1/namespaces/ns/secrets", secret.clone()).await.0, 201);
    // Refused: invalid, a conflict, not allowed, unreadable.
    let mut wrong = secret.clone();
    wrong["metadata"]["name"] = json!("WRONG");
    assert_eq!(api.call("POST", "/api/v1/namespaces/ns/secrets", wrong).await.0, 422);
    assert_eq!(api.call("POST", "/api/v1/namespaces/ns/secrets", secret).await.0, 409);
    let body = format!("{{\"data\": {{\"k\": \"{CANARY}\"");
    assert_eq!(api.bytes(&User::server(), "PUT", "/api/v1/namespaces/ns/secrets/s", "application/json", body).await.0, 400);
    for token in [CANARY, "abcdef.c4n4ry0f4s3cr3t0"] {
        let request = Request::builder().uri(CONFIG_MAPS).header("authorization", format!("Bearer {token}")).body("").unwrap();
        assert_eq!(api.anonymous(request).await.status(), 401);
    }
    tracing::info!(heard = true, "the log is heard");
    let lines = log.0.lock().unwrap().clone();
    assert!(lines.iter().any(|line| line.contains("heard")));
    for line in &lines {
        assert!(!line.contains(CANARY) && !line.contains(encoded) && !line.contains("c4n4ry0f4s3cr3t0"), "{line}");
    }
}

/// Everything that is logged on this thread, at every level.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event()
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// CVE-2023-44487: HTTP/2 streams that are opened and taken back at once.
#[tokio::test]
async fn cve_2023_44487_rapid_reset() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    struct Running;
    impl Drop for Running {
        fn drop(&mut self) {
            RUNNING.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = daemon::Shutdown::new();
    let limits = daemon::http::Limits { streams_per_connection_max: 10, ..Default::default() };
    let serving = tokio::spawn(daemon::http::serve(listener, None, limits, shutdown.clone(), |_request| async {
        let now = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
        MOST.fetch_max(now, Ordering::SeqCst);
        let _running = Running;
        std::future::pending::<()>().await;
        unreachable!("the handler never answers")
    }));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..2000 {
        let request = Request::builder().uri("http://x/").body(http_body_util::Empty::<Bytes>::new()).unwrap();
        if sender.ready().await.is_err() {
            break;
        }
        let mut answer = Box::pin(sender.send_request(request));
        // Sent, and dropped before there is an answer: that resets the stream.
        let _ = futures::poll!(answer.as_mut());
        tokio::task::yield_now().await;
    }
    drop(sender);
    connection.abort();
    let begun = Instant::now();
    while RUNNING.load(Ordering::SeqCst) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "requests that were taken back go on");
        tokio::task::yield_now().await;
    }
    assert!(MOST.load(Ordering::SeqCst) <= 10, "{MOST:?}");
    shutdown.trigger();
    serving.await.unwrap();
}
