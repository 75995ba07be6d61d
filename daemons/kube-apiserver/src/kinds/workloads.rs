//! Deployment, ReplicaSet, DaemonSet, StatefulSet, ReplicationController, and what belongs to them.

use machinery::field::{FieldErrors, Path};
use machinery::meta;
use serde_json::{Value, json};

use super::table::{AGE, Column, NAME, column, containers, images, integer, wide};
use super::validate::{self, none_negative};
use super::value::{count, ensure, fill, has, int, number, object_in, set, text};
use super::{Rules, Selectable, pod_validation};

const TEMPLATE_SPEC: &[&str] = &["spec", "template", "spec"];
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) struct Deployment;

impl Rules for Deployment {
    fn default(&self, deployment: &mut Value) {
        ensure(deployment, TEMPLATE_SPEC);
        let strategy = object_in(object_in(deployment, "spec"), "strategy");
        fill(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate" {
            let rolling = object_in(strategy, "rollingUpdate");
            fill(rolling, "maxUnavailable", "25%");
            fill(rolling, "maxSurge", "25%");
        }
    }

    fn validate(&self, deployment: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&deployment["spec"], Path::new("spec"));
        none_negative(spec, &["replicas"], &path, errors);
        validate::workload_selector(spec, "deployment", &path, errors);
        pod_validation::endless_template("ReplicaSet", &spec["template"], &path.child("template"), errors);
        let strategy = path.child("strategy");
        match text(spec, "/strategy/type") {
            "Recreate" => {
                if has(spec, "/strategy/rollingUpdate") {
                    let detail = "may not be specified when strategy `type` is 'Recreate'";
                    errors.forbidden(&strategy.child("rollingUpdate"), detail);
                }
            }
            "RollingUpdate" => rolling_update(&spec["strategy"]["rollingUpdate"], &strategy.child("rollingUpdate"), errors),
            _ => errors.not_supported(&strategy, spec["strategy"].clone(), &["Recreate", "RollingUpdate"]),
        }
        none_negative(spec, &["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"], &path, errors);
        if let Some(seconds) = number(spec, "/progressDeadlineSeconds")
            && seconds <= int(spec, "/minReadySeconds")
        {
            errors.invalid(&path.child("progressDeadlineSeconds"), seconds, "must be greater than minReadySeconds");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if subresource.is_empty() {
            selector_stays(new, old, errors);
        } else if subresource == "status" {
            let fields = ["observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas"];
            none_negative(&new["status"], &fields, &Path::new("status"), errors);
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// A rollout is undone and paused through annotations: its controller waits to see them.
    fn counts_metadata(&self, new: &Value, old: &Value) -> bool {
        !meta::annotations(new).into_iter().flatten().eq(meta::annotations(old).into_iter().flatten())
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Ready", |row| ready(row.object).into()).says("Number of the pod with ready state"),
            column("Up-to-date", |row| row.int("/status/updatedReplicas")).of("api.apps.v1.DeploymentStatus", "updatedReplicas"),
            column("Available", |row| row.int("/status/availableReplicas"))
                .of("api.apps.v1.DeploymentStatus", "availableReplicas"),
            AGE,
            containers(|row| row.containers("/spec/template/spec/containers")),
            images(|row| row.images("/spec/template/spec/containers")),
            wide("Selector", |row| row.selector("/spec/selector")).of("api.apps.v1.DeploymentSpec", "selector"),
        ];
        COLUMNS
    }
}

/// Deployments and DaemonSets replace pods by adding some and taking some away: not none of both.
fn rolling_update(rolling: &Value, path: &Path, errors: &mut FieldErrors) {
    let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
    validate::int_or_percent(unavailable, &path.child("maxUnavailable"), errors);
    validate::int_or_percent(surge, &path.child("maxSurge"), errors);
    if validate::int_or_percent_value(unavailable) == 0 && validate::int_or_percent_value(surge) == 0 {
        errors.invalid(&path.child("maxUnavailable"), unavailable.clone(), "may not be 0 when `maxSurge` is 0");
    }
    validate::at_most_all(unavailable, &path.child("maxUnavailable"), errors);
}

fn selector_stays(new: &Value, old: &Value, errors: &mut FieldErrors) {
    validate::immutable(&new["spec"]["selector"], &old["spec"]["selector"], &Path::new("spec").child("selector"), errors);
}

fn ready(object: &Value) -> String {
    format!("{}/{}", int(object, "/status/readyReplicas"), int(object, "/spec/replicas"))
}

/// The columns of what keeps a number of pods; `spec` and `status` are its types.
const fn replica_columns(spec: &'static str, status: &'static str, selector: Column) -> [Column; 8] {
    [
        NAME,
        integer("Desired", |row| row.int("/spec/replicas")).of(spec, "replicas"),
        integer("Current", |row| row.int("/status/replicas")).of(status, "replicas"),
        integer("Ready", |row| row.int("/status/readyReplicas")).of(status, "readyReplicas"),
        AGE,
        containers(|row| row.containers("/spec/template/spec/containers")),
        images(|row| row.images("/spec/template/spec/containers")),
        selector.of(spec, "selector"),
    ]
}

pub(super) struct ReplicaSet;

impl Rules for ReplicaSet {
    fn default(&self, set: &mut Value) {
        ensure(set, TEMPLATE_SPEC);
    }

    fn validate(&self, set: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&set["spec"], Path::new("spec"));
        none_negative(spec, &["replicas", "minReadySeconds"], &path, errors);
        validate::workload_selector(spec, "deployment", &path, errors);
        pod_validation::endless_template("ReplicaSet", &spec["template"], &path.child("template"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if subresource.is_empty() {
            selector_stays(new, old, errors);
        } else if subresource == "status" {
            replica_status(&new["status"], errors);
        }
    }

    fn prepare_for_create(&self, set: &mut Value) {
        super::value::set(set, "status", json!({"replicas": 0}));
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn selectable(&self) -> &'static [Selectable] {
        &[("status.replicas", |set| int(set, "/status/replicas").to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &replica_columns(
            "api.apps.v1.ReplicaSetSpec",
            "api.apps.v1.ReplicaSetStatus",
            wide("Selector", |row| row.selector("/spec/selector")),
        );
        COLUMNS
    }
}

/// Replicas that are labelled, ready or available are among the replicas.
fn replica_status(status: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status");
    none_negative(
        status,
        &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"],
        &path,
        errors,
    );
    let at_most = |field: &str, limit: &str, label: &str, errors: &mut FieldErrors| {
        let (value, limit) = (int(status, &format!("/{field}")), int(status, &format!("/{limit}")));
        if value > limit {
            errors.invalid(&path.child(field), value, format!("cannot be greater than {label}"));
        }
    };
    at_most("fullyLabeledReplicas", "replicas", "status.replicas", errors);
    at_most("readyReplicas", "replicas", "status.replicas", errors);
    at_most("availableReplicas", "replicas", "status.replicas", errors);
    at_most("availableReplicas", "readyReplicas", "readyReplicas", errors);
}

pub(super) struct ReplicationController;

impl Rules for ReplicationController {
    fn default(&self, controller: &mut Value) {
        let Some(labels) = controller.pointer("/spec/template/metadata/labels").cloned() else { return };
        if count(&labels, "") == 0 {
            return;
        }
        if count(controller, "/spec/selector") == 0 {
            set(&mut controller["spec"], "selector", labels.clone());
        }
        if count(controller, "/metadata/labels") == 0 {
            set(object_in(controller, "metadata"), "labels", labels);
        }
    }

    fn prepare_for_create(&self, controller: &mut Value) {
        set(controller, "status", json!({"replicas": 0}));
    }

    fn validate(&self, controller: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&controller["spec"], Path::new("spec"));
        none_negative(spec, &["replicas", "minReadySeconds"], &path, errors);
        let selector = super::value::entries(spec, "/selector").collect::<Vec<_>>();
        if selector.is_empty() {
            errors.required(&path.child("selector"), "");
        }
        let Some(template) = spec.get("template").filter(|template| !template.is_null()) else {
            errors.required(&path.child("template"), "");
            return;
        };
        let labels = template.pointer("/metadata/labels").cloned().unwrap_or(Value::Null);
        if selector.iter().any(|(key, value)| labels.get(key) != Some(value)) {
            let path = path.child("template").child("metadata").child("labels");
            errors.invalid(&path, labels, "`selector` does not match template `labels`");
        }
        pod_validation::endless_template("ReplicationController", template, &path.child("template"), errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if subresource == "status" {
            replica_status(&new["status"], errors);
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn selectable(&self) -> &'static [Selectable] {
        &[("status.replicas", |controller| int(controller, "/status/replicas").to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &replica_columns(
            "api.core.v1.ReplicationControllerSpec",
            "api.core.v1.ReplicationControllerStatus",
            wide("Selector", |row| row.labels("/spec/selector")),
        );
        COLUMNS
    }
}

pub(super) struct DaemonSet;

impl Rules for DaemonSet {
    fn default(&self, set: &mut Value) {
        ensure(set, TEMPLATE_SPEC);
        let strategy = object_in(object_in(set, "spec"), "updateStrategy");
        fill(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate" {
            let rolling = object_in(strategy, "rollingUpdate");
            fill(rolling, "maxUnavailable", 1);
            fill(rolling, "maxSurge", 0);
        }
    }

    fn prepare_for_create(&self, daemons: &mut Value) {
        let status = json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        });
        set(daemons, "status", status);
        meta::set_annotation(daemons, TEMPLATE_GENERATION, Some("1"));
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value, subresource: &str) {
        if subresource.is_empty() {
            let before = meta::annotation(old, TEMPLATE_GENERATION).and_then(|text| text.parse().ok()).unwrap_or(1i64);
            let changed = new.pointer("/spec/template") != old.pointer("/spec/template");
            meta::set_annotation(new, TEMPLATE_GENERATION, Some(&(before + i64::from(changed)).to_string()));
        }
    }

    fn validate(&self, set: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&set["spec"], Path::new("spec"));
        validate::workload_selector(spec, "daemonset", &path, errors);
        pod_validation::endless_template("DaemonSet", &spec["template"], &path.child("template"), errors);
        none_negative(spec, &["minReadySeconds", "revisionHistoryLimit"], &path, errors);
        let strategy = path.child("updateStrategy");
        match text(spec, "/updateStrategy/type") {
            "OnDelete" => {}
            "RollingUpdate" => {
                let rolling = &spec["updateStrategy"]["rollingUpdate"];
                let path = strategy.child("rollingUpdate");
                let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
                let has_unavailable = validate::int_or_percent_value(unavailable) != 0;
                let has_surge = validate::int_or_percent_value(surge) != 0;
                for (field, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
                    validate::int_or_percent(value, &path.child(field), errors);
                    validate::at_most_all(value, &path.child(field), errors);
                }
                match (has_unavailable, has_surge) {
                    (false, false) => {
                        errors.required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
                    }
                    (true, true) => {
                        errors.invalid(&path.child("maxSurge"), surge.clone(), "may not be set when maxUnavailable is non-zero");
                    }
                    _ => {}
                }
            }
            _ => errors.not_supported(&strategy, spec["updateStrategy"].clone(), &["RollingUpdate", "OnDelete"]),
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if subresource.is_empty() {
            selector_stays(new, old, errors);
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            integer("Desired", |row| row.int("/status/desiredNumberScheduled"))
                .of("api.apps.v1.DaemonSetStatus", "desiredNumberScheduled"),
            integer("Current", |row| row.int("/status/currentNumberScheduled"))
                .of("api.apps.v1.DaemonSetStatus", "currentNumberScheduled"),
            integer("Ready", |row| row.int("/status/numberReady")).of("api.apps.v1.DaemonSetStatus", "numberReady"),
            integer("Up-to-date", |row| row.int("/status/updatedNumberScheduled"))
                .of("api.apps.v1.DaemonSetStatus", "updatedNumberScheduled"),
            integer("Available", |row| row.int("/status/numberAvailable")).of("api.apps.v1.DaemonSetStatus", "numberAvailable"),
            column("Node Selector", |row| row.labels("/spec/template/spec/nodeSelector"))
                .of("api.core.v1.PodSpec", "nodeSelector"),
            AGE,
            containers(|row| row.containers("/spec/template/spec/containers")),
            images(|row| row.images("/spec/template/spec/containers")),
            wide("Selector", |row| row.selector("/spec/selector")).of("api.apps.v1.DaemonSetSpec", "selector"),
        ];
        COLUMNS
    }
}

pub(super) struct StatefulSet;

impl Rules for StatefulSet {
    fn default(&self, set: &mut Value) {
        ensure(set, TEMPLATE_SPEC);
        let strategy = object_in(object_in(set, "spec"), "updateStrategy");
        if text(strategy, "/type").is_empty() {
            fill(strategy, "type", "RollingUpdate");
            fill(strategy, "rollingUpdate", json!({}));
        }
        if text(strategy, "/type") == "RollingUpdate" && has(strategy, "/rollingUpdate") {
            fill(object_in(strategy, "rollingUpdate"), "partition", 0);
        }
        for claim in super::value::items_mut(set, "/spec/volumeClaimTemplates") {
            fill(claim, "apiVersion", "v1");
            fill(claim, "kind", "PersistentVolumeClaim");
        }
    }

    fn prepare_for_create(&self, set: &mut Value) {
        super::value::set(set, "status", json!({"availableReplicas": 0, "replicas": 0}));
    }

    fn validate(&self, set: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&set["spec"], Path::new("spec"));
        let policy = text(spec, "/podManagementPolicy");
        if !matches!(policy, "OrderedReady" | "Parallel") {
            errors.invalid(&path.child("podManagementPolicy"), policy, "must be 'OrderedReady' or 'Parallel'");
        }
        let strategy = path.child("updateStrategy");
        let rolling = &spec["updateStrategy"]["rollingUpdate"];
        match text(spec, "/updateStrategy/type") {
            "OnDelete" if !rolling.is_null() => {
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                errors.invalid(&strategy.child("rollingUpdate"), rolling.clone(), detail);
            }
            "OnDelete" => {}
            "RollingUpdate" => none_negative(rolling, &["partition"], &strategy.child("rollingUpdate"), errors),
            _ => errors.invalid(&strategy, spec["updateStrategy"].clone(), "must be 'RollingUpdate' or 'OnDelete'"),
        }
        none_negative(spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"], &path, errors);
        none_negative(&spec["ordinals"], &["start"], &path.child("ordinals"), errors);
        validate::workload_selector(spec, "statefulset", &path, errors);
        // Claims of the templates are volumes of the pods.
        let mut template = spec["template"].clone();
        let volumes = super::value::items(spec, "/volumeClaimTemplates").iter().map(
            |claim| json!({"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}),
        );
        let volumes: Vec<Value> = volumes.collect();
        if !volumes.is_empty()
            && let Some(spec) = template.get_mut("spec").filter(|spec| spec.is_object())
        {
            let named: Vec<Value> = volumes.iter().map(|volume| volume["name"].clone()).collect();
            let own = super::value::items(spec, "/volumes").iter().filter(|volume| !named.contains(&volume["name"])).cloned();
            let all: Vec<Value> = own.chain(volumes).collect();
            super::value::set(spec, "volumes", all);
        }
        pod_validation::endless_template("StatefulSet", &template, &path.child("template"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if !subresource.is_empty() {
            return;
        }
        let mut masked = new["spec"].clone();
        for field in [
            "replicas",
            "template",
            "updateStrategy",
            "minReadySeconds",
            "ordinals",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
        ] {
            super::value::restore(&mut masked, &old["spec"], field);
        }
        if masked != old["spec"] {
            errors.forbidden(
                &Path::new("spec"),
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            );
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Ready", |row| ready(row.object).into()).says("Number of the pod with ready state"),
            AGE,
            containers(|row| row.containers("/spec/template/spec/containers")),
            images(|row| row.images("/spec/template/spec/containers")),
        ];
        COLUMNS
    }
}

pub(super) struct PodTemplate;

impl Rules for PodTemplate {
    fn default(&self, template: &mut Value) {
        ensure(template, &["template", "spec"]);
    }

    fn validate(&self, template: &Value, errors: &mut FieldErrors) {
        pod_validation::template(&template["template"], &Path::new("template"), errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            Column { priority: 0, ..containers(|row| row.containers("/template/spec/containers")) },
            Column { priority: 0, ..images(|row| row.images("/template/spec/containers")) },
            column("Pod Labels", |row| row.labels("/template/metadata/labels")).says("The labels for the pod template."),
        ];
        COLUMNS
    }
}

pub(super) struct ControllerRevision;

impl Rules for ControllerRevision {
    fn validate(&self, revision: &Value, errors: &mut FieldErrors) {
        if !has(revision, "/data") {
            errors.required(&Path::new("data"), "data is mandatory");
        }
        none_negative(revision, &["revision"], &Path::root(), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: &str, errors: &mut FieldErrors) {
        validate::immutable(&new["data"], &old["data"], &Path::new("data"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Controller", |row| match meta::controller_of(row.object) {
                Some(owner) => {
                    let group = text(owner, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
                    let kind = text(owner, "/kind").to_lowercase();
                    let kind = if group.is_empty() { kind } else { format!("{kind}.{group}") };
                    format!("{kind}/{}", text(owner, "/name")).into()
                }
                None => "<none>".into(),
            })
            .says("Controller of the object"),
            column("Revision", |row| row.int("/revision")).of("api.apps.v1.ControllerRevision", "revision"),
            AGE,
        ];
        COLUMNS
    }
}
