//! Groups that another server serves: a small TLS server in this process plays it.

use std::sync::Arc;

use base64::Engine;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube_apiserver::authn::user::User;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{Answer, Api};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

impl Api {
    /// The Service behind which a server of this host is.
    async fn expose(&self) {
        let service = json!({"metadata": {"name": "extension"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
        self.ok("POST", "/api/v1/namespaces/ns/services", service).await;
    }
}

fn available(service: &Value) -> (&str, &str) {
    let conditions = service["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let found = conditions.iter().find(|condition| condition["type"] == "Available");
    found.map_or(("", ""), |c| (c["status"].as_str().unwrap_or_default(), c["reason"].as_str().unwrap_or_default()))
}

fn api_service(ca: &str, port: u16) -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.things.example.com"},
        "spec": {"group": "things.example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 10,
            "service": {"namespace": "ns", "name": "extension", "port": port},
            "caBundle": base64::engine::general_purpose::STANDARD.encode(ca)}})
}

/// Serves one group, and tells what it was asked. Gives its port and its authority.
async fn extension() -> (u16, String) {
    // Authorities end at midnight: an hour may be too little.
    let (now, days) = (jiff::Timestamp::now(), jiff::SignedDuration::from_hours(72));
    let authority = pki::Ca::create("extension-ca", now, days).unwrap();
    let profile = pki::Profile::server("extension", vec!["extension.ns.svc".to_owned()], Vec::new(), days);
    let issued = authority.issue(&profile, now).unwrap();
    let certificate = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key.pem().as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(socket).await else { return };
                let service = service_fn(|request| async move { Ok::<_, std::convert::Infallible>(answer(&request)) });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (port, authority.certificate_pem().to_owned())
}

fn answer(request: &Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    let header = |name: &str| request.headers().get_all(name).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>();
    if request.uri().path().ends_with("/moved") {
        let moved = Response::builder().status(302).header("location", "https://elsewhere.example.com/");
        return moved.body(Full::default()).unwrap();
    }
    let value = match request.uri().path() {
        "/apis/things.example.com/v1" => {
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "things.example.com/v1",
            "resources": [{"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get", "list"]}]})
        }
        "/openapi/v3" => {
            json!({"paths": {"apis/things.example.com/v1": {"serverRelativeURL": "/openapi/v3/apis/things.example.com/v1?hash=H"}}})
        }
        "/openapi/v2" => {
            let thing = json!({"$ref": "#/definitions/com.example.Thing"});
            json!({"swagger": "2.0", "definitions": {"com.example.Thing": {"type": "object"}, "com.example.Other": {"type": "object"}},
            "paths": {"/apis/things.example.com/v1/things": {"get": {"responses": {"200": {"description": "OK", "schema": thing}}}},
                "/apis/other.example.com/v1/others": {}}})
        }
        path => {
            json!({"path": path, "query": request.uri().query(), "method": request.method().as_str(), "user": header("x-remote-user"),
            "groups": header("x-remote-group"), "authorization": header("authorization")})
        }
    };
    Response::builder().header("content-type", "application/json").body(Full::new(Bytes::from(value.to_string()))).unwrap()
}

#[tokio::test]
async fn what_is_served_here_is_registered() {
    let api = Api::start().await;
    let apps = api.until(&format!("{SERVICES}/v1.apps"), |code, _| code == 200).await;
    assert_eq!(apps["spec"], json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15}));
    assert_eq!(apps["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
    assert_eq!(available(&apps), ("True", "Local"));
    api.until(&format!("{SERVICES}/v1."), |code, _| code == 200).await;
    let definition = json!({"metadata": {"name": "foos.example.com"}, "spec": {"group": "example.com", "scope": "Cluster",
        "names": {"plural": "foos", "kind": "Foo"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    api.ok("POST", definitions, definition).await;
    let path = format!("{SERVICES}/v1.example.com");
    let own = api.until(&path, |code, _| code == 200).await;
    assert_eq!(own["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
    // It comes back while its definition is there, and goes with it.
    api.ok("DELETE", &path, Value::Null).await;
    api.until(&path, |code, again| code == 200 && again["metadata"]["uid"] != own["metadata"]["uid"]).await;
    api.ok("DELETE", &format!("{definitions}/foos.example.com"), Value::Null).await;
    api.until(&path, |code, _| code == 404).await;
}

#[tokio::test]
async fn another_server_is_reached() {
    let api = Api::start().await;
    let (port, ca) = extension().await;
    let path = format!("{SERVICES}/v1.things.example.com");
    api.ok("POST", SERVICES, api_service(&ca, port)).await;
    api.until(&path, |_, service| available(service) == ("False", "ServiceNotFound")).await;
    let (code, text) = api.call("GET", "/apis/things.example.com/v1/namespaces/ns/things", Value::Null).await;
    assert_eq!((code, text), (503, json!("service unavailable\n")));
    api.expose().await;
    api.until(&path, |_, service| available(service) == ("True", "Passed")).await;
    let user = User { name: "jane".to_owned(), groups: vec!["devs".to_owned()], ..User::default() };
    let headers = [("content-type", "application/json"), ("authorization", "Bearer secret")];
    let response = api.raw(&user, "POST", "/apis/things.example.com/v1/namespaces/ns/things?a=b", &headers, "{}").await;
    let seen = Answer::read(response).await.body;
    let expected = json!({"path": "/apis/things.example.com/v1/namespaces/ns/things", "query": "a=b", "method": "POST",
        "user": ["jane"], "groups": ["devs"], "authorization": []});
    assert_eq!(seen, expected);
    // CVE-2022-3172: clients would follow, with their credentials.
    let (code, text) = api.call("GET", "/apis/things.example.com/v1/namespaces/ns/things/moved", Value::Null).await;
    assert_eq!((code, text), (502, json!("the backend attempted to redirect this request, which is not permitted")));
    // Discovery and OpenAPI show it as one of this server's groups.
    let groups = api.ok("GET", "/apis", Value::Null).await;
    let names: Vec<&str> = groups["groups"].as_array().unwrap().iter().filter_map(|group| group["name"].as_str()).collect();
    assert!(names.contains(&"things.example.com"), "{names:?}");
    let list = api.ok("GET", "/apis/things.example.com/v1", Value::Null).await;
    assert_eq!(list["resources"][0]["name"], "things");
    let index = api.ok("GET", "/openapi/v3", Value::Null).await;
    let url = index["paths"]["apis/things.example.com/v1"]["serverRelativeURL"].as_str().unwrap();
    let document = api.ok("GET", url, Value::Null).await;
    assert_eq!(document["path"], "/openapi/v3/apis/things.example.com/v1");
    let document = api.ok("GET", "/openapi/v2", Value::Null).await;
    assert!(document["paths"]["/apis/things.example.com/v1/things"].is_object());
    assert!(document["definitions"]["com.example.Thing"].is_object());
    // What it says of others does not count.
    assert!(document["paths"].get("/apis/other.example.com/v1/others").is_none());
    assert!(document["definitions"].get("com.example.Other").is_none());
    // Without its Service it is not there.
    api.ok("DELETE", "/api/v1/namespaces/ns/services/extension", Value::Null).await;
    api.until(&path, |_, service| available(service) == ("False", "ServiceNotFound")).await;
    // With its APIService it is gone from the documents.
    api.ok("DELETE", &path, Value::Null).await;
    api.until("/openapi/v2", |_, document| document["paths"].get("/apis/things.example.com/v1/things").is_none()).await;
}

#[tokio::test]
async fn a_server_with_another_certificate_is_not_believed() {
    let api = Api::start().await;
    let (port, _) = extension().await;
    let (_, stranger) = extension().await;
    api.expose().await;
    api.ok("POST", SERVICES, api_service(&stranger, port)).await;
    let path = format!("{SERVICES}/v1.things.example.com");
    let service = api.until(&path, |_, service| available(service) == ("False", "FailedDiscoveryCheck")).await;
    let message = service["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(
        message
            .starts_with(&format!("failing or missing response from https://localhost:{port}/apis/things.example.com/v1: tls: ")),
        "{message}"
    );
}
