//! How many seats a request needs: what it holds while it is served.

/// Objects that one seat carries.
const OBJECTS_PER_SEAT: usize = 100;
const SEATS_MAX: u32 = 10;

/// The seats of a request that shows at most `limit` (0: all) of `objects`.
pub fn of_list(objects: usize, limit: usize) -> u32 {
    let shown = if limit == 0 { objects } else { objects.min(limit) };
    u32::try_from(shown.div_ceil(OBJECTS_PER_SEAT)).unwrap_or(SEATS_MAX).clamp(1, SEATS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths() {
        for (objects, limit, seats) in [(0, 0, 1), (100, 0, 1), (101, 0, 2), (5000, 0, 10), (5000, 500, 5), (50, 500, 1)] {
            assert_eq!(of_list(objects, limit), seats, "{objects} {limit}");
        }
    }
}
