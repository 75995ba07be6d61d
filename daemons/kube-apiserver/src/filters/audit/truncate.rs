//! Bounds of what is handed to a back-end (`--audit-log-truncate-enabled`, `--audit-webhook-truncate-enabled`). Pure.

use std::borrow::Cow;

use serde_json::{Value, json};

/// Bounds in bytes of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    pub event_bytes_max: usize,
    pub batch_bytes_max: usize,
}

impl Truncation {
    /// The event: as it is, or without what was asked and answered. None when it is too large even so.
    pub fn of<'e>(&self, event: &'e Value) -> Option<Cow<'e, Value>> {
        if self.fits(event) {
            return Some(Cow::Borrowed(event));
        }
        if event.get("requestObject").is_none() && event.get("responseObject").is_none() {
            return None;
        }
        let mut less = event.as_object()?.clone();
        less.remove("requestObject");
        less.remove("responseObject");
        less.entry("annotations").or_insert_with(|| json!({}))["audit.k8s.io/truncated"] = json!("true");
        let less = Value::Object(less);
        self.fits(&less).then_some(Cow::Owned(less))
    }

    fn fits(&self, event: &Value) -> bool {
        event.to_string().len() <= self.event_bytes_max
    }

    /// The events in as many batches as they need.
    pub fn batches(&self, events: Vec<Value>) -> Vec<Vec<Value>> {
        let mut batches: Vec<Vec<Value>> = Vec::new();
        let mut bytes = 0;
        for event in events {
            let size = event.to_string().len();
            match batches.last_mut() {
                Some(batch) if bytes + size <= self.batch_bytes_max => batch.push(event),
                _ => {
                    batches.push(vec![event]);
                    bytes = 0;
                }
            }
            bytes += size;
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Truncation = Truncation { event_bytes_max: 80, batch_bytes_max: 25 };

    #[test]
    fn objects_go_first() {
        let small = json!({"requestURI": "/x", "requestObject": 1});
        assert_eq!(BOUNDS.of(&small).as_deref(), Some(&small));
        let large = "x".repeat(100);
        let truncated = json!({"requestURI": "/x", "annotations": {"audit.k8s.io/truncated": "true"}});
        for object in ["requestObject", "responseObject"] {
            assert_eq!(BOUNDS.of(&json!({"requestURI": "/x", object: large})).as_deref(), Some(&truncated), "{object}");
        }
        assert_eq!(BOUNDS.of(&json!({"requestURI": large, "requestObject": 1})), None);
        assert_eq!(BOUNDS.of(&json!({"requestURI": large})), None);
    }

    #[test]
    fn batches_are_within_their_bound() {
        let event = |bytes: usize| json!("x".repeat(bytes - 2));
        let sizes = |events: &[usize]| {
            let batches = BOUNDS.batches(events.iter().map(|bytes| event(*bytes)).collect());
            batches.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), [] as [usize; 0]);
        assert_eq!(sizes(&[10, 10, 10, 15]), [2, 2]);
        assert_eq!(sizes(&[40, 5]), [1, 1]);
    }
}
