//! The range of what one call can cost, from the ranges of its arguments' sizes.

use super::{
    AUTHORIZATION_CHECK, Cost, FORMAT_MAX, FORMAT_PATTERN_MAX, LIST_CREATE, PATTERN, Range, STRUCT_CREATE, TRAVERSAL, scale,
};
use crate::types::{Type, opaque};

/// One argument as the rules see it.
pub(super) struct Operand<'t> {
    pub ty: &'t Type,
    pub size: Range,
    /// The size of an element, for lists.
    pub item: Option<Range>,
    pub literal: Option<i64>,
}

/// A call's own cost and, where it makes a list, a map, a string or bytes, the size of that.
pub(super) struct Estimate {
    pub cost: Range,
    pub size: Option<Range>,
}

fn only(cost: Range) -> Estimate {
    Estimate { cost, size: None }
}

fn pattern(text: Range, pattern: Range) -> Range {
    text.plus(Range::fixed(1)).traversed().times(pattern.scaled(PATTERN))
}

fn listed(factor: f64, size: Range) -> Estimate {
    Estimate { cost: size.scaled(factor).plus(Range::fixed(1 + LIST_CREATE)), size: Some(size) }
}

/// The rule of an overload; the receiver is the first argument.
pub(super) fn estimate(rule: Cost, args: &[Operand<'_>]) -> Estimate {
    let size = |index: usize| args.get(index).map_or(Range::UNKNOWN, |a| a.size);
    let number =
        |index: usize, default: u64| args.get(index).and_then(|a| a.literal).map_or(default, |n| u64::try_from(n).unwrap_or(0));
    let first = size(0);
    match rule {
        Cost::Unit | Cost::Nominal | Cost::IndexList | Cost::IndexMap | Cost::Logical | Cost::Conditional => {
            only(Range::fixed(1))
        }
        Cost::StringToBytes => {
            Estimate { cost: first.traversed(), size: Some(Range { min: first.min, max: first.max.wrapping_mul(4) }) }
        }
        Cost::BytesToString => Estimate { cost: first.traversed(), size: Some(Range { min: first.min / 4, max: first.max }) },
        Cost::Quote => {
            // Upstream's arithmetic wraps here.
            let size = Range { min: first.min.wrapping_add(2), max: first.max.wrapping_mul(2).wrapping_add(2) };
            Estimate { cost: first.traversed(), size: Some(size) }
        }
        Cost::Format | Cost::Parse => only(first.traversed()),
        Cost::Affix => only(size(1).traversed()),
        Cost::InList => only(size(1)),
        Cost::Matches => only(pattern(first, size(1))),
        Cost::Contains => only(first.traversed().times(size(1).traversed())),
        Cost::Equal => only(equal(args)),
        Cost::Compare => only(compare(args)),
        Cost::Concat => {
            let size = first.plus(size(1));
            Estimate { cost: size.traversed(), size: Some(size) }
        }
        Cost::ListConcat => Estimate { cost: Range::fixed(1), size: Some(first.plus(size(1))) },
        Cost::Check => only(Range::fixed(AUTHORIZATION_CHECK)),
        Cost::Selector => {
            let length = size(1);
            #[allow(clippy::cast_precision_loss)]
            let requirements = length.scaled(0.5).scaled((LIST_CREATE + STRUCT_CREATE) as f64);
            only(Range::fixed(LIST_CREATE).plus(length.traversed()).plus(requirements))
        }
        Cost::Walk => only(walk(&args[0])),
        Cost::Transform => Estimate { cost: first.traversed(), size: Some(first) },
        Cost::Replace => Estimate { cost: first.scaled(2.0 * TRAVERSAL), size: Some(replaced(first, size(1), size(2))) },
        Cost::Split => {
            let size = Range { min: 0, max: number(2, first.max) };
            Estimate { cost: first.scaled(2.0 * TRAVERSAL), size: Some(size) }
        }
        Cost::Join => join(args),
        Cost::Find => Estimate { cost: pattern(first, size(1)), size: Some(Range { min: 0, max: first.max }) },
        Cost::Canonical => only(first.scaled(2.0 * TRAVERSAL)),
        Cost::ContainsIp { text } => {
            let address = Range { min: 4, max: 16 };
            let compared = address.plus(address).traversed();
            only(if text { compared.plus(size(1).traversed()) } else { compared })
        }
        Cost::ContainsCidr { text } => {
            let address = Range { min: 4, max: 16 };
            let compared = address.plus(address).traversed().plus(address.traversed()).plus(Range::fixed(1));
            only(if text { compared.plus(size(1).traversed()) } else { compared })
        }
        Cost::Validate => {
            #[allow(clippy::cast_precision_loss)]
            let factor = FORMAT_PATTERN_MAX as f64 * PATTERN;
            only(size(1).traversed().scaled(factor))
        }
        Cost::Sets { factor } => only(first.times(size(1)).scaled(f64::from(factor)).plus(Range::fixed(1))),
        Cost::Slice => {
            let (start, end) = (number(1, 0), number(2, first.max));
            listed(1.0, Range::fixed(end.wrapping_sub(start)))
        }
        #[allow(clippy::cast_precision_loss)]
        Cost::Flatten => listed(if args.len() > 1 { number(1, u64::MAX) as f64 } else { 1.0 }, first),
        Cost::Range => listed(1.0, Range::fixed(number(0, u64::MAX))),
        Cost::Reverse => listed(1.0, first),
        Cost::Sort => sorted(&args[0]),
        Cost::SortBy => args.get(1).map_or_else(|| only(Range::fixed(1)), sorted),
        Cost::Distinct => listed(2.0, first.times(first)),
    }
}

fn sorted(list: &Operand<'_>) -> Estimate {
    let text = matches!(list.ty, Type::List(item) if matches!(**item, Type::String | Type::Bytes));
    listed(if text { 2.0 + TRAVERSAL } else { 2.0 }, list.size.times(list.size))
}

/// Kubernetes' own types are equal or not at a cost of their own.
fn equal(args: &[Operand<'_>]) -> Range {
    if let [left, right] = args
        && left.ty == right.ty
        && let Type::Object(name) = left.ty
        && opaque::ALL.contains(&name.as_ref())
    {
        return match name.as_ref() {
            opaque::FORMAT => Range { min: 1, max: FORMAT_MAX }.traversed(),
            opaque::URL => Range { min: 1, max: right.size.max.max(1) }.traversed(),
            _ => Range::fixed(1),
        };
    }
    compare(args)
}

fn compare(args: &[Operand<'_>]) -> Range {
    let max = args.iter().map(|a| a.size.max).min().unwrap_or(1);
    Range { min: u64::from(max > 0), max }.traversed()
}

fn walk(list: &Operand<'_>) -> Range {
    let Type::List(item) = list.ty else { return list.size.traversed() };
    let mut each = Range::fixed(1);
    if matches!(**item, Type::String | Type::Bytes) {
        each = each.plus(list.item.unwrap_or(Range::UNKNOWN).traversed());
    }
    list.size.times(each)
}

fn join(args: &[Operand<'_>]) -> Estimate {
    let list = &args[0];
    let mut size = list.size.times(list.item.unwrap_or(Range::UNKNOWN));
    if let Some(separator) = args.get(1) {
        let gaps = Range { min: list.size.min.saturating_sub(1), max: list.size.max.saturating_sub(1) };
        size = size.plus(separator.size.times(gaps));
    }
    Estimate { cost: size.traversed(), size: Some(size) }
}

/// How long a string can be in which one part was replaced by another everywhere.
fn replaced(text: Range, from: Range, to: Range) -> Range {
    #[allow(clippy::cast_precision_loss)]
    let times = |text: u64, from: u64| scale(text, 1.0 / from as f64);
    let (most, kept_most) = match from.min {
        0 => (text.max.saturating_add(1), text.max),
        least if to.max <= least => (0, text.max),
        least => (times(text.max, least), 0),
    };
    let (fewest, kept_fewest) = match from.max {
        0 => (text.min.saturating_add(1), text.min),
        longest if longest <= to.min => (0, text.min),
        longest => (times(text.min, longest), 0),
    };
    Range { min: fewest, max: most }.times(to).plus(Range { min: kept_fewest, max: kept_most })
}
