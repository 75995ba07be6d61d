//! `kctl config set-credentials`: how a user is known to a server.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{change, file_of, fill, item, set_file};
use crate::kube::{Error, Globals, Result};

#[derive(Args, Clone, Debug)]
pub struct SetArgs {
    name: String,
    /// Name to log in with
    #[arg(long)]
    username: Option<String>,
    /// Password to log in with
    #[arg(long)]
    password: Option<String>,
    /// Keep certificate and key in the file
    #[arg(long)]
    embed_certs: bool,
    /// Authentication provider of old clients
    #[arg(long, value_name = "NAME")]
    auth_provider: Option<String>,
    /// KEY=VALUE for the provider, KEY- removes it; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    auth_provider_arg: Vec<String>,
    /// Program that prints credentials
    #[arg(long, value_name = "PROGRAM")]
    exec_command: Option<String>,
    /// API version of what the program prints
    #[arg(long, value_name = "VERSION")]
    exec_api_version: Option<String>,
    /// Argument of the program; may be given several times
    #[arg(long, value_name = "ARGUMENT", value_delimiter = ',', allow_hyphen_values = true)]
    exec_arg: Vec<String>,
    /// KEY=VALUE in the program's environment, KEY- removes it; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    exec_env: Vec<String>,
    /// When the program may ask: IfAvailable, Never, Always
    #[arg(long, value_name = "MODE")]
    exec_interactive_mode: Option<String>,
    /// Tell the program about the cluster
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    exec_provide_cluster_info: Option<bool>,
}

pub fn set(args: &SetArgs, globals: &Globals) -> Result<()> {
    check(args, globals)?;
    let (file, _) = file_of(globals, "users", &args.name)?;
    change(&file, |config| {
        let user = item(config, "users", "user", &args.name)?;
        set_file(user, "client-certificate", globals.client_certificate.as_ref(), args.embed_certs)?;
        set_file(user, "client-key", globals.client_key.as_ref(), args.embed_certs)?;
        secrets(user, globals.token.as_deref(), args);
        provider(user, args)?;
        program(user, args)
    })?;
    println!("User {:?} set.", args.name);
    Ok(())
}

fn check(args: &SetArgs, globals: &Globals) -> Result<()> {
    let given = |value: &Option<String>| value.as_deref().is_some_and(|value| !value.is_empty());
    if args.name.is_empty() {
        return Err(Error::message("you must specify a non-empty user name"));
    }
    if given(&globals.token) && (given(&args.username) || given(&args.password)) {
        return Err(Error::message(
            "you cannot specify more than one authentication method at the same time: --token, --username/--password",
        ));
    }
    let files: [Option<&PathBuf>; 2] = [globals.client_certificate.as_ref(), globals.client_key.as_ref()];
    if args.embed_certs && files.iter().all(Option::is_none) {
        return Err(Error::message("you must specify a --client-certificate or --client-key to embed"));
    }
    if args.exec_interactive_mode.as_deref().is_some_and(|mode| !["IfAvailable", "Never", "Always"].contains(&mode)) {
        return Err(Error::message("invalid interactive mode type, can be only IfAvailable, Never, Always"));
    }
    Ok(())
}

/// Token, name and password: of the ways to log in, the one that is set takes the place of the other.
fn secrets(user: &mut Value, token: Option<&str>, args: &SetArgs) {
    let fields = [("token", token), ("username", args.username.as_deref()), ("password", args.password.as_deref())];
    for (name, value) in fields {
        set_or_remove(user, name, value);
    }
    let given = |value: Option<&str>| value.is_some_and(|value| !value.is_empty());
    if given(token) {
        set_or_remove(user, "username", Some(""));
        set_or_remove(user, "password", Some(""));
    } else if given(args.username.as_deref()) || given(args.password.as_deref()) {
        set_or_remove(user, "token", Some(""));
    }
}

/// What is empty is not in the file.
fn set_or_remove(fields: &mut Value, name: &str, value: Option<&str>) {
    match (value, fields.as_object_mut()) {
        (Some(""), Some(fields)) => drop(fields.remove(name)),
        (Some(value), Some(fields)) => drop(fields.insert(name.to_owned(), value.into())),
        _ => {}
    }
}

/// `KEY=VALUE` sets, `KEY-` removes.
fn pairs<'a>(words: &'a [String], flag: &str) -> Result<Vec<(&'a str, Option<&'a str>)>> {
    let pair = |word: &'a String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, Some(value))),
        _ => match word.strip_suffix('-') {
            Some(key) if !key.is_empty() => Ok((key, None)),
            _ => Err(Error::message(format!("invalid {flag} format: {word}"))),
        },
    };
    words.iter().map(pair).collect()
}

fn provider(user: &mut Value, args: &SetArgs) -> Result<()> {
    if let Some(name) = &args.auth_provider
        && user["auth-provider"]["name"] != name.as_str()
    {
        user["auth-provider"] = json!({"name": name, "config": {}});
    }
    let Some(provider) = user.get_mut("auth-provider") else { return Ok(()) };
    if !provider["config"].is_object() {
        provider["config"] = Value::Object(Map::new());
    }
    for (key, value) in pairs(&args.auth_provider_arg, "auth-provider-arg")? {
        match (value, provider["config"].as_object_mut()) {
            (Some(value), Some(config)) => drop(config.insert(key.to_owned(), value.into())),
            (None, Some(config)) => drop(config.remove(key)),
            _ => {}
        }
    }
    Ok(())
}

/// The program that prints credentials. Another program does not get the arguments of the one before.
fn program(user: &mut Value, args: &SetArgs) -> Result<()> {
    if let Some(command) = &args.exec_command {
        if !user["exec"].is_object() {
            user["exec"] = json!({"apiVersion": null, "env": null, "provideClusterInfo": false});
        }
        user["exec"]["command"] = command.as_str().into();
        user["exec"]["args"] = Value::Null;
    }
    let Some(exec) = user.get_mut("exec").filter(|exec| exec.is_object()) else { return Ok(()) };
    let values = [
        ("apiVersion", args.exec_api_version.as_deref().map(Value::from)),
        ("args", (!args.exec_arg.is_empty()).then(|| json!(args.exec_arg))),
        ("interactiveMode", args.exec_interactive_mode.as_deref().map(Value::from)),
        ("provideClusterInfo", args.exec_provide_cluster_info.map(Value::from)),
    ];
    fill(exec, &values);
    if args.exec_env.is_empty() {
        return Ok(());
    }
    let mut env: Vec<Value> = exec["env"].as_array().cloned().unwrap_or_default();
    for (name, value) in pairs(&args.exec_env, "exec-env")? {
        env.retain(|one| value.is_some() || one["name"] != name);
        let Some(value) = value else { continue };
        match env.iter_mut().find(|one| one["name"] == name) {
            Some(one) => one["value"] = value.into(),
            None => env.push(json!({"name": name, "value": value})),
        }
    }
    exec["env"] = env.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SetArgs,
    }

    fn args(line: &str) -> SetArgs {
        Line::try_parse_from(["set-credentials", "u"].into_iter().chain(line.split_whitespace())).unwrap().args
    }

    #[test]
    fn programs() {
        let mut user = json!({});
        let check = |user: &mut Value, line: &str, want: Value| {
            program(user, &args(line)).unwrap();
            assert_eq!(user["exec"], want, "{line}");
        };
        check(&mut user, "--exec-arg=x", Value::Null);
        check(
            &mut user,
            "--exec-command=p --exec-api-version=v1 --exec-arg=a,b --exec-arg=-c --exec-env=A=1 --exec-env=B=x=y",
            json!({"apiVersion": "v1", "command": "p", "args": ["a", "b", "-c"], "provideClusterInfo": false,
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "x=y"}]}),
        );
        check(
            &mut user,
            "--exec-env=A- --exec-env=B=2 --exec-provide-cluster-info --exec-interactive-mode=Never",
            json!({"apiVersion": "v1", "command": "p", "args": ["a", "b", "-c"], "provideClusterInfo": true,
                "interactiveMode": "Never", "env": [{"name": "B", "value": "2"}]}),
        );
        program(&mut user, &args("--exec-command=q")).unwrap();
        assert_eq!((&user["exec"]["command"], &user["exec"]["args"]), (&json!("q"), &Value::Null));
        assert!(program(&mut user, &args("--exec-env=x")).is_err());
    }

    #[test]
    fn one_way_to_log_in() {
        let mut user = json!({"token": "t", "client-key": "k"});
        secrets(&mut user, None, &args("--username=n --password=p"));
        assert_eq!(user, json!({"username": "n", "password": "p", "client-key": "k"}));
        secrets(&mut user, Some("t"), &args(""));
        assert_eq!(user, json!({"token": "t", "client-key": "k"}));
    }

    #[test]
    fn providers() {
        let mut user = json!({"auth-provider": {"name": "a", "config": {"x": "1"}}});
        provider(&mut user, &args("--auth-provider=a --auth-provider-arg=y=2,x-")).unwrap();
        assert_eq!(user["auth-provider"], json!({"name": "a", "config": {"y": "2"}}));
        provider(&mut user, &args("--auth-provider=b")).unwrap();
        assert_eq!(user["auth-provider"], json!({"name": "b", "config": {}}));
    }
}
