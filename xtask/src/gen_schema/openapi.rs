//! Reads the source of k8s-openapi: JSON names, types, required fields, resources, descriptions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{Expr, ImplItem, Item, Lit, Type};

use super::protobuf::ListFact;
use super::rust_files;

#[derive(Default)]
pub(super) struct TypeDef {
    pub(super) description: String,
    pub(super) resource: Option<ResourceDef>,
    pub(super) fields: Vec<FieldDef>,
}

#[derive(Default)]
pub(super) struct ResourceDef {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) plural: String,
    pub(super) namespaced: bool,
    pub(super) list_kind: String,
}

pub(super) struct FieldDef {
    pub(super) name: String,
    /// The code of the type as the table prints it.
    pub(super) code: String,
    pub(super) required: bool,
    pub(super) description: String,
    /// From the crate's merge functions: used where the protobuf source does not know the field.
    pub(super) merge: Option<ListFact>,
}

/// Full names (`api.core.v1.Pod`) to types.
pub(super) type TypeDefs = BTreeMap<String, TypeDef>;

pub(super) fn read_types(dir: &Path) -> Result<TypeDefs> {
    let mut files = Vec::new();
    rust_files(dir, &mut files)?;
    // The crate's one generic list type: lists are made from the resources.
    files.retain(|path| !path.ends_with("list.rs"));
    let mut types = TypeDefs::new();
    for path in files {
        let source = fs::read_to_string(&path)?;
        let Some(name) = source.lines().next().and_then(|l| l.strip_prefix("// Generated from definition io.k8s.")) else {
            continue;
        };
        let file = syn::parse_file(&source).with_context(|| format!("parsing {}", path.display()))?;
        let item = read_type(name.trim(), &source, &file).with_context(|| format!("reading {}", path.display()))?;
        if let Some(item) = item {
            types.insert(name.trim().to_owned(), item);
        }
    }
    if types.is_empty() {
        bail!("no type definitions under {}", dir.display());
    }
    Ok(types)
}

/// Types that `type_code` has a letter for, and one that is not an object at all.
const FREE_FORM: &[&str] = &["FieldsV1", "JSON", "MicroTime", "Patch", "Quantity", "RawExtension", "Time"];

/// The type of one file; none for the special types the table encodes as scalars or free-form values.
fn read_type(name: &str, source: &str, file: &syn::File) -> Result<Option<TypeDef>> {
    let leaf = name.rsplit('.').next().unwrap_or(name);
    let Some(item) = file.items.iter().find_map(|item| match item {
        Item::Struct(item) if item.ident == leaf && !FREE_FORM.contains(&leaf) => Some(item),
        _ => None,
    }) else {
        return Ok(None);
    };
    let json_names = json_names(source);
    let merges = merge_facts(source);
    let schema = read_schema(source)?;
    let mut def = TypeDef { description: schema.description, resource: read_resource(file)?, fields: Vec::new() };
    if def.resource.is_some() {
        for name in ["apiVersion", "kind"] {
            def.fields.push(FieldDef {
                name: name.to_owned(),
                code: "s".to_owned(),
                required: false,
                description: schema.properties.get(name).cloned().unwrap_or_default(),
                merge: None,
            });
        }
    }
    // A newtype stands for an object without declared fields.
    for (field, ident) in item.fields.iter().filter_map(|field| Some((field, field.ident.as_ref()?))) {
        let ident = ident.to_string();
        let ident = ident.strip_prefix("r#").unwrap_or(&ident);
        let Some(name) = json_names.get(ident) else { bail!("field {ident} has no JSON name") };
        // Two rules where the crate calls a field required for the convenience of its users.
        let lenient = name == "metadata";
        def.fields.push(FieldDef {
            name: name.clone(),
            code: type_code(&field.ty).with_context(|| format!("the type of field {name}"))?,
            required: schema.required.contains(name) && !lenient,
            description: schema.properties.get(name).cloned().unwrap_or_default(),
            merge: merges.get(ident).cloned(),
        });
    }
    def.fields.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(def))
}

/// Rust field names to JSON names, from the arms `"hostIP" => Field::Key_host_ip,`.
fn json_names(source: &str) -> HashMap<String, String> {
    source
        .lines()
        .filter_map(|line| {
            let (name, ident) = line.trim().strip_prefix('"')?.split_once("\" => Field::Key_")?;
            Some((ident.trim_end_matches(',').to_owned(), name.to_owned()))
        })
        .collect()
}

/// How each field is merged, from the calls `crate::merge_strategies::list::map(&mut self.ports, …, &[|lhs, rhs| lhs.name == …`.
fn merge_facts(source: &str) -> HashMap<String, ListFact> {
    let mut facts = HashMap::new();
    for piece in source.split("crate::merge_strategies::").skip(1) {
        let Some((call, rest)) = piece.split_once('(') else { continue };
        let rest = rest.trim_start().trim_start_matches("&mut self.");
        let ident: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let body = rest.split("\n        );").next().unwrap_or(rest);
        let keys =
            body.split("lhs.").skip(1).map(|k| k.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>());
        let fact = match call.trim_end_matches('.') {
            "list::atomic" | "map::atomic" => ListFact { atomic: true, ..ListFact::default() },
            "list::set" => ListFact { set: true, ..ListFact::default() },
            "list::map" => ListFact { keys: keys.map(|key| lower_camel(&key)).collect(), ..ListFact::default() },
            _ => continue,
        };
        facts.insert(ident, fact);
    }
    facts
}

fn lower_camel(ident: &str) -> String {
    let mut out = String::new();
    for (index, word) in ident.trim_end_matches('_').split('_').enumerate() {
        let mut chars = word.chars();
        match chars.next() {
            Some(first) if index > 0 => {
                out.push(first.to_ascii_uppercase());
                out.push_str(chars.as_str());
            }
            _ => out.push_str(word),
        }
    }
    out
}

fn read_resource(file: &syn::File) -> Result<Option<ResourceDef>> {
    let mut resource = ResourceDef::default();
    let mut found = false;
    for item in &file.items {
        let Item::Impl(item) = item else { continue };
        let Some((_, path, _)) = &item.trait_ else { continue };
        let name = path.segments.last().map(|s| s.ident.to_string()).unwrap_or_default();
        if name != "Resource" && name != "ListableResource" {
            continue;
        }
        found |= name == "Resource";
        for member in &item.items {
            match member {
                ImplItem::Const(constant) => {
                    let Expr::Lit(literal) = &constant.expr else { bail!("{} is not a literal", constant.ident) };
                    let Lit::Str(text) = &literal.lit else { bail!("{} is not a string", constant.ident) };
                    let slot = match constant.ident.to_string().as_str() {
                        "GROUP" => &mut resource.group,
                        "VERSION" => &mut resource.version,
                        "KIND" => &mut resource.kind,
                        "URL_PATH_SEGMENT" => &mut resource.plural,
                        "LIST_KIND" => &mut resource.list_kind,
                        _ => continue,
                    };
                    *slot = text.value();
                }
                ImplItem::Type(scope) => {
                    let Type::Path(path) = &scope.ty else { bail!("the scope is not a path") };
                    let scope = path.path.segments.last().map(|s| s.ident.to_string()).unwrap_or_default();
                    match scope.as_str() {
                        "NamespaceResourceScope" => resource.namespaced = true,
                        "ClusterResourceScope" => {}
                        // Scale, Eviction, TokenRequest and Status: not resources of their own.
                        _ => resource.plural.clear(),
                    }
                }
                _ => {}
            }
        }
    }
    Ok(found.then_some(resource))
}

/// The code of a field's type: a letter for scalars, `@name` for objects, `[` and `{` before lists and maps.
fn type_code(ty: &Type) -> Result<String> {
    let Type::Path(path) = ty else { bail!("not a path") };
    let segments: Vec<String> = path.path.segments.iter().map(|s| s.ident.to_string()).collect();
    let last = path.path.segments.last().context("a path has segments")?;
    let arguments: Vec<&Type> = match &last.arguments {
        syn::PathArguments::AngleBracketed(arguments) => arguments
            .args
            .iter()
            .filter_map(|argument| match argument {
                syn::GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    Ok(match (last.ident.to_string().as_str(), arguments.as_slice()) {
        ("Option" | "Box", [inner]) => type_code(inner)?,
        ("Vec", [item]) => format!("[{}", type_code(item)?),
        ("BTreeMap", [_, value]) => format!("{{{}", type_code(value)?),
        ("String", []) => "s".to_owned(),
        ("i32", []) => "i".to_owned(),
        ("i64", []) => "l".to_owned(),
        ("f64", []) => "d".to_owned(),
        ("bool", []) => "b".to_owned(),
        ("ByteString", []) => "y".to_owned(),
        ("Quantity", []) => "q".to_owned(),
        ("Time", []) => "t".to_owned(),
        ("MicroTime", []) => "m".to_owned(),
        ("IntOrString", []) => "x".to_owned(),
        ("RawExtension", []) => "r".to_owned(),
        ("FieldsV1", []) => "f".to_owned(),
        ("JSON", []) => "j".to_owned(),
        ("JSONSchemaPropsOrArray", []) => "A".to_owned(),
        ("JSONSchemaPropsOrBool", []) => "B".to_owned(),
        ("JSONSchemaPropsOrStringArray", []) => "S".to_owned(),
        (_, []) if segments.first().is_some_and(|s| s == "crate") => format!("@{}", segments[1..].join(".").replace('_', "-")),
        (name, _) => bail!("unknown type {name}"),
    })
}

#[derive(Default)]
struct SchemaFacts {
    description: String,
    properties: HashMap<String, String>,
    required: BTreeSet<String>,
}

/// Descriptions and required fields, from the tokens of the `json_schema!` invocation.
fn read_schema(source: &str) -> Result<SchemaFacts> {
    const START: &str = "json_schema!(";
    const END: &str = "\n        }";
    let mut facts = SchemaFacts::default();
    let Some(start) = source.find(START) else { return Ok(facts) };
    let body = &source[start + START.len()..];
    let end = body.find(END).context("the schema ends")? + END.len();
    let tokens: TokenStream = body[..end].parse().map_err(|err| anyhow::anyhow!("tokens of the schema: {err}"))?;
    let object = tokens.into_iter().find_map(brace_group).context("the schema is an object")?;
    for (key, value) in members(object) {
        match key.as_str() {
            "description" => facts.description = value.iter().find_map(string_literal).unwrap_or_default(),
            "required" => {
                for group in value.iter().filter_map(|token| match token {
                    TokenTree::Group(group) => Some(group.stream()),
                    _ => None,
                }) {
                    facts.required.extend(group.into_iter().filter_map(|token| string_literal(&token)));
                }
            }
            "properties" => {
                let properties = value.into_iter().find_map(brace_group).context("properties are an object")?;
                for (name, value) in members(properties) {
                    let mut strings = Vec::new();
                    collect_strings(value.into_iter().collect(), &mut strings);
                    let description =
                        strings.iter().position(|text| text == "description").and_then(|index| strings.get(index + 1).cloned());
                    facts.properties.insert(name, description.unwrap_or_default());
                }
            }
            _ => {}
        }
    }
    Ok(facts)
}

fn brace_group(token: TokenTree) -> Option<TokenStream> {
    match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group.stream()),
        _ => None,
    }
}

/// The members `"key": tokens,` of an object written as tokens.
fn members(tokens: TokenStream) -> Vec<(String, Vec<TokenTree>)> {
    let mut members = Vec::new();
    let mut key: Option<String> = None;
    let mut value = Vec::new();
    for token in tokens {
        match (&token, &key) {
            (TokenTree::Punct(punct), Some(_)) if punct.as_char() == ',' => {
                members.extend(key.take().map(|key| (key, std::mem::take(&mut value))));
            }
            (TokenTree::Punct(punct), Some(_)) if punct.as_char() == ':' && value.is_empty() => {}
            (_, None) => key = string_literal(&token),
            (_, Some(_)) => value.push(token),
        }
    }
    members.extend(key.map(|key| (key, value)));
    members
}

fn collect_strings(tokens: TokenStream, strings: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => collect_strings(group.stream(), strings),
            token => strings.extend(string_literal(&token)),
        }
    }
}

fn string_literal(token: &TokenTree) -> Option<String> {
    let TokenTree::Literal(literal) = token else { return None };
    match Lit::new(literal.clone()) {
        Lit::Str(text) => Some(text.value()),
        _ => None,
    }
}
