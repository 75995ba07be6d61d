//! CEL in AuthenticationConfiguration: what is checked of claims and users, and what users are made of (KEP-3331).

use std::sync::{Arc, LazyLock};

use cel::{Bindings, Budget, Environment, Program, RUNTIME_BUDGET, Type};
use machinery::field::aggregate;
use serde_json::{Map, Value};

use super::token::Claims;
use crate::authn::user::User;

const USER: &str = "kubernetes.UserInfo";
/// Claims within claims have a second name down to this depth: each level of them doubles what is below it.
const ESCAPED_DEPTH_MAX: u32 = 4;

static OF_CLAIMS: LazyLock<Environment> =
    LazyLock::new(|| Environment::new().variable("claims", Type::map(Type::String, Type::Dyn)));

static OF_USER: LazyLock<Environment> = LazyLock::new(|| {
    Environment::new()
        .object_type(USER)
        .field_type(USER, "username", Type::String)
        .field_type(USER, "uid", Type::String)
        .field_type(USER, "groups", Type::list(Type::String))
        .field_type(USER, "extra", Type::map(Type::String, Type::list(Type::String)))
        .variable("user", Type::object(USER))
});

/// An expression that must be true, and what is said if it is not.
#[derive(Clone, Debug)]
pub struct Rule {
    program: Arc<Program>,
    message: String,
}

impl Rule {
    /// About `claims`.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn of_claims(expression: &str, message: String) -> Result<Self, String> {
        Self::compile(&OF_CLAIMS, expression, message)
    }

    /// About `user`.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn of_user(expression: &str, message: String) -> Result<Self, String> {
        Self::compile(&OF_USER, expression, message)
    }

    fn compile(environment: &Environment, expression: &str, message: String) -> Result<Self, String> {
        let program = compile(environment, expression)?;
        if program.output_type() != &Type::Bool {
            return Err(invalid(expression, "must evaluate to bool"));
        }
        Ok(Self { program, message })
    }

    pub fn program(&self) -> &Program {
        &self.program
    }
}

/// Compiles what gives a user's name, groups, uid or extra value. Its type shows when it is evaluated: claims can be anything.
///
/// # Errors
/// In upstream's words.
pub fn mapping(expression: &str) -> Result<Arc<Program>, String> {
    compile(&OF_CLAIMS, expression)
}

fn compile(environment: &Environment, expression: &str) -> Result<Arc<Program>, String> {
    let compiled = environment.compile(expression);
    compiled.map(Arc::new).map_err(|errors| invalid(expression, &format!("compilation failed: {}", cel::display(&errors))))
}

fn invalid(expression: &str, why: &str) -> String {
    format!("Invalid value: {expression:?}: {why}")
}

/// A token's claims as expressions see them.
pub struct Seen(Value);

impl Seen {
    pub fn new(claims: &Claims) -> Self {
        Self(escaped(claims, ESCAPED_DEPTH_MAX))
    }

    /// # Errors
    /// In upstream's words.
    fn evaluate(&self, program: &Program) -> Result<Value, String> {
        evaluate(program, "claims", &self.0)
    }

    /// A value that must be a string; `what` it is for.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn string(&self, program: &Program, what: &str) -> Result<String, String> {
        let failed = |why: String| format!("oidc: error evaluating {what} claim expression: {why}");
        match self.evaluate(program).map_err(failed)? {
            Value::String(text) => Ok(text),
            _ => Err(failed(format!("{what} claim expression must return a string"))),
        }
    }

    /// A string, a list of strings or nothing; empty strings count as nothing.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn strings(&self, program: &Program) -> Result<Vec<String>, String> {
        let items = match self.evaluate(program)? {
            Value::Null => Vec::new(),
            one @ Value::String(_) => vec![one],
            Value::Array(many) => many,
            _ => return Err("expression must return a string or a list of strings".to_owned()),
        };
        let text = |item| match item {
            Value::String(text) => Ok(text),
            _ => Err("expression must return a string or a list of strings".to_owned()),
        };
        let all = items.into_iter().map(text).collect::<Result<Vec<_>, String>>()?;
        Ok(all.into_iter().filter(|text| !text.is_empty()).collect())
    }

    /// # Errors
    /// The first rule that does not hold, in upstream's words.
    pub fn check(&self, rules: &[Rule]) -> Result<(), String> {
        check(rules, "claims", &self.0).map_err(|why| format!("oidc: error evaluating claim validation expression: {why}"))
    }
}

/// # Errors
/// The first rule that does not hold, in upstream's words.
pub fn check_user(rules: &[Rule], user: &User) -> Result<(), String> {
    if rules.is_empty() {
        return Ok(());
    }
    let seen = serde_json::json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
    check(rules, "user", &seen).map_err(|why| format!("oidc: error evaluating user info validation rule: {why}"))
}

fn check(rules: &[Rule], name: &str, value: &Value) -> Result<(), String> {
    let values = rules.iter().map(|rule| evaluate(&rule.program, name, value)).collect::<Result<Vec<_>, _>>()?;
    for (rule, value) in rules.iter().zip(values) {
        match value {
            Value::Bool(true) => {}
            Value::Bool(false) => {
                return Err(format!("validation expression '{}' failed: {}", rule.program.source(), rule.message));
            }
            _ => return Err("validation expression must return a boolean".to_owned()),
        }
    }
    Ok(())
}

fn evaluate(program: &Program, name: &str, value: &Value) -> Result<Value, String> {
    let mut bindings = Bindings::new();
    bindings.bind_json(name, value);
    let failed = |why: String| format!("expression '{}' resulted in error: {why}", program.source());
    let value = program.evaluate(&bindings, &mut Budget::new(RUNTIME_BUDGET)).map_err(|error| failed(error.to_string()))?;
    value.to_json().map_err(|error| failed(error.to_string()))
}

/// The claims, each also under the name that an expression can write: `example.com/role` is `example__dot__com__slash__role`.
fn escaped(claims: &Map<String, Value>, depth: u32) -> Value {
    let mut all = Map::new();
    for (name, value) in claims {
        let value = escaped_item(value, depth);
        let other = cel::escape(name).filter(|other| depth > 0 && other != name && !claims.contains_key(other));
        all.extend(other.map(|other| (other, value.clone())));
        all.insert(name.clone(), value);
    }
    Value::Object(all)
}

fn escaped_item(item: &Value, depth: u32) -> Value {
    match item {
        Value::Object(inner) => escaped(inner, depth.saturating_sub(1)),
        Value::Array(items) => Value::Array(items.iter().map(|item| escaped_item(item, depth)).collect()),
        other => other.clone(),
    }
}

/// Why `email` alone may not name a user: its issuer may let anybody claim one.
///
/// # Errors
/// In upstream's words.
pub fn check_email(username: &Program, others: &[&Program]) -> Result<(), String> {
    let asks = |program: &Program, claim: &str| program.selects_of("claims", claim);
    if asks(username, "email") && !others.iter().chain([&username]).any(|program| asks(program, "email_verified")) {
        return Err(invalid(
            username.source(),
            "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
        ));
    }
    Ok(())
}

/// Whether `key` may name an extra value: a path behind a domain that is not Kubernetes' own.
///
/// # Errors
/// In upstream's words.
pub fn check_extra_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("Required value".to_owned());
    }
    let Some((domain, path)) = key.split_once('/').filter(|(domain, path)| !domain.is_empty() && !path.is_empty()) else {
        return Err(invalid(key, "must be a domain-prefixed path (such as \"acme.io/foo\")"));
    };
    let faults = machinery::names::dns1123_subdomain(domain);
    if !faults.is_empty() {
        return Err(invalid(domain, &aggregate(faults)));
    }
    let in_path = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !path.chars().all(in_path) {
        return Err(invalid(path, "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')"));
    }
    if key.to_lowercase() != key {
        return Err(invalid(key, "must be lowercase"));
    }
    let reserved = ["kubernetes.io", "k8s.io"];
    let below = |own: &str| domain.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if reserved.into_iter().any(below) {
        return Err(invalid(key, "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(claims: Value) -> Seen {
        Seen::new(claims.as_object().unwrap())
    }

    #[test]
    fn strings_of_claims() {
        let check = |expression: &str, expected: Result<&[&str], &str>| {
            let claims = seen(json!({"a": "x", "n": 1, "l": ["y", "", "z"], "m": [1], "e.f/g": "dotted", "o": {"p.q": "deep"}}));
            let got = claims.strings(&mapping(expression).unwrap());
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{expression}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{expression}: {got}"),
                (got, expected) => panic!("{expression}: {got:?}, not {expected:?}"),
            }
        };
        check("claims.a", Ok(&["x"]));
        check("claims.l", Ok(&["y", "z"]));
        check("claims.l.map(g, 'p:' + g)", Ok(&["p:y", "p:", "p:z"]));
        check("claims.?b.orValue('')", Ok(&[]));
        check("null", Ok(&[]));
        check("claims.e__dot__f__slash__g", Ok(&["dotted"]));
        check("claims['e.f/g']", Ok(&["dotted"]));
        check("claims.o.p__dot__q", Ok(&["deep"]));
        check("claims.n", Err("expression must return a string or a list of strings"));
        check("claims.m", Err("expression must return a string or a list of strings"));
        check("claims.b", Err("expression 'claims.b' resulted in error: no such key: b"));
    }

    #[test]
    fn one_string() {
        let claims = seen(json!({"a": "x", "n": 1}));
        assert_eq!(claims.string(&mapping("claims.a + '!'").unwrap(), "username").unwrap(), "x!");
        let error = claims.string(&mapping("claims.n").unwrap(), "uid").unwrap_err();
        assert_eq!(error, "oidc: error evaluating uid claim expression: uid claim expression must return a string");
    }

    #[test]
    fn rules() {
        let claims = seen(json!({"hd": "example.com"}));
        let rule = |expression: &str| Rule::of_claims(expression, "because".into()).unwrap();
        assert_eq!(claims.check(&[rule("claims.hd == 'example.com'")]), Ok(()));
        let error = claims.check(&[rule("claims.hd == 'x'")]).unwrap_err();
        assert_eq!(
            error,
            "oidc: error evaluating claim validation expression: validation expression 'claims.hd == 'x'' failed: because"
        );
        let error = Rule::of_claims("claims.hd", String::new()).unwrap_err();
        assert_eq!(error, "Invalid value: \"claims.hd\": must evaluate to bool");
        assert!(Rule::of_claims("user.username == ''", String::new()).unwrap_err().contains("undeclared reference to 'user'"));
        let user = User { name: "system:x".into(), ..User::default() };
        let mine = Rule::of_user("!user.username.startsWith('system:')", "reserved".into()).unwrap();
        assert!(check_user(&[mine], &user).unwrap_err().ends_with("failed: reserved"));
        let more = Rule::of_user("user.groups.size() == 0 && user.extra.size() == 0", String::new()).unwrap();
        assert_eq!(check_user(&[more], &user), Ok(()));
    }

    #[test]
    fn an_email_needs_to_be_verified() {
        let check = |username: &str, other: &str, expected: bool| {
            let (username, other) = (mapping(username).unwrap(), mapping(other).unwrap());
            assert_eq!(check_email(&username, &[&other]).is_ok(), expected, "{}", username.source());
        };
        check("claims.sub", "true", true);
        check("claims.email", "true", false);
        check("claims.?email.orValue('')", "true", false);
        check("claims.email", "claims.email_verified", true);
        check("claims.email_verified ? claims.email : claims.sub", "true", true);
    }

    #[test]
    fn keys_of_extra_values() {
        for (key, expected) in [
            ("example.org/foo", ""),
            ("", "Required value"),
            ("foo", "must be a domain-prefixed path"),
            ("example.org/", "must be a domain-prefixed path"),
            ("exa_mple/foo", "a lowercase RFC 1123 subdomain"),
            ("example.org/Foo", "must be lowercase"),
            ("example.org/a b", "Invalid path"),
            ("k8s.io/foo", "reserved for Kubernetes use"),
            ("a.kubernetes.io/foo", "reserved for Kubernetes use"),
            ("notk8s.io/foo", ""),
        ] {
            let got = check_extra_key(key).err().unwrap_or_default();
            assert!(got.contains(expected) && got.is_empty() == expected.is_empty(), "{key}: {got}");
        }
    }
}
