//! Objects from files, directories, addresses and standard input.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};
use serde_json::Value;

use super::{Error, Result, session::chain};

/// Most that is read of one address or of standard input.
const INPUT_BYTES_MAX: u64 = 64 << 20;

#[derive(Args, Clone, Debug, Default)]
pub struct Files {
    /// File, directory or URL with objects; `-` is standard input
    #[arg(short, long = "filename", value_name = "FILE", value_delimiter = ',', value_hint = ValueHint::AnyPath)]
    pub filenames: Vec<String>,
    /// Directory with a kustomization
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub kustomize: Option<String>,
    /// Descend into directories of --filename
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// What is no object is said by the check before it is sent, not by the reader.
    #[arg(skip)]
    pub checked: bool,
}

/// One object and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub value: Value,
    pub source: String,
}

impl Document {
    pub fn api_version(&self) -> &str {
        self.value["apiVersion"].as_str().unwrap_or_default()
    }

    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }
}

impl Files {
    pub fn is_empty(&self) -> bool {
        self.filenames.is_empty() && self.kustomize.is_none()
    }

    /// All objects in order, members of lists one by one.
    pub async fn read(&self) -> Result<Vec<Document>> {
        let mut documents = Vec::new();
        if let Some(directory) = &self.kustomize {
            if !self.filenames.is_empty() {
                return Err(Error::message("only one of -f or -k can be specified"));
            }
            let objects = super::kustomize::build(directory)?;
            documents.extend(objects.into_iter().map(|value| Document { value, source: directory.clone() }));
        }
        for name in &self.filenames {
            for (source, text) in read_source(name, self.recursive).await? {
                for value in parse(&source, &text)? {
                    flatten(value, &source, self.checked, &mut documents)?;
                }
            }
        }
        Ok(documents)
    }
}

/// The first object of a file, as `TYPE/NAME`.
///
/// # Errors
/// When the file cannot be read or has no object.
pub async fn named_in(file: &str) -> Result<String> {
    let documents = Files { filenames: vec![file.to_owned()], ..Files::default() }.read().await?;
    let document = documents.first().ok_or_else(|| Error::message(format!("no objects in {file}")))?;
    Ok(format!("{}/{}", document.kind().to_lowercase(), document.name()))
}

/// The text of each file that `name` means.
async fn read_source(name: &str, recursive: bool) -> Result<Vec<(String, String)>> {
    if name == "-" {
        let mut text = String::new();
        std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_string(&mut text)?;
        return Ok(vec![("STDIN".into(), text)]);
    }
    if name.starts_with("http://") || name.starts_with("https://") {
        return Ok(vec![(name.into(), download(name).await?)]);
    }
    let path = Path::new(name);
    if !path.exists() {
        return Err(Error::message(format!("the path {name:?} does not exist")));
    }
    if !path.is_dir() {
        return Ok(vec![(name.into(), read_file(path)?)]);
    }
    let mut files = Vec::new();
    walk(path, recursive, &mut files)?;
    if files.is_empty() {
        let found = "recognized file extensions are [.json .yaml .yml]";
        return Err(Error::message(format!("error reading [{name}]: {found}")));
    }
    files.into_iter().map(|file| Ok((file.display().to_string(), read_file(&file)?))).collect()
}

fn read_file(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::message(format!("reading {}: {error}", path.display())))
}

fn walk(directory: &Path, recursive: bool, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if recursive {
                walk(&path, recursive, files)?;
            }
        } else if path.extension().is_some_and(|end| end == "json" || end == "yaml" || end == "yml") {
            files.push(path);
        }
    }
    Ok(())
}

async fn download(url: &str) -> Result<String> {
    let failed = |error: reqwest::Error| Error::message(format!("unable to read URL {url:?}: {}", chain(&error)));
    let response = reqwest::get(url).await.map_err(failed)?;
    if !response.status().is_success() {
        let status = response.status();
        return Err(Error::message(format!(
            "unable to read URL {url:?}, server reported {status}, status code={}",
            status.as_u16()
        )));
    }
    if response.content_length().is_some_and(|length| length > INPUT_BYTES_MAX) {
        return Err(Error::message(format!("{url:?} is larger than {} MiB", INPUT_BYTES_MAX >> 20)));
    }
    let mut text = Vec::new();
    let mut response = response;
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        text.extend_from_slice(&chunk);
        if text.len() as u64 > INPUT_BYTES_MAX {
            return Err(Error::message(format!("{url:?} is larger than {} MiB", INPUT_BYTES_MAX >> 20)));
        }
    }
    String::from_utf8(text).map_err(|_| Error::message(format!("{url:?} is no text")))
}

/// JSON when it looks like JSON (YAML has no tabs), else YAML; several documents either way.
pub fn parse(source: &str, text: &str) -> Result<Vec<Value>> {
    if text.trim_start().starts_with('{')
        && let Ok(values) = serde_json::Deserializer::from_str(text).into_iter().collect::<serde_json::Result<Vec<Value>>>()
    {
        return Ok(values);
    }
    if text.trim_start().starts_with('{')
        && machinery::gojson::syntax_error(text.as_bytes()).is_some_and(|error| error.ends_with("end of JSON input"))
    {
        return Err(Error::message(format!("error parsing {source}: unexpected EOF")));
    }
    let values = machinery::yaml::to_values_repeating(text)
        .map_err(|error| Error::message(format!("error parsing {source}: error converting YAML to JSON: {error}")))?;
    Ok(values.into_iter().filter(|value| !value.is_null()).collect())
}

/// The objects of a text, members of lists one by one.
pub fn parse_objects(source: &str, text: &str) -> Result<Vec<Value>> {
    let mut documents = Vec::new();
    for value in parse(source, text)? {
        flatten(value, source, false, &mut documents)?;
    }
    Ok(documents.into_iter().map(|document| document.value).collect())
}

fn flatten(value: Value, source: &str, checked: bool, documents: &mut Vec<Document>) -> Result<()> {
    if let Some(why) = no_object(&value, source, checked) {
        return Err(Error::message(why));
    }
    if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && value["items"].is_array() {
        let Value::Object(mut list) = value else { return Ok(()) };
        if let Some(Value::Array(items)) = list.remove("items") {
            for item in items {
                flatten(item, source, checked, documents)?;
            }
        }
        return Ok(());
    }
    documents.push(Document { value, source: source.into() });
    Ok(())
}

/// Why a value is no object of the API, in the words of who looks at it first: the check before it is sent, or the reader.
fn no_object(value: &Value, source: &str, checked: bool) -> Option<String> {
    let versions = value["apiVersion"].as_str().unwrap_or_default();
    let text = || machinery::gotext::json(value);
    let (check, reader) = if !value.is_object() {
        let found = if value.is_array() { "array" } else { "string" };
        (
            "invalid object to validate".to_owned(),
            format!("json: cannot unmarshal {found} into Go value of type unstructured.detector"),
        )
    } else if !value["kind"].is_string() {
        ("kind not set".to_owned(), format!("Object 'Kind' is missing in '{}'", text()))
    } else if versions.is_empty() {
        ("apiVersion not set".to_owned(), format!("Object 'apiVersion' is missing in '{}'", text()))
    } else if versions.matches('/').count() > 1 {
        (format!("unexpected GroupVersion string: {versions}"), format!("unexpected GroupVersion string: {versions}"))
    } else {
        return None;
    };
    Some(if checked {
        format!(
            "error validating {source:?}: error validating data: {check}; if you choose to ignore these errors, turn validation off with --validate=false"
        )
    } else {
        format!("unable to decode {source:?}: {reader}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>> {
        let mut documents = Vec::new();
        for value in parse("f.yaml", text)? {
            flatten(value, "f.yaml", false, &mut documents)?;
        }
        Ok(documents.iter().map(|d| format!("{}/{}", d.kind(), d.name())).collect())
    }

    #[test]
    fn documents_and_lists() {
        let pod = |name: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n");
        assert_eq!(read(&format!("---\n{}---\n\n---\n{}", pod("a"), pod("b"))).unwrap(), ["Pod/a", "Pod/b"]);
        let json = r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}]}"#;
        assert_eq!(read(json).unwrap(), ["Pod/a"]);
        assert_eq!(read(&format!("{json}\n{json}")).unwrap(), ["Pod/a", "Pod/a"]);
        assert_eq!(read("").unwrap(), [""; 0]);
    }

    #[test]
    fn errors_name_the_file() {
        let check = |text: &str, part: &str| {
            let message = read(text).unwrap_err().text();
            assert!(message.contains("f.yaml") && message.contains(part), "{message}");
        };
        check("apiVersion: v1\nkind: [", "line");
        check("a: b", "Object 'Kind' is missing in '{\"a\":\"b\"}'");
        check("kind: Pod", "Object 'apiVersion' is missing");
        check("- a", "json: cannot unmarshal array into Go value of type unstructured.detector");
        check("{\"kind\": \"Pod\"", "unexpected EOF");
        check("a:\n\tb: c", "error converting YAML to JSON: yaml: line 2: found character that cannot start any token");
        assert_eq!(read("apiVersion: v1\nkind: Pod\nmetadata: {name: a, name: b}").unwrap(), ["Pod/b"]);
        let why = |text: &str| no_object(&machinery::yaml::to_value(text).unwrap(), "f", true).unwrap();
        assert!(why("a: b").contains("error validating data: kind not set; if you choose"));
        assert!(why("kind: Pod\napiVersion: a/b/c").contains("unexpected GroupVersion string: a/b/c;"));
    }
}
