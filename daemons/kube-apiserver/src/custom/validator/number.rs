//! Bounds of numbers. Whole numbers are compared as such, others as floating point.

use serde_json::{Number, Value};

use super::{Found, Problem, Validator, What};

#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub limit: f64,
    pub exclusive: bool,
}

/// Largest magnitude at which every whole number has a floating point form of its own.
const EXACT_MAX: f64 = 9_007_199_254_740_991.0;

/// A whole number, within rounding: `3.0` is one.
pub(super) fn is_integer(number: f64) -> bool {
    number.is_finite() && number.abs() <= EXACT_MAX && number.fract() == 0.0
}

pub(super) fn check(schema: &Validator, number: &Number, name: &str, found: &mut Found) {
    let kind = match schema.types.as_slice() {
        ["integer"] => "integer",
        ["number"] => "number",
        _ => "",
    };
    let format = if kind.is_empty() { "" } else { schema.format.as_str() };
    let value = number.as_f64().unwrap_or_default();
    out_of_range(number, kind, format, "Checked", name, found);
    if let Some(factor) = schema.multiple_of {
        check_factor(number, value, factor, name, found);
    }
    let limits = [(schema.minimum, Side::Min, "Minimum boundary"), (schema.maximum, Side::Max, "Maximum boundary")];
    for (bound, side, prefix) in limits {
        let Some(bound) = bound else { continue };
        if let Some(limit) = Number::from_f64(bound.limit) {
            out_of_range(&limit, kind, format, prefix, name, found);
        }
        if side.refuses(value, bound) {
            let message = format!("{name} in body should be {} {}", side.words(bound.exclusive), plain(bound.limit));
            found.add(name, message, What::Invalid(Value::Number(number.clone())));
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Min,
    Max,
}

impl Side {
    fn refuses(self, value: f64, bound: Bound) -> bool {
        match self {
            Self::Min => value < bound.limit || (bound.exclusive && value == bound.limit),
            Self::Max => value > bound.limit || (bound.exclusive && value == bound.limit),
        }
    }

    fn words(self, exclusive: bool) -> &'static str {
        match (self, exclusive) {
            (Self::Min, false) => "greater than or equal to",
            (Self::Min, true) => "greater than",
            (Self::Max, false) => "less than or equal to",
            (Self::Max, true) => "less than",
        }
    }
}

fn check_factor(number: &Number, value: f64, factor: f64, name: &str, found: &mut Found) {
    let message = if factor <= 0.0 {
        format!("factor MultipleOf declared for {name} must be positive: {}", plain(factor))
    } else {
        let fits = match number.as_i64().filter(|_| is_integer(factor)) {
            // The factor is a positive whole number here.
            Some(int) => int % (factor as i64) == 0,
            None if factor < 1.0 => nearly_integer(1.0 / factor * value),
            None => nearly_integer(value / factor),
        };
        if fits {
            return;
        }
        format!("{name} in body should be a multiple of {}", plain(factor))
    };
    found.add(name, message, What::Invalid(Value::Number(number.clone())));
}

/// A quotient that is whole but for rounding.
fn nearly_integer(number: f64) -> bool {
    const EPSILON: f64 = 1e-9;
    let difference = (number - number.round()).abs();
    number.is_finite() && number.abs() <= EXACT_MAX && (difference == 0.0 || difference < EPSILON * number.abs().max(1e-9))
}

/// Whether the number, or a bound for it, is none that the format has.
fn out_of_range(number: &Number, kind: &str, format: &str, prefix: &str, name: &str, found: &mut Found) {
    let int = || number.as_i64().or_else(|| number.as_f64().filter(|n| is_integer(*n)).map(|n| n as i64));
    let fits = match (kind, format) {
        ("integer", "int32") => int().is_some_and(|int| i32::try_from(int).is_ok()),
        ("integer", _) => int().is_some(),
        ("number", "float") => number.as_f64().is_some_and(|n| n.abs() <= f64::from(f32::MAX)),
        _ => true,
    };
    if !fits {
        let of = if format.is_empty() { "(default format)".to_owned() } else { format!("with format {format}") };
        let message = format!("{prefix} value must be of type {kind} {of} in {name}");
        found.push(Problem { name: String::new(), message, what: What::Whole });
    }
}

/// As Go prints a number: `3`, `1.5`, `1e+21`.
fn plain(number: f64) -> String {
    if number.abs() >= 1e21 {
        let text = format!("{number:e}");
        return text.replacen('e', "e+", 1);
    }
    format!("{number}")
}
