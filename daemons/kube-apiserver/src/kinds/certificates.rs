//! CertificateSigningRequest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use machinery::field::{FieldErrors, Path};
use machinery::{names, time};
use serde_json::Value;

use super::table::{AGE, Column, NAME, column};
use super::validate;
use super::value::{items, number, restore, set, text, texts, unset};
use super::{Rules, Selectable};
use crate::authn::user::User;

const EXPIRATION_SECONDS_MIN: i64 = 600;

pub(super) struct CertificateSigningRequest;

impl Rules for CertificateSigningRequest {
    /// Whatever the client claims: the request is made by who made it.
    fn set_creator(&self, request: &mut Value, user: &User) {
        let spec = super::value::object_in(request, "spec");
        for field in ["username", "uid", "groups", "extra"] {
            unset(spec, field);
        }
        if let Ok(Value::Object(user)) = serde_json::to_value(user) {
            for (field, value) in user {
                set(spec, &field, value);
            }
        }
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value, subresource: &str) {
        // What is asked for never changes; approving changes conditions only; signing changes all of the status but those.
        restore(new, old, "spec");
        match subresource {
            "" => restore(new, old, "status"),
            "approval" => {
                let conditions = new["status"]["conditions"].take();
                restore(new, old, "status");
                if !conditions.is_null() {
                    set(super::value::object_in(new, "status"), "conditions", conditions);
                }
            }
            "status" => {
                let decided = |c: &&Value| matches!(text(c, "/type"), "Approved" | "Denied");
                let kept = items(old, "/status/conditions").iter().filter(decided).cloned();
                let added = items(new, "/status/conditions").iter().filter(|c| !decided(c)).cloned();
                let conditions: Vec<Value> = kept.chain(added).collect();
                let status = super::value::object_in(new, "status");
                if conditions.is_empty() {
                    unset(status, "conditions");
                } else {
                    set(status, "conditions", conditions);
                }
            }
            _ => {}
        }
    }

    fn validate(&self, request: &Value, errors: &mut FieldErrors) {
        let spec = Path::new("spec");
        let encoded = text(request, "/spec/request");
        let pem = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        if !pem.contains("-----BEGIN CERTIFICATE REQUEST-----") {
            errors.invalid(&spec.child("request"), encoded, "PEM block type must be CERTIFICATE REQUEST");
        }
        let usages = texts(request, "/spec/usages");
        if usages.is_empty() {
            errors.required(&spec.child("usages"), "");
        }
        for (index, usage) in usages.iter().enumerate() {
            let path = spec.child("usages").index(index);
            if !USAGES.contains(usage) {
                errors.not_supported(&path, *usage, USAGES);
            } else if usages[..index].contains(usage) {
                errors.duplicate(&path, *usage);
            }
        }
        let signer = text(request, "/spec/signerName");
        let path = spec.child("signerName");
        match signer.split_once('/') {
            _ if signer.is_empty() => errors.required(&path, ""),
            None => {
                errors.invalid(&path, signer, "must be a fully qualified domain and path of the form 'example.com/signer-name'")
            }
            Some((domain, name)) => {
                errors.invalid_each(&path, signer, names::dns1123_subdomain(domain));
                errors.invalid_each(&path, signer, names::dns1123_subdomain(name));
                if !domain.contains('.') {
                    errors.invalid(&path, signer, "should be a domain with at least two segments separated by dots");
                }
            }
        }
        if let Some(seconds) = number(request, "/spec/expirationSeconds").filter(|s| *s < EXPIRATION_SECONDS_MIN) {
            let detail = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.invalid(&spec.child("expirationSeconds"), seconds, detail);
        }
        conditions(request, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if subresource.is_empty() {
            return;
        }
        conditions(new, errors);
        let kept = |kind: &str| items(new, "/status/conditions").iter().any(|c| text(c, "/type") == kind);
        for condition in items(old, "/status/conditions") {
            let kind = text(condition, "/type");
            if matches!(kind, "Approved" | "Denied" | "Failed") && !kept(kind) {
                let detail = format!("updates may not remove a condition of type {kind:?}");
                errors.forbidden(&Path::new("status").child("conditions"), detail);
            }
        }
        if subresource == "status" && !text(old, "/status/certificate").is_empty() {
            let path = Path::new("status").child("certificate");
            validate::immutable(&new["status"]["certificate"], &old["status"]["certificate"], &path, errors);
        }
    }

    fn selectable(&self) -> &'static [Selectable] {
        &[("spec.signerName", |request| text(request, "/spec/signerName").to_owned())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            AGE,
            column("SignerName", |row| row.text_or("/spec/signerName", "<none>")).says(SIGNER_NAME),
            column("Requestor", |row| row.text("/spec/username")).says("Base64-encoded PKCS#10 CSR data"),
            column("RequestedDuration", |row| match number(row.object, "/spec/expirationSeconds") {
                Some(seconds) => time::human_duration(seconds).into(),
                None => "<none>".into(),
            })
            .of("api.certificates.v1.CertificateSigningRequestSpec", "expirationSeconds"),
            column("Condition", |row| condition(row.object).into())
                .says("Conditions applied to the request, such as approval or denial."),
        ];
        COLUMNS
    }
}

/// What upstream says of the column: the words of the first beta version.
const SIGNER_NAME: &str = "\
Requested signer for the request. It is a qualified name in the form: `scope-hostname.io/name`. If empty, it will be defaulted:
 1. If it's a kubelet client certificate, it is assigned
    \"kubernetes.io/kube-apiserver-client-kubelet\".
 2. If it's a kubelet serving certificate, it is assigned
    \"kubernetes.io/kubelet-serving\".
 3. Otherwise, it is assigned \"kubernetes.io/legacy-unknown\".
Distribution of trust for signers happens out of band. You can select on this field using `spec.signerName`.";

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn conditions(request: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status").child("conditions");
    let all = items(request, "/status/conditions");
    let kind = |condition: &Value| text(condition, "/type").to_owned();
    for (index, condition) in all.iter().enumerate() {
        let path = path.index(index);
        let name = kind(condition);
        if name.is_empty() {
            errors.required(&path.child("type"), "");
        }
        let decision = matches!(name.as_str(), "Approved" | "Denied" | "Failed");
        let allowed: &[&str] = if decision { &["True"] } else { &["True", "False", "Unknown"] };
        validate::required_one_of(condition, "status", allowed, &path, errors);
        if all[..index].iter().any(|other| kind(other) == name) {
            errors.duplicate(&path.child("type"), name);
        }
    }
    let has = |name: &str| all.iter().any(|condition| kind(condition) == name);
    if has("Approved") && has("Denied") {
        errors.invalid(&path, "Denied", "Approved and Denied conditions are mutually exclusive");
    }
}

fn condition(request: &Value) -> String {
    let has = |kind: &str| items(request, "/status/conditions").iter().any(|c| text(c, "/type") == kind);
    let mut shown = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        shown.push_str(",Failed");
    }
    if !text(request, "/status/certificate").is_empty() {
        shown.push_str(",Issued");
    }
    shown
}
