//! Audit: who did what and how it ended, written down at the stages of a request that the policy names.

pub mod backend;
pub mod event;
pub mod policy;
pub mod truncate;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use daemon::metrics::Counter;
use jiff::Timestamp;
use machinery::status::Status;

use self::backend::{Log, Webhook};
use self::event::{Content, Event};
use self::policy::{Level, Plan, Policy, Stage};
use crate::authn::user::User;
use crate::authz::Decision;
use crate::request_info::RequestInfo;

static EVENTS: Counter =
    Counter::new("apiserver_audit_event_total", "Counter of audit events generated and sent to the audit backend.", &[]);
static LEVELS: Counter =
    Counter::new("apiserver_audit_level_total", "Counter of policy levels for audit events (1 per request).", &["level"]);

/// The policy and where its events go.
pub struct Audit {
    pub policy: Policy,
    pub log: Option<Log>,
    pub webhook: Option<Webhook>,
}

impl Audit {
    /// For tests: lines go to memory.
    pub fn to(output: impl std::io::Write + Send + 'static, policy: Policy) -> Self {
        Self { policy, log: Some(Log::to(output)), webhook: None }
    }
}

/// What a handler adds to the audit log: a response extension.
#[derive(Clone, Debug)]
pub struct Annotation(pub Vec<Note>);

/// A name and what there is to say.
pub type Note = (Cow<'static, str>, String);

/// The error that an answer tells: a response extension.
#[derive(Clone, Debug)]
pub struct Refused(pub Arc<Status>);

/// Where the endpoint leaves the request's body for the audit log: a request extension, there only when it is wanted.
#[derive(Clone, Debug, Default)]
pub struct BodyWanted(pub Arc<OnceLock<Content>>);

/// What is known of a request before anybody looked at it.
pub struct Received {
    pub id: String,
    pub uri: String,
    pub user_agent: String,
    pub sources: Vec<String>,
    pub at: Timestamp,
}

/// One request's way through the audit log. Begins when it is known who asks.
pub struct Trail {
    audit: Arc<Audit>,
    plan: Plan,
    received: Received,
    info: Arc<RequestInfo>,
    user: User,
    impersonated: Option<(User, &'static str)>,
    decision: Option<Decision>,
    annotations: Vec<Note>,
    body: BodyWanted,
    answer: Answer,
    now: fn() -> Timestamp,
}

/// How a request ended.
#[derive(Default)]
pub struct Answer {
    pub code: u16,
    pub refused: Option<Refused>,
    pub object_name: String,
    pub content: Option<Content>,
}

impl Trail {
    /// None when nothing is to be written about the request.
    pub fn begin(
        audit: &Arc<Audit>,
        received: Received,
        info: &Arc<RequestInfo>,
        user: &User,
        now: fn() -> Timestamp,
    ) -> Option<Self> {
        let plan = audit.policy.decide(user, info);
        LEVELS.inc(&[plan.level.as_str()]);
        if plan.level == Level::None {
            return None;
        }
        let trail = Self {
            audit: audit.clone(),
            plan,
            received,
            info: info.clone(),
            user: user.clone(),
            impersonated: None,
            decision: None,
            annotations: Vec::new(),
            body: BodyWanted::default(),
            answer: Answer::default(),
            now,
        };
        trail.write(Stage::RequestReceived);
        Some(trail)
    }

    pub fn id(&self) -> &str {
        &self.received.id
    }

    pub fn impersonated(&mut self, user: &User, constraint: &'static str) {
        self.impersonated = Some((user.clone(), constraint));
    }

    pub fn decided(&mut self, decision: &Decision) {
        self.decision = Some(decision.clone());
    }

    pub fn annotate(&mut self, annotations: impl IntoIterator<Item = (impl Into<Cow<'static, str>>, String)>) {
        self.annotations.extend(annotations.into_iter().map(|(name, text)| (name.into(), text)));
    }

    /// Where the request's body is to be left, if the policy wants it.
    pub fn body_wanted(&self) -> Option<BodyWanted> {
        (self.plan.level >= Level::Request).then(|| self.body.clone())
    }

    pub fn answer_wanted(&self) -> bool {
        self.plan.level >= Level::RequestResponse
    }

    pub fn answered(&mut self, answer: Answer) {
        self.answer = answer;
    }

    pub fn write(&self, stage: Stage) {
        if !self.plan.writes(stage) {
            return;
        }
        let answered = self.answer.code != 0;
        let event = Event {
            id: &self.received.id,
            user: Some(&self.user),
            impersonated: self.impersonated.as_ref().map(|(user, constraint)| (user, *constraint)),
            info: Some(&self.info),
            uri: &self.received.uri,
            user_agent: &self.received.user_agent,
            sources: &self.received.sources,
            decision: self.decision.as_ref(),
            code: answered.then_some(self.answer.code),
            status: self.answer.refused.as_ref().map(|refused| refused.0.as_ref()),
            object_name: &self.answer.object_name,
            annotations: &self.annotations,
            request: self.body.0.get(),
            response: self.answer.content.as_ref(),
            received: self.received.at,
        };
        let value = event.to_value(&self.plan, stage, (self.now)());
        EVENTS.inc(&[]);
        if let Some(log) = &self.audit.log {
            log.write(&value);
        }
        if let Some(webhook) = &self.audit.webhook {
            webhook.write(&value);
        }
    }
}

/// Writes the last event of a request that stays open when its answer ends, however that happens.
pub struct Open(pub Trail);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.write(Stage::ResponseComplete);
    }
}
