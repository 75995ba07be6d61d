//! Parts of timestamps and durations.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::prelude::*;
use crate::value::time;

pub(crate) const ROWS: &[Row] = &[
    row("getFullYear", "timestamp_to_year", "timestamp.() -> int", Cost::Unit, year),
    row("getFullYear", "timestamp_to_year_with_tz", "timestamp.(string) -> int", Cost::Unit, year),
    row("getMonth", "timestamp_to_month", "timestamp.() -> int", Cost::Unit, month),
    row("getMonth", "timestamp_to_month_with_tz", "timestamp.(string) -> int", Cost::Unit, month),
    row("getDayOfYear", "timestamp_to_day_of_year", "timestamp.() -> int", Cost::Unit, day_of_year),
    row("getDayOfYear", "timestamp_to_day_of_year_with_tz", "timestamp.(string) -> int", Cost::Unit, day_of_year),
    row("getDayOfMonth", "timestamp_to_day_of_month", "timestamp.() -> int", Cost::Unit, day_of_month),
    row("getDayOfMonth", "timestamp_to_day_of_month_with_tz", "timestamp.(string) -> int", Cost::Unit, day_of_month),
    row("getDate", "timestamp_to_day_of_month_1_based", "timestamp.() -> int", Cost::Unit, date),
    row("getDate", "timestamp_to_day_of_month_1_based_with_tz", "timestamp.(string) -> int", Cost::Unit, date),
    row("getDayOfWeek", "timestamp_to_day_of_week", "timestamp.() -> int", Cost::Unit, day_of_week),
    row("getDayOfWeek", "timestamp_to_day_of_week_with_tz", "timestamp.(string) -> int", Cost::Unit, day_of_week),
    row("getHours", "timestamp_to_hours", "timestamp.() -> int", Cost::Unit, hours),
    row("getHours", "timestamp_to_hours_with_tz", "timestamp.(string) -> int", Cost::Unit, hours),
    row("getHours", "duration_to_hours", "duration.() -> int", Cost::Unit, hours),
    row("getMinutes", "timestamp_to_minutes", "timestamp.() -> int", Cost::Unit, minutes),
    row("getMinutes", "timestamp_to_minutes_with_tz", "timestamp.(string) -> int", Cost::Unit, minutes),
    row("getMinutes", "duration_to_minutes", "duration.() -> int", Cost::Unit, minutes),
    row("getSeconds", "timestamp_to_seconds", "timestamp.() -> int", Cost::Unit, seconds),
    row("getSeconds", "timestamp_to_seconds_tz", "timestamp.(string) -> int", Cost::Unit, seconds),
    row("getSeconds", "duration_to_seconds", "duration.() -> int", Cost::Unit, seconds),
    row("getMilliseconds", "timestamp_to_milliseconds", "timestamp.() -> int", Cost::Unit, milliseconds),
    row("getMilliseconds", "timestamp_to_milliseconds_with_tz", "timestamp.(string) -> int", Cost::Unit, milliseconds),
    row("getMilliseconds", "duration_to_milliseconds", "duration.() -> int", Cost::Unit, milliseconds),
];

/// Date and time of day in UTC, or in the zone that is named.
fn local(args: &[Value<'_>]) -> Result<DateTime, EvalError> {
    match args {
        [Value::Timestamp(t)] => Ok(t.civil(&TimeZone::UTC)),
        [Value::Timestamp(t), Value::String(zone)] => Ok(t.civil(&time::zone(zone)?)),
        _ => Err(EvalError::no_overload()),
    }
}

/// A part of a moment, or whole units of a duration.
fn part<'a>(args: &[Value<'a>], unit: Option<i64>, part: fn(&DateTime) -> i64) -> Outcome<'a> {
    match (args, unit) {
        ([Value::Duration(d)], Some(unit)) => Ok(Value::Int(d / unit)),
        _ => local(args).map(|t| Value::Int(part(&t))),
    }
}

fn year<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, None, |t| t.year().into())
}

fn month<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, None, |t| i64::from(t.month()) - 1)
}

fn day_of_year<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, None, |t| i64::from(t.day_of_year()) - 1)
}

fn day_of_month<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, None, |t| i64::from(t.day()) - 1)
}

fn date<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, None, |t| t.day().into())
}

fn day_of_week<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, None, |t| t.weekday().to_sunday_zero_offset().into())
}

fn hours<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, Some(3_600_000_000_000), |t| t.hour().into())
}

fn minutes<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, Some(60_000_000_000), |t| t.minute().into())
}

fn seconds<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, Some(1_000_000_000), |t| t.second().into())
}

fn milliseconds<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, Some(1_000_000), |t| t.millisecond().into())
}
