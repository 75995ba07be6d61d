//! What flags change, from the command line to the answer.

use clap::Parser;
use http::{HeaderMap, Request};
use kube_apiserver::{ApiServer, Args, config};
use serde_json::{Value, json};

use crate::harness::Answer;

struct Started {
    server: ApiServer,
    shutdown: daemon::Shutdown,
}

impl Drop for Started {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Started {
    async fn with(flags: &[&str]) -> Self {
        daemon::install_crypto();
        let always =
            ["kube-apiserver", "--storage-backend=memory", "--advertise-address=10.0.0.1", "--authorization-mode=AlwaysAllow"];
        let args = Args::parse_from(always.iter().chain(flags));
        let shutdown = daemon::Shutdown::new();
        let config = config::load(&args, shutdown.clone()).await.expect("flags that go together");
        let server = ApiServer::start(config, shutdown.clone()).await.expect("a valid configuration");
        server.ready().await;
        Self { server, shutdown }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.body(http_body_util::Full::new(bytes::Bytes::from(body))).expect("a request");
        Answer::read(self.server.handle(request).await).await
    }
}

#[tokio::test]
async fn tokens_of_a_file_and_headers_for_browsers() {
    let path = std::env::temp_dir().join(format!("tokens-{}.csv", std::process::id()));
    std::fs::write(&path, "secret,ann,7,\"dev,ops\"\n").unwrap();
    let file = format!("--token-auth-file={}", path.display());
    let strict = "--strict-transport-security-directives=max-age=60,includeSubDomains";
    let api = Started::with(&[&file, strict, "--cors-allowed-origins=^https://ui$", "--external-hostname=api.example"]).await;
    std::fs::remove_file(path).unwrap();

    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = api.ask("POST", reviews, &[("authorization", "Bearer secret")], review.clone()).await;
    let user = &answer.body["status"]["userInfo"];
    assert_eq!((&user["username"], &user["uid"]), (&json!("ann"), &json!("7")), "{}", answer.body);
    assert_eq!(user["groups"], json!(["dev", "ops", "system:authenticated"]));
    assert_eq!(api.ask("POST", reviews, &[("authorization", "Bearer other")], review).await.code, 401);
    assert_eq!(
        api.ask("GET", "/api", &[], Value::Null).await.body["serverAddressByClientCIDRs"][0]["serverAddress"],
        "api.example:6443"
    );

    let text = |headers: &HeaderMap, name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let plain = api.ask("GET", "/version", &[], Value::Null).await.headers;
    assert_eq!(text(&plain, "strict-transport-security").as_deref(), Some("max-age=60; includeSubDomains"));
    assert_eq!(text(&plain, "access-control-allow-origin"), None);
    let page = api.ask("GET", "/version", &[("origin", "https://ui")], Value::Null).await.headers;
    assert_eq!(text(&page, "access-control-allow-origin").as_deref(), Some("https://ui"));
    // Who asks whether it may ask has shown no credentials yet.
    let preflight =
        api.ask("OPTIONS", "/api/v1/pods", &[("origin", "https://ui"), ("authorization", "Bearer no")], Value::Null).await;
    assert_eq!((preflight.code, text(&preflight.headers, "access-control-allow-origin").as_deref()), (204, Some("https://ui")));
    let stranger = api.ask("OPTIONS", "/api/v1/pods", &[("origin", "https://evil")], Value::Null).await;
    assert_eq!((stranger.code, text(&stranger.headers, "access-control-allow-origin")), (405, None));
}

#[tokio::test]
async fn how_long_events_and_tolerations_last() {
    let tolerations = ["--default-not-ready-toleration-seconds=60", "--default-unreachable-toleration-seconds=-1"];
    let api =
        Started::with(&[tolerations[0], tolerations[1], "--event-ttl=2s", "--disable-admission-plugins=ServiceAccount"]).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pod = api.ask("POST", "/api/v1/namespaces/default/pods", &[], pod).await.body;
    let seconds = pod["spec"]["tolerations"].as_array().unwrap_or_else(|| panic!("{pod}"));
    assert_eq!(seconds.iter().map(|t| t["tolerationSeconds"].as_i64().unwrap()).collect::<Vec<_>>(), [60, -1]);

    let about = json!({"kind": "Pod", "namespace": "default", "name": "p"});
    let event = json!({"metadata": {"name": "e"}, "involvedObject": about, "reason": "r", "message": "m", "type": "Normal"});
    let events = "/api/v1/namespaces/default/events";
    assert_eq!(api.ask("POST", events, &[], event).await.code, 201);
    let path = format!("{events}/e");
    assert_eq!(api.ask("GET", &path, &[], Value::Null).await.code, 200);
    let gone = async {
        while api.ask("GET", &path, &[], Value::Null).await.code != 404 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), gone).await.expect("the event expires");
}

#[tokio::test]
async fn what_cannot_be_meant() {
    for (flag, why) in [
        ("--event-ttl=0s", "--event-ttl must be longer than a second"),
        ("--cors-allowed-origins=example.com", "does not pin to start/end of host"),
        ("--strict-transport-security-directives=max-age", "allowed values: max-age=expireTime"),
        ("--token-auth-file=/no/such/file", "reading /no/such/file"),
    ] {
        let args = Args::parse_from(["kube-apiserver", "--storage-backend=memory", "--advertise-address=10.0.0.1", flag]);
        let refused = config::load(&args, daemon::Shutdown::new()).await.err().unwrap_or_else(|| panic!("{flag} is taken"));
        assert!(format!("{refused:#}").contains(why), "{flag}: {refused:#}");
    }
}
