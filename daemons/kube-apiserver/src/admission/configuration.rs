//! `--admission-control-config-file`: what plugins are told beyond being switched on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::DefaultTolerationSeconds;

/// The configuration of each plugin that has one, as its own file would hold it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    told: BTreeMap<String, Value>,
    /// What flags say instead of the file.
    pub tolerations: DefaultTolerationSeconds,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is no YAML", path.display())]
    Yaml { path: PathBuf, source: machinery::yaml::YamlError },
    #[error("{} is no AdmissionConfiguration", .0.display())]
    Kind(PathBuf),
    #[error("{}: plugin {plugin:?}: name and configuration or path are required", path.display())]
    Plugin { path: PathBuf, plugin: String },
}

impl Configuration {
    /// Reads an `apiserver.config.k8s.io/v1` AdmissionConfiguration and the files that it names, relative to its own place.
    ///
    /// # Errors
    /// Any of the files cannot be read or is not what it should be.
    pub fn load(path: &Path) -> Result<Self, ConfigurationError> {
        let document = read(path)?;
        if document["kind"] != "AdmissionConfiguration" {
            return Err(ConfigurationError::Kind(path.to_owned()));
        }
        let mut all = BTreeMap::new();
        for entry in document["plugins"].as_array().into_iter().flatten() {
            let name = entry["name"].as_str().unwrap_or_default().to_owned();
            let content = match (&entry["configuration"], entry["path"].as_str().filter(|path| !path.is_empty())) {
                (Value::Null, Some(file)) => read(&path.parent().unwrap_or(Path::new("")).join(file))?,
                (Value::Null, None) => Value::Null,
                (content, _) => content.clone(),
            };
            if name.is_empty() || content.is_null() {
                return Err(ConfigurationError::Plugin { path: path.to_owned(), plugin: name });
            }
            all.insert(name, content);
        }
        Ok(Self { told: all, ..Self::default() })
    }

    /// What a plugin is told; null when nothing.
    pub fn of(&self, plugin: &str) -> &Value {
        self.told.get(plugin).unwrap_or(&Value::Null)
    }
}

fn read(path: &Path) -> Result<Value, ConfigurationError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigurationError::Read { path: path.to_owned(), source })?;
    machinery::yaml::to_value(&text).map_err(|source| ConfigurationError::Yaml { path: path.to_owned(), source })
}
