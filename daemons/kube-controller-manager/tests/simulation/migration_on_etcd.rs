//! A migration as an administrator runs it after a new key: on a real etcd, with no more rights than the controller has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::{Body, Client, Error, Transport, TransportError};
use daemon::Shutdown;
use daemon::health::Checks;
use daemon::reload::Reloading;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use http::{Method, Request, Response};
use kube_apiserver::authn::user::User;
use kube_apiserver::authz::Mode;
use kube_apiserver::encryption::kms::Plugins;
use kube_apiserver::encryption::{self, Encryption};
use kube_apiserver::{ApiServer, Config};
use kube_controller_manager::{Clock, Identities, Settings, controllers};
use serde_json::{Value, json};
use store::testing::EtcdProcess;
use store::{Etcd, EtcdConfig, ListOptions, Storage, Transformed};

use crate::migration::{ask, condition, gates, migration, send};

const MIGRATION: &str = "/apis/storagemigration.k8s.io/v1beta1/storageversionmigrations";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const PREFIX: &str = "/registry/secrets/default/";
/// More than a page.
const COUNT: usize = 620;
const SOON: Duration = Duration::from_secs(60);

/// Reads as the controller manager, writes as the controller.
struct Split {
    reads: Client,
    writes: Client,
}

impl Transport for Split {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let client = if request.method() == Method::GET { self.reads.clone() } else { self.writes.clone() };
        Box::pin(async move {
            client.raw(request).await.map_err(|error| match error {
                Error::Transport(error) => error,
                other => panic!("a raw request fails only on its way: {other}"),
            })
        })
    }
}

fn provider(key: &str, secret: &str) -> String {
    format!("  - aescbc: {{keys: [{{name: {key}, secret: {secret}}}]}}\n")
}

/// 32 bytes each, in base64.
const FIRST: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const SECOND: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

async fn server(storage: &Arc<dyn Storage>, providers: &str, shutdown: &Shutdown) -> ApiServer {
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n";
    let configuration = encryption::config::parse(&format!("{head}{providers}"), &Arc::new(Plugins::default()));
    let encryption = Encryption::new(Reloading::fixed(configuration.expect("a valid configuration")));
    let mut config = Config::for_tests(Arc::new(Transformed::new(storage.clone(), Arc::new(encryption))));
    ask(&mut config);
    config.gates = gates();
    config.modes = vec![Mode::Rbac];
    let api = ApiServer::start(config, shutdown.clone()).await.expect("an API server");
    api.ready().await;
    api
}

async fn kept(storage: &Arc<dyn Storage>, key: &str) -> usize {
    let page = storage.list(PREFIX, ListOptions::default()).await.expect("a list");
    let mark = format!("k8s:enc:aescbc:v1:{key}:");
    page.items.iter().filter(|stored| stored.value.starts_with(mark.as_bytes())).count()
}

#[tokio::test]
async fn secrets_get_to_their_new_key() {
    daemon::install_crypto();
    let etcd = EtcdProcess::start().expect("etcd");
    let config = EtcdConfig { endpoints: vec![etcd.endpoint()], tls: None };
    let storage: Arc<dyn Storage> = Arc::new(Etcd::new(config).await.expect("a connection"));
    let (old, new) = (provider("first", FIRST), provider("second", SECOND));

    let shutdown = Shutdown::new();
    let before = server(&storage, &old, &shutdown).await.client();
    let made = stream::iter(0..COUNT).map(|n| {
        let secret = json!({"metadata": {"name": format!("s{n}")}, "data": {"n": "dmFsdWU="}});
        let client = before.clone();
        async move { send(&client, Method::POST, SECRETS, &secret).await.expect("a secret") }
    });
    made.buffer_unordered(16).collect::<Vec<Value>>().await;
    assert_eq!(kept(&storage, "first").await, COUNT);
    shutdown.trigger();

    let shutdown = Shutdown::new();
    let api = server(&storage, &format!("{new}{old}"), &shutdown).await;
    let client = api.client();
    let account = User::service_account("kube-system", "storage-version-migrator-controller", "");
    let split = Split {
        reads: api.client_as(User::new("system:kube-controller-manager", &["system:authenticated"])),
        writes: api.client_as(account),
    };
    let identities = Identities::shared(Client::with_transport(split));
    let only = controllers::selected(&["svm".into()], &gates()).expect("a controller");
    let ending = shutdown.child();
    tokio::spawn(async move {
        kube_controller_manager::start(identities, Clock::wall(), Settings::default(), only, &Checks::new(), ending).await;
    });
    send(&client, Method::POST, MIGRATION, &migration("new-key", "", "secrets")).await.expect("a migration");
    let ended = async {
        loop {
            let now = client.get_value(&format!("{MIGRATION}/new-key")).await.expect("the migration");
            if condition(&now, "Running").is_some_and(|(status, ..)| status == "False") {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::time::timeout(SOON, ended).await.expect("it ends");
    assert_eq!(condition(&ended, "Succeeded").map(|(status, ..)| status).as_deref(), Some("True"), "{ended}");
    assert_eq!((kept(&storage, "first").await, kept(&storage, "second").await), (0, COUNT));
    let secret = client.get_value(&format!("{SECRETS}/s7")).await.expect("a secret");
    assert_eq!(secret["data"]["n"], "dmFsdWU=");
    shutdown.trigger();

    // Nobody needs the old key any more.
    let shutdown = Shutdown::new();
    let after = server(&storage, &new, &shutdown).await.client();
    let list = after.get_value(SECRETS).await.expect("a list");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(COUNT));
    shutdown.trigger();
}
