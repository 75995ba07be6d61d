//! What calls cost, before (a range) and when they are evaluated: cel-go's and Kubernetes' rules.

pub(crate) mod actual;
pub(crate) mod estimate;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::schema::Decl;

pub(crate) const LIST_CREATE: u64 = 10;
pub(crate) const MAP_CREATE: u64 = 30;
pub(crate) const STRUCT_CREATE: u64 = 40;
/// Of going through one unit of a string.
const TRAVERSAL: f64 = 0.1;
/// Of one unit of a pattern.
const PATTERN: f64 = 0.25;
/// Allows two authorization checks in an expression.
const AUTHORIZATION_CHECK: u64 = 350_000;
/// Length of a named format's pattern, where a check assumes the longest.
const FORMAT_PATTERN_MAX: u64 = 128;
/// Length of a format's name.
const FORMAT_MAX: u64 = 64;

/// How the cost of a call is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    Unit,
    /// `&&`, `||`: the operands that are needed.
    Logical,
    Conditional,
    StringToBytes,
    BytesToString,
    Quote,
    Format,
    /// startsWith, endsWith.
    Affix,
    InList,
    Matches,
    Contains,
    /// `==`: the shorter side, or what Kubernetes' own types cost.
    Equal,
    /// Order and inequality: the shorter side.
    Compare,
    Concat,
    ListConcat,
    IndexList,
    IndexMap,
    // Kubernetes'
    Check,
    Nominal,
    Selector,
    /// isSorted, sum, min, max, indexOf, lastIndexOf.
    Walk,
    /// Going through the argument once; the result is as long.
    Transform,
    /// The same, the result is no string.
    Parse,
    Replace,
    Split,
    Join,
    Find,
    Canonical,
    ContainsIp {
        text: bool,
    },
    ContainsCidr {
        text: bool,
    },
    Validate,
    // cel-go's extensions
    Sets {
        factor: u8,
    },
    Slice,
    Flatten,
    Range,
    Reverse,
    Sort,
    SortBy,
    Distinct,
}

impl Cost {
    /// True where the function's name alone decides, so that the cost holds when several overloads are possible.
    pub fn by_name(self) -> bool {
        matches!(
            self,
            Self::Check
                | Self::Nominal
                | Self::Selector
                | Self::Walk
                | Self::Transform
                | Self::Parse
                | Self::Replace
                | Self::Split
                | Self::Join
                | Self::Find
                | Self::Canonical
                | Self::ContainsIp { .. }
                | Self::ContainsCidr { .. }
                | Self::Validate
        )
    }
}

/// From the least to the most: a size or a cost. Sums and products stop at the greatest number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

impl Range {
    pub const UNKNOWN: Self = Self { min: 0, max: u64::MAX };
    pub(crate) const ZERO: Self = Self::fixed(0);

    pub const fn fixed(n: u64) -> Self {
        Self { min: n, max: n }
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    #[must_use]
    pub fn times(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// Rounded up.
    #[must_use]
    pub(crate) fn scaled(self, factor: f64) -> Self {
        Self { min: scale(self.min, factor), max: scale(self.max, factor) }
    }

    fn traversed(self) -> Self {
        self.scaled(TRAVERSAL)
    }
}

/// A number times a factor, rounded up, at most the greatest number.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Go's float arithmetic; `as` saturates.
fn scale(n: u64, factor: f64) -> u64 {
    (n as f64 * factor).ceil() as u64
}

/// Tells the estimate how large things can be.
pub trait Sizes {
    /// The size of what lies at a path: a variable, then field names, `@items`, `@keys`, `@values`. Nothing when unknown.
    fn size(&self, path: &[Arc<str>]) -> Option<Range>;
}

/// Knows nothing: every size can be anything.
pub struct UnknownSizes;

impl Sizes for UnknownSizes {
    fn size(&self, _: &[Arc<str>]) -> Option<Range> {
        None
    }
}

/// Sizes from the schemas of variables.
#[derive(Default)]
pub struct SchemaSizes<'d>(BTreeMap<&'d str, &'d Decl>);

impl<'d> SchemaSizes<'d> {
    pub fn new(variables: impl IntoIterator<Item = (&'d str, &'d Decl)>) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl Sizes for SchemaSizes<'_> {
    fn size(&self, path: &[Arc<str>]) -> Option<Range> {
        let (variable, rest) = path.split_first()?;
        let decl = self.0.get(variable.as_ref())?;
        // As upstream's estimator: keys and what has no size of its own count nothing.
        if rest.last().is_some_and(|last| last.as_ref() == "@keys") {
            return decl.at(&rest[..rest.len() - 1]).map(|_| Range::ZERO);
        }
        Some(Range { min: 0, max: decl.at(rest)?.elements_max.unwrap_or(0) })
    }
}
