//! Secrets whose keys a plugin keeps, with a plugin on a real socket.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::kms::Message;
use ::kms::tonic::{self, Response, Status, transport::Server};
use ::kms::v2::key_management_service_server::{KeyManagementService, KeyManagementServiceServer};
use ::kms::v2::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, EncryptedObject, StatusRequest, StatusResponse,
};
use bytes::Bytes;
use daemon::reload::Reloading;
use kube_apiserver::encryption::kms::{Plugins, Settings};
use kube_apiserver::encryption::{self, Encryption};
use serde_json::{Value, json};
use store::{Memory, Storage, Transformed};
use tokio::net::UnixListener;

use crate::harness::Api;

const PREFIX: &[u8] = b"k8s:enc:kms:v2:p:";
const ANNOTATION: &str = "version.encryption.example.com";

/// Seals by putting its key's name before what it is given.
#[derive(Default)]
struct Keeper {
    key: Mutex<String>,
    sick: AtomicBool,
    encrypted: AtomicUsize,
    decrypted: AtomicUsize,
}

impl Keeper {
    fn counts(&self) -> (usize, usize) {
        (self.encrypted.load(Ordering::Relaxed), self.decrypted.load(Ordering::Relaxed))
    }

    fn key(&self) -> String {
        self.key.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl KeyManagementService for Keeper {
    async fn status(&self, _: tonic::Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let healthz = if self.sick.load(Ordering::Relaxed) { "sick" } else { "ok" };
        Ok(Response::new(StatusResponse { version: "v2".into(), healthz: healthz.into(), key_id: self.key() }))
    }

    async fn encrypt(&self, request: tonic::Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        self.encrypted.fetch_add(1, Ordering::Relaxed);
        let key_id = self.key();
        let ciphertext = [key_id.as_bytes(), &request.into_inner().plaintext].concat();
        let annotations = [(ANNOTATION.to_owned(), b"1".to_vec())].into();
        Ok(Response::new(EncryptResponse { ciphertext, key_id, annotations }))
    }

    async fn decrypt(&self, request: tonic::Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        self.decrypted.fetch_add(1, Ordering::Relaxed);
        let DecryptRequest { ciphertext, key_id, annotations, uid } = request.into_inner();
        if uid.is_empty() || annotations.get(ANNOTATION).map(Vec::as_slice) != Some(b"1") {
            return Err(Status::invalid_argument("what came with the key is lost"));
        }
        match ciphertext.strip_prefix(key_id.as_bytes()) {
            Some(plaintext) => Ok(Response::new(DecryptResponse { plaintext: plaintext.to_vec() })),
            None => Err(Status::invalid_argument("another key's")),
        }
    }
}

struct Scene {
    directory: PathBuf,
    keeper: Arc<Keeper>,
    storage: Arc<dyn Storage>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Scene {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("kms-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let keeper = Keeper { key: Mutex::new("first".into()), ..Keeper::default() };
        Self { directory, keeper: Arc::new(keeper), storage: Arc::new(Memory::new()) }
    }

    fn settings(&self) -> Settings {
        Settings { name: "p".into(), socket: self.directory.join("p.sock"), timeout: Duration::from_secs(30) }
    }

    /// The plugin answers from now on.
    fn listen(&self) {
        let listener = UnixListener::bind(self.settings().socket).unwrap();
        let incoming = futures::stream::unfold(listener, |listener| async move {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        let service = KeyManagementServiceServer::from_arc(self.keeper.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    }

    /// An API server on the same store, not waited for.
    async fn begin(&self) -> Sealing {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  - kms: {{apiVersion: v2, name: p, endpoint: 'unix://{}', timeout: 30s}}\n  - identity: {{}}\n",
            self.settings().socket.display()
        );
        let plugins = Arc::new(Plugins::default());
        let configuration = encryption::config::parse(&text, &plugins).expect("a valid configuration");
        let encryption = Arc::new(Encryption::new(Reloading::fixed(configuration)));
        let storage = Arc::new(Transformed::new(self.storage.clone(), encryption));
        let kms = Some(plugins.clone());
        let api = Api::begin(|config| (config.storage, config.kms) = (storage, kms)).await;
        Sealing { api, plugins }
    }

    async fn ready(&self) -> Sealing {
        let sealing = self.begin().await;
        sealing.ready().await;
        sealing
    }

    async fn kept(&self, name: &str) -> Bytes {
        self.storage.get(&format!("/registry/secrets/default/{name}")).await.unwrap().unwrap().value
    }

    async fn kept_object(&self, name: &str) -> EncryptedObject {
        let kept = self.kept(name).await;
        EncryptedObject::decode(kept.strip_prefix(PREFIX).expect("a sealed value")).unwrap()
    }
}

/// A server and the plugins that it asks.
struct Sealing {
    api: Api,
    plugins: Arc<Plugins>,
}

impl Sealing {
    async fn create(&self, name: &str) {
        self.api.ok("POST", SECRETS, json!({"metadata": {"name": name}, "data": {"k": "dmFsdWU="}})).await;
    }

    async fn value(&self, name: &str) -> Value {
        self.api.ok("GET", &format!("{SECRETS}/{name}"), Value::Null).await["data"]["k"].clone()
    }

    async fn ready(&self) {
        tokio::time::timeout(Duration::from_secs(30), self.api.server.ready()).await.expect("the server is ready");
    }
}

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

#[tokio::test]
async fn a_seed_for_many_values_and_one_call_for_a_seed() {
    let scene = Scene::new("seed");
    scene.listen();
    let first = scene.ready().await;
    for n in 0..20 {
        first.create(&format!("s{n}")).await;
    }
    assert_eq!(first.value("s3").await, "dmFsdWU=");
    assert_eq!(scene.keeper.counts(), (1, 0), "one seed, which its own server knows");
    let (one, other) = (scene.kept_object("s1").await, scene.kept_object("s2").await);
    assert_eq!((one.key_id.as_str(), one.encrypted_dek_source_type), ("first", 1));
    assert_eq!(one.encrypted_dek_source, other.encrypted_dek_source);
    assert_ne!(one.encrypted_data[..32], other.encrypted_data[..32], "each value has a key of its own");
    assert!(!String::from_utf8_lossy(&scene.kept("s1").await).contains("dmFsdWU="));

    let second = scene.ready().await;
    let list = second.api.ok("GET", SECRETS, Value::Null).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 20);
    assert_eq!(list["items"][7]["data"]["k"], "dmFsdWU=");
    assert_eq!(scene.keeper.counts(), (2, 1), "twenty values, one call");
    // What either writes, the other reads.
    second.create("theirs").await;
    assert_eq!(first.value("theirs").await, "dmFsdWU=");
}

#[tokio::test]
async fn a_new_key_seals_what_is_written_from_then_on() {
    let scene = Scene::new("rotate");
    scene.listen();
    let sealing = scene.ready().await;
    sealing.create("old").await;
    let plugin = sealing.plugins.get(&scene.settings());
    *scene.keeper.key.lock().unwrap() = "second".into();
    assert!(plugin.probe().await);
    assert_eq!(plugin.key_id().as_deref(), Some("second"));
    sealing.create("new").await;
    assert_eq!(scene.kept_object("new").await.key_id, "second");
    assert_eq!(scene.kept_object("old").await.key_id, "first");
    // A write that changes nothing moves a value to the current key.
    let path = format!("{SECRETS}/old");
    let old = sealing.api.ok("GET", &path, Value::Null).await;
    sealing.api.ok("PUT", &path, old).await;
    assert_eq!(scene.kept_object("old").await.key_id, "second");
    // A plugin that is not well says so, and what was sealed stays readable.
    scene.keeper.sick.store(true, Ordering::Relaxed);
    assert!(!plugin.probe().await);
    for path in ["/livez", "/readyz"] {
        let (code, text) = sealing.api.call("GET", &format!("{path}?verbose"), Value::Null).await;
        assert_eq!(code, 500);
        assert!(text.as_str().unwrap().contains("[-]kms-providers failed"), "{text}");
    }
    assert_eq!(sealing.value("new").await, "dmFsdWU=");
    sealing.create("another").await;
}

#[tokio::test]
async fn without_its_plugin_a_server_says_that_it_does_not_know() {
    let scene = Scene::new("away");
    scene.listen();
    let first = scene.ready().await;
    first.create("s").await;
    // Its plugin moves away: the next server finds nobody there.
    std::fs::remove_file(scene.settings().socket).unwrap();
    let second = scene.begin().await;
    second.api.until("/api/v1/namespaces/default", |code, _| code == 200).await;
    let (code, answer) = second.api.call("GET", &format!("{SECRETS}/s?timeout=2s"), Value::Null).await;
    assert!(code >= 500, "an empty store would be a lie: {code} {answer}");
    let (code, answer) = second.api.call("POST", &format!("{SECRETS}?timeout=2s"), json!({"metadata": {"name": "t"}})).await;
    assert!(code >= 500, "nothing is written in the clear: {code} {answer}");
    assert_eq!(second.api.call("GET", "/livez", Value::Null).await.0, 500);
    scene.listen();
    assert!(second.plugins.get(&scene.settings()).probe().await);
    second.ready().await;
    assert_eq!(second.value("s").await, "dmFsdWU=");
}
