//! Access decided by somebody else: an entry `Webhook` of `--authorization-mode`, or of the file of
//! `--authorization-config` (KEP-3221).

pub mod conditions;
pub mod config;
mod review;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use self::config::Settings;
use super::{Attributes, Decision};
use crate::remote::Remote;

/// Answers remembered; beyond, nothing new is until some expire.
const ENTRIES_MAX: usize = 8192;
/// Longer questions are asked every time: their names are long enough to fill the memory.
const REMEMBERED_BYTES_MAX: usize = 10_000;

/// A server that answers SubjectAccessReviews.
pub struct AccessWebhook {
    remote: Remote,
    settings: Settings,
    answers: Mutex<HashMap<String, (Decision, Instant)>>,
}

impl AccessWebhook {
    pub fn new(remote: Remote, settings: Settings) -> Self {
        Self { remote, settings, answers: Mutex::default() }
    }

    pub async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let spec = review::spec(attributes);
        match self.settings.conditions.hold(&spec) {
            Ok(true) => {}
            Ok(false) => return Decision::NoOpinion(String::new()),
            Err(error) => {
                tracing::warn!(webhook = self.settings.name, error, "the authorization webhook's match conditions");
                return self.failed();
            }
        }
        let key = spec.to_string();
        if let Some(known) = self.remembered(&key, Instant::now()) {
            return known;
        }
        let question = json!({"kind": "SubjectAccessReview", "apiVersion": format!("authorization.k8s.io/{}", self.settings.version),
            "metadata": {}, "spec": spec, "status": {"allowed": false}});
        match self.remote.ask(&question, self.settings.timeout).await {
            Ok(answer) => {
                let decision = review::decision(&answer["status"]);
                self.remember(key, &decision, Instant::now());
                decision
            }
            Err(error) => {
                tracing::warn!(webhook = self.settings.name, %error, "asking the authorization webhook");
                self.failed()
            }
        }
    }

    fn failed(&self) -> Decision {
        if self.settings.denies_on_failure { Decision::Deny(String::new()) } else { Decision::NoOpinion(String::new()) }
    }

    fn remembered(&self, key: &str, now: Instant) -> Option<Decision> {
        let answers = self.answers.lock().unwrap_or_else(|e| e.into_inner());
        answers.get(key).filter(|(_, until)| now < *until).map(|(decision, _)| decision.clone())
    }

    fn remember(&self, key: String, decision: &Decision, now: Instant) {
        let ttl = if decision.allowed() { self.settings.authorized_ttl } else { self.settings.unauthorized_ttl };
        if ttl == Duration::ZERO || key.len() > REMEMBERED_BYTES_MAX {
            return;
        }
        let mut answers = self.answers.lock().unwrap_or_else(|e| e.into_inner());
        if answers.len() >= ENTRIES_MAX {
            answers.retain(|_, (_, until)| now < *until);
        }
        if answers.len() < ENTRIES_MAX {
            answers.insert(key, (decision.clone(), now + ttl));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_are_remembered_as_long_as_they_say() {
        daemon::install_crypto();
        let settings = Settings { unauthorized_ttl: Duration::ZERO, ..Settings::default() };
        let webhook = AccessWebhook::new(Remote::from_url("https://127.0.0.1:1", Some("")).unwrap(), settings);
        let (yes, no) = (Decision::Allow("y".into()), Decision::NoOpinion(String::new()));
        webhook.remember("a".into(), &yes, Instant::now());
        webhook.remember("b".into(), &no, Instant::now());
        assert_eq!(webhook.remembered("a", Instant::now()), Some(yes.clone()));
        assert_eq!(webhook.remembered("b", Instant::now()), None);
        assert_eq!(webhook.remembered("a", Instant::now() + Duration::from_secs(301)), None);
        webhook.remember("x".repeat(REMEMBERED_BYTES_MAX + 1), &yes, Instant::now());
        assert_eq!(webhook.answers.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn who_is_not_asked_has_no_opinion() {
        daemon::install_crypto();
        // Nobody listens there: asking would be a refusal.
        let check = async |expression: &str, expected: Decision| {
            let conditions = Arc::new(conditions::Conditions::compile(&[expression.to_owned()]).unwrap());
            let settings = Settings { denies_on_failure: true, conditions, ..Settings::default() };
            let webhook = AccessWebhook::new(Remote::from_url("https://127.0.0.1:1", Some("")).unwrap(), settings);
            let attributes = Attributes { verb: "get", path: "/x", ..Attributes::default() };
            assert_eq!(webhook.authorize(&attributes).await, expected, "{expression}");
        };
        check("has(request.resourceAttributes)", Decision::NoOpinion(String::new())).await;
        check("request.nonResourceAttributes.path == '/x'", Decision::Deny(String::new())).await;
        check("request.resourceAttributes.name == 'x'", Decision::Deny(String::new())).await;
    }
}
