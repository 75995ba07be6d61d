use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use prost::Message;

use super::config::TracingConfiguration;
use super::*;

fn info(method: &str, path: &str) -> (Method, RequestInfo) {
    let method: Method = method.parse().unwrap();
    let info = RequestInfo::parse(&method, path, "");
    (method, info)
}

#[test]
fn names_of_spans() {
    for (method, path, expected) in [
        ("GET", "/healthz", "GET"),
        ("GET", "/api/v1/pods", "GET /api/v1/pods"),
        ("POST", "/api/v1/namespaces/ns/pods", "POST /api/v1/namespaces/{:namespace}/pods"),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/ns/deployments/web/scale",
            "PATCH /apis/apps/v1/namespaces/{:namespace}/deployments/{:name}/scale",
        ),
        ("DELETE", "/api/v1/nodes/n1", "DELETE /api/v1/nodes/{:name}"),
    ] {
        let (method, info) = info(method, path);
        assert_eq!(name(&method, &info), expected);
    }
}

#[test]
fn whose_trace_it_is() {
    let (method, info) = info("GET", "/api/v1/pods");
    let remote = SpanContext { trace: [7; 16], span: [8; 8], sampled: true };
    let asked = |remote| Asked {
        method: &method,
        info: &info,
        target: "/api/v1/pods?limit=1",
        user_agent: "kubectl",
        audit_id: "a-1",
        received: Timestamp::UNIX_EPOCH,
        remote,
    };
    let (never, always) = (Sampler::per_million(0), Sampler::per_million(sampler::MILLION));
    let anybody = User::new("bob", &["system:authenticated"]);
    let admin = User::new("ann", &["system:masters"]);
    let random = std::array::from_fn(|i| i as u8);
    // An administrator's trace goes on here, sampled or not by their word.
    let span = begin(never, &asked(Some(remote)), &admin, random).unwrap();
    assert_eq!((span.trace_id, span.parent_span_id, span.links.len()), (vec![7; 16], vec![8; 8], 0));
    assert_eq!(span.span_id, [16, 17, 18, 19, 20, 21, 22, 23]);
    assert!(begin(always, &asked(Some(SpanContext { sampled: false, ..remote })), &admin, random).is_none());
    // Another's is linked to, and decides nothing.
    assert!(begin(never, &asked(Some(remote)), &anybody, random).is_none());
    let span = begin(always, &asked(Some(remote)), &anybody, random).unwrap();
    assert_eq!((&span.trace_id[..3], span.parent_span_id.len(), span.links.len()), (&[0, 1, 2][..], 0, 1));
    assert!(begin(never, &asked(None), &anybody, random).is_none());
}

/// Answers gRPC's way: an empty message, and the status in the trailers.
async fn collect(
    request: http::Request<hyper::body::Incoming>,
    seen: tokio::sync::mpsc::Sender<otlp::Span>,
) -> http::Response<daemon::http::Body> {
    const EMPTY: &[u8] = &[0; 5];
    assert_eq!(request.uri().path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    // One byte says that nothing is compressed, four how long it is.
    let export = otlp::Export::decode(&body[5..]).unwrap();
    for span in export.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans) {
        seen.send(span).await.unwrap();
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let frames = [Frame::data(Bytes::from_static(EMPTY)), Frame::trailers(trailers)].map(Ok::<_, crate::respond::BoxError>);
    let body = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
    http::Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

/// A collector of a few lines: what it is sent comes back as the spans' names.
#[tokio::test]
async fn spans_reach_a_collector() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, mut spans) = tokio::sync::mpsc::channel(10);
    let collector = move |request| collect(request, seen.clone());
    tokio::spawn(daemon::http::serve(listener, None, daemon::http::Limits::default(), daemon::Shutdown::new(), collector));
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\nendpoint: 127.0.0.1:{port}\nsamplingRatePerMillion: 1000000\n"
    );
    let configuration = TracingConfiguration::parse(&text).unwrap();
    let exporter = Exporter::start(&configuration.endpoint, "one".to_owned()).unwrap();
    let tracer = std::sync::Arc::new(Tracer { sampler: configuration.sampler, exporter, now: Timestamp::now });
    let (method, info) = info("GET", "/api/v1/pods");
    let asked = Asked {
        method: &method,
        info: &info,
        target: "/api/v1/pods",
        user_agent: "",
        audit_id: "a-1",
        received: Timestamp::now(),
        remote: None,
    };
    let mut open = tracer.begin(&asked, &User::new("bob", &[]), [1; 24]).unwrap();
    open.answered(503);
    drop(open);
    // Its last owner: what waits is sent at once.
    drop(tracer);
    let wait = std::time::Duration::from_secs(20);
    let span: otlp::Span = tokio::time::timeout(wait, spans.recv()).await.expect("a span in time").unwrap();
    assert_eq!(span.name, "GET /api/v1/pods");
    assert_eq!(span.status, Some(otlp::Status { code: otlp::ERROR }));
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    assert!(span.attributes.contains(&KeyValue::text("audit-id", "a-1")));
    assert!(span.attributes.contains(&KeyValue::int("http.response.status_code", 503)));
}
