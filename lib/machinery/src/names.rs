//! Which names, labels and keys are allowed. Each check returns upstream's messages, empty when the value is good.
//!
//! Upstream checks with regular expressions and prints them; here each expression is a small hand-written matcher beside
//! its printed form.

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1035_FMT: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const VALUE_FMT: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

const LABEL_MSG: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const SUBDOMAIN_MSG: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const DNS1035_MSG: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
const QUALIFIED_MSG: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const VALUE_MSG: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const WILDCARD_MSG: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
const REASON_MSG: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
const C_IDENTIFIER_MSG: &str =
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
const ENV_MSG: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";
const CONFIG_KEY_MSG: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
const HEADER_MSG: &str = "a valid HTTP header must consist of alphanumeric characters or '-'";
const PERCENT_MSG: &str = "a valid percent string must be a numeric string followed by an ending '%'";

pub const LABEL_MAX: usize = 63;
pub const SUBDOMAIN_MAX: usize = 253;

/// `must be no more than N characters`
pub fn max_len_message(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// `must be no more than N bytes`, of what labels are made of
pub fn max_bytes_message(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// `must be between LO and HI, inclusive`
pub fn range_message(lo: i64, hi: i64) -> String {
    format!("must be between {lo} and {hi}, inclusive")
}

/// What upstream says when a value does not match an expression.
pub fn regex_message(message: &str, expression: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{expression}')");
    }
    let mut s = format!("{message} (e.g. ");
    for (i, example) in examples.iter().enumerate() {
        if i > 0 {
            s.push_str(" or ");
        }
        s.push('\'');
        s.push_str(example);
        s.push_str("', ");
    }
    s.push_str("regex used for validation is '");
    s.push_str(expression);
    s.push_str("')");
    s
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Starts and ends with `edge`, holds only `edge` and `inner` bytes, and is not empty.
fn framed(s: &str, first: fn(u8) -> bool, edge: fn(u8) -> bool, inner: &[u8]) -> bool {
    match s.as_bytes() {
        [] => false,
        [only] => first(*only),
        [head, middle @ .., tail] => first(*head) && edge(*tail) && middle.iter().all(|b| edge(*b) || inner.contains(b)),
    }
}

fn alnum(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn is_label(s: &str) -> bool {
    framed(s, lower_alnum, lower_alnum, b"-")
}

fn is_subdomain(s: &str) -> bool {
    s.split('.').all(is_label)
}

fn is_qualified(s: &str) -> bool {
    framed(s, alnum, alnum, b"-_.")
}

/// A namespace's name, a container's name, a DNS label.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(max_len_message(LABEL_MAX));
    }
    if !is_label(value) {
        errors.push(if is_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            regex_message(LABEL_MSG, LABEL_FMT, &["my-name", "123-abc"])
        });
    }
    errors
}

/// Most objects' names.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(max_len_message(SUBDOMAIN_MAX));
    }
    if !is_subdomain(value) {
        errors.push(regex_message(SUBDOMAIN_MSG, SUBDOMAIN_FMT, &["example.com"]));
    }
    errors
}

/// A Service's name before the rules were relaxed; still a webhook's or CRD's.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(max_len_message(LABEL_MAX));
    }
    if !framed(value, |b| b.is_ascii_lowercase(), lower_alnum, b"-") {
        errors.push(regex_message(DNS1035_MSG, DNS1035_FMT, &["my-name", "abc-123"]));
    }
    errors
}

/// `*.example.com`
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(max_len_message(SUBDOMAIN_MAX));
    }
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        errors.push(regex_message(WILDCARD_MSG, &format!("\\*\\.{SUBDOMAIN_FMT}"), &["*.example.com"]));
    }
    errors
}

/// A label key, an annotation key, a resource name: `name` or `example.com/name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let part = || regex_message(QUALIFIED_MSG, QUALIFIED_FMT, &["MyName", "my.name", "123-abc"]);
    let mut errors = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, rest)) if rest.contains('/') => {
            errors.push(format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                part()
            ));
            return errors;
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(dns1123_subdomain(prefix).into_iter().map(|m| format!("prefix part {m}")));
            }
            name
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part {}", max_bytes_message(LABEL_MAX)));
    }
    if !is_qualified(name) {
        errors.push(format!("name part {}", part()));
    }
    errors
}

pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(max_bytes_message(LABEL_MAX));
    }
    if !value.is_empty() && !is_qualified(value) {
        errors.push(regex_message(VALUE_MSG, VALUE_FMT, &["MyValue", "my_value", "12345"]));
    }
    errors
}

/// A port's name in a container (an IANA service name).
pub fn port_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 15 {
        errors.push(max_len_message(15));
    }
    if value.is_empty() || !value.bytes().all(|b| lower_alnum(b) || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

pub fn in_range(value: i64, lo: i64, hi: i64) -> Vec<String> {
    if (lo..=hi).contains(&value) { Vec::new() } else { vec![range_message(lo, hi)] }
}

/// A user or group id.
pub fn user_id(id: i64) -> Vec<String> {
    in_range(id, 0, i64::from(i32::MAX))
}

/// The reason of a condition.
pub fn condition_reason(value: &str) -> Vec<String> {
    let ok = framed(value, |b| b.is_ascii_alphabetic(), |b| alnum(b) || b == b'_', b",:");
    let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
    one_unless(ok, || regex_message(REASON_MSG, "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", &examples))
}

pub fn c_identifier(value: &str) -> Vec<String> {
    let head = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let ok = value.bytes().next().is_some_and(head) && value.bytes().all(|b| head(b) || b.is_ascii_digit());
    one_unless(ok, || regex_message(C_IDENTIFIER_MSG, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"]))
}

/// An environment variable's name (printable ASCII without `=`, as since v1.34).
pub fn env_var_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.is_empty() {
        errors.push("environment variable name must be non-empty".to_owned());
    }
    if !value.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        errors.push(ENV_MSG.to_owned());
    }
    errors
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(max_len_message(SUBDOMAIN_MAX));
    }
    if value.is_empty() || !value.bytes().all(|b| alnum(b) || b"-_.".contains(&b)) {
        errors.push(regex_message(CONFIG_KEY_MSG, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match value {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        v if v.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

pub fn http_header_name(value: &str) -> Vec<String> {
    let ok = !value.is_empty() && value.bytes().all(|b| alnum(b) || b == b'-');
    one_unless(ok, || regex_message(HEADER_MSG, "[-A-Za-z0-9]+", &["X-Header-Name"]))
}

/// `25%`
pub fn percent(value: &str) -> Vec<String> {
    let ok = value.strip_suffix('%').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    one_unless(ok, || regex_message(PERCENT_MSG, "[0-9]+%", &["1%", "93%"]))
}

/// A name that becomes one segment of a path: RBAC's roles and bindings.
pub fn path_segment(value: &str) -> Vec<String> {
    match value {
        "." => vec!["may not be '.'".to_owned()],
        ".." => vec!["may not be '..'".to_owned()],
        v => ["/", "%"].iter().filter(|c| v.contains(**c)).map(|c| format!("may not contain '{c}'")).collect(),
    }
}

fn one_unless(ok: bool, message: impl FnOnce() -> String) -> Vec<String> {
    if ok { Vec::new() } else { vec![message()] }
}

/// For a check of a `generateName`: the suffix is still to come, so a trailing dash is allowed.
pub fn mask_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(head) if !head.is_empty() => format!("{head}a"),
        _ => prefix.to_owned(),
    }
}

const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of what `generateName` appends.
pub const SUFFIX_LEN: usize = 5;
const GENERATED_MAX: usize = 63 - SUFFIX_LEN;

/// The name made from `metadata.generateName` and a random number of the caller's.
pub fn generate_name(prefix: &str, random: u64) -> String {
    let mut cut = prefix.len().min(GENERATED_MAX);
    while !prefix.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{}", &prefix[..cut], safe_suffix(random, SUFFIX_LEN))
}

/// `len` characters without vowels, so that no bad word appears: `7x2kq`.
pub fn safe_suffix(random: u64, len: usize) -> String {
    let mut n = random;
    (0..len)
        .map(|_| {
            let i = (n % SUFFIX_ALPHABET.len() as u64) as usize;
            n /= SUFFIX_ALPHABET.len() as u64;
            SUFFIX_ALPHABET[i] as char
        })
        .collect()
}

/// Upstream's `SafeEncodeString`: maps any text into the vowel-free alphabet (pod-template-hash).
pub fn safe_encode(s: &str) -> String {
    s.bytes().map(|b| SUFFIX_ALPHABET[b as usize % SUFFIX_ALPHABET.len()] as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(f: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]) {
        for v in good {
            assert_eq!(f(v), Vec::<String>::new(), "{v:?}");
        }
        for v in bad {
            assert!(!f(v).is_empty(), "{v:?} should be refused");
        }
    }

    #[test]
    fn accepts_and_refuses() {
        let long = "a".repeat(64);
        let long_name = format!("{}.x", "a.".repeat(126));
        check(dns1123_label, &["a", "0", "a-b", "a--b"], &["", "-a", "a-", "A", "a.b", "a_b", &long]);
        check(dns1123_subdomain, &["a", "a.b", "1.2", &long], &["", ".a", "a.", "a..b", "a_b", &long_name]);
        check(dns1035_label, &["a", "a-1"], &["", "1a", "-a", "a-", &long]);
        check(qualified_name, &["a", "A_b.c", "x.y/z"], &["", "/a", "a/", "a/b/c", "X/a", "-a", "a-", &long]);
        check(label_value, &["", "a", "A-1_x.y"], &["-a", "a-", "a b", &long]);
        check(port_name, &["http", "a1", "1-a"], &["", "1", "a--b", "-a", "a-", "A", "abcdefghijklmnop"]);
        check(env_var_name, &["A", "a.b-c", "1", "a b"], &["", "a=b", "é"]);
        check(config_map_key, &["a", ".a", "A_b-c.d"], &["", ".", "..", "..a", "a/b"]);
        check(condition_reason, &["A", "MigrationRunning", "a:b,c_"], &["", "1a", "a:", "a b"]);
        check(c_identifier, &["_a1"], &["", "1a", "a-b"]);
        check(percent, &["0%", "100%"], &["", "%", "1", "-1%", "1.5%"]);
        check(path_segment, &["system:x"], &[".", "..", "a/b", "a%b"]);
        check(wildcard_dns1123_subdomain, &["*.a.b"], &["a.b", "*", "*.", "*.*.a"]);
        check(http_header_name, &["X-A"], &["", "X A"]);
    }

    #[test]
    fn messages() {
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(
            dns1123_label("A"),
            ["a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]
        );
        assert_eq!(
            qualified_name(""),
            [
                "name part must be non-empty".to_owned(),
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
             alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
             '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
                    .to_owned(),
            ]
        );
        assert_eq!(path_segment("a/b%"), ["may not contain '/'", "may not contain '%'"]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    }

    #[test]
    fn generated_names() {
        let name = generate_name(&"p".repeat(80), 12_345_678_901);
        assert_eq!(name.len(), 63);
        assert!(dns1123_label(&name).is_empty());
        assert_ne!(generate_name("a-", 1), generate_name("a-", 2));
        assert_eq!(mask_trailing_dash("a-"), "aa");
        assert_eq!(safe_encode("0123456789"), "45678 9bcdf".replace(' ', "").as_str());
    }
}
