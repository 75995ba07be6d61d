//! `kctl kuberc`: shows and changes the file of preferences.
//!
//! The file is changed as a value, so that what kctl does not know stays in it.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    kube::{Error, Globals, PluginPolicy, Result, error::io_text, file},
    kuberc,
    output::{OutputFlags, Printer},
};

/// Shows and changes preferences: aliases of commands, defaults of flags
#[derive(Args, Clone, Debug)]
pub struct KubercArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Shows the file of preferences
    View(ViewArgs),
    Set(SetArgs),
}

#[derive(Args, Clone, Debug)]
struct ViewArgs {
    #[command(flatten)]
    output: OutputFlags,
}

/// Changes the file of preferences
///
///   kctl kuberc set --section=defaults --command=get --option=output=wide
///   kctl kuberc set --section=aliases --name=getn --command=get --prependarg=nodes
///   kctl kuberc set --section=credentialplugin --policy=Allowlist --allowlist-entry=command=aws
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
struct SetArgs {
    /// What to change: defaults, aliases or credentialplugin
    #[arg(long)]
    section: String,
    /// The command: get, create, set env
    #[arg(long, default_value = "", hide_default_value = true)]
    command: String,
    /// The alias
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// FLAG=VALUE; may be given several times
    #[arg(long, value_name = "FLAG=VALUE")]
    option: Vec<String>,
    /// Word after the alias's command; may be given several times
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    prependarg: Vec<String>,
    /// Word at the end of the line; may be given several times
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    appendarg: Vec<String>,
    /// Which programs may be asked for credentials: AllowAll, DenyAll or Allowlist
    #[arg(long, default_value = "", hide_default_value = true)]
    policy: String,
    /// command=PROGRAM that may be asked; may be given several times
    #[arg(long, value_name = "command=PROGRAM", value_delimiter = ',')]
    allowlist_entry: Vec<String>,
    /// Change what is there already
    #[arg(long)]
    overwrite: bool,
}

pub fn run(args: KubercArgs, globals: &Globals) -> Result<()> {
    let flag = globals.kuberc.as_ref().map(|file| file.display().to_string());
    let (file, named) =
        kuberc::file(flag.as_deref()).ok_or_else(|| Error::message("KUBERC is disabled via KUBERC=off environment variable"))?;
    match args.what {
        What::View(args) => view(&args, &file, named),
        What::Set(args) => set(&args, &file),
    }
}

/// The preferences of the file; none when there is no file.
fn read(file: &Path) -> Result<Option<Value>> {
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => machinery::yaml::to_value(&text)
            .map(Some)
            .map_err(|error| Error::message(format!("error parsing kuberc file: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::message(format!("error reading kuberc file: open {}: {}", file.display(), io_text(&error)))),
    }
}

fn new() -> Value {
    json!({"apiVersion": "kubectl.config.k8s.io/v1beta1", "kind": "Preference", "aliases": null, "defaults": null})
}

fn view(args: &ViewArgs, file: &Path, named: bool) -> Result<()> {
    let Some(mut preferences) = read(file)? else {
        let missing = format!("kuberc file not found at {}", file.display());
        return if named { Err(Error::message(missing)) } else { offer(&missing, file) };
    };
    for list in ["aliases", "defaults"] {
        if preferences[list].is_null() {
            preferences[list] = json!([]);
        }
    }
    let mut output = args.output.clone();
    output.output.get_or_insert_with(|| "yaml".into());
    Printer::new(&output)?.print(&preferences, &|_| String::new())
}

/// Offers to write the preferences that kubectl's people recommend.
fn offer(missing: &str, file: &Path) -> Result<()> {
    println!("{missing}");
    print!("Would you like to generate a default kuberc file with recommended options? (y/N): ");
    std::io::Write::flush(&mut std::io::stdout())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if !answer.trim().eq_ignore_ascii_case("y") {
        return Ok(());
    }
    let default = |command: &str, flag: &str| json!({"command": command, "options": [{"name": flag, "default": "true"}]});
    let mut preferences = new();
    preferences["defaults"] = json!([default("apply", "server-side"), default("delete", "interactive")]);
    save(&preferences, file)
}

fn save(preferences: &Value, file: &Path) -> Result<()> {
    let failed = |error| Error::message(format!("failed to write kuberc file: {}: {}", file.display(), io_text(&error)));
    // As upstream's: it holds no secrets.
    file::replace(file, &machinery::yaml::to_string(preferences), 0o644).map_err(failed)?;
    println!("Updated {}", file.display());
    Ok(())
}

fn set(args: &SetArgs, file: &Path) -> Result<()> {
    check(args)?;
    let mut preferences = read(file)?.unwrap_or_else(new);
    change(args, &mut preferences)?;
    save(&preferences, file)
}

fn check(args: &SetArgs) -> Result<()> {
    let section = args.section.as_str();
    let why = match section {
        "defaults" | "aliases" if args.command.is_empty() => {
            "--command is required when --section=aliases or --section=defaults".into()
        }
        "aliases" if args.name.is_empty() => "--name is required when --section=aliases".into(),
        "defaults" if !args.name.is_empty() => "--name should not be specified when --section=defaults".into(),
        "defaults" if !args.prependarg.is_empty() || !args.appendarg.is_empty() => {
            "--prependarg and --appendarg are only valid for --section=aliases".into()
        }
        "defaults" | "aliases" => return Ok(()),
        "credentialplugin" => match (args.policy.as_str(), args.allowlist_entry.is_empty()) {
            ("", _) => "--policy is required when --section=credentialplugin".into(),
            ("AllowAll" | "DenyAll", true) | ("Allowlist", false) => return Ok(()),
            ("AllowAll" | "DenyAll", false) => {
                "--allowlist-entry may only be used when --section=credentialplugin and --policy=Allowlist".into()
            }
            ("Allowlist", true) => "--allowlist-entry is required when --section=credentialplugin and --policy=Allowlist".into(),
            (other, _) => format!("--policy must be \"AllowAll\", \"DenyAll\", or \"Allowlist\", got: {other}"),
        },
        other => format!("--section must be \"defaults\", \"aliases\", or \"credentialplugin\", got: {other}"),
    };
    Err(Error::Message(why))
}

/// Changes preferences as the flags say. What an overwritten entry has, and the flags do not name, stays.
fn change(args: &SetArgs, preferences: &mut Value) -> Result<()> {
    if args.section == "credentialplugin" {
        preferences["credentialPluginPolicy"] = args.policy.as_str().into();
        return allow(args, preferences);
    }
    let mut entry = json!({"command": args.command});
    let options = options(&args.option)?;
    let given = [("options", options), ("prependArgs", json!(args.prependarg)), ("appendArgs", json!(args.appendarg))];
    for (field, value) in given.into_iter().filter(|(_, value)| value.as_array().is_some_and(|list| !list.is_empty())) {
        entry[field] = value;
    }
    let (list, key, name) = match args.section.as_str() {
        "aliases" => ("aliases", "name", &args.name),
        _ => ("defaults", "command", &args.command),
    };
    entry[key] = name.as_str().into();
    if !preferences[list].is_array() {
        preferences[list] = json!([]);
    }
    let Some(entries) = preferences[list].as_array_mut() else { return Ok(()) };
    match entries.iter_mut().find(|known| known[key] == name.as_str()) {
        None => entries.push(entry),
        Some(_) if !args.overwrite && list == "aliases" => {
            return Err(Error::message(format!("alias {name:?} already exists, use --overwrite to replace")));
        }
        Some(_) if !args.overwrite => {
            return Err(Error::message(format!("defaults for command {name:?} already exist, use --overwrite to replace")));
        }
        Some(known) => {
            for (field, value) in entry.as_object().into_iter().flatten() {
                known[field.as_str()] = value.clone();
            }
        }
    }
    Ok(())
}

fn options(words: &[String]) -> Result<Value> {
    let option = |word: &String| {
        let (flag, value) =
            word.split_once('=').ok_or_else(|| Error::message(format!("invalid option format {word:?}, expected flag=value")))?;
        Ok(json!({"name": flag.trim_start_matches('-'), "default": value}))
    };
    words.iter().map(option).collect::<Result<Vec<_>>>().map(Value::from)
}

/// The list that goes with the policy; without one, a list that was there would contradict it.
fn allow(args: &SetArgs, preferences: &mut Value) -> Result<()> {
    let program = |entry: &String| match entry.split_once('=') {
        Some(("command", program)) if !program.trim().is_empty() => Ok(program.to_owned()),
        Some(("command", _)) => Err(Error::message("empty value in allowlist entry for field \"command\"")),
        Some(("name", _)) => Err(Error::message("allowlist entry field \"name\" is deprecated, use \"command\" instead")),
        Some((field, _)) => Err(Error::message(format!("unrecognized allowlist entry field: {field:?}"))),
        None => Err(Error::message(format!("improperly formatted allowlist entry: {entry:?}"))),
    };
    let programs = args.allowlist_entry.iter().map(program).collect::<Result<Vec<_>>>()?;
    let list = (!programs.is_empty()).then_some(programs);
    PluginPolicy::new(&args.policy, list.clone()).map_err(Error::Message)?;
    match (list, preferences.as_object_mut()) {
        (Some(programs), Some(preferences)) => {
            let entries: Vec<Value> = programs.iter().map(|program| json!({"command": program})).collect();
            preferences.insert("credentialPluginAllowlist".into(), entries.into());
        }
        (None, Some(preferences)) => drop(preferences.remove("credentialPluginAllowlist")),
        _ => {}
    }
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

    fn set(preferences: &mut Value, line: &str) -> Result<(), String> {
        let words = std::iter::once("set").chain(line.split(' '));
        let args = Line::try_parse_from(words).map_err(|error| error.to_string())?.args;
        check(&args).and_then(|()| change(&args, preferences)).map_err(|error| error.bare())
    }

    #[test]
    fn changes() {
        let mut preferences = new();
        let preferences = &mut preferences;
        set(preferences, "--section=defaults --command=get --option=output=wide").unwrap();
        let wide = json!({"command": "get", "options": [{"name": "output", "default": "wide"}]});
        assert_eq!(preferences["defaults"], json!([wide]));
        let refused = set(preferences, "--section=defaults --command=get --option=output=yaml");
        assert_eq!(refused, Err("defaults for command \"get\" already exist, use --overwrite to replace".into()));
        set(preferences, "--section=defaults --command=get --overwrite").unwrap();
        assert_eq!(preferences["defaults"], json!([wide]), "what is not named stays");
        set(preferences, "--section=aliases --name=x --command=run --option=--image=i --appendarg=-- --appendarg=a").unwrap();
        let alias =
            json!({"name": "x", "command": "run", "options": [{"name": "image", "default": "i"}], "appendArgs": ["--", "a"]});
        assert_eq!(preferences["aliases"], json!([alias]));
        set(preferences, "--section=aliases --name=x --command=get --prependarg=nodes --overwrite").unwrap();
        assert_eq!(
            (&preferences["aliases"][0]["command"], &preferences["aliases"][0]["prependArgs"]),
            (&json!("get"), &json!(["nodes"]))
        );
        set(preferences, "--section=credentialplugin --policy=Allowlist --allowlist-entry=command=a,command=b").unwrap();
        assert_eq!(preferences["credentialPluginAllowlist"], json!([{"command": "a"}, {"command": "b"}]));
        set(preferences, "--section=credentialplugin --policy=DenyAll").unwrap();
        assert_eq!(preferences.get("credentialPluginAllowlist"), None);
    }

    #[test]
    fn refusals() {
        let check = |line: &str, want: &str| assert_eq!(set(&mut new(), line), Err(want.into()), "{line}");
        check("--section=x", "--section must be \"defaults\", \"aliases\", or \"credentialplugin\", got: x");
        check("--section=aliases --command=get", "--name is required when --section=aliases");
        check("--section=defaults --command=get --name=x", "--name should not be specified when --section=defaults");
        check("--section=defaults", "--command is required when --section=aliases or --section=defaults");
        check("--section=defaults --command=get --option=x", "invalid option format \"x\", expected flag=value");
        check("--section=credentialplugin", "--policy is required when --section=credentialplugin");
        check("--section=credentialplugin --policy=Allowlist --allowlist-entry=x=y", "unrecognized allowlist entry field: \"x\"");
    }
}
