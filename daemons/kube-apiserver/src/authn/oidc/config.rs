//! Which issuers' tokens are accepted, and which claims name the user: from `--oidc-*` flags, or from the file of
//! `--authentication-config` (`apiserver.config.k8s.io/v1` AuthenticationConfiguration, KEP-3331).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Algorithms that a configuration file's issuers may use; flags name theirs.
const ALGORITHMS: [&str; 8] = ["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512"];
const API_VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];
const ISSUERS_MAX: usize = 64;

/// One issuer and what its tokens mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuer {
    pub url: String,
    /// Where the discovery document is, if not below the URL.
    pub discovery_url: Option<String>,
    /// PEM; the system's authorities when there is none.
    pub authorities: Option<String>,
    pub audiences: Vec<String>,
    pub algorithms: Vec<String>,
    pub required_claims: BTreeMap<String, String>,
    pub username: Claim,
    pub groups: Option<Claim>,
    pub uid_claim: Option<String>,
}

/// A claim and what is put before its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub name: String,
    pub prefix: String,
}

/// Who may come without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anonymous {
    No,
    Everywhere,
    /// Only for these paths.
    Paths(Vec<String>),
}

impl Anonymous {
    pub fn may(&self, path: &str) -> bool {
        match self {
            Self::No => false,
            Self::Everywhere => true,
            Self::Paths(paths) => paths.iter().any(|allowed| allowed == path),
        }
    }
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    pub issuers: Vec<Issuer>,
    /// None leaves it to `--anonymous-auth`.
    pub anonymous: Option<Anonymous>,
}

/// The `--oidc-*` flags.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub issuer_url: String,
    pub client_id: String,
    pub authorities: Option<String>,
    pub username_claim: String,
    pub username_prefix: String,
    pub groups_claim: String,
    pub groups_prefix: String,
    pub signing_algorithms: Vec<String>,
    /// `KEY=VALUE`.
    pub required_claims: Vec<String>,
}

impl Flags {
    pub fn issuer(self) -> Result<Issuer, String> {
        // `sub` is unique for its issuer alone, so its issuer is put before it; `-` asks for no prefix at all.
        let prefix = match (self.username_prefix.as_str(), self.username_claim.as_str()) {
            ("-", _) | ("", "email") => String::new(),
            ("", _) => format!("{}#", self.issuer_url),
            (prefix, _) => prefix.to_owned(),
        };
        let mut required_claims = BTreeMap::new();
        for pair in &self.required_claims {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("malformed pair, expect string=string: {pair:?}"))?;
            required_claims.insert(key.to_owned(), value.to_owned());
        }
        if let Some(unknown) = self.signing_algorithms.iter().find(|a| !ALGORITHMS.contains(&a.as_str())) {
            return Err(format!("oidc: unsupported signing alg: {unknown:?}"));
        }
        if self.client_id.is_empty() {
            return Err("oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set".into());
        }
        check_url("oidc-issuer-url", &self.issuer_url)?;
        Ok(Issuer {
            audiences: vec![self.client_id],
            authorities: self.authorities,
            algorithms: self.signing_algorithms,
            required_claims,
            username: Claim { name: self.username_claim, prefix },
            groups: (!self.groups_claim.is_empty()).then_some(Claim { name: self.groups_claim, prefix: self.groups_prefix }),
            url: self.issuer_url,
            ..Issuer::default()
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<FileIssuer>,
    anonymous: Option<FileAnonymous>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileIssuer {
    issuer: Connection,
    #[serde(default)]
    claim_validation_rules: Vec<ValidationRule>,
    claim_mappings: Mappings,
    #[serde(default)]
    user_validation_rules: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Connection {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    #[serde(default)]
    certificate_authority: String,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: String,
    #[serde(default)]
    egress_selector_type: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ValidationRule {
    claim: String,
    required_value: String,
    expression: String,
    #[serde(rename = "message")]
    _message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Mappings {
    username: Mapping,
    #[serde(default)]
    groups: Mapping,
    #[serde(default)]
    uid: Mapping,
    #[serde(default)]
    extra: Vec<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Mapping {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileAnonymous {
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    path: String,
}

/// Reads the file's text. `own` are the issuers of service account tokens, which nobody else may claim to be.
pub fn parse(text: &str, own: &[String]) -> Result<Configuration, String> {
    let file: File = machinery::yaml::from_str(text).map_err(|error| error.to_string())?;
    if file.kind != "AuthenticationConfiguration" || !API_VERSIONS.contains(&file.api_version.as_str()) {
        return Err(format!("no kind {:?} is registered for version {:?}", file.kind, file.api_version));
    }
    if file.jwt.len() > ISSUERS_MAX {
        return Err(format!("jwt: Too many: {}: must have at most {ISSUERS_MAX} items", file.jwt.len()));
    }
    let mut urls = BTreeSet::new();
    let mut issuers = Vec::new();
    for (index, entry) in file.jwt.into_iter().enumerate() {
        let at = |what: String| format!("jwt[{index}].{what}");
        if own.contains(&entry.issuer.url) {
            return Err(at(format!(
                "issuer.url: Invalid value: {:?}: URL must not overlap with disallowed issuers: {own:?}",
                entry.issuer.url
            )));
        }
        if !urls.insert(entry.issuer.url.clone()) {
            return Err(at(format!("issuer.url: Duplicate value: {:?}", entry.issuer.url)));
        }
        issuers.push(issuer(entry).map_err(at)?);
    }
    let anonymous = file.anonymous.map(anonymous).transpose()?;
    Ok(Configuration { issuers, anonymous })
}

fn anonymous(file: FileAnonymous) -> Result<Anonymous, String> {
    match (file.enabled, file.conditions.is_empty()) {
        (false, false) => {
            Err("anonymous.conditions: Invalid value: enabled should be set to true when conditions are defined".into())
        }
        (false, true) => Ok(Anonymous::No),
        (true, true) => Ok(Anonymous::Everywhere),
        (true, false) => Ok(Anonymous::Paths(file.conditions.into_iter().map(|condition| condition.path).collect())),
    }
}

fn issuer(entry: FileIssuer) -> Result<Issuer, String> {
    let connection = entry.issuer;
    check_url("issuer.url", &connection.url)?;
    if let Some(url) = &connection.discovery_url {
        check_url("issuer.discoveryURL", url)?;
        if url.trim_end_matches('/') == connection.url.trim_end_matches('/') {
            return Err(format!("issuer.discoveryURL: Invalid value: {url:?}: discoveryURL must be different from URL"));
        }
    }
    if connection.audiences.is_empty() {
        return Err("issuer.audiences: Required value: at least one jwt[*].issuer.audiences is required".into());
    }
    if connection.audiences.len() > 1 && connection.audience_match_policy != "MatchAny" {
        return Err(format!(
            "issuer.audienceMatchPolicy: Invalid value: {:?}: audienceMatchPolicy must be MatchAny for multiple audiences",
            connection.audience_match_policy
        ));
    }
    if !connection.egress_selector_type.is_empty() {
        return Err("issuer.egressSelectorType: Unsupported value: egress selection is not supported by this server".into());
    }
    if !entry.user_validation_rules.is_empty() {
        return Err(no_expressions("userValidationRules"));
    }
    if !entry.claim_mappings.extra.is_empty() {
        return Err(no_expressions("claimMappings.extra"));
    }
    let mut required_claims = BTreeMap::new();
    for rule in entry.claim_validation_rules {
        if !rule.expression.is_empty() {
            return Err(no_expressions("claimValidationRules[*].expression"));
        }
        if rule.claim.is_empty() {
            return Err("claimValidationRules: Required value: claim or expression is required".into());
        }
        required_claims.insert(rule.claim, rule.required_value);
    }
    let username = mapping("claimMappings.username", entry.claim_mappings.username)?
        .ok_or("claimMappings.username: Required value: claim or expression is required")?;
    let uid = mapping("claimMappings.uid", Mapping { prefix: Some(String::new()), ..entry.claim_mappings.uid })?;
    Ok(Issuer {
        url: connection.url,
        discovery_url: connection.discovery_url,
        authorities: Some(connection.certificate_authority).filter(|pem| !pem.is_empty()),
        audiences: connection.audiences,
        algorithms: ALGORITHMS.iter().map(|algorithm| (*algorithm).to_owned()).collect(),
        required_claims,
        username,
        groups: mapping("claimMappings.groups", entry.claim_mappings.groups)?,
        uid_claim: uid.map(|claim| claim.name),
    })
}

fn mapping(path: &str, mapping: Mapping) -> Result<Option<Claim>, String> {
    match (mapping.claim.is_empty(), mapping.expression.is_empty()) {
        (_, false) => Err(no_expressions(path)),
        (true, true) => Ok(None),
        (false, true) => match mapping.prefix {
            Some(prefix) => Ok(Some(Claim { name: mapping.claim, prefix })),
            None => Err(format!(
                "{path}.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing"
            )),
        },
    }
}

fn no_expressions(path: &str) -> String {
    format!("{path}: Invalid value: CEL expressions are not supported by this server")
}

fn check_url(path: &str, url: &str) -> Result<(), String> {
    let why = match url.parse::<http::Uri>() {
        _ if url.is_empty() => return Err(format!("{path}: Required value: URL is required")),
        Err(error) => error.to_string(),
        Ok(uri) if uri.scheme_str() != Some("https") => "URL scheme must be https".to_owned(),
        Ok(uri) if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) => {
            "URL must not contain a username or password".to_owned()
        }
        Ok(uri) if uri.query().is_some() => "URL must not contain a query".to_owned(),
        Ok(_) if url.contains('#') => "URL must not contain a fragment".to_owned(),
        Ok(_) => return Ok(()),
    };
    Err(format!("{path}: Invalid value: {url:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(jwt: &str) -> String {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- {}\n",
            jwt.replace('\n', "\n  ")
        )
    }

    #[test]
    fn a_file() {
        let text = file(
            "issuer: {url: 'https://idp.example', audiences: [kube]}\nclaimValidationRules:\n- {claim: hd, requiredValue: example.com}\nclaimMappings:\n  username: {claim: sub, prefix: 'oidc:'}\n  groups: {claim: roles, prefix: ''}\n  uid: {claim: id}",
        );
        let configuration = parse(&text, &[]).unwrap();
        let issuer = &configuration.issuers[0];
        assert_eq!(issuer.username, Claim { name: "sub".into(), prefix: "oidc:".into() });
        assert_eq!(issuer.required_claims["hd"], "example.com");
        assert_eq!((issuer.uid_claim.as_deref(), configuration.anonymous), (Some("id"), None));
    }

    #[test]
    fn what_a_file_may_not_say() {
        let check = |jwt: &str, expected: &str| {
            let error = parse(&file(jwt), &["https://own".to_owned()]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        const USER: &str = "claimMappings: {username: {claim: sub, prefix: ''}}";
        check(&format!("issuer: {{url: 'http://idp', audiences: [a]}}\n{USER}"), "URL scheme must be https");
        check(&format!("issuer: {{url: 'https://own', audiences: [a]}}\n{USER}"), "must not overlap with disallowed issuers");
        check(&format!("issuer: {{url: 'https://idp', audiences: []}}\n{USER}"), "at least one jwt[*].issuer.audiences");
        check(&format!("issuer: {{url: 'https://idp', audiences: [a, b]}}\n{USER}"), "must be MatchAny");
        check("issuer: {url: 'https://idp', audiences: [a]}\nclaimMappings: {username: {claim: sub}}", "prefix is required");
        check("issuer: {url: 'https://idp', audiences: [a]}\nclaimMappings: {username: {}}", "claim or expression is required");
        check(
            "issuer: {url: 'https://idp', audiences: [a]}\nclaimMappings: {username: {expression: claims.sub}}",
            "CEL expressions are not supported",
        );
    }

    #[test]
    fn anonymous_paths() {
        let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\nanonymous: {enabled: true, conditions: [{path: /livez}]}\n";
        let anonymous = parse(text, &[]).unwrap().anonymous.unwrap();
        assert!(anonymous.may("/livez") && !anonymous.may("/livez/ping") && !anonymous.may("/api"));
        assert!(parse(&text.replace("true", "false"), &[]).is_err());
    }

    #[test]
    fn flags() {
        let check = |claim: &str, prefix: &str, expected: &str| {
            let flags = Flags {
                issuer_url: "https://idp".into(),
                client_id: "kube".into(),
                username_claim: claim.into(),
                username_prefix: prefix.into(),
                required_claims: vec!["hd=x=y".into()],
                ..Flags::default()
            };
            let issuer = flags.issuer().unwrap();
            assert_eq!(issuer.username.prefix, expected, "{claim} {prefix}");
            assert_eq!(issuer.required_claims["hd"], "x=y");
        };
        check("sub", "", "https://idp#");
        check("email", "", "");
        check("sub", "-", "");
        check("email", "oidc:", "oidc:");
        assert!(Flags { issuer_url: "https://idp".into(), ..Flags::default() }.issuer().is_err());
    }
}
