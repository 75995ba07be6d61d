//! Users named in headers by a proxy that proves itself with a certificate of the request-header CA.

use http::HeaderMap;

use super::user::User;
use super::x509::ClientCa;

/// `--requestheader-*`.
pub struct FrontProxy {
    pub ca: ClientCa,
    /// Common names that may act as proxy; empty allows every certificate of the CA.
    pub allowed_names: Vec<String>,
    pub username_headers: Vec<String>,
    pub uid_headers: Vec<String>,
    pub group_headers: Vec<String>,
    pub extra_prefixes: Vec<String>,
}

impl FrontProxy {
    pub fn trusts(&self, common_name: &str) -> bool {
        self.allowed_names.is_empty() || self.allowed_names.iter().any(|name| name == common_name)
    }

    /// The user whom the headers name.
    pub fn user(&self, headers: &HeaderMap) -> Option<User> {
        let name = first(headers, &self.username_headers)?;
        let uid = first(headers, &self.uid_headers).unwrap_or_default();
        let groups = self.group_headers.iter().flat_map(|header| values(headers, header)).collect();
        let mut user = User { name, uid, groups, ..User::default() };
        for prefix in &self.extra_prefixes {
            let prefix = prefix.to_ascii_lowercase();
            for key in headers.keys() {
                if let Some(extra) = key.as_str().strip_prefix(&prefix) {
                    let extra = crate::request_info::percent_decode(extra);
                    user.extra.entry(extra).or_default().extend(values(headers, key.as_str()));
                }
            }
        }
        Some(user)
    }

    /// Removes the headers, so that no later layer can believe them.
    pub fn strip(&self, headers: &mut HeaderMap) {
        for header in self.username_headers.iter().chain(&self.uid_headers).chain(&self.group_headers) {
            headers.remove(header.as_str());
        }
        let extra: Vec<_> = headers
            .keys()
            .filter(|key| self.extra_prefixes.iter().any(|p| key.as_str().starts_with(&p.to_ascii_lowercase())))
            .cloned()
            .collect();
        for key in extra {
            headers.remove(key);
        }
    }
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
}

fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    names.iter().find_map(|name| values(headers, name).into_iter().find(|value| !value.is_empty()))
}

/// Removes the headers by their usual names, whether a proxy is configured or not.
pub fn strip_usual(headers: &mut HeaderMap) {
    let usual =
        |name: &str| matches!(name, "x-remote-user" | "x-remote-uid" | "x-remote-group") || name.starts_with("x-remote-extra-");
    if headers.keys().any(|key| usual(key.as_str())) {
        let names: Vec<_> = headers.keys().filter(|key| usual(key.as_str())).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_user_gets_past() {
        let mut headers = HeaderMap::new();
        for name in ["x-remote-user", "X-Remote-Group", "x-remote-uid", "x-remote-extra-scopes", "accept"] {
            headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), "x".parse().unwrap());
        }
        strip_usual(&mut headers);
        assert_eq!(headers.keys().map(|key| key.as_str()).collect::<Vec<_>>(), ["accept"]);
    }
}
