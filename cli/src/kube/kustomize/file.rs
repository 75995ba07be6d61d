//! The file itself.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The fields that are understood; any other is an error that names it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Kustomization {
    pub api_version: String,
    pub kind: String,
    /// Nothing is done with it: people write a name there.
    pub metadata: serde_json::Value,
    pub resources: Vec<String>,
    pub name_prefix: String,
    pub name_suffix: String,
    pub namespace: String,
    pub labels: Vec<Labels>,
    pub common_labels: BTreeMap<String, String>,
    pub common_annotations: BTreeMap<String, String>,
    pub images: Vec<Image>,
    pub replicas: Vec<Replicas>,
    pub config_map_generator: Vec<Generator>,
    pub secret_generator: Vec<Generator>,
    pub generator_options: GeneratorOptions,
    patches: Vec<Patch>,
    /// Its name before `patches` could do the same.
    patches_strategic_merge: Vec<String>,
    #[serde(rename = "patchesJson6902")]
    patches_json_6902: Vec<Patch>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Labels {
    pub pairs: BTreeMap<String, String>,
    pub include_selectors: bool,
    pub include_templates: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Image {
    pub name: String,
    pub new_name: String,
    pub new_tag: String,
    pub digest: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replicas {
    pub name: String,
    pub count: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Generator {
    pub name: String,
    pub namespace: String,
    /// `create`, `merge` or `replace`.
    pub behavior: String,
    pub literals: Vec<String>,
    pub files: Vec<String>,
    pub envs: Vec<String>,
    pub env: String,
    /// Of a secret.
    #[serde(rename = "type")]
    pub kind: String,
    pub options: GeneratorOptions,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GeneratorOptions {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub disable_name_suffix_hash: bool,
    pub immutable: bool,
}

/// A strategic or JSON patch, in place or in a file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Patch {
    pub path: Option<String>,
    pub patch: Option<String>,
    pub target: Option<Target>,
    pub options: BTreeMap<String, bool>,
}

/// Which objects a patch is for. Names and kinds are regular expressions upstream; here `.*` and plain text are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Target {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub label_selector: String,
    pub annotation_selector: String,
}

impl Kustomization {
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed: Self = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        match parsed.kind.as_str() {
            "" | "Kustomization" => Ok(parsed),
            kind => Err(format!("kind should be Kustomization, not {kind}")),
        }
    }

    /// All patches in the order in which they are applied.
    pub fn patches(&self) -> Vec<Patch> {
        let strategic = self.patches_strategic_merge.iter().map(|text| {
            // A document in place has lines; anything else is a file's name.
            let inline = text.contains('\n');
            let (path, patch) = if inline { (None, Some(text.clone())) } else { (Some(text.clone()), None) };
            Patch { path, patch, ..Patch::default() }
        });
        strategic.chain(self.patches.iter().cloned()).chain(self.patches_json_6902.iter().cloned()).collect()
    }
}
