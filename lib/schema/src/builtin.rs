//! The built-in table and its loader.
//!
//! `data/types.txt` has one line per fact, so that a new release of the API is a readable diff:
//!
//! ```text
//! T api.apps.v1.Deployment                      a type, by full name; `atomic` after it: owned as a whole
//! R apps v1 Deployment deployments N DeploymentList   it is a resource: group, version, kind, plural, scope, list kind
//! spec @api.apps.v1.DeploymentSpec! 2           a field: name, type (`!` required), protobuf number(s), facts
//! ```
//!
//! Types are `s` string, `i` int32, `l` int64, `d` double, `b` bool, `y` bytes, `q` Quantity, `t` Time, `m` MicroTime, `x` IntOrString,
//! `r` RawExtension, `f` FieldsV1, `j` JSON, `A` `B` `S` the three unions of JSON schemas, `@name` an object, `[` a list of, `{` a map of.
//! `1/2` is a path of protobuf numbers: the field lies in an embedded message. Facts: `a` atomic, `s` set, `k=A,B` map list with
//! these keys, `p=STRATEGY[:KEY]` patch strategy and merge key. `data/overlay.txt` explains its own lines.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use crate::resource::{Resource, Subresource, Verb};
use crate::serving::OnRequest;
use crate::types::{AnyKind, Field, ListKindOwned, Node, NodeId, Object, Scalar, Tags, TypeRef, Types};

pub(crate) const TYPES: &str = include_str!("../data/types.txt");
pub(crate) const OVERLAY: &str = include_str!("../data/overlay.txt");

/// Where the types that every group shares are declared.
pub(crate) const META: &str = "apimachinery.pkg.apis.meta.v1";

/// All built-in types and resources.
#[derive(Debug, Default)]
pub struct Builtin {
    /// In the order of discovery: by group, then version, then plural name; those not served by default come last.
    pub resources: Vec<Resource>,
    pub(crate) types: Types,
    /// Group and version to the prefix of their types' names.
    pub(crate) modules: Vec<Module<'static>>,
    pub(crate) on_request: Vec<OnRequest>,
    /// The values of fields that have a closed set of them.
    pub(crate) enums: HashMap<(NodeId, &'static str), Vec<&'static str>>,
    /// Defaults that OpenAPI declares, as JSON.
    pub(crate) defaults: HashMap<(NodeId, &'static str), &'static str>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Module<'m> {
    pub(crate) group: &'m str,
    pub(crate) version: &'m str,
    /// What the names of its types begin with.
    pub(crate) prefix: &'m str,
    pub(crate) served: bool,
}

/// The table of this release.
pub fn builtin() -> &'static Builtin {
    static BUILTIN: LazyLock<Builtin> = LazyLock::new(Loader::load);
    &BUILTIN
}

impl Builtin {
    /// The resource of that group (empty for the core group), version and plural name.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.plural == plural && r.group == group && r.version == version)
    }

    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.kind == kind && r.group == group && r.version == version)
    }

    /// The type of a kind, of its list (`PodList`), of a kind that only subresources have (`Scale`, `Eviction`), or of one that all
    /// groups share (`DeleteOptions`, `Status`, `PartialObjectMetadata`, …).
    pub fn type_of(&self, group: &str, version: &str, kind: &str) -> Option<TypeRef<'_>> {
        let module = self.module(group, version);
        module
            .and_then(|module| self.types.named(&format!("{}.{kind}", module.prefix)))
            .or_else(|| SHARED_KINDS.contains(&kind).then(|| self.types.named(&format!("{META}.{kind}"))).flatten())
    }

    /// The same by `apiVersion`.
    pub fn type_of_api_version(&self, api_version: &str, kind: &str) -> Option<TypeRef<'_>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.type_of(group, version, kind)
    }

    /// The type of `metadata` of every object.
    pub fn object_meta(&self) -> TypeRef<'_> {
        self.types.named("apimachinery.pkg.apis.meta.v1.ObjectMeta").expect("the table has ObjectMeta: tested")
    }

    /// All built-in types.
    pub fn types(&self) -> &Types {
        &self.types
    }

    pub(crate) fn module(&self, group: &str, version: &str) -> Option<&Module<'static>> {
        self.modules.iter().find(|module| module.group == group && module.version == version)
    }
}

/// Kinds that every group and version knows.
const SHARED_KINDS: &[&str] = &[
    "APIGroup",
    "APIGroupList",
    "APIResourceList",
    "APIVersions",
    "CreateOptions",
    "DeleteOptions",
    "PartialObjectMetadata",
    "PartialObjectMetadataList",
    "PatchOptions",
    "Status",
    "UpdateOptions",
    "WatchEvent",
];

/// Reads the table. The files are part of the executable and tested, so a bad line is a bug and panics.
#[derive(Default)]
struct Loader {
    table: Builtin,
    /// Lists and maps that look the same are one node.
    collections: HashMap<(&'static str, &'static str), NodeId>,
    scalars: HashMap<char, NodeId>,
    /// Group, its served versions.
    groups: Vec<(&'static str, Vec<&'static str>)>,
    /// Groups whose objects are another view of a different group's: group, plural.
    views: Vec<(&'static str, &'static str)>,
}

impl Loader {
    fn load() -> Builtin {
        let mut loader = Self::default();
        loader.scalar_nodes();
        for line in lines(TYPES).chain(lines(OVERLAY)) {
            if let Some(rest) = line.strip_prefix("T ") {
                loader.declare(rest);
            } else if let Some(rest) = line.strip_prefix("group ") {
                let mut words = rest.split(' ');
                let group = group_name(words.next().unwrap_or_default());
                loader.groups.push((group, words.collect()));
            }
        }
        let mut current = None;
        for line in lines(TYPES) {
            loader.type_line(line, &mut current);
        }
        let mut overlay = Vec::new();
        current = None;
        for line in lines(OVERLAY) {
            match line.split_once(' ').expect("an overlay line has several words") {
                ("group", _) => {}
                ("on-request", rest) => {
                    let [group, version, gate] = rest.split(' ').collect::<Vec<_>>()[..] else { panic!("bad version: {rest}") };
                    loader.table.on_request.push(OnRequest { group, version, gate });
                }
                (
                    keyword @ ("names" | "sub" | "optional" | "required" | "tag" | "pointer" | "keep" | "enum" | "default"),
                    rest,
                ) => overlay.push((keyword, rest)),
                _ => loader.type_line(line, &mut current),
            }
        }
        loader.list_types();
        for (keyword, rest) in overlay {
            loader.overlay_line(keyword, rest);
        }
        loader.finish()
    }

    fn scalar_nodes(&mut self) {
        for (code, node) in [
            ('s', Node::Scalar(Scalar::String)),
            ('i', Node::Scalar(Scalar::Int32)),
            ('l', Node::Scalar(Scalar::Int64)),
            ('d', Node::Scalar(Scalar::Float)),
            ('b', Node::Scalar(Scalar::Bool)),
            ('y', Node::Scalar(Scalar::Bytes)),
            ('q', Node::Scalar(Scalar::Quantity)),
            ('t', Node::Scalar(Scalar::Time)),
            ('m', Node::Scalar(Scalar::MicroTime)),
            ('x', Node::Scalar(Scalar::IntOrString)),
            ('r', Node::Any(AnyKind::Raw)),
            ('f', Node::Any(AnyKind::Fields)),
            ('j', Node::Any(AnyKind::Json)),
            ('A', Node::Any(AnyKind::SchemaOrArray)),
            ('B', Node::Any(AnyKind::SchemaOrBool)),
            ('S', Node::Any(AnyKind::SchemaOrStrings)),
        ] {
            let id = self.table.types.add(node);
            self.scalars.insert(code, id);
        }
    }

    fn declare(&mut self, rest: &'static str) {
        let (name, atomic) = match rest.strip_suffix(" atomic") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let name = Cow::Borrowed(name);
        // An object without declared fields keeps what it is given.
        let object = Object { name: name.clone(), atomic, ..Object::default() };
        let id = self.table.types.add(Node::Object(object));
        self.table.types.by_name.insert(name, id);
    }

    fn type_line(&mut self, line: &'static str, current: &mut Option<&'static str>) {
        if let Some(rest) = line.strip_prefix("T ") {
            *current = rest.split(' ').next();
        } else if let Some(rest) = line.strip_prefix("R ") {
            self.resource_line(rest, current.expect("a resource follows its type"));
        } else {
            let field = self.field(line);
            let name = current.expect("a field follows its type");
            self.object_mut(name).fields.push(field);
        }
    }

    fn field(&mut self, line: &'static str) -> Field {
        let mut words = line.split(' ');
        let name = words.next().expect("a field has a name");
        let code = words.next().unwrap_or_else(|| panic!("no type: {line}"));
        let (code, required) = match code.strip_suffix('!') {
            Some(code) => (code, true),
            None => (code, false),
        };
        let mut field = Field {
            name: Cow::Borrowed(name),
            node: NodeId(0),
            required,
            pointer: false,
            patch_merge: false,
            patch_retain_keys: false,
            patch_merge_key: None,
            tags: Tags::default(),
        };
        let mut fact = "";
        for word in words {
            if let Some(strategy) = word.strip_prefix("p=") {
                let (strategy, key) = strategy.split_once(':').map_or((strategy, None), |(s, k)| (s, Some(k)));
                field.patch_merge = strategy.split(',').any(|s| s == "merge");
                field.patch_retain_keys = strategy.split(',').any(|s| s == "retainKeys");
                field.patch_merge_key = key.map(Cow::Borrowed);
            } else if word.starts_with(|c: char| c.is_ascii_digit()) {
                field.tags = tags(word).unwrap_or_else(|| panic!("bad numbers: {line}"));
            } else {
                fact = word;
            }
        }
        field.node = self.node(code, fact);
        field
    }

    /// The node of a type's code; the fact is about the outermost list or map.
    fn node(&mut self, code: &'static str, fact: &'static str) -> NodeId {
        if let Some(name) = code.strip_prefix('@') {
            return *self.table.types.by_name.get(name).unwrap_or_else(|| panic!("no such type: {name}"));
        }
        let outer = code.chars().next().expect("a type has a code");
        if !matches!(outer, '[' | '{') {
            return *self.scalars.get(&outer).unwrap_or_else(|| panic!("no such type code: {code}"));
        }
        if let Some(id) = self.collections.get(&(code, fact)) {
            return *id;
        }
        let inner = self.node(&code[1..], "");
        let node = if outer == '[' {
            let kind = match fact {
                "s" => ListKindOwned::Set,
                "" | "a" => ListKindOwned::Atomic,
                _ => ListKindOwned::Map(fact.trim_start_matches("k=").split(',').map(str::to_owned).collect()),
            };
            Node::List { item: inner, kind }
        } else {
            Node::Map { value: inner, atomic: fact == "a" }
        };
        let id = self.table.types.add(node);
        self.collections.insert((code, fact), id);
        id
    }

    fn object_mut(&mut self, name: &str) -> &mut Object {
        let id = *self.table.types.by_name.get(name).unwrap_or_else(|| panic!("no such type: {name}"));
        match &mut self.table.types.nodes[id.0 as usize] {
            Node::Object(object) => object,
            _ => unreachable!("only objects have names"),
        }
    }

    fn resource_line(&mut self, rest: &'static str, type_name: &'static str) {
        let words: Vec<&'static str> = rest.split(' ').collect();
        let [group, version, kind, plural, scope, list_kind @ ..] = words.as_slice() else { panic!("bad resource: {rest}") };
        let group = group_name(group);
        let prefix = type_name.rsplit_once('.').map_or("", |(prefix, _)| prefix);
        let served = self.groups.iter().any(|(name, versions)| *name == group && versions.contains(version));
        if self.table.module(group, version).is_none() {
            self.table.modules.push(Module { group, version, prefix, served });
        }
        let list_kind = list_kind.first().copied().unwrap_or_default().to_owned();
        self.table.resources.push(Resource {
            group: group.to_owned(),
            version: (*version).to_owned(),
            kind: (*kind).to_owned(),
            plural: (*plural).to_owned(),
            singular: kind.to_lowercase(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: *scope == "N",
            list_kind,
            verbs: Verb::ALL.to_vec(),
            subresources: Vec::new(),
            storage_version: false,
            served,
        });
    }

    /// The lists of all kinds, and their status subresources: both follow from rules.
    fn list_types(&mut self) {
        let string = self.scalars[&'s'];
        let list_meta = self.table.types.by_name["apimachinery.pkg.apis.meta.v1.ListMeta"];
        for index in 0..self.table.resources.len() {
            let resource = &self.table.resources[index];
            let prefix = self.table.module(&resource.group, &resource.version).expect("added with the resource").prefix;
            if resource.list_kind.is_empty() {
                continue;
            }
            let item = self.table.types.by_name[format!("{prefix}.{}", resource.kind).as_str()];
            let name: Cow<'static, str> = Cow::Owned(format!("{prefix}.{}", resource.list_kind));
            let has_status = self.table.types.at(item).field("status").is_some();
            let items = self.table.types.add(Node::List { item, kind: ListKindOwned::Atomic });
            let field = |name, node, required, tag: &[u16]| Field {
                name: Cow::Borrowed(name),
                node,
                required,
                pointer: false,
                patch_merge: false,
                patch_retain_keys: false,
                patch_merge_key: None,
                tags: Tags::new(tag).unwrap_or_default(),
            };
            let object = Object {
                name: name.clone(),
                fields: vec![
                    field("apiVersion", string, false, &[]),
                    field("items", items, true, &[2]),
                    field("kind", string, false, &[]),
                    field("metadata", list_meta, false, &[1]),
                ],
                ..Object::default()
            };
            let id = self.table.types.add(Node::Object(object));
            self.table.types.by_name.insert(name, id);
            if has_status {
                let resource = &mut self.table.resources[index];
                resource.subresources.push(Subresource {
                    name: "status".to_owned(),
                    group: resource.group.clone(),
                    version: resource.version.clone(),
                    kind: resource.kind.clone(),
                    verbs: vec![Verb::Get, Verb::Patch, Verb::Update],
                });
            }
        }
    }

    fn overlay_line(&mut self, keyword: &str, rest: &'static str) {
        let mut words = rest.split(' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("too short: {keyword} {rest}"));
        match keyword {
            "names" => {
                let (group, plural) = (group_name(word()), word());
                let facts: Vec<&'static str> = words.collect();
                self.names(group, plural, &facts);
            }
            "sub" => {
                let (group_version, plural, name, kind, verbs) = (word(), word(), word(), word(), word());
                self.subresource(group_version, plural, name, kind, verbs);
            }
            "default" => {
                let (name, field) = (word(), word());
                let json = rest.splitn(3, ' ').nth(2).unwrap_or_default();
                let id = self.table.types.by_name[name];
                self.table.defaults.insert((id, field), json);
            }
            "enum" => {
                let (name, field) = (word(), word());
                let id = self.table.types.by_name[name];
                let values = words.map(|value| if value == "\"\"" { "" } else { value }).collect();
                self.table.enums.insert((id, field), values);
            }
            "tag" => {
                let (name, field, number) = (word(), word(), word());
                self.field_mut(name, field).tags = tags(number).unwrap_or_else(|| panic!("bad number: {rest}"));
            }
            _ => {
                let name = word();
                for field in words {
                    let field = self.field_mut(name, field);
                    match keyword {
                        "optional" => field.required = false,
                        "required" => field.required = true,
                        _ => field.pointer = true,
                    }
                }
            }
        }
    }

    fn field_mut(&mut self, name: &str, field: &str) -> &mut Field {
        let object = self.object_mut(name);
        object.fields.iter_mut().find(|f| f.name == field).unwrap_or_else(|| panic!("{name} has no field {field}"))
    }

    fn names(&mut self, group: &'static str, plural: &'static str, facts: &[&'static str]) {
        for fact in facts {
            let (key, value) = fact.split_once('=').unwrap_or_else(|| panic!("bad fact: {fact}"));
            let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
            if key == "stored" {
                self.views.push((group, plural));
                continue;
            }
            for resource in self.table.resources.iter_mut().filter(|r| r.group == group && r.plural == plural) {
                match key {
                    "short" => resource.short_names = list(),
                    "categories" => resource.categories = list(),
                    "verbs" => resource.verbs = verbs(value),
                    "singular" => resource.singular = value.to_owned(),
                    _ => panic!("unknown fact: {fact}"),
                }
            }
        }
    }

    fn subresource(&mut self, group_version: &str, plural: &str, name: &str, kind: &str, verb_list: &str) {
        let (group, version) = group_version.split_once('/').expect("GROUP/VERSION");
        let group = group_name(group);
        let (sub_group, sub_version, kind) = match kind.rsplit_once('.') {
            Some((group_version, kind)) => {
                let (group, version) = group_version.split_once('/').expect("GROUP/VERSION.KIND");
                (group_name(group), version, kind)
            }
            None => (group, version, kind),
        };
        let subresource = Subresource {
            name: name.to_owned(),
            group: sub_group.to_owned(),
            version: sub_version.to_owned(),
            kind: kind.to_owned(),
            verbs: verbs(verb_list),
        };
        let resource = self
            .table
            .resources
            .iter_mut()
            .find(|r| r.plural == plural && r.group == group && r.version == version)
            .unwrap_or_else(|| panic!("no such resource: {group_version} {plural}"));
        resource.subresources.push(subresource);
        resource.subresources.sort_by(|a, b| a.name.cmp(&b.name));
    }

    fn finish(mut self) -> Builtin {
        for node in &mut self.table.types.nodes {
            if let Node::Object(object) = node {
                object.sort();
            }
        }
        let groups = self.groups;
        let rank = |group: &str, version: &str| {
            groups.iter().enumerate().find(|(_, (name, _))| *name == group).map_or((usize::MAX, 0), |(index, (_, served))| {
                (index, served.iter().position(|v| *v == version).unwrap_or(usize::MAX))
            })
        };
        let table = &mut self.table;
        table.modules.sort_by_key(|module| (!module.served, rank(module.group, module.version)));
        table.resources.sort_by_cached_key(|r| {
            (!r.served, rank(&r.group, &r.version), r.group.clone(), r.version.clone(), r.plural.clone())
        });
        // The preferred version is the stored one: the first of its group that is served and has the resource.
        for index in 0..table.resources.len() {
            let (before, rest) = table.resources.split_at_mut(index);
            let resource = &mut rest[0];
            let first = !before.iter().any(|r| r.group == resource.group && r.plural == resource.plural);
            let view = self.views.iter().any(|(group, plural)| *group == resource.group && *plural == resource.plural);
            resource.storage_version = first && !view;
        }
        self.table
    }
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn group_name(word: &str) -> &str {
    if word == "core" { "" } else { word }
}

fn tags(word: &str) -> Option<Tags> {
    let path = word.split('/').map(str::parse).collect::<Result<Vec<u16>, _>>().ok()?;
    Tags::new(&path)
}

fn verbs(list: &str) -> Vec<Verb> {
    if list == "gpu" {
        return vec![Verb::Get, Verb::Patch, Verb::Update];
    }
    list.split(',').map(|verb| Verb::parse(verb).unwrap_or_else(|| panic!("no such verb: {verb}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ListKind, Shape};

    #[test]
    fn every_served_kind_is_there() {
        let served = builtin().resources.iter().filter(|r| r.served).count();
        assert_eq!(served, 68);
        for resource in &builtin().resources {
            assert!(builtin().type_of(&resource.group, &resource.version, &resource.kind).is_some(), "{resource:?}");
            if !resource.list_kind.is_empty() {
                assert!(builtin().type_of(&resource.group, &resource.version, &resource.list_kind).is_some(), "{resource:?}");
            }
        }
    }

    #[test]
    fn resources_have_their_facts() {
        let deployments = builtin().resource("apps", "v1", "deployments").unwrap();
        assert_eq!(deployments.kind, "Deployment");
        assert_eq!(deployments.short_names, ["deploy"]);
        assert_eq!(deployments.categories, ["all"]);
        assert_eq!(deployments.subresources.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["scale", "status"]);
        assert!(deployments.namespaced && deployments.served && deployments.storage_version);
        let reviews = builtin().resource("authentication.k8s.io", "v1", "tokenreviews").unwrap();
        assert_eq!(reviews.verbs, [Verb::Create]);
        assert!(reviews.subresources.is_empty());
        let hpa = |version| builtin().resource("autoscaling", version, "horizontalpodautoscalers").unwrap();
        assert!(hpa("v2").storage_version && !hpa("v1").storage_version);
        assert!(!builtin().resource("events.k8s.io", "v1", "events").unwrap().storage_version);
    }

    #[test]
    fn fields_have_their_facts() {
        let service = builtin().type_of("", "v1", "Service").unwrap();
        let ports = service.field("spec").unwrap().ty.field("ports").unwrap();
        assert_eq!(ports.patch.merge_key, Some("port"));
        let Shape::List { item, kind: ListKind::Map(keys) } = ports.ty.shape() else { panic!("{:?}", ports.ty) };
        assert_eq!(keys, ["port", "protocol"]);
        assert!(item.field("port").unwrap().required);
        let selector = builtin().type_of("apps", "v1", "Deployment").unwrap().field("spec").unwrap().ty;
        let Shape::Object(shape) = selector.field("selector").unwrap().ty.shape() else { panic!("{selector:?}") };
        assert!(shape.atomic);
    }

    /// Every key of a map list is a field of its items; every field number is used once.
    #[test]
    fn the_table_is_consistent() {
        let types = &builtin().types;
        for node in &types.nodes {
            match node {
                Node::List { item, kind: ListKindOwned::Map(keys) } => {
                    for key in keys {
                        assert!(types.at(*item).field(key).is_some(), "{:?} has no key {key}", types.at(*item));
                    }
                }
                Node::Object(object) => {
                    let mut numbers: Vec<&[u16]> = object.fields.iter().map(|f| f.tags.path()).collect();
                    numbers.retain(|path| !path.is_empty());
                    let all = numbers.len();
                    numbers.sort();
                    numbers.dedup();
                    assert_eq!(numbers.len(), all, "{} uses a number twice", object.name);
                }
                _ => {}
            }
        }
    }
}
