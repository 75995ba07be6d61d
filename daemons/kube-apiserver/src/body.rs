//! Request bodies: which form they are in, reading them within bounds, and how strict to be about what they hold.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use machinery::json::{OBJECT_DEPTH_MAX, depth};
use machinery::meta;
use machinery::status::Status;
use schema::TypeRef;
use schema::strict;
use serde_json::Value;

use crate::pipeline::RequestBody;
use crate::registry::options::{DeleteOptions, FieldValidation};
use crate::registry::patch::{self, Patch};
use crate::registry::{Context, Served, TypeSource};

/// Larger bodies are refused.
pub const BYTES_MAX: usize = 3 * 1024 * 1024;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const ACCEPTED: [&str; 3] = [JSON, YAML, schema::proto::MEDIA_TYPE];

/// Reads a whole body.
pub async fn read(mut body: RequestBody) -> Result<Bytes, Status> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("reading the body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > BYTES_MAX {
            return Err(Status::too_large(format!("limit is {BYTES_MAX}")));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// What a strict reader says about a document's repeated keys, and the document where its order counts: JSON.
#[derive(Default)]
struct Reading<'b> {
    repeated: Vec<String>,
    json: Option<&'b [u8]>,
}

/// An object of any form.
fn parse<'b>(headers: &HeaderMap, body: &'b [u8], kind: &str) -> Result<(Value, Reading<'b>), Status> {
    match media_type(headers).as_str() {
        "" | JSON | "text/json" | "*/*" => parse_json(body, kind),
        YAML | "application/x-yaml" | "text/yaml" => {
            let (value, repeated) = parse_yaml(body).map_err(|why| unrecognized(kind, &why, body))?;
            Ok((value, Reading { repeated, json: None }))
        }
        schema::proto::MEDIA_TYPE => {
            let value = schema::proto::decode(body).map_err(|error| Status::bad_request(error.to_string()))?;
            Ok((value, Reading::default()))
        }
        _ => Err(Status::unsupported_media_type(&ACCEPTED)),
    }
}

fn parse_json<'b>(body: &'b [u8], kind: &str) -> Result<(Value, Reading<'b>), Status> {
    let refused = |why: &str| unrecognized(kind, &format!("couldn't get version/kind; json parse error: {why}"), body);
    let (value, repeated) = machinery::json::parse_strict(body).map_err(|error| refused(&error.to_string()))?;
    if !value.is_object() && !value.is_null() {
        return Err(refused(&not_an_object(&value)));
    }
    let repeated = repeated.iter().map(|path| format!("duplicate field \"{path}\"")).collect();
    Ok((value, Reading { repeated, json: Some(body) }))
}

/// What upstream's reader of kind and version says of a value that has neither.
fn not_an_object(value: &Value) -> String {
    let found = match value {
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Bool(_) => "bool",
        _ => "number",
    };
    format!(
        "json: cannot unmarshal {found} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
    )
}

fn unrecognized(kind: &str, why: &str, body: &[u8]) -> Status {
    Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why} ({})", summary(body)))
}

/// The beginning of a body, for messages.
fn summary(body: &[u8]) -> String {
    const SHOWN_BYTES: usize = 30;
    let end = body.len().min(SHOWN_BYTES);
    let more = if body.len() > end { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(&body[..end])),
        Some(_) => body[..end].iter().map(|byte| format!("{byte:02x}")).collect::<String>() + more,
    }
}

fn parse_yaml(body: &[u8]) -> Result<(Value, Vec<String>), String> {
    let text = std::str::from_utf8(body).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    let (value, complaint) = machinery::yaml::to_value_lenient(text).map_err(|error| error.to_string())?;
    Ok((value, complaint.into_iter().collect()))
}

/// The object of a create or update, of the kind that the path serves.
pub fn object(cx: &Context, served: &Served, headers: &HeaderMap, body: &[u8]) -> Result<Value, Status> {
    let resource = &served.resource;
    let custom = matches!(served.types, TypeSource::Custom(_));
    if custom && media_type(headers) == schema::proto::MEDIA_TYPE {
        return Err(Status::unsupported_media_type(&[JSON, YAML]));
    }
    let (mut value, reading) = parse(headers, body, &resource.kind)?;
    check_kind(&mut value, &resource.api_version(), &resource.kind)?;
    settle(cx, served, &mut value, &reading).map_err(|why| {
        Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {why}",
            resource.kind, resource.version, resource.kind
        ))
    })?;
    Ok(value)
}

/// Who replaces an object says which.
pub fn require_name(object: &Value, name: &str) -> Result<(), Status> {
    if meta::name(object).is_empty() {
        let why = format!("the name of the object ({name} based on URL) was undeterminable: name must be provided");
        return Err(Status::bad_request(why));
    }
    Ok(())
}

/// The object of a subresource, of one of the types that all groups share (`Scale`, `Eviction`, `DeleteOptions`…).
pub fn typed(cx: &Context, headers: &HeaderMap, body: &[u8], api_version: &str, kind: &str) -> Result<Value, Status> {
    let (mut value, reading) = parse(headers, body, kind)?;
    if value.is_object() && meta::kind(&value).is_empty() {
        let map = meta::as_object_mut(&mut value);
        map.insert("kind".to_owned(), kind.into());
        map.insert("apiVersion".to_owned(), api_version.into());
    }
    if meta::kind(&value) != kind {
        return Err(wrong_kind(&value, api_version, kind));
    }
    let given = meta::api_version(&value).to_owned();
    if let Some(ty) = schema::builtin().type_of_api_version(&given, kind) {
        strictly(cx, ty, &mut value, &reading, true).map_err(Status::bad_request)?;
    }
    Ok(value)
}

/// 400 for an object of another kind, worded as upstream's scheme does: a kind that it knows could not be converted, any other
/// is not registered.
fn wrong_kind(value: &Value, api_version: &str, kind: &str) -> Status {
    let (given_version, given_kind) = (meta::api_version(value), meta::kind(value));
    let version = given_version.rsplit('/').next().unwrap_or_default();
    let why = if schema::builtin().type_of_api_version(given_version, given_kind).is_some() {
        format!("converting ({version}.{given_kind}) to ({}.{kind}): unknown conversion", internal_package(api_version))
    } else {
        unregistered(given_version, given_kind)
    };
    Status::bad_request(format!("{given_kind} in version {version:?} cannot be handled as a {kind}: {why}"))
}

fn unregistered(api_version: &str, kind: &str) -> String {
    const SCHEME: &str = "pkg/api/legacyscheme/scheme.go:30";
    format!("no kind {kind:?} is registered for version {api_version:?} in scheme {SCHEME:?}")
}

/// The Go package of a group's internal types: `core`, or the first word of the group's name.
fn internal_package(api_version: &str) -> &str {
    match api_version.split_once('/') {
        Some((group, _)) => group.split('.').next().unwrap_or(group),
        None => "core",
    }
}

/// A body without kind and version is taken to be of the kind that the path serves.
fn check_kind(value: &mut Value, api_version: &str, kind: &str) -> Result<(), Status> {
    if !value.is_object() {
        return Err(Status::bad_request(format!("the object provided is unrecognized (must be of type {kind})")));
    }
    let (given_version, given_kind) = (meta::api_version(value).to_owned(), meta::kind(value).to_owned());
    if given_version.is_empty() || given_kind.is_empty() {
        let map = meta::as_object_mut(value);
        if given_version.is_empty() {
            map.insert("apiVersion".to_owned(), api_version.into());
        }
        if given_kind.is_empty() {
            map.insert("kind".to_owned(), kind.into());
        }
    }
    if meta::kind(value) != kind {
        return Err(wrong_kind(value, api_version, kind));
    }
    let given = meta::api_version(value);
    let known = |version: &str| schema::builtin().type_of_api_version(version, kind).is_some();
    if given != api_version && known(api_version) && !known(given) {
        return Err(wrong_kind(value, api_version, kind));
    }
    if given != api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({given}) does not match the expected API version ({api_version})"
        )));
    }
    Ok(())
}

/// Checks types, reports what the schema does not know, and brings the object into the form it is stored in.
fn settle(cx: &Context, served: &Served, value: &mut Value, reading: &Reading<'_>) -> Result<(), String> {
    if is_too_deep(value) {
        return Err("exceeded max depth".to_owned());
    }
    let builtin = matches!(served.types, TypeSource::Builtin);
    match served.type_ref() {
        Some(ty) => strictly(cx, ty, value, reading, builtin),
        None => Ok(()),
    }
}

/// Whether the object might not be readable once it is stored. Its `managedFields` have as many levels as what they tell of, and
/// some more.
fn is_too_deep(value: &Value) -> bool {
    const OWNERS_LEVELS: usize = 10;
    let members = value.as_object().into_iter().flatten();
    members.into_iter().any(|(name, member)| {
        let most = if name == "metadata" { OBJECT_DEPTH_MAX + OWNERS_LEVELS } else { OBJECT_DEPTH_MAX };
        1 + depth(member) > most
    })
}

/// The same for what a patch made of an object.
pub fn settle_patched(cx: &Context, served: &Served, value: &mut Value) -> Result<(), Status> {
    settle(cx, served, value, &Reading::default()).map_err(|why| unfit(&value.to_string(), why))
}

/// The same for a strategic merge, of which upstream says what the patch has and the type has not.
pub fn settle_merged(cx: &Context, served: &Served, value: &mut Value, patch: &Value) -> Result<(), Status> {
    settle(cx, served, value, &Reading::default()).map_err(|why| {
        // Nothing is changed of what is refused.
        let problems = served.type_ref().map(|ty| strict::check(value, ty)).unwrap_or_default();
        match problems.iter().find(|problem| problem.is_fatal()).and_then(unconvertible) {
            Some(why) => unfit(&machinery::gotext::plain(patch), why),
            None if why.starts_with("strict decoding error") => unfit(&machinery::gotext::plain(patch), why),
            None => unfit(&value.to_string(), why),
        }
    })
}

/// What upstream's converter of maps into types says of a value of another type.
fn unconvertible(problem: &strict::StrictError) -> Option<String> {
    let strict::StrictErrorKind::WrongType { expected, found, .. } = &problem.kind else { return None };
    let kind = match found.split(' ').next().unwrap_or_default() {
        "object" => "map",
        "array" => "slice",
        "number" => "int64",
        other => other,
    };
    Some(match expected.as_str() {
        map if map.starts_with("map[") => format!("cannot restore map from {kind}"),
        slice if slice.starts_with("[]") => format!("cannot restore slice from {kind}"),
        structure if structure.contains('.') => format!("cannot restore struct from: {kind}"),
        // Numbers become characters there.
        "string" if kind == "int64" => return None,
        scalar => format!("unrecognized type: {scalar}"),
    })
}

/// 422 for a patch after which the object is none of its kind.
pub fn unfit(object: &str, why: impl Into<String>) -> Status {
    let path = machinery::field::Path::new("patch");
    Status::invalid("", "", vec![machinery::field::FieldError::invalid(&path, object, why)])
}

fn strictly(cx: &Context, ty: TypeRef<'_>, value: &mut Value, reading: &Reading<'_>, builtin: bool) -> Result<(), String> {
    let problems = strict::check(value, ty);
    // Custom objects are decoded as they are: that a value is of the wrong type is for their validation to say, but
    // for metadata, which is every object's.
    let typed = |path: &str| builtin || path == "metadata" || path.starts_with("metadata.");
    if let Some(fatal) = problems.iter().find(|problem| problem.is_fatal() && typed(&problem.path)) {
        return Err(fatal.to_string());
    }
    let unknown = problems.iter().filter(|problem| !problem.is_fatal());
    let mut complaints: Vec<String> = unknown.map(ToString::to_string).collect();
    // Upstream decodes custom objects first and looks for unknown fields then; built-in ones in one go.
    let place = if builtin { complaints.len() } else { 0 };
    complaints.splice(place..place, reading.repeated.iter().cloned());
    if let Some(document) = reading.json.filter(|_| builtin && complaints.len() > 1) {
        machinery::json::in_document_order(document, &mut complaints);
    }
    complain(cx, complaints)?;
    if builtin {
        strict::normalise(value, ty);
    } else {
        strict::prune(value, ty);
    }
    Ok(())
}

/// Says it to the client as loudly as it asked for.
fn complain(cx: &Context, complaints: Vec<String>) -> Result<(), String> {
    match cx.options.field_validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => complaints.into_iter().for_each(|warning| cx.warn(warning)),
        FieldValidation::Strict if complaints.is_empty() => {}
        FieldValidation::Strict => return Err(format!("strict decoding error: {}", complaints.join(", "))),
    }
    Ok(())
}

/// The patch of a PATCH request.
pub fn patch(cx: &Context, served: &Served, headers: &HeaderMap, body: &[u8]) -> Result<Patch, Status> {
    let media_type = media_type(headers);
    let accepted = Patch::accepted(served);
    if !accepted.contains(&media_type.as_str()) {
        return Err(Status::unsupported_media_type(accepted));
    }
    let json = || {
        let doing = if media_type == patch::STRATEGIC { "" } else { "error decoding patch: " };
        let (value, repeated) =
            machinery::json::parse_strict(body).map_err(|error| Status::bad_request(format!("{doing}{error}")))?;
        let repeated: Vec<String> = repeated.iter().map(|path| format!("duplicate field \"{path}\"")).collect();
        complain(cx, repeated).map_err(|why| unfit(&value.to_string(), why))?;
        Ok::<_, Status>(value)
    };
    Ok(match media_type.as_str() {
        patch::JSON => Patch::Json(json()?),
        patch::MERGE => Patch::Merge(json()?),
        patch::STRATEGIC => Patch::Strategic(json()?),
        _ => {
            let (value, complaints) = parse_yaml(body)
                .map_err(|why| Status::bad_request(format!("error decoding YAML: error converting YAML to JSON: {why}")))?;
            for complaint in complaints {
                let complaint = format!("error converting YAML to JSON: {complaint}");
                match cx.options.field_validation {
                    FieldValidation::Ignore => {}
                    FieldValidation::Warn => cx.warn(complaint),
                    FieldValidation::Strict => {
                        return Err(Status::bad_request(format!("error strict decoding YAML: {complaint}")));
                    }
                }
            }
            Patch::Apply(value)
        }
    })
}

/// Options that cannot be read are spoken of without the object that they are none of.
fn without_object(mut status: Status) -> Status {
    if let Some((_, why)) = status.message.split_once("(must be of type DeleteOptions): ") {
        status.message = why.rsplit_once(" (").map_or(why, |(why, _)| why).to_owned();
    }
    status
}

/// The options of a deletion: from the body, or from the query when there is none.
pub fn delete_options(headers: &HeaderMap, body: &[u8], query: &str) -> Result<DeleteOptions, Status> {
    if body.is_empty() {
        return DeleteOptions::from_query(query);
    }
    let (value, _) = parse(headers, body, "DeleteOptions").map_err(without_object)?;
    let kind = meta::kind(&value);
    if !kind.is_empty() && kind != "DeleteOptions" {
        return Err(Status::bad_request(format!("decoded object cannot be converted to DeleteOptions: {kind}")));
    }
    serde_json::from_value(value).map_err(|error| Status::bad_request(format!("DeleteOptions: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_that_are_too_deep() {
        let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({"a": inner}));
        for (object, too_deep) in [
            (json!({"data": nested(OBJECT_DEPTH_MAX - 1), "metadata": {}}), false),
            (json!({"data": nested(OBJECT_DEPTH_MAX)}), true),
            // What the server itself has made of an object that is just not too deep.
            (json!({"metadata": {"managedFields": [{"fieldsV1": nested(OBJECT_DEPTH_MAX + 1)}]}}), false),
            (json!({"metadata": {"managedFields": [{"fieldsV1": nested(OBJECT_DEPTH_MAX + 10)}]}}), true),
            (json!([nested(OBJECT_DEPTH_MAX)]), false),
        ] {
            assert_eq!(is_too_deep(&object), too_deep);
        }
    }

    #[test]
    fn objects_of_another_kind() {
        let check = |given: (&str, &str), expected: (&str, &str), want: Result<(), &str>| {
            let mut value = json!({"apiVersion": given.0, "kind": given.1});
            let got = check_kind(&mut value, expected.0, expected.1).map_err(|status| status.message);
            assert_eq!(got, want.map_err(str::to_owned), "{given:?}");
        };
        check(("v1", "Pod"), ("v1", "Pod"), Ok(()));
        check(("", ""), ("v1", "Pod"), Ok(()));
        check(
            ("v1", "Pod"),
            ("v1", "ConfigMap"),
            Err(
                "Pod in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion",
            ),
        );
        check(
            ("a.b/v2", "Pod"),
            ("v1", "Pod"),
            Err(
                "Pod in version \"v2\" cannot be handled as a Pod: no kind \"Pod\" is registered for version \"a.b/v2\" in scheme \
                 \"pkg/api/legacyscheme/scheme.go:30\"",
            ),
        );
        check(
            ("v1", "Event"),
            ("events.k8s.io/v1", "Event"),
            Err("the API version in the data (v1) does not match the expected API version (events.k8s.io/v1)"),
        );
    }

    #[test]
    fn summaries() {
        assert_eq!(summary(b""), "<empty>");
        assert_eq!(summary(b"{\"a\":1}"), "{\"a\":1}");
        assert_eq!(summary(b"ab"), "6162");
        assert_eq!(summary(&[b'{'; 40]), format!("{} ...", "{".repeat(30)));
    }
}
