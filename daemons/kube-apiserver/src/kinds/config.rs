//! ConfigMap, Secret, ServiceAccount.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use machinery::field::{FieldError, FieldErrors, Path};
use machinery::names;
use serde_json::{Value, json};

use super::table::{AGE, Column, NAME, column};
use super::validate;
use super::value::{count, entries, has, object_in, set, text, truth, unset};
use super::{Rules, Selectable};

/// All values of a ConfigMap or Secret together.
const BYTES_MAX: usize = 1024 * 1024;

pub(super) struct ConfigMap;

impl Rules for ConfigMap {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let mut bytes = 0;
        for field in ["data", "binaryData"] {
            for (key, value) in entries(object, &format!("/{field}")) {
                let path = Path::new(field).key(key);
                errors.invalid_each(&path, key, names::config_map_key(key));
                if field == "data" && object.pointer("/binaryData").is_some_and(|data| data.get(key).is_some()) {
                    let detail = "duplicate of key present in binaryData";
                    errors.invalid(&Path::new("data").key(key), key.as_str(), detail);
                }
                let text = value.as_str().unwrap_or_default();
                bytes += if field == "data" { text.len() } else { STANDARD.decode(text).map_or(0, |b| b.len()) };
            }
        }
        if bytes > BYTES_MAX {
            errors.push(FieldError::too_long(&Path::root(), BYTES_MAX));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: &str, errors: &mut FieldErrors) {
        immutable(new, old, &["data", "binaryData"], errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Data", |row| (count(row.object, "/data") + count(row.object, "/binaryData")).into())
                .of("api.core.v1.ConfigMap", "data"),
            AGE,
        ];
        COLUMNS
    }
}

/// What an object that says `immutable: true` may not change.
fn immutable(new: &Value, old: &Value, fields: &[&str], errors: &mut FieldErrors) {
    if !truth(old, "/immutable") {
        return;
    }
    if !truth(new, "/immutable") {
        errors.forbidden(&Path::new("immutable"), "field is immutable when `immutable` is set");
    }
    for field in fields {
        let (new, old) = (new.get(field), old.get(field));
        if new != old && !(is_empty(new) && is_empty(old)) {
            errors.forbidden(&Path::new(*field), "field is immutable when `immutable` is set");
        }
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty))
}

pub(super) struct Secret;

impl Rules for Secret {
    /// `stringData` is a convenience of writing: it becomes `data` and is never read back.
    fn default(&self, secret: &mut Value) {
        if let Some(Value::Object(strings)) = secret.as_object_mut().and_then(|s| s.remove("stringData")) {
            let data = object_in(secret, "data");
            for (key, value) in strings {
                set(data, &key, STANDARD.encode(value.as_str().unwrap_or_default()));
            }
        }
    }

    fn validate(&self, secret: &Value, errors: &mut FieldErrors) {
        let data = Path::new("data");
        let mut bytes = 0;
        for (key, value) in entries(secret, "/data") {
            errors.invalid_each(&data.key(key), key, names::config_map_key(key));
            bytes += STANDARD.decode(value.as_str().unwrap_or_default()).map_or(0, |value| value.len());
        }
        if bytes > BYTES_MAX {
            errors.push(FieldError::too_long(&data, BYTES_MAX));
        }
        let required: &[&str] = match text(secret, "/type") {
            "kubernetes.io/service-account-token" => {
                let name = "kubernetes.io/service-account.name";
                let annotations = secret.pointer("/metadata/annotations");
                if annotations.and_then(|a| a.get(name)).and_then(Value::as_str).is_none_or(str::is_empty) {
                    let path = Path::new("metadata").child("annotations").key(name);
                    errors.required(&path, "");
                }
                &[]
            }
            "kubernetes.io/dockercfg" => &[".dockercfg"],
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            "kubernetes.io/basic-auth" => {
                if !["username", "password"].iter().any(|key| secret["data"].get(key).is_some()) {
                    errors.required(&data.key("username"), "");
                    errors.required(&data.key("password"), "");
                }
                &[]
            }
            "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
            _ => &[],
        };
        for key in required {
            match secret["data"].get(key).and_then(Value::as_str) {
                None => errors.required(&data.key(key), ""),
                Some(value) if key.starts_with(".docker") => {
                    let decoded = STANDARD.decode(value).unwrap_or_default();
                    if serde_json::from_slice::<serde_json::Map<String, Value>>(&decoded).is_err() {
                        errors.invalid(&data.key(key), "<secret contents redacted>", "invalid character or not a JSON object");
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: &str, errors: &mut FieldErrors) {
        validate::immutable(&new["type"], &old["type"], &Path::new("type"), errors);
        immutable(new, old, &["data"], errors);
    }

    fn selectable(&self) -> &'static [Selectable] {
        &[("type", |secret| text(secret, "/type").to_owned())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Type", |row| row.text("/type")).of("api.core.v1.Secret", "type"),
            column("Data", |row| row.count("/data")).of("api.core.v1.Secret", "data"),
            AGE,
        ];
        COLUMNS
    }
}

pub(super) struct ServiceAccount;

impl Rules for ServiceAccount {
    fn prepare_for_create(&self, account: &mut Value) {
        if has(account, "/secrets") && account["secrets"] == json!([]) {
            unset(account, "secrets");
        }
    }

    fn columns(&self) -> &'static [Column] {
        super::table::NAME_AND_AGE
    }
}
