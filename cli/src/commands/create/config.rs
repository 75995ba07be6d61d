//! Namespaces, config maps and secrets.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::CreateFlags;
use crate::kube::{Error, Result, error::io_text, kustomize};

/// Creates a namespace
#[derive(Args, Clone, Debug)]
pub struct NamespaceArgs {
    name: String,
    #[command(flatten)]
    pub(super) flags: CreateFlags,
}

impl NamespaceArgs {
    pub(super) fn object(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}, "spec": {}, "status": {}})
    }
}

/// Where the data of config maps and secrets comes from.
#[derive(Args, Clone, Debug, Default)]
struct Sources {
    /// A file, [KEY=]FILE, or each file of a directory
    #[arg(long, value_name = "[KEY=]FILE", value_hint = clap::ValueHint::AnyPath)]
    from_file: Vec<String>,
    /// A value
    #[arg(long, value_name = "KEY=VALUE")]
    from_literal: Vec<String>,
    /// A file with lines KEY=VALUE
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    from_env_file: Vec<PathBuf>,
}

impl Sources {
    /// Keys with their bytes.
    fn read(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let others = !self.from_file.is_empty() || !self.from_literal.is_empty();
        if !self.from_env_file.is_empty() && others {
            return Err(Error::message("from-env-file cannot be combined with from-file or from-literal"));
        }
        let mut data: Vec<(String, Vec<u8>)> = Vec::new();
        for spec in &self.from_file {
            let (key, path) = match spec.split_once('=') {
                Some((key, path)) if !key.is_empty() && !path.is_empty() => (Some(key.to_owned()), path),
                Some(_) => return Err(Error::message(format!("key name or file path missing: {spec}"))),
                None => (None, spec.as_str()),
            };
            from_path(key, Path::new(path), &mut data)?;
        }
        for spec in &self.from_literal {
            let (key, value) = spec
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| Error::message(format!("invalid literal source {spec}, expected key=value")))?;
            add(&mut data, key.to_owned(), value.trim_matches('\'').trim_matches('"').as_bytes().to_vec())?;
        }
        for file in &self.from_env_file {
            for (key, value) in env_lines(&read_text(file)?)? {
                add(&mut data, key, value.into_bytes())?;
            }
        }
        Ok(data)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::message(format!("error reading {}: {}", path.display(), io_text(&error))))
}

fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|_| Error::message(format!("{} is no text", path.display())))
}

fn from_path(key: Option<String>, path: &Path, data: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !path.is_dir() {
        return add(data, key.unwrap_or_else(|| name(path)), read(path)?);
    }
    if key.is_some() {
        return Err(Error::message("cannot give a key name for a directory path"));
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    for file in files.into_iter().filter(|file| file.is_file()) {
        add(data, name(&file), read(&file)?)?;
    }
    Ok(())
}

fn add(data: &mut Vec<(String, Vec<u8>)>, key: String, value: Vec<u8>) -> Result<()> {
    let errors = machinery::names::config_map_key(&key);
    if !errors.is_empty() {
        return Err(Error::message(format!("{key:?} is not a valid key name: {}", errors.join(","))));
    }
    if data.iter().any(|(other, _)| *other == key) {
        return Err(Error::message(format!("cannot add key {key:?}, another key by that name already exists")));
    }
    data.push((key, value));
    Ok(())
}

fn env_lines(text: &str) -> Result<Vec<(String, String)>> {
    let lines = text
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (key, value) =
                line.split_once('=').map_or_else(|| (line, std::env::var(line).unwrap_or_default()), |(k, v)| (k, v.to_owned()));
            let errors = machinery::names::env_var_name(key);
            if errors.is_empty() {
                Ok((key.to_owned(), value))
            } else {
                Err(Error::message(format!("{key:?} is not a valid key name: {}", errors.join(";"))))
            }
        })
        .collect()
}

/// Whether the name says what is in it.
#[derive(Args, Clone, Copy, Debug)]
struct HashFlag {
    /// Append a hash of the content to the name
    #[arg(long)]
    append_hash: bool,
}

impl HashFlag {
    fn name(self, mut object: Value) -> Value {
        if self.append_hash {
            let name = format!("{}-{}", machinery::meta::name(&object), content_hash(&object));
            object["metadata"]["name"] = name.into();
        }
        object
    }
}

/// The hash of a config map or secret as kubectl makes it: of its data, kind, name and type.
fn content_hash(object: &Value) -> String {
    // In the order of Go's encoder, which is that of the keys.
    let mut content = Map::new();
    if let Some(binary) = object.get("binaryData") {
        content.insert("binaryData".into(), binary.clone());
    }
    content.insert("data".into(), object.get("data").cloned().unwrap_or_else(|| json!({})));
    content.insert("kind".into(), object["kind"].clone());
    content.insert("name".into(), machinery::meta::name(object).into());
    if machinery::meta::kind(object) == "Secret" {
        content.insert("type".into(), object.get("type").cloned().unwrap_or_else(|| "".into()));
    }
    kustomize::letters(content)
}

/// Creates a config map
#[derive(Args, Clone, Debug)]
pub struct ConfigMapArgs {
    name: String,
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    hash: HashFlag,
    #[command(flatten)]
    pub(super) flags: CreateFlags,
}

impl ConfigMapArgs {
    pub(super) fn object(&self) -> Result<Value> {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.name}});
        let data = self.sources.read().map_err(|error| match error {
            Error::Message(text) if text.ends_with("already exists") => {
                Error::Message(format!("{text} in Data for ConfigMap {:?}", self.name))
            }
            error => error,
        })?;
        for (key, value) in data {
            match String::from_utf8(value) {
                Ok(text) => object["data"][key] = text.into(),
                Err(bytes) => object["binaryData"][key] = STANDARD.encode(bytes.as_bytes()).into(),
            }
        }
        Ok(self.hash.name(object))
    }
}

/// Creates a secret
#[derive(Args, Clone, Debug)]
pub struct SecretArgs {
    #[command(subcommand)]
    what: SecretKind,
}

#[derive(Subcommand, Clone, Debug)]
enum SecretKind {
    Generic(GenericArgs),
    Tls(TlsArgs),
    DockerRegistry(RegistryArgs),
}

/// Any data
#[derive(Args, Clone, Debug)]
struct GenericArgs {
    name: String,
    #[command(flatten)]
    sources: Sources,
    /// The secret's type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten)]
    hash: HashFlag,
    #[command(flatten)]
    flags: CreateFlags,
}

/// A certificate and its key
#[derive(Args, Clone, Debug)]
struct TlsArgs {
    name: String,
    /// PEM file with the certificate
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    cert: PathBuf,
    /// PEM file with the key
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    key: PathBuf,
    #[command(flatten)]
    hash: HashFlag,
    #[command(flatten)]
    flags: CreateFlags,
}

/// Credentials of an image registry
#[derive(Args, Clone, Debug)]
struct RegistryArgs {
    name: String,
    #[arg(long, default_value = "https://index.docker.io/v1/")]
    docker_server: String,
    #[arg(long, required_unless_present = "from_file")]
    docker_username: Option<String>,
    #[arg(long, required_unless_present = "from_file")]
    docker_password: Option<String>,
    #[arg(long)]
    docker_email: Option<String>,
    /// A file as `docker login` writes it
    #[arg(long, value_name = "[.dockerconfigjson=]FILE")]
    from_file: Option<String>,
    #[command(flatten)]
    hash: HashFlag,
    #[command(flatten)]
    flags: CreateFlags,
}

impl SecretArgs {
    pub(super) fn flags(&self) -> &CreateFlags {
        match &self.what {
            SecretKind::Generic(args) => &args.flags,
            SecretKind::Tls(args) => &args.flags,
            SecretKind::DockerRegistry(args) => &args.flags,
        }
    }

    pub(super) fn object(&self) -> Result<Value> {
        let (name, hash, kind, data) = match &self.what {
            SecretKind::Generic(args) => (&args.name, args.hash, args.kind.clone(), args.sources.read()?),
            SecretKind::Tls(args) => {
                let read = |path: &Path| {
                    let failed = |error| {
                        let path = path.display();
                        Error::message(format!("Cannot read file {path}, open {path}: {}", io_text(&error)))
                    };
                    std::fs::read(path).map_err(failed)
                };
                let data = vec![("tls.crt".into(), read(&args.cert)?), ("tls.key".into(), read(&args.key)?)];
                check_pair(&data[0].1, &data[1].1)?;
                (&args.name, args.hash, Some("kubernetes.io/tls".to_owned()), data)
            }
            SecretKind::DockerRegistry(args) => {
                let data = vec![(".dockerconfigjson".to_owned(), args.config()?)];
                (&args.name, args.hash, Some("kubernetes.io/dockerconfigjson".to_owned()), data)
            }
        };
        let data: Map<String, Value> = data.into_iter().map(|(key, value)| (key, STANDARD.encode(value).into())).collect();
        let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
        if !data.is_empty() {
            object["data"] = Value::Object(data);
        }
        if let Some(kind) = kind {
            object["type"] = kind.into();
        }
        Ok(hash.name(object))
    }
}

/// A certificate with another's key is found here rather than in production.
fn check_pair(certificate: &[u8], key: &[u8]) -> Result<()> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let wrong = |error: &dyn std::fmt::Display| Error::message(format!("tls: {error}"));
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| wrong(&error))?;
    let provider = rustls::crypto::ring::default_provider();
    rustls::sign::CertifiedKey::from_der(chain, key, &provider).map(drop).map_err(|error| wrong(&error))
}

impl RegistryArgs {
    fn config(&self) -> Result<Vec<u8>> {
        if let Some(file) = &self.from_file {
            return read(Path::new(file.strip_prefix(".dockerconfigjson=").unwrap_or(file)));
        }
        let (user, password) =
            (self.docker_username.as_deref().unwrap_or_default(), self.docker_password.as_deref().unwrap_or_default());
        // In the order in which docker writes it: the text is compared.
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let email = self.docker_email.as_deref().filter(|email| !email.is_empty());
        let fields = [("username", Some(user)), ("password", Some(password)), ("email", email), ("auth", Some(&auth))];
        let fields: Vec<String> =
            fields.iter().filter_map(|(name, value)| Some(format!("{:?}:{}", name, json!((*value)?)))).collect();
        Ok(format!("{{\"auths\":{{{}:{{{}}}}}}}", json!(self.docker_server), fields.join(",")).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let sources = Sources { from_literal: vec!["a=1".into(), "b=x=y".into()], ..Sources::default() };
        assert_eq!(sources.read().unwrap(), [("a".into(), b"1".to_vec()), ("b".into(), b"x=y".to_vec())]);
        let wrong = |literals: &[&str]| {
            let from_literal = literals.iter().map(|s| (*s).to_owned()).collect();
            Sources { from_literal, ..Sources::default() }.read().unwrap_err().text()
        };
        assert_eq!(wrong(&["a"]), "error: invalid literal source a, expected key=value");
        assert_eq!(wrong(&["a=1", "a=2"]), "error: cannot add key \"a\", another key by that name already exists");
        assert!(wrong(&["a/b=1"]).starts_with("error: \"a/b\" is not a valid key name: "));
        assert_eq!(env_lines("# x\nA=1\n\n B=2=3\n").unwrap(), [("A".into(), "1".into()), ("B".into(), "2=3".into())]);
    }
}
