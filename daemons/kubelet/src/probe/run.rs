//! One look at a container: a command, an HTTP request, a connection, or the gRPC health protocol.

use std::net::IpAddr;
use std::time::Duration;

use api::IntOrString;
use api::core::{Container, ExecAction, GRPCAction, HTTPGetAction, TCPSocketAction};
use cri::tonic;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::runtime::client::Runtime;

/// More of an answer than this is not read.
const BODY_BYTES_MAX: usize = 10 * 1024;

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Target {
    pub container_id: String,
    pub pod_ip: Option<IpAddr>,
}

/// `Ok` is a success with its output; `Err` tells what was wrong.
pub type Answer = Result<String, String>;

/// The parts of a probe or a hook that say what to do.
#[derive(Clone, Debug, Default)]
pub struct Action {
    pub exec: Option<ExecAction>,
    pub http: Option<HTTPGetAction>,
    pub tcp: Option<TCPSocketAction>,
    pub grpc: Option<GRPCAction>,
}

pub async fn run(action: &Action, container: &Container, target: &Target, runtime: &Runtime, timeout: Duration) -> Answer {
    if let Some(exec) = &action.exec {
        return command(exec, target, runtime, timeout).await;
    }
    let look = async {
        if let Some(get) = &action.http {
            return http(get, container, target).await;
        }
        if let Some(tcp) = &action.tcp {
            return connect(tcp, container, target).await;
        }
        if let Some(health) = &action.grpc {
            return grpc(health, target).await;
        }
        Err("missing probe handler".to_owned())
    };
    match tokio::time::timeout(timeout, look).await {
        Ok(answer) => answer,
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

async fn command(exec: &ExecAction, target: &Target, runtime: &Runtime, timeout: Duration) -> Answer {
    let result = runtime.exec_sync(&target.container_id, exec.command.clone().unwrap_or_default(), timeout).await;
    match result {
        Ok(done) => {
            let mut output = String::from_utf8_lossy(&done.stdout).into_owned();
            output.push_str(&String::from_utf8_lossy(&done.stderr));
            truncate(&mut output);
            if done.exit_code == 0 { Ok(output) } else { Err(output) }
        }
        Err(error) if error.code == tonic::Code::DeadlineExceeded => Err(format!("command timed out: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

fn truncate(text: &mut String) {
    if text.len() > BODY_BYTES_MAX {
        let mut end = BODY_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

/// A port by number, or by the name that the container gives it.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(n) => *n,
        IntOrString::String(name) => match container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name)) {
            Some(p) => p.container_port,
            None => name.parse().map_err(|_| format!("couldn't find port: {name}"))?,
        },
    };
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

fn host(given: Option<&str>, target: &Target) -> Result<String, String> {
    match given.filter(|h| !h.is_empty()) {
        Some(host) => Ok(host.to_owned()),
        None => target.pod_ip.map(|ip| ip.to_string()).ok_or_else(|| "the pod has no address".to_owned()),
    }
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn dial(address: &str) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|e| format!("dial tcp {address}: connect: {}", reason(&e)))
}

/// The error without "(os error N)", in lower case, as Go prints it.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

async fn connect(tcp: &TCPSocketAction, container: &Container, target: &Target) -> Answer {
    let address = join(&host(tcp.host.as_deref(), target)?, port(&tcp.port, container)?);
    dial(&address).await.map(|_| String::new())
}

/// A GET whose answer's status decides: 200 to 399 is well. Redirects are not followed: a pod could send the kubelet anywhere.
async fn http(get: &HTTPGetAction, container: &Container, target: &Target) -> Answer {
    let host = host(get.host.as_deref(), target)?;
    let port = port(&get.port, container)?;
    let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let path = match get.path.as_deref().unwrap_or("/") {
        p if p.starts_with('/') => p.to_owned(),
        p => format!("/{p}"),
    };
    let url = format!("{scheme}://{}{path}", join(&host, port));
    let wrong = |what: String| format!("Get \"{url}\": {what}");
    let stream = dial(&join(&host, port)).await.map_err(wrong)?;
    let request = http_request(get, &host, port, &path)?;
    let answer = if scheme == "https" {
        let tls = tls_connect(stream, &host).await.map_err(|e| wrong(e.to_string()))?;
        exchange(tls, &request).await
    } else {
        exchange(stream, &request).await
    };
    let (status, body) = answer.map_err(|e| wrong(e.to_string()))?;
    if (200..400).contains(&status) { Ok(body) } else { Err(format!("HTTP probe failed with statuscode: {status}")) }
}

/// The request as text. Headers from the specification may not break the lines.
fn http_request(get: &HTTPGetAction, host: &str, port: u16, path: &str) -> Result<String, String> {
    let clean = |text: &str| !text.contains(['\r', '\n']);
    let mut headers = String::new();
    let (mut host_given, mut agent, mut accept) = (None, true, true);
    for header in get.http_headers.iter().flatten() {
        if !clean(&header.name) || !clean(&header.value) {
            return Err(format!("invalid header {:?}", header.name));
        }
        match header.name.to_ascii_lowercase().as_str() {
            "host" => {
                host_given = Some(header.value.clone());
                continue;
            }
            "user-agent" => agent = false,
            "accept" => accept = false,
            _ => {}
        }
        if !header.value.is_empty() {
            headers.push_str(&format!("{}: {}\r\n", header.name, header.value));
        }
    }
    if agent {
        headers.push_str("User-Agent: kube-probe/1.36\r\n");
    }
    if accept {
        headers.push_str("Accept: */*\r\n");
    }
    if !clean(path) || path.contains(' ') {
        return Err(format!("invalid path {path:?}"));
    }
    let host = host_given.unwrap_or_else(|| join(host, port));
    Ok(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n"))
}

async fn exchange(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    request: &str,
) -> std::io::Result<(u16, String)> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        let n = match stream.read(&mut chunk).await {
            Ok(n) => n,
            // A server that closes without goodbye after a whole answer is well enough.
            Err(_) if !answer.is_empty() => 0,
            Err(error) => return Err(error),
        };
        answer.extend_from_slice(&chunk[..n]);
        if n == 0 || answer.len() >= BODY_BYTES_MAX || head_is_complete(&answer) {
            break;
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    let Some(status) = status else {
        let what = if answer.is_empty() { "EOF" } else { "malformed HTTP response" };
        return Err(std::io::Error::other(what));
    };
    let body = text.split_once("\r\n\r\n").map(|(_, b)| b.to_owned()).unwrap_or_default();
    Ok((status, body))
}

/// The status decides; the body is only for a message, and what came with the head is enough of it.
fn head_is_complete(answer: &[u8]) -> bool {
    answer.windows(4).any(|w| w == b"\r\n\r\n")
}

/// TLS without verification, as upstream's probes: the kubelet has no authority for a pod's certificate.
async fn tls_connect(stream: TcpStream, host: &str) -> Result<tokio_rustls::client::TlsStream<TcpStream>, std::io::Error> {
    let config = client::config::Config::new(
        &client::kubeconfig::Cluster {
            server: "https://probe.invalid".to_owned(),
            insecure_skip_tls_verify: true,
            ..client::kubeconfig::Cluster::default()
        },
        &client::kubeconfig::User::default(),
    )
    .and_then(|c| c.tls(&[b"http/1.1"]))
    .map_err(std::io::Error::other)?;
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await
}

/// `grpc.health.v1.Health/Check`: a request with the service's name, an answer with one number.
async fn grpc(health: &GRPCAction, target: &Target) -> Answer {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Check {
        #[prost(string, tag = "1")]
        service: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Serving {
        #[prost(int32, tag = "1")]
        status: i32,
    }
    const SERVING: i32 = 1;
    let ip = target.pod_ip.ok_or("the pod has no address")?;
    let port = u16::try_from(health.port).map_err(|_| format!("invalid port number: {}", health.port))?;
    let address = join(&ip.to_string(), port);
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
    let unreachable = || format!("timeout: failed to connect service \"{address}\" within 1s: context deadline exceeded");
    let channel = endpoint.connect().await.map_err(|_| unreachable())?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|e| e.to_string())?;
    let request = tonic::Request::new(Check { service: health.service.clone().unwrap_or_default() });
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = tonic_prost::ProstCodec::<Check, Serving>::default();
    match client.unary(request, path, codec).await {
        Ok(answer) if answer.get_ref().status == SERVING => Ok("service healthy".to_owned()),
        Ok(answer) => Err(format!("service unhealthy (responded with \"{}\")", status_name(answer.get_ref().status))),
        Err(status) if status.code() == tonic::Code::Unimplemented => {
            Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned())
        }
        Err(status) => Err(format!("error: health rpc failed: {}", status.message())),
    }
}

fn status_name(status: i32) -> &'static str {
    match status {
        1 => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::net::TcpListener;

    fn container() -> Container {
        serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]})).unwrap()
    }

    #[test]
    fn ports() {
        let c = container();
        assert_eq!(port(&IntOrString::String("web".into()), &c), Ok(8080));
        assert_eq!(port(&IntOrString::Int(80), &c), Ok(80));
        assert_eq!(port(&IntOrString::String("99".into()), &c), Ok(99));
        assert!(port(&IntOrString::String("no".into()), &c).is_err());
        assert!(port(&IntOrString::Int(0), &c).is_err());
    }

    async fn probe(answer: &'static str) -> Answer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let _ = socket.read(&mut buffer).await;
            let _ = socket.write_all(answer.as_bytes()).await;
        });
        let get = HTTPGetAction { port: IntOrString::Int(port.into()), path: Some("/x".into()), ..HTTPGetAction::default() };
        let target = Target { container_id: String::new(), pod_ip: Some("127.0.0.1".parse().unwrap()) };
        http(&get, &container(), &target).await
    }

    #[tokio::test]
    async fn http_statuses() {
        assert!(probe("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_ok());
        assert!(probe("HTTP/1.1 302 Found\r\nLocation: http://other/\r\n\r\n").await.is_ok());
        assert_eq!(probe("HTTP/1.1 500 No\r\n\r\n").await.unwrap_err(), "HTTP probe failed with statuscode: 500");
        assert!(probe("").await.unwrap_err().ends_with("EOF"));
    }

    #[test]
    fn headers_cannot_smuggle() {
        let get: HTTPGetAction =
            serde_json::from_value(json!({"port": 1, "httpHeaders": [{"name": "X", "value": "a\r\nHost: evil"}]})).unwrap();
        assert!(http_request(&get, "h", 1, "/").is_err());
    }
}
