//! `-o`: which form an object is printed in.

use clap::Args;
use machinery::jsonpath::JsonPath;
use serde_json::{Value, json};

use super::{CustomColumns, gotemplate::GoTemplate, kyaml, tabs};
use crate::kube::{Error, Info, Result};

#[derive(Args, Clone, Debug, Default)]
pub struct OutputFlags {
    /// Form of the output: json, yaml, kyaml, name, wide, jsonpath=TEMPLATE, jsonpath-file=FILE, jsonpath-as-json=TEMPLATE,
    /// custom-columns=SPEC, custom-columns-file=FILE, go-template=TEMPLATE, go-template-file=FILE
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<String>,
    /// Template of -o go-template, jsonpath or their files
    #[arg(long, value_name = "TEMPLATE")]
    pub template: Option<String>,
    /// Print metadata.managedFields too
    #[arg(long)]
    pub show_managed_fields: bool,
    /// Whether a template may name what an object has not
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub allow_missing_template_keys: Option<bool>,
}

#[derive(Clone, Debug)]
pub enum Format {
    /// For people: tables, or a line saying what was done.
    Human {
        wide: bool,
    },
    Json,
    Yaml,
    Kyaml,
    Name,
    JsonPath(Template),
    JsonPathAsJson(Template),
    GoTemplate(GoTemplate),
    CustomColumns {
        columns: CustomColumns,
        headers: bool,
    },
}

const FORMATS: &str = "custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,kyaml,name,template,templatefile,wide,yaml";

impl Format {
    pub fn parse(flags: &OutputFlags) -> Result<Self> {
        let text = flags.output.as_deref().unwrap_or_default();
        let (name, argument) = text.split_once('=').map_or((text, None), |(name, argument)| (name, Some(argument)));
        let argument = argument.or(flags.template.as_deref());
        // A template alone is a Go template.
        let name = if name.is_empty() && argument.is_some() { "go-template" } else { name };
        let lenient = flags.allow_missing_template_keys.unwrap_or(true);
        let need = |what: &str| argument.ok_or_else(|| Error::message(format!("{name} format specified but no {what} given")));
        let file = |what: &str| {
            let path = need(what)?;
            std::fs::read_to_string(path).map_err(|error| Error::message(format!("error reading {path}: {error}")))
        };
        Ok(match name {
            "" => Self::Human { wide: false },
            "wide" => Self::Human { wide: true },
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "kyaml" => Self::Kyaml,
            "name" => Self::Name,
            "jsonpath" => Self::JsonPath(Template::parse(need("template")?)?.allow_missing(lenient)),
            "jsonpath-file" => {
                Self::JsonPath(Template::parse(file("template file")?.trim_end_matches('\n'))?.allow_missing(lenient))
            }
            "jsonpath-as-json" => Self::JsonPathAsJson(Template::parse(need("template")?)?.allow_missing(lenient)),
            "custom-columns" => Self::CustomColumns { columns: CustomColumns::parse(need("custom columns")?)?, headers: true },
            "custom-columns-file" => Self::CustomColumns { columns: CustomColumns::parse_file(&file("file")?)?, headers: true },
            "go-template" | "template" | "go-template-file" | "templatefile" => {
                let given = argument.filter(|given| !given.is_empty());
                given.ok_or_else(|| Error::message("template format specified but no template given"))?;
                let text = if name.ends_with("file") { file("template")? } else { need("template")?.to_owned() };
                Self::GoTemplate(go_template(&text)?.allow_missing(lenient))
            }
            _ => {
                return Err(Error::message(format!(
                    "unable to match a printer suitable for the output format {text:?}, allowed formats are: {FORMATS}"
                )));
            }
        })
    }

    pub fn is_human(&self) -> bool {
        matches!(self, Self::Human { .. })
    }
}

/// Prints objects one after another; several YAML objects become several documents.
#[derive(Debug)]
pub struct Printer {
    format: Format,
    managed_fields: bool,
    printed: usize,
    widths: Vec<usize>,
}

impl Printer {
    pub fn new(flags: &OutputFlags) -> Result<Self> {
        let format = Format::parse(flags)?;
        Ok(Self { format, managed_fields: flags.show_managed_fields, printed: 0, widths: Vec::new() })
    }

    pub fn format(&self) -> &Format {
        &self.format
    }

    pub fn format_mut(&mut self) -> &mut Format {
        &mut self.format
    }

    /// Prints one object, or one list of objects.
    pub fn print(&mut self, object: &Value, label: &dyn Fn(&Value) -> String) -> Result<()> {
        let text = self.render(object, label)?;
        print!("{text}");
        Ok(())
    }

    /// What [`Printer::print`] prints.
    pub fn render(&mut self, object: &Value, label: &dyn Fn(&Value) -> String) -> Result<String> {
        let mut object = std::borrow::Cow::Borrowed(object);
        if !self.managed_fields {
            drop_managed_fields(&mut object);
        }
        let items = |object: &Value| {
            object["items"].as_array().cloned().filter(|_| is_list(object)).unwrap_or_else(|| vec![object.clone()])
        };
        let text = match &self.format {
            Format::Human { .. } => return Ok(String::new()),
            Format::Json => json_text(&object) + "\n",
            Format::Yaml => {
                let separator = if self.printed > 0 { "---\n" } else { "" };
                format!("{separator}{}", machinery::yaml::to_string(&object))
            }
            Format::Kyaml => kyaml::to_string(&object),
            Format::Name => items(&object).iter().map(|item| label(item) + "\n").collect(),
            Format::JsonPath(template) => template.render(&object)?,
            Format::JsonPathAsJson(template) => json_text(&Value::Array(template.found(&object)?)) + "\n",
            Format::GoTemplate(template) => template
                .render(&object)
                .map_err(|error| Error::message(format!("error executing template {:?}: {error}", template.text())))?,
            Format::CustomColumns { columns, headers } => {
                let mut text = if *headers && self.printed == 0 { columns.header() } else { String::new() };
                items(&object).iter().for_each(|item| text.push_str(&columns.row(item)));
                tabs::align_from(&text, tabs::TABLE, &mut self.widths)
            }
        };
        self.printed += 1;
        Ok(text)
    }
}

fn go_template(text: &str) -> Result<GoTemplate> {
    GoTemplate::parse(text).map_err(|error| Error::message(format!("error parsing template {text}, {error}")))
}

fn is_list(object: &Value) -> bool {
    object["kind"].as_str().is_some_and(|kind| kind.ends_with("List"))
}

fn drop_managed_fields(object: &mut std::borrow::Cow<'_, Value>) {
    let has = |object: &Value| object["metadata"].get("managedFields").is_some();
    if !has(object) && !object["items"].as_array().is_some_and(|items| items.iter().any(has)) {
        return;
    }
    let object = object.to_mut();
    let remove = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    remove(object);
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(remove);
    }
}

/// JSON as Go prints it: four spaces, and `<`, `>`, `&` escaped.
pub fn json_text(value: &Value) -> String {
    indented(value, b"    ")
}

/// JSON on many lines, escaped as Go escapes it.
pub fn indented(value: &Value, indent: &[u8]) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing a Value to memory cannot fail.
    let _ = serde::Serialize::serialize(value, &mut serializer);
    let text = String::from_utf8(out).unwrap_or_default();
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Several objects as one `List`.
pub fn list_of(objects: Vec<Value>, resource_version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": resource_version}, "items": objects})
}

/// What was done to an object, in one line or in the form asked for.
pub struct Reporter {
    printer: Printer,
    suffix: &'static str,
}

/// Whether and where a change is only tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    #[default]
    No,
    Client,
    Server,
}

impl std::str::FromStr for DryRun {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::No),
            "client" | "true" => Ok(Self::Client),
            "server" => Ok(Self::Server),
            _ => Err("must be \"none\", \"server\", or \"client\"".into()),
        }
    }
}

#[derive(Args, Clone, Copy, Debug, Default)]
pub struct DryRunFlag {
    /// Try without changing anything: `client` sends nothing, `server` has the server check it
    #[arg(long, value_name = "none|client|server", num_args = 0..=1, default_missing_value = "client", require_equals = true, default_value = "none", hide_default_value = true)]
    pub dry_run: DryRun,
}

impl DryRun {
    /// The query parameter of a request.
    pub fn parameter(self) -> Option<&'static str> {
        (self == Self::Server).then_some("All")
    }

    pub fn suffix(self) -> &'static str {
        match self {
            Self::No => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

impl Reporter {
    pub fn new(flags: &OutputFlags, dry_run: DryRun) -> Result<Self> {
        Ok(Self { printer: Printer::new(flags)?, suffix: dry_run.suffix() })
    }

    /// `deployment.apps/web scaled`, or the object.
    pub fn done(&mut self, info: &Info, object: &Value, what: &str) -> Result<()> {
        if self.printer.format.is_human() {
            println!("{} {what}{}", info.label(), self.suffix);
            return Ok(());
        }
        self.printer.print(object, &|_| info.label())
    }
}

/// A JSONPath template in kubectl's dialect.
#[derive(Clone, Debug)]
pub struct Template {
    path: JsonPath,
    text: String,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self> {
        let parsed = JsonPath::parse(text).map_err(|error| Error::message(format!("error parsing jsonpath {text}, {error}")))?;
        Ok(Self { path: parsed.allow_missing(true), text: text.to_owned() })
    }

    /// A field as people write it: `.spec.x`, `spec.x` or `{.spec.x}`.
    pub fn relaxed(text: &str) -> Result<Self> {
        Self::parse(&machinery::jsonpath::relaxed(text).map_err(|error| Error::message(error.to_string()))?)
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a path may lead nowhere.
    fn allow_missing(self, allow: bool) -> Self {
        Self { path: self.path.allow_missing(allow), ..self }
    }

    pub fn render(&self, object: &Value) -> Result<String> {
        self.path.render(object).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Error {
        Error::message(format!("error executing jsonpath {:?}: Error executing template: {error}", self.text))
    }

    fn found(&self, object: &Value) -> Result<Vec<Value>> {
        let found = self.path.find(object).map_err(|error| self.failed(&error))?;
        Ok(found.into_iter().flatten().map(std::borrow::Cow::into_owned).collect())
    }

    /// The values found; none when the path leads nowhere.
    pub fn values(&self, object: &Value) -> Vec<Value> {
        self.path.find(object).unwrap_or_default().into_iter().flatten().map(std::borrow::Cow::into_owned).collect()
    }
}

/// A value in a cell, as Go's `%v` shows it.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(output: &str) -> OutputFlags {
        OutputFlags { output: Some(output.into()), ..OutputFlags::default() }
    }

    fn render(output: &str, object: &Value) -> String {
        let mut printer = Printer::new(&flags(output)).unwrap();
        printer.render(object, &|object| format!("pod/{}", machinery::meta::name(object))).unwrap()
    }

    fn pod() -> Value {
        json!({"kind": "Pod", "metadata": {"name": "a", "managedFields": [1], "annotations": {"x": "<&>"}}, "spec": {"n": [1, 2]}})
    }

    #[test]
    fn forms() {
        assert_eq!(render("name", &pod()), "pod/a\n");
        assert_eq!(render("name", &list_of(vec![pod(), pod()], "")), "pod/a\npod/a\n");
        let json = render("json", &pod());
        assert!(
            json.contains("    \"kind\": \"Pod\"") && json.contains("\\u003c\\u0026\\u003e") && !json.contains("managedFields")
        );
        assert_eq!(
            render("custom-columns=NAME:.metadata.name,N:.spec.n,X:.y", &pod()),
            "NAME   N       X\na      [1 2]   <none>\n"
        );
    }

    #[test]
    fn what_is_not_supported_says_so() {
        let error = |output: &str| Format::parse(&flags(output)).unwrap_err().text();
        assert!(error("go-template={{.x").contains("unclosed action"));
        assert_eq!(render("go-template={{.metadata.name}}", &pod()), "a");
        assert!(
            error("xml")
                .starts_with("error: unable to match a printer suitable for the output format \"xml\", allowed formats are: ")
        );
        assert_eq!(error("jsonpath"), "error: jsonpath format specified but no template given");
    }
}
