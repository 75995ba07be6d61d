//! Encryption at rest: which values are sealed on their way to the store, by which key.

pub mod cipher;
pub mod config;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use ::store::{TransformError, Transformer};
use bytes::Bytes;
use daemon::reload::Reloading;

use self::config::{Configuration, Entry, Provider};

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

fn form_of(prefix: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    prefix.hash(&mut hasher);
    hasher.finish()
}

impl Transformer for Encryption {
    fn seal(&self, key: &str, value: Bytes) -> Result<Bytes, TransformError> {
        let configuration = self.configuration.current();
        match self.entry(&configuration, key).and_then(|entry| entry.providers.first()) {
            None | Some(Provider::Identity) => Ok(value),
            Some(Provider::Key(provider)) => {
                let sealed = provider.cipher.seal(key, &value);
                let sealed = sealed.ok_or_else(|| TransformError { key: key.to_owned(), why: "it cannot be encrypted" })?;
                Ok([provider.prefix.as_bytes(), &sealed].concat().into())
            }
        }
    }

    fn open(&self, key: &str, kept: Bytes) -> Result<Bytes, TransformError> {
        let refused = |why| Err(TransformError { key: key.to_owned(), why });
        if !kept.starts_with(SEALED) {
            // What was written before encryption was switched on; whoever wants it refused leaves identity out.
            let configuration = self.configuration.current();
            let readable = self
                .entry(&configuration, key)
                .is_none_or(|entry| entry.providers.iter().any(|provider| matches!(provider, Provider::Identity)));
            return if readable { Ok(kept) } else { refused("it is not encrypted, and no identity provider is configured") };
        }
        let configuration = self.configuration.current();
        let Some(entry) = self.entry(&configuration, key) else {
            return refused("identity transformer tried to read encrypted data");
        };
        let opened = entry.providers.iter().find_map(|provider| match provider {
            Provider::Key(provider) => provider.cipher.open(key, kept.strip_prefix(provider.prefix.as_bytes())?),
            Provider::Identity => None,
        });
        opened.map_or_else(|| refused("no matching key was found for the provided data"), |plain| Ok(plain.into()))
    }

    fn form(&self, key: &str, kept: &[u8]) -> Option<u64> {
        let configuration = self.configuration.current();
        let entry = self.entry(&configuration, key)?;
        let prefix = entry.providers.iter().find_map(|provider| match provider {
            Provider::Key(provider) => kept.starts_with(provider.prefix.as_bytes()).then_some(provider.prefix.as_str()),
            Provider::Identity => None,
        });
        Some(form_of(prefix.unwrap_or_default()))
    }

    fn next_form(&self, key: &str) -> Option<u64> {
        let configuration = self.configuration.current();
        self.entry(&configuration, key)?.providers.first().map(|provider| match provider {
            Provider::Key(provider) => form_of(&provider.prefix),
            Provider::Identity => form_of(""),
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
        Encryption::new(Reloading::fixed(config::parse(&text).unwrap()))
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
