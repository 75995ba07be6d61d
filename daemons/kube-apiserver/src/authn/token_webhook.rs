//! Tokens that somebody else knows: `--authentication-token-webhook-config-file`.

use std::time::Duration;

use serde_json::{Value, json};

use super::service_account::{Accepted, Notes};
use super::user::User;
use crate::remote::Remote;

const LIMIT: Duration = Duration::from_secs(30);

/// A server that answers TokenReviews.
pub struct TokenWebhook {
    pub remote: Remote,
    /// `v1` or `v1beta1`, as the other side speaks it.
    pub version: String,
    /// Audiences that mean this server: what an answer without audiences is good for.
    pub api_audiences: Vec<String>,
}

impl TokenWebhook {
    /// None when the other side does not know the token.
    ///
    /// # Errors
    /// What the other side says against it, or that it did not answer.
    pub async fn authenticate(&self, token: &str, wanted: &[String]) -> Result<Option<Accepted>, String> {
        let question = json!({"kind": "TokenReview", "apiVersion": format!("authentication.k8s.io/{}", self.version),
            "metadata": {}, "spec": {"token": token, "audiences": wanted}, "status": {"user": {}}});
        match self.remote.ask(&question, LIMIT).await {
            Ok(answer) => accepted(&answer["status"], wanted, &self.api_audiences),
            Err(error) => {
                tracing::warn!(%error, "asking the token webhook");
                Err("the token webhook did not answer".to_owned())
            }
        }
    }
}

/// What the status of a TokenReview means, for these audiences.
fn accepted(status: &Value, wanted: &[String], api_audiences: &[String]) -> Result<Option<Accepted>, String> {
    let named: Vec<String> = serde_json::from_value(status["audiences"].clone()).unwrap_or_default();
    let granted = if named.is_empty() { api_audiences } else { &named };
    let audiences: Vec<String> = wanted.iter().filter(|audience| granted.contains(audience)).cloned().collect();
    if !wanted.is_empty() && audiences.is_empty() {
        return Ok(None);
    }
    if status["authenticated"] != true {
        return status["error"].as_str().filter(|why| !why.is_empty()).map_or(Ok(None), |why| Err(why.to_owned()));
    }
    let user: User = serde_json::from_value(status["user"].clone()).map_err(|error| error.to_string())?;
    Ok(Some(Accepted { user, audiences, expires: i64::MAX, notes: Notes::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: Value, wanted: &[&str], expected: Result<Option<&str>, &str>) {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let got = accepted(&status, &list(wanted), &list(&["api"]));
        let got = got.as_ref().map(|accepted| accepted.as_ref().map(|a| a.user.name.as_str())).map_err(String::as_str);
        assert_eq!(got, expected, "{status}");
    }

    #[test]
    fn answers() {
        let ann = json!({"username": "ann", "groups": ["g"], "extra": {"k": ["v"]}});
        check(json!({"authenticated": true, "user": ann}), &["api"], Ok(Some("ann")));
        check(json!({"authenticated": true, "user": ann}), &[], Ok(Some("ann")));
        check(json!({"authenticated": true, "user": ann}), &["vault"], Ok(None));
        check(json!({"authenticated": true, "user": ann, "audiences": ["vault"]}), &["vault"], Ok(Some("ann")));
        check(json!({"authenticated": true, "user": ann, "audiences": ["vault"]}), &["api"], Ok(None));
        check(json!({"authenticated": false}), &["api"], Ok(None));
        check(json!({"error": "no"}), &["api"], Err("no"));
        check(Value::Null, &["api"], Ok(None));
    }
}
