//! A webhook over TLS in this process, which answers JSON with JSON.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use daemon::http::{Limits, in_memory};
use daemon::tls::{ServerTls, TlsFiles, TlsOffer};
use http::Response;
use http_body_util::{BodyExt, Full};
use jiff::{SignedDuration, Timestamp};
use pki::{Ca, Profile};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub struct Hook {
    pub port: u16,
    pub ca: String,
    asked: Arc<Mutex<Vec<Value>>>,
    shutdown: daemon::Shutdown,
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Hook {
    /// `answer` makes the answer of the question; null is answered never.
    pub async fn start(answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (now, hour) = (Timestamp::now(), SignedDuration::from_hours(1));
        // Certificates of authorities begin and end with days.
        let ca = Ca::create("webhook-ca", now, SignedDuration::from_hours(72)).unwrap();
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let names = vec!["hook.ns.svc".to_owned(), "localhost".to_owned()];
        let issued = ca.issue(&Profile::server("webhook", names, vec![ip], hour), now).unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("kctl-hooks-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let files = TlsFiles { certificate: directory.join("tls.crt"), key: directory.join("tls.key"), client_cas: Vec::new() };
        std::fs::write(&files.certificate, &issued.certificate_pem).unwrap();
        std::fs::write(&files.key, issued.key.pem()).unwrap();
        let tls = ServerTls::from_files(files, TlsOffer::default()).unwrap();
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shutdown = daemon::Shutdown::new();
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (answer, log) = (Arc::new(answer), asked.clone());
        let server = daemon::http::serve(listener, Some(Arc::new(tls)), Limits::default(), shutdown.clone(), move |request| {
            let (answer, log) = (answer.clone(), log.clone());
            async move {
                let bytes = request.into_body().collect().await.unwrap().to_bytes();
                let question: Value = serde_json::from_slice(&bytes).unwrap();
                let answer = answer(&question);
                log.lock().unwrap().push(question);
                if answer.is_null() {
                    std::future::pending::<()>().await;
                }
                in_memory(Response::new(Full::new(Bytes::from(answer.to_string()))))
            }
        });
        tokio::spawn(server);
        Self { port, ca: ca.certificate_pem().to_owned(), asked, shutdown }
    }

    pub fn client_config(&self) -> Value {
        json!({"url": format!("https://127.0.0.1:{}/hook", self.port), "caBundle": STANDARD.encode(&self.ca)})
    }

    /// What it was asked so far: the `request` of each review.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().iter().map(|review| review["request"].clone()).collect()
    }

    /// The reviews since the last time.
    pub fn take_reviews(&self) -> Vec<Value> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}
