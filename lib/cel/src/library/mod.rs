//! The functions, by the library that declares them.

pub(crate) mod authz;
pub(crate) mod cidr;
mod convert;
pub(crate) mod format;
mod ip;
mod jsonpatch;
mod lists;
mod maps;
mod math;
pub(crate) mod operators;
mod optionals;
mod quantity;
pub(crate) mod regex;
pub(crate) mod semver;
mod sets;
mod sprintf;
mod strings;
mod times;
pub(crate) mod url;

use crate::overloads::Row;

/// A set of functions that is on or off in an environment, named as upstream's libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Library {
    Standard,
    Optionals,
    Strings,
    Sets,
    Lists,
    /// Macros over two variables.
    TwoVariables,
    KubernetesLists,
    Regex,
    Url,
    Authz,
    AuthzSelectors,
    Quantity,
    Ip,
    Cidr,
    Format,
    Semver,
    /// Only in mutating policies.
    JsonPatch,
    /// `cel.bind`; cel-go has it, Kubernetes does not.
    Bindings,
    /// `math.greatest` and such; cel-go has it, Kubernetes does not.
    Math,
}

impl Library {
    /// What Kubernetes' base environment of v1.36 has.
    pub(crate) const KUBERNETES: [Self; 16] = [
        Self::Standard,
        Self::Optionals,
        Self::Strings,
        Self::Sets,
        Self::Lists,
        Self::TwoVariables,
        Self::KubernetesLists,
        Self::Regex,
        Self::Url,
        Self::Authz,
        Self::AuthzSelectors,
        Self::Quantity,
        Self::Ip,
        Self::Cidr,
        Self::Format,
        Self::Semver,
    ];
}

/// The rows of every library.
pub(crate) const ALL: &[(Library, &[Row])] = &[
    (Library::Standard, operators::ROWS),
    (Library::Standard, convert::ROWS),
    (Library::Standard, times::ROWS),
    (Library::Standard, regex::ROWS),
    (Library::Standard, strings::STANDARD),
    (Library::Optionals, optionals::ROWS),
    (Library::Strings, strings::ROWS),
    (Library::Sets, sets::ROWS),
    (Library::Lists, lists::ROWS),
    (Library::TwoVariables, maps::ROWS),
    (Library::KubernetesLists, lists::KUBERNETES),
    (Library::Regex, regex::KUBERNETES),
    (Library::Url, url::ROWS),
    (Library::Authz, authz::ROWS),
    (Library::AuthzSelectors, authz::SELECTORS),
    (Library::Quantity, quantity::ROWS),
    (Library::Ip, ip::ROWS),
    (Library::Cidr, cidr::ROWS),
    (Library::Format, format::ROWS),
    (Library::Semver, semver::ROWS),
    (Library::JsonPatch, jsonpatch::ROWS),
    (Library::Math, math::ROWS),
];

/// What every library's file needs.
mod prelude {
    pub(super) use crate::budget::Meter;
    pub(super) use crate::cost::Cost;
    pub(super) use crate::error::EvalError;
    pub(super) use crate::overloads::{Row, row};
    pub(super) use crate::value::{Key, List, Map, Opaque, Str, Value, equal};

    /// Of functions that the evaluator does itself.
    pub(super) fn never<'a>(_: &mut Meter, _: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
        Err(EvalError::no_overload())
    }

    pub(super) type Outcome<'a> = Result<Value<'a>, EvalError>;
}
