//! The last lines that a unit logged, to show them to a person.

use std::process::Stdio;

/// Empty when there is no journal. Only for people to read: nothing is decided by it.
pub async fn tail(unit: &str, lines: u32) -> Vec<String> {
    let output = tokio::process::Command::new("journalctl")
        .args(["--unit", unit, "--lines", &lines.to_string(), "--no-pager", "--quiet", "--output=cat"])
        .stdin(Stdio::null())
        .output()
        .await;
    output.map(|o| String::from_utf8_lossy(&o.stdout).lines().map(str::to_owned).collect()).unwrap_or_default()
}
