//! How long a request may take: `?timeout=`, at most what the server allows.

use std::time::Duration;

use machinery::status::Status;

use crate::request_info::{RequestInfo, query_value};

/// None for requests that stay open as long as the client likes.
///
/// # Errors
/// 400 when the query asks for something that is no duration.
pub fn of(info: &RequestInfo, query: &str, longest: Duration) -> Result<Option<Duration>, Status> {
    if info.is_long_running() {
        return Ok(None);
    }
    let asked = if query.is_empty() { None } else { query_value(query, "timeout").filter(|text| !text.is_empty()) };
    let Some(text) = asked else { return Ok(Some(longest)) };
    let invalid =
        || Status::bad_request(format!("invalid timeout specified in the request URL - time: invalid duration {text:?}"));
    let seconds = go_duration(&text).ok_or_else(invalid)?;
    // Nothing, and less than nothing, is no wish.
    Ok(Some(if seconds > 0.0 { longest.min(Duration::try_from_secs_f64(seconds).unwrap_or(longest)) } else { longest }))
}

/// Seconds of a duration as Go writes it: `1h2m3.5s`, `250ms`, `-1s`, `0`.
fn go_duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if rest == "0" {
        return Some(0.0);
    }
    let mut seconds = 0.0;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number * scale;
        rest = &rest[unit..];
        if rest.is_empty() {
            return Some(sign * seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn timeouts() {
        let check = |path: &str, query: &str, expected: Result<Option<f64>, u16>| {
            let info = RequestInfo::parse(&Method::GET, path, query);
            let got = of(&info, query, Duration::from_secs(60));
            assert_eq!(got.map(|d| d.map(|d| d.as_secs_f64())).map_err(|s| s.code()), expected, "{path}?{query}");
        };
        const PODS: &str = "/api/v1/pods";
        check(PODS, "", Ok(Some(60.0)));
        check(PODS, "timeout=5s", Ok(Some(5.0)));
        check(PODS, "limit=1&timeout=1m", Ok(Some(60.0)));
        check(PODS, "timeout=2m", Ok(Some(60.0)));
        check(PODS, "timeout=0", Ok(Some(60.0)));
        check(PODS, "timeout=0s", Ok(Some(60.0)));
        check(PODS, "timeout=-1s", Ok(Some(60.0)));
        check(PODS, "timeout=1.5s", Ok(Some(1.5)));
        check(PODS, "timeout=1s500ms", Ok(Some(1.5)));
        check(PODS, "timeout=", Ok(Some(60.0)));
        check(PODS, "timeout=5", Err(400));
        check(PODS, "timeout=s", Err(400));
        check(PODS, "timeout=soon", Err(400));
        check(PODS, "watch=1&timeout=5s", Ok(None));
        check("/healthz", "timeout=5s", Ok(Some(5.0)));
    }
}
