//! The kernel settings that a pod asks for: what they may be called, and which of them the host's namespaces forbid.

use std::collections::BTreeSet;

use machinery::field::{FieldErrors, Path};
use serde_json::Value;

use crate::kinds::value::{items, text, truth};

const NAME_BYTES_MAX: usize = 253;
const PATTERN: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// Everything wrong with `securityContext.sysctls` of a pod's spec.
pub(super) fn sysctls(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("securityContext").child("sysctls");
    let mut seen = BTreeSet::new();
    for (index, sysctl) in items(spec, "/securityContext/sysctls").iter().enumerate() {
        let name = text(sysctl, "/name");
        let path = path.index(index).child("name");
        if name.is_empty() {
            errors.required(&path, "");
        } else if !is_name(name) {
            errors.invalid(&path, name, format!("must have at most {NAME_BYTES_MAX} characters and match regex {PATTERN}"));
        } else if !seen.insert(name) {
            errors.duplicate(&path, name);
        }
        match namespace(name) {
            Some("net") if truth(spec, "/hostNetwork") => {
                errors.invalid(&path, name, "may not be specified when 'hostNetwork' is true");
            }
            Some("ipc") if truth(spec, "/hostIPC") => errors.invalid(&path, name, "may not be specified when 'hostIPC' is true"),
            _ => {}
        }
    }
}

fn is_name(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let segment = |segment: &str| {
        let bytes = segment.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
    };
    name.len() <= NAME_BYTES_MAX && name.split(['.', '/']).all(segment)
}

/// The kernel namespace that a setting belongs to, if it is one's own in a pod.
fn namespace(name: &str) -> Option<&'static str> {
    let name = name.replace('/', ".");
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    match () {
        () if starts(&["net."]) => Some("net"),
        () if name == "kernel.sem" || starts(&["kernel.shm", "kernel.msg", "fs.mqueue."]) => Some("ipc"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings() {
        let check = |names: &[&str], host: Value, want: &[&str]| {
            let list: Vec<Value> = names.iter().map(|name| json!({"name": name, "value": "1"})).collect();
            let mut spec = host;
            spec["securityContext"] = json!({"sysctls": list});
            let mut errors = FieldErrors::new();
            sysctls(&spec, &Path::new("spec"), &mut errors);
            let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(got.len(), want.len(), "{got:?}");
            got.iter().zip(want).for_each(|(got, want)| assert!(got.contains(want), "{got}"));
        };
        check(&["kernel.shmmax", "safe-and-unsafe", "net/ipv4/conf.eth0", "net.ipv4.ip_forward"], json!({}), &[]);
        let path = "spec.securityContext.sysctls[0].name: ";
        for name in ["foo-", "bar..", "Foo", ".a", "a b"] {
            check(&[name], json!({}), &[&format!("{path}Invalid value: {name:?}: must have at most 253 characters")]);
        }
        check(&[""], json!({}), &[&format!("{path}Required value")]);
        check(&["a.b", "a.b"], json!({}), &["sysctls[1].name: Duplicate value: \"a.b\""]);
        check(&["net.ipv4.x"], json!({"hostNetwork": true}), &["may not be specified when 'hostNetwork' is true"]);
        check(&["kernel.shmmax"], json!({"hostIPC": true}), &["may not be specified when 'hostIPC' is true"]);
    }
}
