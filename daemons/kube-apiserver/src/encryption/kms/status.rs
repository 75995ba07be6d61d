//! What a plugin's `Status` means.

use kms::v2::StatusResponse;

use super::envelope::validate_key_id;

/// Both mean the same interface.
pub const VERSIONS: [&str; 2] = ["v2", "v2beta1"];

/// What is wrong with a plugin that answered this. `version` is what it spoke before.
pub fn faults(status: &StatusResponse, version: Option<&str>) -> Vec<String> {
    let mut faults = Vec::new();
    if status.healthz != "ok" {
        faults.push(format!("got unexpected healthz status: {}", status.healthz));
    }
    if !VERSIONS.contains(&status.version.as_str()) {
        faults.push(format!("expected KMSv2 API version v2, got {}", status.version));
    } else if let Some(before) = version.filter(|before| *before != status.version) {
        faults.push(format!(
            "KMSv2 API version should not change after the initial status response version {before}, got {}",
            status.version
        ));
    }
    if let Err(why) = validate_key_id(&status.key_id) {
        faults.push(format!("got invalid KMSv2 KeyID hash {:?}: {why}", hash(&status.key_id)));
    }
    faults
}

/// How messages name a key: its own name is not theirs to tell.
pub fn hash(key_id: &str) -> String {
    if key_id.is_empty() {
        return String::new();
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, key_id.as_bytes());
    digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong() {
        let check = |version: &str, healthz: &str, key_id: &str, before: Option<&str>, expected: &[&str]| {
            let status = StatusResponse { version: version.into(), healthz: healthz.into(), key_id: key_id.into() };
            assert_eq!(faults(&status, before), expected);
        };
        check("v2", "ok", "k", None, &[]);
        check("v2beta1", "ok", "k", Some("v2beta1"), &[]);
        check("v1", "ok", "k", None, &["expected KMSv2 API version v2, got v1"]);
        check(
            "v2",
            "sick",
            "",
            None,
            &["got unexpected healthz status: sick", "got invalid KMSv2 KeyID hash \"\": keyID is empty"],
        );
        let changed = "KMSv2 API version should not change after the initial status response version v2beta1, got v2";
        check("v2", "ok", "k", Some("v2beta1"), &[changed]);
        assert_eq!(hash("k"), "sha256:8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a");
    }
}
