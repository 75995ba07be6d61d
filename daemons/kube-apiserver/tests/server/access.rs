//! Who may do what in a new cluster: the golden matrix user × verb × kind (`access.txt`), from the bootstrap roles and the
//! Node authorizer. `KCTL_UPDATE=1` writes it anew; a change of it is a change of rights, to be read line by line.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use kube_apiserver::authn::user::User;
use kube_apiserver::authz::{Attributes, ResourceAttributes};
use kube_apiserver::server::ModeName;
use kube_apiserver::{ApiServer, Config};
use serde_json::{Value, json};
use store::Memory;

const GOLDEN: &str = include_str!("access.txt");

/// Verbs by the letter that stands for them.
const VERBS: [(char, &str); 12] = [
    ('g', "get"),
    ('l', "list"),
    ('w', "watch"),
    ('c', "create"),
    ('u', "update"),
    ('p', "patch"),
    ('d', "delete"),
    ('D', "deletecollection"),
    ('b', "bind"),
    ('e', "escalate"),
    ('i', "impersonate"),
    ('a', "approve"),
];

/// group/resource
const RESOURCES: [&str; 30] = [
    "/pods",
    "/pods/exec",
    "/pods/log",
    "/pods/status",
    "/pods/eviction",
    "/secrets",
    "/configmaps",
    "/services",
    "/endpoints",
    "/serviceaccounts",
    "/serviceaccounts/token",
    "/namespaces",
    "/nodes",
    "/nodes/status",
    "/nodes/proxy",
    "/nodes/metrics",
    "/persistentvolumes",
    "/persistentvolumeclaims",
    "/events",
    "/users",
    "apps/deployments",
    "batch/jobs",
    "rbac.authorization.k8s.io/roles",
    "rbac.authorization.k8s.io/rolebindings",
    "rbac.authorization.k8s.io/clusterroles",
    "certificates.k8s.io/certificatesigningrequests",
    "coordination.k8s.io/leases",
    "authentication.k8s.io/tokenreviews",
    "authorization.k8s.io/selfsubjectaccessreviews",
    "admissionregistration.k8s.io/mutatingwebhookconfigurations",
];

const PATHS: [&str; 6] = ["/version", "/healthz", "/metrics", "/api", "/openid/v1/jwks", "/debug/pprof"];

fn users() -> Vec<(&'static str, User)> {
    const ALL: &str = "system:authenticated";
    vec![
        ("administrator", User::new("admin", &["system:masters", ALL])),
        ("controller-manager", User::new("system:kube-controller-manager", &[ALL])),
        ("scheduler", User::new("system:kube-scheduler", &[ALL])),
        ("proxy", User::new("system:kube-proxy", &[ALL])),
        ("node", User::new("system:node:n1", &["system:nodes", ALL])),
        ("namespace-controller", User::service_account("kube-system", "namespace-controller", "1")),
        ("deployment-controller", User::service_account("kube-system", "deployment-controller", "1")),
        ("service-account", User::service_account("a", "default", "1")),
        ("admin-of-a", User::new("ann", &[ALL])),
        ("editor-of-a", User::new("eve", &[ALL])),
        ("viewer-of-a", User::new("vic", &[ALL])),
        ("monitoring", User::new("mon", &["system:monitoring", ALL])),
        ("anybody", User::new("bob", &[ALL])),
        ("anonymous", User::anonymous()),
    ]
}

async fn start() -> (ApiServer, daemon::Shutdown) {
    let mut config = Config::for_tests(Arc::new(Memory::new()));
    config.modes = vec![ModeName::Node, ModeName::Rbac];
    let shutdown = daemon::Shutdown::new();
    let server = ApiServer::start(config, shutdown.clone()).await.expect("a valid configuration");
    server.ready().await;
    let create = async |path: &str, object: Value| {
        let request = Request::post(path).header("content-type", "application/json").body(Bytes::from(object.to_string()));
        let response = server.handle_as(User::server(), request.unwrap()).await;
        assert_eq!(response.status(), 201, "{path}");
    };
    create("/api/v1/namespaces", json!({"metadata": {"name": "a"}})).await;
    for (user, role) in [("vic", "view"), ("eve", "edit"), ("ann", "admin")] {
        let group = "rbac.authorization.k8s.io";
        let binding = json!({"metadata": {"name": role}, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}]});
        create("/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings", binding).await;
    }
    // The authorizer follows the store: the last binding counts a moment later.
    let ann = User::new("ann", &[]);
    let question = ResourceAttributes { resource: "pods", namespace: "a", ..Default::default() };
    let begun = Instant::now();
    while !server.server().authorizer.authorize(&Attributes::resource(&ann, "create", question)).allowed() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the bindings do not count");
        tokio::task::yield_now().await;
    }
    (server, shutdown)
}

/// The letters of the verbs that are allowed, `-` for none.
fn letters(server: &ApiServer, user: &User, resource: &str, namespace: &str) -> String {
    let (group, resource) = resource.split_once('/').expect("group/resource");
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let name = if resource == "nodes" { "n1" } else { "x" };
    let allowed = |verb: &str| {
        let named = matches!(verb, "list" | "watch" | "create" | "deletecollection") && subresource.is_empty();
        let question = ResourceAttributes {
            group,
            resource,
            subresource,
            namespace,
            name: if named { "" } else { name },
            ..Default::default()
        };
        server.server().authorizer.authorize(&Attributes::resource(user, verb, question)).allowed()
    };
    let letters: String = VERBS.iter().filter(|(_, verb)| allowed(verb)).map(|(letter, _)| *letter).collect();
    if letters.is_empty() { "-".to_owned() } else { letters }
}

fn matrix(server: &ApiServer) -> String {
    let mut text = String::from(
        "# user resource: verbs in namespace a, in namespace b, in all (see access.rs for the letters); or paths that may be read\n",
    );
    for (title, user) in users() {
        for resource in RESOURCES {
            let [a, b, all] = ["a", "b", ""].map(|namespace| letters(server, &user, resource, namespace));
            if [&a, &b, &all].iter().any(|letters| *letters != "-") {
                let _ = writeln!(text, "{title} {}: {a} {b} {all}", resource.trim_start_matches('/'));
            }
        }
        let may = |path: &&&str| {
            let question = Attributes { user: Some(&user), verb: "get", path, ..Attributes::default() };
            server.server().authorizer.authorize(&question).allowed()
        };
        let paths: Vec<&str> = PATHS.iter().filter(may).copied().collect();
        let _ = writeln!(text, "{title} get {}", if paths.is_empty() { "-".to_owned() } else { paths.join(" ") });
    }
    text
}

#[tokio::test]
async fn the_matrix() {
    let (server, shutdown) = start().await;
    let got = matrix(&server);
    shutdown.trigger();
    if std::env::var_os("KCTL_UPDATE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/access.txt"), &got).expect("the golden file");
        return;
    }
    for (got, golden) in got.lines().zip(GOLDEN.lines()) {
        assert_eq!(got, golden);
    }
    assert_eq!(got.lines().count(), GOLDEN.lines().count());
}
