//! The v2 document in protobuf, as gnostic's `OpenAPIv2.proto` lays it out. Extensions travel as YAML texts, of which JSON is one.

use serde_json::Value;

use crate::proto::ProtoError;
use crate::proto::wire::{put_bytes, put_fixed64, put_message, put_number};

/// A document in the making. Paths come before definitions, as their numbers do.
pub(super) struct Document {
    out: Vec<u8>,
    paths: Paths,
    definitions: Definitions,
}

#[derive(Default)]
pub(super) struct Paths(Vec<u8>);

#[derive(Default)]
pub(super) struct Definitions(Vec<u8>);

impl Paths {
    pub(super) fn add(&mut self, name: &str, item: &Value) {
        nested(&mut self.0, 2, |out| {
            put_text(out, 1, name);
            nested(out, 2, |out| path_item(out, item));
        });
    }
}

impl Definitions {
    pub(super) fn add(&mut self, name: &str, value: &Value) {
        named_schema(&mut self.0, 1, name, value);
    }
}

impl Document {
    pub(super) fn new(version: &str) -> Self {
        let mut out = Vec::new();
        put_text(&mut out, 1, "2.0");
        nested(&mut out, 2, |out| {
            put_text(out, 1, "Kubernetes");
            put_text(out, 2, version);
        });
        Self { out, paths: Paths::default(), definitions: Definitions::default() }
    }

    /// What it is made of, each to be added to on its own.
    pub(super) fn parts(&mut self) -> (&mut Paths, &mut Definitions) {
        (&mut self.paths, &mut self.definitions)
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        put_bytes(&mut self.out, 8, &self.paths.0);
        put_bytes(&mut self.out, 9, &self.definitions.0);
        let requirement = |out: &mut Vec<u8>| {
            nested(out, 1, |out| {
                put_text(out, 1, "BearerToken");
                nested(out, 2, |_| {});
            });
        };
        nested(&mut self.out, 12, requirement);
        nested(&mut self.out, 13, |out| {
            nested(out, 1, |out| {
                put_text(out, 1, "BearerToken");
                nested(out, 2, |out| {
                    nested(out, 2, |out| {
                        put_text(out, 1, "apiKey");
                        put_text(out, 2, "authorization");
                        put_text(out, 3, "header");
                        put_text(out, 4, "Bearer Token authentication");
                    });
                });
            });
        });
        self.out
    }
}

fn path_item(out: &mut Vec<u8>, item: &Value) {
    const METHODS: &[(&str, u16)] =
        &[("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8)];
    for (method, number) in METHODS {
        if let Some(value) = item.get(method) {
            nested(out, *number, |out| operation(out, value));
        }
    }
    parameters(out, 9, &item["parameters"]);
}

fn operation(out: &mut Vec<u8>, value: &Value) {
    put_texts(out, 1, &value["tags"]);
    put_field(out, 3, &value["description"]);
    put_field(out, 5, &value["operationId"]);
    put_texts(out, 6, &value["produces"]);
    put_texts(out, 7, &value["consumes"]);
    parameters(out, 8, &value["parameters"]);
    nested(out, 9, |out| {
        for (code, response) in value["responses"].as_object().into_iter().flatten() {
            nested(out, 1, |out| {
                put_text(out, 1, code);
                nested(out, 2, |out| {
                    nested(out, 1, |out| {
                        put_field(out, 1, &response["description"]);
                        if let Some(value) = response.get("schema") {
                            nested(out, 2, |out| nested(out, 1, |out| schema(out, value)));
                        }
                    });
                });
            });
        }
    });
    put_texts(out, 10, &value["schemes"]);
    extensions(out, 13, value);
}

fn parameters(out: &mut Vec<u8>, number: u16, all: &Value) {
    for parameter in all.as_array().into_iter().flatten() {
        nested(out, number, |out| nested(out, 1, |out| self::parameter(out, parameter)));
    }
}

fn parameter(out: &mut Vec<u8>, value: &Value) {
    let required = value["required"] == true;
    match value["in"].as_str() {
        Some("body") => nested(out, 1, |out| {
            put_field(out, 2, &value["name"]);
            put_field(out, 3, &value["in"]);
            put_truth(out, 4, required);
            nested(out, 5, |out| schema(out, &value["schema"]));
        }),
        Some("path") => nested(out, 2, |out| {
            nested(out, 4, |out| {
                put_truth(out, 1, required);
                put_field(out, 2, &value["in"]);
                put_field(out, 4, &value["name"]);
                put_field(out, 5, &value["type"]);
                put_truth(out, 19, value["uniqueItems"] == true);
            });
        }),
        _ => nested(out, 2, |out| {
            nested(out, 3, |out| {
                put_truth(out, 1, required);
                put_field(out, 2, &value["in"]);
                put_field(out, 4, &value["name"]);
                put_field(out, 6, &value["type"]);
                put_truth(out, 20, value["uniqueItems"] == true);
            });
        }),
    }
}

fn named_schema(out: &mut Vec<u8>, number: u16, name: &str, value: &Value) {
    nested(out, number, |out| {
        put_text(out, 1, name);
        nested(out, 2, |out| schema(out, value));
    });
}

fn schema(out: &mut Vec<u8>, value: &Value) {
    put_field(out, 1, &value["$ref"]);
    put_field(out, 2, &value["format"]);
    put_field(out, 3, &value["title"]);
    put_field(out, 4, &value["description"]);
    if let Some(default) = value.get("default") {
        nested(out, 5, |out| put_text(out, 2, &default.to_string()));
    }
    for (name, number) in [("multipleOf", 6), ("maximum", 7), ("minimum", 9)] {
        if let Some(bound) = value[name].as_f64() {
            put_fixed64(out, number, bound.to_bits());
        }
    }
    for (name, number) in
        [("maxLength", 11), ("minLength", 12), ("maxItems", 14), ("minItems", 15), ("maxProperties", 17), ("minProperties", 18)]
    {
        if let Some(bound) = value[name].as_u64() {
            put_number(out, number, bound);
        }
    }
    put_field(out, 13, &value["pattern"]);
    put_texts(out, 19, &value["required"]);
    for allowed in value["enum"].as_array().into_iter().flatten() {
        nested(out, 20, |out| put_text(out, 2, &allowed.to_string()));
    }
    if let Some(inner) = value.get("additionalProperties") {
        nested(out, 21, |out| match inner.as_bool() {
            Some(allowed) => put_number(out, 2, u64::from(allowed)),
            None => nested(out, 1, |out| schema(out, inner)),
        });
    }
    if let Some(kind) = value["type"].as_str() {
        nested(out, 22, |out| put_text(out, 1, kind));
    }
    if let Some(items) = value.get("items") {
        nested(out, 23, |out| nested(out, 1, |out| schema(out, items)));
    }
    if let Some(properties) = value["properties"].as_object() {
        nested(out, 25, |out| {
            for (name, property) in properties {
                named_schema(out, 1, name, property);
            }
        });
    }
    extensions(out, 31, value);
}

fn extensions(out: &mut Vec<u8>, number: u16, value: &Value) {
    for (name, extension) in value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-")) {
        nested(out, number, |out| {
            put_text(out, 1, name);
            nested(out, 2, |out| put_text(out, 2, &extension.to_string()));
        });
    }
}

fn nested(out: &mut Vec<u8>, number: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let written: Result<(), ProtoError> = put_message(out, number, |out| {
        body(out);
        Ok(())
    });
    debug_assert!(written.is_ok(), "a body that cannot fail");
}

fn put_text(out: &mut Vec<u8>, number: u16, text: &str) {
    put_bytes(out, number, text.as_bytes());
}

fn put_field(out: &mut Vec<u8>, number: u16, value: &Value) {
    if let Some(text) = value.as_str() {
        put_text(out, number, text);
    }
}

fn put_texts(out: &mut Vec<u8>, number: u16, values: &Value) {
    for value in values.as_array().into_iter().flatten() {
        put_field(out, number, value);
    }
}

fn put_truth(out: &mut Vec<u8>, number: u16, truth: bool) {
    if truth {
        put_number(out, number, 1);
    }
}
