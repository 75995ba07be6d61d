//! Rollouts as tables: the sizes of ReplicaSets before, and what the plan makes of them.

use api::IntOrString;
use api::apps::{DeploymentStrategy, RollingUpdateDeployment};
use api::core::{Container, PodSpec, PodTemplateSpec};
use api::metav1::{LabelSelector, Time};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn template(image: &str) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some([("app".into(), "web".into())].into()), ..ObjectMeta::default() }),
        spec: Some(PodSpec {
            containers: vec![Container { name: "c".into(), image: Some(image.into()), ..Container::default() }],
            ..PodSpec::default()
        }),
    }
}

/// `replicas` of image `v2`, `surge` and `unavailable` as numbers or shares.
fn deployment(replicas: i32, surge: &str, unavailable: &str) -> Deployment {
    let number = |s: &str| s.parse().map_or_else(|_| IntOrString::String(s.into()), IntOrString::Int);
    Deployment {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("default".into()),
            uid: Some("d".into()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: LabelSelector { match_labels: Some([("app".into(), "web".into())].into()), ..LabelSelector::default() },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(number(surge)),
                    max_unavailable: Some(number(unavailable)),
                }),
            }),
            template: template("v2"),
            progress_deadline_seconds: Some(600),
            revision_history_limit: Some(10),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// A ReplicaSet of `image` with `spec` replicas, of which `available` run well. `age` orders them, the least is oldest.
fn set(image: &str, age: i64, spec: i32, available: i32, of: &Deployment) -> ReplicaSet {
    let mut template = template(image);
    let labels = template.metadata.as_mut().unwrap().labels.as_mut().unwrap();
    labels.insert(revision::TEMPLATE_HASH_LABEL.into(), image.into());
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("web-{image}")),
            namespace: Some("default".into()),
            uid: Some(format!("rs-{image}")),
            creation_timestamp: Some(Time(at(age))),
            generation: Some(1),
            annotations: Some([(revision::REVISION.into(), age.to_string())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec { replicas: Some(spec), template: Some(template), ..ReplicaSetSpec::default() }),
        status: Some(ReplicaSetStatus {
            replicas: spec,
            ready_replicas: Some(available),
            available_replicas: Some(available),
            observed_generation: Some(1),
            ..ReplicaSetStatus::default()
        }),
    };
    let (surge, _) = limits(of.spec.as_ref().unwrap(), Strategy::RollingUpdate, of.spec.as_ref().unwrap().replicas.unwrap());
    revision::set_counts(
        &mut set,
        of.spec.as_ref().unwrap().replicas.unwrap(),
        of.spec.as_ref().unwrap().replicas.unwrap() + surge,
    );
    set
}

fn run(deployment: &Deployment, sets: &[ReplicaSet], now: i64) -> Plan {
    decide(&Observed { deployment, sets, pods_unfinished: &BTreeMap::new() }, at(now))
}

/// The notes of the plan's writes, which say all that is scaled.
fn scaled(plan: &Plan) -> Vec<String> {
    plan.sets.iter().filter_map(|w| w.note.as_ref()).map(|n| n.message.clone()).collect()
}

fn condition_of(plan: &Plan, kind: &str) -> (String, String) {
    let status = plan.status.as_ref().unwrap().status.as_ref().unwrap();
    let c = condition::get(status.conditions.as_deref().unwrap(), kind).unwrap();
    (c.status.clone(), c.reason.clone().unwrap())
}

#[test]
fn the_first_replica_set() {
    let d = deployment(3, "25%", "25%");
    let plan = run(&d, &[], 0);
    let [write] = plan.sets.as_slice() else { panic!("{plan:?}") };
    let (set, spec) = (&write.set, write.set.spec.as_ref().unwrap());
    let hash = hash::of_template(&d.spec.as_ref().unwrap().template, None);
    assert_eq!(write.verb, Verb::Create);
    assert_eq!(set.name(), format!("web-{hash}"));
    assert_eq!(spec.replicas, Some(3));
    assert_eq!(spec.selector.match_labels.as_ref().unwrap()[revision::TEMPLATE_HASH_LABEL], hash);
    assert_eq!(set.metadata.labels.as_ref().unwrap()[revision::TEMPLATE_HASH_LABEL], hash);
    assert!(owner::is_controlled_by(&set.metadata, "d"));
    assert_eq!(
        [revision::REVISION, revision::DESIRED_REPLICAS, revision::MAX_REPLICAS].map(|k| revision::annotation(set, k).unwrap()),
        ["1", "3", "4"]
    );
    assert_eq!(scaled(&plan), [format!("Scaled up replica set web-{hash} from 0 to 3")]);
    assert_eq!(plan.status.as_ref().unwrap().metadata.annotations.as_ref().unwrap()[revision::REVISION], "1");
    assert_eq!(condition_of(&plan, "Progressing"), ("True".into(), "NewReplicaSetCreated".into()));
    assert_eq!(condition_of(&plan, "Available"), ("False".into(), "MinimumReplicasUnavailable".into()));
    assert_eq!(plan.again_at, Some(at(601)));
}

#[test]
fn steps_of_a_rolling_update() {
    // surge, unavailable, old (spec, available), new (spec, available), what is scaled
    type Step = (&'static str, &'static str, (i32, i32), (i32, i32), &'static [&'static str]);
    let steps: &[Step] = &[
        ("25%", "25%", (10, 10), (0, 0), &["up v2 0 3"]),
        ("25%", "25%", (10, 10), (3, 0), &["down v1 10 8"]),
        ("25%", "25%", (8, 8), (3, 0), &["up v2 3 5"]),
        ("25%", "25%", (8, 8), (5, 0), &[]),
        ("25%", "25%", (8, 8), (5, 2), &["down v1 8 6"]),
        ("25%", "25%", (6, 6), (7, 7), &["down v1 6 1"]),
        ("25%", "25%", (3, 3), (10, 10), &["down v1 3 0"]),
        ("1", "0", (10, 10), (0, 0), &["up v2 0 1"]),
        ("1", "0", (10, 10), (1, 0), &[]),
        ("1", "0", (10, 10), (1, 1), &["down v1 10 9"]),
        ("0", "1", (10, 10), (0, 0), &["down v1 10 9"]),
        ("0", "1", (9, 9), (0, 0), &["up v2 0 1"]),
        // Both round to nothing: one may be missing.
        ("0%", "0%", (10, 10), (0, 0), &["down v1 10 9"]),
        // What does not run is given up first.
        ("25%", "25%", (10, 4), (3, 0), &["down v1 10 8"]),
        // The old one's status does not yet know of its last shrinking.
        ("25%", "25%", (8, 10), (5, 3), &["down v1 8 5"]),
        ("100%", "0", (10, 10), (0, 0), &["up v2 0 10"]),
        ("0", "100%", (10, 10), (0, 0), &["down v1 10 0"]),
        // The newest is larger than the Deployment.
        ("25%", "25%", (0, 0), (12, 12), &["down v2 12 10"]),
    ];
    for (surge, unavailable, old, new, want) in steps {
        let d = deployment(10, surge, unavailable);
        let sets = [set("v1", 1, old.0, old.1, &d), set("v2", 2, new.0, new.1, &d)];
        let got: Vec<String> = scaled(&run(&d, &sets, 0))
            .iter()
            .map(|m| m.replace("Scaled ", "").replace("replica set web-", "").replace("from ", "").replace("to ", ""))
            .collect();
        assert_eq!(got, *want, "surge {surge} unavailable {unavailable} old {old:?} new {new:?}");
    }
}

/// Plays a rollout to its end, pods becoming available one pass later, and watches both limits.
#[test]
fn a_rollout_ends_and_keeps_its_limits() {
    for (replicas, surge, unavailable) in [
        (3, "25%", "25%"),
        (10, "25%", "25%"),
        (10, "1", "0"),
        (10, "0", "1"),
        (1, "1", "0"),
        (7, "100%", "100%"),
        (5, "30%", "50%"),
    ] {
        let d = deployment(replicas, surge, unavailable);
        let (surge_max, unavailable_max) = limits(d.spec.as_ref().unwrap(), Strategy::RollingUpdate, replicas);
        let mut sets = vec![set("v1", 1, replicas, replicas, &d)];
        let mut passes = 0;
        loop {
            let plan = run(&d, &sets, passes);
            for write in &plan.sets {
                let mut written = (*write.set).clone();
                written.metadata.uid.get_or_insert_with(|| "rs-v2".into());
                written.metadata.creation_timestamp.get_or_insert(Time(at(2)));
                match sets.iter_mut().find(|s| s.name() == written.name()) {
                    Some(s) => *s = written,
                    None => sets.push(written),
                }
            }
            let spec = |s: &ReplicaSet| s.spec.as_ref().unwrap().replicas.unwrap();
            let available: i32 =
                sets.iter().map(|s| s.status.clone().unwrap_or_default().available_replicas.unwrap_or(0).min(spec(s))).sum();
            assert!(sets.iter().map(spec).sum::<i32>() <= replicas + surge_max, "{sets:?}");
            assert!(available >= replicas - unavailable_max, "{sets:?}");
            for s in &mut sets {
                let n = spec(s);
                s.status = Some(ReplicaSetStatus {
                    replicas: n,
                    ready_replicas: Some(n),
                    available_replicas: Some(n),
                    observed_generation: Some(1),
                    ..ReplicaSetStatus::default()
                });
            }
            if plan.sets.is_empty() {
                break;
            }
            passes += 1;
            assert!(passes < 100, "{surge} {unavailable}");
        }
        let sizes: Vec<i32> = sets.iter().map(|s| s.spec.as_ref().unwrap().replicas.unwrap()).collect();
        assert_eq!(sizes, [0, replicas], "{surge} {unavailable}");
    }
}

#[test]
fn scaling_amid_a_rollout_keeps_proportions() {
    // from, to (replicas of the Deployment), sizes before, sizes after; surge 3, unavailable 2
    for (from, to, before, after) in [
        (10, 15, [8, 5], [11, 7]),
        (10, 5, [8, 5], [5, 3]),
        (10, 0, [8, 5], [0, 0]),
        (10, 20, [10, 3], [18, 5]),
        (10, 12, [5, 5], [6, 9]),
    ] {
        let old = deployment(from, "3", "2");
        let sets = [set("v1", 1, before[0], before[0], &old), set("v2", 2, before[1], 0, &old)];
        let plan = run(&deployment(to, "3", "2"), &sets, 0);
        let size = |name: &str, before: i32| {
            let write = plan.sets.iter().find(|w| w.set.name() == name);
            write.map_or(before, |w| w.set.spec.as_ref().unwrap().replicas.unwrap())
        };
        assert_eq!([size("web-v1", before[0]), size("web-v2", before[1])], after, "{from} to {to}");
    }
}

#[test]
fn a_single_active_set_takes_the_whole_scale() {
    let old = deployment(3, "25%", "25%");
    let plan = run(&deployment(5, "25%", "25%"), &[set("v2", 2, 3, 3, &old)], 0);
    assert_eq!(scaled(&plan), ["Scaled up replica set web-v2 from 3 to 5"]);
    assert_eq!(revision::annotation(&plan.sets[0].set, revision::DESIRED_REPLICAS), Some("5"));
}

#[test]
fn paused_deployments_scale_but_do_not_roll() {
    let mut d = deployment(10, "25%", "25%");
    d.spec.as_mut().unwrap().paused = Some(true);
    let plan = run(&d, &[set("v1", 1, 10, 10, &d)], 0);
    assert_eq!(plan.sets, []);
    assert_eq!(condition_of(&plan, "Progressing"), ("Unknown".into(), "DeploymentPaused".into()));
    let plan = run(&d, &[set("v1", 1, 7, 7, &d)], 0);
    assert_eq!(scaled(&plan), ["Scaled up replica set web-v1 from 7 to 10"]);
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut d = deployment(3, "25%", "25%");
    d.spec.as_mut().unwrap().strategy = Some(DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None });
    let plan = run(&d, &[set("v1", 1, 3, 3, &d)], 0);
    assert_eq!(scaled(&plan), ["Scaled down replica set web-v1 from 3 to 0"]);

    let gone = set("v1", 1, 0, 0, &d);
    let terminating = [("rs-v1".to_owned(), 1)].into();
    let plan = decide(&Observed { deployment: &d, sets: std::slice::from_ref(&gone), pods_unfinished: &terminating }, at(0));
    assert_eq!(plan.sets, []);

    let plan = run(&d, &[gone], 0);
    assert_eq!((plan.sets[0].verb, plan.sets[0].set.spec.as_ref().unwrap().replicas), (Verb::Create, Some(3)));
    assert_eq!(revision::annotation(&plan.sets[0].set, revision::REVISION), Some("2"));
}

#[test]
fn going_back_to_an_old_template_takes_its_replica_set_again() {
    let d = deployment(3, "25%", "25%");
    // v2 was revision 1, v3 revision 2; the Deployment asks for v2 again.
    let plan = run(&d, &[set("v2", 1, 0, 0, &d), set("v3", 2, 3, 3, &d)], 0);
    let write = &plan.sets[0];
    assert_eq!((write.verb, write.set.name()), (Verb::Update, "web-v2"));
    assert_eq!(revision::annotation(&write.set, revision::REVISION), Some("3"));
    assert_eq!(revision::annotation(&write.set, revision::REVISION_HISTORY), Some("1"));
}

#[test]
fn a_rollback_asked_for_by_annotation() {
    let mut d = deployment(3, "25%", "25%");
    let sets = [set("v1", 1, 0, 0, &d), set("v2", 2, 3, 3, &d)];
    let ask = |d: &mut Deployment, to: &str| d.metadata.annotations = Some([(revision::ROLLBACK_TO.into(), to.into())].into());
    for (to, image, reason) in [
        ("0", "v1", "DeploymentRollback"),
        ("1", "v1", "DeploymentRollback"),
        ("2", "v2", "DeploymentRollbackTemplateUnchanged"),
        ("9", "v2", "DeploymentRollbackRevisionNotFound"),
    ] {
        ask(&mut d, to);
        let plan = run(&d, &sets, 0);
        let update = plan.update.unwrap();
        assert_eq!(update.spec.as_ref().unwrap().template, template(image), "to {to}");
        assert!(!update.metadata.annotations.as_ref().unwrap().contains_key(revision::ROLLBACK_TO));
        assert_eq!(plan.notes[0].reason, reason);
    }
}

#[test]
fn progress_and_the_lack_of_it() {
    let mut d = deployment(3, "25%", "25%");
    let step = |d: &mut Deployment, available: i32, now: i64| {
        let plan = run(d, &[set("v2", 1, 3, available, d)], now);
        let reason = plan.status.as_ref().map(|_| condition_of(&plan, "Progressing").1);
        if let Some(after) = &plan.status {
            *d = (**after).clone();
        }
        (reason, plan.again_at)
    };
    assert_eq!(step(&mut d, 0, 0).0.as_deref(), Some("FoundNewReplicaSet").map(|_| "ReplicaSetUpdated"));
    let (reason, again) = step(&mut d, 1, 100);
    assert_eq!((reason.as_deref(), again), (Some("ReplicaSetUpdated"), Some(at(701))));
    assert_eq!(step(&mut d, 1, 700), (None, Some(at(701))));
    assert_eq!(step(&mut d, 1, 701), (Some("ProgressDeadlineExceeded".into()), None));
    assert_eq!(step(&mut d, 1, 900), (None, None));
    assert_eq!(step(&mut d, 3, 1000), (Some("NewReplicaSetAvailable".into()), None));
    assert_eq!(step(&mut d, 3, 9000), (None, None));
    // A pod that fails long after is no lack of progress.
    assert_eq!(step(&mut d, 2, 9999), (Some("NewReplicaSetAvailable".into()), None));
}

#[test]
fn history_is_cleaned_up_when_complete() {
    let mut d = deployment(1, "25%", "25%");
    d.spec.as_mut().unwrap().revision_history_limit = Some(1);
    d.status = Some(DeploymentStatus {
        observed_generation: Some(1),
        replicas: Some(1),
        updated_replicas: Some(1),
        available_replicas: Some(1),
        ..DeploymentStatus::default()
    });
    let sets = [set("a", 3, 0, 0, &d), set("b", 1, 0, 0, &d), set("c", 2, 0, 0, &d), set("v2", 4, 1, 1, &d)];
    let deleted: Vec<String> = run(&d, &sets, 0).delete.into_iter().map(|id| id.name).collect();
    assert_eq!(deleted, ["web-b", "web-c"]);
    d.status.as_mut().unwrap().available_replicas = Some(0);
    assert_eq!(run(&d, &sets, 0).delete, []);
}

#[test]
fn nothing_to_do_is_an_empty_plan() {
    let mut d = deployment(3, "25%", "25%");
    let mut sets = vec![set("v2", 1, 3, 3, &d)];
    for now in 0..3 {
        let plan = run(&d, &sets, now);
        if let Some(status) = plan.status {
            d = *status;
        }
        for write in plan.sets {
            sets = vec![*write.set];
        }
    }
    assert_eq!(run(&d, &sets, 99), Plan::default());
}

#[test]
fn a_dying_deployment_changes_nothing_but_its_status() {
    let mut d = deployment(3, "25%", "25%");
    d.metadata.deletion_timestamp = Some(Time(at(0)));
    let plan = run(&d, &[set("v1", 1, 2, 2, &d)], 0);
    assert_eq!((plan.sets.len(), plan.delete.len()), (0, 0));
    assert_eq!(plan.status.unwrap().status.unwrap().replicas, Some(2));
}

#[test]
fn a_name_that_is_taken() {
    let d = deployment(3, "25%", "25%");
    let owned = |image: &str, uid: Option<&str>| {
        let mut set = set(image, 1, 3, 3, &d);
        set.metadata.owner_references =
            uid.map(|uid| vec![api::metav1::OwnerReference { uid: uid.into(), ..owner::controller_ref(&d) }]);
        set
    };
    assert_eq!(name_taken(&d, &owned("v2", Some("d"))), Taken::ByWanted);
    assert_eq!(name_taken(&d, &owned("v2", None)), Taken::ByWanted, "to be adopted");
    for (image, uid) in [("v1", Some("d")), ("v1", None), ("v2", Some("other"))] {
        let Taken::ByAnother(after) = name_taken(&d, &owned(image, uid)) else { panic!("{image} {uid:?}") };
        assert_eq!(after.status.unwrap().collision_count, Some(1));
    }
}
