//! AlwaysPullImages: a private image on a node is for those only who may pull it.

use std::collections::BTreeSet;

use machinery::field::{FieldError, Path};
use machinery::pod::containers;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

pub(super) struct AlwaysPullImages;

impl AlwaysPullImages {
    fn concerns(request: &Request<'_>, pod: &Value, old: Option<&Value>) -> bool {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        writes && request.is("", "pods") && old.is_none_or(|old| brings_images(pod, old))
    }
}

impl Plugin for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn mutate(&self, request: &Request<'_>, pod: &mut Value, old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        if Self::concerns(request, pod, old) {
            set(pod);
        }
        Ok(())
    }

    fn validate(&self, request: &Request<'_>, pod: &Value, old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        let problems = if Self::concerns(request, pod, old) { problems(pod) } else { Vec::new() };
        match problems.len() {
            0 => Ok(()),
            1 => Err(request.forbidden(&problems[0])),
            _ => Err(request.forbidden(machinery::field::aggregate(&problems))),
        }
    }
}

fn images(pod: &Value) -> BTreeSet<&str> {
    containers::each(&pod["spec"]).filter_map(|(_, container)| container["image"].as_str()).collect()
}

fn brings_images(pod: &Value, old: &Value) -> bool {
    !images(pod).is_subset(&images(old))
}

fn set(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec") else { return };
    containers::each_mut(spec).for_each(|(_, container)| container["imagePullPolicy"] = json!("Always"));
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(image) = volume.get_mut("image").filter(|image| image.is_object()) {
            image["pullPolicy"] = json!("Always");
        }
    }
}

fn problems(pod: &Value) -> Vec<String> {
    let spec = Path::new("spec");
    let of_containers = containers::all(&pod["spec"], &spec)
        .into_iter()
        .map(|visit| (visit.path.child("imagePullPolicy"), visit.container["imagePullPolicy"].clone()));
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten().enumerate();
    let of_volumes = volumes.filter(|(_, volume)| volume["image"].is_object()).map(|(index, volume)| {
        let path = spec.child("volumes").index(index).child("image").child("pullPolicy");
        (path, volume["image"]["pullPolicy"].clone())
    });
    of_containers
        .chain(of_volumes)
        .filter(|(_, policy)| policy != "Always")
        .map(|(path, policy)| FieldError::not_supported(&path, policy, &["Always"]).to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_pulled() {
        let mut pod = json!({"spec": {"containers": [{"image": "a", "imagePullPolicy": "Never"}], "initContainers": [{"image": "b"}],
            "ephemeralContainers": [{"image": "c"}], "volumes": [{"name": "v", "image": {"reference": "d"}}, {"name": "w"}]}});
        assert_eq!(problems(&pod).len(), 4);
        assert!(problems(&pod)[1].starts_with("spec.containers[0].imagePullPolicy: Unsupported value: \"Never\""));
        set(&mut pod);
        assert!(problems(&pod).is_empty());
        let mut newer = pod.clone();
        newer["spec"]["containers"][0]["image"] = json!("b");
        assert!(!brings_images(&newer, &pod));
        newer["spec"]["containers"][0]["image"] = json!("e");
        assert!(brings_images(&newer, &pod));
    }
}
