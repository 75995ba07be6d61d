//! What a user prefers (KEP-3104): aliases of commands and defaults of flags, from `~/.kube/kuberc`.
//!
//! The command line is rewritten before it is read: nothing else knows of preferences.

use std::{ffi::OsString, path::PathBuf};

use serde::Deserialize;

use crate::kube::{PluginPolicy, error::io_text};

/// `kubectl.config.k8s.io/v1beta1`, and v1alpha1 with other names for the same.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Preferences {
    api_version: String,
    kind: String,
    #[serde(alias = "overrides")]
    defaults: Vec<Defaults>,
    aliases: Vec<Alias>,
    credential_plugin_policy: String,
    credential_plugin_allowlist: Option<Vec<Allowed>>,
}

/// A program that may be asked for credentials; `name` is an older name of the same.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Allowed {
    #[serde(alias = "name")]
    command: String,
}

/// Defaults of a command's flags.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Defaults {
    command: String,
    #[serde(alias = "flags")]
    options: Vec<OptionDefault>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OptionDefault {
    name: String,
    default: String,
}

/// A command by another name, with words before and after those that are given.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Alias {
    name: String,
    command: String,
    prepend_args: Vec<String>,
    append_args: Vec<String>,
    #[serde(alias = "flags")]
    options: Vec<OptionDefault>,
}

/// The command line with the user's preferences in it, and which programs may be asked for credentials. Without a file the
/// line is as it was.
///
/// # Errors
/// When the file cannot be read or is no `Preference`, or when what it says of programs is wrong.
pub fn apply(given: Vec<OsString>, command: fn() -> clap::Command) -> Result<(Vec<OsString>, PluginPolicy), String> {
    let words: Vec<String> = given.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let flag = words.iter().position(|word| word == "--kuberc" || word.starts_with("--kuberc="));
    let flag = flag.and_then(|at| match words[at].strip_prefix("--kuberc=") {
        Some(file) => Some(file),
        None => words.get(at + 1).map(String::as_str),
    });
    let Some((file, named)) = file(flag) else { return Ok((given, PluginPolicy::AllowAll)) };
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        // One that is named may forbid something.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok((given, PluginPolicy::AllowAll)),
        Err(error) => return Err(failed(&format!("open {}: {}", file.display(), io_text(&error)))),
    };
    let preferences = parse(&text).map_err(|error| failed(&format!("{}: {error}", file.display())))?;
    let allowed = preferences.credential_plugin_allowlist.as_ref();
    let allowed = allowed.map(|list| list.iter().map(|allowed| allowed.command.clone()).collect());
    let policy = PluginPolicy::new(&preferences.credential_plugin_policy, allowed)
        .map_err(|error| failed(&format!("{}: {error}", file.display())))?;
    let words = rewrite(words, &preferences, &command()).into_iter().map(OsString::from).collect();
    Ok((words, policy))
}

fn failed(why: &str) -> String {
    format!("error occurred while applying preferences kuberc error kuberc: {why}")
}

/// The file of `--kuberc`, `$KUBERC` or the one in the home directory, and whether it was named; none when preferences are off.
pub fn file(flag: Option<&str>) -> Option<(PathBuf, bool)> {
    let off = |value: &str| value == "off" || value == "false";
    if std::env::var("KUBECTL_KUBERC").is_ok_and(|value| off(&value)) {
        return None;
    }
    let variable = std::env::var("KUBERC").ok();
    match flag.or(variable.as_deref()).filter(|file| !file.is_empty()) {
        Some(file) if off(file) => None,
        Some(file) => Some((file.into(), true)),
        None => Some((crate::kube::home().join(".kube/kuberc"), false)),
    }
}

fn parse(text: &str) -> Result<Preferences, String> {
    let preferences: Preferences = machinery::yaml::from_str(text).map_err(|error| error.to_string())?;
    let known = ["kubectl.config.k8s.io/v1beta1", "kubectl.config.k8s.io/v1alpha1"];
    if preferences.kind != "Preference" || !known.contains(&preferences.api_version.as_str()) {
        return Err(format!("no kind {:?} is registered for version {:?}", preferences.kind, preferences.api_version));
    }
    Ok(preferences)
}

fn rewrite(words: Vec<String>, preferences: &Preferences, root: &clap::Command) -> Vec<String> {
    let Some(first) = first_word(&words, root) else { return words };
    let known = |name: &str| root.find_subcommand(name).is_some();
    let alias = preferences.aliases.iter().find(|alias| alias.name == words[first] && !known(&alias.name));
    let mut words = words;
    let mut options: Vec<&OptionDefault> = Vec::new();
    if let Some(alias) = alias {
        let command = alias.command.split_whitespace().map(str::to_owned);
        let with: Vec<String> = command.chain(alias.prepend_args.iter().cloned()).collect();
        words.splice(first..=first, with);
        words.extend(alias.append_args.iter().cloned());
        options.extend(&alias.options);
    }
    let (command, end) = named(&words, first, root);
    let path = words[first..end].join(" ");
    // An alias has its own defaults, not those of its command.
    let of_command = preferences.defaults.iter().filter(|defaults| alias.is_none() && defaults.command == path);
    options.extend(of_command.flat_map(|defaults| &defaults.options));
    let mut added: Vec<String> = Vec::new();
    for option in options {
        let flag = format!("--{}=", option.name);
        if !is_given(&words, option, command) && !added.iter().any(|word| word.starts_with(&flag)) {
            added.push(flag + &option.default);
        }
    }
    words.splice(end..end, added);
    words
}

/// Where the command's name is, after flags of the whole program and their values.
fn first_word(words: &[String], root: &clap::Command) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        if !word.starts_with('-') {
            return Some(at);
        }
        let takes_next =
            !word.contains('=') && root.get_arguments().any(|arg| names(arg, word) && arg.get_action().takes_values());
        at += 1 + usize::from(takes_next);
    }
    None
}

/// The command that words name from `first` on, and where its name ends.
fn named<'c>(words: &[String], first: usize, root: &'c clap::Command) -> (&'c clap::Command, usize) {
    let (mut command, mut end) = (root, first);
    while let Some(next) = words.get(end).and_then(|word| command.find_subcommand(word)) {
        command = next;
        end += 1;
    }
    (command, end)
}

fn names(arg: &clap::Arg, word: &str) -> bool {
    let long = arg.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long));
    long || arg.get_short().is_some_and(|short| word == format!("-{short}"))
}

/// Whether the user said it: `--name`, `--name=value` or with its letter.
fn is_given(words: &[String], option: &OptionDefault, command: &clap::Command) -> bool {
    let long = format!("--{}", option.name);
    let argument = command.get_arguments().find(|arg| arg.get_long() == Some(option.name.as_str()));
    let short = argument.and_then(clap::Arg::get_short).map(|letter| format!("-{letter}"));
    let until = words.iter().position(|word| word == "--").unwrap_or(words.len());
    words[..until].iter().any(|word| {
        word == &long
            || word.strip_prefix(&long).is_some_and(|rest| rest.starts_with('='))
            || short.as_ref().is_some_and(|short| word.starts_with(short.as_str()) && !word.starts_with("--"))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const TEXT: &str = "
apiVersion: kubectl.config.k8s.io/v1beta1
kind: Preference
defaults:
- {command: apply, options: [{name: server-side, default: 'true'}]}
- {command: create role, options: [{name: verb, default: get}]}
- {command: get, options: [{name: output, default: wide}]}
aliases:
- {name: getn, command: get, prependArgs: [nodes], appendArgs: [--no-headers], options: [{name: output, default: json}]}
- {name: delete, command: get}
- {name: plain, command: get}
";

    #[test]
    fn preferences() {
        let preferences = parse(TEXT).unwrap();
        let check = |line: &str, want: &str| {
            let words = line.split(' ').map(str::to_owned).collect();
            assert_eq!(rewrite(words, &preferences, &crate::Kctl::command()).join(" "), want);
        };
        check("kctl apply -f x", "kctl apply --server-side=true -f x");
        check("kctl apply --server-side=false -f x", "kctl apply --server-side=false -f x");
        check("kctl -n web get pods", "kctl -n web get --output=wide pods");
        check("kctl get pods -oyaml", "kctl get pods -oyaml");
        check("kctl create role r", "kctl create role --verb=get r");
        check("kctl create cm r", "kctl create cm r");
        check("kctl getn -A", "kctl get --output=json nodes -A --no-headers");
        check("kctl getn -o yaml", "kctl get nodes -o yaml --no-headers");
        check("kctl delete pod a", "kctl delete pod a");
        check("kctl plain pod a", "kctl get pod a");
        check("kctl version", "kctl version");
        check("kctl", "kctl");
    }

    #[test]
    fn files_of_another_kind() {
        assert!(parse("apiVersion: v1\nkind: Preference").is_err() && parse("- a").is_err());
        assert!(
            parse("apiVersion: kubectl.config.k8s.io/v1alpha1\nkind: Preference\noverrides: [{command: get, flags: []}]").is_ok()
        );
    }
}
