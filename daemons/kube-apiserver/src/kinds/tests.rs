use serde_json::{Value, json};

use super::*;

fn of(api_version: &str, kind: &str) -> Strategy {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    strategy(builtin().by_kind(group, version, kind).unwrap())
}

/// A good pod.
fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]},
    })
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}},
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
        "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}},
    })
}

/// Creates the object as the registry does, after a change to it.
fn create(mut object: Value, change: impl Fn(&mut Value)) -> (Value, Vec<String>) {
    change(&mut object);
    let strategy = of(meta::api_version(&object), meta::kind(&object));
    strategy.default(&mut object);
    strategy.prepare_for_create(&mut object);
    let errors = strategy.validate_create(&object).iter().map(ToString::to_string).collect();
    (object, errors)
}

#[track_caller]
fn check_create(object: Value, change: impl Fn(&mut Value), expected: &[&str]) {
    let (_, errors) = create(object, change);
    assert_eq!(errors, expected);
}

#[track_caller]
fn check_update(object: Value, change: impl Fn(&mut Value), expected: &[&str]) {
    let (old, errors) = create(object, |_| {});
    assert_eq!(errors, Vec::<String>::new());
    let mut new = old.clone();
    change(&mut new);
    let strategy = of(meta::api_version(&old), meta::kind(&old));
    strategy.default(&mut new);
    strategy.prepare_for_update(&mut new, &old, "");
    let errors: Vec<String> = strategy.validate_update(&new, &old, "").iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, start) in errors.iter().zip(expected) {
        assert!(error.starts_with(start), "{error}");
    }
}

/// Defaulting twice changes nothing, and every kind can be walked.
#[test]
fn every_kind_can_be_created() {
    for resource in builtin().resources.iter().filter(|resource| resource.served) {
        let strategy = strategy(resource);
        let mut object = json!({"apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {"name": "x"}});
        strategy.default(&mut object);
        let once = object.clone();
        strategy.default(&mut object);
        assert_eq!(object, once, "{}", resource.kind);
        strategy.prepare_for_create(&mut object);
        strategy.validate_create(&object);
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(strategy.row(&object, now).len(), strategy.columns().len());
        strategy.selectable_fields(&Value::Null);
        let old = object.clone();
        strategy.prepare_for_update(&mut object, &old, "");
        assert_eq!(meta::generation(&object), meta::generation(&old), "{}", resource.kind);
    }
}

/// The texts of fields are the schema's: a name that it does not know would leave the column without one.
#[test]
fn columns_say_what_they_are() {
    for resource in builtin().resources.iter().filter(|resource| resource.served) {
        for column in strategy(resource).columns() {
            let definition = column.definition();
            // Upstream's has none either.
            let bare = (resource.kind.as_str(), column.name) == ("RuntimeClass", "Handler");
            assert_eq!(definition["description"] == "", bare, "{} {definition}", resource.kind);
        }
    }
    let pod = builtin().resources.iter().find(|resource| resource.kind == "Pod").unwrap();
    let node = strategy(pod).columns().iter().find(|column| column.name == "Node").unwrap().definition();
    assert_eq!((&node["priority"], &node["type"]), (&json!(1), &json!("string")));
    let text = node["description"].as_str().unwrap();
    assert!(text.starts_with("NodeName indicates in which node this pod is scheduled."), "{text}");
}

#[test]
fn a_pod_gets_its_defaults() {
    let (pod, errors) = create(pod(), |_| {});
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(
        pod["spec"],
        json!({
            "containers": [{
                "name": "c", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
        })
    );
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(pod["metadata"]["generation"], 1);
}

#[test]
fn pods_are_validated() {
    let c = "spec.containers[0]";
    check_create(pod(), |_| {}, &[]);
    check_create(pod(), |p| p["spec"]["containers"] = json!([]), &["spec.containers: Required value"]);
    check_create(pod(), |p| p["spec"]["containers"][0]["name"] = json!(""), &[&format!("{c}.name: Required value")]);
    check_create(pod(), |p| p["spec"]["containers"][0]["image"] = json!(""), &[&format!("{c}.image: Required value")]);
    check_create(
        pod(),
        |p| p["spec"]["restartPolicy"] = json!("Sometimes"),
        &["spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\""],
    );
    check_create(
        pod(),
        |p| p["spec"]["containers"] = json!([{"name": "a", "image": "x"}, {"name": "a", "image": "y"}]),
        &["spec.containers[1].name: Duplicate value: \"a\""],
    );
    check_create(
        pod(),
        |p| p["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]),
        &[&format!("{c}.volumeMounts[0].name: Not found: \"v\"")],
    );
    check_create(
        pod(),
        |p| p["spec"]["containers"][0]["ports"] = json!([{"containerPort": 70000}]),
        &[&format!("{c}.ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive")],
    );
    check_create(
        pod(),
        |p| p["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
        &[&format!("{c}.resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1")],
    );
    check_create(
        pod(),
        |p| p["spec"]["containers"][0]["livenessProbe"] = json!({}),
        &[&format!("{c}.livenessProbe: Required value: must specify a handler type")],
    );
    check_create(
        pod(),
        |p| p["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]),
        &["spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type"],
    );
    // All errors are told, not the first.
    let (_, errors) = create(pod(), |p| {
        p["spec"] = json!({"containers": [{"name": "A", "ports": [{"containerPort": 0, "protocol": "X"}]}]});
    });
    assert_eq!(errors.len(), 4, "{errors:#?}");
}

#[test]
fn of_a_pod_only_images_change() {
    check_update(pod(), |p| p["spec"]["containers"][0]["image"] = json!("other"), &[]);
    check_update(pod(), |p| p["metadata"]["labels"] = json!({"a": "b"}), &[]);
    check_update(
        pod(),
        |p| p["spec"]["containers"][0]["command"] = json!(["x"]),
        &["spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"],
    );
    check_update(pod(), |p| p["spec"]["hostname"] = json!("x"), &["spec: Forbidden: pod updates may not change"]);
    let (old, _) = create(pod(), |_| {});
    let mut new = old.clone();
    new["spec"]["hostname"] = json!("x");
    let errors = of("v1", "Pod").validate_update(&new, &old, "");
    let refused = errors.iter().map(ToString::to_string).collect::<String>();
    assert!(refused.contains("negative)\n@@ -") && refused.contains("\n+ \"hostname\": \"x\",\n"), "{refused}");
    check_update(pod(), |p| p["spec"]["tolerations"] = json!([{"operator": "Exists"}]), &[]);
}

#[test]
fn deployments() {
    let (created, errors) = create(deployment(), |_| {});
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(created["spec"]["replicas"], 1);
    assert_eq!(
        created["spec"]["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!(created["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
    assert_eq!(created["status"], json!({}));
    check_create(
        deployment(),
        |d| d["spec"]["template"]["metadata"]["labels"] = json!({"a": "c"}),
        &["spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`"],
    );
    check_create(
        deployment(),
        |d| d["spec"]["selector"] = Value::Null,
        &[
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
        ],
    );
    check_create(
        deployment(),
        |d| d["spec"]["replicas"] = json!(-1),
        &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
    );
    check_update(deployment(), |d| d["spec"]["replicas"] = json!(5), &[]);
    check_update(
        deployment(),
        |d| {
            d["spec"]["selector"]["matchLabels"]["x"] = json!("y");
            d["spec"]["template"]["metadata"]["labels"]["x"] = json!("y");
        },
        &["spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"x\":\"y\"}}: field is immutable"],
    );
}

#[test]
fn the_generation_counts_changes_of_the_spec() {
    let (old, _) = create(deployment(), |_| {});
    let strategy = of("apps/v1", "Deployment");
    let after = |subresource: &str, change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        strategy.prepare_for_update(&mut new, &old, subresource);
        new
    };
    assert_eq!(after("", &|d| d["spec"]["replicas"] = json!(2))["metadata"]["generation"], 2);
    assert_eq!(after("", &|d| d["metadata"]["labels"] = json!({}))["metadata"]["generation"], 1);
    assert_eq!(after("", &|d| d["metadata"]["annotations"] = json!({}))["metadata"]["generation"], 1);
    assert_eq!(after("", &|d| d["metadata"]["annotations"] = json!({"a": "b"}))["metadata"]["generation"], 2);
    // Each side keeps the other's part.
    let status = after("status", &|d| {
        d["spec"]["replicas"] = json!(2);
        d["status"]["replicas"] = json!(3);
    });
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(1), &json!(3)));
    assert_eq!(status["metadata"]["generation"], 1);
    let main = after("", &|d| d["status"]["replicas"] = json!(3));
    assert_eq!(main["status"], json!({}));
}

#[test]
fn services() {
    let (created, errors) = create(service(), |_| {});
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(
        created["spec"],
        json!({
            "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "selector": {"a": "b"}, "sessionAffinity": "None", "type": "ClusterIP",
        })
    );
    check_create(service(), |s| s["spec"]["ports"] = json!([]), &["spec.ports: Required value"]);
    check_create(
        service(),
        |s| s["spec"]["ports"] = json!([{"port": 80}, {"port": 81}]),
        &["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
    );
    check_create(
        service(),
        |s| s["spec"]["ports"][0]["nodePort"] = json!(30000),
        &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    );
    check_update(service(), |s| s["spec"]["type"] = json!("NodePort"), &[]);
}

#[test]
fn config_is_immutable_when_it_says_so() {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "b"}, "immutable": true});
    check_update(map.clone(), |m| m["metadata"]["labels"] = json!({"x": "y"}), &[]);
    check_update(map, |m| m["data"]["a"] = json!("c"), &["data: Forbidden: field is immutable when `immutable` is set"]);
    let (secret, _) =
        create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}), |_| {});
    assert_eq!(secret["data"], json!({"a": "Yg=="}));
    assert_eq!(secret["type"], "Opaque");
    assert!(secret.get("stringData").is_none());
}

#[test]
fn rows_of_pods() {
    let check = |status: Value, expected: [&str; 3]| {
        let mut pod = pod();
        pod["status"] = status;
        let row = of("v1", "Pod").row(&pod, "2026-01-02T03:04:05Z".parse().unwrap());
        assert_eq!(row[1..4], expected.map(Value::from));
    };
    check(json!({"phase": "Pending"}), ["0/1", "Pending", "0"]);
    check(
        json!({"phase": "Running", "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "state": {"running": {}}}]}),
        ["1/1", "Running", "0"],
    );
    check(
        json!({"phase": "Running", "containerStatuses": [{
            "name": "c", "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"finishedAt": "2026-01-02T03:03:05Z"}},
        }]}),
        ["0/1", "CrashLoopBackOff", "3 (60s ago)"],
    );
    check(
        json!({"phase": "Succeeded", "containerStatuses": [{"name": "c", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}),
        ["0/1", "Completed", "0"],
    );
}
