//! Valid objects of built-in kinds, made of choices.

use schema::{FieldRef, ListKind, Scalar, Shape, TypeRef, builtin};
use serde_json::{Map, Value, json};

use crate::choices::Choices;

/// Kinds with every sort of list, map and union between them.
const KINDS: &[(&str, &str)] = &[
    ("apps/v1", "Deployment"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Node"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "CronJob"),
    ("networking.k8s.io/v1", "Ingress"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("resource.k8s.io/v1", "ResourceClaim"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
];
/// Below this, only what is required.
const DEPTH_MAX: usize = 9;
const ITEMS_MAX: usize = 3;
/// The metadata that clients write.
const METADATA: [&str; 4] = ["annotations", "finalizers", "labels", "ownerReferences"];

pub(crate) type Kind = (&'static str, &'static str, TypeRef<'static>);

pub(crate) fn kind(choices: &mut Choices<'_>) -> Kind {
    let (api_version, kind) = choices.one(KINDS);
    let ty = builtin().type_of_api_version(api_version, kind).expect("the kinds above are built in: tested by every run");
    (api_version, kind, ty)
}

pub(crate) fn object((api_version, kind, ty): Kind, choices: &mut Choices<'_>) -> Value {
    let mut object = members(ty, choices, 0);
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.retain(|name, _| METADATA.contains(&name.as_str()));
    }
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    metadata["name"] = json!("n");
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Value::Object(object)
}

fn members(ty: TypeRef<'_>, choices: &mut Choices<'_>, depth: usize) -> Map<String, Value> {
    let Shape::Object(shape) = ty.shape() else { return Map::new() };
    let mut map = Map::new();
    let is_object = ty.field("metadata").is_some();
    for field in shape.fields() {
        // Inside another object (a claim's template) they have no protobuf form, upstream neither.
        if is_object && matches!(field.name, "apiVersion" | "kind") {
            continue;
        }
        if field.required || (depth < DEPTH_MAX && choices.seldom()) {
            map.insert(field.name.to_owned(), value(field.ty, Some(field), choices, depth + 1));
        }
    }
    map
}

fn value(ty: TypeRef<'_>, field: Option<FieldRef<'_>>, choices: &mut Choices<'_>, depth: usize) -> Value {
    match ty.shape() {
        Shape::Object(_) => Value::Object(members(ty, choices, depth)),
        Shape::Map { value: inner, .. } => {
            let count = 1 + choices.below(ITEMS_MAX);
            Value::Object(
                ["a", "b", "c"][..count].iter().map(|k| ((*k).to_owned(), value(inner, None, choices, depth + 1))).collect(),
            )
        }
        Shape::List { item, kind } => Value::Array(items(item, kind, field, choices, depth)),
        Shape::Scalar(kind) => scalar(kind, choices),
        // This is also a JSON schema, where one is wanted.
        Shape::Any => json!({"description": choices.one(&["a", "b", "c"])}),
    }
}

/// The items of a list: those that are told apart by something differ in it.
fn items(
    item: TypeRef<'_>,
    kind: ListKind<'_>,
    field: Option<FieldRef<'_>>,
    choices: &mut Choices<'_>,
    depth: usize,
) -> Vec<Value> {
    let merge_key = field.and_then(|field| field.patch.merge_key);
    let merged = field.is_some_and(|field| field.patch.merge) && merge_key.is_none();
    let mut items: Vec<Value> = Vec::new();
    for _ in 0..=choices.below(ITEMS_MAX) {
        let mut new = value(item, None, choices, depth + 1);
        let keys = if let ListKind::Map(keys) = kind { keys } else { &[] };
        for key in keys.iter().map(String::as_str).chain(merge_key) {
            if let (None, Some(field)) = (new.get(key), item.field(key)) {
                new[key] = value(field.ty, None, choices, depth + 2);
            }
        }
        let alone = merged || matches!(kind, ListKind::Set);
        let taken = items.iter().any(|known| {
            let same = |key: &str| known.get(key) == new.get(key);
            alone && *known == new || !keys.is_empty() && keys.iter().all(|key| same(key)) || merge_key.is_some_and(same)
        });
        if !taken {
            items.push(new);
        }
    }
    items
}

fn scalar(kind: Scalar, choices: &mut Choices<'_>) -> Value {
    match kind {
        Scalar::String => json!(choices.one(&["a", "b", "c", "TCP"])),
        Scalar::Int32 => json!(choices.one(&[1, 2, -1, i32::MAX])),
        Scalar::Int64 => json!(choices.one(&[1, 2, -1, i64::MAX])),
        Scalar::Float => json!(choices.one(&[0.5, 1.0, -2.25])),
        Scalar::Bool => json!(choices.below(2) == 0),
        Scalar::Bytes => json!(choices.one(&["AA==", "YWJj"])),
        Scalar::Quantity => json!(choices.one(&["1", "100m", "2Gi"])),
        Scalar::Time => json!(choices.one(&["2026-01-02T03:04:05Z", "1969-12-31T23:59:59Z"])),
        Scalar::MicroTime => json!(choices.one(&["2026-01-02T03:04:05.000006Z", "2026-01-02T03:04:05.000000Z"])),
        Scalar::IntOrString => match choices.below(3) {
            0 => json!("50%"),
            number => json!(number),
        },
    }
}
