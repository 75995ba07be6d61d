//! `--encryption-provider-config` (`apiserver.config.k8s.io/v1` EncryptionConfiguration).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use serde::Deserialize;

use super::cipher::{Algorithm, Cipher};
use super::kms::{Plugin, Plugins, Settings};

const KMS_TIMEOUT: Duration = Duration::from_secs(3);

/// Which resources are kept how, in order.
#[derive(Default)]
pub struct Configuration {
    pub entries: Vec<Entry>,
}

pub struct Entry {
    pub resources: Vec<Pattern>,
    /// The first writes, all read.
    pub providers: Vec<Provider>,
}

pub enum Provider {
    /// Values as they are.
    Identity,
    Key(KeyProvider),
    Kms(KmsProvider),
}

/// Keys kept by a plugin.
pub struct KmsProvider {
    /// `k8s:enc:kms:v2:NAME:`
    pub prefix: String,
    pub plugin: Arc<Plugin>,
}

impl Configuration {
    pub fn names_plugins(&self) -> bool {
        self.entries.iter().flat_map(|entry| &entry.providers).any(|provider| matches!(provider, Provider::Kms(_)))
    }
}

/// One key.
pub struct KeyProvider {
    /// `k8s:enc:ALGORITHM:v1:NAME:`
    pub prefix: String,
    pub cipher: Cipher,
}

/// Resources, as the file names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// `*.*`
    Everything,
    /// `*.` for the core group, `*.GROUP`.
    Group(String),
    Resource {
        group: String,
        plural: String,
    },
}

impl Pattern {
    pub fn matches(&self, group: &str, plural: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Group(wanted) => wanted == group,
            Self::Resource { group: g, plural: p } => g == group && p == plural,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let invalid = |why: &str| Err(format!("Invalid value: {text:?}: {why}"));
        if text.chars().any(char::is_uppercase) {
            return invalid("resource name should not contain capital letters");
        }
        match text.split_once('.') {
            _ if text == "*" => {
                invalid("use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources")
            }
            Some(("*", "*")) => Ok(Self::Everything),
            Some((_, "extensions")) => invalid("'extensions' group has been removed and cannot be used for encryption"),
            Some((_, "events.k8s.io")) => invalid(
                "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
            ),
            Some((_, "*")) => invalid("encrypting the same resource across groups is not supported"),
            Some(("*", group)) => Ok(Self::Group(group.to_owned())),
            Some((plural, group)) => Ok(Self::Resource { group: group.to_owned(), plural: plural.to_owned() }),
            None => Ok(Self::Resource { group: String::new(), plural: text.to_owned() }),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<FileEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<FileProvider>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileProvider {
    aesgcm: Option<FileKeys>,
    aescbc: Option<FileKeys>,
    secretbox: Option<FileKeys>,
    identity: Option<serde_json::Value>,
    kms: Option<FileKms>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FileKms {
    api_version: String,
    name: String,
    #[serde(rename = "cachesize")]
    cache_size: Option<i32>,
    endpoint: String,
    timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKeys {
    #[serde(default)]
    keys: Vec<FileKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

/// Reads the file's text; the plugins that it names are started, or taken from those that run. Errors never show a key.
pub fn parse(text: &str, plugins: &Plugins) -> Result<Configuration, String> {
    // The parser's own message could quote the line with the key.
    let file: File = machinery::yaml::from_str(text).map_err(|_| "it is no EncryptionConfiguration".to_owned())?;
    if file.kind != "EncryptionConfiguration" || file.api_version != "apiserver.config.k8s.io/v1" {
        return Err(format!("no kind {:?} is registered for version {:?}", file.kind, file.api_version));
    }
    if file.resources.is_empty() {
        return Err("resources: Required value: at least one resources is required".to_owned());
    }
    let mut entries: Vec<Entry> = Vec::new();
    let mut plugin_names = BTreeSet::new();
    for (index, entry) in file.resources.into_iter().enumerate() {
        let at = |why: String| format!("resources[{index}].{why}");
        let mut resources = Vec::new();
        for (n, text) in entry.resources.iter().enumerate() {
            let pattern = Pattern::parse(text).map_err(|why| at(format!("resources[{n}]: {why}")))?;
            let named_before = resources.contains(&pattern) || entries.iter().any(|entry| entry.resources.contains(&pattern));
            if named_before {
                return Err(at(format!(
                    "resources[{n}]: Invalid value: {text:?}: the same resource cannot be specified multiple times"
                )));
            }
            resources.push(pattern);
        }
        if resources.is_empty() {
            return Err(at("resources: Required value: at least one resources is required".to_owned()));
        }
        let mut providers = Vec::new();
        for (n, provider) in entry.providers.into_iter().enumerate() {
            let read = self::providers(provider, &mut plugin_names, plugins);
            providers.extend(read.map_err(|why| at(format!("providers[{n}]{why}")))?);
        }
        if providers.is_empty() {
            return Err(at("providers: Required value: at least one providers is required".to_owned()));
        }
        entries.push(Entry { resources, providers });
    }
    Ok(Configuration { entries })
}

fn providers(file: FileProvider, plugin_names: &mut BTreeSet<String>, plugins: &Plugins) -> Result<Vec<Provider>, String> {
    let keyed = [(Algorithm::AesGcm, file.aesgcm), (Algorithm::AesCbc, file.aescbc), (Algorithm::Secretbox, file.secretbox)];
    let mut given: Vec<(Algorithm, FileKeys)> = keyed.into_iter().filter_map(|(a, keys)| Some((a, keys?))).collect();
    match (file.identity.is_some(), file.kms, given.len()) {
        (true, None, 0) => return Ok(vec![Provider::Identity]),
        (false, Some(kms), 0) => return Ok(vec![kms_provider(kms, plugin_names, plugins).map_err(|why| format!(".kms.{why}"))?]),
        (false, None, 1) => {}
        (false, None, 0) => {
            return Err(": Invalid value: provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity".to_owned());
        }
        _ => {
            return Err(": Invalid value: more than one provider specified in a single element, should split into different list elements".to_owned());
        }
    }
    // One, as was just checked.
    let Some((algorithm, keys)) = given.pop() else { return Ok(Vec::new()) };
    if keys.keys.is_empty() {
        return Err(format!(".{}.keys: Required value: at least one keys is required", algorithm.name()));
    }
    keys.keys
        .iter()
        .enumerate()
        .map(|(n, key)| provider(algorithm, key).map_err(|why| format!(".{}.keys[{n}].{why}", algorithm.name())))
        .collect()
}

fn kms_provider(file: FileKms, names: &mut BTreeSet<String>, plugins: &Plugins) -> Result<Provider, String> {
    let settings = kms_settings(&file)?;
    if !names.insert(file.name.clone()) {
        let name = &file.name;
        return Err(format!("name: Invalid value: {name:?}: duplicate KMS provider name {name}, names must be unique"));
    }
    Ok(Provider::Kms(KmsProvider { prefix: format!("k8s:enc:kms:v2:{}:", file.name), plugin: plugins.get(&settings) }))
}

fn kms_settings(file: &FileKms) -> Result<Settings, String> {
    let FileKms { api_version, name, cache_size, endpoint, timeout } = file;
    if name.is_empty() {
        return Err("name: Required value: name is a mandatory field for a provider".to_owned());
    }
    match api_version.as_str() {
        "v2" => {}
        "" | "v1" => {
            return Err("apiVersion: Invalid value: \"v1\": KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.".to_owned());
        }
        other => {
            return Err(format!(
                "apiVersion: Invalid value: {other:?}: unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported"
            ));
        }
    }
    if name.contains(':') {
        return Err(format!("name: Invalid value: {name:?}: invalid KMS provider name {name}, must not contain ':'"));
    }
    if let Some(size) = cache_size {
        return Err(format!("cachesize: Invalid value: {size}: cachesize is not supported in v2"));
    }
    let timeout = match timeout {
        None => KMS_TIMEOUT,
        Some(text) => {
            let parsed: Option<jiff::SignedDuration> = text.parse().ok();
            let positive = parsed.and_then(|duration| Duration::try_from(duration).ok()).filter(|duration| !duration.is_zero());
            positive.ok_or_else(|| format!("timeout: Invalid value: {text:?}: timeout should be a positive value"))?
        }
    };
    Ok(Settings { name: name.clone(), socket: socket(endpoint)?, timeout })
}

/// The path of `unix:///PATH`; `unix:///@NAME` has none and a name instead.
fn socket(endpoint: &str) -> Result<PathBuf, String> {
    let invalid = |why: &str| Err(format!("endpoint: Invalid value: {endpoint:?}: {why}"));
    let (scheme, rest) = endpoint.split_once(':').unwrap_or(("", endpoint));
    if endpoint.is_empty() {
        return invalid("endpoint is a mandatory field for a kms");
    }
    if scheme != "unix" {
        return invalid(&format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported"));
    }
    match rest.strip_prefix("//") {
        Some(path) if path.starts_with("/@") => Ok(format!("\0{}", &path[2..]).into()),
        Some(path) if path.starts_with('/') => Ok(path.into()),
        _ => invalid("invalid endpoint for kms provider, error: it has no path"),
    }
}

fn provider(algorithm: Algorithm, key: &FileKey) -> Result<Provider, String> {
    if key.name.is_empty() || key.name.contains(':') {
        return Err("name: Required value: name is a mandatory field for a key".to_owned());
    }
    if key.secret.is_empty() {
        return Err("secret: Required value: secret is a mandatory field for a key".to_owned());
    }
    let secret = base64::engine::general_purpose::STANDARD
        .decode(key.secret.trim())
        .map_err(|_| "secret: Invalid value: \"REDACTED\": secrets must be base64 encoded".to_owned())?;
    let cipher = Cipher::new(algorithm, &secret).ok_or_else(|| {
        format!(
            "secret: Invalid value: \"REDACTED\": secret is not of the expected length, got {}, expected one of {:?}",
            secret.len(),
            algorithm.key_bytes()
        )
    })?;
    Ok(Provider::Key(KeyProvider { prefix: format!("k8s:enc:{}:v1:{}:", algorithm.name(), key.name), cipher }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";
    /// 32 bytes.
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn a_file() {
        let text = format!(
            "{HEAD}- resources: [secrets, pandas.bears.example]\n  providers:\n  - aescbc: {{keys: [{{name: k1, secret: {KEY}}}, {{name: k2, secret: {KEY}}}]}}\n  - identity: {{}}\n- resources: ['*.apps', '*.']\n  providers: [{{secretbox: {{keys: [{{name: k3, secret: {KEY}}}]}}}}]\n"
        );
        let configuration = parse(&text, &Plugins::default()).unwrap();
        assert_eq!(configuration.entries[0].providers.len(), 3);
        let prefix = |entry: usize, provider: usize| match &configuration.entries[entry].providers[provider] {
            Provider::Key(key) => key.prefix.as_str(),
            Provider::Identity | Provider::Kms(_) => "",
        };
        assert_eq!([prefix(0, 0), prefix(0, 1), prefix(0, 2)], ["k8s:enc:aescbc:v1:k1:", "k8s:enc:aescbc:v1:k2:", ""]);
        let kept = |group: &str, plural: &str| {
            configuration.entries.iter().position(|entry| entry.resources.iter().any(|p| p.matches(group, plural)))
        };
        assert_eq!(kept("", "secrets"), Some(0));
        assert_eq!(kept("bears.example", "pandas"), Some(0));
        assert_eq!(kept("", "configmaps"), Some(1));
        assert_eq!(kept("apps", "deployments"), Some(1));
        assert_eq!(kept("batch", "jobs"), None);
    }

    #[tokio::test]
    async fn a_plugin_has_one_name_and_goes_on_running() {
        let kms = |name: &str| format!("  - kms: {{apiVersion: v2, name: {name}, endpoint: 'unix:///@none', timeout: 5s}}\n");
        let text = |providers: &[String]| format!("{HEAD}- resources: [secrets]\n  providers:\n{}", providers.concat());
        let plugins = Plugins::default();
        let (first, again) = [(); 2].map(|()| parse(&text(&[kms("a")]), &plugins).unwrap()).into();
        let plugin = |configuration: &Configuration| match &configuration.entries[0].providers[0] {
            Provider::Kms(provider) => provider.plugin.clone(),
            _ => unreachable!("it is a plugin"),
        };
        assert!(first.names_plugins() && Arc::ptr_eq(&plugin(&first), &plugin(&again)));
        let settings = Settings { name: "a".into(), socket: "\0none".into(), timeout: Duration::from_secs(5) };
        assert_eq!(plugin(&first).settings, settings);
        let error = parse(&text(&[kms("a"), kms("a")]), &plugins).map(|_| ()).unwrap_err();
        assert!(error.ends_with("duplicate KMS provider name a, names must be unique"), "{error}");
    }

    #[test]
    fn what_a_file_may_not_say() {
        let check = |entry: &str, expected: &str| {
            let error = parse(&format!("{HEAD}{entry}"), &Plugins::default()).map(|_| ()).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("AAECAw"), "{error}");
        };
        let with = |resources: &str, provider: &str| format!("- resources: [{resources}]\n  providers: [{provider}]\n");
        const IDENTITY: &str = "{identity: {}}";
        check(&with("'*'", IDENTITY), "use '*.' to encrypt");
        check(&with("Secrets", IDENTITY), "capital letters");
        check(&with("secrets, secrets", IDENTITY), "multiple times");
        check(&with("events.events.k8s.io", IDENTITY), "Use 'events'");
        check(&with("", IDENTITY), "at least one resources");
        check(&with("secrets", ""), "at least one providers");
        check(&with("secrets", "{kms: {name: k}}"), "kms.apiVersion: Invalid value: \"v1\": KMSv1 is deprecated");
        let kms = |fields: &str| with("secrets", &format!("{{kms: {{apiVersion: v2, {fields}}}}}"));
        check(&kms("endpoint: 'unix:///a'"), "kms.name: Required value: name is a mandatory field for a provider");
        check(&kms("name: 'a:b', endpoint: 'unix:///a'"), "must not contain ':'");
        check(&kms("name: a"), "kms.endpoint: Invalid value: \"\": endpoint is a mandatory field for a kms");
        check(&kms("name: a, endpoint: 'tcp://a'"), "unsupported scheme \"tcp\" for KMS provider, only unix is supported");
        check(&kms("name: a, endpoint: 'unix:///a', timeout: 0s"), "timeout should be a positive value");
        check(&kms("name: a, endpoint: 'unix:///a', cachesize: 5"), "cachesize is not supported in v2");
        check(&with("secrets", "{identity: {}, aescbc: {keys: []}}"), "more than one provider");
        check(&with("secrets", "{aescbc: {keys: []}}"), "at least one keys");
        check(&with("secrets", "{aescbc: {keys: [{name: k, secret: AAECAwQF}]}}"), "got 6, expected one of [16, 24, 32]");
        check(&with("secrets", "{aescbc: {keys: [{name: k, secret: 'AAECAw*'}]}}"), "base64");
        check(&with("secrets", &format!("{{secretbox: {{keys: [{{secret: {KEY}}}]}}}}")), "name is a mandatory field");
        check("- garbage AAECAw: [", "no EncryptionConfiguration");
    }
}
