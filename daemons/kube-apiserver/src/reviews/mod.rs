//! Reviews: resources that are questions. They are created, answered and forgotten.

mod access;
mod rules;
mod token;

use http::{Response, StatusCode};
use machinery::meta;
use machinery::status::Status;
use schema::Resource;
use serde_json::json;

use crate::body;
use crate::endpoints::Call;
use crate::respond::Body;
use crate::subresources;

const REVIEWS: [&str; 6] = [
    "tokenreviews",
    "selfsubjectreviews",
    "subjectaccessreviews",
    "localsubjectaccessreviews",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
];

/// Resources that are not stored: the reviews, and the older form of binding.
pub fn is_review(resource: &Resource) -> bool {
    REVIEWS.contains(&resource.plural.as_str()) || (resource.group.is_empty() && resource.plural == "bindings")
}

pub async fn handle(call: &Call<'_>, verb: &str, bytes: &[u8]) -> Result<Response<Body>, Status> {
    if verb != "create" {
        return Err(Status::method_not_served());
    }
    if call.served.resource.plural == "bindings" {
        return subresources::bind(call, bytes).await;
    }
    // Reviews have no rows: who asks for a table alone is refused.
    call.accept(false)?;
    let mut review = body::object(&call.cx, call.served, &call.parts.headers, bytes)?;
    let status = match call.served.resource.plural.as_str() {
        "tokenreviews" => token::review(call, &review).await?,
        "selfsubjectreviews" => json!({"userInfo": call.cx.user.to_value()}),
        "selfsubjectrulesreviews" => rules::review(call, &review)?,
        _ => access::review(call, &review).await?,
    };
    let map = meta::as_object_mut(&mut review);
    map.insert("status".to_owned(), status);
    map.entry("metadata").or_insert_with(|| json!({}));
    match call.served.resource.plural.as_str() {
        // It shows who asked and nothing of the question.
        "selfsubjectreviews" => {
            let metadata = json!({"creationTimestamp": machinery::time::format(call.cx.now)});
            meta::set_path(&mut review, &["metadata"], metadata);
        }
        "selfsubjectrulesreviews" => meta::set_path(&mut review, &["spec"], json!({})),
        _ => {}
    }
    call.answer(StatusCode::CREATED, &review)
}
