//! ServiceCIDR and IPAddress: the ranges that Services get addresses of, and the addresses in use.

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use super::Rules;
use super::table::{AGE, Column, NAME, column};
use super::validate;
use super::value::{has, text, texts};

const CIDRS_MAX: usize = 2;

pub(super) struct ServiceCidr;

impl Rules for ServiceCidr {
    fn validate_new(&self, range: &Value, errors: &mut FieldErrors) {
        validate_cidrs(range, errors);
    }

    /// A second family may come later; what is there stays.
    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if !subresource.is_empty() {
            return;
        }
        let path = Path::new("spec").child("cidrs");
        let (was, is) = (texts(old, "/spec/cidrs"), texts(new, "/spec/cidrs"));
        if is.len() != was.len() && (was.len(), is.len()) != (1, 2) {
            errors.invalid(&path, new["spec"]["cidrs"].clone(), validate::IMMUTABLE);
            return;
        }
        for (i, (_, is)) in was.iter().zip(&is).enumerate().filter(|(_, (was, is))| was != is) {
            errors.invalid(&path.index(i), *is, validate::IMMUTABLE);
        }
        if is.len() > was.len() {
            validate_cidrs(new, errors);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("CIDRs", |row| texts(row.object, "/spec/cidrs").join(",").into())
                .of("api.networking.v1.ServiceCIDRSpec", "cidrs"),
            AGE,
        ];
        COLUMNS
    }
}

fn validate_cidrs(range: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec").child("cidrs");
    let cidrs = texts(range, "/spec/cidrs");
    if cidrs.is_empty() {
        errors.required(&path, "at least one CIDR required");
        return;
    }
    if cidrs.len() > CIDRS_MAX {
        errors.invalid(&path, range["spec"].clone(), "may only hold up to 2 values");
        return;
    }
    for (i, cidr) in cidrs.iter().enumerate() {
        validate::cidr(cidr, &path.index(i), errors);
    }
    let is_v6 = |cidr: &str| cidr.contains(':');
    if let [first, second] = cidrs[..]
        && is_v6(first) == is_v6(second)
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&path, range["spec"]["cidrs"].clone(), why);
    }
}

pub(super) struct IpAddress;

impl Rules for IpAddress {
    fn validate_new(&self, address: &Value, errors: &mut FieldErrors) {
        let path = Path::new("spec").child("parentRef");
        if !has(address, "/spec/parentRef") {
            errors.required(&path, "");
            return;
        }
        let part = |name: &str| text(address, &format!("/spec/parentRef/{name}"));
        if !part("group").is_empty() {
            errors.invalid_each(&path.child("group"), part("group"), names::dns1123_subdomain(part("group")));
        }
        for name in ["resource", "name", "namespace"] {
            if !part(name).is_empty() {
                errors.invalid_each(&path.child(name), part(name), names::path_segment(part(name)));
            } else if name != "namespace" {
                errors.required(&path.child(name), "");
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: &str, errors: &mut FieldErrors) {
        let path = Path::new("spec").child("parentRef");
        validate::immutable(&new["spec"]["parentRef"], &old["spec"]["parentRef"], &path, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("ParentRef", |row| {
                if !row.has("/spec/parentRef") {
                    return "<none>".into();
                }
                let part = |name: &str| text(row.object, &format!("/spec/parentRef/{name}"));
                let mut shown = part("resource").to_owned();
                for (separator, value) in [(".", part("group")), ("/", part("namespace"))] {
                    if !value.is_empty() {
                        shown.push_str(separator);
                        shown.push_str(value);
                    }
                }
                format!("{}/{}", shown.to_lowercase(), part("name")).into()
            })
            .of("api.networking.v1.IPAddressSpec", "parentRef"),
        ];
        COLUMNS
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(errors: &FieldErrors) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn range(cidrs: &[&str]) -> Value {
        json!({"spec": {"cidrs": cidrs}})
    }

    #[test]
    fn new_ranges() {
        let check = |cidrs: &[&str], starts: &[&str]| {
            let mut errors = FieldErrors::new();
            ServiceCidr.validate_new(&range(cidrs), &mut errors);
            let got = messages(&errors);
            assert_eq!(got.len(), starts.len(), "{got:?}");
            got.iter().zip(starts).for_each(|(got, start)| assert!(got.starts_with(start), "{got}"));
        };
        check(&["10.0.0.0/16"], &[]);
        check(&["10.0.0.0/16", "2001:db8::/64"], &[]);
        check(&[], &["spec.cidrs: Required value: at least one CIDR required"]);
        check(&["x"], &["spec.cidrs[0]: Invalid value: \"x\""]);
        check(&["10.0.0.0/16", "10.1.0.0/16"], &["spec.cidrs: Invalid value"]);
    }

    #[test]
    fn changed_ranges() {
        let check = |old: &[&str], new: &[&str], fields: &[&str]| {
            let mut errors = FieldErrors::new();
            ServiceCidr.validate_update(&range(new), &range(old), "", &mut errors);
            let got = messages(&errors);
            let got: Vec<&str> = got.iter().filter_map(|message| message.split(':').next()).collect();
            assert_eq!(got, fields, "{old:?} {new:?}");
        };
        check(&["10.0.0.0/16"], &["10.0.0.0/16"], &[]);
        check(&["10.0.0.0/16"], &["10.1.0.0/16"], &["spec.cidrs[0]"]);
        check(&["10.0.0.0/16"], &["10.0.0.0/16", "2001:db8::/64"], &[]);
        check(&["10.0.0.0/16", "2001:db8::/64"], &["10.0.0.0/16"], &["spec.cidrs"]);
    }

    #[test]
    fn addresses() {
        let check = |spec: Value, fields: &[&str]| {
            let mut errors = FieldErrors::new();
            IpAddress.validate_new(&json!({"spec": spec}), &mut errors);
            let got = messages(&errors);
            let got: Vec<&str> = got.iter().filter_map(|message| message.split(':').next()).collect();
            assert_eq!(got, fields);
        };
        check(json!({"parentRef": {"resource": "services", "namespace": "a", "name": "b"}}), &[]);
        check(json!({}), &["spec.parentRef"]);
        check(
            json!({"parentRef": {"group": "A", "resource": "a/b"}}),
            &["spec.parentRef.group", "spec.parentRef.resource", "spec.parentRef.name"],
        );
    }
}
