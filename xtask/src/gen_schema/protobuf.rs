//! Reads the source of k8s-pb: protobuf field numbers, and the markers in comments that say how lists and maps are merged.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use syn::{Expr, Item, Lit, Meta, Type};

use super::rust_files;

/// How a list, a map or a patch of it is merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListFact {
    pub(super) atomic: bool,
    pub(super) set: bool,
    pub(super) keys: Vec<String>,
    pub(super) patch_strategy: Vec<String>,
    pub(super) patch_merge_key: Option<String>,
}

pub(super) struct Message {
    pub(super) fields: Vec<MessageField>,
    pub(super) atomic: bool,
}

pub(super) struct MessageField {
    /// Lower-cased, without underscores.
    pub(super) name: String,
    pub(super) tag: u16,
    /// The message type, for plain (not repeated, not mapped) message fields.
    pub(super) embeds: Option<String>,
    pub(super) fact: ListFact,
}

/// Lower-cased module path and type name to messages.
pub(super) type Messages = HashMap<String, Message>;

pub(super) fn read_messages(dir: &Path) -> Result<Messages> {
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

pub(super) fn type_key(module: &str, name: &str) -> String {
    format!("{module}.{}", normalised(name))
}

pub(super) fn normalised(name: &str) -> String {
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
