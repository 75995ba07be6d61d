//! `kctl proxy`: the API server on a local port, with this user's credentials.
//!
//! Whoever reaches the port acts as the user. So it listens to this host alone unless told otherwise, and refuses requests
//! whose Host is another one: a page in a browser must not reach it by a name of its own (DNS rebinding).

use std::{
    convert::Infallible,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use clap::Args;
use futures::TryStreamExt;
use host::beneath::Directory;
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Request as Incoming, Response, StatusCode, body::Frame, header, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use regex::Regex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};

use crate::kube::{Error, Request, Result, Session, error::io_text};

/// Largest request that is passed on.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Largest file that is served.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Connections at the same time.
const CONNECTIONS_MAX: usize = 1024;

/// Serves the API on a local port, with your credentials
///
///   kctl proxy --port=8080               then: curl http://localhost:8080/api/v1/pods
///   kctl proxy --unix-socket=/run/user/1000/kctl.sock
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ProxyArgs {
    /// The port; 0 takes a free one
    #[arg(short, long, default_value_t = 8001)]
    port: u16,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    address: String,
    /// Listen on a Unix socket instead
    #[arg(short, long, value_name = "FILE")]
    unix_socket: Option<PathBuf>,
    /// Path that the API is served under
    #[arg(long, default_value = "/")]
    api_prefix: String,
    /// Regular expressions of paths that are served
    #[arg(long, value_name = "RE,…", default_value = "^.*")]
    accept_paths: String,
    /// Regular expressions of paths that are refused
    #[arg(long, value_name = "RE,…", default_value = "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach")]
    reject_paths: String,
    /// Regular expressions of hosts that are served
    #[arg(long, value_name = "RE,…", default_value = r"^localhost$,^127\.0\.0\.1$,^\[::1\]$")]
    accept_hosts: String,
    /// Regular expressions of methods that are refused
    #[arg(long, value_name = "RE,…", default_value = "^$")]
    reject_methods: String,
    /// Serve the files of this directory too, under --www-prefix
    #[arg(short = 'w', long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    www: Option<PathBuf>,
    /// Path that files are served under
    #[arg(short = 'P', long, value_name = "PREFIX", default_value = "/static/")]
    www_prefix: String,
    /// Paths are taken below that of the server's URL: it is always so
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true", hide = true)]
    append_server_path: bool,
    /// Serve everything to everybody who reaches the port
    #[arg(long)]
    disable_filter: bool,
}

/// What is served.
struct Filter {
    accept_paths: Vec<Regex>,
    reject_paths: Vec<Regex>,
    accept_hosts: Vec<Regex>,
    reject_methods: Vec<Regex>,
}

fn expressions(list: &str) -> Result<Vec<Regex>> {
    let parts = list.split(',').filter(|_| !list.is_empty());
    parts.map(|part| Regex::new(part).map_err(|error| Error::message(format!("Error compiling re: {error}")))).collect()
}

impl Filter {
    fn new(args: &ProxyArgs) -> Result<Option<Self>> {
        if args.disable_filter {
            if args.unix_socket.is_none() {
                eprintln!("Request filter disabled, your proxy is vulnerable to XSRF attacks, please be cautious");
            }
            return Ok(None);
        }
        Ok(Some(Self {
            accept_paths: expressions(&args.accept_paths)?,
            reject_paths: expressions(&args.reject_paths)?,
            accept_hosts: expressions(&args.accept_hosts)?,
            reject_methods: expressions(&args.reject_methods)?,
        }))
    }

    fn accepts(&self, method: &str, path: &str, host: &str) -> bool {
        let any = |list: &[Regex], text: &str| list.iter().any(|one| one.is_match(text));
        !any(&self.reject_paths, path)
            && !any(&self.reject_methods, method)
            && any(&self.accept_paths, path)
            && any(&self.accept_hosts, host)
    }
}

/// `localhost` of `localhost:8001`.
fn host(header: &str) -> &str {
    match header.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => header,
    }
}

/// The path at the API server of a path here; nothing if it is not under the prefix.
fn behind<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
    rest.starts_with('/').then_some(rest)
}

type Body = UnsyncBoxBody<Bytes, reqwest::Error>;

struct Proxy {
    session: Session,
    filter: Option<Filter>,
    prefix: String,
    files: Option<Files>,
}

/// Files that are served beside the API.
struct Files {
    directory: Directory,
    prefix: String,
}

impl Files {
    fn new(args: &ProxyArgs) -> Result<Option<Self>> {
        let Some(path) = &args.www else { return Ok(None) };
        let failed = |error| Error::message(format!("open {}: {}", path.display(), io_text(&error)));
        let prefix = format!("/{}/", args.www_prefix.trim_matches('/')).replace("//", "/");
        Ok(Some(Self { directory: Directory::open(path).map_err(failed)?, prefix }))
    }

    /// The file that a path names, and its media type; of a directory, its `index.html`.
    fn read(&self, path: &str) -> std::io::Result<(Vec<u8>, &'static str)> {
        let name = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        let mut name = PathBuf::from(name.as_ref());
        if path.is_empty() || path.ends_with('/') {
            name.push("index.html");
        }
        let mut content = Vec::new();
        self.directory.read(&name)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        Ok((content, media_type(&name)))
    }
}

fn media_type(name: &Path) -> &'static str {
    match name.extension().and_then(|end| end.to_str()).unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "txt" | "log" | "yaml" | "yml" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

pub async fn run(args: ProxyArgs, session: Session) -> Result<()> {
    let prefix = format!("/{}/", args.api_prefix.trim_matches('/')).replace("//", "/");
    let proxy = Arc::new(Proxy { session, filter: Filter::new(&args)?, prefix, files: Files::new(&args)? });
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    let place = || async {
        // Nothing closes the semaphore.
        places.clone().acquire_owned().await.ok()
    };
    if let Some(path) = &args.unix_socket {
        let failed = |error| Error::message(format!("listen unix {}: {error}", path.display()));
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        println!("Starting to serve on {}", path.display());
        loop {
            let (place, (io, _)) = (place().await, listener.accept().await?);
            serve(proxy.clone(), io, place);
        }
    }
    let address = if args.address.contains(':') { format!("[{}]", args.address) } else { args.address.clone() };
    let address = format!("{address}:{}", args.port);
    let failed = |error| Error::message(format!("listen tcp {address}: bind: {}", io_text(&error)));
    let listener = TcpListener::bind(&address).await.map_err(failed)?;
    let local: SocketAddr = listener.local_addr()?;
    println!("Starting to serve on {local}");
    loop {
        let (place, (io, _)) = (place().await, listener.accept().await?);
        serve(proxy.clone(), io, place);
    }
}

/// Serves a connection for as long as it is open.
fn serve<P: Send + 'static>(proxy: Arc<Proxy>, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, place: P) {
    tokio::spawn(async move {
        let service = service_fn(move |request| {
            let proxy = proxy.clone();
            async move { Ok::<_, Infallible>(proxy.answer(request).await) }
        });
        // That a client went away is not told to anybody.
        let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await;
        drop(place);
    });
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

impl Proxy {
    async fn answer(&self, request: Incoming<hyper::body::Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        // As upstream's: the filter is the API's.
        if let Some(files) = &self.files
            && let Some(name) = path.strip_prefix(&files.prefix)
        {
            return match files.read(name) {
                Ok((content, media_type)) => {
                    let mut response = text(StatusCode::OK, content);
                    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
                    response
                }
                Err(_) => text(StatusCode::NOT_FOUND, "404 page not found\n"),
            };
        }
        let named = parts.headers.get(header::HOST).and_then(|value| value.to_str().ok());
        let named = named.or(parts.uri.authority().map(http::uri::Authority::as_str)).unwrap_or_default();
        let accepts = |filter: &Filter| filter.accepts(parts.method.as_str(), path, host(named));
        if self.filter.as_ref().is_some_and(|filter| !accepts(filter)) {
            return text(StatusCode::FORBIDDEN, "Forbidden\n");
        }
        let Some(path) = behind(path, &self.prefix) else { return text(StatusCode::NOT_FOUND, "404 page not found\n") };
        let target = parts.uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large\n");
        };
        let request = Request::new(parts.method.clone(), target).endless();
        match self.session.pass_on(request, &parts.headers, body.to_bytes()).await {
            Ok(answer) => {
                let mut response = Response::builder().status(answer.status());
                for (name, value) in answer.headers() {
                    // The connection to the client has a frame of its own.
                    if ![header::TRANSFER_ENCODING, header::CONNECTION, header::CONTENT_LENGTH].contains(name) {
                        response = response.header(name, value);
                    }
                }
                let body = StreamBody::new(answer.bytes_stream().map_ok(Frame::data)).boxed_unsync();
                response.body(body).unwrap_or_else(|error| text(StatusCode::BAD_GATEWAY, error.to_string()))
            }
            Err(error) => text(StatusCode::BAD_GATEWAY, format!("{}\n", error.text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ProxyArgs,
    }

    #[test]
    fn what_is_served() {
        let filter = |line: &str| {
            let args = Line::try_parse_from(std::iter::once("proxy").chain(line.split_whitespace())).unwrap().args;
            Filter::new(&args).unwrap()
        };
        let check = |line: &str, method: &str, path: &str, name: &str, want: bool| {
            let filter = filter(line).unwrap();
            assert_eq!(filter.accepts(method, path, host(name)), want, "{line} {method} {path} {name}");
        };
        check("", "GET", "/api/v1/pods", "localhost:8001", true);
        check("", "GET", "/api/v1/pods", "127.0.0.1", true);
        check("", "GET", "/api/v1/pods", "[::1]:8001", true);
        check("", "GET", "/api/v1/pods", "evil.example:8001", false);
        check("", "POST", "/api/v1/namespaces/a/pods/b/exec", "localhost", false);
        check("--reject-methods=POST,PUT", "PUT", "/api", "localhost", false);
        check("--accept-paths=^/api/v1", "GET", "/apis", "localhost", false);
        check("--accept-hosts=.*", "GET", "/apis", "evil.example", true);
        assert!(expressions("(").is_err());
    }

    #[test]
    fn files_beside_the_api() {
        let directory = std::env::temp_dir().join(format!("kctl-proxy-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("www/sub")).unwrap();
        for (name, content) in [("www/index.html", "hello"), ("www/sub/a b.txt", "text"), ("secret", "s3cret")] {
            std::fs::write(directory.join(name), content).unwrap();
        }
        std::os::unix::fs::symlink("../secret", directory.join("www/link")).unwrap();
        let line = format!("proxy --www={}/www --www-prefix=files", directory.display());
        let files = Files::new(&Line::try_parse_from(line.split(' ')).unwrap().args).unwrap().unwrap();
        assert_eq!(files.prefix, "/files/");
        let read = |path: &str| files.read(path).ok().map(|(content, kind)| (String::from_utf8(content).unwrap(), kind));
        assert_eq!(read(""), Some(("hello".into(), "text/html; charset=utf-8")));
        assert_eq!(read("sub/a%20b.txt"), Some(("text".into(), "text/plain; charset=utf-8")));
        for outside in ["../secret", "%2e%2e/secret", "link", "/etc/passwd", "sub", "none"] {
            assert_eq!(read(outside), None, "{outside}");
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn prefixes() {
        assert_eq!(behind("/api/v1", "/"), Some("/api/v1"));
        assert_eq!(behind("/k8s/api/v1", "/k8s/"), Some("/api/v1"));
        assert_eq!(behind("/api", "/k8s/"), None);
    }
}
