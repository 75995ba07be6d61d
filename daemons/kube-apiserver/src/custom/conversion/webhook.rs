//! The webhook of a definition, and how it is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use machinery::meta;
use serde_json::Value;

use super::review;
use crate::metrics;
use crate::registry::uid::Random;
use crate::webhook::{Client, Target};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Objects of one review, encoded; a longer list is asked for in several. An answer may be twice as long.
const REVIEW_BYTES_MAX: usize = crate::webhook::RESPONSE_BYTES_MAX / 2;

/// A definition's conversion webhook.
pub struct Webhook {
    target: Result<Arc<Target>, String>,
    review_versions: Vec<String>,
    client: Arc<Client>,
    random: Random,
}

impl Webhook {
    /// None when the definition has none.
    pub fn of(definition: &Value, client: &Arc<Client>) -> Option<Self> {
        let conversion = &definition["spec"]["conversion"];
        if conversion["strategy"] != "Webhook" {
            return None;
        }
        let webhook = &conversion["webhook"];
        let versions = webhook["conversionReviewVersions"].as_array().into_iter().flatten();
        Some(Self {
            target: Target::parse(&webhook["clientConfig"]).map(Arc::new),
            review_versions: versions.filter_map(Value::as_str).map(str::to_owned).collect(),
            client: client.clone(),
            random: Random::default(),
        })
    }

    /// The objects in that version; those that are in it already are not asked about.
    ///
    /// # Errors
    /// In upstream's words.
    pub async fn convert(&self, mut objects: Vec<Value>, desired: &str) -> Result<Vec<Value>, String> {
        let others: Vec<usize> = (0..objects.len()).filter(|index| meta::api_version(&objects[*index]) != desired).collect();
        let of_list = objects.len() > 1;
        let mut rest = others.as_slice();
        while !rest.is_empty() {
            let (part, encoded) = portion(&objects, rest);
            let begun = Instant::now();
            let result = self.ask(&objects, part, encoded, desired, of_list).await;
            metrics::converted(result.is_ok(), begun);
            for (index, converted) in part.iter().zip(result?) {
                objects[*index] = converted;
            }
            rest = &rest[part.len()..];
        }
        Ok(objects)
    }

    async fn ask(
        &self,
        objects: &[Value],
        part: &[usize],
        encoded: Vec<Vec<u8>>,
        desired: &str,
        of_list: bool,
    ) -> Result<Vec<Value>, String> {
        let version = review::version(&self.review_versions).ok_or("no supported conversion review versions")?;
        let target = self.target.as_ref().map_err(Clone::clone)?;
        let first = part.first().map_or(&Value::Null, |index| &objects[*index]);
        let of = format!("conversion webhook for {}, Kind={}", meta::api_version(first), meta::kind(first));
        let failed = |why: String| format!("{of} failed: {why}");
        let uid = self.random.uid();
        let question = review::question(version, &uid, desired, &encoded);
        let body = self.client.post(target, Bytes::from(question), TIMEOUT).await.map_err(|error| failed(error.to_string()))?;
        let mut body: Value = serde_json::from_slice(&body)
            .map_err(|error| failed(format!("couldn't get version/kind; json parse error: {error}")))?;
        let converted = review::answer(&mut body, version, &uid).map_err(failed)?;
        if converted.len() != part.len() {
            return Err(format!("{of} returned {} objects, expected {}", converted.len(), part.len()));
        }
        let pairs = part.iter().zip(converted).enumerate();
        pairs
            .map(|(place, (index, converted))| {
                review::settled(&objects[*index], converted, desired)
                    .map_err(|wrong| format!("{of} {}", wrong.describe(place, of_list)))
            })
            .collect()
    }
}

/// As many of the objects at `rest` as one review holds, at least one, encoded.
fn portion<'r>(objects: &[Value], rest: &'r [usize]) -> (&'r [usize], Vec<Vec<u8>>) {
    let mut encoded = Vec::new();
    let mut bytes = 0;
    for index in rest {
        // A Value has only string keys: it always serialises.
        let object = serde_json::to_vec(&objects[*index]).unwrap_or_default();
        bytes += object.len();
        if bytes > REVIEW_BYTES_MAX && !encoded.is_empty() {
            break;
        }
        encoded.push(object);
    }
    (&rest[..encoded.len()], encoded)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_lists_are_asked_for_in_parts() {
        let object = json!("x".repeat(REVIEW_BYTES_MAX / 2 - 10));
        let huge = json!("x".repeat(REVIEW_BYTES_MAX + 1));
        let objects = [object.clone(), object.clone(), object, huge];
        let check = |rest: &[usize], expected: usize| assert_eq!(portion(&objects, rest).0.len(), expected, "{rest:?}");
        check(&[0, 1, 2], 2);
        check(&[2], 1);
        check(&[3, 0], 1);
        check(&[0, 3], 1);
    }
}
