//! `maxSurge: 25%` and its kin: a number, or a share of a total.

use api::IntOrString;

/// How a share of a total becomes a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    Up,
    Down,
}

/// The number meant. What is neither a number nor a percentage (validation refuses it) counts as 0.
pub(crate) fn resolve(value: Option<&IntOrString>, total: i32, round: Round) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(n)) => *n,
        Some(IntOrString::String(s)) => {
            let Some(percent) = s.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()) else { return 0 };
            let product = percent.saturating_mul(i64::from(total));
            let share = match round {
                Round::Up => product.saturating_add(99).div_euclid(100),
                Round::Down => product.div_euclid(100),
            };
            i32::try_from(share).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_shares() {
        let check = |value: &str, total, up, down| {
            let value = value.parse().map_or_else(|_| IntOrString::String(value.into()), IntOrString::Int);
            assert_eq!(
                (resolve(Some(&value), total, Round::Up), resolve(Some(&value), total, Round::Down)),
                (up, down),
                "{value:?} of {total}"
            );
        };
        check("3", 10, 3, 3);
        check("25%", 10, 3, 2);
        check("25%", 3, 1, 0);
        check("100%", 7, 7, 7);
        check("0%", 7, 0, 0);
        check("x", 7, 0, 0);
    }
}
