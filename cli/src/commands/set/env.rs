//! `kctl set env`.

mod list;

use std::io::Read;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Value, json};

use super::{
    change::{SetFlags, Wording},
    containers::{pod_spec, selected},
};
use crate::kube::{Error, Info, Query, Result, Session, complete};

/// Most that is read from standard input.
const INPUT_BYTES_MAX: u64 = 1 << 20;

/// Sets, removes and lists environment variables of containers
///
///   kctl set env deploy/web MODE=fast OLD-      kctl set env deploy/web --list
///   kctl set env deploy/web --from=configmap/settings --prefix=APP_
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct EnvArgs {
    /// TYPE NAME KEY=VALUE… KEY-…; `-` reads KEY=VALUE lines from standard input
    #[arg(value_name = "TYPE NAME KEY=VALUE", add = ArgValueCompleter::new(complete::resources))]
    words: Vec<String>,
    /// KEY=VALUE, for values that look like something else
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Variables for the keys of a config map or a secret: TYPE/NAME
    #[arg(long, value_name = "TYPE/NAME")]
    from: Option<String>,
    /// Only these keys of --from
    #[arg(long, value_delimiter = ',')]
    keys: Vec<String>,
    /// Put before every name
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Only containers with this name; `*` stands for any text
    #[arg(short, long, default_value = "*")]
    containers: String,
    /// Print the variables
    #[arg(long)]
    list: bool,
    /// With --list: look up what variables refer to
    #[arg(long)]
    resolve: bool,
    /// Replace values that are there already
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true", hide_default_value = true)]
    overwrite: bool,
    #[command(flatten)]
    flags: SetFlags,
}

#[derive(Debug, Default, PartialEq)]
struct Changes {
    /// As `env` of a container has them.
    set: Vec<Value>,
    remove: Vec<String>,
}

pub async fn run(args: EnvArgs, session: &Session) -> Result<()> {
    let (words, specs) = split(&args.words)?;
    args.flags.check()?;
    if words.is_empty() && args.flags.files.is_empty() {
        return Err(Error::message("one or more resources must be specified as <resource> <name> or <resource>/<name>"));
    }
    if args.list && args.flags.change.output().is_some() {
        return Err(Error::message("--list and --output may not be specified together"));
    }
    if !args.keys.is_empty() && args.from.is_none() {
        return Err(Error::message("when specifying --keys, a configmap or secret must be provided with --from"));
    }
    let specs: Vec<&String> = args.env.iter().chain(specs).collect();
    let mut input = String::new();
    if specs.iter().any(|spec| *spec == "-") {
        std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_string(&mut input)?;
    }
    let mut changes = changes(&specs, &input)?;
    if let Some(from) = &args.from {
        changes.set.extend(of_keys(from, &args.keys, session).await?);
    }
    for variable in changes.set.iter_mut().filter(|_| !args.prefix.is_empty()) {
        variable["name"] = format!("{}{}", args.prefix, variable["name"].as_str().unwrap_or_default()).into();
    }
    if args.list {
        let (infos, errors) = args.flags.infos(words, session).await?;
        Error::all(errors)?;
        return list::print(session, infos, &args.containers, args.resolve, |containers| edit(containers, &changes, true)).await;
    }
    let (containers, overwrite) = (&args.containers, args.overwrite);
    let wording = Wording { done: "env updated", failed: "failed to patch env update to pod template:", unchanged_too: false };
    args.flags
        .each(words, session, wording, |info, object| {
            let spec = pod_spec(info, object)?;
            let found = selected(spec, containers);
            if found.is_empty() {
                let (kind, name) = (&info.resource.kind, &info.name);
                eprintln!("Warning: {kind}/{name} does not have any containers matching {containers:?}");
            }
            edit(found, &changes, overwrite).map_err(|error| about(info, &error))
        })
        .await
}

fn about(info: &Info, error: &Error) -> Error {
    Error::Plain(format!("error: {}/{} {}", info.resource.plural, info.name, error.bare()))
}

/// Splits the objects from the variables: the first word that is one begins the latter.
fn split(words: &[String]) -> Result<(&[String], &[String])> {
    let is_variable = |word: &String| word.find('=').is_some_and(|at| at > 0) || word.ends_with('-');
    let at = words.iter().position(is_variable).unwrap_or(words.len());
    let (objects, variables) = words.split_at(at);
    if variables.iter().all(is_variable) {
        return Ok((objects, variables));
    }
    Err(Error::message(format!("all resources must be specified before environment changes: {}", words.join(" "))))
}

/// What `KEY=VALUE`, `KEY-` and `-` ask for. `input` is what `-` reads.
fn changes(specs: &[&String], input: &str) -> Result<Changes> {
    let mut changes = Changes::default();
    let mut named: Vec<&str> = Vec::new();
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    for spec in specs {
        if spec.as_str() == "-" {
            let lines = input.lines().map(|line| line.split('#').next().unwrap_or_default());
            changes.set.extend(lines.filter_map(|line| line.split_once('=')).map(|(name, value)| variable(name, value)));
        } else if let Some((name, value)) = spec.split_once('=') {
            let errors = machinery::names::env_var_name(name);
            if !errors.is_empty() {
                return Err(Error::message(format!("{name:?} is not a valid key name: {}", errors.join(";"))));
            }
            named.push(name);
            changes.set.push(variable(name, value));
        } else if let Some(name) = spec.strip_suffix('-') {
            changes.remove.push(name.to_owned());
        } else {
            return Err(Error::message(format!("unknown environment variable: {spec}")));
        }
    }
    if changes.remove.iter().any(|name| named.contains(&name.as_str())) {
        return Err(Error::message("can not both modify and remove the same environment variable in the same command"));
    }
    Ok(changes)
}

/// Variables that refer to the keys of a config map or a secret.
async fn of_keys(from: &str, keys: &[String], session: &Session) -> Result<Vec<Value>> {
    let query = Query { words: vec![from.to_owned()], ..Query::default() };
    let (infos, errors) = query.fetch(session).await?;
    Error::all(errors)?;
    let mut variables = Vec::new();
    for info in infos {
        let reference = match info.resource.kind.as_str() {
            "ConfigMap" => "configMapKeyRef",
            "Secret" => "secretKeyRef",
            _ => return Err(Error::message("unsupported resource specified in --from")),
        };
        let data = info.object["data"].as_object().into_iter().flatten();
        for (key, _) in data.filter(|(key, _)| keys.is_empty() || keys.contains(key)) {
            let name = variable_name(key);
            if name != *key {
                eprintln!("Warning: key {key} transferred to {name}");
            }
            variables.push(json!({"name": name, "valueFrom": {reference: {"key": key, "name": info.name}}}));
        }
    }
    Ok(variables)
}

/// `LOG_LEVEL` of `log.level`.
fn variable_name(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// Changes the variables of containers. A new value replaces all of its name; the first keeps its place.
fn edit(containers: Vec<&mut Value>, changes: &Changes, overwrite: bool) -> Result<()> {
    for container in containers {
        let mut old = match container.get_mut("env").map(Value::take) {
            Some(Value::Array(old)) => old,
            _ => Vec::new(),
        };
        let find = |list: &[Value], name: &Value| list.iter().find(|variable| variable["name"] == *name).cloned();
        if !overwrite {
            for new in &changes.set {
                let text = |variable: &Value| variable["value"].as_str().unwrap_or_default().to_owned();
                if let Some(current) = find(&old, &new["name"]).filter(|current| text(current) != text(new)) {
                    let name = current["name"].as_str().unwrap_or_default();
                    return Err(Error::message(format!(
                        "'{name}' already has a value ({}), and --overwrite is false",
                        text(&current)
                    )));
                }
            }
        }
        old.retain(|variable| !changes.remove.iter().any(|name| variable["name"] == **name));
        let mut env: Vec<Value> = Vec::new();
        let mut placed: Vec<Value> = Vec::new();
        for variable in old.iter().chain(&changes.set) {
            let name = &variable["name"];
            match find(&changes.set, name) {
                Some(_) if placed.contains(name) || changes.remove.iter().any(|removed| name == removed) => {}
                Some(new) => {
                    placed.push(name.clone());
                    env.push(new);
                }
                None => env.push(variable.clone()),
            }
        }
        if let Some(container) = container.as_object_mut() {
            container.remove("env");
            if !env.is_empty() {
                container.insert("env".into(), env.into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, overwrite: bool, want: Result<Value, &str>) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let mut container =
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "A", "value": "3"}]});
        let outcome = split(&words).and_then(|(objects, specs)| {
            assert_eq!(objects, ["deploy/web"]);
            let changes = changes(&specs.iter().collect::<Vec<_>>(), "X=9 # a comment\nnothing\n")?;
            edit(vec![&mut container], &changes, overwrite)
        });
        let got = outcome.map(|()| container["env"].clone()).map_err(|error| error.bare());
        assert_eq!(got, want.map_err(str::to_owned), "{line}");
    }

    #[test]
    fn sets_and_removes() {
        let variables =
            |list: &[(&str, &str)]| -> Value { list.iter().map(|(name, value)| json!({"name": name, "value": value})).collect() };
        check("deploy/web A=7 C=8", true, Ok(variables(&[("A", "7"), ("B", "2"), ("C", "8")])));
        check("deploy/web A- C=", true, Ok(variables(&[("B", "2"), ("C", "")])));
        check("deploy/web -", true, Ok(variables(&[("A", "1"), ("B", "2"), ("A", "3"), ("X", "9 ")])));
        check("deploy/web A- B-", true, Ok(Value::Null));
        check("deploy/web B=3", false, Err("'B' already has a value (2), and --overwrite is false"));
        check("deploy/web B=3 B-", true, Err("can not both modify and remove the same environment variable in the same command"));
        check("deploy/web B=3 x", true, Err("all resources must be specified before environment changes: deploy/web B=3 x"));
    }

    #[test]
    fn names_of_variables() {
        assert_eq!(variable_name("log.level-x"), "LOG_LEVEL_X");
    }
}
