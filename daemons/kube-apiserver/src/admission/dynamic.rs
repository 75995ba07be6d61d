//! Plugins that may wait: for a webhook, for a policy's parameters, for a write that must succeed first.
//!
//! They come after the static ones, in upstream's order. What is not configured costs a comparison: a plugin is asked
//! [`Dynamic::concerns`] before anything is made ready for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use machinery::status::Status;
use serde_json::Value;

use super::Request;
use crate::registry::Registry;
use crate::server::Server;

/// The answer of a plugin that was awaited.
pub type Admitted<'a> = BoxFuture<'a, Result<(), Status>>;

pub trait Dynamic: Send + Sync + 'static {
    /// As `--enable-admission-plugins` names it.
    fn name(&self) -> &'static str;
    /// Called once, when the server exists: the place to begin following what configures the plugin.
    fn start(self: Arc<Self>, _server: &Arc<Server>) {}
    /// Whether there may be something to do. Cheap: it is asked of every write.
    fn concerns(&self, request: &Request<'_>) -> bool;
    /// Changes the object.
    fn mutate<'a>(&'a self, _mutation: &'a mut Mutation<'_>) -> Admitted<'a> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// Refuses what must not be.
    fn validate<'a>(&'a self, _validation: &'a Validation<'_>) -> Admitted<'a> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// An object on its way through the plugins that change it. Of a deletion the object is null.
pub struct Mutation<'m> {
    pub request: &'m Request<'m>,
    pub object: &'m mut Value,
    pub old: Option<&'m Value>,
    pub registry: &'m Arc<Registry>,
    pub reinvocation: Reinvocation,
}

/// An object as it would be stored, or null of a deletion.
pub struct Validation<'v> {
    pub request: &'v Request<'v>,
    pub object: &'v Value,
    pub old: Option<&'v Value>,
    pub registry: &'v Arc<Registry>,
}

/// What the second pass over the plugins needs to know of the first. There is a second pass when a webhook or policy changed
/// the object after others saw it; only those that ask for it are called again.
#[derive(Default)]
pub struct Reinvocation {
    /// This is the second pass.
    pub again: bool,
    /// Something changed the object: a second pass is due.
    pub wanted: bool,
    /// By plugin.
    pub invoked: BTreeMap<&'static str, Invoked>,
}

/// What one plugin called.
#[derive(Default)]
pub struct Invoked {
    /// The object when the plugin was done with it.
    last_output: Option<Value>,
    /// Called, and to be called again if something changes from here on.
    reinvocable: BTreeSet<String>,
    /// To be called again.
    due: BTreeSet<String>,
}

impl Invoked {
    /// Begins the plugin's second turn: if others changed the object since its first, all that can be are called again.
    pub fn begin_again(&mut self, object: &Value) {
        if self.last_output.as_ref() != Some(object) {
            self.changed();
        }
    }

    /// Ends a turn.
    pub fn end(&mut self, object: &Value) {
        self.last_output = Some(object.clone());
    }

    /// The object was changed: who saw it before is due.
    pub fn changed(&mut self) {
        self.due.append(&mut self.reinvocable);
    }

    pub fn called(&mut self, id: &str) {
        self.reinvocable.insert(id.to_owned());
    }

    pub fn is_due(&self, id: &str) -> bool {
        self.due.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_called_again() {
        let mut invoked = Invoked::default();
        invoked.called("first");
        invoked.changed();
        invoked.called("second");
        invoked.end(&json!(1));
        assert!(invoked.is_due("first") && !invoked.is_due("second"));
        invoked.begin_again(&json!(1));
        assert!(!invoked.is_due("second"), "nothing came between");
        invoked.begin_again(&json!(2));
        assert!(invoked.is_due("second"));
    }
}
