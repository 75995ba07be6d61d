//! The proxies between a real client side and a kubelet that is a double: HTTP and TLS on both sides are real.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemon::tls::{ServerTls, TlsOffer};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use stream::channel::Protocol;
use stream::portforward::{self, PortForward};
use stream::remotecommand::{self, Options, Outcome};
use stream::spdy::{self, Session};
use stream::tunnel::Tunnel;
use stream::upgrade;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::authn::user::User;
use crate::server::{ApiServer, Config};

const POD: &str = "/api/v1/namespaces/default/pods/p";

struct World {
    api: std::net::SocketAddr,
    server: ApiServer,
    shutdown: daemon::Shutdown,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl World {
    async fn new() -> Self {
        daemon::install_crypto();
        let shutdown = daemon::Shutdown::new();
        let kubelet = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kubelet_port = kubelet.local_addr().unwrap().port();
        let tls = ServerTls::self_signed(&["localhost".to_owned()], Vec::new(), TlsOffer::default()).unwrap();
        let limits = daemon::http::Limits::default();
        tokio::spawn(daemon::http::serve(kubelet, Some(Arc::new(tls)), limits, shutdown.clone(), fake_kubelet));

        let mut config = Config::for_tests(Arc::new(::store::Memory::new()));
        config.disable_admission = vec!["ServiceAccount".to_owned()];
        let server = ApiServer::start(config, shutdown.clone()).await.unwrap();
        server.ready().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = listener.local_addr().unwrap();
        let handler = server.clone();
        tokio::spawn(daemon::http::serve(listener, None, limits, shutdown.clone(), move |request| {
            let server = handler.clone();
            async move { server.handle(request).await }
        }));
        let world = Self { api, server, shutdown };
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}}}});
        world.write(Method::POST, "/api/v1/nodes", &node).await;
        world.write(Method::PUT, "/api/v1/nodes/n/status", &node).await;
        for (name, node) in [("p", "n"), ("waiting", "")] {
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                "spec": {"containers": [{"name": "c", "image": "i"}]}});
            if !node.is_empty() {
                pod["spec"]["nodeName"] = node.into();
            }
            world.write(Method::POST, "/api/v1/namespaces/default/pods", &pod).await;
        }
        world
    }

    async fn write(&self, method: Method, path: &str, object: &Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Bytes::from(object.to_string()))
            .unwrap();
        let answer = self.server.handle_as(User::server(), request).await;
        let code = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(code.is_success(), "{path}: {code} {}", String::from_utf8_lossy(&body));
    }

    async fn send(&self, method: Method, path: &str, headers: HeaderMap) -> Response<Incoming> {
        let tcp = TcpStream::connect(self.api).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder().method(method).uri(path).body(Empty::<Bytes>::new()).unwrap();
        *request.headers_mut() = headers;
        request.headers_mut().insert("host", "localhost".parse().unwrap());
        sender.send_request(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = self.send(Method::GET, path, HeaderMap::new()).await;
        let code = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8_lossy(&body).into_owned())
    }

    async fn upgraded(&self, answer: Response<Incoming>) -> TokioIo<hyper::upgrade::Upgraded> {
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        TokioIo::new(hyper::upgrade::on(answer).await.unwrap())
    }

    async fn spdy(&self, path: &str, protocols: &[&str]) -> Response<Incoming> {
        let mut headers = HeaderMap::new();
        upgrade::ask_for_spdy(&mut headers, protocols);
        self.send(Method::POST, path, headers).await
    }

    async fn websocket(&self, path: &str, protocols: &[&str]) -> Response<Incoming> {
        let mut headers = HeaderMap::new();
        upgrade::ask_for_websocket(&mut headers, protocols);
        self.send(Method::GET, path, headers).await
    }
}

/// Answers as a kubelet does: logs, exec that runs `cat`, port-forward that echoes in capitals.
async fn fake_kubelet(mut request: Request<Incoming>) -> Response<daemon::http::Body> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let text = |code: StatusCode, text: String| {
        let mut r = Response::new(Full::new(Bytes::from(text)).map_err(|e: Infallible| match e {}).boxed_unsync());
        *r.status_mut() = code;
        r
    };
    if path.starts_with("/containerLogs/") {
        return text(StatusCode::OK, format!("{path} {query}\n"));
    }
    if query.contains("command=missing") {
        return text(StatusCode::NOT_FOUND, "container not found (\"c\")".to_owned());
    }
    let protocol = upgrade::stream_protocols(request.headers()).first().map(|p| (*p).to_owned()).unwrap_or_default();
    assert!(!request.headers().contains_key("authorization"), "credentials are not passed on");
    let on_upgrade = hyper::upgrade::on(&mut request);
    if path.starts_with("/exec/") {
        assert_eq!(protocol, "v4.channel.k8s.io");
        tokio::spawn(async move { cat(TokioIo::new(on_upgrade.await.unwrap()), &query).await });
    } else {
        assert_eq!((path.as_str(), protocol.as_str()), ("/portForward/default/p", portforward::PROTOCOL));
        tokio::spawn(async move { capitals(TokioIo::new(on_upgrade.await.unwrap())).await });
    }
    upgrade::grant_spdy::<Empty<Bytes>>(&protocol).map(|b| b.map_err(|e| match e {}).boxed_unsync())
}

async fn cat(io: TokioIo<hyper::upgrade::Upgraded>, query: &str) {
    let session = Session::new(io, spdy::Config::server()).unwrap();
    let mut streams = std::collections::HashMap::new();
    for _ in 0..4 {
        let stream = session.accept().await.unwrap();
        streams.insert(stream.header("streamtype").unwrap().to_owned(), stream);
    }
    let mut take = |kind: &str| streams.remove(kind).unwrap();
    let (mut stdin, mut stdout, mut stderr, mut error) = (take("stdin"), take("stdout"), take("stderr"), take("error"));
    stderr.write_all(query.as_bytes()).await.unwrap();
    stderr.shutdown().await.unwrap();
    tokio::io::copy(&mut stdin, &mut stdout).await.unwrap();
    stdout.shutdown().await.unwrap();
    let status = json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": "exit status 3",
        "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
    error.write_all(status.to_string().as_bytes()).await.unwrap();
    error.shutdown().await.unwrap();
    session.closed().await;
}

async fn capitals(io: TokioIo<hyper::upgrade::Upgraded>) {
    let session = Session::new(io, spdy::Config::server()).unwrap();
    while let Some(mut error) = session.accept().await {
        let mut data = session.accept().await.unwrap();
        let mut text = String::new();
        data.read_to_string(&mut text).await.unwrap();
        data.write_all(text.to_uppercase().as_bytes()).await.unwrap();
        data.shutdown().await.unwrap();
        error.shutdown().await.unwrap();
    }
}

const OPTIONS: Options = Options { stdin: true, stdout: true, stderr: true, tty: false };

async fn run(mut command: remotecommand::Command) -> (String, String, Outcome) {
    let mut stdin = command.stdin.take().unwrap();
    stdin.write_all(b"hello").await.unwrap();
    stdin.shutdown().await.unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    let (mut stdout, mut stderr) = (command.stdout.take().unwrap(), command.stderr.take().unwrap());
    let all =
        async { tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err), command.status.outcome()).2 };
    let outcome = tokio::time::timeout(Duration::from_secs(10), all).await.expect("an end").unwrap();
    (out, err, outcome)
}

const EXEC: &str = "/exec?stdin=true&stdout=true&stderr=true&command=cat&command=a%20b";

#[tokio::test]
async fn exec_over_spdy_and_websocket() {
    let world = World::new().await;
    let want = ("hello".to_owned(), "input=1&output=1&error=1&command=cat&command=a%20b".to_owned(), Outcome::Exit(3));

    let answer = world.spdy(&format!("{POD}{EXEC}"), &remotecommand::SPDY_PROTOCOLS).await;
    let protocol = upgrade::stream_protocols(answer.headers())[0].to_owned();
    let io = world.upgraded(answer).await;
    assert_eq!(run(remotecommand::over_spdy(io, &protocol, OPTIONS).await.unwrap()).await, want);

    let answer = world.websocket(&format!("{POD}{EXEC}"), &["v5.channel.k8s.io"]).await;
    assert_eq!(answer.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    let io = world.upgraded(answer).await;
    assert_eq!(run(remotecommand::over_websocket(io, Protocol::V5, OPTIONS).await).await, want);
}

#[tokio::test]
async fn exec_that_cannot_be() {
    let world = World::new().await;
    for (path, want_code, want) in [
        (format!("{POD}/exec?command=x"), 400, "Upgrade request required"),
        ("/api/v1/namespaces/default/pods/none/log".to_owned(), 404, "pods \\\"none\\\" not found"),
        (format!("{POD}/log?container=x"), 400, "container x is not valid for pod p"),
    ] {
        let (code, body) = world.get(&path).await;
        assert_eq!(code.as_u16(), want_code, "{path}: {body}");
        assert!(body.contains(want), "{body}");
    }
    let body = async |answer: Response<Incoming>| {
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let status: Value = serde_json::from_slice(&bytes).unwrap();
        (code, status["message"].as_str().unwrap().to_owned())
    };
    let waiting = world.spdy("/api/v1/namespaces/default/pods/waiting/exec?stdout=1&command=x", &["v4.channel.k8s.io"]).await;
    assert_eq!(body(waiting).await, (400, "pod waiting does not have a host assigned".to_owned()));
    let missing = world.spdy(&format!("{POD}/exec?stdout=1&command=missing"), &["v4.channel.k8s.io"]).await;
    let (code, message) = body(missing).await;
    assert_eq!(code, 404);
    assert!(message.contains("container not found (\"c\")"), "{message}");
    // Over a WebSocket the same comes on the error channel.
    let answer = world.websocket(&format!("{POD}/exec?stdout=1&command=missing"), &["v5.channel.k8s.io"]).await;
    let io = world.upgraded(answer).await;
    let command = remotecommand::over_websocket(io, Protocol::V5, OPTIONS).await;
    let Outcome::Failed(message) = command.status.outcome().await.unwrap() else { panic!("a failure") };
    assert!(message.contains("container not found"), "{message}");
    let unknown = world.websocket(&format!("{POD}/exec?stdout=1"), &["v9.channel.k8s.io"]).await;
    assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn logs_as_text_and_over_websocket() {
    let world = World::new().await;
    let path = format!("{POD}/log?follow=true&tailLines=5");
    let want = "/containerLogs/default/p/c follow=true&tailLines=5\n";
    assert_eq!(world.get(&path).await, (StatusCode::OK, want.to_owned()));
    assert_eq!(world.get("/api/v1/namespaces/default/pods/waiting/log").await, (StatusCode::OK, String::new()));
    let (code, body) = world.get(&format!("{POD}/log?tailLines=-1")).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    let io = world.upgraded(world.websocket(&path, &["binary.k8s.io"]).await).await;
    let mut text = String::new();
    Tunnel::client(io).await.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, want);
}

#[tokio::test]
async fn port_forward_over_spdy_and_websocket() {
    let world = World::new().await;
    let path = format!("{POD}/portforward?ports=80");
    let echo = async |forward: PortForward| {
        let (mut data, _error) = forward.connect(80).await.unwrap();
        data.write_all(b"abc").await.unwrap();
        data.shutdown().await.unwrap();
        let mut text = String::new();
        data.read_to_string(&mut text).await.unwrap();
        text
    };
    let io = world.upgraded(world.spdy(&path, &[portforward::PROTOCOL]).await).await;
    assert_eq!(echo(PortForward::new(io).unwrap()).await, "ABC");
    let answer = world.websocket(&path, &[portforward::WEBSOCKET_PROTOCOL]).await;
    assert_eq!(answer.headers()["sec-websocket-protocol"], portforward::WEBSOCKET_PROTOCOL);
    let io = Tunnel::client(world.upgraded(answer).await).await;
    assert_eq!(echo(PortForward::new(io).unwrap()).await, "ABC");
}

#[tokio::test]
async fn the_servers_own_network_is_out_of_reach() {
    let world = World::new().await;
    for path in ["/api/v1/nodes/n/proxy/metrics", &format!("{POD}:80/proxy/")] {
        let (code, body) = world.get(path).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{body}");
        assert!(body.contains("address not allowed"), "{body}");
    }
    let (code, body) = world.get("/api/v1/namespaces/default/services/kubernetes:https/proxy/").await;
    assert_eq!(code.as_u16(), if body.contains("not found") { 404 } else { 503 }, "{body}");
}

/// The kubectl binaries to try: all of `KUBECTLS` (comma separated), else the one on the path, else none.
fn kubectls() -> Vec<String> {
    if let Ok(list) = std::env::var("KUBECTLS") {
        return list.split(',').map(str::to_owned).collect();
    }
    let works = std::process::Command::new("kubectl").args(["version", "--client"]).output();
    if works.is_ok_and(|o| o.status.success()) { vec!["kubectl".to_owned()] } else { Vec::new() }
}

/// kubectl up to 1.30 speaks SPDY, later ones WebSocket: both must get through.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_itself() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::process::Command;
    let world = World::new().await;
    let mut running = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    running["spec"] = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}]});
    world.write(Method::PUT, &format!("{POD}/status"), &running).await;
    let home = std::env::temp_dir().join(format!("kctl-proxy-test-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    for kubectl in kubectls() {
        let command = || {
            let mut c = Command::new(&kubectl);
            c.arg(format!("--server=http://{}", world.api)).env("HOME", &home).env_remove("KUBECONFIG");
            c.kill_on_drop(true).stdin(std::process::Stdio::piped());
            c.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            c
        };
        let mut exec = command().args(["exec", "-i", "p", "--", "cat"]).spawn().unwrap();
        let sent = vec![b'x'; 1_000_000];
        let mut stdin = exec.stdin.take().unwrap();
        let writing = async {
            stdin.write_all(&sent).await.unwrap();
            drop(stdin);
        };
        let all = async { tokio::join!(exec.wait_with_output(), writing).0.unwrap() };
        let done = tokio::time::timeout(Duration::from_secs(30), all).await.expect("exec ends");
        assert_eq!(done.status.code(), Some(3), "{kubectl}: {}", String::from_utf8_lossy(&done.stderr));
        assert!(done.stdout == sent, "{kubectl}: {} bytes came back", done.stdout.len());
        assert!(String::from_utf8_lossy(&done.stderr).contains("command=cat"), "{kubectl}");

        let done = command().args(["logs", "p", "--tail=5"]).output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&done.stdout), "/containerLogs/default/p/c tailLines=5\n", "{kubectl}");

        let mut forward = command().args(["port-forward", "pod/p", ":80"]).spawn().unwrap();
        let mut lines = BufReader::new(forward.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.expect("a line").unwrap();
        let line = line.unwrap_or_default();
        let port = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|l| l.split(' ').next()).expect("a port");
        for _ in 0..3 {
            let mut tcp = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
            tcp.write_all(b"abc").await.unwrap();
            tcp.shutdown().await.unwrap();
            let mut text = String::new();
            tokio::time::timeout(Duration::from_secs(10), tcp.read_to_string(&mut text)).await.expect("an answer").unwrap();
            assert_eq!(text, "ABC", "{kubectl}");
        }
        forward.kill().await.unwrap();
    }
    std::fs::remove_dir_all(&home).unwrap();
}
