//! Tokens that a file lists: `--token-auth-file`. Each line is `token,user,uid` and perhaps `"group,group"`, as CSV.

use std::collections::HashMap;

use super::user::User;

/// Users by their tokens. Read once, as upstream does. No Debug: the keys are secrets.
pub struct TokenFile(HashMap<String, User>);

impl TokenFile {
    /// # Errors
    /// A line that is no CSV, or has less than three columns; the message has no token.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        for (record, number) in records(text)?.into_iter().zip(1..) {
            let [token, name, uid, rest @ ..] = record.as_slice() else {
                let found = record.len();
                return Err(format!("must have at least 3 columns (token, user name, user uid), found {found}"));
            };
            if token.is_empty() {
                tracing::warn!("empty token has been found in the token file, record number {number}");
                continue;
            }
            let groups = rest.first().map(|groups| groups.split(',').map(str::to_owned).collect()).unwrap_or_default();
            let user = User { name: name.clone(), uid: uid.clone(), groups, ..User::default() };
            if users.insert(token.clone(), user).is_some() {
                tracing::warn!("duplicate token has been found in the token file, record number {number}");
            }
        }
        Ok(Self(users))
    }

    pub fn user(&self, token: &str) -> Option<&User> {
        self.0.get(token)
    }
}

/// The records of CSV: fields between commas; one in quotes may hold commas, line ends, and quotes written twice.
fn records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut all = Vec::new();
    let mut record: Vec<String> = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        if record.is_empty() && rest.starts_with(['\r', '\n']) {
            line += usize::from(rest.starts_with('\n'));
            rest = &rest[1..];
            continue;
        }
        let field;
        (field, rest) = if let Some(quoted) = rest.strip_prefix('"') { in_quotes(quoted, line)? } else { bare(rest, line)? };
        line += field.matches('\n').count();
        record.push(field);
        if let Some(next) = rest.strip_prefix(',') {
            rest = next;
            if !rest.is_empty() && !rest.starts_with(['\r', '\n']) {
                continue;
            }
            // A comma at the end: there is an empty field after it.
            record.push(String::new());
        }
        all.push(std::mem::take(&mut record));
    }
    Ok(all)
}

fn bare(text: &str, line: usize) -> Result<(String, &str), String> {
    let (field, rest) = text.split_at(text.find([',', '\r', '\n']).unwrap_or(text.len()));
    if field.contains('"') { Err(format!("line {line}: bare \" in non-quoted-field")) } else { Ok((field.to_owned(), rest)) }
}

fn in_quotes(text: &str, line: usize) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, tail) =
            rest.split_once('"').ok_or_else(|| format!("line {line}: extraneous or missing \" in quoted-field"))?;
        field.push_str(part);
        match tail.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None if tail.is_empty() || tail.starts_with([',', '\r', '\n']) => return Ok((field, tail)),
            None => return Err(format!("line {line}: extraneous or missing \" in quoted-field")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comma_separated_values() {
        let check = |text: &str, expected: &[&[&str]]| assert_eq!(records(text).unwrap(), expected, "{text:?}");
        check("", &[]);
        check("a,b,c", &[&["a", "b", "c"]]);
        check("a,b,c\n\nd,e\r\n", &[&["a", "b", "c"], &["d", "e"]]);
        check("a,\"b,\"\"c\"\"\",d", &[&["a", "b,\"c\"", "d"]]);
        check("a,\n,b", &[&["a", ""], &["", "b"]]);
        check("a,", &[&["a", ""]]);
        assert_eq!(records("a\nb\"c").unwrap_err(), "line 2: bare \" in non-quoted-field");
        assert_eq!(records("\"a").unwrap_err(), "line 1: extraneous or missing \" in quoted-field");
        assert_eq!(records("\"a\"b").unwrap_err(), "line 1: extraneous or missing \" in quoted-field");
    }

    #[test]
    fn users() {
        let file = TokenFile::parse("t1,ann,1\nt2,bob,2,\"dev,ops\"\n,nobody,3\nt1,eve,4\n").ok().unwrap();
        let seen = |token: &str| file.user(token).map(|user| (user.name.as_str(), user.uid.as_str(), user.groups.join(" ")));
        assert_eq!(seen("t1"), Some(("eve", "4", String::new())));
        assert_eq!(seen("t2"), Some(("bob", "2", "dev ops".to_owned())));
        assert_eq!(seen(""), None);
        let why = TokenFile::parse("secret,ann").err().unwrap();
        assert_eq!(why, "must have at least 3 columns (token, user name, user uid), found 2");
    }
}
