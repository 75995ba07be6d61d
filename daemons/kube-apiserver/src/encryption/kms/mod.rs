//! Keys kept by others: KMS v2 plugins (KEP-3299), in upstream's stored form, so that either server reads what the other wrote.
//!
//! A plugin seals a seed, once for each of its keys; every value has a key of its own, derived from the seed. A value is stored
//! beside the sealed seed, so that the plugin is asked once for each seed, not once for each value. Whether the plugin is well
//! and which of its keys is current is asked about every minute, as upstream does: its interface has no other way.

mod envelope;
mod keys;
mod plugin;
mod status;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

pub use plugin::Plugin;

/// The plugin's key that a stored value is sealed by, if it is one.
pub fn key_id_of(kept: &[u8]) -> Option<String> {
    envelope::decode(kept).ok().map(|object| object.key_id)
}

/// One entry `kms` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub name: String,
    pub socket: PathBuf,
    /// How long a call may take.
    pub timeout: Duration,
}

/// Why a value was not sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The plugin has to be asked first.
    AskFirst,
    Because(String),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Because(why)
    }
}

/// The plugins in use. A configuration that is read again keeps those that it names as before.
#[derive(Default)]
pub struct Plugins(Mutex<Vec<Weak<Plugin>>>);

impl Plugins {
    /// The plugin of these settings, started if there is none yet. Must be called inside a runtime.
    pub fn get(&self, settings: &Settings) -> Arc<Plugin> {
        let mut plugins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        plugins.retain(|plugin| plugin.strong_count() > 0);
        let known = plugins.iter().filter_map(Weak::upgrade).find(|plugin| plugin.settings == *settings);
        known.unwrap_or_else(|| {
            let plugin = Plugin::start(settings.clone());
            plugins.push(Arc::downgrade(&plugin));
            plugin
        })
    }

    /// Whether all are well, as far as is known.
    ///
    /// # Errors
    /// What those that are not have said.
    pub fn health(&self) -> Result<(), String> {
        let plugins: Vec<_> = {
            let plugins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            plugins.iter().filter_map(Weak::upgrade).collect()
        };
        let health = plugins.iter().enumerate();
        let failures = health.filter_map(|(n, plugin)| Some(format!("kms-provider-{n}: {}", plugin.health().err()?)));
        let failures: Vec<String> = failures.collect();
        if failures.is_empty() { Ok(()) } else { Err(machinery::field::aggregate(failures)) }
    }
}
