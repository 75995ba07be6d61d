//! Probes and the hooks of a container's life.

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use crate::kinds::validate::{self, none_negative, one_of, required};
use crate::kinds::value::{int, items, number, text};

pub(super) const NAMED_PROBES: &[&str] = &["livenessProbe", "readinessProbe", "startupProbe"];

pub(super) fn lifecycle(container: &Value, path: &Path, errors: &mut FieldErrors) {
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = container.pointer(&format!("/lifecycle/{hook}")).filter(|handler| !handler.is_null()) {
            self::handler(handler, &["exec", "httpGet", "tcpSocket", "sleep"], &path.child("lifecycle").child(hook), errors);
        }
    }
    for name in NAMED_PROBES {
        let Some(probe) = container.get(name).filter(|probe| !probe.is_null()) else { continue };
        let path = path.child(name);
        handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], &path, errors);
        let numbers = ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
        none_negative(probe, &numbers, &path, errors);
        if let Some(seconds) = number(probe, "/terminationGracePeriodSeconds") {
            let path = path.child("terminationGracePeriodSeconds");
            if *name == "readinessProbe" {
                errors.invalid(&path, seconds, "must not be set for readinessProbes");
            } else if seconds <= 0 {
                errors.invalid(&path, seconds, "must be greater than 0");
            }
        }
        let successes = int(probe, "/successThreshold");
        if *name != "readinessProbe" && successes != 1 {
            errors.invalid(&path.child("successThreshold"), successes, "must be 1");
        }
    }
}

pub(super) fn handler(handler: &Value, kinds: &[&str], path: &Path, errors: &mut FieldErrors) {
    let mut found = 0;
    for kind in kinds {
        let Some(action) = handler.get(kind).filter(|action| !action.is_null()) else { continue };
        let path = path.child(kind);
        found += 1;
        if found > 1 {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" if items(action, "/command").is_empty() => errors.required(&path.child("command"), ""),
            "httpGet" => {
                required(action, "path", &path, errors);
                validate::port(&action["port"], &path.child("port"), errors);
                one_of(action, "scheme", &["HTTP", "HTTPS"], &path, errors);
                for header in items(action, "/httpHeaders") {
                    let name = text(header, "/name");
                    errors.invalid_each(&path.child("httpHeaders"), name, names::http_header_name(name));
                }
            }
            "tcpSocket" | "grpc" => validate::port(&action["port"], &path.child("port"), errors),
            "sleep" => none_negative(action, &["seconds"], &path, errors),
            _ => {}
        }
    }
    if found == 0 {
        errors.required(path, "must specify a handler type");
    }
}
