//! What is to be written about one claim, or one volume. Pure; behaviour follows upstream's
//! `pkg/controller/volume/persistentvolume`, with static volumes and external provisioners.
//!
//! Binding is two writes, of the volume and of the claim, and each of them may be the last that this process makes. What
//! is half bound is seen as such by the next pass, which writes what is missing.

use api::Kind;
use api::core::{
    Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeStatus,
};
use api::storage::StorageClass;

use super::matching::{self, Where};
use crate::event::Note;
use crate::volume::facts::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, PROVISIONED_BY, PROVISIONER, PROVISIONER_BETA, annotate, annotation, class_of_claim,
    default_class, has_no_class, volume_mode, waits_for_consumer,
};

/// What to write, in this order; nothing that is as it should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) volume: Option<Box<PersistentVolume>>,
    pub(super) volume_status: Option<(String, PersistentVolumeStatus)>,
    pub(super) claim: Option<Box<PersistentVolumeClaim>>,
    pub(super) claim_status: Option<PersistentVolumeClaimStatus>,
    /// Recorded on the object that was looked at.
    pub(super) notes: Vec<Note>,
}

/// What surrounds a claim.
pub(super) struct Observed<'a> {
    pub(super) volumes: &'a [PersistentVolume],
    pub(super) classes: &'a [StorageClass],
    /// The node for which the scheduler has chosen, once it has.
    pub(super) node: Option<&'a Node>,
    /// Pods that use the claim and are on no node yet.
    pub(super) waiting_pods: &'a [String],
}

pub(super) fn claim(claim: &PersistentVolumeClaim, observed: &Observed<'_>) -> Plan {
    let named = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default();
    let volume = observed.volumes.iter().find(|v| v.name() == named);
    match (annotation(claim, BIND_COMPLETED).is_some(), named.is_empty()) {
        (false, true) => any_volume(claim, observed),
        (false, false) => that_volume(claim, named, volume),
        (true, true) => lost(claim, "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"),
        (true, false) => match volume {
            None => lost(claim, "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
            Some(volume) if volume.spec.as_ref().is_some_and(|s| s.claim_ref.is_none()) => bind(volume, claim),
            Some(volume) if matching::is_for(volume, claim) => bind(volume, claim),
            Some(_) => {
                let mut plan = phase(claim, "Lost");
                if plan.claim_status.is_some() {
                    let message = "Two claims are bound to the same volume, this one is bound incorrectly";
                    plan.notes.push(Note::warning("ClaimMisbound", message));
                }
                plan
            }
        },
    }
}

/// The claim is to have any volume that fits.
fn any_volume(claim: &PersistentVolumeClaim, observed: &Observed<'_>) -> Plan {
    let class = observed.classes.iter().find(|c| c.name() == class_of_claim(claim));
    let delayed = class.is_some_and(waits_for_consumer);
    let place = match observed.node {
        Some(node) => Where::On(node),
        None if delayed => Where::NotYet,
        None => Where::Anywhere,
    };
    if let Some(volume) = matching::best(claim, observed.volumes, place) {
        return bind(volume, claim);
    }
    if has_no_class(claim)
        && let Some(class) = default_class(observed.classes)
    {
        let mut after = claim.clone();
        after.spec.get_or_insert_default().storage_class_name = Some(class.name().to_owned());
        return Plan { claim: Some(Box::new(after)), ..Plan::default() };
    }
    if delayed && observed.node.is_none() {
        let mut plan = phase(claim, "Pending");
        plan.notes.push(match observed.waiting_pods {
            [] => Note::normal("WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
            [pod] => Note::normal("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
            pods => Note::normal("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(","))),
        });
        return plan;
    }
    match (class_of_claim(claim), class) {
        ("", _) => {
            let mut plan = phase(claim, "Pending");
            let message = "no persistent volumes available for this claim and no storage class is set";
            plan.notes.push(Note::normal("FailedBinding", message));
            plan
        }
        (name, None) => {
            let mut plan = phase(claim, "Pending");
            let message = format!("storageclass.storage.k8s.io {name:?} not found");
            plan.notes.push(Note::warning("ProvisioningFailed", message));
            plan
        }
        (_, Some(class)) => provision(claim, class),
    }
}

/// Asks the class's provisioner, which runs elsewhere, for a volume.
fn provision(claim: &PersistentVolumeClaim, class: &StorageClass) -> Plan {
    let mut plan = phase(claim, "Pending");
    let provisioner = class.provisioner.as_str();
    if provisioner.starts_with("kubernetes.io/") {
        let message = format!("no volume plugin matched name: {provisioner}");
        plan.notes.push(Note::warning("ProvisioningFailed", message));
        return plan;
    }
    let mut after = claim.clone();
    annotate(&mut after, PROVISIONER_BETA, provisioner);
    annotate(&mut after, PROVISIONER, provisioner);
    plan.claim = (after != *claim).then(|| Box::new(after));
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system \
         administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    plan.notes.push(Note::normal("ExternalProvisioning", message));
    plan
}

/// The claim names the volume that it is to have.
fn that_volume(claim: &PersistentVolumeClaim, name: &str, volume: Option<&PersistentVolume>) -> Plan {
    let Some(volume) = volume else { return phase(claim, "Pending") };
    if matching::is_for(volume, claim) {
        return bind(volume, claim);
    }
    let refusal = match volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) {
        Some(_) => Note::warning("FailedBinding", format!("volume {name:?} already bound to a different claim.")),
        None => match matching::misfit(volume, claim) {
            None => return bind(volume, claim),
            Some(why) => Note::warning("VolumeMismatch", format!("Cannot bind to requested volume {name:?}: {why}")),
        },
    };
    let mut plan = phase(claim, "Pending");
    plan.notes.push(refusal);
    plan
}

/// The claim with another phase, and with nothing that only a bound one has.
fn phase(claim: &PersistentVolumeClaim, phase: &str) -> Plan {
    let mut status = claim.status.clone().unwrap_or_default();
    (status.phase, status.access_modes, status.capacity) = (Some(phase.to_owned()), None, None);
    let changed = claim.status.as_ref() != Some(&status);
    Plan { claim_status: changed.then_some(status), ..Plan::default() }
}

fn lost(claim: &PersistentVolumeClaim, message: &str) -> Plan {
    let mut plan = phase(claim, "Lost");
    if plan.claim_status.is_some() {
        plan.notes.push(Note::warning("ClaimLost", message));
    }
    plan
}

/// Binds both to one another; where that is done already, nothing is left to be written.
fn bind(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Plan {
    let mut bound = volume.clone();
    let spec = bound.spec.get_or_insert_default();
    let reserved = spec.claim_ref.is_some();
    if spec.claim_ref.as_ref().and_then(|r| r.uid.as_deref()) != Some(claim.uid()) {
        spec.claim_ref = Some(reference(claim));
        if !reserved {
            annotate(&mut bound, BOUND_BY_CONTROLLER, "yes");
        }
    }
    let mut after = claim.clone();
    let name = after.spec.get_or_insert_default().volume_name.get_or_insert_default();
    if *name != volume.name() {
        *name = volume.name().to_owned();
        annotate(&mut after, BOUND_BY_CONTROLLER, "yes");
    }
    annotate(&mut after, BIND_COMPLETED, "yes");
    let mut status = claim.status.clone().unwrap_or_default();
    if status.phase.as_deref() != Some("Bound") {
        let spec = volume.spec.clone().unwrap_or_default();
        status.phase = Some("Bound".into());
        status.access_modes = spec.access_modes;
        status.capacity = spec.capacity.and_then(|c| c.get("storage").map(|s| [("storage".to_owned(), s.clone())].into()));
        status.current_volume_attributes_class_name = spec.volume_attributes_class_name.filter(|n| !n.is_empty());
    }
    Plan {
        volume_status: volume_phase(volume, "Bound", None).map(|s| (volume.name().to_owned(), s)),
        volume: (bound != *volume).then(|| Box::new(bound)),
        claim: (after != *claim).then(|| Box::new(after)),
        claim_status: (claim.status.as_ref() != Some(&status)).then_some(status),
        notes: Vec::new(),
    }
}

fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        name: claim.metadata.name.clone(),
        namespace: claim.metadata.namespace.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        field_path: None,
    }
}

fn volume_phase(volume: &PersistentVolume, phase: &str, message: Option<&str>) -> Option<PersistentVolumeStatus> {
    let old = volume.status.clone().unwrap_or_default();
    let message = message.map(str::to_owned);
    let same =
        old.phase.as_deref() == Some(phase) && old.message.clone().unwrap_or_default() == message.clone().unwrap_or_default();
    // `lastPhaseTransitionTime` is the server's.
    (!same).then(|| PersistentVolumeStatus { phase: Some(phase.to_owned()), message, ..old })
}

/// `claim` is the one that the volume names, if there is one by that name.
pub(super) fn volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> Plan {
    let to = |phase: &str| status(volume, phase, None);
    let Some(spec) = &volume.spec else { return Plan::default() };
    let Some(reference) = &spec.claim_ref else { return to("Available") };
    let uid = reference.uid.as_deref().unwrap_or_default();
    if uid.is_empty() {
        // Reserved for a claim that has yet to come, or to be bound.
        return to("Available");
    }
    let Some(claim) = claim.filter(|c| c.uid() == uid) else { return released(volume) };
    let claim_spec = claim.spec.clone().unwrap_or_default();
    match claim_spec.volume_name.as_deref().unwrap_or_default() {
        "" if volume_mode(claim_spec.volume_mode.as_ref()) != volume_mode(spec.volume_mode.as_ref()) => {
            let message = format!(
                "Cannot bind PersistentVolume to requested PersistentVolumeClaim {:?} due to incompatible volumeMode.",
                claim.name()
            );
            Plan { notes: vec![Note::warning("VolumeMismatch", message)], ..Plan::default() }
        }
        // The claim's own pass goes on with the binding.
        "" => Plan::default(),
        name if name == volume.name() => to("Bound"),
        _ if annotation(volume, PROVISIONED_BY).is_some() && reclaims(volume) == "Delete" => released(volume),
        _ => unbind(volume),
    }
}

fn status(volume: &PersistentVolume, phase: &str, message: Option<&str>) -> Plan {
    let status = volume_phase(volume, phase, message).map(|s| (volume.name().to_owned(), s));
    Plan { volume_status: status, ..Plan::default() }
}

fn reclaims(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain")
}

/// Its claim has another volume: this one becomes free again, or stays reserved if a user reserved it.
fn unbind(volume: &PersistentVolume) -> Plan {
    let mut after = volume.clone();
    let by_us = annotation(volume, BOUND_BY_CONTROLLER).is_some();
    if let Some(spec) = &mut after.spec {
        if by_us {
            spec.claim_ref = None;
        } else if let Some(reference) = &mut spec.claim_ref {
            reference.uid = None;
        }
    }
    if let Some(annotations) = &mut after.metadata.annotations {
        annotations.remove(BOUND_BY_CONTROLLER);
    }
    Plan { volume: Some(Box::new(after)), ..status(volume, "Available", None) }
}

/// Its claim is gone.
fn released(volume: &PersistentVolume) -> Plan {
    let old = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    if !matches!(old, Some("Released" | "Failed")) {
        return status(volume, "Released", None);
    }
    let external = annotation(volume, PROVISIONED_BY).is_some_and(|by| !by.starts_with("kubernetes.io/"));
    let (reason, message) = match reclaims(volume) {
        "Retain" => return Plan::default(),
        // Who made it deletes it.
        "Delete" if external => return Plan::default(),
        "Delete" => (
            "VolumeFailedDelete",
            format!("error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched", volume.name()),
        ),
        "Recycle" => ("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned()),
        _ => ("VolumeUnknownReclaimPolicy", "Volume has unrecognized PersistentVolumeReclaimPolicy".to_owned()),
    };
    let mut plan = status(volume, "Failed", Some(&message));
    if plan.volume_status.is_some() {
        plan.notes.push(Note::warning(reason, message));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::super::matching::tests::{claim as a_claim, volume as a_volume};
    use super::*;
    use serde_json::{Value, json};

    fn observed(volumes: &[PersistentVolume]) -> Observed<'_> {
        Observed { volumes, classes: &[], node: None, waiting_pods: &[] }
    }

    fn class(name: &str, provisioner: &str, mode: &str) -> StorageClass {
        let value = json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
        StorageClass::decode_value(value).unwrap()
    }

    /// Both after the plan was obeyed.
    fn obey(plan: &Plan, volume: &mut PersistentVolume, claim: &mut PersistentVolumeClaim) {
        if let Some(after) = &plan.volume {
            *volume = (**after).clone();
        }
        if let Some((_, status)) = &plan.volume_status {
            volume.status = Some(status.clone());
        }
        if let Some(after) = &plan.claim {
            *claim = (**after).clone();
        }
        if let Some(status) = &plan.claim_status {
            claim.status = Some(status.clone());
        }
    }

    #[test]
    fn binding_from_wherever_it_was_left() {
        let (volume0, claim0) = (a_volume("v", "9Gi", json!({})), a_claim(json!({})));
        let whole = claim(&claim0, &observed(std::slice::from_ref(&volume0)));
        assert!(whole.volume.is_some() && whole.volume_status.is_some() && whole.claim.is_some() && whole.claim_status.is_some());
        for written in 0..=4 {
            let part = Plan {
                volume: whole.volume.clone().filter(|_| written >= 1),
                volume_status: whole.volume_status.clone().filter(|_| written >= 2),
                claim: whole.claim.clone().filter(|_| written >= 3),
                claim_status: whole.claim_status.clone().filter(|_| written >= 4),
                notes: Vec::new(),
            };
            let (mut v, mut c) = (volume0.clone(), claim0.clone());
            obey(&part, &mut v, &mut c);
            obey(&claim(&c.clone(), &observed(&[v.clone()])), &mut v, &mut c);
            assert_eq!(claim(&c, &observed(&[v.clone()])), Plan::default(), "after {written} writes and one pass");
            assert_eq!(volume(&v, Some(&c)), Plan::default());
            let status = c.status.as_ref().unwrap();
            assert_eq!(
                (status.phase.as_deref(), status.capacity.as_ref().unwrap()["storage"].0.as_str()),
                (Some("Bound"), "9Gi")
            );
            assert_eq!(annotation(&c, BOUND_BY_CONTROLLER), Some("yes"));
        }
    }

    #[test]
    fn claims_without_a_volume() {
        let classes = [
            class("late", "x/y", "WaitForFirstConsumer"),
            class("ext", "x/y", "Immediate"),
            class("no", "kubernetes.io/no-provisioner", "Immediate"),
        ];
        let pods = ["p".to_owned()];
        for (spec, pods, reason) in [
            (json!({}), &[][..], "FailedBinding"),
            (json!({"storageClassName": "late"}), &[], "WaitForFirstConsumer"),
            (json!({"storageClassName": "late"}), &pods, "WaitForPodScheduled"),
            (json!({"storageClassName": "ext"}), &[], "ExternalProvisioning"),
            (json!({"storageClassName": "no"}), &[], "ProvisioningFailed"),
            (json!({"storageClassName": "nope"}), &[], "ProvisioningFailed"),
        ] {
            let o = Observed { classes: &classes, waiting_pods: pods, ..observed(&[]) };
            let plan = claim(&a_claim(spec.clone()), &o);
            assert_eq!((plan.notes[0].reason, plan.claim_status.unwrap().phase.as_deref()), (reason, Some("Pending")), "{spec}");
            let asks = plan.claim.is_some_and(|c| annotation(&*c, PROVISIONER) == Some("x/y"));
            assert_eq!(asks, reason == "ExternalProvisioning");
        }
        let missing = claim(&a_claim(json!({"volumeName": "v"})), &observed(&[]));
        assert_eq!(missing.claim_status.unwrap().phase.as_deref(), Some("Pending"));
    }

    #[test]
    fn a_claim_that_names_its_volume() {
        let check = |volume: Value, want: Option<&str>| {
            let volumes = [a_volume("v", "9Gi", volume)];
            let plan = claim(&a_claim(json!({"volumeName": "v"})), &observed(&volumes));
            assert_eq!(plan.notes.first().map(|n| n.reason), want);
            assert_eq!(plan.volume.is_some(), want.is_none());
        };
        check(json!({}), None);
        check(json!({"claimRef": {"name": "data", "namespace": "n"}}), None);
        check(json!({"storageClassName": "x"}), Some("VolumeMismatch"));
        check(json!({"claimRef": {"name": "other", "namespace": "n", "uid": "o"}}), Some("FailedBinding"));
    }

    #[test]
    fn what_was_bound_and_is_lost() {
        let mut c = a_claim(json!({"volumeName": "v"}));
        annotate(&mut c, BIND_COMPLETED, "yes");
        assert_eq!(claim(&c, &observed(&[])).notes[0].reason, "ClaimLost");
        let other = [a_volume("v", "9Gi", json!({"claimRef": {"name": "data", "namespace": "n", "uid": "earlier"}}))];
        assert_eq!(claim(&c, &observed(&other)).notes[0].reason, "ClaimMisbound");
    }

    #[test]
    fn phases_of_volumes() {
        let reference = |uid: &str| json!({"claimRef": {"name": "data", "namespace": "n", "uid": uid}});
        let with = |spec: Value, phase: &str| {
            let mut v = a_volume("v", "9Gi", spec);
            v.status.as_mut().unwrap().phase = Some(phase.into());
            v
        };
        let claimed = a_claim(json!({"volumeName": "v"}));
        let phase =
            |v: &PersistentVolume, c: Option<&PersistentVolumeClaim>| volume(v, c).volume_status.and_then(|(_, s)| s.phase);
        assert_eq!(phase(&with(json!({}), "Pending"), None).as_deref(), Some("Available"));
        assert_eq!(phase(&with(reference(""), "Pending"), None).as_deref(), Some("Available"));
        assert_eq!(phase(&with(reference("c"), "Available"), Some(&claimed)).as_deref(), Some("Bound"));
        assert_eq!(phase(&with(reference("c"), "Bound"), None).as_deref(), Some("Released"));
        assert_eq!(phase(&with(reference("earlier"), "Bound"), Some(&claimed)).as_deref(), Some("Released"));
        let mut delete = with(reference("c"), "Released");
        assert_eq!(volume(&delete, None), Plan::default(), "it is retained");
        delete.spec.as_mut().unwrap().persistent_volume_reclaim_policy = Some("Delete".into());
        assert_eq!(volume(&delete, None).notes[0].reason, "VolumeFailedDelete");
        annotate(&mut delete, PROVISIONED_BY, "x/y");
        assert_eq!(volume(&delete, None), Plan::default(), "its provisioner deletes it");
    }

    #[test]
    fn a_volume_whose_claim_has_another() {
        let elsewhere = a_claim(json!({"volumeName": "w"}));
        let mut v = a_volume("v", "9Gi", json!({"claimRef": {"name": "data", "namespace": "n", "uid": "c"}}));
        let reserved = volume(&v, Some(&elsewhere)).volume.unwrap().spec.unwrap().claim_ref.unwrap();
        assert_eq!((reserved.name.as_deref(), reserved.uid), (Some("data"), None));
        annotate(&mut v, BOUND_BY_CONTROLLER, "yes");
        assert_eq!(volume(&v, Some(&elsewhere)).volume.unwrap().spec.unwrap().claim_ref, None);
    }
}
