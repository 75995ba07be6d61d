use serde_json::{Value, json};

use super::*;

/// What goes out comes back.
fn check_round_trip(value: Value) {
    let bytes = encode(&value).unwrap_or_else(|err| panic!("{err}: {value}"));
    assert!(bytes.starts_with(MAGIC));
    assert_eq!(decode(&bytes).unwrap(), value);
}

#[test]
fn objects_round_trip() {
    check_round_trip(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "a", "namespace": "b", "labels": {"x": "y", "empty": ""}, "creationTimestamp": "2026-01-02T03:04:05Z",
            "generation": 1, "finalizers": ["f"],
            "managedFields": [{"manager": "m", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}, "time": "2026-01-02T03:04:05Z"}],
        },
        "spec": {
            "enableServiceLinks": false, "activeDeadlineSeconds": 0, "terminationGracePeriodSeconds": 30,
            "volumes": [
                {"name": "e", "emptyDir": {}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": "c", "optional": false}}]}},
            ],
            "containers": [{
                "name": "c", "image": "i", "resources": {"limits": {"cpu": "100m"}},
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5},
                "readinessProbe": {"tcpSocket": {"port": 80}},
                "env": [{"name": "e", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            }],
            "ephemeralContainers": [{"name": "d", "image": "j", "targetContainerName": "c"}],
            "securityContext": {"supplementalGroups": [1, 2]},
        },
        "status": {},
    }));
    check_round_trip(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "AAEC"}}));
    check_round_trip(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {},
        "spec": {"renewTime": "2026-01-02T03:04:05.678901Z", "leaseDurationSeconds": 40, "leaseTransitions": 0},
    }));
    check_round_trip(json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {},
        "spec": {"extra": {"a": ["b", "c"], "d": []}, "request": "AA==", "signerName": "x"},
    }));
    check_round_trip(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {},
        "spec": {
            "group": "g", "scope": "Namespaced", "names": {"plural": "as", "kind": "A"},
            "versions": [{"name": "v1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {
                "type": "object", "additionalProperties": false, "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"a": {"type": "array", "items": {"type": "string", "default": {"x": [1]}}, "minimum": 1.5}},
                "required": ["a"],
            }}, "subresources": {"status": {}}}],
        },
    }));
    check_round_trip(
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {}, "revision": 3, "data": {"a": 1}}),
    );
    check_round_trip(
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {},
            "spec": {"replicas": 0, "paused": true, "selector": {}, "template": {"metadata": {}, "spec": {"containers": []}},
                "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}}},
        })
        .as_object()
        .map(|o| {
            // An empty list has no protobuf form.
            let mut o = o.clone();
            o["spec"]["template"]["spec"] = json!({});
            Value::Object(o)
        })
        .unwrap(),
    );
}

#[test]
fn lists_status_and_options_round_trip() {
    check_round_trip(json!({
        "apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "5", "continue": "c", "remainingItemCount": 0},
        "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}],
    }));
    check_round_trip(json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404,
        "details": {"name": "x", "kind": "pods", "causes": [{"reason": "r", "field": "f"}]},
    }));
    check_round_trip(json!({"kind": "Status", "code": 404}));
    for api_version in ["v1", "apps/v1", "meta.k8s.io/v1"] {
        let options =
            json!({"apiVersion": api_version, "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Orphan"});
        if api_version == "meta.k8s.io/v1" {
            assert_eq!(encode(&options).map(|b| decode(&b).unwrap()), Ok(options));
        } else {
            check_round_trip(options);
        }
    }
    check_round_trip(json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {},
        "items": [{"metadata": {"name": "a"}}],
    }));
    check_round_trip(json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {}, "spec": {"replicas": 3}}));
    check_round_trip(json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}));
}

/// Zero values that mean nothing are dropped, those of pointers and of required fields are kept.
#[test]
fn zeros_are_dropped_unless_they_say_something() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "", "namespace": "n"},
        "spec": {"hostNetwork": false, "enableServiceLinks": false, "nodeName": "", "containers": [{"name": ""}]},
    });
    assert_eq!(
        decode(&encode(&pod).unwrap()).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "n"},
            "spec": {"enableServiceLinks": false, "containers": [{"name": ""}]},
        })
    );
}

#[test]
fn the_envelope_is_byte_for_byte_what_go_writes() {
    let bytes = encode(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}})).unwrap();
    assert_eq!(bytes, b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x05\x0a\x03\x0a\x01x\x1a\x00\x22\x00");
    assert_eq!(peek(&bytes).unwrap(), ("v1".to_owned(), "Namespace".to_owned()));
}

#[test]
fn a_watch_frame_holds_the_enveloped_object() {
    assert_eq!(watch_frame("ADDED", b"abc"), b"\0\0\0\x0e\x0a\x05ADDED\x12\x05\x0a\x03abc");
}

#[test]
fn bad_input_is_refused() {
    assert_eq!(decode(b"{}"), Err(ProtoError::NoEnvelope));
    assert!(matches!(decode(b"k8s\0\x0a\xff"), Err(ProtoError::Malformed(_))));
    let unknown = json!({"apiVersion": "example.com/v1", "kind": "Foo"});
    assert!(matches!(encode(&unknown), Err(ProtoError::UnknownKind { .. })));
    let wrong = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}});
    assert_eq!(
        encode(&wrong).unwrap_err().to_string(),
        "spec.containers[0].ports[0].containerPort does not fit its protobuf type: it is not an integer"
    );
    // Every prefix of a valid message is refused or decodes: none panics.
    let bytes = encode(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "abc", "labels": {"a": "b"}}})).unwrap();
    for end in 0..bytes.len() {
        let _ = decode(&bytes[..end]);
    }
}
