//! The versions in which an object's managers wrote: field ownership is worked out by pure functions, which are run again with
//! the conversions they missed.

use std::sync::{Mutex, PoisonError};

use machinery::apply::Versions;
use machinery::meta;
use machinery::status::Status;
use schema::TypeRef;
use serde_json::Value;

use super::Served;
use crate::custom::conversion::Conversion;

/// A run asks for what the run before did not know that it would need: for a merge and for each step of a prune.
const RUNS_MAX: usize = 64;

/// An object, and the version it is wanted in.
type Wish = (Value, String);

/// What is known of an object in other versions.
struct Shown<'c> {
    conversion: &'c Conversion,
    known: Vec<(Wish, Value)>,
    missed: Mutex<Vec<Wish>>,
}

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the content: it may be secret.
        write!(f, "Shown({})", self.known.len())
    }
}

impl Versions for Shown<'_> {
    fn shown(&self, object: &Value, api_version: &str) -> Option<(Value, TypeRef<'_>)> {
        let ty = self.conversion.type_ref(api_version)?;
        if meta::api_version(object) == api_version {
            return Some((object.clone(), ty));
        }
        let known = self.known.iter().find(|((known, version), _)| version == api_version && known == object);
        if let Some((_, shown)) = known {
            return Some((shown.clone(), ty));
        }
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        missed.push((object.clone(), api_version.to_owned()));
        // This run's result does not count.
        Some((object.clone(), ty))
    }
}

/// Runs a function of an object's owners. Where a webhook converts it is given the object in their versions.
///
/// # Errors
/// Of the webhook.
pub async fn with_versions<R>(served: &Served, run: impl Fn(Option<&dyn Versions>) -> R) -> Result<R, Status> {
    let Some(conversion) = served.conversion.as_deref().filter(|conversion| conversion.has_webhook()) else {
        return Ok(run(None));
    };
    let mut shown = Shown { conversion, known: Vec::new(), missed: Mutex::default() };
    for _ in 0..RUNS_MAX {
        let result = run(Some(&shown));
        let missed = std::mem::take(shown.missed.get_mut().unwrap_or_else(PoisonError::into_inner));
        if missed.is_empty() {
            return Ok(result);
        }
        for (object, api_version) in missed {
            let mut converted = conversion.convert(vec![object.clone()], &api_version).await?;
            let converted = converted.pop().ok_or_else(|| Status::internal("a conversion without an object"))?;
            shown.known.push(((object, api_version), converted));
        }
    }
    Err(Status::internal("the owners of the object's fields wrote in too many versions"))
}
