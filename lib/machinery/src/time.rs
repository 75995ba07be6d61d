//! Times on the wire (RFC 3339 in UTC, seconds or microseconds) and durations as people read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `2026-01-02T03:04:05Z`: metav1.Time.
pub fn format(t: Timestamp) -> String {
    t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-01-02T03:04:05.000000Z`: metav1.MicroTime.
pub fn format_micro(t: Timestamp) -> String {
    t.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads RFC 3339 with any offset and any precision.
pub fn parse(s: &str) -> Result<Timestamp, jiff::Error> {
    s.parse()
}

/// Cuts off what metav1.Time does not carry.
pub fn truncate_to_seconds(t: Timestamp) -> Timestamp {
    // The whole seconds of a valid timestamp are in range.
    Timestamp::from_second(t.as_second()).unwrap_or(t)
}

/// `Mon, 02 Jan 2026 15:04:05 +0000` in the given zone, as `describe` prints times.
pub fn format_rfc1123z(t: Timestamp, zone: TimeZone) -> String {
    t.to_zoned(zone).strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
}

/// Ages in tables: `5m32s`, `3d4h`, `<invalid>` for the future.
pub fn human_duration(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let s = seconds.max(0);
    if s < 120 {
        return format!("{s}s");
    }
    let pair = |a: i64, au: &str, b: i64, bu: &str| if b == 0 { format!("{a}{au}") } else { format!("{a}{au}{b}{bu}") };
    let (m, h) = (s / 60, s / 3600);
    match () {
        () if m < 10 => pair(m, "m", s % 60, "s"),
        () if m < 180 => format!("{m}m"),
        () if h < 8 => pair(h, "h", m % 60, "m"),
        () if h < 48 => format!("{h}h"),
        () if h < 24 * 8 => pair(h / 24, "d", h % 24, "h"),
        () if h < 24 * 365 * 2 => format!("{}d", h / 24),
        () if h < 24 * 365 * 8 => pair(h / 24 / 365, "y", h / 24 % 365, "d"),
        () => format!("{}y", h / 24 / 365),
    }
}

/// The age at `now` of something that happened at `then`.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    human_duration(now.duration_since(then).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire() {
        let t = parse("2026-01-02T03:04:05.678901+01:00").unwrap();
        assert_eq!(format(t), "2026-01-02T02:04:05Z");
        assert_eq!(format_micro(t), "2026-01-02T02:04:05.678901Z");
        assert_eq!(format_micro(truncate_to_seconds(t)), "2026-01-02T02:04:05.000000Z");
        assert_eq!(format_rfc1123z(t, TimeZone::UTC), "Fri, 02 Jan 2026 02:04:05 +0000");
    }

    #[test]
    fn ages() {
        const H: i64 = 3600;
        const D: i64 = 24 * H;
        for (seconds, want) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (179 * 60, "179m"),
            (3 * H, "3h"),
            (3 * H + 61, "3h1m"),
            (8 * H + 60, "8h"),
            (47 * H, "47h"),
            (48 * H, "2d"),
            (76 * H, "3d4h"),
            (8 * D + H, "8d"),
            (729 * D, "729d"),
            (730 * D, "2y"),
            (740 * D, "2y10d"),
            (8 * 365 * D + 5 * D, "8y"),
        ] {
            assert_eq!(human_duration(seconds), want, "{seconds}");
        }
    }
}
