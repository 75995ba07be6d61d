//! `cargo xtask gen-schema`: makes `lib/schema/data/{types,docs}.txt` from facts in published crates.
//!
//! JSON names, types, required fields, resources and descriptions come from the source of `k8s-openapi`; protobuf field numbers
//! and list, map and patch markers from the source of `k8s-pb`, which is fetched but never built. What neither carries
//! is written by hand in `overlay.txt`. The formats are described in `lib/schema/src/builtin.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{Expr, ImplItem, Item, Lit, Meta, Type};

const K8S_OPENAPI: &str = "k8s-openapi";
const K8S_PB: &str = "k8s-pb";
const K8S_PB_REQUIREMENT: &str = "=0.9.0";

/// Makes the schema table anew from published crates.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only compare: fail when the committed files differ from what would be written.
    #[arg(long)]
    check: bool,
    /// The module of k8s-openapi to read.
    #[arg(long, default_value = "v1_36")]
    version: String,
    /// Source of k8s-openapi (default: where cargo keeps the workspace's).
    #[arg(long)]
    k8s_openapi: Option<PathBuf>,
    /// Source of k8s-pb (default: fetched by cargo).
    #[arg(long)]
    k8s_pb: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let openapi = match args.k8s_openapi {
        Some(path) => path,
        None => crate_source(&root.join("Cargo.toml"), K8S_OPENAPI)?,
    };
    let pb = match args.k8s_pb {
        Some(path) => path,
        None => crate_source(&scratch_manifest(root)?, K8S_PB)?,
    };
    let types = read_types(&openapi.join("src").join(&args.version))?;
    let messages = read_messages(&pb.join("src"))?;
    let data = root.join("lib/schema/data");
    let mut stale = Vec::new();
    for (name, text) in [("types.txt", print_types(&types, &messages)?), ("docs.txt", print_docs(&types))] {
        let path = data.join(name);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        if args.check {
            stale.push(name);
        } else {
            fs::create_dir_all(&data)?;
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            println!("wrote {}", path.display());
        }
    }
    if !stale.is_empty() {
        bail!("{} differ from their sources: run `cargo xtask gen-schema`", stale.join(", "));
    }
    Ok(())
}

/// Where cargo keeps the source of a package that the manifest depends on.
fn crate_source(manifest: &Path, package: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--manifest-path"])
        .arg(manifest)
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let found = packages.iter().find(|p| p["name"] == package).with_context(|| format!("{package} is a dependency"))?;
    let manifest = found["manifest_path"].as_str().context("a package has a manifest")?;
    Ok(Path::new(manifest).parent().context("a manifest lies in a directory")?.to_owned())
}

/// A package outside the workspace whose one dependency is k8s-pb, so that cargo fetches its source.
fn scratch_manifest(root: &Path) -> Result<PathBuf> {
    let dir = root.join("target/gen-schema");
    fs::create_dir_all(dir.join("src"))?;
    fs::write(dir.join("src/lib.rs"), "")?;
    let manifest = dir.join("Cargo.toml");
    fs::write(
        &manifest,
        format!(
            "[package]\nname = \"gen-schema\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n{K8S_PB} = \"{K8S_PB_REQUIREMENT}\"\n"
        ),
    )?;
    Ok(manifest)
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

// ---------------------------------------------------------------------------------------------- k8s-openapi

#[derive(Default)]
struct TypeDef {
    description: String,
    resource: Option<ResourceDef>,
    fields: Vec<FieldDef>,
}

#[derive(Default)]
struct ResourceDef {
    group: String,
    version: String,
    kind: String,
    plural: String,
    namespaced: bool,
    list_kind: String,
}

struct FieldDef {
    name: String,
    /// The code of the type as the table prints it.
    code: String,
    required: bool,
    description: String,
    /// From the crate's merge functions: used where the protobuf source does not know the field.
    merge: Option<ListFact>,
}

/// Full names (`api.core.v1.Pod`) to types.
type TypeDefs = BTreeMap<String, TypeDef>;

fn read_types(dir: &Path) -> Result<TypeDefs> {
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

// --------------------------------------------------------------------------------------------------- k8s-pb

/// How a list, a map or a patch of it is merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ListFact {
    atomic: bool,
    set: bool,
    keys: Vec<String>,
    patch_strategy: Vec<String>,
    patch_merge_key: Option<String>,
}

struct Message {
    fields: Vec<MessageField>,
    atomic: bool,
}

struct MessageField {
    /// Lower-cased, without underscores.
    name: String,
    tag: u16,
    /// The message type, for plain (not repeated, not mapped) message fields.
    embeds: Option<String>,
    fact: ListFact,
}

/// Lower-cased module path and type name to messages.
type Messages = HashMap<String, Message>;

fn read_messages(dir: &Path) -> Result<Messages> {
    let mut files = Vec::new();
    rust_files(dir, &mut files)?;
    let mut messages = Messages::new();
    for path in files {
        let module = path.parent().and_then(|p| p.strip_prefix(dir).ok()).context("files lie below the source")?;
        let module: Vec<String> = module.iter().map(|part| part.to_string_lossy().replace('_', "-")).collect();
        let file = syn::parse_file(&fs::read_to_string(&path)?).with_context(|| format!("parsing {}", path.display()))?;
        for item in &file.items {
            let Item::Struct(item) = item else { continue };
            let key = type_key(&module.join("."), &item.ident.to_string());
            messages.insert(key, read_message(item, &module)?);
        }
    }
    Ok(messages)
}

fn type_key(module: &str, name: &str) -> String {
    format!("{module}.{}", normalised(name))
}

fn normalised(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn read_message(item: &syn::ItemStruct, module: &[String]) -> Result<Message> {
    let mut fields = Vec::new();
    for field in &item.fields {
        let Some(ident) = &field.ident else { continue };
        let mut tag = None;
        let mut plain_message = false;
        for attribute in &field.attrs {
            let Meta::List(list) = &attribute.meta else { continue };
            if !list.path.is_ident("prost") {
                continue;
            }
            let text = list.tokens.to_string();
            plain_message = text.starts_with("message") && !text.contains("repeated");
            let number = text.split("tag = \"").nth(1).and_then(|rest| rest.split('"').next());
            tag = number.and_then(|number| number.parse().ok());
        }
        let Some(tag) = tag else { continue };
        let embeds = if plain_message { Some(message_key(&field.ty, module)?) } else { None };
        let mut fact = markers(&field.attrs);
        if !fact.keys.is_empty() && fact.atomic {
            fact.keys.clear();
        }
        let ident = ident.to_string();
        let ident = ident.strip_prefix("r#").unwrap_or(&ident);
        fields.push(MessageField { name: normalised(ident), tag, embeds, fact });
    }
    Ok(Message { fields, atomic: doc_lines(&item.attrs).iter().any(|line| line == "+structType=atomic") })
}

/// The key of the message a field holds: its path may be relative (`super::super::super::…`).
fn message_key(ty: &Type, module: &[String]) -> Result<String> {
    let Type::Path(path) = ty else { bail!("a message field is not a path") };
    let last = path.path.segments.last().context("a path has segments")?;
    if let syn::PathArguments::AngleBracketed(arguments) = &last.arguments {
        let Some(syn::GenericArgument::Type(inner)) = arguments.args.first() else { bail!("no type argument") };
        return message_key(inner, module);
    }
    let segments: Vec<String> = path.path.segments.iter().map(|s| s.ident.to_string()).collect();
    let (name, path) = segments.split_last().context("a path has segments")?;
    let mut base = module.to_vec();
    for part in path {
        match part.as_str() {
            "super" => {
                base.pop();
            }
            "crate" => base.clear(),
            part => base.push(part.replace('_', "-")),
        }
    }
    Ok(type_key(&base.join("."), name))
}

fn doc_lines(attributes: &[syn::Attribute]) -> Vec<String> {
    attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

/// The facts in the markers of a field's comment, such as `+listType=map`.
fn markers(attributes: &[syn::Attribute]) -> ListFact {
    let mut fact = ListFact::default();
    for line in doc_lines(attributes) {
        let Some(marker) = line.strip_prefix('+') else { continue };
        let Some((name, value)) = marker.strip_prefix("k8s:").unwrap_or(marker).split_once('=') else { continue };
        let value = value.trim().trim_matches('"').replace("\\_", "_");
        match name {
            "listType" | "mapType" | "structType" => match value.as_str() {
                "atomic" => fact.atomic = true,
                "set" => fact.set = true,
                _ => {}
            },
            "listMapKey" if !fact.keys.contains(&value) => fact.keys.push(value),
            "patchStrategy" => fact.patch_strategy = value.split(',').map(str::to_owned).collect(),
            "patchMergeKey" => fact.patch_merge_key = Some(value),
            _ => {}
        }
    }
    fact
}

// ---------------------------------------------------------------------------------------------------- output

const HEADER: &str = "# Generated by `cargo xtask gen-schema` from k8s-openapi and k8s-pb (both Apache-2.0): do not edit.\n";

fn print_types(types: &TypeDefs, messages: &Messages) -> Result<String> {
    let mut out = HEADER.to_owned();
    for (name, def) in types {
        let message = find_message(name, messages);
        write!(out, "T {name}")?;
        if message.is_some_and(|message| message.atomic) {
            out.push_str(" atomic");
        }
        out.push('\n');
        if let Some(resource) = def.resource.as_ref().filter(|resource| !resource.plural.is_empty()) {
            let group = if resource.group.is_empty() { "core" } else { &resource.group };
            let scope = if resource.namespaced { "N" } else { "C" };
            let ResourceDef { version, kind, plural, list_kind, .. } = resource;
            writeln!(out, "R {group} {version} {kind} {plural} {scope} {list_kind}").map(|()| {
                if list_kind.is_empty() {
                    out.truncate(out.trim_end().len());
                    out.push('\n');
                }
            })?;
        }
        let json: BTreeSet<String> = def.fields.iter().map(|field| normalised(&field.name)).collect();
        let mut members = HashMap::new();
        if let Some(message) = message {
            flatten(message, messages, &json, &mut Vec::new(), &mut members);
        }
        for field in &def.fields {
            write!(out, "{} {}", field.name, field.code)?;
            if field.required {
                out.push('!');
            }
            let member = members.get(&normalised(&field.name));
            if let Some((path, _)) = member {
                let path: Vec<String> = path.iter().map(u16::to_string).collect();
                write!(out, " {}", path.join("/"))?;
            }
            let is_collection = field.code.starts_with(['[', '{']);
            match (member, &field.merge) {
                (Some((_, fact)), _) => print_fact(&mut out, fact, true),
                (None, Some(fact)) if is_collection => print_fact(&mut out, fact, false),
                (None, _) => {}
            }
            out.push('\n');
        }
    }
    Ok(out)
}

fn print_fact(out: &mut String, fact: &ListFact, with_patch: bool) {
    if fact.atomic {
        out.push_str(" a");
    } else if fact.set {
        out.push_str(" s");
    } else if !fact.keys.is_empty() {
        out.push_str(" k=");
        out.push_str(&fact.keys.join(","));
    }
    if with_patch && !fact.patch_strategy.is_empty() {
        out.push_str(" p=");
        out.push_str(&fact.patch_strategy.join(","));
        if let Some(key) = &fact.patch_merge_key {
            out.push(':');
            out.push_str(key);
        }
    }
}

/// The message of a type: its own, or that of another version of its group. A version that is promoted keeps the field
/// numbers it had.
fn find_message<'a>(name: &str, messages: &'a Messages) -> Option<&'a Message> {
    let (module, leaf) = name.rsplit_once('.')?;
    let key = type_key(module, leaf);
    if let Some(message) = messages.get(&key) {
        return Some(message);
    }
    let (group, _) = module.rsplit_once('.')?;
    let leaf = normalised(leaf);
    let mut aliases: Vec<&String> = messages
        .keys()
        .filter(|key| {
            key.rsplit_once('.')
                .is_some_and(|(module, name)| name == leaf && module.rsplit_once('.').is_some_and(|(other, _)| other == group))
        })
        .collect();
    // Beta before alpha, the newer before the older.
    aliases.sort_by_key(|key| std::cmp::Reverse((key.contains("beta"), (*key).clone())));
    aliases.first().map(|key| &messages[*key])
}

/// All members of a message by name, those of embedded messages included: an embedded message is one whose field has no
/// counterpart in JSON.
fn flatten<'a>(
    message: &'a Message,
    messages: &'a Messages,
    json: &BTreeSet<String>,
    path: &mut Vec<u16>,
    members: &mut HashMap<String, (Vec<u16>, &'a ListFact)>,
) {
    for field in &message.fields {
        path.push(field.tag);
        if json.contains(&field.name) {
            members.entry(field.name.clone()).or_insert_with(|| (path.clone(), &field.fact));
        } else if let Some(inner) = field.embeds.as_ref().and_then(|key| messages.get(key)) {
            flatten(inner, messages, json, path, members);
        }
        path.pop();
    }
}

fn print_docs(types: &TypeDefs) -> String {
    let mut out = HEADER.to_owned();
    for (name, def) in types {
        let _ = writeln!(out, "T {name} {}", escape(&def.description));
        for field in &def.fields {
            if !field.description.is_empty() {
                let _ = writeln!(out, "{} {}", field.name, escape(&field.description));
            }
        }
    }
    out
}

/// One line: backslashes and line breaks are escaped.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}
