//! Flags that stand for fields of a daemon's configuration file.
//!
//! Upstream's kubelet and kube-proxy had flags before they had files, and the flags are still there. A table says which field each
//! of them sets. What was given is laid over the file before that is read, so that both are checked in one place and the flag wins.

use std::marker::PhantomData;
use std::net::IpAddr;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value};

use crate::duration;
use crate::feature_gates::{FeatureGates, parse_bool};

/// A flag and its field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub flag: &'static str,
    /// The names on the way to the field, with dots between them: `authentication.x509.clientCAFile`.
    pub path: &'static str,
    pub form: Form,
    pub help: &'static str,
}

/// How a flag's value is written.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// `true`, `false`, or no value at all.
    Switch,
    /// A whole number between these two.
    Number(i64, i64),
    Text,
    OneOf(&'static [&'static str]),
    /// Values separated by commas.
    List,
    /// Pairs separated by commas; this stands between a key and its value.
    Map(char),
    /// `1h30m`, as the file has it.
    Duration,
    Address,
    /// `NAME=BOOL`, separated by commas. Beside those of the file, not in their place.
    FeatureGates,
    /// What is different from all others: what stands for the value in the help, and how it is read.
    Special(&'static str, fn(&str) -> Result<Value, String>),
}

pub const PORT: Form = Form::Number(0, 65_535);
pub const PERCENT: Form = Form::Number(0, 100);
pub const COUNT: Form = Form::Number(0, i32::MAX as i64);
/// What the kernel takes.
pub const OOM_SCORE: Form = Form::Number(-1000, 1000);

/// The flags of one daemon.
pub trait Table: 'static {
    const FIELDS: &'static [Field];
}

/// The fields that flags were given for, with their values in the order of the table. To be flattened into a daemon's arguments.
pub struct FieldFlags<T> {
    given: Vec<(Field, Value)>,
    table: PhantomData<fn() -> T>,
}

impl<T> Clone for FieldFlags<T> {
    fn clone(&self) -> Self {
        Self { given: self.given.clone(), table: PhantomData }
    }
}

impl<T> std::fmt::Debug for FieldFlags<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.given.iter().map(|(field, value)| (field.flag, value))).finish()
    }
}

impl<T> FieldFlags<T> {
    /// Puts what was given into the file's value.
    pub fn lay_over(&self, file: &mut Value) {
        for (field, value) in &self.given {
            let mut at = &mut *file;
            for name in field.path.split('.') {
                if !at.is_object() {
                    *at = Value::Object(Map::new());
                }
                at = &mut at[name];
            }
            match (field.form, at.as_object_mut(), value) {
                (Form::FeatureGates, Some(gates), Value::Object(more)) => gates.extend(more.clone()),
                _ => *at = value.clone(),
            }
        }
    }
}

impl<T: Table> clap::FromArgMatches for FieldFlags<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |field: &Field| {
            let values = matches.get_many::<Value>(field.flag)?.filter(|value| !value.is_null()).cloned();
            values.reduce(combine).map(|value| (*field, value))
        };
        Ok(Self { given: T::FIELDS.iter().filter_map(value).collect(), table: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T: Table> clap::Args for FieldFlags<T> {
    fn augment_args(command: Command) -> Command {
        command.args(T::FIELDS.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(field: &Field) -> Arg {
    let form = field.form;
    let arg = Arg::new(field.flag).long(field.flag).help(field.help).value_name(form.value_name()).action(ArgAction::Append);
    let arg = arg.value_parser(move |text: &str| form.parse(text));
    match form {
        Form::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => arg.num_args(1).allow_hyphen_values(true),
    }
}

/// Of lists and maps, all that was given counts; of the rest, what was given last.
fn combine(before: Value, after: Value) -> Value {
    match (before, after) {
        (Value::Array(mut all), Value::Array(more)) => {
            all.extend(more);
            Value::Array(all)
        }
        (Value::Object(mut all), Value::Object(more)) => {
            all.extend(more);
            Value::Object(all)
        }
        (_, after) => after,
    }
}

impl Form {
    fn value_name(self) -> &'static str {
        match self {
            Self::Switch => "BOOL",
            Self::Number(..) => "N",
            Self::Text | Self::OneOf(_) => "TEXT",
            Self::List => "LIST",
            Self::Map('<') => "KEY<VALUE",
            Self::Map(_) => "KEY=VALUE",
            Self::Duration => "DURATION",
            Self::Address => "IP",
            Self::FeatureGates => "NAME=BOOL",
            Self::Special(name, _) => name,
        }
    }

    /// The value as the file would have it; null says nothing.
    fn parse(self, text: &str) -> Result<Value, String> {
        let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
        match self {
            Self::Switch => parse_bool(text).map(Value::Bool),
            Self::Number(least, most) => match text.parse::<i64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(number.into()),
                Ok(number) => Err(format!("{number} is not in {least}..={most}")),
                Err(_) => Err("not a whole number".to_owned()),
            },
            Self::Text => Ok(text.into()),
            Self::OneOf(values) if values.contains(&text) => Ok(text.into()),
            Self::OneOf(values) => Err(format!("must be one of {values:?}")),
            Self::List => Ok(items().collect()),
            Self::Map(between) => {
                let pair = |item: &str| {
                    let (key, value) = item.split_once(between).ok_or_else(|| format!("{item:?} is not KEY{between}VALUE"))?;
                    Ok((key.trim().to_owned(), value.trim().into()))
                };
                items().map(pair).collect::<Result<Map<_, _>, String>>().map(Value::Object)
            }
            Self::Duration => duration::parse(text).map(|_| text.into()),
            Self::Address if text.is_empty() => Ok(Value::Null),
            Self::Address => text.parse::<IpAddr>().map(|ip| ip.to_string().into()).map_err(|error| error.to_string()),
            Self::FeatureGates => {
                let gates = FeatureGates::parse(&items().map(str::to_owned).collect::<Vec<_>>())?;
                Ok(gates.named().map(|(name, on)| (name.to_owned(), on.into())).collect::<Map<_, _>>().into())
            }
            Self::Special(_, parse) => parse(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Args as _;
    use serde_json::json;

    use super::*;

    struct Flags;

    impl Table for Flags {
        const FIELDS: &'static [Field] = &[
            Field { flag: "on", path: "a.on", form: Form::Switch, help: "" },
            Field { flag: "port", path: "port", form: PORT, help: "" },
            Field { flag: "mode", path: "mode", form: Form::OneOf(&["x", "y"]), help: "" },
            Field { flag: "list", path: "a.list", form: Form::List, help: "" },
            Field { flag: "hard", path: "hard", form: Form::Map('<'), help: "" },
            Field { flag: "every", path: "every", form: Form::Duration, help: "" },
            Field { flag: "address", path: "address", form: Form::Address, help: "" },
            Field { flag: "gates", path: "gates", form: Form::FeatureGates, help: "" },
        ];
    }

    fn laid(line: &str, mut file: Value) -> Result<Value, String> {
        let command = FieldFlags::<Flags>::augment_args(Command::new("d"));
        let matches = command.try_get_matches_from(line.split(' ')).map_err(|e| e.to_string())?;
        <FieldFlags<Flags> as clap::FromArgMatches>::from_arg_matches(&matches).unwrap().lay_over(&mut file);
        Ok(file)
    }

    #[test]
    fn flags_win_over_the_file() {
        let check = |line: &str, file: Value, want: Value| assert_eq!(laid(line, file), Ok(want), "{line}");
        check("d", json!({"port": 1}), json!({"port": 1}));
        check("d --port 2 --on", json!({"port": 1, "a": {"b": 1}}), json!({"port": 2, "a": {"b": 1, "on": true}}));
        check("d --port=2 --port=3 --on=F", Value::Null, json!({"port": 3, "a": {"on": false}}));
        check("d --list=a,b --list=,c", json!({"a": {"list": ["z"]}}), json!({"a": {"list": ["a", "b", "c"]}}));
        check("d --hard=a<1,b<2 --hard b<3", json!({"hard": {"z": "1"}}), json!({"hard": {"a": "1", "b": "3"}}));
        check("d --hard=", json!({"hard": {"z": "1"}}), json!({"hard": {}}));
        check("d --every 1m30s --mode y", json!({}), json!({"every": "1m30s", "mode": "y"}));
        check("d --address=", json!({"address": "::"}), json!({"address": "::"}));
        check(
            "d --gates=A=true,B=0",
            json!({"gates": {"B": true, "C": true}}),
            json!({"gates": {"A": true, "B": false, "C": true}}),
        );
    }

    #[test]
    fn wrong_values_are_told_with_their_flags() {
        for (line, flag, why) in [
            ("d --on=maybe", "--on", "strconv.ParseBool"),
            ("d --port=65536", "--port", "65536 is not in 0..=65535"),
            ("d --port -1", "--port", "-1 is not in"),
            ("d --mode=z", "--mode", "must be one of"),
            ("d --hard=a=1", "--hard", "\"a=1\" is not KEY<VALUE"),
            ("d --every=5", "--every", "\"5\" is not a duration"),
            ("d --address=1.2.3", "--address", "invalid IP address"),
            ("d --gates=A", "--gates", "missing bool value for A"),
        ] {
            let error = laid(line, Value::Null).unwrap_err();
            assert!(error.contains(flag) && error.contains(why), "{line}: {error}");
        }
    }
}
