//! Config maps and secrets from literals and files, and the hash of their content.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    Item,
    file::{Generator, GeneratorOptions, Kustomization},
};
use crate::kube::{Error, Result};

/// Generates, and merges into or replaces what a base generated.
pub fn run(kustomization: &Kustomization, directory: &Path, items: &mut Vec<Item>) -> Result<()> {
    for (kind, generators) in [("ConfigMap", &kustomization.config_map_generator), ("Secret", &kustomization.secret_generator)] {
        for generator in generators {
            if generator.name.is_empty() {
                return Err(Error::message(format!("{kind} generator: a name is needed")));
            }
            let data = data(generator, directory)?;
            let item = item(kind, generator, &kustomization.generator_options, data);
            place(item, generator, items)?;
        }
    }
    Ok(())
}

/// Keys with their bytes, the later of one key winning nothing: a key that stands twice is an error.
fn data(generator: &Generator, directory: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut data: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |key: &str, value: Vec<u8>| {
        if data.iter().any(|(other, _)| other == key) {
            return Err(Error::message(format!(
                "cannot add key {key:?}, another key by that name already exists in {}",
                generator.name
            )));
        }
        data.push((key.to_owned(), value));
        Ok(())
    };
    let read =
        |name: &str| std::fs::read(directory.join(name)).map_err(|error| Error::message(format!("reading {name}: {error}")));
    for file in generator.envs.iter().chain([&generator.env]).filter(|file| !file.is_empty()) {
        let text = String::from_utf8_lossy(&read(file)?).into_owned();
        for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let from_environment = std::env::var(line).unwrap_or_default();
            let (key, value) = line.split_once('=').unwrap_or((line, &from_environment));
            add(key, value.as_bytes().to_vec())?;
        }
    }
    for file in &generator.files {
        let own = Path::new(file).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (key, path) = file.split_once('=').unwrap_or((&own, file));
        add(key, read(path)?)?;
    }
    for literal in &generator.literals {
        let (key, value) = literal
            .split_once('=')
            .ok_or_else(|| Error::message(format!("invalid literal source {literal}, expected key=value")))?;
        let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        add(key, quoted.unwrap_or(value).as_bytes().to_vec())?;
    }
    Ok(data)
}

fn item(kind: &str, generator: &Generator, general: &GeneratorOptions, data: Vec<(String, Vec<u8>)>) -> Item {
    let own = &generator.options;
    let mut metadata = json!({"name": generator.name});
    if !generator.namespace.is_empty() {
        metadata["namespace"] = generator.namespace.as_str().into();
    }
    for (field, general, own) in
        [("labels", &general.labels, &own.labels), ("annotations", &general.annotations, &own.annotations)]
    {
        for (key, value) in general.iter().chain(own) {
            metadata[field][key] = value.as_str().into();
        }
    }
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
    for (key, value) in data {
        match (kind, String::from_utf8(value)) {
            ("Secret", text) => {
                let bytes = text.map_or_else(std::string::FromUtf8Error::into_bytes, String::into_bytes);
                object["data"][key] = STANDARD.encode(bytes).into();
            }
            (_, Ok(text)) => object["data"][key] = text.into(),
            (_, Err(bytes)) => object["binaryData"][key] = STANDARD.encode(bytes.as_bytes()).into(),
        }
    }
    if kind == "Secret" {
        let kind = if generator.kind.is_empty() { "Opaque" } else { &generator.kind };
        object["type"] = kind.into();
    }
    if general.immutable || own.immutable {
        object["immutable"] = true.into();
    }
    Item { hashed: !(general.disable_name_suffix_hash || own.disable_name_suffix_hash), ..Item::new(object) }
}

fn place(item: Item, generator: &Generator, items: &mut Vec<Item>) -> Result<()> {
    let same = |other: &&mut Item| other.kind() == item.kind() && other.former.contains(&generator.name);
    let found = items.iter_mut().find(same);
    match (generator.behavior.as_str(), found) {
        ("" | "create", None) => items.push(item),
        ("" | "create", Some(_)) => {
            return Err(Error::message(format!("behavior must be merge or replace: {} {} exists", item.kind(), generator.name)));
        }
        ("merge", Some(old)) => {
            for field in ["data", "binaryData"] {
                for (key, value) in item.object[field].as_object().into_iter().flatten() {
                    old.object[field][key] = value.clone();
                }
            }
        }
        ("replace", Some(old)) => {
            for field in ["data", "binaryData", "type"] {
                if let Some(fields) = old.object.as_object_mut() {
                    fields.remove(field);
                    fields.extend(item.object.get(field).map(|value| (field.to_owned(), value.clone())));
                }
            }
        }
        (behavior @ ("merge" | "replace"), None) => {
            return Err(Error::message(format!(
                "id for {} {}; behavior {behavior} needs one that exists",
                item.kind(),
                generator.name
            )));
        }
        (behavior, _) => return Err(Error::message(format!("unknown generator behavior {behavior:?}"))),
    }
    Ok(())
}

/// Ten letters that stand for a config map's or secret's content, as upstream makes them. The name is not in it: upstream
/// means to put it there and looks it up by a path that leads nowhere.
pub fn hash(object: &Value) -> String {
    let part = |field: &str| object.get(field).cloned().unwrap_or_else(|| "".into());
    let mut content = Map::new();
    content.insert("data".into(), part("data"));
    content.insert("kind".into(), part("kind"));
    content.insert("name".into(), "".into());
    let more = if machinery::meta::kind(object) == "Secret" {
        content.insert("type".into(), part("type"));
        "stringData"
    } else {
        "binaryData"
    };
    if let Some(value) = object.get(more) {
        content.insert(more.into(), value.clone());
    }
    letters(content)
}

/// Ten letters and digits that stand for a content, none of them a vowel.
pub fn letters(content: Map<String, Value>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, machinery::gotext::json(&Value::Object(content)).as_bytes());
    let hex: String = digest.as_ref().iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    let letter = |c| match c {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        c => c,
    };
    hex.chars().map(letter).collect()
}
