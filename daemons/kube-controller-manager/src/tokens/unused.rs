//! Which tokens that a controller of old made for every account go: those that nobody used for a year (KEP-2799).

use api::core::{Secret, ServiceAccount};
use api::jiff::civil::Date;
use api::jiff::tz::TimeZone;
use api::jiff::{SignedDuration, Timestamp};

const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
pub(super) const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// When things were long enough ago.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    now: Timestamp,
    before: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    /// It is no longer accepted from that day on, and goes when that, too, was long enough ago.
    Invalidate(Date),
    Delete,
}

impl Deadline {
    /// None while uses were not noted for as long as tokens may be unused. `since` is the day on which that began.
    pub(super) fn new(now: Timestamp, since: Date, period: SignedDuration) -> Option<Self> {
        // From the first day that was noted as a whole.
        let whole = since.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
        let before = now.checked_sub(period).ok()?;
        (before >= whole).then_some(Self { now, before })
    }

    fn day(at: Timestamp) -> Date {
        at.to_zoned(TimeZone::UTC).date()
    }
}

/// `account` is the one that the Secret means; `mounted` when a pod refers to the Secret.
pub(super) fn judge(secret: &Secret, account: Option<&ServiceAccount>, mounted: bool, deadline: Deadline) -> Verdict {
    let metadata = &secret.metadata;
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
    if metadata.deletion_timestamp.is_some() || created.is_none_or(|created| created >= deadline.before) {
        return Verdict::Keep;
    }
    let last_day = Deadline::day(deadline.before);
    let label = |name: &str| metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(|day| day.parse::<Date>());
    match label(LAST_USED) {
        // Not since it is noted.
        None => {}
        Some(Ok(used)) if used < last_day => {}
        Some(_) => return Verdict::Keep,
    }
    // One that its account does not list was made by somebody, who may have given it to somebody.
    let name = metadata.name.as_deref();
    let references = account.and_then(|account| account.secrets.as_ref());
    let made_for_all = references.is_some_and(|all| all.iter().any(|reference| reference.name.as_deref() == name));
    if !made_for_all || mounted {
        return Verdict::Keep;
    }
    match label(INVALID_SINCE) {
        Some(Ok(since)) if since < last_day => Verdict::Delete,
        Some(Ok(_)) => Verdict::Keep,
        _ => Verdict::Invalidate(Deadline::day(deadline.now)),
    }
}

#[cfg(test)]
mod tests {
    use api::Kind;
    use serde_json::{Value, json};

    use super::*;

    const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

    fn now() -> Timestamp {
        "2026-06-15T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn it_must_have_been_noted_long_enough() {
        for (since, expected) in [("2025-06-13", true), ("2025-06-14", true), ("2025-06-15", false), ("2026-01-01", false)] {
            assert_eq!(Deadline::new(now(), since.parse().unwrap(), YEAR).is_some(), expected, "{since}");
        }
    }

    #[test]
    fn verdicts() {
        let deadline = Deadline::new(now(), "2020-01-01".parse().unwrap(), YEAR).unwrap();
        let check = |change: Value, listed: bool, mounted: bool, expected: Verdict| {
            let mut metadata = json!({"namespace": "ns", "name": "s", "creationTimestamp": "2020-01-01T00:00:00Z"});
            for (field, value) in change.as_object().unwrap() {
                metadata[field] = value.clone();
            }
            let secret = Secret::decode_value(json!({"metadata": metadata})).unwrap();
            let references = if listed { json!([{"name": "s"}]) } else { json!([{"name": "t"}]) };
            let account = ServiceAccount::decode_value(json!({"metadata": {"name": "sa"}, "secrets": references})).unwrap();
            assert_eq!(judge(&secret, Some(&account), mounted, deadline), expected, "{change}");
        };
        let invalidate = || Verdict::Invalidate("2026-06-15".parse().unwrap());
        check(json!({}), true, false, invalidate());
        check(json!({}), false, false, Verdict::Keep);
        check(json!({}), true, true, Verdict::Keep);
        check(json!({"creationTimestamp": "2026-06-01T00:00:00Z"}), true, false, Verdict::Keep);
        check(json!({"labels": {LAST_USED: "2026-06-01"}}), true, false, Verdict::Keep);
        check(json!({"labels": {LAST_USED: "2025-06-15"}}), true, false, Verdict::Keep);
        check(json!({"labels": {LAST_USED: "2025-06-14"}}), true, false, invalidate());
        check(json!({"labels": {LAST_USED: "whenever"}}), true, false, Verdict::Keep);
        check(json!({"labels": {INVALID_SINCE: "2026-01-01"}}), true, false, Verdict::Keep);
        check(json!({"labels": {INVALID_SINCE: "2025-01-01"}}), true, false, Verdict::Delete);
        check(json!({"labels": {INVALID_SINCE: "whenever"}}), true, false, invalidate());
        let secret =
            Secret::decode_value(json!({"metadata": {"name": "s", "creationTimestamp": "2020-01-01T00:00:00Z"}})).unwrap();
        assert_eq!(judge(&secret, None, false, deadline), Verdict::Keep);
    }
}
