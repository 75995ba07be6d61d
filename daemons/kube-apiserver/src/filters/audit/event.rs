//! One line of the audit log (`audit.k8s.io/v1` Event).

use bytes::Bytes;
use jiff::Timestamp;
use machinery::meta;
use machinery::status::Status;
use machinery::time;
use serde_json::{Value, json};

use super::policy::{Level, Plan, Stage};
use crate::authn::user::User;
use crate::authz::Decision;
use crate::request_info::RequestInfo;

/// Larger ones are not written down.
const OBJECT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longer user agents are cut.
const AGENT_CHARS_MAX: usize = 1024;

/// A body with its media type.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub media_type: String,
    pub bytes: Bytes,
}

/// What is known of a request at some moment.
#[derive(Debug, Default)]
pub struct Event<'e> {
    pub id: &'e str,
    pub user: Option<&'e User>,
    /// Who the user acts as, if not as themselves, and in which constrained way.
    pub impersonated: Option<(&'e User, &'e str)>,
    pub info: Option<&'e RequestInfo>,
    pub uri: &'e str,
    pub user_agent: &'e str,
    pub sources: &'e [String],
    pub decision: Option<&'e Decision>,
    /// None until there is an answer.
    pub code: Option<u16>,
    /// The answer, when it is an error.
    pub status: Option<&'e Status>,
    /// The name of the object, when the path did not have it.
    pub object_name: &'e str,
    pub annotations: &'e [super::Note],
    pub request: Option<&'e Content>,
    pub response: Option<&'e Content>,
    pub received: Timestamp,
}

impl Event<'_> {
    pub fn to_value(&self, plan: &Plan, stage: Stage, now: Timestamp) -> Value {
        let mut value = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": plan.level.as_str(), "auditID": self.id,
            "stage": stage.as_str(), "requestURI": self.uri, "verb": self.info.map_or("", |info| info.verb.as_ref()),
            "user": self.user.map_or_else(|| json!({}), User::to_value), "sourceIPs": self.sources,
            "requestReceivedTimestamp": time::format_micro(self.received), "stageTimestamp": time::format_micro(now),
        });
        if !self.user_agent.is_empty() {
            value["userAgent"] = json!(agent(self.user_agent));
        }
        if let Some((user, constraint)) = self.impersonated {
            value["impersonatedUser"] = user.to_value();
            if !constraint.is_empty() {
                value["authenticationMetadata"] = json!({"impersonationConstraint": constraint});
            }
        }
        if let Some(reference) = self.object_reference() {
            value["objectRef"] = reference;
        }
        if let Some(code) = self.code {
            value["responseStatus"] = response_status(code, self.status);
        }
        if let Some(decision) = self.decision {
            let word = if decision.allowed() { "allow" } else { "forbid" };
            value["annotations"] =
                json!({"authorization.k8s.io/decision": word, "authorization.k8s.io/reason": decision.reason()});
        }
        for (key, text) in self.annotations {
            value["annotations"][&**key] = json!(text);
        }
        for (field, content, level) in
            [("requestObject", self.request, Level::Request), ("responseObject", self.response, Level::RequestResponse)]
        {
            if let Some(object) = content.filter(|_| plan.level >= level).and_then(|c| object(c, plan.omit_managed_fields)) {
                value[field] = object;
            }
        }
        value
    }

    fn object_reference(&self) -> Option<Value> {
        let r = self.info?.resource.as_ref()?;
        let name = if r.name.is_empty() { self.object_name } else { &r.name };
        let mut reference = json!({"resource": r.resource, "apiVersion": r.version});
        for (field, text) in
            [("namespace", r.namespace.as_str()), ("name", name), ("apiGroup", &r.group), ("subresource", &r.subresource)]
        {
            if !text.is_empty() {
                reference[field] = json!(text);
            }
        }
        Some(reference)
    }
}

fn agent(text: &str) -> String {
    if text.chars().count() <= AGENT_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(AGENT_CHARS_MAX).chain("...TRUNCATED".chars()).collect()
}

fn response_status(code: u16, status: Option<&Status>) -> Value {
    let mut value = status.map_or_else(|| json!({}), Status::to_value);
    let map = meta::as_object_mut(&mut value);
    map.remove("kind");
    map.remove("apiVersion");
    map.insert("metadata".to_owned(), json!({}));
    map.insert("code".to_owned(), json!(code));
    value
}

/// A body as the log shows it: JSON, whatever form it travelled in.
fn object(content: &Content, omit_managed_fields: bool) -> Option<Value> {
    if content.bytes.is_empty() || content.bytes.len() > OBJECT_BYTES_MAX {
        return None;
    }
    let media_type = content.media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut value = match media_type.as_str() {
        schema::proto::MEDIA_TYPE => schema::proto::decode(&content.bytes).ok()?,
        "application/yaml" | "application/apply-patch+yaml" => {
            machinery::yaml::to_value(std::str::from_utf8(&content.bytes).ok()?).ok()?
        }
        _ => serde_json::from_slice(&content.bytes).ok()?,
    };
    if omit_managed_fields {
        drop_managed_fields(&mut value);
    }
    Some(value)
}

/// Of an object, the items of a list, and the objects of a table's rows.
fn drop_managed_fields(value: &mut Value) {
    meta::remove_path(value, &["metadata", "managedFields"]);
    for list in ["items", "rows"] {
        for item in value.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            meta::remove_path(item, &["metadata", "managedFields"]);
            meta::remove_path(item, &["object", "metadata", "managedFields"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn levels() {
        let info = RequestInfo::parse(&Method::POST, "/api/v1/namespaces/a/configmaps", "");
        let body = json!({"metadata": {"name": "c", "managedFields": [{"manager": "m"}]}, "data": {"k": "v"}});
        let content = Content { media_type: "application/json".into(), bytes: body.to_string().into() };
        let at = |level, omit_managed_fields| {
            let event = Event { info: Some(&info), request: Some(&content), response: Some(&content), ..Event::default() };
            let plan = Plan { level, omit_managed_fields, ..Plan::default() };
            event.to_value(&plan, Stage::ResponseComplete, Timestamp::UNIX_EPOCH)
        };
        let metadata = at(Level::Metadata, false);
        assert_eq!((metadata.get("requestObject"), metadata.get("responseObject")), (None, None));
        assert_eq!(metadata["objectRef"], json!({"resource": "configmaps", "apiVersion": "v1", "namespace": "a"}));
        let request = at(Level::Request, false);
        assert_eq!((&request["requestObject"], request.get("responseObject")), (&body, None));
        let both = at(Level::RequestResponse, true);
        assert_eq!(both["responseObject"], json!({"metadata": {"name": "c"}, "data": {"k": "v"}}));
    }

    #[test]
    fn a_refusal_shows_why() {
        let status = Status::forbidden("pods", "p", "no");
        let event = Event { code: Some(403), status: Some(&status), ..Event::default() };
        let value = event.to_value(&Plan::default(), Stage::ResponseComplete, Timestamp::UNIX_EPOCH);
        let shown = &value["responseStatus"];
        assert_eq!((shown["code"].as_u64(), shown["reason"].as_str(), shown.get("kind")), (Some(403), Some("Forbidden"), None));
    }

    #[test]
    fn tables_lose_managed_fields_too() {
        let mut table = json!({"rows": [{"object": {"metadata": {"managedFields": [], "name": "a"}}}]});
        drop_managed_fields(&mut table);
        assert_eq!(table, json!({"rows": [{"object": {"metadata": {"name": "a"}}}]}));
    }
}
