use serde_json::json;

use super::*;

const T1: i64 = 1_700_000_000;

fn ty() -> TypeRef<'static> {
    schema::builtin().type_of("apps", "v1", "Deployment").expect("a built-in type")
}

fn writer(manager: &str, seconds: i64) -> Writer<'_> {
    let now = Timestamp::from_second(seconds).unwrap();
    Writer { manager, api_version: "apps/v1", subresource: "", now, ignored: None, versions: None }
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}, "spec": spec})
}

fn container(name: &str, image: &str) -> Value {
    json!({"template": {"spec": {"containers": [{"name": name, "image": image}]}}})
}

/// What a server does with a first apply or a create: fills in its own.
fn stored(mut object: Value) -> Value {
    object["metadata"]["uid"] = json!("u");
    object
}

fn apply_as(live: Option<&Value>, manager: &str, spec: Value) -> Result<Value, ApplyError> {
    apply(live, &deployment(spec), ty(), &writer(manager, T1), false)
}

fn owned(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.iter().find(|e| e["manager"] == manager).map_or(Value::Null, |e| e["fieldsV1"].clone())
}

#[test]
fn first_apply_owns_nested_paths() {
    let object = apply_as(
        None,
        "me",
        json!({"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "args": ["x"]}]}}}),
    )
    .unwrap();
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{
            "manager": "me", "operation": "Apply", "apiVersion": "apps/v1", "time": "2023-11-14T22:13:20Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {
                "f:replicas": {}, "f:selector": {},
                "f:template": {
                    "f:metadata": {"f:labels": {"f:a": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                        ".": {}, "f:args": {}, "f:image": {}, "f:name": {},
                        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}}
        }])
    );
}

#[test]
fn create_owns_what_it_sets() {
    let mut object = deployment(container("c", "i"));
    object["metadata"]["labels"] = json!({"l": "1"});
    update_managers(None, &mut object, ty(), &writer("kubectl-create", T1));
    assert_eq!(
        owned(&object, "kubectl-create"),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:l": {}}},
            "f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                ".": {}, "f:image": {}, "f:name": {}}}}}}
        })
    );
}

#[test]
fn conflicts_are_worded_as_upstream() {
    let mut live = deployment(json!({"replicas": 1, "paused": true}));
    update_managers(None, &mut live, ty(), &writer("kubectl-client-side-apply", T1));
    let live = stored(live);
    let e = apply_as(Some(&live), "me", json!({"replicas": 5})).unwrap_err();
    assert_eq!(
        e.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    let status = Status::from(e);
    assert_eq!((status.code(), status.reason.as_str()), (409, "Conflict"));
    let cause = status.cause("FieldManagerConflict").unwrap();
    assert_eq!(cause.message, "conflict with \"kubectl-client-side-apply\" using apps/v1");
    assert_eq!(cause.field, ".spec.replicas");

    let e = apply_as(Some(&live), "me", json!({"replicas": 5, "paused": false})).unwrap_err();
    assert_eq!(
        e.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.paused\n- \
         .spec.replicas"
    );

    let forced = apply(Some(&live), &deployment(json!({"replicas": 5})), ty(), &writer("me", T1), true).unwrap();
    assert_eq!(forced["spec"], json!({"replicas": 5, "paused": true}));
    assert_eq!(owned(&forced, "me"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(owned(&forced, "kubectl-client-side-apply"), json!({"f:spec": {"f:paused": {}}}));
}

#[test]
fn the_same_value_is_shared_ownership() {
    let a = stored(apply_as(None, "a", json!({"replicas": 1})).unwrap());
    let b = apply_as(Some(&a), "b", json!({"replicas": 1})).unwrap();
    assert_eq!(owned(&b, "a"), owned(&b, "b"));
    // The one gives it up: it stays, since the other still owns it.
    let c = apply_as(Some(&b), "a", json!({})).unwrap();
    assert_eq!(c["spec"], json!({"replicas": 1}));
    assert_eq!(owned(&c, "a"), json!({"f:spec": {}}));
    // The last one gives it up: it goes.
    let d = apply_as(Some(&c), "b", json!({})).unwrap();
    assert_eq!(d["spec"], json!({}));
}

#[test]
fn what_is_not_applied_any_more_goes() {
    let spec = json!({"template": {"spec": {"containers": [{"name": "a", "image": "1", "tty": true}, {"name": "b"}],
        "nodeSelector": {"x": "y", "z": "1"}}}});
    let mut live = stored(apply_as(None, "me", spec).unwrap());
    // Another writer adds beside it.
    let before = live.clone();
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    live["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "c"}));
    live["spec"]["paused"] = json!(true);
    update_managers(Some(&before), &mut live, ty(), &writer("other", T1 + 1));
    let got = apply_as(Some(&live), "me", container("a", "1")).unwrap();
    assert_eq!(
        got["spec"],
        json!({"paused": true, "template": {"spec": {"containers": [
            {"name": "a", "image": "1", "imagePullPolicy": "Always"}, {"name": "c"}]}}})
    );
}

#[test]
fn lists_keep_their_order() {
    let names = |o: &Value| -> Vec<String> {
        let list = o["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        list.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    };
    let list = |names: &[&str]| {
        let items: Vec<Value> = names.iter().map(|n| json!({"name": n})).collect();
        json!({"template": {"spec": {"containers": items}}})
    };
    for (live, applied, want) in [
        (vec!["a", "b", "c"], vec!["b"], vec!["a", "b", "c"]),
        (vec!["a", "b", "c"], vec!["c", "a"], vec!["b", "c", "a"]),
        (vec!["a", "b"], vec!["x", "a"], vec!["x", "a", "b"]),
        (vec!["a", "b", "c", "d"], vec!["d", "x", "b"], vec!["a", "c", "d", "x", "b"]),
        (vec![], vec!["x", "y"], vec!["x", "y"]),
    ] {
        let mut l = deployment(list(&live));
        update_managers(None, &mut l, ty(), &writer("o", T1));
        let got = apply_as(Some(&stored(l)), "me", list(&applied)).unwrap();
        assert_eq!(names(&got), want, "{live:?} with {applied:?}");
    }
}

#[test]
fn times_change_only_with_the_object() {
    let first = stored(apply_as(None, "me", json!({"replicas": 1})).unwrap());
    let at = |o: &Value| o["metadata"]["managedFields"][0]["time"].as_str().unwrap().to_owned();
    let again = apply(Some(&first), &deployment(json!({"replicas": 1})), ty(), &writer("me", T1 + 60), false).unwrap();
    assert_eq!(again, first);
    let other = apply(Some(&first), &deployment(json!({"replicas": 2})), ty(), &writer("me", T1 + 60), false).unwrap();
    assert_ne!(at(&other), at(&first));
    let shared = apply(Some(&first), &deployment(json!({"replicas": 1})), ty(), &writer("other", T1 + 60), false).unwrap();
    let (old, new) = (&shared["metadata"]["managedFields"][1], &shared["metadata"]["managedFields"][0]);
    assert_eq!((&old["manager"], &new["manager"]), (&json!("me"), &json!("other")));
    assert_eq!((&old["time"], &new["time"]), (&first["metadata"]["managedFields"][0]["time"], &Value::Null));
    let mut same = first.clone();
    update_managers(Some(&first), &mut same, ty(), &writer("x", T1 + 60));
    assert_eq!(same, first);
}

#[test]
fn updates_move_ownership() {
    let live = stored(apply_as(None, "me", json!({"replicas": 1, "paused": true})).unwrap());
    let mut new = live.clone();
    new["spec"]["replicas"] = json!(3);
    new["spec"].as_object_mut().unwrap().remove("paused");
    update_managers(Some(&live), &mut new, ty(), &writer("scaler", T1 + 5));
    assert_eq!(owned(&new, "me"), Value::Null);
    assert_eq!(owned(&new, "scaler"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn the_status_is_not_owned_through_the_main_resource() {
    let ignored = Set::of_fields(["status"]);
    let w = Writer { ignored: Some(&ignored), ..writer("me", T1) };
    let mut config = deployment(json!({"replicas": 1}));
    config["status"] = json!({"replicas": 9});
    let object = apply(None, &config, ty(), &w, false).unwrap();
    assert_eq!(owned(&object, "me"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn untracked_objects_get_an_owner_at_the_first_apply() {
    let live = stored(deployment(json!({"replicas": 1, "paused": true})));
    let mut updated = live.clone();
    updated["spec"]["replicas"] = json!(2);
    update_managers(Some(&live), &mut updated, ty(), &writer("x", T1));
    assert_eq!(updated["metadata"].get("managedFields"), None);
    let e = apply_as(Some(&updated), "me", json!({"replicas": 5})).unwrap_err();
    assert_eq!(e.to_string(), "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas");
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let last = deployment(json!({"replicas": 1})).to_string();
    let mut live = deployment(json!({"replicas": 1, "paused": true}));
    live["metadata"]["annotations"] = json!({LAST_APPLIED: last});
    update_managers(None, &mut live, ty(), &writer("kubectl-client-side-apply", T1));
    let live = stored(live);
    let got = apply_as(Some(&live), "kubectl", json!({"replicas": 3})).unwrap();
    assert_eq!(got["spec"]["replicas"], 3);
    let annotation: Value = serde_json::from_str(meta::annotation(&got, LAST_APPLIED).unwrap()).unwrap();
    assert_eq!(annotation["spec"]["replicas"], 3);
    assert!(apply_as(Some(&live), "kubectl", json!({"paused": false})).is_err());
}

#[test]
fn refuses() {
    let mut managed = deployment(json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    for (config, want) in [
        (managed, "metadata.managedFields must be nil"),
        (
            json!({"apiVersion": "apps/v2", "kind": "Deployment"}),
            "Incorrect version specified in apply patch. Specified patch version: apps/v2, expected: apps/v1",
        ),
        (
            deployment(json!({"foo": 1})),
            "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema",
        ),
        (
            deployment(json!({"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}})),
            "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate \
             entries for key [name=\"a\"]",
        ),
        (
            deployment(json!({"replicas": "1"})),
            "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): .spec.replicas: expected numeric (int or \
             float), got string",
        ),
    ] {
        let e = apply(None, &config, ty(), &writer("me", T1), false).unwrap_err();
        assert_eq!(e.to_string(), want);
    }
}

#[test]
fn many_updaters_are_put_together() {
    let mut live = stored(deployment(json!({})));
    live["metadata"]["labels"] = json!({"l0": "1"});
    update_managers(None, &mut live, ty(), &writer("m0", T1));
    for i in 1..20 {
        let before = live.clone();
        live["metadata"]["labels"][format!("l{i}")] = json!("1");
        let name = format!("m{i}");
        update_managers(Some(&before), &mut live, ty(), &writer(&name, T1 + i));
    }
    let managers = decode_managers(&live);
    assert_eq!(managers.len(), 10);
    assert!(managers.iter().any(|m| m.name == "ancient-changes"));
    assert!(managers.iter().any(|m| m.name == "m19"));
}

#[test]
fn clients_may_reset_owners() {
    let live = stored(apply_as(None, "me", json!({"replicas": 1})).unwrap());
    let mut new = live.clone();
    new["metadata"]["managedFields"] = json!([{}]);
    update_managers(Some(&live), &mut new, ty(), &writer("x", T1));
    assert_eq!(new["metadata"].get("managedFields"), None);
    // Leaving them out does not lose them.
    let mut new = live.clone();
    new["metadata"].as_object_mut().unwrap().remove("managedFields");
    update_managers(Some(&live), &mut new, ty(), &writer("x", T1));
    assert_eq!(new, live);
}

/// In `apps/v2` the number of replicas is called `minReadySeconds`.
#[derive(Debug)]
struct Renamed;

impl Versions for Renamed {
    fn shown(&self, object: &Value, api_version: &str) -> Option<(Value, TypeRef<'_>)> {
        let (from, to) = match api_version {
            "apps/v1" => ("minReadySeconds", "replicas"),
            "apps/v2" => ("replicas", "minReadySeconds"),
            _ => return None,
        };
        let mut object = object.clone();
        if object["apiVersion"] != api_version {
            let value = meta::remove_path(&mut object, &["spec", from]);
            value.into_iter().for_each(|value| meta::set_path(&mut object, &["spec", to], value));
        }
        object["apiVersion"] = json!(api_version);
        Some((object, ty()))
    }
}

fn in_version<'a>(manager: &'a str, api_version: &'a str) -> Writer<'a> {
    Writer { api_version, versions: Some(&Renamed), ..writer(manager, T1) }
}

fn applied_in(live: Option<&Value>, manager: &str, api_version: &str, spec: Value) -> Result<Value, ApplyError> {
    let live = live.map(|live| Renamed.shown(live, api_version).unwrap().0);
    let mut applied = deployment(spec);
    applied["apiVersion"] = json!(api_version);
    apply(live.as_ref(), &applied, ty(), &in_version(manager, api_version), false)
}

#[test]
fn owners_of_another_version_are_asked_in_theirs() {
    let first = applied_in(None, "one", "apps/v1", json!({"replicas": 2, "paused": true})).unwrap();
    // The same value under its other name, and another value.
    let shared = applied_in(Some(&first), "two", "apps/v2", json!({"minReadySeconds": 2})).unwrap();
    assert_eq!(owned(&shared, "one"), json!({"f:spec": {"f:paused": {}, "f:replicas": {}}}));
    let conflict = applied_in(Some(&first), "two", "apps/v2", json!({"minReadySeconds": 3})).unwrap_err();
    assert_eq!(conflict.to_string(), "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas");
    // An update takes the field from who had it under the other name.
    let mut updated = Renamed.shown(&first, "apps/v2").unwrap().0;
    let old = updated.clone();
    updated["spec"]["minReadySeconds"] = json!(5);
    update_managers(Some(&old), &mut updated, ty(), &in_version("edit", "apps/v2"));
    assert_eq!(owned(&updated, "one"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(owned(&updated, "edit"), json!({"f:spec": {"f:minReadySeconds": {}}}));
}

#[test]
fn what_was_applied_in_another_version_is_pruned() {
    let first = applied_in(None, "one", "apps/v1", json!({"replicas": 2, "paused": true})).unwrap();
    let second = applied_in(Some(&first), "one", "apps/v2", json!({"minReadySeconds": 2})).unwrap();
    assert_eq!(second["spec"], json!({"minReadySeconds": 2}));
    // Another owner keeps it, under the name it has there.
    let shared = applied_in(Some(&first), "two", "apps/v2", json!({"minReadySeconds": 2})).unwrap();
    let left = applied_in(Some(&shared), "one", "apps/v1", json!({"paused": true})).unwrap();
    assert_eq!(left["spec"], json!({"paused": true, "replicas": 2}));
    // A version that is no more has no owners.
    let mut old = first.clone();
    old["metadata"]["managedFields"][0]["apiVersion"] = json!("apps/v0");
    let taken = applied_in(Some(&old), "two", "apps/v2", json!({"minReadySeconds": 3})).unwrap();
    assert_eq!(owned(&taken, "one"), Value::Null);
}
