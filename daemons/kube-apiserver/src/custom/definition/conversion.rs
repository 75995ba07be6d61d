//! How a definition's versions become each other.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use super::super::naming;
use super::{list, one_of, text};
use crate::webhook::dial::roots;

const KNOWN_REVIEWS: [&str; 2] = ["v1", "v1beta1"];

pub(super) fn check(conversion: &Value, path: &Path, errors: &mut FieldErrors) {
    if !conversion.is_object() {
        return;
    }
    let strategy = text(&conversion["strategy"]);
    one_of(strategy, &["None", "Webhook"], &path.child("strategy"), errors);
    let webhook = &conversion["webhook"];
    let (config, at) = (&webhook["clientConfig"], path.child("webhookClientConfig"));
    let (reviews, reviews_at) = (list(&webhook["conversionReviewVersions"]), path.child("conversionReviewVersions"));
    if strategy != "Webhook" {
        let detail = "should not be set when strategy is not set to Webhook";
        if config.is_object() {
            errors.forbidden(&at, detail);
        }
        if !reviews.is_empty() {
            errors.forbidden(&reviews_at, detail);
        }
        return;
    }
    match (config["url"].as_str(), config["service"].is_object()) {
        _ if !config.is_object() => errors.required(&at, "required when strategy is set to Webhook"),
        (Some(_), true) | (None, false) => errors.required(&at, "exactly one of url or service is required"),
        (Some(url), false) => check_url(url, &at.child("url"), errors),
        (None, true) => check_service(&config["service"], &at.child("service"), errors),
    }
    check_reviews(reviews, &reviews_at, errors);
}

/// Why nobody could be believed on the word of the conversion webhook's `caBundle`.
pub fn wrong_authorities(definition: &Value) -> Option<String> {
    let encoded = definition["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"].as_str()?;
    match STANDARD.decode(encoded.trim()) {
        Ok(bundle) if bundle.trim_ascii().is_empty() => None,
        Ok(bundle) => roots(&bundle).err(),
        Err(error) => Some(format!("unable to load root certificates: {error}")),
    }
}

/// A new definition may have authorities that are none: it is not established. One that is keeps what it has.
pub(super) fn check_authorities(definition: &Value, old: Option<&Value>, path: &Path, errors: &mut FieldErrors) {
    let Some(old) = old.filter(|old| naming::is_true(old, "Established") && wrong_authorities(old).is_none()) else { return };
    let conversion = |definition: &Value| definition["spec"]["conversion"].clone();
    if conversion(definition) == conversion(old) || conversion(definition)["strategy"] != "Webhook" {
        return;
    }
    if let Some(why) = wrong_authorities(definition) {
        let bundle = &definition["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"];
        errors.invalid(&path.child("webhookClientConfig").child("caBundle"), bundle.clone(), why);
    }
}

fn check_reviews(reviews: &[Value], path: &Path, errors: &mut FieldErrors) {
    if reviews.is_empty() {
        return errors.required(path, "");
    }
    for (index, version) in reviews.iter().enumerate() {
        let path = path.index(index);
        if reviews[..index].contains(version) {
            errors.invalid(&path, version.clone(), "duplicate version");
        } else {
            errors.invalid_each(&path, text(version), names::dns1035_label(text(version)));
        }
    }
    if !reviews.iter().any(|version| KNOWN_REVIEWS.contains(&text(version))) {
        errors.invalid(
            path,
            Value::Array(reviews.to_vec()),
            format!("must include at least one of {}", KNOWN_REVIEWS.join(", ")),
        );
    }
}

fn check_url(url: &str, path: &Path, errors: &mut FieldErrors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if scheme != "https" {
        errors.invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        errors.invalid(path, host, format!("host must be specified{FORM}"));
    }
    for (part, what) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !part.is_empty() {
            errors.invalid(path, part, what);
        }
    }
}

fn check_service(service: &Value, path: &Path, errors: &mut FieldErrors) {
    for field in ["name", "namespace"] {
        if text(&service[field]).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    let port = service["port"].as_i64().unwrap_or(443);
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        errors.invalid(&path.child("port"), port, format!("port is not valid: {}", wrong.join(", ")));
    }
    let (url, path) = (text(&service["path"]), path.child("path"));
    match url {
        "" | "/" => return,
        "//" => return errors.invalid(&path, url, "segment[0] may not be empty"),
        _ if !url.starts_with('/') => errors.invalid(&path, url, "must start with a '/'"),
        _ => {}
    }
    let segments = url.strip_prefix('/').unwrap_or(url);
    for (index, segment) in segments.strip_suffix('/').unwrap_or(segments).split('/').enumerate() {
        if segment.is_empty() {
            errors.invalid(&path, url, format!("segment[{index}] may not be empty"));
        }
        for wrong in names::dns1123_subdomain(segment).into_iter().filter(|_| !segment.is_empty()) {
            errors.invalid(&path, url, format!("segment[{index}]: {wrong}"));
        }
    }
}
