//! A wrong command line, in the words that kubectl's users know (those of cobra), and with kubectl's exit code.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What is printed to stderr for clap's error; `None` when clap's own text serves: help and versions.
pub fn message(error: &clap::Error, words: &[String]) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let help = |line: String| Some(format!("error: {line}\nSee '{} --help' for usage.", path(words)));
    match error.kind() {
        ErrorKind::UnknownArgument => match argument.strip_prefix("--") {
            Some(_) => help(format!("unknown flag: {}", flag(&argument))),
            None if argument.starts_with('-') && argument.len() > 1 => {
                let word = words.iter().find(|word| !word.starts_with("--") && word.starts_with(&argument));
                let letter = argument.chars().nth(1).unwrap_or_default();
                help(format!("unknown shorthand flag: {letter:?} in {}", word.unwrap_or(&argument)))
            }
            None => {
                let path = path(words);
                let takes_none = ["kctl api-resources", "kctl api-versions"].contains(&path.as_str());
                Some(match takes_none {
                    true => format!("error: unexpected arguments: [{argument}]\nSee '{path} -h' for help and examples"),
                    false if path == "kctl apply" => {
                        format!("error: Unexpected args: [{argument}]\nSee '{path} -h' for help and examples")
                    }
                    false => format!("error: unknown command {argument:?} for {path:?}"),
                })
            }
        },
        ErrorKind::InvalidSubcommand => {
            let wrong = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let parent = path(words);
            if parent == "kctl create" {
                return Some(format!("error: Unexpected args: [{wrong}]\nSee '{parent} -h' for help and examples"));
            }
            if parent != "kctl" {
                return Some(format!("error: unknown command {wrong:?}\nSee '{parent} -h' for help and examples"));
            }
            let mut like: String = similar(&wrong).iter().map(|name| format!("\n\t{name}")).collect();
            if !like.is_empty() {
                like = format!("\n\nDid you mean this?{like}");
            }
            Some(format!("error: unknown command {wrong:?} for {parent:?}{like}"))
        }
        ErrorKind::MissingRequiredArgument => missing(error, words),
        ErrorKind::InvalidValue if text(ContextKind::InvalidValue).is_none_or(|value| value.is_empty()) => {
            let short = words.last().filter(|word| word.len() == 2 && word.starts_with('-') && *word != "--");
            match short.and_then(|word| word.chars().nth(1)) {
                Some(letter) => help(format!("flag needs an argument: {letter:?} in -{letter}")),
                None => help(format!("flag needs an argument: {}", flag(&argument))),
            }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            let reason = match std::error::Error::source(error) {
                Some(source) => match source.downcast_ref::<std::num::ParseIntError>() {
                    Some(number) => number_error("ParseInt", &value, number),
                    None => source.to_string(),
                },
                None => valid(error),
            };
            match flag(&argument) {
                // What kubectl looks at after the flags are read.
                "--validate" => Some(format!("error: {reason}")),
                "--request-timeout" => Some(format!("error: {TIMEOUT}")),
                "--sort-by" if path(words) == "kctl api-resources" => Some("error: --sort-by accepts only name or kind".into()),
                _ => help(format!("invalid argument {value:?} for {:?} flag: {}", flags(&argument, words), reason)),
            }
        }
        ErrorKind::ArgumentConflict => {
            let other = text(ContextKind::PriorArg).unwrap_or_default();
            if path(words) == "kctl apply" && !argument.starts_with('-') {
                let extra = words.last().map(String::as_str).unwrap_or_default();
                return Some(format!("error: Unexpected args: [{extra}]\nSee 'kctl apply -h' for help and examples"));
            }
            Some(format!("error: {} and {} are mutually exclusive", flag(&argument), flag(&other)))
        }
        _ => None,
    }
}

const TIMEOUT: &str = "Invalid timeout value. Timeout must be a single integer in seconds, or an integer followed by a corresponding time unit (e.g. 1s | 2m | 3h)";

/// Commands that may have been meant: two letters away, or begun, as cobra has it.
fn similar(wrong: &str) -> Vec<String> {
    let command = crate::Kctl::command();
    let names = command.get_subcommands().map(|command| command.get_name().to_owned());
    let mut names: Vec<String> =
        names.filter(|name| distance(wrong, name) <= 2 || name.starts_with(&wrong.to_lowercase())).collect();
    names.sort();
    names
}

/// How many letters must be put, taken or replaced to make one word of another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// `required flag(s) "image" not set`, or how many names are expected.
fn missing(error: &clap::Error, words: &[String]) -> Option<String> {
    let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else { return None };
    let flags: Vec<String> =
        missing.iter().filter_map(|arg| flag(arg).strip_prefix("--").map(|name| format!("{name:?}"))).collect();
    if !flags.is_empty() {
        return Some(format!("error: required flag(s) {} not set", flags.join(", ")));
    }
    let path = path(words);
    Some(format!("error: exactly one NAME is required, got 0\nSee '{path} -h' for help and examples"))
}

/// `--image` of `--image <IMAGE>`.
fn flag(argument: &str) -> &str {
    argument.split([' ', '=', '[']).next().unwrap_or(argument)
}

/// As cobra names a flag that has a letter too.
fn flags(argument: &str, words: &[String]) -> String {
    let (name, (_, command)) = (flag(argument), named(words));
    let root = crate::Kctl::command();
    let mut all = command.get_arguments().chain(root.get_arguments());
    let known = all.find(|argument| argument.get_long() == name.strip_prefix("--"));
    match known.and_then(clap::Arg::get_short) {
        Some(letter) => format!("-{letter}, {name}"),
        None => name.to_owned(),
    }
}

/// What Go says of a text that is no number.
pub fn number_error(function: &str, text: &str, error: &std::num::ParseIntError) -> String {
    let overflow = matches!(error.kind(), std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow);
    format!("strconv.{function}: parsing {text:?}: {}", if overflow { "value out of range" } else { "invalid syntax" })
}

/// What would have been valid.
fn valid(error: &clap::Error) -> String {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!("must be one of: {}", values.join(", ")),
        _ => "invalid value".into(),
    }
}

/// The command that was called, `kctl create role`.
fn path(words: &[String]) -> String {
    named(words).0
}

/// The command that the words name, and what it is called.
fn named(words: &[String]) -> (String, clap::Command) {
    let mut command = crate::Kctl::command();
    let mut path = String::from("kctl");
    for word in words.iter().skip(1) {
        let Some(next) = command.find_subcommand(word).cloned() else {
            if word.starts_with('-') {
                continue;
            }
            break;
        };
        path += &format!(" {}", next.get_name());
        command = next;
    }
    (path, command)
}

#[cfg(test)]
mod tests {
    #[test]
    fn letters_away() {
        for (a, b, want) in
            [("get", "get", 0), ("gte", "get", 2), ("aply", "apply", 1), ("", "abc", 3), ("nothing", "options", 5)]
        {
            assert_eq!(super::distance(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn in_the_words_of_kubectl() {
        let check = |line: &str, want: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let given: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
            let error = crate::read(&given).err().map(|error| super::message(&error, &words));
            assert_eq!(error.flatten().as_deref(), Some(want), "{line}");
        };
        check("kctl get --foo", "error: unknown flag: --foo\nSee 'kctl get --help' for usage.");
        check("kctl get -z", "error: unknown shorthand flag: 'z' in -z\nSee 'kctl get --help' for usage.");
        check("kctl get pods -o", "error: flag needs an argument: 'o' in -o\nSee 'kctl get --help' for usage.");
        check("kctl get pods --output", "error: flag needs an argument: --output\nSee 'kctl get --help' for usage.");
        check("kctl create deployment x", "error: required flag(s) \"image\" not set");
        check("kctl nonsense", "error: unknown command \"nonsense\" for \"kctl\"");
        check("kctl aply", "error: unknown command \"aply\" for \"kctl\"\n\nDid you mean this?\n\tapply");
        check("kctl create nonsense", "error: Unexpected args: [nonsense]\nSee 'kctl create -h' for help and examples");
        check("kctl rollout nonsense", "error: unknown command \"nonsense\"\nSee 'kctl rollout -h' for help and examples");
        check(
            "kctl create sa",
            "error: exactly one NAME is required, got 0\nSee 'kctl create serviceaccount -h' for help and examples",
        );
    }
}
