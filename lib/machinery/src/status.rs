//! `metav1.Status`: how the API says that something failed, and the only error clients can tell apart.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field::FieldErrors;
use crate::gotext::quote;
use crate::gvk::{GroupKind, GroupResource};

/// Machine-readable reasons. A reason of a newer server is kept as [`Reason::Other`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Reason {
    #[default]
    Unknown,
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    StoreReadError,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
    Other(String),
}

const REASONS: &[(Reason, &str)] = &[
    (Reason::Unknown, ""),
    (Reason::Unauthorized, "Unauthorized"),
    (Reason::Forbidden, "Forbidden"),
    (Reason::NotFound, "NotFound"),
    (Reason::AlreadyExists, "AlreadyExists"),
    (Reason::Conflict, "Conflict"),
    (Reason::Gone, "Gone"),
    (Reason::Invalid, "Invalid"),
    (Reason::ServerTimeout, "ServerTimeout"),
    (Reason::StoreReadError, "StorageReadError"),
    (Reason::Timeout, "Timeout"),
    (Reason::TooManyRequests, "TooManyRequests"),
    (Reason::BadRequest, "BadRequest"),
    (Reason::MethodNotAllowed, "MethodNotAllowed"),
    (Reason::NotAcceptable, "NotAcceptable"),
    (Reason::RequestEntityTooLarge, "RequestEntityTooLarge"),
    (Reason::UnsupportedMediaType, "UnsupportedMediaType"),
    (Reason::InternalError, "InternalError"),
    (Reason::Expired, "Expired"),
    (Reason::ServiceUnavailable, "ServiceUnavailable"),
];

impl Reason {
    pub fn as_str(&self) -> &str {
        if let Self::Other(s) = self {
            return s;
        }
        REASONS.iter().find(|(r, _)| r == self).map_or("", |(_, s)| s)
    }

    fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

impl From<String> for Reason {
    fn from(s: String) -> Self {
        match REASONS.iter().find(|(_, text)| *text == s) {
            Some((reason, _)) => reason.clone(),
            None => Self::Other(s),
        }
    }
}

impl From<Reason> for String {
    fn from(r: Reason) -> Self {
        r.as_str().to_owned()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One cause among several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// Which object it was about, and the causes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// List-like metadata of a Status (`metadata: {}` nearly always; a continue token with 410 on expired pages).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatusMeta {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
}

/// `metav1.Status`. As an error it prints its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    pub kind: String,
    pub api_version: String,
    #[serde(deserialize_with = "null_as_default")]
    pub metadata: StatusMeta,
    /// `Success` or `Failure`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "Reason::is_unknown")]
    pub reason: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    #[serde(skip_serializing_if = "is_zero16")]
    pub code: u16,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn is_zero16(n: &u16) -> bool {
    *n == 0
}

fn null_as_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

impl Default for Status {
    fn default() -> Self {
        Self {
            kind: "Status".to_owned(),
            api_version: "v1".to_owned(),
            metadata: StatusMeta::default(),
            status: String::new(),
            message: String::new(),
            reason: Reason::Unknown,
            details: None,
            code: 0,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

impl Status {
    pub fn success() -> Self {
        Self { status: "Success".to_owned(), ..Self::default() }
    }

    fn failure(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self { status: "Failure".to_owned(), code, reason, message: message.into(), ..Self::default() }
    }

    fn about(mut self, resource: GroupResource, name: &str) -> Self {
        self.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: resource.group,
            kind: resource.resource,
            ..Details::default()
        }));
        self
    }

    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    #[must_use]
    pub fn with_cause(mut self, cause: Cause) -> Self {
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    #[must_use]
    pub fn with_uid(mut self, uid: impl Into<String>) -> Self {
        self.details.get_or_insert_default().uid = uid.into();
        self
    }

    /// The HTTP status; 200 for a success that names none, 500 for a failure that names none.
    pub fn code(&self) -> u16 {
        match self.code {
            0 if self.status == "Success" => 200,
            0 => 500,
            code => code,
        }
    }

    pub fn is_failure(&self) -> bool {
        self.status != "Success"
    }

    pub fn cause(&self, reason: &str) -> Option<&Cause> {
        self.details.as_ref()?.causes.iter().find(|c| c.reason == reason)
    }

    pub fn not_found(resource: impl Into<GroupResource>, name: &str) -> Self {
        let resource = resource.into();
        Self::failure(404, Reason::NotFound, format!("{resource} {} not found", quote(name))).about(resource, name)
    }

    /// A path that nothing serves.
    pub fn no_such_path() -> Self {
        let mut s = Self::failure(404, Reason::NotFound, "the server could not find the requested resource");
        s.details = Some(Box::default());
        s
    }

    pub fn already_exists(resource: impl Into<GroupResource>, name: &str) -> Self {
        let resource = resource.into();
        Self::failure(409, Reason::AlreadyExists, format!("{resource} {} already exists", quote(name))).about(resource, name)
    }

    pub fn generate_name_conflict(resource: impl Into<GroupResource>, name: &str, retry_after_seconds: u32) -> Self {
        let resource = resource.into();
        let message = format!(
            "{resource} {} already exists, the server was not able to generate a unique name for the object",
            quote(name)
        );
        Self::failure(409, Reason::AlreadyExists, message).about(resource, name).with_retry_after(retry_after_seconds)
    }

    pub fn conflict(resource: impl Into<GroupResource>, name: &str, why: impl fmt::Display) -> Self {
        let resource = resource.into();
        let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", quote(name));
        Self::failure(409, Reason::Conflict, message).about(resource, name)
    }

    /// The optimistic lock's conflict: the object is newer than what the client read.
    pub fn modified(resource: impl Into<GroupResource>, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub fn apply_conflict(causes: Vec<Cause>, message: impl Into<String>) -> Self {
        let mut s = Self::failure(409, Reason::Conflict, message);
        s.details = Some(Box::new(Details { causes, ..Details::default() }));
        s
    }

    pub fn invalid(kind: impl Into<GroupKind>, name: &str, errors: impl Into<FieldErrors>) -> Self {
        let (kind, errors) = (kind.into(), errors.into());
        let message = if errors.is_empty() {
            format!("{kind} {} is invalid", quote(name))
        } else {
            format!("{kind} {} is invalid: {errors}", quote(name))
        };
        let causes = errors
            .iter()
            .map(|e| Cause { reason: e.kind.cause().to_owned(), message: e.body(), field: e.path.clone() })
            .collect();
        let mut s = Self::failure(422, Reason::Invalid, message);
        s.details =
            Some(Box::new(Details { name: name.to_owned(), group: kind.group, kind: kind.kind, causes, ..Details::default() }));
        s
    }

    pub fn forbidden(resource: impl Into<GroupResource>, name: &str, why: impl fmt::Display) -> Self {
        let resource = resource.into();
        let message = if resource.resource.is_empty() && resource.group.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {} is forbidden: {why}", quote(name))
        };
        Self::failure(403, Reason::Forbidden, message).about(resource, name)
    }

    /// 500 without a reason, as upstream answers an error that is no Status.
    pub fn unexpected(why: impl Into<String>) -> Self {
        Self { status: "Failure".to_owned(), code: 500, message: why.into(), ..Self::default() }
    }

    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::failure(400, Reason::BadRequest, why)
    }

    pub fn unauthorized(why: impl Into<String>) -> Self {
        let why = why.into();
        Self::failure(401, Reason::Unauthorized, if why.is_empty() { "not authorized".to_owned() } else { why })
    }

    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, Reason::Gone, message)
    }

    /// 410 for a revision or continue token that is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, Reason::Expired, message)
    }

    pub fn method_not_allowed(resource: impl Into<GroupResource>, action: &str) -> Self {
        let resource = resource.into();
        let message = format!("{action} is not supported on resources of kind {}", quote(&resource.to_string()));
        Self::failure(405, Reason::MethodNotAllowed, message).about(resource, "")
    }

    /// 405 for an HTTP method that a served path does not have.
    pub fn method_not_served() -> Self {
        let mut s =
            Self::failure(405, Reason::MethodNotAllowed, "the server does not allow this method on the requested resource");
        s.details = Some(Box::default());
        s
    }

    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::failure(406, Reason::NotAcceptable, message)
    }

    pub fn too_large(message: impl fmt::Display) -> Self {
        Self::failure(413, Reason::RequestEntityTooLarge, format!("Request entity too large: {message}"))
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {}", accepted.join(", "));
        Self::failure(415, Reason::UnsupportedMediaType, message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut s = Self::failure(429, Reason::TooManyRequests, message);
        s.details = Some(Box::new(Details { retry_after_seconds, ..Details::default() }));
        s
    }

    pub fn internal(error: impl fmt::Display) -> Self {
        let text = error.to_string();
        Self::failure(500, Reason::InternalError, format!("Internal error occurred: {text}"))
            .with_cause(Cause { message: text, ..Cause::default() })
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, Reason::ServiceUnavailable, message)
    }

    pub fn timeout(message: impl fmt::Display, retry_after_seconds: u32) -> Self {
        let mut s = Self::failure(504, Reason::Timeout, format!("Timeout: {message}"));
        s.details = Some(Box::new(Details { retry_after_seconds, ..Details::default() }));
        s
    }

    pub fn server_timeout(resource: impl Into<GroupResource>, operation: &str, retry_after_seconds: u32) -> Self {
        let resource = resource.into();
        let message =
            format!("The {operation} operation against {resource} could not be completed at this time, please try again.");
        Self::failure(500, Reason::ServerTimeout, message).about(resource, operation).with_retry_after(retry_after_seconds)
    }

    /// The Status of a deletion that finished.
    pub fn deleted(resource: impl Into<GroupResource>, name: &str, uid: &str) -> Self {
        Self::success().about(resource.into(), name).with_uid(uid)
    }

    pub fn to_value(&self) -> serde_json::Value {
        // A Status has only strings and numbers, so it always serialises.
        serde_json::to_value(self).unwrap_or_default()
    }

    pub fn to_vec(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{FieldError, Path};

    #[test]
    fn wording() {
        let check = |s: Status, code: u16, want: &str| {
            assert_eq!(s.code(), code, "{want}");
            assert_eq!(s.to_string(), want);
        };
        check(Status::not_found("pods", "a"), 404, "pods \"a\" not found");
        check(Status::not_found("deployments.apps", "a"), 404, "deployments.apps \"a\" not found");
        check(Status::already_exists(("apps", "deployments"), "a"), 409, "deployments.apps \"a\" already exists");
        check(
            Status::modified("pods", "a"),
            409,
            "Operation cannot be fulfilled on pods \"a\": the object has been modified; please apply your changes \
             to the latest version and try again",
        );
        check(Status::forbidden("pods", "", "no"), 403, "pods is forbidden: no");
        check(Status::forbidden("", "", "no"), 403, "forbidden: no");
        check(Status::internal("x"), 500, "Internal error occurred: x");
        check(Status::timeout("x", 1), 504, "Timeout: x");
        check(Status::method_not_allowed("pods", "create"), 405, "create is not supported on resources of kind \"pods\"");
        let one = vec![FieldError::required(&Path::new("spec"), "")];
        check(Status::invalid("Pod", "a", one), 422, "Pod \"a\" is invalid: spec: Required value");
        let two = vec![FieldError::required(&Path::new("a"), ""), FieldError::required(&Path::new("b"), "")];
        check(
            Status::invalid("Deployment.apps", "a", two),
            422,
            "Deployment.apps \"a\" is invalid: [a: Required value, b: Required value]",
        );
    }

    #[test]
    fn wire_form() {
        let s = Status::invalid("Pod", "a", vec![FieldError::invalid(&Path::new("spec"), "v", "d")]);
        assert_eq!(
            s.to_value(),
            serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 422,
                "message": "Pod \"a\" is invalid: spec: Invalid value: \"v\": d", "reason": "Invalid",
                "details": {"name": "a", "kind": "Pod", "causes": [
                    {"reason": "FieldValueInvalid", "message": "Invalid value: \"v\": d", "field": "spec"}]}
            })
        );
        let back: Status = serde_json::from_value(s.to_value()).unwrap();
        assert_eq!(back, s);
        let foreign: Status =
            serde_json::from_str(r#"{"kind":"Status","metadata":null,"reason":"New","details":{"causes":null}}"#).unwrap();
        assert_eq!(foreign.reason, Reason::Other("New".into()));
    }
}
