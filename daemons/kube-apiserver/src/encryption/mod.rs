//! Encryption at rest: which values are sealed on their way to the store, by which key.

pub mod cipher;
pub mod config;
pub mod kms;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use ::store::{TransformError, Transformer};
use bytes::Bytes;
use daemon::reload::Reloading;
use futures::FutureExt;
use futures::future::BoxFuture;

use self::config::{Configuration, Entry, Provider};
use self::kms::{Plugin, Refusal};

/// Every sealed value begins with this.
const SEALED: &[u8] = b"k8s:enc:";
const ROOT: &str = "/registry/";

/// Seals and opens values as the configuration says, which may change while the server runs.
pub struct Encryption {
    configuration: Reloading<Configuration>,
    /// The groups of built-in resources, whose keys do not have them.
    groups: HashMap<String, String>,
}

impl Encryption {
    pub fn new(configuration: Reloading<Configuration>) -> Self {
        let mut groups = HashMap::new();
        for resource in &schema::builtin().resources {
            let stored = crate::convert::stored_as(resource);
            // The core group first, as it is in the table: `events` are kept as the core group's.
            groups.entry(resource.plural.clone()).or_insert_with(|| stored.group.clone());
        }
        Self { configuration, groups }
    }

    /// (group, plural) of a key: `/registry/PLURAL/…`, or `/registry/GROUP/PLURAL/…` of a custom resource.
    fn resource<'k>(&'k self, key: &'k str) -> Option<(&'k str, &'k str)> {
        let mut parts = key.strip_prefix(ROOT)?.split('/');
        let first = parts.next()?;
        if first.contains('.') {
            return Some((first, parts.next()?));
        }
        Some((self.groups.get(first)?, first))
    }

    fn entry<'c>(&self, configuration: &'c Configuration, key: &str) -> Option<&'c Entry> {
        let (group, plural) = self.resource(key)?;
        configuration.entries.iter().find(|entry| entry.resources.iter().any(|pattern| pattern.matches(group, plural)))
    }
}

/// Names a form of values: its prefix, and whose key it is where one prefix stands for many.
fn form_of(prefix: &str, key_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (prefix, key_id).hash(&mut hasher);
    hasher.finish()
}

impl Provider {
    /// What a value that it sealed begins with.
    fn prefix(&self) -> &str {
        match self {
            Self::Identity => "",
            Self::Key(provider) => &provider.prefix,
            Self::Kms(provider) => &provider.prefix,
        }
    }

    fn seal(&self, key: &str, value: &Bytes) -> Result<Bytes, Refusal> {
        let sealed = match self {
            Self::Identity => return Ok(value.clone()),
            Self::Key(provider) => {
                provider.cipher.seal(key, value).ok_or_else(|| Refusal::Because("it cannot be encrypted".to_owned()))?
            }
            Self::Kms(provider) => provider.plugin.seal(key, value)?,
        };
        Ok([self.prefix().as_bytes(), &sealed].concat().into())
    }

    /// None when it is not this provider's.
    fn open(&self, key: &str, kept: &[u8]) -> Option<Result<Vec<u8>, Refusal>> {
        match self {
            Self::Identity => None,
            Self::Key(provider) => provider.cipher.open(key, kept.strip_prefix(provider.prefix.as_bytes())?).map(Ok),
            Self::Kms(provider) => Some(provider.plugin.open(key, kept.strip_prefix(provider.prefix.as_bytes())?)),
        }
    }
}

/// The plugin that has to be asked before a value can be sealed or, with what is kept of it, opened; and what it is asked about.
fn plugin_of<'k>(entry: &Entry, kept: Option<&'k [u8]>) -> Option<(Arc<Plugin>, Option<&'k [u8]>)> {
    entry.providers.iter().find_map(|provider| {
        let Provider::Kms(kms) = provider else { return None };
        let sealed = match kept {
            None => None,
            Some(kept) => Some(kept.strip_prefix(kms.prefix.as_bytes())?),
        };
        Some((kms.plugin.clone(), sealed))
    })
}

fn refused(key: &str, refusal: Refusal) -> TransformError {
    match refusal {
        Refusal::AskFirst => TransformError::ask_first(key),
        Refusal::Because(why) => TransformError::new(key, why),
    }
}

impl Transformer for Encryption {
    fn seal(&self, key: &str, value: Bytes) -> Result<Bytes, TransformError> {
        let configuration = self.configuration.current();
        match self.entry(&configuration, key).and_then(|entry| entry.providers.first()) {
            None => Ok(value),
            Some(provider) => provider.seal(key, &value).map_err(|refusal| refused(key, refusal)),
        }
    }

    fn open(&self, key: &str, kept: Bytes) -> Result<Bytes, TransformError> {
        let configuration = self.configuration.current();
        let entry = self.entry(&configuration, key);
        if !kept.starts_with(SEALED) {
            // What was written before encryption was switched on; whoever wants it refused leaves identity out.
            let readable =
                entry.is_none_or(|entry| entry.providers.iter().any(|provider| matches!(provider, Provider::Identity)));
            return if readable {
                Ok(kept)
            } else {
                Err(TransformError::new(key, "it is not encrypted, and no identity provider is configured"))
            };
        }
        let Some(entry) = entry else {
            return Err(TransformError::new(key, "identity transformer tried to read encrypted data"));
        };
        match entry.providers.iter().find_map(|provider| provider.open(key, &kept)) {
            Some(opened) => opened.map(Bytes::from).map_err(|refusal| refused(key, refusal)),
            None => Err(TransformError::new(key, "no matching key was found for the provided data")),
        }
    }

    fn ask<'a>(&'a self, key: &'a str, kept: Option<&'a [u8]>) -> BoxFuture<'a, Result<(), TransformError>> {
        let configuration = self.configuration.current();
        let plugin = self.entry(&configuration, key).and_then(|entry| plugin_of(entry, kept));
        async move {
            let asked = match plugin {
                None => Ok(()),
                Some((plugin, None)) => plugin.prime().await,
                Some((plugin, Some(sealed))) => plugin.fetch(sealed).await,
            };
            asked.map_err(|why| TransformError::new(key, why))
        }
        .boxed()
    }

    fn form(&self, key: &str, kept: &[u8]) -> Option<u64> {
        let configuration = self.configuration.current();
        let entry = self.entry(&configuration, key)?;
        let provider = entry.providers.iter().find(|p| !p.prefix().is_empty() && kept.starts_with(p.prefix().as_bytes()));
        Some(match provider {
            Some(Provider::Kms(kms)) => form_of(&kms.prefix, &kms::key_id_of(&kept[kms.prefix.len()..]).unwrap_or_default()),
            other => form_of(other.map_or("", Provider::prefix), ""),
        })
    }

    fn next_form(&self, key: &str) -> Option<u64> {
        let configuration = self.configuration.current();
        self.entry(&configuration, key)?.providers.first().map(|provider| match provider {
            Provider::Kms(kms) => form_of(&kms.prefix, &kms.plugin.key_id().unwrap_or_default()),
            other => form_of(other.prefix(), ""),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encryption(providers: &str) -> Encryption {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets, widgets.example.com]\n  providers: [{providers}]\n"
        );
        Encryption::new(Reloading::fixed(config::parse(&text, &kms::Plugins::default()).unwrap()))
    }

    const OLD: &str = "{aescbc: {keys: [{name: old, secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}]}}";
    const NEW: &str = "{secretbox: {keys: [{name: new, secret: AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}]}}";
    const SECRET: &str = "/registry/secrets/ns/s";

    #[test]
    fn what_is_named_is_sealed() {
        let encryption = encryption(OLD);
        for (key, sealed) in [
            (SECRET, true),
            ("/registry/example.com/widgets/ns/w", true),
            ("/registry/configmaps/ns/c", false),
            ("/registry/example.org/widgets/ns/w", false),
        ] {
            let kept = encryption.seal(key, "plain".into()).unwrap();
            assert_eq!(kept.starts_with(b"k8s:enc:aescbc:v1:old:"), sealed, "{key}");
            assert_eq!(encryption.open(key, kept).unwrap(), "plain", "{key}");
        }
    }

    #[test]
    fn keys_rotate_by_their_order() {
        let before = encryption(OLD);
        let kept = before.seal(SECRET, "plain".into()).unwrap();
        let between = encryption(&format!("{NEW}, {OLD}, {{identity: {{}}}}"));
        assert_eq!(between.open(SECRET, kept.clone()).unwrap(), "plain");
        assert_ne!(between.form(SECRET, &kept), between.next_form(SECRET), "it is to be written again");
        let again = between.seal(SECRET, "plain".into()).unwrap();
        assert_eq!(between.form(SECRET, &again), between.next_form(SECRET));
        let after = encryption(NEW);
        assert_eq!(after.open(SECRET, again).unwrap(), "plain");
        assert!(after.open(SECRET, kept).is_err());
    }

    #[test]
    fn plain_values_need_identity() {
        assert!(encryption(OLD).open(SECRET, "plain".into()).is_err());
        assert!(encryption(&format!("{OLD}, {{identity: {{}}}}")).open(SECRET, "plain".into()).is_ok());
        let sealed = encryption(OLD).seal(SECRET, "plain".into()).unwrap();
        let error = encryption(OLD).open("/registry/configmaps/ns/c", sealed).unwrap_err();
        assert_eq!(error.why, "identity transformer tried to read encrypted data");
    }
}
