//! What Prometheus is told of admission, under upstream's names.

use std::time::{Duration, Instant};

use daemon::metrics::{Counter, Histogram};

use super::Operation;

const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const WEBHOOK_SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Codes beyond are no codes; together they are one label.
const CODE_MAX: u16 = 600;

static STEPS: Histogram = Histogram::new(
    "apiserver_admission_step_admission_duration_seconds",
    "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
    &["type", "operation", "rejected"],
    SECONDS,
);
static CONTROLLERS: Histogram = Histogram::new(
    "apiserver_admission_controller_admission_duration_seconds",
    "Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
    &["name", "type", "operation", "rejected"],
    SECONDS,
);
static WEBHOOKS: Histogram = Histogram::new(
    "apiserver_admission_webhook_admission_duration_seconds",
    "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
    &["name", "type", "operation", "rejected"],
    WEBHOOK_SECONDS,
);
static WEBHOOK_REQUESTS: Counter = Counter::new(
    "apiserver_admission_webhook_request_total",
    "Admission webhook request total, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify whether the request was rejected or not and an HTTP status code. Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
    &["name", "type", "operation", "code", "rejected"],
);
static WEBHOOK_REJECTIONS: Counter = Counter::new(
    "apiserver_admission_webhook_rejection_count",
    "Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify an error type (calling_webhook_error or apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero rejection code if the webhook rejects the request with an HTTP status code (honored by the apiserver when the code is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
    &["name", "type", "operation", "error_type", "rejection_code"],
);
static WEBHOOKS_IGNORED: Counter = Counter::new(
    "apiserver_admission_webhook_fail_open_count",
    "Admission webhook fail open count, identified by name and broken out for each admission type (validating or admit).",
    &["name", "type"],
);

/// Which of the two passes over the plugins it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Admit,
    Validate,
}

impl Step {
    fn label(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }
}

fn yes_or_no(is: bool) -> &'static str {
    if is { "true" } else { "false" }
}

/// One pass over the plugins of one request, measured: a look at the clock for each plugin.
pub struct Measured {
    step: Step,
    operation: &'static str,
    begun: Instant,
    last: Instant,
}

impl Measured {
    pub fn begin(step: Step, operation: Operation) -> Self {
        let now = Instant::now();
        Self { step, operation: operation.as_str(), begun: now, last: now }
    }

    /// A plugin is done: from the one before it until now.
    pub fn plugin<E>(&mut self, name: &str, result: Result<(), E>) -> Result<(), E> {
        let now = Instant::now();
        let labels = [name, self.step.label(), self.operation, yes_or_no(result.is_err())];
        CONTROLLERS.observe(&labels, now.duration_since(self.last).as_secs_f64());
        self.last = now;
        result
    }

    /// All are.
    pub fn end<E>(self, result: Result<(), E>) -> Result<(), E> {
        let labels = [self.step.label(), self.operation, yes_or_no(result.is_err())];
        STEPS.observe(&labels, self.begun.elapsed().as_secs_f64());
        result
    }
}

/// How one call of a webhook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    Allowed,
    /// By the webhook, with that code.
    Rejected(u16),
    /// It did not answer as it must, with that code; ignored, or a refusal.
    Failed {
        code: u16,
        ignored: bool,
    },
    /// Something was wrong with the request or its answer here.
    Internal,
}

impl Called {
    /// code, error type of a rejection
    fn labels(self) -> (u16, Option<&'static str>) {
        match self {
            Self::Allowed => (200, None),
            Self::Rejected(code) => (code, Some("no_error")),
            Self::Failed { code, ignored } => (code, (!ignored).then_some("calling_webhook_error")),
            Self::Internal => (0, Some("apiserver_internal_error")),
        }
    }
}

/// `kind` is `admit` or `validating`.
pub fn webhook_called(name: &str, kind: &str, operation: Operation, took: Duration, called: Called) {
    let operation = operation.as_str();
    let (code, error) = called.labels();
    let code = code.min(CODE_MAX).to_string();
    let rejected = yes_or_no(error.is_some());
    if let Some(error) = error {
        WEBHOOK_REJECTIONS.inc(&[name, kind, operation, error, &code]);
    }
    if matches!(called, Called::Failed { ignored: true, .. }) {
        WEBHOOKS_IGNORED.inc(&[name, kind]);
    }
    WEBHOOK_REQUESTS.inc(&[name, kind, operation, &code, rejected]);
    WEBHOOKS.observe(&[name, kind, operation, rejected], took.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted() {
        let mut measured = Measured::begin(Step::Validate, Operation::Create);
        assert_eq!(measured.plugin("TestFirst", Ok::<_, ()>(())), Ok(()));
        assert_eq!(measured.plugin("TestSecond", Err(5)), Err(5));
        assert_eq!(measured.end(Err(5)), Err(5));
        let took = Duration::from_millis(1);
        webhook_called("test.a", "admit", Operation::Update, took, Called::Allowed);
        webhook_called("test.b", "validating", Operation::Delete, took, Called::Rejected(999));
        webhook_called("test.c", "admit", Operation::Create, took, Called::Failed { code: 500, ignored: true });
        webhook_called("test.d", "admit", Operation::Create, took, Called::Failed { code: 500, ignored: false });
        webhook_called("test.e", "admit", Operation::Create, took, Called::Internal);
        let text = daemon::metrics::render();
        let prefix = "apiserver_admission_";
        for line in [
            "controller_admission_duration_seconds_count{name=\"TestFirst\",type=\"validate\",operation=\"CREATE\",rejected=\"false\"} 1",
            "controller_admission_duration_seconds_count{name=\"TestSecond\",type=\"validate\",operation=\"CREATE\",rejected=\"true\"} 1",
            "webhook_request_total{name=\"test.a\",type=\"admit\",operation=\"UPDATE\",code=\"200\",rejected=\"false\"} 1",
            "webhook_rejection_count{name=\"test.b\",type=\"validating\",operation=\"DELETE\",error_type=\"no_error\",rejection_code=\"600\"} 1",
            "webhook_fail_open_count{name=\"test.c\",type=\"admit\"} 1",
            "webhook_request_total{name=\"test.c\",type=\"admit\",operation=\"CREATE\",code=\"500\",rejected=\"false\"} 1",
            "webhook_rejection_count{name=\"test.d\",type=\"admit\",operation=\"CREATE\",error_type=\"calling_webhook_error\",rejection_code=\"500\"} 1",
            "webhook_rejection_count{name=\"test.e\",type=\"admit\",operation=\"CREATE\",error_type=\"apiserver_internal_error\",rejection_code=\"0\"} 1",
        ] {
            assert!(text.contains(&format!("{prefix}{line}\n")), "{line}\n{text}");
        }
        assert!(text.contains(
            "apiserver_admission_step_admission_duration_seconds_count{type=\"validate\",operation=\"CREATE\",rejected=\"true\"}"
        ));
    }
}
