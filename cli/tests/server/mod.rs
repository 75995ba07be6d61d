//! An API server with prepared answers: HTTP/1.1 over TLS, one request on each connection.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use serde_json::{Value, json};

pub struct Answer {
    method: &'static str,
    target: String,
    status: u16,
    body: String,
    /// How often it is given; then it is 404.
    left: AtomicU32,
}

impl Answer {
    pub fn new(method: &'static str, target: &str, status: u16, body: Value) -> Self {
        Self { method, target: target.to_owned(), status, body: body.to_string(), left: AtomicU32::new(u32::MAX) }
    }

    /// A text, the first time only.
    pub fn once(method: &'static str, target: &str, body: String) -> Self {
        Self { method, target: target.to_owned(), status: 200, body, left: AtomicU32::new(1) }
    }

    fn take(&self) -> bool {
        self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
    }

    pub fn ok(method: &'static str, target: &str, body: Value) -> Self {
        Self::new(method, target, 200, body)
    }
}

pub struct Server {
    directory: PathBuf,
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// With discovery of a few kinds beside the given answers.
    pub fn start(mut answers: Vec<Answer>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        answers.push(Answer::ok(
            "GET",
            "/api",
            discovery("", &[("pods", "Pod", "po", true), ("namespaces", "Namespace", "ns", false)]),
        ));
        answers.push(Answer::ok("GET", "/apis", discovery("apps", &[("deployments", "Deployment", "deploy", true)])));
        let directory =
            std::env::temp_dir().join(format!("kctl-cli-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&directory).unwrap();
        let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
        std::fs::write(directory.join("ca.crt"), certified.cert.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{"name": "t", "cluster": {"server": format!("https://{address}"), "certificate-authority": "ca.crt"}}],
            "users": [{"name": "t", "user": {"token": "t"}}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
        });
        std::fs::write(directory.join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let (requests, stopped) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let serving = (Arc::clone(&requests), Arc::clone(&stopped), Arc::new(answers), Arc::new(config));
        let thread = std::thread::spawn(move || {
            let (requests, stopped, answers, config) = serving;
            for connection in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let (requests, answers, config) = (Arc::clone(&requests), Arc::clone(&answers), Arc::clone(&config));
                std::thread::spawn(move || serve(connection.unwrap(), config, &answers, &requests));
            }
        });
        Self { directory, address, requests, stopped, thread: Some(thread) }
    }

    pub fn home(&self) -> &Path {
        &self.directory
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// What was asked, for the message of a failed test.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // The thread waits for a connection.
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn discovery(group: &str, kinds: &[(&str, &str, &str, bool)]) -> Value {
    let resources: Vec<Value> = kinds
        .iter()
        .map(|(plural, kind, short, namespaced)| {
            json!({
                "resource": plural, "responseKind": {"group": group, "version": "v1", "kind": kind}, "scope": if *namespaced { "Namespaced" } else { "Cluster" },
                "singularResource": kind.to_lowercase(), "shortNames": [short], "verbs": ["get", "list", "watch", "create", "delete"],
            })
        })
        .collect();
    json!({
        "apiVersion": "apidiscovery.k8s.io/v2", "kind": "APIGroupDiscoveryList",
        "items": [{"metadata": {"name": group}, "versions": [{"version": "v1", "resources": resources}]}],
    })
}

fn serve(connection: TcpStream, config: Arc<ServerConfig>, answers: &[Answer], requests: &Mutex<Vec<String>>) {
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(config).unwrap(), connection));
    let mut line = String::new();
    if stream.read_line(&mut line).is_err() || line.is_empty() {
        return; // the client wants nothing, or does not trust us
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        if stream.read_line(&mut header).is_err() || header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    requests.lock().unwrap().push(format!("{method} {target} {}", String::from_utf8_lossy(&body)));
    let found = answers.iter().find(|answer| answer.method == method && answer.target == target && answer.take());
    let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": format!("no answer to {method} {target}"), "code": 404});
    let (status, body) = found.map_or_else(|| (404, missing.to_string()), |answer| (answer.status, answer.body.clone()));
    let head = format!(
        "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = stream.into_inner();
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).and_then(|()| stream.flush());
    stream.conn.send_close_notify();
    let _ = stream.flush();
}
