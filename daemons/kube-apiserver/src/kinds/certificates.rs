//! CertificateSigningRequest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use machinery::field::{FieldError, FieldErrors, Path};
use machinery::{names, time};
use serde_json::Value;
use x509_parser::pem::Pem;

use super::table::{AGE, Column, NAME, column};
use super::validate;
use super::value::{items, number, restore, set, text, texts, unset};
use super::{Rules, Selectable};
use crate::authn::user::User;

const EXPIRATION_SECONDS_MIN: i64 = 600;
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

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

    /// What is asked for never changes afterwards.
    fn validate_new(&self, request: &Value, errors: &mut FieldErrors) {
        let spec = Path::new("spec");
        let encoded = text(request, "/spec/request");
        if let Err(why) = signed_request(encoded) {
            // As upstream shows bytes that are not there.
            let shown = if encoded.is_empty() { Value::Null } else { encoded.into() };
            errors.invalid(&spec.child("request"), shown, why);
        }
        usages(&texts(request, "/spec/usages"), &spec.child("usages"), errors);
        let (signer, path) = (text(request, "/spec/signerName"), spec.child("signerName"));
        if signer == LEGACY_SIGNER {
            errors.invalid(&path, signer, "the legacy signerName is not allowed via this API version");
        } else {
            signer_name(signer, &path, errors);
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
        let (before, after) = (text(old, "/status/certificate"), text(new, "/status/certificate"));
        if before != after {
            let path = Path::new("status").child("certificate");
            if let Err(why) = certificates(after) {
                errors.invalid(&path, "<certificate data>", why);
            }
            if !before.is_empty() {
                errors.forbidden(&path, "updates may not modify existing certificate content");
            }
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

/// A request in PEM whose signature is right: nobody asks for a certificate of a key that is not theirs.
fn signed_request(encoded: &str) -> Result<(), String> {
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    let is_request =
        Pem::iter_from_buffer(&bytes).next().and_then(Result::ok).is_some_and(|pem| pem.label == "CERTIFICATE REQUEST");
    if !is_request {
        return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
    }
    pki::Request::from_pem(&String::from_utf8_lossy(&bytes)).map(drop).map_err(|error| daemon::chain(&error))
}

/// Certificates in PEM and nothing else, or nothing at all.
fn certificates(encoded: &str) -> Result<(), String> {
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    let mut count = 0;
    for pem in Pem::iter_from_buffer(&bytes) {
        let pem = pem.map_err(|error| error.to_string())?;
        if pem.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", pem.label));
        }
        pem.parse_x509().map_err(|error| error.to_string())?;
        count += 1;
    }
    if count == 0 && !encoded.is_empty() { Err("must contain at least one CERTIFICATE PEM block".to_owned()) } else { Ok(()) }
}

fn usages(usages: &[&str], path: &Path, errors: &mut FieldErrors) {
    if usages.is_empty() {
        errors.required(path, "");
    }
    for (index, usage) in usages.iter().enumerate().filter(|(_, usage)| !USAGES.contains(usage)) {
        errors.not_supported(&path.index(index), *usage, USAGES);
    }
    for (index, usage) in usages.iter().enumerate().filter(|(index, usage)| usages[..*index].contains(usage)) {
        errors.duplicate(&path.index(index), *usage);
    }
}

/// `DOMAIN/NAME`, as upstream's `ValidateSignerName`.
fn signer_name(signer: &str, path: &Path, errors: &mut FieldErrors) {
    const SUBDOMAIN_MAX: usize = 253;
    const LABEL_MAX: usize = 63;
    // The name has room for a namespace and a name, and a dot between them.
    const SIGNER_MAX: usize = SUBDOMAIN_MAX + 1 + (LABEL_MAX + 1 + SUBDOMAIN_MAX);
    if signer.is_empty() {
        return errors.required(path, "");
    }
    let Some((domain, name)) = signer.split_once('/').filter(|(_, name)| !name.contains('/')) else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(path, signer, detail);
    };
    if domain.len() > SUBDOMAIN_MAX {
        errors.push(FieldError::too_long(path, SUBDOMAIN_MAX));
    }
    // Of several wrong labels the first is told.
    let labels = |segment: &str, wrong: fn(&str) -> Vec<String>, errors: &mut FieldErrors| {
        let found = segment.split('.').map(|label| (label, wrong(label))).find(|(_, messages)| !messages.is_empty());
        for (label, message) in found.into_iter().flat_map(|(label, messages)| messages.into_iter().map(move |m| (label, m))) {
            errors.invalid(path, segment, format!("validating label {label:?}: {message}"));
        }
    };
    labels(domain, names::dns1123_label, errors);
    if !domain.contains('.') {
        errors.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    labels(name, names::dns1123_subdomain, errors);
    if signer.len() > SIGNER_MAX {
        errors.push(FieldError::too_long(path, SIGNER_MAX));
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_signed_by_its_key() {
        let key = pki::Key::generate().unwrap();
        let profile = pki::Profile::client("ann", Some("dev"), jiff::SignedDuration::from_hours(1));
        let pem = pki::Request::make(&profile, &key).unwrap();
        assert_eq!(signed_request(&STANDARD.encode(&pem)), Ok(()));
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let mut der = STANDARD.decode(body).unwrap();
        let name = der.windows(3).position(|bytes| bytes == b"ann").unwrap();
        der[name..name + 3].copy_from_slice(b"eve");
        let forged =
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", STANDARD.encode(der));
        assert!(signed_request(&STANDARD.encode(forged)).is_err());
        for none in ["", "!", "AAAA"] {
            assert_eq!(signed_request(none).unwrap_err(), "PEM block type must be CERTIFICATE REQUEST");
        }
    }
}
