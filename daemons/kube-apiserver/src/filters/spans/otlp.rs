//! Spans on their way to a collector: OTLP over gRPC (`opentelemetry.proto.collector.trace.v1`), without TLS as upstream's.

use std::time::Duration;

use daemon::metrics::Counter;
use prost::Message;
use tokio::sync::mpsc;
use tonic::transport::Endpoint;

use crate::filters::audit::backend::{Batching, gather};

static LOST: Counter = Counter::new(
    "apiserver_tracing_lost_spans_total",
    "Number of spans that were not delivered to the collector, because it was too slow or did not take them.",
    &[],
);

const BATCHING: Batching = Batching { buffer: 2048, events_max: 512, wait_max: Duration::from_secs(5) };
const SEND_LIMIT: Duration = Duration::from_secs(10);
const PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const SERVICE: &str = "apiserver";

/// `SPAN_KIND_SERVER`
pub const SERVER: i32 = 2;
/// `STATUS_CODE_ERROR`
pub const ERROR: i32 = 2;

#[derive(Clone, PartialEq, Message)]
pub struct Export {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Link {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(int32, tag = "3")]
    pub code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 3")]
    pub value: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Int(i64),
}

impl KeyValue {
    pub fn text(key: &str, value: impl Into<String>) -> Self {
        Self { key: key.to_owned(), value: Some(AnyValue { value: Some(Any::Text(value.into())) }) }
    }

    pub fn int(key: &str, value: i64) -> Self {
        Self { key: key.to_owned(), value: Some(AnyValue { value: Some(Any::Int(value)) }) }
    }
}

/// What a collector answers; what it says of spans it refused is not looked at.
#[derive(Clone, PartialEq, Message)]
pub struct Exported {}

/// Hands spans to a collector, a bounded number at a time.
pub struct Exporter(mpsc::Sender<Span>);

impl Exporter {
    /// Sends until it is dropped; what waits then is sent still. The collector need not be there yet.
    ///
    /// # Errors
    ///
    /// The address, `host:port`, is none.
    pub fn start(address: &str, instance: String) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.timeout(SEND_LIMIT).connect_timeout(SEND_LIMIT);
        let (sender, receiver) = mpsc::channel(BATCHING.buffer);
        tokio::spawn(send(endpoint, instance, receiver));
        Ok(Self(sender))
    }

    pub fn send(&self, span: Span) {
        if self.0.try_send(span).is_err() {
            LOST.inc(&[]);
        }
    }
}

async fn send(endpoint: Endpoint, instance: String, mut spans: mpsc::Receiver<Span>) {
    let resource =
        Resource { attributes: vec![KeyValue::text("service.name", SERVICE), KeyValue::text("service.instance.id", instance)] };
    let mut collector = tonic::client::Grpc::new(endpoint.connect_lazy());
    while let Some(batch) = gather(&mut spans, BATCHING).await {
        let count = batch.len() as u64;
        let scope = ScopeSpans { spans: batch };
        let export =
            Export { resource_spans: vec![ResourceSpans { resource: Some(resource.clone()), scope_spans: vec![scope] }] };
        if let Err(error) = export_once(&mut collector, export).await {
            LOST.add(&[], count);
            tracing::warn!(%error, "sending spans");
        }
    }
}

async fn export_once(
    collector: &mut tonic::client::Grpc<tonic::transport::Channel>,
    export: Export,
) -> Result<(), tonic::Status> {
    collector.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<Export, Exported>::default();
    let path = http::uri::PathAndQuery::from_static(PATH);
    collector.unary(tonic::Request::new(export), path, codec).await.map(drop)
}
