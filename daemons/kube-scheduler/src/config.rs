//! `KubeSchedulerConfiguration` (kubescheduler.config.k8s.io/v1): profiles, plugins and their weights.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::framework::Plugin;
use crate::plugins::{self, DEFAULT_PREEMPTION, FitStrategy, InterPodAffinity, NodeResourcesFit};
use crate::profile::Profile;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("parsing {path}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("{path}: expected kind KubeSchedulerConfiguration of kubescheduler.config.k8s.io/v1, found {found}")]
    Kind { path: PathBuf, found: String },
    #[error("profile {profile}: {message}")]
    Profile { profile: String, message: String },
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    client_connection: ClientConnection,
    #[serde(default)]
    leader_election: LeaderElection,
    #[serde(default)]
    profiles: Vec<ProfileFile>,
    #[serde(default)]
    extenders: Vec<serde_json::Value>,
    /// Every node is looked at in a few microseconds: there is nothing to sample or to parallelise.
    #[serde(default, rename = "percentageOfNodesToScore")]
    _percentage_of_nodes_to_score: Option<i32>,
    #[serde(default, rename = "parallelism")]
    _parallelism: Option<i32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClientConnection {
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LeaderElection {
    leader_elect: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ProfileFile {
    scheduler_name: Option<String>,
    plugins: PluginSets,
    plugin_config: Vec<PluginConfig>,
    #[serde(rename = "percentageOfNodesToScore")]
    _percentage_of_nodes_to_score: Option<i32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct PluginSets {
    multi_point: PluginSet,
    pre_filter: PluginSet,
    filter: PluginSet,
    post_filter: PluginSet,
    pre_score: PluginSet,
    score: PluginSet,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PluginSet {
    enabled: Vec<PluginRef>,
    disabled: Vec<PluginRef>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginRef {
    name: String,
    weight: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfig {
    name: String,
    #[serde(default)]
    args: serde_json::Value,
}

impl PluginSet {
    fn disables(&self, name: &str) -> bool {
        self.disabled.iter().any(|p| p.name == name || p.name == "*") && !self.enabled.iter().any(|p| p.name == name)
    }

    fn weight(&self, name: &str) -> Option<i64> {
        self.enabled.iter().find(|p| p.name == name)?.weight
    }
}

/// What the file says.
#[derive(Debug)]
pub struct Configuration {
    pub profiles: Vec<Profile>,
    pub kubeconfig: Option<PathBuf>,
    pub leader_elect: Option<bool>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self { profiles: vec![Profile::standard()], kubeconfig: None, leader_elect: None }
    }
}

impl Configuration {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let parse = |message: String| ConfigError::Parse { path: path.to_owned(), message };
        let mut documents = machinery::yaml::to_values(text).map_err(|e| parse(e.to_string()))?;
        if documents.len() != 1 {
            return Err(parse(format!("expected one document, found {}", documents.len())));
        }
        let document = documents.remove(0);
        let file: File = serde_json::from_value(document).map_err(|e| parse(e.to_string()))?;
        if file.kind != "KubeSchedulerConfiguration" || file.api_version != "kubescheduler.config.k8s.io/v1" {
            let found = format!("{} of {}", file.kind, file.api_version);
            return Err(ConfigError::Kind { path: path.to_owned(), found });
        }
        if !file.extenders.is_empty() {
            return Err(ConfigError::Unsupported("extenders"));
        }
        let mut profiles = file.profiles.iter().map(profile).collect::<Result<Vec<_>, _>>()?;
        if profiles.is_empty() {
            profiles.push(Profile::standard());
        }
        let names: BTreeSet<&str> = profiles.iter().map(|p| p.name.as_str()).collect();
        if names.len() < profiles.len() {
            let message = "two profiles have one scheduler name".to_owned();
            return Err(ConfigError::Profile { profile: profiles[0].name.clone(), message });
        }
        Ok(Self {
            profiles,
            kubeconfig: file.client_connection.kubeconfig.filter(|p| !p.as_os_str().is_empty()),
            leader_elect: file.leader_election.leader_elect,
        })
    }
}

fn profile(file: &ProfileFile) -> Result<Profile, ConfigError> {
    let name = file.scheduler_name.clone().unwrap_or_else(|| "default-scheduler".to_owned());
    let wrong = |message: String| ConfigError::Profile { profile: name.clone(), message };
    let sets = &file.plugins;
    let all_sets = [&sets.multi_point, &sets.pre_filter, &sets.filter, &sets.post_filter, &sets.pre_score, &sets.score];
    for set in all_sets {
        for plugin in set.enabled.iter().chain(&set.disabled).filter(|p| p.name != "*") {
            if !plugins::is_known(&plugin.name) {
                return Err(wrong(format!("plugin {} does not exist", plugin.name)));
            }
        }
    }
    let mut chosen: Vec<(Box<dyn Plugin>, i64)> = Vec::new();
    for (plugin, weight) in plugins::defaults() {
        let name = plugin.name();
        if sets.multi_point.disables(name) || sets.filter.disables(name) && weight == 0 {
            continue;
        }
        let weight = match sets.score.weight(name).or(sets.multi_point.weight(name)) {
            _ if sets.score.disables(name) => 0,
            Some(given) if weight > 0 => given,
            _ => weight,
        };
        chosen.push((plugin, weight));
    }
    for config in &file.plugin_config {
        let string = |path: &str| config.args.pointer(path).and_then(|v| v.as_str());
        let replacement: Box<dyn Plugin> = match config.name.as_str() {
            "NodeResourcesFit" => {
                let strategy = match string("/scoringStrategy/type") {
                    None | Some("LeastAllocated") => FitStrategy::LeastAllocated,
                    Some("MostAllocated") => FitStrategy::MostAllocated,
                    Some(_) => {
                        return Err(ConfigError::Unsupported("a scoring strategy other than LeastAllocated and MostAllocated"));
                    }
                };
                Box::new(NodeResourcesFit { strategy })
            }
            "InterPodAffinity" => {
                let weight = config.args.pointer("/hardPodAffinityWeight").and_then(|v| v.as_i64()).unwrap_or(1);
                Box::new(InterPodAffinity { hard_affinity_weight: weight })
            }
            other if plugins::is_known(other) => continue,
            other => return Err(wrong(format!("plugin {other} does not exist"))),
        };
        if let Some((plugin, _)) = chosen.iter_mut().find(|(p, _)| p.name() == replacement.name()) {
            *plugin = replacement;
        }
    }
    let preempts = !sets.multi_point.disables(DEFAULT_PREEMPTION) && !sets.post_filter.disables(DEFAULT_PREEMPTION);
    Ok(Profile::new(&name, chosen, preempts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Configuration, String> {
        let text = format!("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n{body}");
        Configuration::parse(&text, Path::new("f")).map_err(|e| e.to_string())
    }

    #[test]
    fn profiles_plugins_and_weights() {
        let config = parse(
            "profiles:\n- schedulerName: a\n- schedulerName: b\n  plugins:\n    score:\n      disabled: [{name: '*'}]\n      \
             enabled: [{name: ImageLocality, weight: 7}]\n    postFilter: {disabled: [{name: DefaultPreemption}]}\n",
        )
        .unwrap();
        assert!(config.profiles[0].preempts && !config.profiles[1].preempts);
        let scorers: Vec<_> = config.profiles[1].scorers().map(|(p, w)| (p.name(), w)).collect();
        assert_eq!(scorers, [("ImageLocality", 7)]);
        assert_eq!(config.profiles[0].scorers().count(), 7);
    }

    #[test]
    fn mistakes_are_named() {
        for (body, message) in [
            ("profils: []", "unknown field `profils`"),
            ("profiles: [{plugins: {score: {enabled: [{name: Nope}]}}}]", "plugin Nope does not exist"),
            ("extenders: [{urlPrefix: x}]", "extenders is not supported"),
            ("profiles: [{schedulerName: a}, {schedulerName: a}]", "two profiles"),
        ] {
            let error = parse(body).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
