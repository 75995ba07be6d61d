use machinery::field::Path;
use serde_json::{Value as Json, json};

use super::{Rules, check};

fn schema(rules: &Json) -> Json {
    json!({"type": "object", "x-kubernetes-validations": rules, "properties": {"spec": {"type": "object", "properties": {
        "min": {"type": "integer"},
        "max": {"type": "integer"},
        "name": {"type": "string", "maxLength": 20},
        "labels": {"type": "object", "maxProperties": 5, "additionalProperties": {"type": "string", "maxLength": 10}},
        "tags": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 10,
            "x-kubernetes-validations": [{"rule": "self != 'bad'"}]}},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"], "maxItems": 5,
            "items": {"type": "object", "properties": {"port": {"type": "integer"}, "name": {"type": "string", "maxLength": 9}},
                "x-kubernetes-validations": [{"rule": "self.name == oldSelf.name", "message": "name is immutable"}]}},
    }}}})
}

/// The errors that rules at the root give of an object.
fn errors(rules: Json, object: &Json, old: Option<&Json>) -> Vec<String> {
    let rules = Rules::compile(&schema(&rules)).expect("there are rules");
    rules.validate(object, old).errors.iter().map(ToString::to_string).collect()
}

#[test]
fn of_objects() {
    let object = json!({"metadata": {"name": "n"}, "spec": {"min": 3, "max": 2, "name": "x"}});
    let check = |rule: Json, wanted: &[&str]| assert_eq!(errors(json!([rule]), &object, None), wanted, "{rule}");
    check(
        json!({"rule": "self.spec.min <= self.spec.max"}),
        &["<nil>: Invalid value: failed rule: self.spec.min <= self.spec.max"],
    );
    check(json!({"rule": "self.spec.min > 0 && self.metadata.name == 'n'"}), &[]);
    check(json!({"rule": "false", "message": " no "}), &["<nil>: Invalid value: no"]);
    check(json!({"rule": "false", "message": "no", "fieldPath": ".spec.name"}), &["spec.name: Invalid value: no"]);
    check(
        json!({"rule": "false", "message": "no", "fieldPath": ".spec['labels']['a/b']", "reason": "FieldValueForbidden"}),
        &["spec.labels[a/b]: Forbidden: no"],
    );
    check(json!({"rule": "false", "message": "no", "reason": "FieldValueRequired"}), &["<nil>: Required value: no"]);
    check(
        json!({"rule": "false", "messageExpression": "'min is ' + string(self.spec.min)"}),
        &["<nil>: Invalid value: min is 3"],
    );
    check(
        json!({"rule": "false", "message": "no", "messageExpression": "'' + self.spec.labels['x']"}),
        &["<nil>: Invalid value: no"],
    );
    check(
        json!({"rule": "self.spec.labels.size() > 0"}),
        &["<nil>: Invalid value: \"object\": no such key: labels evaluating rule: self.spec.labels.size() > 0"],
    );
    check(json!({"rule": "self.spec.min == oldSelf.spec.min"}), &[]);
    check(
        json!({"rule": "oldSelf.hasValue() || self.spec.min < 3", "optionalOldSelf": true, "message": "m"}),
        &["<nil>: Invalid value: m"],
    );
    check(
        json!({"rule": "lists.range(400000).all(x, x >= 0)"}),
        &["<nil>: Invalid value: \"object\": 'operation cancelled: actual cost \
        limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: \
        lists.range(400000).all(x, x >= 0)"],
    );
    check(
        json!({"rule": "self.nope"}),
        &["<nil>: Invalid value: \"object\": rule compile error: compilation failed: ERROR: \
        <input>:1:5: undefined field 'nope'\n | self.nope\n | ....^"],
    );
}

#[test]
fn budgets_are_shared_by_the_rules_of_an_object() {
    let object = json!({"spec": {"min": 1}});
    let rule = json!({"rule": "lists.range(100000).all(x, x >= 0)"});
    let found = errors(json!(vec![rule; 30]), &object, None);
    let wanted = "<nil>: Invalid value: \"object\": validation failed due to running out of cost budget, no further validation rules will \
                  be run";
    assert_eq!(found, [wanted]);
}

#[test]
fn of_changes() {
    let object = |tags: Json, ports: Json, min: i64| json!({"spec": {"tags": tags, "ports": ports, "min": min, "max": 5}});
    let old = object(json!(["bad"]), json!([{"port": 1, "name": "a"}, {"port": 2, "name": "b"}]), 1);
    let rules = json!([{"rule": "self.spec.min >= oldSelf.spec.min", "message": "may not shrink"},
        {"rule": "self.spec.max < 4", "message": "too large"}]);
    let compiled = Rules::compile(&schema(&rules)).expect("there are rules");
    let run = |new: &Json| {
        let verdict = compiled.validate(new, Some(&old));
        let errors: Vec<String> = verdict.errors.iter().map(ToString::to_string).collect();
        (errors, verdict.warnings)
    };
    // Nothing changed: what was wrong stays so, with a warning.
    let (errors, warnings) = run(&old);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(warnings, ["<nil>: Invalid value: too large", "spec.tags[0]: Invalid value: \"bad\": failed rule: self != 'bad'"]);
    // The root changed, the list did not.
    let (errors, warnings) = run(&object(json!(["bad"]), old["spec"]["ports"].clone(), 0));
    assert_eq!(errors, ["<nil>: Invalid value: may not shrink", "<nil>: Invalid value: too large"]);
    assert_eq!(warnings, ["spec.tags[0]: Invalid value: \"bad\": failed rule: self != 'bad'"]);
    // Items of a list-map have old states by their keys, those of other lists have none.
    let (errors, _) = run(&object(json!(["x", "bad"]), json!([{"port": 2, "name": "z"}, {"port": 3, "name": "new"}]), 1));
    assert_eq!(
        errors[1..],
        ["spec.ports[0]: Invalid value: name is immutable", "spec.tags[1]: Invalid value: \"bad\": failed rule: self != 'bad'"]
    );
}

#[test]
fn of_definitions() {
    let path = Path::new("spec").child("validation").child("openAPIV3Schema");
    let check = |schema: Json, wanted: &[&str]| {
        let found: Vec<String> = check(&schema, &path).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), wanted.len(), "{found:#?}");
        for (found, wanted) in found.iter().zip(wanted) {
            let found = found.strip_prefix("spec.validation.openAPIV3Schema").unwrap_or(found);
            assert!(found.starts_with(wanted), "{found}\ninstead of\n{wanted}");
        }
    };
    let rule = |rule: Json| schema(&json!([rule]));
    let go = |rule: &str| {
        format!(
            "apiextensions.ValidationRule{{Rule:\"{rule}\", Message:\"\", MessageExpression:\"\", \
        Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:\"\", OptionalOldSelf:(*bool)(nil)}}"
        )
    };
    check(rule(json!({"rule": "self.spec.min > 0"})), &[]);
    check(
        rule(json!({"rule": "self.nope > 0"})),
        &[&format!(
            ".x-kubernetes-validations[0].rule: Invalid value: {}: compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n | \
         self.nope > 0\n | ....^",
            go("self.nope > 0")
        )],
    );
    check(
        rule(json!({"rule": "1 + 1"})),
        &[&format!(".x-kubernetes-validations[0].rule: Invalid value: {}: cel expression must evaluate to a bool", go("1 + 1"))],
    );
    check(
        rule(json!({"rule": "true", "messageExpression": "1"})),
        &[".x-kubernetes-validations[0].messageExpression: Invalid value: "],
    );
    check(
        rule(json!({"rule": "true", "fieldPath": ".spec.nope"})),
        &[".x-kubernetes-validations[0].fieldPath: Invalid value: \".spec.nope\": must be a valid path"],
    );
    check(
        rule(json!({"rule": "true", "optionalOldSelf": true})),
        &[".x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"],
    );
    let unbounded = json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "string"},
        "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x == y))"}]}}});
    check(
        unbounded,
        &[
            ".properties[l].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try",
            ".properties[l].x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit",
            ": Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more",
        ],
    );
    let transition = json!({"type": "object", "properties": {"l": {"type": "array", "maxItems": 3, "items": {"type": "string",
        "maxLength": 3, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}});
    check(
        transition,
        &[".properties[l].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot be \
        used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[l]"],
    );
}
