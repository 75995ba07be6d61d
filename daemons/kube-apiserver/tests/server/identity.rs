//! Tokens, reviews, the audit log and encryption at rest, as clients and administrators see them.

use std::io::Write;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use daemon::reload::Reloading;
use http::Request;
use kube_apiserver::Config;
use kube_apiserver::authn::service_account::ServiceAccountTokens;
use kube_apiserver::authn::user::User;
use kube_apiserver::encryption::{self, Encryption};
use kube_apiserver::filters::audit::Audit;
use kube_apiserver::filters::audit::policy::Policy;
use pki::{Key, TokenSigner, TokenVerifier};
use serde_json::{Value, json};
use store::{Memory, Storage, Transformed};

use crate::harness::{Answer, Api};

const ISSUER: &str = "https://kubernetes.default.svc";

impl Api {
    /// With tokens, and the service account `bot`.
    async fn issuing(change: impl FnOnce(&mut Config)) -> Self {
        let signer = TokenSigner::new(&Key::generate().unwrap()).unwrap();
        let api = Self::with(|config| {
            config.authentication.api_audiences = vec![ISSUER.to_owned()];
            config.authentication.service_accounts = Some(ServiceAccountTokens {
                issuers: vec![ISSUER.to_owned()],
                keys: TokenVerifier::new(vec![signer.public_key().clone()]),
                api_audiences: vec![ISSUER.to_owned()],
            });
            config.token_signer = Some(signer);
            change(config);
        })
        .await;
        api.ok("POST", "/api/v1/namespaces/ns/serviceaccounts", json!({"metadata": {"name": "bot"}})).await;
        api
    }

    async fn token(&self, spec: Value) -> Value {
        self.ok("POST", "/api/v1/namespaces/ns/serviceaccounts/bot/token", json!({"spec": spec})).await
    }

    async fn review(&self, token: &Value, audiences: Value) -> Value {
        let review = json!({"spec": {"token": token, "audiences": audiences}});
        self.ok("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review).await["status"].clone()
    }
}

#[tokio::test]
async fn a_token_lives_as_long_as_what_it_is_bound_to() {
    let api = Api::issuing(|_| {}).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "bot", "nodeName": "n1",
        "containers": [{"name": "c", "image": "i"}]}});
    api.ok("POST", "/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    let pod = api.ok("POST", "/api/v1/namespaces/ns/pods", pod).await;
    let bound = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": pod["metadata"]["uid"]}});
    let request = api.token(bound).await;
    assert_eq!((&request["spec"]["audiences"], &request["spec"]["expirationSeconds"]), (&json!([ISSUER]), &json!(3600)));
    let token = &request["status"]["token"];
    let status = api.review(token, Value::Null).await;
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(status["audiences"], json!([ISSUER]));
    let user = &status["user"];
    assert_eq!(user["username"], "system:serviceaccount:ns:bot");
    let extra = |name: &str| user["extra"][format!("authentication.kubernetes.io/{name}")][0].clone();
    assert_eq!((extra("pod-name"), extra("node-name")), (json!("p"), json!("n1")));
    assert_eq!(extra("pod-uid"), pod["metadata"]["uid"]);
    assert!(extra("credential-id").as_str().is_some_and(|id| id.starts_with("JTI=")));
    api.ok("DELETE", "/api/v1/namespaces/ns/pods/p?gracePeriodSeconds=0", Value::Null).await;
    // Asked for an audience, so that what is remembered does not answer.
    let status = api.review(token, json!([ISSUER])).await;
    assert_eq!(status["error"], "service account token has been invalidated");
}

#[tokio::test]
async fn tokens_are_for_their_audience() {
    let api = Api::issuing(|_| {}).await;
    let request = api.token(json!({"audiences": ["vault"], "expirationSeconds": 600})).await;
    let token = &request["status"]["token"];
    assert_eq!(api.review(token, json!(["vault", "other"])).await["audiences"], json!(["vault"]));
    let status = api.review(token, Value::Null).await;
    assert_eq!((status.get("authenticated"), status["error"].as_str().is_some()), (None, true), "{status}");
}

#[tokio::test]
async fn what_a_token_request_may_not_ask() {
    let api = Api::issuing(|_| {}).await;
    for (body, code, expected) in [
        (json!({"spec": {"expirationSeconds": 5}}), 422, "may not specify a duration less than 10 minutes"),
        (json!({"metadata": {"name": "other"}, "spec": {}}), 422, "must match the service account name if specified"),
        (json!({"metadata": {"uid": "x"}, "spec": {}}), 409, "does not match the UID of the service account"),
        (json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "none"}}}), 404, "not found"),
        (json!({"spec": {"boundObjectRef": {"kind": "Service", "apiVersion": "v1", "name": "s"}}}), 400, "cannot bind token"),
    ] {
        let (got, status) = api.call("POST", "/api/v1/namespaces/ns/serviceaccounts/bot/token", body.clone()).await;
        assert_eq!(got, code, "{body}: {status}");
        assert!(status["message"].as_str().is_some_and(|message| message.contains(expected)), "{status}");
    }
}

#[tokio::test]
async fn relying_parties_find_the_keys() {
    let api = Api::issuing(|_| {}).await;
    let configuration = api.ok("GET", "/.well-known/openid-configuration", Value::Null).await;
    assert_eq!(configuration["issuer"], ISSUER);
    assert_eq!(configuration["id_token_signing_alg_values_supported"], json!(["ES256"]));
    let keys = api.ok("GET", "/openid/v1/jwks", Value::Null).await;
    let key = pki::PublicKey::from_jwk(&keys["keys"][0]).expect("a key");
    let request = api.token(json!({})).await;
    let token = request["status"]["token"].as_str().unwrap();
    assert!(TokenVerifier::new(vec![key]).verify::<Value>(token).is_ok());
}

/// Lines written so far.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// The events about configmaps.
    fn events(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        events.filter(|event| event["objectRef"]["resource"] == "configmaps").collect()
    }
}

#[tokio::test]
async fn the_audit_log_has_what_the_policy_names() {
    let lines = Lines::default();
    let path = std::env::temp_dir().join(format!("audit-policy-{}.yaml", std::process::id()));
    std::fs::write(
        &path,
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitManagedFields: true\nrules:\n- {level: RequestResponse, verbs: [create], resources: [{group: '', resources: [configmaps]}]}\n- {level: Metadata, verbs: [watch], resources: [{group: '', resources: [configmaps]}]}\n- {level: Metadata, omitStages: [RequestReceived], verbs: [get], resources: [{group: '', resources: [configmaps]}]}\n- {level: None}\n",
    )
    .unwrap();
    let policy = Policy::from_file(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let output = lines.clone();
    let api = Api::issuing(|config| config.audit = Some(Audit::to(output, policy))).await;
    const MAPS: &str = "/api/v1/namespaces/ns/configmaps";
    api.ok("POST", MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await;
    api.call("GET", &format!("{MAPS}/none"), Value::Null).await;
    api.ok("DELETE", &format!("{MAPS}/a"), Value::Null).await;
    let events = lines.events();
    let stages: Vec<_> = events.iter().map(|e| (e["stage"].as_str().unwrap(), e["verb"].as_str().unwrap())).collect();
    assert_eq!(stages, [("RequestReceived", "create"), ("ResponseComplete", "create"), ("ResponseComplete", "get")]);
    let created = &events[1];
    assert_eq!(created["level"], "RequestResponse");
    assert_eq!(created["requestObject"]["data"], json!({"k": "v"}));
    assert_eq!(created["responseObject"]["metadata"]["name"], "a");
    assert!(created["responseObject"]["metadata"].get("managedFields").is_none());
    assert_eq!(created["objectRef"]["name"], "a");
    assert_eq!(events[2]["responseStatus"]["reason"], "NotFound");
    // A watch: begun, and ended when the client goes.
    let request = Request::get(format!("{MAPS}?watch=1")).body(Bytes::new()).unwrap();
    let watch = api.server.handle_as(User::server(), request).await;
    let stage = || lines.events().last().map(|event| event["stage"].clone());
    assert_eq!(stage(), Some(json!("ResponseStarted")));
    drop(watch);
    assert_eq!(stage(), Some(json!("ResponseComplete")));
}

#[tokio::test]
async fn secrets_are_sealed_in_the_store() {
    let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  - aesgcm: {keys: [{name: k, secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}]}\n";
    let memory: Arc<dyn Storage> = Arc::new(Memory::new());
    let below = memory.clone();
    let api = Api::issuing(move |config| {
        let configuration = encryption::config::parse(text, &encryption::kms::Plugins::default()).expect("a valid configuration");
        config.storage = Arc::new(Transformed::new(below, Arc::new(Encryption::new(Reloading::fixed(configuration)))));
    })
    .await;
    for (plural, sealed) in [("secrets", true), ("configmaps", false)] {
        let path = format!("/api/v1/namespaces/ns/{plural}");
        api.ok("POST", &path, json!({"metadata": {"name": "x"}, "data": {"k": "dmFsdWU="}})).await;
        assert_eq!(api.ok("GET", &format!("{path}/x"), Value::Null).await["data"]["k"], "dmFsdWU=");
        let kept = memory.get(&format!("/registry/{plural}/ns/x")).await.unwrap().unwrap().value;
        assert_eq!(kept.starts_with(b"k8s:enc:aesgcm:v1:k:"), sealed, "{plural}");
        assert_eq!(String::from_utf8_lossy(&kept).contains("dmFsdWU="), !sealed, "{plural}");
    }
}

/// A token as the token controller makes it.
async fn token_in_a_secret(api: &Api, signer: &TokenSigner) -> String {
    let account = api.ok("GET", "/api/v1/namespaces/ns/serviceaccounts/bot", Value::Null).await;
    let token = signer
        .sign(&json!({"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:ns:bot",
            "kubernetes.io/serviceaccount/namespace": "ns", "kubernetes.io/serviceaccount/secret.name": "bot-token",
            "kubernetes.io/serviceaccount/service-account.name": "bot",
            "kubernetes.io/serviceaccount/service-account.uid": account["metadata"]["uid"]}))
        .unwrap();
    let secret = json!({"metadata": {"name": "bot-token", "annotations": {"kubernetes.io/service-account.name": "bot"}},
        "type": "kubernetes.io/service-account-token", "stringData": {"token": token}});
    api.ok("POST", "/api/v1/namespaces/ns/secrets", secret).await;
    token
}

async fn with_token(api: &Api, token: &str) -> http::Response<kube_apiserver::respond::Body> {
    let request = Request::get("/api/v1/namespaces/ns").header("authorization", format!("Bearer {token}"));
    api.server.handle(request.body(http_body_util::Full::new(Bytes::new())).unwrap()).await
}

#[tokio::test]
async fn a_token_in_a_secret_counts_as_long_as_the_secret_has_it() {
    let signer = TokenSigner::new(&Key::generate().unwrap()).unwrap();
    let key = signer.public_key().clone();
    let api = Api::issuing(move |config| {
        config.authentication.service_accounts = Some(ServiceAccountTokens {
            issuers: vec![ISSUER.to_owned()],
            keys: TokenVerifier::new(vec![key]),
            api_audiences: vec![ISSUER.to_owned()],
        });
    })
    .await;
    let token = token_in_a_secret(&api, &signer).await;
    let review = json!({"spec": {"token": token}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let begun = std::time::Instant::now();
    // Once the caches have both.
    while with_token(&api, &token).await.status() != 200 {
        assert!(begun.elapsed().as_secs() < 10, "the token is not accepted");
        tokio::task::yield_now().await;
    }
    let reviewed = api.ok("POST", reviews, review).await;
    assert_eq!(reviewed["status"]["user"]["username"], "system:serviceaccount:ns:bot", "{reviewed}");
    // That it is used is written into the Secret.
    const SECRET: &str = "/api/v1/namespaces/ns/secrets/bot-token";
    loop {
        let secret = api.ok("GET", SECRET, Value::Null).await;
        if let Some(day) = secret["metadata"]["labels"]["kubernetes.io/legacy-token-last-used"].as_str() {
            assert!(day.parse::<jiff::civil::Date>().is_ok(), "{day}");
            break;
        }
        assert!(begun.elapsed().as_secs() < 20, "its use is not noted");
        tokio::task::yield_now().await;
    }
    // It ends with the Secret.
    api.ok("DELETE", SECRET, Value::Null).await;
    while api.ok("POST", reviews, json!({"spec": {"token": token, "audiences": [ISSUER]}})).await["status"]["authenticated"]
        == true
    {
        assert!(begun.elapsed().as_secs() < 30, "it outlives its Secret");
        tokio::task::yield_now().await;
    }
    let tracking = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    let since = api.ok("GET", tracking, Value::Null).await;
    assert!(since["data"]["since"].as_str().unwrap().parse::<jiff::civil::Date>().is_ok());
}

#[tokio::test]
async fn flags_and_status_are_told_to_those_who_may_know() {
    let api = Api::issuing(|_| {}).await;
    let get = async |path: &str, accept: &str| {
        Answer::read(api.raw(&User::server(), "GET", path, &[("accept", accept)], "").await).await.code_and_body()
    };
    for (path, name, kind) in [("/statusz", "apiserver statusz", "Statusz"), ("/flagz", "apiserver flagz", "Flagz")] {
        let (code, text) = get(path, "*/*").await;
        assert!(code == 200 && text.as_str().unwrap().starts_with(&format!("\n{name}\nWarning: ")), "{text}");
        let (code, object) = get(path, &format!("application/json;v=v1beta1;g=config.k8s.io;as={kind}")).await;
        assert_eq!((code, &object["kind"], &object["apiVersion"]), (200, &json!(kind), &json!("config.k8s.io/v1beta1")));
        assert_eq!(get(path, "application/json").await.0, 406);
    }
}

#[tokio::test]
async fn a_server_that_ends_says_so_first() {
    let terminating = daemon::Shutdown::new();
    let signal = terminating.clone();
    let api = Api::issuing(move |config| config.terminating = terminating).await;
    signal.trigger();
    assert_eq!(api.call("GET", "/readyz", Value::Null).await.0, 500);
    assert_eq!(api.call("GET", "/livez", Value::Null).await.0, 200);
    assert_eq!(api.call("GET", "/api/v1/namespaces/ns", Value::Null).await.0, 200, "it serves still");
}

#[tokio::test]
async fn a_timeout_that_is_none_is_refused() {
    let api = Api::issuing(|_| {}).await;
    let (code, status) = api.call("GET", "/api/v1/namespaces?timeout=soon", Value::Null).await;
    assert_eq!(code, 400, "{status}");
    assert_eq!(api.call("GET", "/api/v1/namespaces?timeout=5s", Value::Null).await.0, 200);
}
