//! EventRateLimit: so many events a second, of the server, a namespace, a user, or a source about an object.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use jiff::Timestamp;
use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

/// How many keys of a limit are remembered unless it says otherwise.
const KEYS: usize = 4096;

pub(super) struct EventRateLimit {
    limits: Vec<Limit>,
}

struct Limit {
    kind: Kind,
    qps: f64,
    burst: f64,
    keys_max: usize,
    buckets: Mutex<Buckets>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

/// Token buckets, of which the ones not used for longest are forgotten.
#[derive(Default)]
struct Buckets {
    by_key: HashMap<String, Bucket>,
    by_use: BTreeMap<u64, String>,
    uses: u64,
}

struct Bucket {
    tokens: f64,
    filled: Timestamp,
    used: u64,
}

impl Buckets {
    fn take(&mut self, key: &str, qps: f64, burst: f64, keys_max: usize, now: Timestamp) -> bool {
        self.uses += 1;
        let uses = self.uses;
        let bucket = self.by_key.entry(key.to_owned()).or_insert(Bucket { tokens: burst, filled: now, used: 0 });
        self.by_use.remove(&bucket.used);
        self.by_use.insert(uses, key.to_owned());
        bucket.used = uses;
        let seconds = (now.duration_since(bucket.filled)).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + seconds * qps).min(burst);
        bucket.filled = now;
        let accepted = bucket.tokens >= 1.0;
        if accepted {
            bucket.tokens -= 1.0;
        }
        if self.by_key.len() > keys_max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.by_key.remove(&oldest);
        }
        accepted
    }
}

impl EventRateLimit {
    /// An `eventratelimit.admission.k8s.io/v1alpha1` Configuration.
    pub(super) fn configured(configuration: &Value) -> Self {
        let limits = configuration["limits"].as_array().into_iter().flatten();
        Self { limits: limits.filter_map(Limit::of).collect() }
    }
}

impl Limit {
    fn of(limit: &Value) -> Option<Self> {
        let kind = match limit["type"].as_str()? {
            "Server" => Kind::Server,
            "Namespace" => Kind::Namespace,
            "User" => Kind::User,
            "SourceAndObject" => Kind::SourceAndObject,
            _ => return None,
        };
        let number = |field: &str| limit[field].as_f64().unwrap_or(0.0);
        let keys_max = limit["cacheSize"].as_u64().and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
        Some(Self {
            kind,
            qps: number("qps"),
            burst: number("burst"),
            keys_max: keys_max.unwrap_or(KEYS),
            buckets: Mutex::default(),
        })
    }

    fn key(&self, namespace: &str, user: &str, event: &Value) -> String {
        match self.kind {
            Kind::Server => String::new(),
            Kind::Namespace => namespace.to_owned(),
            Kind::User => user.to_owned(),
            Kind::SourceAndObject => {
                let source = [&event["source"]["component"], &event["source"]["host"]];
                let object = ["kind", "namespace", "name", "uid", "apiVersion"].map(|field| &event["involvedObject"][field]);
                source.into_iter().chain(object).map(|value| value.as_str().unwrap_or_default()).collect()
            }
        }
    }

    fn accepts(&self, key: &str, now: Timestamp) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(|e| e.into_inner());
        buckets.take(key, self.qps, self.burst, self.keys_max, now)
    }
}

impl Plugin for EventRateLimit {
    fn name(&self) -> &'static str {
        "EventRateLimit"
    }

    fn validate(&self, request: &Request<'_>, event: &Value, _old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || request.kind != "Event" || request.dry_run {
            return Ok(());
        }
        let mut refused = Vec::new();
        for limit in &self.limits {
            let key = limit.key(request.namespace, &request.user.name, event);
            if !limit.accepts(&key, request.cx.now) {
                refused.push(format!("limit reached on type {:?} for key {key}", limit.kind));
            }
        }
        match refused.len() {
            0 => Ok(()),
            1 => Err(Status::too_many_requests(&refused[0], 0)),
            _ => Err(Status::too_many_requests(format!("[{}]", refused.join(", ")), 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn buckets_fill_and_empty() {
        let limits = json!({"limits": [{"type": "Namespace", "qps": 1, "burst": 2, "cacheSize": 2}, {"type": "Nonsense"}]});
        let plugin = EventRateLimit::configured(&limits);
        let [limit] = plugin.limits.as_slice() else { panic!("one limit") };
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let results = [("a", 0), ("a", 0), ("a", 0), ("b", 0), ("a", 1), ("a", 1), ("a", 9), ("a", 9), ("a", 9)]
            .map(|(key, second)| limit.accepts(key, at(second)));
        assert_eq!(results, [true, true, false, true, true, false, true, true, false]);
        // A third key takes the place of the one that was not used for longest.
        assert!(limit.accepts("c", at(9)));
        assert_eq!(limit.buckets.lock().unwrap().by_key.len(), 2);
        assert!(!limit.accepts("a", at(9)));
    }

    #[test]
    fn keys() {
        let event = json!({"source": {"component": "c"}, "involvedObject": {"kind": "Pod", "name": "p"}});
        for (kind, key) in [("Server", ""), ("Namespace", "ns"), ("User", "u"), ("SourceAndObject", "cPodp")] {
            let limit = Limit::of(&json!({ "type": kind })).unwrap();
            assert_eq!(limit.key("ns", "u", &event), key);
        }
    }
}
