//! Paths: the operations of the resources of one group and version.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Dialect, Sink, module_path, schemas};
use crate::builtin::{META, Module, builtin};
use crate::{Resource, Subresource, Verb};

const MEDIA_TYPES: &[&str] = &["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
const CUSTOM_MEDIA_TYPES: &[&str] = &["application/json", "application/yaml"];
const CUSTOM_PATCH_TYPES: &[&str] =
    &["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"];
const PATCH_TYPES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Hands each path to the sink, and notes the types that they name.
pub(super) fn write(sink: &mut Sink<'_>, dialect: Dialect, module: &Module<'_>, roots: &mut BTreeSet<String>) {
    let mut writer = Writer { dialect, module, roots };
    let base = format!("/{}", module_path(module));
    let discovery = writer.discovery();
    sink(&format!("{base}/"), &json!({"get": discovery}));
    let resources = builtin().resources.iter();
    for resource in resources.filter(|r| r.group == module.group && r.version == module.version) {
        for (path, item) in writer.resource(&base, resource) {
            sink(&path, &item);
        }
    }
}

/// The same for one resource of a module that is not in the table.
pub(super) fn write_resource(
    sink: &mut Sink<'_>,
    dialect: Dialect,
    module: &Module<'_>,
    resource: &Resource,
    roots: &mut BTreeSet<String>,
) {
    let mut writer = Writer { dialect, module, roots };
    for (path, item) in writer.resource(&format!("/{}", module_path(module)), resource) {
        sink(&path, &item);
    }
}

struct Writer<'a> {
    dialect: Dialect,
    module: &'a Module<'a>,
    roots: &'a mut BTreeSet<String>,
}

/// One operation, before it is written in a dialect.
struct Operation<'a> {
    id: String,
    action: &'a str,
    /// Group, version, kind.
    kind: (&'a str, &'a str, &'a str),
    description: String,
    parameters: &'a [(&'a str, &'a str)],
    /// The type of the body and the media types it is taken in.
    body: Option<(String, &'a [&'a str], bool)>,
    /// Codes and the type of the answer; none is text.
    responses: &'a [u16],
    answer: Option<String>,
}

const READ: &[(&str, &str)] = &[];
const WRITE: &[(&str, &str)] = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const LIST: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const DELETE_COLLECTION: &[(&str, &str)] = &[
    ("continue", "string"),
    ("dryRun", "string"),
    ("fieldSelector", "string"),
    ("gracePeriodSeconds", "integer"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
];
/// What the streaming and proxy subresources take in the query.
const CONNECT: &[(&str, &[(&str, &str)])] = &[
    (
        "attach",
        &[("container", "string"), ("stderr", "boolean"), ("stdin", "boolean"), ("stdout", "boolean"), ("tty", "boolean")],
    ),
    (
        "exec",
        &[
            ("command", "string"),
            ("container", "string"),
            ("stderr", "boolean"),
            ("stdin", "boolean"),
            ("stdout", "boolean"),
            ("tty", "boolean"),
        ],
    ),
    (
        "log",
        &[
            ("container", "string"),
            ("follow", "boolean"),
            ("insecureSkipTLSVerifyBackend", "boolean"),
            ("limitBytes", "integer"),
            ("previous", "boolean"),
            ("sinceSeconds", "integer"),
            ("stream", "string"),
            ("tailLines", "integer"),
            ("timestamps", "boolean"),
        ],
    ),
    ("portforward", &[("ports", "integer")]),
    ("proxy", &[("path", "string")]),
];

impl Writer<'_> {
    fn discovery(&mut self) -> Value {
        let id = format!("get{}APIResources", self.group_camel());
        let answer = Some(format!("{META}.APIResourceList"));
        let mut operation = self.operation(Operation {
            id,
            action: "",
            kind: ("", "", ""),
            description: "get available resources".to_owned(),
            parameters: READ,
            body: None,
            responses: &[200],
            answer,
        });
        if let Value::Object(operation) = &mut operation {
            operation.remove("x-kubernetes-action");
            operation.remove("x-kubernetes-group-version-kind");
        }
        operation
    }

    /// The paths of one resource: of the collection, of an object, of its subresources.
    fn resource(&mut self, base: &str, resource: &Resource) -> Vec<(String, Value)> {
        let kind = resource.kind.as_str();
        let gvk = (resource.group.as_str(), resource.version.as_str(), kind);
        let type_name = format!("{}.{kind}", self.module.prefix);
        let list_name = format!("{}.{}", self.module.prefix, resource.list_kind);
        let status = format!("{META}.Status");
        let scope = if resource.namespaced { "Namespaced" } else { "" };
        let group = self.group_camel();
        let collection = if resource.namespaced {
            format!("{base}/namespaces/{{namespace}}/{}", resource.plural)
        } else {
            format!("{base}/{}", resource.plural)
        };
        let mut paths = Vec::new();
        let mut item = self.path_item(resource.namespaced, None);
        let mut object = self.path_item(resource.namespaced, Some(kind));
        for verb in &resource.verbs {
            let (target, method, operation) = match verb {
                Verb::List => (
                    &mut item,
                    "get",
                    Operation {
                        id: format!("list{group}{scope}{kind}"),
                        action: "list",
                        kind: gvk,
                        description: format!("list or watch objects of kind {kind}"),
                        parameters: LIST,
                        body: None,
                        responses: &[200],
                        answer: Some(list_name.clone()),
                    },
                ),
                Verb::Create => (
                    &mut item,
                    "post",
                    Operation {
                        id: format!("create{group}{scope}{kind}"),
                        action: "post",
                        kind: gvk,
                        description: format!("create {} {kind}", article(kind)),
                        parameters: WRITE,
                        body: Some((type_name.clone(), &["*/*"], true)),
                        responses: &[200, 201, 202],
                        answer: Some(type_name.clone()),
                    },
                ),
                Verb::DeleteCollection => (
                    &mut item,
                    "delete",
                    Operation {
                        id: format!("delete{group}Collection{scope}{kind}"),
                        action: "deletecollection",
                        kind: gvk,
                        description: format!("delete collection of {kind}"),
                        parameters: DELETE_COLLECTION,
                        body: Some((format!("{META}.DeleteOptions"), &["*/*"], false)),
                        responses: &[200],
                        answer: Some(status.clone()),
                    },
                ),
                Verb::Get => (&mut object, "get", self.read(&format!("read{group}{scope}{kind}"), gvk, &type_name)),
                Verb::Update => (&mut object, "put", self.replace(&format!("replace{group}{scope}{kind}"), gvk, &type_name)),
                Verb::Patch => (&mut object, "patch", self.patch(&format!("patch{group}{scope}{kind}"), gvk, &type_name)),
                Verb::Delete => (
                    &mut object,
                    "delete",
                    Operation {
                        id: format!("delete{group}{scope}{kind}"),
                        action: "delete",
                        kind: gvk,
                        description: format!("delete {} {kind}", article(kind)),
                        parameters: DELETE,
                        body: Some((format!("{META}.DeleteOptions"), &["*/*"], false)),
                        responses: &[200, 202],
                        answer: Some(status.clone()),
                    },
                ),
                Verb::Watch => continue,
            };
            target.insert(method.to_owned(), self.operation(operation));
        }
        if resource.namespaced && resource.has_verb(Verb::List) {
            let mut all = Map::new();
            let list = Operation {
                id: format!("list{group}{kind}ForAllNamespaces"),
                action: "list",
                kind: gvk,
                description: format!("list or watch objects of kind {kind}"),
                parameters: LIST,
                body: None,
                responses: &[200],
                answer: Some(list_name),
            };
            all.insert("get".to_owned(), self.operation(list));
            paths.push((format!("{base}/{}", resource.plural), Value::Object(all)));
        }
        let has_object = resource.has_verb(Verb::Get);
        paths.push((collection.clone(), Value::Object(item)));
        if has_object {
            paths.push((format!("{collection}/{{name}}"), Value::Object(object)));
        }
        for sub in &resource.subresources {
            let path = format!("{collection}/{{name}}/{}", sub.name);
            if sub.name == "proxy" {
                let mut rest = self.subresource(resource, sub);
                self.add_parameter(&mut rest, "path");
                paths.push((format!("{path}/{{path}}"), Value::Object(rest)));
            }
            paths.push((path, Value::Object(self.subresource(resource, sub))));
        }
        paths
    }

    fn subresource(&mut self, resource: &Resource, sub: &Subresource) -> Map<String, Value> {
        let mut item = self.path_item(resource.namespaced, Some(&resource.kind));
        let group = self.group_camel();
        let scope = if resource.namespaced { "Namespaced" } else { "" };
        let name = format!("{group}{scope}{}{}", resource.kind, camel(&sub.name));
        let gvk = (sub.group.as_str(), sub.version.as_str(), sub.kind.as_str());
        let connect = CONNECT.iter().find(|(connect, _)| *connect == sub.name).map(|(_, parameters)| *parameters);
        if let Some(parameters) = connect {
            let methods: &[&str] = match sub.name.as_str() {
                "log" => &["get"],
                "proxy" => &["delete", "get", "head", "options", "patch", "post", "put"],
                _ => &["get", "post"],
            };
            for method in methods {
                let (id, action) = match sub.name.as_str() {
                    "log" => (format!("read{name}"), "get"),
                    _ => (format!("connect{group}{}{scope}{}{}", camel(method), resource.kind, camel(&sub.name)), "connect"),
                };
                let operation = Operation {
                    id,
                    action,
                    kind: gvk,
                    description: format!("connect {} requests to {} of {}", method.to_uppercase(), sub.name, resource.kind),
                    parameters,
                    body: None,
                    responses: &[200],
                    answer: None,
                };
                item.insert((*method).to_owned(), self.operation(operation));
            }
            return item;
        }
        let ty = builtin().type_of(&sub.group, &sub.version, &sub.kind).map(|ty| ty.name().to_owned());
        // The parts of a custom resource are written as the whole is.
        let own = || (sub.kind == resource.kind && self.is_custom()).then(|| format!("{}.{}", self.module.prefix, sub.kind));
        let Some(ty) = ty.or_else(own) else { return item };
        for verb in &sub.verbs {
            let (method, operation) = match verb {
                Verb::Get => ("get", self.read(&format!("read{name}"), gvk, &ty)),
                Verb::Update => ("put", self.replace(&format!("replace{name}"), gvk, &ty)),
                Verb::Patch => ("patch", self.patch(&format!("patch{name}"), gvk, &ty)),
                _ => (
                    "post",
                    Operation {
                        id: format!("create{name}"),
                        action: "post",
                        kind: gvk,
                        description: format!("create {} of {} {}", sub.name, article(&resource.kind), resource.kind),
                        parameters: WRITE,
                        body: Some((ty.clone(), &["*/*"], true)),
                        responses: &[200, 201, 202],
                        answer: Some(ty.clone()),
                    },
                ),
            };
            item.insert(method.to_owned(), self.operation(operation));
        }
        item
    }

    fn is_custom(&self) -> bool {
        self.module.prefix.starts_with('.')
    }

    fn media_types(&self) -> &'static [&'static str] {
        if self.is_custom() { CUSTOM_MEDIA_TYPES } else { MEDIA_TYPES }
    }

    fn read<'a>(&self, id: &str, kind: (&'a str, &'a str, &'a str), ty: &str) -> Operation<'a> {
        Operation {
            id: id.to_owned(),
            action: "get",
            kind,
            description: format!("read the specified {}", kind.2),
            parameters: READ,
            body: None,
            responses: &[200],
            answer: Some(ty.to_owned()),
        }
    }

    fn replace<'a>(&self, id: &str, kind: (&'a str, &'a str, &'a str), ty: &str) -> Operation<'a> {
        Operation {
            id: id.to_owned(),
            action: "put",
            kind,
            description: format!("replace the specified {}", kind.2),
            parameters: WRITE,
            body: Some((ty.to_owned(), &["*/*"], true)),
            responses: &[200, 201],
            answer: Some(ty.to_owned()),
        }
    }

    fn patch<'a>(&self, id: &str, kind: (&'a str, &'a str, &'a str), ty: &str) -> Operation<'a> {
        Operation {
            id: id.to_owned(),
            action: "patch",
            kind,
            description: format!("partially update the specified {}", kind.2),
            parameters: PATCH,
            body: Some((format!("{META}.Patch"), if self.is_custom() { CUSTOM_PATCH_TYPES } else { PATCH_TYPES }, true)),
            responses: &[200, 201],
            answer: Some(ty.to_owned()),
        }
    }

    fn operation(&mut self, operation: Operation<'_>) -> Value {
        let Operation { id, action, kind: (group, version, kind), description, parameters, body, responses, answer } = operation;
        self.roots.extend(answer.iter().cloned());
        self.roots.extend(body.iter().map(|(name, ..)| name.clone()));
        let mut parameters: Vec<Value> = parameters.iter().map(|(name, ty)| self.parameter(name, "query", ty)).collect();
        let schema = |name: &Option<String>| match name {
            Some(name) => schemas::reference(self.dialect, name),
            None => json!({"type": "string"}),
        };
        let answer = schema(&answer);
        let mut answers = Map::new();
        for code in responses {
            let description = match code {
                201 => "Created",
                202 => "Accepted",
                _ => "OK",
            };
            let response = match self.dialect {
                Dialect::V2 => json!({"description": description, "schema": answer}),
                Dialect::V3 => {
                    let content: Map<String, Value> =
                        self.media_types().iter().map(|media| ((*media).to_owned(), json!({"schema": answer}))).collect();
                    json!({"description": description, "content": content})
                }
            };
            answers.insert(code.to_string(), response);
        }
        answers.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        let mut value = json!({
            "description": description,
            "operationId": id,
            "tags": [self.tag()],
            "responses": answers,
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        if let Some((name, media, required)) = body {
            let schema = schemas::reference(self.dialect, &name);
            match self.dialect {
                Dialect::V2 => {
                    value["consumes"] = json!(media);
                    let mut parameter = json!({"name": "body", "in": "body", "schema": schema});
                    if required {
                        parameter["required"] = json!(true);
                    }
                    parameters.insert(0, parameter);
                }
                Dialect::V3 => {
                    let content: Map<String, Value> =
                        media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect();
                    value["requestBody"] = json!({"content": content, "required": required});
                }
            }
        }
        if self.dialect == Dialect::V2 {
            value["produces"] = json!(self.media_types());
            value["schemes"] = json!(["https"]);
        }
        if !parameters.is_empty() {
            value["parameters"] = json!(parameters);
        }
        value
    }

    /// A path with the parameters that all of its operations take.
    fn path_item(&self, namespaced: bool, name_of: Option<&str>) -> Map<String, Value> {
        let mut parameters = Vec::new();
        if name_of.is_some() {
            parameters.push(self.parameter("name", "path", "string"));
        }
        if namespaced {
            parameters.push(self.parameter("namespace", "path", "string"));
        }
        parameters.push(self.parameter("pretty", "query", "string"));
        Map::from_iter([("parameters".to_owned(), Value::Array(parameters))])
    }

    fn add_parameter(&self, item: &mut Map<String, Value>, name: &str) {
        let parameter = self.parameter(name, "path", "string");
        if let Some(Value::Array(parameters)) = item.get_mut("parameters") {
            parameters.push(parameter);
        }
    }

    fn parameter(&self, name: &str, place: &str, ty: &str) -> Value {
        let mut parameter = json!({"name": name, "in": place});
        if place == "path" {
            parameter["required"] = json!(true);
        }
        match self.dialect {
            Dialect::V2 => {
                parameter["type"] = json!(ty);
                parameter["uniqueItems"] = json!(true);
            }
            Dialect::V3 => parameter["schema"] = json!({"type": ty, "uniqueItems": true}),
        }
        parameter
    }

    /// `AppsV1`, `RbacAuthorizationV1`
    fn group_camel(&self) -> String {
        let group = group_words(self.module.group);
        format!("{}{}", group.iter().map(|word| camel(word)).collect::<String>(), camel(self.module.version))
    }

    /// `apps_v1`, `rbacAuthorization_v1`
    fn tag(&self) -> String {
        let group = group_words(self.module.group);
        let words = group.iter().enumerate();
        let camel: String = words.map(|(index, word)| if index == 0 { (*word).to_owned() } else { camel(word) }).collect();
        format!("{camel}_{}", self.module.version)
    }
}

fn group_words(group: &str) -> Vec<&str> {
    match group {
        "" => vec!["core"],
        group => group.trim_end_matches(".k8s.io").split('.').collect(),
    }
}

fn camel(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" }
}
