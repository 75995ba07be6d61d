//! How many seats a request needs: what it holds while it is served (upstream's SizeBasedListCostEstimate).

/// Bytes that one seat carries.
const BYTES_PER_SEAT: usize = 100_000;
const SEATS_MAX: usize = 10;

/// The seats of a request that shows at most `limit` (0: all) of `objects`, which are `bytes` together.
pub fn of_list(objects: usize, bytes: usize, limit: usize) -> u32 {
    let shown = if limit == 0 { objects } else { objects.min(limit) };
    let average = bytes.checked_div(objects).unwrap_or(0);
    let seats = shown.saturating_mul(average).div_ceil(BYTES_PER_SEAT).clamp(1, SEATS_MAX);
    // At most ten.
    seats as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths() {
        for (objects, bytes, limit, seats) in [
            (0, 0, 0, 1),
            (100, 100_000, 0, 1),
            (101, 101_000, 0, 2),
            // Few large objects weigh as much as many small ones.
            (3, 900_000, 0, 9),
            (3, 900_000, 1, 3),
            (5000, 15_000_000, 0, 10),
            (5000, 5_000_000, 500, 5),
            (50, 50_000, 500, 1),
        ] {
            assert_eq!(of_list(objects, bytes, limit), seats, "{objects} {bytes} {limit}");
        }
    }
}
