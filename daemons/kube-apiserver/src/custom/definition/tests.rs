use serde_json::json;

use super::*;

fn definition() -> Value {
    json!({
        "metadata": {"name": "foos.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "conversion": {"strategy": "None"},
            "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string"}}}}}}}],
        },
        "status": {"storedVersions": ["v1"]},
    })
}

fn check(change: impl FnOnce(&mut Value), expected: &[&str]) {
    let mut changed = definition();
    change(&mut changed);
    let errors: Vec<String> = validate(&changed, None).iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, start) in errors.iter().zip(expected) {
        assert!(error.starts_with(start), "{error}\nis not\n{start}");
    }
}

/// A change of the schema of the only version.
fn check_schema(change: impl FnOnce(&mut Value), expected: &[&str]) {
    check(|definition| change(&mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]), expected);
}

#[test]
fn names() {
    check(|_| {}, &[]);
    check(
        |d| d["metadata"]["name"] = json!("x.y"),
        &["metadata.name: Invalid value: \"x.y\": must be spec.names.plural+\".\"+spec.group"],
    );
    check(
        |d| d["spec"]["scope"] = json!("x"),
        &["spec.scope: Unsupported value: \"x\": supported values: \"Cluster\", \"Namespaced\""],
    );
    check(
        |d| d["spec"]["names"]["kind"] = json!("F_o"),
        &["spec.names.kind: Invalid value: \"F_o\": may have mixed case, but should otherwise match: a DNS-1035 label"],
    );
    check(
        |d| d["spec"]["names"]["listKind"] = json!("Foo"),
        &["spec.names.listKind: Invalid value: \"Foo\": kind and listKind may not be the same"],
    );
    check(|d| d["spec"]["names"]["singular"] = json!(""), &["spec.names.singular: Required value"]);
    check(
        |d| {
            d["spec"]["group"] = json!("a.k8s.io");
            d["metadata"]["name"] = json!("foos.a.k8s.io");
        },
        &["metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation"],
    );
}

#[test]
fn versions() {
    check(|d| d["spec"]["versions"][0]["storage"] = json!(false), &["spec.versions: Invalid value"]);
    check(|d| d["spec"]["versions"][0]["schema"] = json!(null), &["spec.versions[0].schema.openAPIV3Schema: Required value"]);
    check(
        |d| d["status"]["storedVersions"] = json!(["v1", "v0"]),
        &["status.storedVersions[1]: Invalid value: \"v0\": missing from spec.versions; v0 was"],
    );
    check(
        |d| d["spec"]["versions"][0]["additionalPrinterColumns"] = json!([{"name": "a", "type": "x", "jsonPath": "spec"}]),
        &[
            "spec.additionalPrinterColumns[0].type: Invalid value: \"x\": must be one of boolean,date,integer,number,string",
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"spec\": must be a simple json path starting with .",
        ],
    );
    check(
        |d| d["spec"]["versions"][0]["subresources"] = json!({"scale": {"specReplicasPath": ".x.n"}}),
        &[
            "spec.subresources.scale.specReplicasPath: Invalid value: \".x.n\": should be a json path under .spec",
            "spec.subresources.scale.statusReplicasPath: Required value",
        ],
    );
    check(
        |d| {
            d["spec"]["versions"][0]["selectableFields"] =
                json!([{"jsonPath": ".spec.n"}, {"jsonPath": ".spec.x"}, {"jsonPath": ".spec"}, {"jsonPath": ".spec.n"}])
        },
        &[
            "spec.selectableFields[1].jsonPath: Invalid value: \".spec.x\": is an invalid path: does not refer to a valid field",
            "spec.selectableFields[2].jsonPath: Invalid value: \".spec\": must point to a field of type string, boolean or integer",
            "spec.selectableFields[3].jsonPath: Duplicate value: \".spec.n\"",
        ],
    );
}

#[test]
fn conversions() {
    check(
        |d| d["spec"]["conversion"] = json!({"strategy": "Webhook"}),
        &[
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            "spec.conversion.conversionReviewVersions: Required value",
        ],
    );
    check(
        |d| {
            d["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "http://a"}, "conversionReviewVersions": ["v9"]}})
        },
        &[
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme",
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1",
        ],
    );
}

#[test]
fn structure() {
    let root = "spec.validation.openAPIV3Schema";
    let n = format!("{root}.properties[spec].properties[n]");
    let check_n =
        |value: Value, expected: &[&str]| check_schema(|s| s["properties"]["spec"]["properties"]["n"] = value, expected);
    check_schema(
        |s| s["type"] = json!(""),
        &["spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root"],
    );
    check_schema(
        |s| s["additionalProperties"] = json!(true),
        &["spec.validation.openAPIV3Schema.additionalProperties: Forbidden: must not be used at the root"],
    );
    check_n(json!({}), &[&format!("{n}.type: Required value: must not be empty for specified object fields")]);
    check_n(json!({"type": "array"}), &[&format!("{n}.items: Required value: must be specified")]);
    check_n(
        json!({"type": "string", "pattern": "("}),
        &[&format!("{n}.pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: ")],
    );
    check_n(
        json!({"type": "string", "anyOf": [{"type": "string"}]}),
        &[&format!("{n}.anyOf[0].type: Forbidden: must be empty to be structural")],
    );
    check_n(json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}), &[]);
    check_schema(
        |s| s["anyOf"] = json!([{"properties": {"x": {"minimum": 1}}}]),
        &[
            "spec.validation.openAPIV3Schema.properties[x]: Required value: because it is defined in spec.validation.openAPIV3Schema.anyOf[0].properties[x]",
        ],
    );
    check_schema(
        |s| s["properties"]["metadata"] = json!({"type": "object", "properties": {"labels": {"type": "object"}}}),
        &[
            "spec.validation.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName",
        ],
    );
    check_schema(
        |s| s["properties"]["metadata"] = json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}}),
        &[],
    );
}

#[test]
fn what_schemas_may_use() {
    let n = "spec.validation.openAPIV3Schema.properties[spec].properties[n]";
    let check_n = |value: Value, expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|end| format!("{n}{end}")).collect();
        check_schema(
            |s| s["properties"]["spec"]["properties"]["n"] = value,
            &expected.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    };
    check_n(json!({"type": "string", "uniqueItems": true}), &[".uniqueItems: Forbidden: uniqueItems cannot be set to true"]);
    check_n(json!({"type": "string", "$ref": "#/x"}), &[".$ref: Forbidden: $ref is not supported"]);
    check_n(
        json!({"type": "string", "x-kubernetes-list-type": "set"}),
        &[".type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified"],
    );
    check_n(
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "z"], "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
        &[
            ".x-kubernetes-list-map-keys: Invalid value: [\"k\",\"z\"]: entries must all be names of item properties",
            ".items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default",
        ],
    );
    check_n(json!({"type": "integer", "default": "x"}), &[".default: Invalid value: \"string\": "]);
    check_n(
        json!({"type": "object", "default": {"a": 1}}),
        &[".default: Invalid value: {\"a\":1}: must not have unknown fields"],
    );
    check_n(
        json!({"type": "string", "x-kubernetes-validations": [{"rule": " "}]}),
        &[".x-kubernetes-validations[0].rule: Required value: rule is not specified"],
    );
    check(
        |d| {
            d["spec"]["versions"][0]["subresources"] = json!({"status": {}});
            d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["anyOf"] = json!([{"required": ["spec"]}]);
        },
        &["spec.validation.openAPIV3Schema: Invalid value: "],
    );
}

#[test]
fn updates() {
    let check = |change: fn(&mut Value), expected: &[&str]| {
        let mut old = definition();
        old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
        let mut new = old.clone();
        change(&mut new);
        let errors: Vec<String> = validate(&new, Some(&old)).iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected);
    };
    check(|_| {}, &[]);
    check(|d| d["spec"]["scope"] = json!("Cluster"), &["spec.scope: Invalid value: \"Cluster\": field is immutable"]);
    check(|d| d["spec"]["names"]["plural"] = json!("bars"), &["spec.names.plural: Invalid value: \"bars\": field is immutable"]);
    check(|d| d["spec"]["names"]["shortNames"] = json!(["f"]), &[]);
}

#[test]
fn formats_that_nobody_checks() {
    let mut definition = definition();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["s"]["format"] =
        json!("x");
    assert_eq!(unrecognized_formats(&definition), ["x"]);
}
