//! Types as data: an arena of nodes (objects, maps, lists, scalars) and a cheap cursor over it.
//!
//! Built-in types and the structural schemas of CustomResourceDefinitions compile into the same arena, so that
//! unknown-field detection, patches, server-side apply and transcoding are one engine for both.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// Text that is borrowed from the embedded table for built-in types and owned for CRDs.
pub(crate) type Name = Cow<'static, str>;

/// Index of a node in its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(pub(crate) u32);

/// An arena of types.
#[derive(Debug, Default)]
pub struct Types {
    pub(crate) nodes: Vec<Node>,
    pub(crate) by_name: HashMap<Name, NodeId>,
}

#[derive(Debug)]
pub(crate) enum Node {
    Object(Object),
    Map { value: NodeId, atomic: bool },
    List { item: NodeId, kind: ListKindOwned },
    Scalar(Scalar),
    Any(AnyKind),
}

#[derive(Debug, Default)]
pub(crate) struct Object {
    pub(crate) name: Name,
    /// Sorted by name.
    pub(crate) fields: Vec<Field>,
    /// Indices of the fields that have a protobuf form, sorted by their numbers.
    pub(crate) by_tag: Vec<u16>,
    pub(crate) atomic: bool,
    pub(crate) preserve_unknown: bool,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: Name,
    pub(crate) node: NodeId,
    pub(crate) required: bool,
    /// The scalar is a pointer in the reference types: an explicit zero value differs from an absent one.
    pub(crate) pointer: bool,
    pub(crate) patch_merge: bool,
    pub(crate) patch_retain_keys: bool,
    pub(crate) patch_merge_key: Option<Name>,
    pub(crate) tags: Tags,
}

/// The protobuf field numbers that lead from the object's message to the field: more than one where the message
/// embeds another whose members belong to the object in JSON. Empty when the field has no protobuf form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tags([u16; 3]);

impl Tags {
    pub(crate) fn new(path: &[u16]) -> Option<Self> {
        let mut tags = [0; 3];
        tags.get_mut(..path.len())?.copy_from_slice(path);
        Some(Self(tags))
    }

    pub(crate) fn path(&self) -> &[u16] {
        let end = self.0.iter().position(|tag| *tag == 0).unwrap_or(self.0.len());
        &self.0[..end]
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ListKindOwned {
    Atomic,
    Set,
    Map(Vec<String>),
}

/// What a free-form value is: they differ on the protobuf wire and in OpenAPI only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AnyKind {
    /// `runtime.RawExtension`: an object.
    Raw,
    /// `metav1.FieldsV1`: an object.
    Fields,
    /// `apiextensions.JSON`: any JSON value.
    Json,
    /// `apiextensions.JSONSchemaPropsOrArray`, `…OrBool`, `…OrStringArray`.
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
}

/// The scalars of the API. `Quantity` and `IntOrString` accept JSON numbers and strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    String,
    Int32,
    Int64,
    Float,
    Bool,
    Bytes,
    Quantity,
    Time,
    MicroTime,
    IntOrString,
}

/// A cursor at one type. Copying it is free.
#[derive(Clone, Copy)]
pub struct TypeRef<'a> {
    pub(crate) types: &'a Types,
    pub(crate) node: NodeId,
}

/// What a type looks like in JSON.
#[derive(Clone, Copy, Debug)]
pub enum Shape<'a> {
    Object(ObjectShape<'a>),
    Map { value: TypeRef<'a>, atomic: bool },
    List { item: TypeRef<'a>, kind: ListKind<'a> },
    Scalar(Scalar),
    Any,
}

/// An object with declared fields.
#[derive(Clone, Copy)]
pub struct ObjectShape<'a> {
    types: &'a Types,
    object: &'a Object,
    /// Server-side apply owns the object as a whole.
    pub atomic: bool,
    /// Undeclared fields are allowed and kept.
    pub preserve_unknown: bool,
}

/// How a list is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind<'a> {
    Atomic,
    Set,
    /// Items are told apart by the values of these fields.
    Map(&'a [String]),
}

/// One declared field.
#[derive(Clone, Copy, Debug)]
pub struct FieldRef<'a> {
    pub name: &'a str,
    pub ty: TypeRef<'a>,
    pub required: bool,
    pub patch: Patch<'a>,
}

/// How a strategic merge patch treats a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patch<'a> {
    /// Lists are merged (by `merge_key`, or as a set when there is none) rather than replaced.
    pub merge: bool,
    pub retain_keys: bool,
    pub merge_key: Option<&'a str>,
}

impl Types {
    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes"));
        self.nodes.push(node);
        id
    }

    pub(crate) fn at(&self, node: NodeId) -> TypeRef<'_> {
        TypeRef { types: self, node }
    }

    /// The object type of that full name, such as `api.core.v1.Pod`.
    pub fn named(&self, name: &str) -> Option<TypeRef<'_>> {
        self.by_name.get(name).map(|node| self.at(*node))
    }
}

impl<'a> TypeRef<'a> {
    pub(crate) fn node(self) -> &'a Node {
        &self.types.nodes[self.node.0 as usize]
    }

    pub(crate) fn object(self) -> Option<&'a Object> {
        match self.node() {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    /// What the type looks like in JSON.
    pub fn shape(self) -> Shape<'a> {
        let types = self.types;
        match self.node() {
            Node::Object(object) => {
                Shape::Object(ObjectShape { types, object, atomic: object.atomic, preserve_unknown: object.preserve_unknown })
            }
            Node::Map { value, atomic } => Shape::Map { value: types.at(*value), atomic: *atomic },
            Node::List { item, kind } => Shape::List {
                item: types.at(*item),
                kind: match kind {
                    ListKindOwned::Atomic => ListKind::Atomic,
                    ListKindOwned::Set => ListKind::Set,
                    ListKindOwned::Map(keys) => ListKind::Map(keys),
                },
            },
            Node::Scalar(scalar) => Shape::Scalar(*scalar),
            Node::Any(_) => Shape::Any,
        }
    }

    /// The declared field of that JSON name; none unless the type is an object.
    pub fn field(self, json_name: &str) -> Option<FieldRef<'a>> {
        let object = self.object()?;
        object.position(json_name).map(|index| object.fields[index].as_ref(self.types))
    }

    /// The type's full name (`api.core.v1.Pod`); empty for lists, maps, scalars and anonymous objects.
    pub fn name(self) -> &'a str {
        self.object().map_or("", |object| &object.name)
    }
}

impl fmt::Debug for TypeRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node() {
            Node::Object(object) => write!(f, "TypeRef({})", object.name),
            Node::Map { value, .. } => write!(f, "TypeRef(map of {:?})", self.types.at(*value)),
            Node::List { item, .. } => write!(f, "TypeRef(list of {:?})", self.types.at(*item)),
            Node::Scalar(scalar) => write!(f, "TypeRef({scalar:?})"),
            Node::Any(kind) => write!(f, "TypeRef({kind:?})"),
        }
    }
}

impl<'a> ObjectShape<'a> {
    /// The declared fields, ordered by name.
    pub fn fields(self) -> impl Iterator<Item = FieldRef<'a>> {
        self.object.fields.iter().map(move |field| field.as_ref(self.types))
    }
}

impl fmt::Debug for ObjectShape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectShape({})", self.object.name)
    }
}

impl Object {
    /// Puts the fields in order; to be called when all are there.
    pub(crate) fn sort(&mut self) {
        self.fields.sort_by(|a, b| a.name.cmp(&b.name));
        self.fields.shrink_to_fit();
        let tagged = self.fields.iter().enumerate().filter(|(_, field)| !field.tags.path().is_empty());
        self.by_tag = tagged.map(|(index, _)| u16::try_from(index).expect("fewer than 2^16 fields")).collect();
        let fields = &self.fields;
        self.by_tag.sort_by_key(|index| fields[usize::from(*index)].tags.0);
        self.by_tag.shrink_to_fit();
    }

    /// The fields whose numbers begin with that path, in order.
    pub(crate) fn with_prefix(&self, path: &[u16]) -> &[u16] {
        let prefix = |index: &u16| {
            let tags = self.fields[usize::from(*index)].tags.path();
            &self.fields[usize::from(*index)].tags.0[..path.len().min(tags.len())]
        };
        let start = self.by_tag.partition_point(|index| prefix(index) < path);
        let end = self.by_tag.partition_point(|index| prefix(index) <= path);
        &self.by_tag[start..end]
    }

    pub(crate) fn position(&self, json_name: &str) -> Option<usize> {
        self.fields.binary_search_by(|field| field.name.as_ref().cmp(json_name)).ok()
    }
}

impl Field {
    pub(crate) fn as_ref<'a>(&'a self, types: &'a Types) -> FieldRef<'a> {
        FieldRef {
            name: &self.name,
            ty: types.at(self.node),
            required: self.required,
            patch: Patch {
                merge: self.patch_merge,
                retain_keys: self.patch_retain_keys,
                merge_key: self.patch_merge_key.as_deref(),
            },
        }
    }
}
