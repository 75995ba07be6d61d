//! Content negotiation: which form of the answer the client can read, and which view of the objects it asked for.

use http::HeaderMap;
use machinery::status::Status;

/// The bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Json,
    /// Indented, for people.
    PrettyJson,
    Yaml,
    Protobuf,
}

impl Wire {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::PrettyJson => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => schema::proto::MEDIA_TYPE,
        }
    }
}

/// How objects are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Object,
    /// Rows for people (`meta.k8s.io/v1` Table).
    Table,
    /// Metadata only (`meta.k8s.io/v1` PartialObjectMetadata).
    Metadata,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    pub wire: Wire,
    pub view: View,
}

/// Which answers an endpoint can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub protobuf: bool,
    /// Tables and metadata of objects.
    pub views: bool,
    pub watch: bool,
}

impl Offer {
    fn names(self) -> Vec<&'static str> {
        let mut names = vec!["application/json"];
        match (self.watch, self.protobuf) {
            (true, true) => names.extend(["application/json;stream=watch", schema::proto::WATCH_MEDIA_TYPE]),
            (true, false) => names.push("application/json;stream=watch"),
            (false, true) => names.extend(["application/yaml", schema::proto::MEDIA_TYPE]),
            (false, false) => names.push("application/yaml"),
        }
        names
    }
}

/// Chooses the first of the client's wishes that can be fulfilled.
pub fn negotiate(headers: &HeaderMap, query: &str, offer: Offer) -> Result<Accept, Status> {
    let pretty = crate::request_info::query_value(query, "pretty");
    let agent = headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let for_people = match pretty.as_deref() {
        Some(value) => value != "false" && value != "0",
        None => ["curl", "Wget", "Mozilla/5.0"].iter().any(|program| agent.starts_with(program)),
    };
    let json = if for_people && !offer.watch { Wire::PrettyJson } else { Wire::Json };
    let header = headers.get_all(http::header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(",");
    if header.trim().is_empty() {
        return Ok(Accept { wire: json, view: View::Object });
    }
    let mut clauses: Vec<Clause> = header.split(',').map(Clause::parse).collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses.iter().find_map(|clause| clause.choose(offer, json)).ok_or_else(|| Status::not_acceptable(&offer.names()))
}

/// One entry of an Accept header.
struct Clause<'a> {
    media_type: &'a str,
    shown_as: &'a str,
    group: &'a str,
    version: &'a str,
    quality: f32,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let mut clause = Self { media_type, shown_as: "", group: "", version: "", quality: 1.0 };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim() {
                "as" => clause.shown_as = value.trim(),
                "g" => clause.group = value.trim(),
                "v" => clause.version = value.trim(),
                "q" => clause.quality = value.trim().parse().unwrap_or(1.0),
                _ => {}
            }
        }
        clause
    }

    fn choose(&self, offer: Offer, json: Wire) -> Option<Accept> {
        let wire = match self.media_type {
            "application/json" | "application/*" | "*/*" => json,
            "application/yaml" if !offer.watch => Wire::Yaml,
            schema::proto::MEDIA_TYPE if offer.protobuf => Wire::Protobuf,
            _ => return None,
        };
        let meta_group = self.group == "meta.k8s.io" && matches!(self.version, "v1" | "v1beta1");
        let view = match self.shown_as {
            "" => View::Object,
            "Table" if offer.views && meta_group && wire != Wire::Protobuf => View::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList" if offer.views && meta_group => View::Metadata,
            _ => return None,
        };
        Some(Accept { wire, view })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, offer: Offer, expected: Option<(Wire, View)>) {
        let mut headers = HeaderMap::new();
        headers.insert("accept", accept.parse().unwrap());
        let got = negotiate(&headers, "", offer).ok().map(|accept| (accept.wire, accept.view));
        assert_eq!(got, expected, "{accept}");
    }

    #[test]
    fn wishes() {
        const ALL: Offer = Offer { protobuf: true, views: true, watch: false };
        const PLAIN: Offer = Offer { protobuf: true, views: false, watch: false };
        const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
        check("", ALL, Some((Wire::Json, View::Object)));
        check("*/*", ALL, Some((Wire::Json, View::Object)));
        check("application/vnd.kubernetes.protobuf, application/json", ALL, Some((Wire::Protobuf, View::Object)));
        check(&format!("{TABLE},application/json"), ALL, Some((Wire::Json, View::Table)));
        check(&format!("{TABLE},application/json"), PLAIN, Some((Wire::Json, View::Object)));
        check(TABLE, PLAIN, None);
        check(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            ALL,
            Some((Wire::Protobuf, View::Metadata)),
        );
        check("application/json;as=Table;v=v2;g=meta.k8s.io", ALL, None);
        check("text/html", ALL, None);
        check("application/cbor, application/json;q=0.5", ALL, Some((Wire::Json, View::Object)));
        check("application/yaml", ALL, Some((Wire::Yaml, View::Object)));
    }
}
