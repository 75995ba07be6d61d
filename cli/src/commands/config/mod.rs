//! `kctl config`: contexts, clusters and users of the kubeconfig.
//!
//! The file is changed as a value, so that what kctl does not know stays in it.

mod credentials;

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Map, Value, json};

use crate::{
    kube::{Error, Globals, Result, complete, file, kubeconfig},
    output::{OutputFlags, Printer, tabs},
};

/// Shows and changes the kubeconfig
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Shows the merged kubeconfig, without its secrets
    View(ViewArgs),
    /// Shows the name of the context in use
    CurrentContext,
    /// Lists the contexts
    GetContexts(GetContextsArgs),
    /// Lists the clusters
    GetClusters,
    /// Lists the users
    GetUsers,
    /// Changes to a context
    #[command(alias = "use")]
    UseContext {
        #[arg(add = ArgValueCompleter::new(complete::contexts))]
        name: String,
    },
    /// Makes a context or changes it
    SetContext(SetContextArgs),
    /// Makes a cluster or changes it
    SetCluster(SetClusterArgs),
    /// Makes a user or changes it
    SetCredentials(credentials::SetArgs),
    /// Gives a context another name
    RenameContext {
        #[arg(add = ArgValueCompleter::new(complete::contexts))]
        old: String,
        new: String,
    },
    /// Removes a context
    DeleteContext {
        #[arg(add = ArgValueCompleter::new(complete::contexts))]
        name: String,
    },
    /// Removes a cluster
    DeleteCluster { name: String },
    /// Removes a user
    DeleteUser { name: String },
    /// Sets a value: clusters.NAME.server, current-context, …
    Set {
        path: String,
        value: String,
        /// The value of a ...-data field is bytes, not their base64
        #[arg(long)]
        set_raw_bytes: bool,
    },
    /// Removes a value
    Unset { path: String },
}

#[derive(Args, Clone, Debug)]
struct ViewArgs {
    /// With certificates, keys and tokens
    #[arg(long)]
    raw: bool,
    /// The context in use only
    #[arg(long)]
    minify: bool,
    /// Files' contents in their place
    #[arg(long)]
    flatten: bool,
    /// All files as one; with =false that of --kubeconfig alone, as it is
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true", hide_default_value = true)]
    merge: bool,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Args, Clone, Debug)]
struct GetContextsArgs {
    #[arg(add = ArgValueCompleter::new(complete::contexts))]
    name: Option<String>,
    #[arg(long)]
    no_headers: bool,
    /// `name` prints names only
    #[arg(short, long)]
    output: Option<String>,
}

#[derive(Args, Clone, Debug)]
struct SetContextArgs {
    #[arg(add = ArgValueCompleter::new(complete::contexts))]
    name: Option<String>,
    /// The context in use
    #[arg(long, conflicts_with = "name")]
    current: bool,
}

#[derive(Args, Clone, Debug)]
struct SetClusterArgs {
    name: String,
    /// Keep the certificate authority in the file
    #[arg(long)]
    embed_certs: bool,
    /// Proxy on the way to the server
    #[arg(long, value_name = "URL")]
    proxy_url: Option<String>,
}

pub fn run(args: ConfigArgs, globals: &Globals) -> Result<()> {
    match args.what {
        What::View(args) => view(&args, globals),
        What::CurrentContext => {
            let current = current(&merged(globals)?);
            if current.is_empty() {
                return Err(Error::message("current-context is not set"));
            }
            println!("{current}");
            Ok(())
        }
        What::GetContexts(args) => get_contexts(&args, globals),
        What::GetClusters => names(globals, "clusters"),
        What::GetUsers => names(globals, "users"),
        What::UseContext { name } => {
            if find(&merged(globals)?, "contexts", &name).is_none() {
                return Err(Error::message(format!("no context exists with the name: {name:?}")));
            }
            change(&first_file(globals), |config| {
                config["current-context"] = name.as_str().into();
                Ok(())
            })?;
            println!("Switched to context {name:?}.");
            Ok(())
        }
        What::SetContext(args) => set_context(&args, globals),
        What::SetCluster(args) => set_cluster(&args, globals),
        What::SetCredentials(args) => credentials::set(&args, globals),
        What::RenameContext { old, new } => rename_context(globals, &old, &new),
        What::DeleteContext { name } => delete(globals, "contexts", "context", &name),
        What::DeleteCluster { name } => delete(globals, "clusters", "cluster", &name),
        What::DeleteUser { name } => delete(globals, "users", "user", &name),
        What::Set { path, value, set_raw_bytes } => {
            let value = if set_raw_bytes && path.ends_with("-data") { STANDARD.encode(value) } else { value };
            change(&first_file(globals), |config| set(config, &path, Some(&value)))?;
            println!("Property {path:?} set.");
            Ok(())
        }
        What::Unset { path } => {
            change(&first_file(globals), |config| set(config, &path, None))?;
            println!("Property {path:?} unset.");
            Ok(())
        }
    }
}

fn empty() -> Value {
    json!({"apiVersion": "v1", "kind": "Config", "clusters": [], "contexts": [], "users": [], "current-context": ""})
}

fn read(file: &Path) -> Result<Value> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) if !text.trim().is_empty() => text,
        Ok(_) => return Ok(empty()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(empty()),
        Err(error) => return Err(Error::message(format!("reading {}: {error}", file.display()))),
    };
    machinery::yaml::to_value(&text)
        .map_err(|error| Error::message(format!("error loading config file {:?}: {error}", file.display())))
}

/// All files as one, the first that names a thing winning.
fn merged(globals: &Globals) -> Result<Value> {
    let mut all = empty();
    for file in kubeconfig::files(globals) {
        let next = read(&file)?;
        if current(&all).is_empty() {
            all["current-context"] = current(&next).into();
        }
        for list in ["clusters", "contexts", "users"] {
            for item in next[list].as_array().into_iter().flatten() {
                let name = item["name"].as_str().unwrap_or_default();
                if find(&all, list, name).is_none()
                    && let Some(items) = all[list].as_array_mut()
                {
                    items.push(item.clone());
                }
            }
        }
    }
    for list in ["clusters", "contexts", "users"] {
        if let Some(items) = all[list].as_array_mut() {
            items.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        }
    }
    Ok(all)
}

fn current(config: &Value) -> String {
    config["current-context"].as_str().unwrap_or_default().to_owned()
}

fn find<'a>(config: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    config[list].as_array()?.iter().find(|item| item["name"] == name)
}

/// The named item's content, made if it is missing.
fn item<'a>(config: &'a mut Value, list: &str, field: &str, name: &str) -> Result<&'a mut Value> {
    let wrong = || Error::message(format!("the kubeconfig's {list} is no list"));
    if config[list].is_null() {
        config[list] = json!([]);
    }
    let items = config[list].as_array_mut().ok_or_else(wrong)?;
    let at = match items.iter().position(|item| item["name"] == name) {
        Some(at) => at,
        None => {
            items.push(json!({"name": name, field: {}}));
            items.len() - 1
        }
    };
    Ok(&mut items[at][field])
}

fn first_file(globals: &Globals) -> PathBuf {
    kubeconfig::files(globals).into_iter().next().unwrap_or_else(kubeconfig::default_file)
}

/// Writes a changed file in one step, readable by its owner only.
fn change(file: &Path, change: impl FnOnce(&mut Value) -> Result<()>) -> Result<()> {
    let mut config = read(file)?;
    change(&mut config)?;
    Ok(file::replace(file, &machinery::yaml::to_string(&config), 0o600)?)
}

fn view(args: &ViewArgs, globals: &Globals) -> Result<()> {
    if !args.merge && globals.kubeconfig.is_none() {
        return Err(Error::message("if merge==false a precise file must be specified"));
    }
    let mut config = if args.merge { merged(globals)? } else { read(&first_file(globals))? };
    if let Some(context) = &globals.context {
        config["current-context"] = context.as_str().into();
    }
    if args.minify {
        minify(&mut config)?;
    }
    if args.flatten {
        flatten(&mut config)?;
    }
    if !args.raw {
        redact(&mut config);
    }
    let mut output = args.output.clone();
    output.output.get_or_insert_with(|| "yaml".into());
    Printer::new(&output)?.print(&config, &|_| String::new())
}

fn minify(config: &mut Value) -> Result<()> {
    let current = current(config);
    let context = find(config, "contexts", &current)
        .cloned()
        .ok_or_else(|| Error::message("current-context must exist in order to minify"))?;
    let keep = [
        ("contexts", current.as_str()),
        ("clusters", context["context"]["cluster"].as_str().unwrap_or_default()),
        ("users", context["context"]["user"].as_str().unwrap_or_default()),
    ];
    for (list, name) in keep {
        if let Some(items) = config[list].as_array_mut() {
            items.retain(|item| item["name"] == name);
        }
    }
    Ok(())
}

const FILES: [(&str, &str, &str); 3] =
    [("clusters", "cluster", "certificate-authority"), ("users", "user", "client-certificate"), ("users", "user", "client-key")];

fn flatten(config: &mut Value) -> Result<()> {
    for (list, field, name) in FILES {
        for entry in config[list].as_array_mut().into_iter().flatten() {
            let Some(fields) = entry[field].as_object_mut() else { continue };
            if let Some(Value::String(path)) = fields.remove(name) {
                embed(fields, name, Path::new(&path))?;
            }
        }
    }
    Ok(())
}

fn embed(fields: &mut Map<String, Value>, name: &str, file: &Path) -> Result<()> {
    let data = std::fs::read(file)
        .map_err(|error| Error::message(format!("could not read {name} data from {}: {error}", file.display())))?;
    fields.insert(format!("{name}-data"), STANDARD.encode(data).into());
    Ok(())
}

fn redact(config: &mut Value) {
    const SECRETS: [(&str, &str); 5] = [
        ("client-key-data", "DATA+OMITTED"),
        ("client-certificate-data", "DATA+OMITTED"),
        ("certificate-authority-data", "DATA+OMITTED"),
        ("token", "REDACTED"),
        ("password", "REDACTED"),
    ];
    for (list, field) in [("clusters", "cluster"), ("users", "user")] {
        for entry in config[list].as_array_mut().into_iter().flatten() {
            for (name, shown) in SECRETS {
                if let Some(value) =
                    entry[field].get_mut(name).filter(|value| value.as_str().is_some_and(|text| !text.is_empty()))
                {
                    *value = shown.into();
                }
            }
        }
    }
}

fn get_contexts(args: &GetContextsArgs, globals: &Globals) -> Result<()> {
    let config = merged(globals)?;
    let unknown = args.name.as_ref().filter(|name| find(&config, "contexts", name).is_none());
    let current = globals.context.clone().unwrap_or_else(|| current(&config));
    let contexts = config["contexts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|context| args.name.as_ref().is_none_or(|name| context["name"] == name.as_str()));
    if args.output.as_deref() == Some("name") {
        contexts.for_each(|context| println!("{}", context["name"].as_str().unwrap_or_default()));
        return Ok(());
    }
    let mut text = String::new();
    if !args.no_headers {
        text += "CURRENT\tNAME\tCLUSTER\tAUTHINFO\tNAMESPACE\n";
    }
    for context in contexts {
        let field = |name: &str| context["context"][name].as_str().unwrap_or_default().to_owned();
        let name = context["name"].as_str().unwrap_or_default();
        let mark = if name == current { "*" } else { "" };
        text += &format!("{mark}\t{name}\t{}\t{}\t{}\n", field("cluster"), field("user"), field("namespace"));
    }
    print!("{}", tabs::align(&text, tabs::TABLE));
    match unknown {
        Some(name) => Err(Error::message(format!("context {name} not found"))),
        None => Ok(()),
    }
}

fn names(globals: &Globals, list: &str) -> Result<()> {
    println!("NAME");
    for entry in merged(globals)?[list].as_array().into_iter().flatten() {
        println!("{}", entry["name"].as_str().unwrap_or_default());
    }
    Ok(())
}

/// The file that has the item already, else the first.
fn file_of(globals: &Globals, list: &str, name: &str) -> Result<(PathBuf, bool)> {
    for file in kubeconfig::files(globals) {
        if find(&read(&file)?, list, name).is_some() {
            return Ok((file, true));
        }
    }
    Ok((first_file(globals), false))
}

fn fill(fields: &mut Value, values: &[(&str, Option<Value>)]) {
    for (name, value) in values {
        if let Some(value) = value {
            fields[*name] = value.clone();
        }
    }
}

fn said(what: &str, name: &str, existed: bool) {
    println!("{what} {name:?} {}.", if existed { "modified" } else { "created" });
}

fn set_context(args: &SetContextArgs, globals: &Globals) -> Result<()> {
    let name = if args.current { current(&merged(globals)?) } else { args.name.clone().unwrap_or_default() };
    if name.is_empty() {
        let why =
            if args.current { "no current context is set" } else { "you must specify a non-empty context name or --current" };
        return Err(Error::message(why));
    }
    let (file, existed) = file_of(globals, "contexts", &name)?;
    let text = |value: &Option<String>| value.as_deref().map(Value::from);
    let values = [("cluster", text(&globals.cluster)), ("user", text(&globals.user)), ("namespace", text(&globals.namespace))];
    change(&file, |config| {
        fill(item(config, "contexts", "context", &name)?, &values);
        Ok(())
    })?;
    said("Context", &name, existed);
    Ok(())
}

fn absolute(path: &Path) -> Value {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string().into()
}

fn set_file(fields: &mut Value, name: &str, file: Option<&PathBuf>, embedded: bool) -> Result<()> {
    let (Some(file), Some(fields)) = (file, fields.as_object_mut()) else { return Ok(()) };
    fields.remove(name);
    fields.remove(&format!("{name}-data"));
    if embedded {
        return embed(fields, name, file);
    }
    fields.insert(name.to_owned(), absolute(file));
    Ok(())
}

fn set_cluster(args: &SetClusterArgs, globals: &Globals) -> Result<()> {
    if globals.insecure_skip_tls_verify == Some(true) && globals.certificate_authority.is_some() {
        return Err(Error::message("you cannot specify a certificate authority and insecure mode at the same time"));
    }
    let (file, existed) = file_of(globals, "clusters", &args.name)?;
    change(&file, |config| {
        let fields = item(config, "clusters", "cluster", &args.name)?;
        let values = [
            ("server", globals.server.as_deref().map(Value::from)),
            ("tls-server-name", globals.tls_server_name.as_deref().map(Value::from)),
            ("proxy-url", args.proxy_url.as_deref().map(Value::from)),
            ("insecure-skip-tls-verify", globals.insecure_skip_tls_verify.map(Value::from)),
        ];
        fill(fields, &values);
        set_file(fields, "certificate-authority", globals.certificate_authority.as_ref(), args.embed_certs)
    })?;
    println!("Cluster {:?} set.", args.name);
    let _ = existed;
    Ok(())
}

fn rename_context(globals: &Globals, old: &str, new: &str) -> Result<()> {
    let config = merged(globals)?;
    if find(&config, "contexts", old).is_none() {
        return Err(Error::message(format!("cannot rename the context {old:?}, it's not in {}", first_file(globals).display())));
    }
    if find(&config, "contexts", new).is_some() {
        return Err(Error::message(format!(
            "cannot rename the context {old:?}, the context {new:?} already exists in {}",
            first_file(globals).display()
        )));
    }
    let (file, _) = file_of(globals, "contexts", old)?;
    change(&file, |config| {
        for context in config["contexts"].as_array_mut().into_iter().flatten().filter(|context| context["name"] == old) {
            context["name"] = new.into();
        }
        if config["current-context"] == old {
            config["current-context"] = new.into();
        }
        Ok(())
    })?;
    println!("Context {old:?} renamed to {new:?}.");
    Ok(())
}

fn delete(globals: &Globals, list: &str, what: &str, name: &str) -> Result<()> {
    let (file, found) = file_of(globals, list, name)?;
    if !found {
        return Err(Error::message(format!("cannot delete {what} {name}, not in {}", file.display())));
    }
    if list == "contexts" && current(&merged(globals)?) == name {
        eprintln!("warning: this removed your active context, use \"kctl config use-context\" to select a different one");
    }
    change(&file, |config| {
        if let Some(items) = config[list].as_array_mut() {
            items.retain(|item| item["name"] != name);
        }
        Ok(())
    })?;
    println!("deleted {what} {name} from {}", file.display());
    Ok(())
}

/// Sets or removes the value at `clusters.NAME.server`, `contexts.NAME.namespace`, `current-context`. Names may have dots.
fn set(config: &mut Value, path: &str, value: Option<&str>) -> Result<()> {
    let value = value.map(|text| match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        text => text.into(),
    });
    let Some((list, rest)) = path.split_once('.') else {
        match (value, config.as_object_mut()) {
            (Some(value), Some(config)) => drop(config.insert(path.to_owned(), value)),
            (None, Some(config)) => drop(config.remove(path)),
            _ => {}
        }
        return Ok(());
    };
    let field = match list {
        "clusters" => "cluster",
        "contexts" => "context",
        "users" => "user",
        _ => return Err(Error::message(format!("unable to parse path {path:?}: it begins with clusters, contexts or users"))),
    };
    let Some((name, property)) = rest.rsplit_once('.') else {
        if value.is_none()
            && let Some(items) = config[list].as_array_mut()
        {
            items.retain(|item| item["name"] != rest);
            return Ok(());
        }
        return Err(Error::message(format!("{path:?} names no property")));
    };
    let fields = item(config, list, field, name)?;
    match (value, fields.as_object_mut()) {
        (Some(value), Some(fields)) => drop(fields.insert(property.to_owned(), value)),
        (None, Some(fields)) => drop(fields.remove(property)),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let mut config = empty();
        set(&mut config, "clusters.my.cluster.server", Some("https://a")).unwrap();
        set(&mut config, "current-context", Some("x")).unwrap();
        assert_eq!(find(&config, "clusters", "my.cluster").unwrap()["cluster"]["server"], "https://a");
        assert_eq!(current(&config), "x");
        set(&mut config, "clusters.my.cluster.server", None).unwrap();
        assert_eq!(find(&config, "clusters", "my.cluster").unwrap()["cluster"], json!({}));
        set(&mut config, "clusters.my", None).unwrap();
        assert!(set(&mut config, "pods.x.y", Some("z")).is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut config =
            json!({"users": [{"name": "a", "user": {"token": "s3cret", "client-key-data": "czNjcmV0", "client-key": "file"}}]});
        redact(&mut config);
        assert_eq!(
            config["users"][0]["user"],
            json!({"token": "REDACTED", "client-key-data": "DATA+OMITTED", "client-key": "file"})
        );
    }
}
