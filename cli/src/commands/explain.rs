//! `kctl explain`: the documentation of kinds and fields, from the server's OpenAPI v3.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Map, Value};

use crate::kube::{Error, Request, Resource, Result, Session, complete};

const WIDTH: usize = 76;

/// Explains a kind or a field
///
///   kctl explain pods                     kctl explain deployment.spec.strategy
///   kctl explain pods --recursive         kctl explain hpa --api-version=autoscaling/v1
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ExplainArgs {
    /// TYPE[.FIELD…]
    #[arg(value_name = "TYPE[.FIELD]", add = ArgValueCompleter::new(complete::resources))]
    words: Vec<String>,
    /// All fields of all fields
    #[arg(short = 'R', long)]
    recursive: bool,
    /// GROUP/VERSION
    #[arg(long)]
    api_version: Option<String>,
    /// How it is shown: plaintext, or plaintext-openapiv2 for the same
    #[arg(short, long, hide = true, default_value = "plaintext")]
    output: String,
}

pub async fn run(args: ExplainArgs, session: &Session) -> Result<()> {
    let what = match args.words.as_slice() {
        [what] => what,
        [] => {
            return Err(Error::message(
                "You must specify the type of resource to explain. Use \"kctl api-resources\" for a complete list of supported resources.",
            ));
        }
        _ => return Err(Error::message("We accept only this format: explain RESOURCE")),
    };
    if !["plaintext", "plaintext-openapiv2"].contains(&args.output.as_str()) {
        return Err(Error::message(format!("unrecognized format: {}", args.output)));
    }
    let (resource, fields) = find(&args, what, session).await?;
    let path = if resource.group.is_empty() {
        format!("/openapi/v3/api/{}", resource.version)
    } else {
        format!("/openapi/v3/apis/{}/{}", resource.group, resource.version)
    };
    let document = session.json(Request::get(path)).await?;
    let (text, outcome) = explain(&document, &resource, &fields, args.recursive)?;
    print!("{text}");
    outcome
}

/// Splits `deployments.apps.spec` into the longest type that is one, and fields.
async fn find(args: &ExplainArgs, what: &str, session: &Session) -> Result<(Resource, Vec<String>)> {
    let words: Vec<&str> = what.trim_end_matches('.').split('.').collect();
    let discovery = session.discovery().await?;
    let named = (1..=words.len()).rev().find_map(|count| {
        // `pods.v1` means a version only when it is written out, so a first word alone wins over fields.
        let resource = discovery.find(&words[..count].join("."))?;
        let exact = count == 1
            || resource.group == words[1..count].join(".")
            || format!("{}.{}", resource.version, resource.group) == words[1..count].join(".");
        exact.then(|| (resource.clone(), count))
    });
    let (mut resource, count) = match named {
        Some(named) => named,
        None => (session.resource(words[0]).await.map_err(Error::without_prefix)?, 1),
    };
    if let Some(api_version) = &args.api_version {
        let other = discovery.resources.iter().find(|r| r.api_version() == *api_version && r.plural == resource.plural);
        resource = other.cloned().ok_or_else(|| {
            Error::message(format!("couldn't find resource for \"{api_version}, Resource={}\"", resource.plural))
        })?;
    }
    Ok((resource, words[count..].iter().map(|word| (*word).to_owned()).collect()))
}

/// The text, and whether the fields are there: as kubectl, the head is printed also when they are not.
fn explain(document: &Value, resource: &Resource, fields: &[String], recursive: bool) -> Result<(String, Result<()>)> {
    let schemas =
        document["components"]["schemas"].as_object().ok_or_else(|| Error::message("the server's OpenAPI has no schemas"))?;
    let book = Book { schemas };
    let is_ours = |gvk: &Value| {
        gvk["group"] == resource.group.as_str()
            && gvk["version"] == resource.version.as_str()
            && gvk["kind"] == resource.kind.as_str()
    };
    let root =
        schemas.values().find(|schema| schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten().any(is_ours));
    let root = root.ok_or_else(|| Error::message(format!("couldn't find the schema of {}", resource.full_name())))?;
    let mut out = String::new();
    if !resource.group.is_empty() {
        out += &format!("GROUP:      {}\n", resource.group);
    }
    out += &format!("KIND:       {}\nVERSION:    {}\n\n", resource.kind, resource.version);
    let mut schema = root;
    for (at, name) in fields.iter().enumerate() {
        let Some(found) = book.field(schema, name) else {
            let missing = Error::message(format!("field {:?} does not exist", fields[fields.len() - 1]));
            return Ok((out, Err(missing)));
        };
        schema = found;
        if at + 1 == fields.len() {
            out += &format!("FIELD: {name} <{}>\n", book.type_name(schema));
            for value in schema["enum"].as_array().into_iter().flatten() {
                if !out.contains("ENUM:") {
                    out += "ENUM:";
                }
                out += &format!("\n    {}", enum_text(value));
            }
            out += "\n\n";
        }
    }
    let description = book.descriptions(schema);
    let description = if description.is_empty() { "<empty>".to_owned() } else { description };
    out += &format!("DESCRIPTION:\n{}\n", indent(&wrap(&description, WIDTH), 4));
    let mut list = String::new();
    book.fields(schema, 1, recursive, &mut Vec::new(), &mut list);
    if !list.is_empty() {
        out += &format!("FIELDS:\n{list}");
    }
    Ok((out + "\n", Ok(())))
}

struct Book<'a> {
    schemas: &'a Map<String, Value>,
}

impl<'a> Book<'a> {
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        self.reference(schema).and_then(|name| self.schemas.get(name)).unwrap_or(schema)
    }

    fn reference(&self, schema: &'a Value) -> Option<&'a str> {
        schema["$ref"].as_str()?.rsplit('/').next()
    }

    /// What a schema stands for: itself, its items, its values, its alternatives.
    fn inner(&self, schema: &'a Value) -> impl Iterator<Item = &'a Value> {
        let all = schema["allOf"].as_array().into_iter().flatten();
        all.chain(Some(&schema["items"]).filter(|items| items.is_object()))
            .chain(Some(&schema["additionalProperties"]).filter(|values| values.is_object()))
    }

    fn field(&self, schema: &'a Value, name: &str) -> Option<&'a Value> {
        let resolved = self.resolve(schema);
        resolved["properties"].get(name).or_else(|| self.inner(resolved).find_map(|inner| self.field(inner, name)))
    }

    fn descriptions(&self, schema: &'a Value) -> String {
        let resolved = self.resolve(schema);
        let own = resolved["description"].as_str().filter(|text| !text.is_empty());
        let own = own.map(|text| format!("{text}\n")).unwrap_or_default();
        own + &self.inner(resolved).map(|inner| self.descriptions(inner)).collect::<String>()
    }

    /// `string`, `[]Container`, `map[string]Quantity`.
    fn type_name(&self, schema: &'a Value) -> String {
        if schema["items"].is_object() {
            return format!("[]{}", self.type_name(&schema["items"]));
        }
        if schema["additionalProperties"].is_object() {
            return format!("map[string]{}", self.type_name(&schema["additionalProperties"]));
        }
        if let Some([only]) = schema["allOf"].as_array().map(Vec::as_slice)
            && schema["properties"].is_null()
        {
            return self.type_name(only);
        }
        if let Some(name) = self.reference(schema) {
            return match self.resolve(schema)["type"].as_str() {
                None | Some("object") => name.rsplit('.').next().unwrap_or(name).to_owned(),
                Some(kind) => kind.to_owned(),
            };
        }
        match schema["type"].as_str() {
            None | Some("object") => "Object".into(),
            Some(kind) => kind.to_owned(),
        }
    }

    fn fields(&self, schema: &'a Value, level: usize, recursive: bool, seen: &mut Vec<&'a str>, out: &mut String) {
        let reference = self.reference(schema);
        if reference.is_some_and(|name| seen.contains(&name)) {
            return;
        }
        seen.extend(reference);
        let resolved = self.resolve(schema);
        let required = |name: &str| resolved["required"].as_array().into_iter().flatten().any(|required| required == name);
        for (name, field) in resolved["properties"].as_object().into_iter().flatten() {
            let padding = level * 2;
            *out += &format!("{}{name}\t<{}>", " ".repeat(padding), self.type_name(field));
            if required(name) {
                *out += " -required-";
            }
            if let Some(values) = field["enum"].as_array() {
                let shown: Vec<String> = values.iter().take(4).map(enum_text).collect();
                *out += &format!(
                    "\n{}enum: {}{}",
                    " ".repeat(padding),
                    shown.join(", "),
                    if values.len() > 4 { ", ...." } else { "" }
                );
            }
            out.push('\n');
            if recursive {
                self.fields(field, level + 1, true, seen, out);
            } else {
                let description = self.descriptions_of_field(field);
                *out += &format!("{}\n\n", indent(&wrap(&description, 78 - padding), padding + 2));
            }
        }
        for inner in self.inner(resolved) {
            self.fields(inner, level, recursive, seen, out);
        }
        if reference.is_some() {
            seen.pop();
        }
    }

    fn descriptions_of_field(&self, field: &'a Value) -> String {
        field["description"].as_str().filter(|text| !text.is_empty()).unwrap_or("<no description>").to_owned()
    }
}

fn enum_text(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "\"\"".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Breaks lines at spaces; paragraphs stay.
fn wrap(text: &str, width: usize) -> String {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ').filter(|word| !word.is_empty()) {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
        lines.push(line);
    }
    lines.join("\n")
}

fn indent(text: &str, by: usize) -> String {
    text.split('\n').map(|line| format!("{}{line}", " ".repeat(by))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_and_fields() {
        let document = json!({"components": {"schemas": {
            "x.Box": {
                "description": "Box holds things.",
                "x-kubernetes-group-version-kind": [{"group": "x", "version": "v1", "kind": "Box"}],
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "description": "How large."},
                    "lid": {"allOf": [{"$ref": "#/components/schemas/x.Lid"}], "description": "The lid."},
                    "things": {"type": "array", "items": {"$ref": "#/components/schemas/x.Box"}},
                },
            },
            "x.Lid": {"type": "object", "description": "Lid closes.", "properties": {"color": {"type": "string", "enum": ["", "red"]}}},
        }}});
        let resource = Resource { group: "x".into(), version: "v1".into(), kind: "Box".into(), ..Resource::default() };
        let text = |fields: &[&str], recursive| {
            explain(&document, &resource, &fields.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(), recursive)
                .and_then(|(text, outcome)| outcome.map(|()| text))
        };
        assert_eq!(
            text(&[], false).unwrap(),
            "GROUP:      x\nKIND:       Box\nVERSION:    v1\n\nDESCRIPTION:\n    Box holds things.\n    \nFIELDS:\n  lid\t<Lid>\n    The lid.\n\n  size\t<integer> -required-\n    How large.\n\n  things\t<[]Box>\n    <no description>\n\n\n"
        );
        let lid = text(&["lid"], false).unwrap();
        assert!(
            lid.contains("FIELD: lid <Lid>\n") && lid.contains("The lid.\n    Lid closes.") && lid.contains("enum: \"\", red"),
            "{lid}"
        );
        assert!(text(&[], true).unwrap().contains("  lid\t<Lid>\n    color"));
        assert_eq!(text(&["nothing"], false).unwrap_err().text(), "error: field \"nothing\" does not exist");
    }
}
