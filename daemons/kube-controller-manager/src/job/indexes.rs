//! Sets of completion indexes as Jobs write them: `0-3,7`.

use std::collections::BTreeSet;
use std::fmt::Write;

/// Reads a list; what is no number, or lies beyond `count`, is left out.
pub(super) fn parse(text: &str, count: u32) -> BTreeSet<u32> {
    let number = |s: &str| s.trim().parse::<u32>().ok();
    let ranges = text.split(',').filter_map(|part| match part.split_once('-') {
        Some((from, to)) => Some(number(from)?..=number(to)?.min(count.saturating_sub(1))),
        None => number(part).map(|n| n..=n),
    });
    ranges.flatten().filter(|n| *n < count).collect()
}

/// Prints a set; three or more in a row become a range.
pub(super) fn print(set: &BTreeSet<u32>) -> String {
    let mut text = String::new();
    let mut rest = set.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while rest.next_if_eq(&(last + 1)).is_some() {
            last += 1;
        }
        if !text.is_empty() {
            text.push(',');
        }
        // Writing to a String can't fail.
        let _ = match last - first {
            0 => write!(text, "{first}"),
            1 => write!(text, "{first},{last}"),
            _ => write!(text, "{first}-{last}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        for (text, want) in
            [("", ""), ("0", "0"), ("1,2", "1,2"), ("1-3", "1-3"), ("0,1,2,5,7,8", "0-2,5,7,8"), ("x,3", "3"), ("8-99", "8,9")]
        {
            assert_eq!(print(&parse(text, 10)), want, "{text}");
        }
    }
}
