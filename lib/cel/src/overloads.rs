//! Every function, declared once: its overloads, their types, what they cost and what they do. The checker, the cost estimate
//! and the evaluator read this one table; the rows stand in [`crate::library`].

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::budget::Meter;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::library::{self, Library};
use crate::types::{Param, Type, opaque};
use crate::value::Value;

/// What a function does with its arguments (the receiver first).
pub(crate) type Run = for<'a> fn(&mut Meter, &[Value<'a>]) -> Result<Value<'a>, EvalError>;

/// One overload as a library declares it.
pub(crate) struct Row {
    pub name: &'static str,
    pub id: &'static str,
    /// `(int, int) -> int`; `string.(int) -> string` for a member function.
    pub signature: &'static str,
    pub cost: Cost,
    pub run: Run,
}

pub(crate) const fn row(name: &'static str, id: &'static str, signature: &'static str, cost: Cost, run: Run) -> Row {
    Row { name, id, signature, cost, run }
}

#[derive(Debug)]
pub(crate) struct Overload {
    pub id: &'static str,
    pub library: Library,
    pub member: bool,
    /// The receiver first.
    pub args: Vec<Type>,
    pub result: Type,
    pub cost: Cost,
    pub run: Run,
}

impl Overload {
    fn new(library: Library, row: &Row) -> Self {
        let (receiver, rest) = match row.signature.split_once(".(") {
            Some((receiver, rest)) => (Some(receiver), rest),
            None => (None, row.signature.trim_start_matches('(')),
        };
        // The rows are constants of this crate, and a test reads every one of them.
        let (args, result) = rest.rsplit_once(") -> ").expect("a signature has a result");
        let args = receiver.into_iter().chain(split(args)).map(parse).collect();
        let Row { id, cost, run, .. } = *row;
        Self { id, library, member: receiver.is_some(), args, result: parse(result), cost, run }
    }

    /// True when values of these types can be meant.
    pub fn accepts(&self, args: &[Value<'_>]) -> bool {
        self.args.len() == args.len() && self.args.iter().zip(args).all(|(ty, value)| holds(ty, value))
    }
}

/// Whether a value can be of a declared type, elements unseen.
fn holds(ty: &Type, value: &Value<'_>) -> bool {
    match ty {
        Type::Dyn | Type::Param(_) => true,
        other => other.runtime_name() == value.type_name(),
    }
}

/// The parts between the commas that no bracket encloses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(text[start..].trim());
    }
    parts
}

fn parse(text: &str) -> Type {
    if let Some((name, rest)) = text.split_once('(') {
        let params: Vec<Type> = split(rest.trim_end().strip_suffix(')').unwrap_or(rest)).into_iter().map(parse).collect();
        return match (name, params.as_slice()) {
            ("list", [item]) => Type::list(item.clone()),
            ("map", [key, value]) => Type::map(key.clone(), value.clone()),
            ("optional", [inner]) => Type::optional(inner.clone()),
            ("type", [inner]) => Type::Type(Some(inner.clone().into())),
            _ => unreachable!("no type {text}"),
        };
    }
    match text {
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "quantity" => Type::object(opaque::QUANTITY),
        "url" => Type::object(opaque::URL),
        "ip" => Type::object(opaque::IP),
        "cidr" => Type::object(opaque::CIDR),
        "semver" => Type::object(opaque::SEMVER),
        "format" => Type::object(opaque::FORMAT),
        "authorizer" => Type::object(opaque::AUTHORIZER),
        "pathcheck" => Type::object(opaque::PATH_CHECK),
        "groupcheck" => Type::object(opaque::GROUP_CHECK),
        "resourcecheck" => Type::object(opaque::RESOURCE_CHECK),
        "decision" => Type::object(opaque::DECISION),
        _ => match (text.len(), text.chars().next()) {
            (1, Some(c)) => Type::Param(Param::Declared(c)),
            _ => Type::named(text).unwrap_or_else(|| unreachable!("no type {text}")),
        },
    }
}

static TABLE: LazyLock<BTreeMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let mut table: BTreeMap<&'static str, Vec<Overload>> = BTreeMap::new();
    for (library, rows) in library::ALL {
        for row in *rows {
            table.entry(row.name).or_default().push(Overload::new(*library, row));
        }
    }
    table
});

/// The overloads of a function, of every library.
pub(crate) fn find(name: &str) -> &'static [Overload] {
    TABLE.get(name).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_reads() {
        let count: usize = TABLE.values().map(Vec::len).sum();
        assert!(count > 250, "{count}");
        let mut ids: Vec<&str> = TABLE.values().flatten().map(|o| o.id).collect();
        ids.sort_unstable();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all, "an overload's id is used twice");
    }

    #[test]
    fn signatures() {
        let overload = &find("contains")[0];
        assert_eq!(
            (overload.member, overload.args.as_slice(), &overload.result),
            (true, &[Type::String, Type::String][..], &Type::Bool)
        );
        let index = find("_[_]").iter().find(|o| o.id == "index_map").expect("declared");
        assert_eq!(index.args[0].to_string(), "map(A, B)");
    }
}
