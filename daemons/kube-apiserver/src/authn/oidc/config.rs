//! Which issuers' tokens are accepted, and which claims name the user: from `--oidc-*` flags, or from the file of
//! `--authentication-config` (`apiserver.config.k8s.io/v1` AuthenticationConfiguration, KEP-3331).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cel::Program;
use serde::Deserialize;

use super::expressions::{self, Rule, check_email, check_extra_key};

/// Algorithms that a configuration file's issuers may use; flags name theirs.
const ALGORITHMS: [&str; 8] = ["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512"];
const API_VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];
const ISSUERS_MAX: usize = 64;

/// One issuer and what its tokens mean.
#[derive(Clone, Debug, Default)]
pub struct Issuer {
    pub url: String,
    /// Where the discovery document is, if not below the URL.
    pub discovery_url: Option<String>,
    /// PEM; the system's authorities when there is none.
    pub authorities: Option<String>,
    pub audiences: Vec<String>,
    pub algorithms: Vec<String>,
    pub required_claims: BTreeMap<String, String>,
    /// What must be true of claims, besides.
    pub claim_rules: Vec<Rule>,
    pub username: Mapping,
    pub groups: Option<Mapping>,
    pub uid: Option<Mapping>,
    pub extra: Vec<(String, Arc<Program>)>,
    /// What must be true of the user that claims made.
    pub user_rules: Vec<Rule>,
}

/// Where a part of a user comes from.
#[derive(Clone, Debug)]
pub enum Mapping {
    Claim(Claim),
    Expression(Arc<Program>),
}

impl Default for Mapping {
    fn default() -> Self {
        Self::Claim(Claim::default())
    }
}

impl From<Claim> for Mapping {
    fn from(claim: Claim) -> Self {
        Self::Claim(claim)
    }
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
#[derive(Clone, Debug)]
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
            username: Claim { name: self.username_claim, prefix }.into(),
            groups: (!self.groups_claim.is_empty()).then(|| Claim { name: self.groups_claim, prefix: self.groups_prefix }.into()),
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
    claim_mappings: FileMappings,
    #[serde(default)]
    user_validation_rules: Vec<UserRule>,
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
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UserRule {
    expression: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileMappings {
    username: FileMapping,
    #[serde(default)]
    groups: FileMapping,
    #[serde(default)]
    uid: FileMapping,
    #[serde(default)]
    extra: Vec<FileExtra>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FileExtra {
    key: String,
    value_expression: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FileMapping {
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
    let (required_claims, claim_rules) = claim_rules(entry.claim_validation_rules)?;
    let FileMappings { username, groups, uid, extra } = entry.claim_mappings;
    let username = mapping("claimMappings.username", username)?
        .ok_or("claimMappings.username: Required value: claim or expression is required")?;
    let extra = extra_mappings(extra)?;
    if let Mapping::Expression(name) = &username {
        let others: Vec<&Program> =
            extra.iter().map(|(_, program)| program.as_ref()).chain(claim_rules.iter().map(Rule::program)).collect();
        check_email(name, &others).map_err(|why| format!("claimMappings.username.expression: {why}"))?;
    }
    Ok(Issuer {
        url: connection.url,
        discovery_url: connection.discovery_url,
        authorities: Some(connection.certificate_authority).filter(|pem| !pem.is_empty()),
        audiences: connection.audiences,
        algorithms: ALGORITHMS.iter().map(|algorithm| (*algorithm).to_owned()).collect(),
        required_claims,
        claim_rules,
        username,
        groups: mapping("claimMappings.groups", groups)?,
        uid: uid_mapping(uid)?,
        extra,
        user_rules: user_rules(entry.user_validation_rules)?,
    })
}

/// Claims that must have a value, and expressions that must be true.
fn claim_rules(rules: Vec<ValidationRule>) -> Result<(BTreeMap<String, String>, Vec<Rule>), String> {
    let (mut required, mut compiled) = (BTreeMap::new(), Vec::<Rule>::new());
    for (index, rule) in rules.into_iter().enumerate() {
        let at = |what: &str| format!("claimValidationRules[{index}]{what}");
        match (rule.claim.is_empty(), rule.expression.is_empty()) {
            (false, false) => {
                return Err(at(&format!(": Invalid value: {:?}: claim and expression can't both be set", rule.claim)));
            }
            (true, true) => return Err(at(": Required value: claim or expression is required")),
            (false, true) if !rule.message.is_empty() => {
                return Err(at(&format!(".message: Invalid value: {:?}: may not be specified when claim is set", rule.message)));
            }
            (false, true) => {
                if required.contains_key(&rule.claim) {
                    return Err(at(&format!(".claim: Duplicate value: {:?}", rule.claim)));
                }
                required.insert(rule.claim, rule.required_value);
            }
            (true, false) if !rule.required_value.is_empty() => {
                let value = rule.required_value;
                return Err(at(&format!(
                    ".requiredValue: Invalid value: {value:?}: may not be specified when expression is set"
                )));
            }
            (true, false) => {
                if compiled.iter().any(|other| other.program().source() == rule.expression) {
                    return Err(at(&format!(".expression: Duplicate value: {:?}", rule.expression)));
                }
                let rule = Rule::of_claims(&rule.expression, rule.message);
                compiled.push(rule.map_err(|why| at(&format!(".expression: {why}")))?);
            }
        }
    }
    Ok((required, compiled))
}

fn user_rules(rules: Vec<UserRule>) -> Result<Vec<Rule>, String> {
    let mut compiled = Vec::<Rule>::new();
    for (index, rule) in rules.into_iter().enumerate() {
        let at = |what: &str| format!("userValidationRules[{index}].expression: {what}");
        if rule.expression.is_empty() {
            return Err(at("Required value"));
        }
        if compiled.iter().any(|other| other.program().source() == rule.expression) {
            return Err(at(&format!("Duplicate value: {:?}", rule.expression)));
        }
        compiled.push(Rule::of_user(&rule.expression, rule.message).map_err(|why| at(&why))?);
    }
    Ok(compiled)
}

fn extra_mappings(file: Vec<FileExtra>) -> Result<Vec<(String, Arc<Program>)>, String> {
    let mut all: Vec<(String, Arc<Program>)> = Vec::new();
    for (index, FileExtra { key, value_expression }) in file.into_iter().enumerate() {
        let at = |what: &str| format!("claimMappings.extra[{index}].{what}");
        check_extra_key(&key).map_err(|why| at(&format!("key: {why}")))?;
        if all.iter().any(|(other, _)| *other == key) {
            return Err(at(&format!("key: Duplicate value: {key:?}")));
        }
        if value_expression.is_empty() {
            return Err(at("valueExpression: Required value"));
        }
        let program = expressions::mapping(&value_expression).map_err(|why| at(&format!("valueExpression: {why}")))?;
        all.push((key, program));
    }
    Ok(all)
}

fn mapping(path: &str, file: FileMapping) -> Result<Option<Mapping>, String> {
    match (file.claim.is_empty(), file.expression.is_empty()) {
        (false, false) => Err(format!("{path}: Invalid value: \"\": claim and expression can't both be set")),
        (true, true) => Ok(None),
        (true, false) => match file.prefix {
            Some(prefix) => Err(format!("{path}.prefix: Invalid value: {prefix:?}: may not be specified when expression is set")),
            None => {
                let program = expressions::mapping(&file.expression).map_err(|why| format!("{path}.expression: {why}"))?;
                Ok(Some(Mapping::Expression(program)))
            }
        },
        (false, true) => match file.prefix {
            Some(prefix) => Ok(Some(Claim { name: file.claim, prefix }.into())),
            None => Err(format!(
                "{path}.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing"
            )),
        },
    }
}

/// A uid has no prefix.
fn uid_mapping(file: FileMapping) -> Result<Option<Mapping>, String> {
    let prefix = file.expression.is_empty().then(String::new);
    mapping("claimMappings.uid", FileMapping { prefix, ..file })
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
        let claim = |mapping: &Mapping| match mapping {
            Mapping::Claim(claim) => claim.clone(),
            Mapping::Expression(_) => unreachable!("it is a claim"),
        };
        assert_eq!(claim(&issuer.username), Claim { name: "sub".into(), prefix: "oidc:".into() });
        assert_eq!(issuer.required_claims["hd"], "example.com");
        assert_eq!((claim(issuer.uid.as_ref().unwrap()).name.as_str(), configuration.anonymous), ("id", None));
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
        let with = |rest: &str| format!("issuer: {{url: 'https://idp', audiences: [a]}}\n{rest}");
        let mappings = |inner: &str| with(&format!("claimMappings: {{{inner}}}"));
        check(
            &mappings("username: {expression: 'claims.'}"),
            "claimMappings.username.expression: Invalid value: \"claims.\": compilation failed",
        );
        check(&mappings("username: {expression: a, claim: b}"), "claim and expression can't both be set");
        check(&mappings("username: {expression: a, prefix: b}"), "may not be specified when expression is set");
        check(&mappings("username: {expression: claims.email}"), "claims.email_verified must be used in");
        let extra = |inner: &str| mappings(&format!("username: {{expression: claims.sub}}, extra: [{inner}]"));
        check(&extra("{key: a, valueExpression: claims.a}"), "claimMappings.extra[0].key: Invalid value: \"a\"");
        check(&extra("{key: a.b/c}"), "claimMappings.extra[0].valueExpression: Required value");
        let rules = |inner: &str| with(&format!("claimValidationRules: [{inner}]\n{USER}"));
        check(&rules("{}"), "claimValidationRules[0]: Required value: claim or expression is required");
        check(&rules("{claim: a, message: b}"), "may not be specified when claim is set");
        check(
            &rules("{expression: 'true'}, {expression: 'true'}"),
            "claimValidationRules[1].expression: Duplicate value: \"true\"",
        );
        check(&rules("{expression: '1'}"), "must evaluate to bool");
        let users = |inner: &str| with(&format!("userValidationRules: [{inner}]\n{USER}"));
        check(&users("{message: a}"), "userValidationRules[0].expression: Required value");
        check(&users("{expression: claims.sub}"), "undeclared reference to 'claims'");
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
            assert!(matches!(&issuer.username, Mapping::Claim(claim) if claim.prefix == expected), "{claim} {prefix}");
            assert_eq!(issuer.required_claims["hd"], "x=y");
        };
        check("sub", "", "https://idp#");
        check("email", "", "");
        check("sub", "-", "");
        check("email", "oidc:", "oidc:");
        assert!(Flags { issuer_url: "https://idp".into(), ..Flags::default() }.issuer().is_err());
    }
}
