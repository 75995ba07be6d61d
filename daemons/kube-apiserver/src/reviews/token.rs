//! TokenReview: whose token is this?

use machinery::status::Status;
use serde_json::{Value, json};

use crate::endpoints::Call;

pub(super) async fn review(call: &Call<'_>, review: &Value) -> Result<Value, Status> {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> =
        review["spec"]["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(match call.server.authenticator.authenticate_token(token, &audiences, call.cx.now).await {
        Ok(accepted) => {
            let mut status = json!({"authenticated": true, "user": accepted.user.authenticated().to_value()});
            if !accepted.audiences.is_empty() {
                status["audiences"] = json!(accepted.audiences);
            }
            status
        }
        Err(why) => json!({"user": {}, "error": why}),
    })
}
