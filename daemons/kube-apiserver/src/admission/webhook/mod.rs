//! Admission webhooks: programs outside of the server that change objects or refuse them.
//!
//! | Question | Answer |
//! |---|---|
//! | In which order, and who is asked again? | [`mutating`] |
//! | Who may refuse? | [`validating`] |
//! | What is a webhook, compiled? | [`configuration`] |
//! | What is it asked, and which answers count? | [`review`] |
//! | What comes of a failed call? | [`call`] |
//! | What of its patch? | [`patched`] |

mod call;
mod configuration;
mod mutating;
mod patched;
mod review;
mod validating;

use machinery::status::Status;
use serde_json::Value;

use self::configuration::Hook;
use super::Request;
use super::access::Access;
use super::criteria::Matched;
use super::expression::Facts;
use crate::authz::Authorizer;

pub(super) use mutating::Mutating;
pub(super) use patched::{PatchFailure, settle};
pub(super) use review::attributes;
pub(super) use validating::Validating;

/// Whether a webhook's match conditions hold.
///
/// # Errors
/// The refusal when one cannot be evaluated and the webhook must be asked.
fn conditions_hold(
    hook: &Hook,
    authorizer: &Authorizer,
    request: &Request<'_>,
    matched: &Matched,
    object: &Value,
    old: &Value,
) -> Result<bool, Status> {
    if hook.conditions.is_empty() {
        return Ok(true);
    }
    let mut attributes = review::attributes("", request, matched, object);
    attributes.remove("uid");
    let attributes = Value::Object(attributes);
    let access = Access::new(authorizer, request);
    let facts = Facts { object, old, request: &attributes, access: Some(&access), ..Facts::default() };
    hook.conditions.hold(&facts.bindings()).map_err(|why| request.forbidden(why))
}
