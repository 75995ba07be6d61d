//! The ConfigMaps and Secrets that a pod names, in every place where it can.

use std::collections::BTreeSet;

use api::core::Pod;

use super::spec;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

/// Those of environments alone, of volumes alone, or of both and of image pulls.
pub fn references(pod: &Pod) -> References {
    let mut refs = References::default();
    for (_, container) in spec::containers(pod) {
        for source in container.env_from.iter().flatten() {
            refs.config_maps.extend(source.config_map_ref.as_ref().map(|r| r.name.clone()));
            refs.secrets.extend(source.secret_ref.as_ref().map(|r| r.name.clone()));
        }
        for from in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            refs.config_maps.extend(from.config_map_key_ref.as_ref().map(|r| r.name.clone()));
            refs.secrets.extend(from.secret_key_ref.as_ref().map(|r| r.name.clone()));
        }
    }
    for volume in spec::spec(pod).volumes.iter().flatten() {
        refs.config_maps.extend(volume.config_map.as_ref().map(|v| v.name.clone()));
        refs.secrets.extend(volume.secret.as_ref().and_then(|v| v.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            refs.config_maps.extend(source.config_map.as_ref().map(|s| s.name.clone()));
            refs.secrets.extend(source.secret.as_ref().map(|s| s.name.clone()));
        }
    }
    refs.secrets.extend(spec::spec(pod).image_pull_secrets.iter().flatten().map(|r| r.name.clone()));
    refs.config_maps.remove("");
    refs.secrets.remove("");
    refs
}
