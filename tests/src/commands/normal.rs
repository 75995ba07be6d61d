//! What differs from run to run, replaced by a word.

/// What is known of a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// `127.0.0.1:PORT`
    pub address: String,
    pub directory: String,
    /// The file name of the client's program: `kubectl.1.33`, as it calls itself in messages.
    pub program: String,
}

/// The text with uids, times, versions, ages and addresses replaced, and every client called `kubectl`.
pub fn normal(text: &str, run: &Run) -> String {
    let text = text.replace(&run.address, "SERVER").replace(&run.directory, "DIR").replace(&run.program, "kubectl");
    text.split_inclusive('\n').filter(|line| !is_logged(line)).map(line).collect()
}

/// A line of a log, as Go's programs write it beside their output: `W1121 17:09:01.123456   123 file.go:45] …`.
fn is_logged(line: &str) -> bool {
    line.starts_with(['I', 'W', 'E']) && line.get(1..).is_some_and(|rest| begins(rest.as_bytes(), b"0000 00:00:00.000000"))
}

fn line(line: &str) -> String {
    let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
    let body = names(body);
    let body = times(&body);
    let body = uids(&body);
    let body = versions(&body);
    format!("{}{end}", ages(&body))
}

/// Whether `text` begins with characters as `shape` says: `0` is a digit, `x` a hexadecimal one, others are themselves.
fn begins(text: &[u8], shape: &[u8]) -> bool {
    text.len() >= shape.len()
        && shape.iter().zip(text).all(|(want, got)| match want {
            b'0' => got.is_ascii_digit(),
            b'x' => got.is_ascii_hexdigit(),
            other => got == other,
        })
}

/// Names that are made up: temporary files and directories, tokens, hashes of certificates.
fn names(text: &str) -> String {
    let word = |after: &str| after.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).unwrap_or(after.len());
    let number = |after: &str| after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    let text = replace(text, "kubectl-edit-", "<file>", word);
    let text = replace(&text, "LIVE-", "<live>", number);
    let text = replace(&text, "MERGED-", "<merged>", number);
    let text = replace(&text, "X509SHA256=", "<credential>", word);
    replace(&text, "eyJhbGciOi", "<token>", word)
}

/// Replaces every stretch that has a shape by a word; `more` says how many bytes after the shape belong to it.
fn replace(text: &str, shape: &str, word: &str, more: fn(&str) -> usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if begins(rest.as_bytes(), shape.as_bytes()) {
            let after = &rest[shape.len()..];
            rest = &after[more(after)..];
            out.push_str(word);
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

fn times(text: &str) -> String {
    let zone = |after: &str| {
        after.find('Z').filter(|at| after[..*at].bytes().all(|b| b == b'.' || b.is_ascii_digit())).map_or(0, |at| at + 1)
    };
    let text = replace(text, "0000-00-00T00:00:00", "<time>", zone);
    let text = replace(&text, "0000-00-00 00:00:00.", "<time>", |after| after.find(" +0000").map_or(0, |at| at + 6));
    // `Mon, 02 Jan 2006 15:04:05 +0000` of describe; the weekday before it goes with the column.
    match text.find(" +0000") {
        Some(end) if end >= 25 => format!("{}<time>{}", &text[..end - 25], &text[end + 6..]),
        _ => text,
    }
}

fn uids(text: &str) -> String {
    replace(text, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "<uid>", |_| 0)
}

fn versions(text: &str) -> String {
    for name in ["resourceVersion: \"", "\"resourceVersion\":\"", "\"resourceVersion\": \"", "Resource Version:  "] {
        if let Some(at) = text.find(name) {
            let from = at + name.len();
            let digits = text[from..].bytes().take_while(u8::is_ascii_digit).count();
            if digits > 0 {
                return format!("{}<version>{}", &text[..from], &text[from + digits..]);
            }
        }
    }
    text.to_owned()
}

/// `5s`, `2m3s`, `1d` in a cell of a table. Columns are three apart, so ages of up to three letters keep their width.
fn ages(text: &str) -> String {
    let is_age = |word: &str| {
        let units = word.bytes().filter(|b| b.is_ascii_alphabetic()).count();
        units > 0
            && word.ends_with(['s', 'm', 'h', 'd'])
            && word.starts_with(|c: char| c.is_ascii_digit())
            && word.bytes().all(|b| b.is_ascii_digit() || b"smhdy".contains(&b))
    };
    let words: Vec<&str> = text.split(' ').collect();
    let cell = |at: usize| at == 0 || (at >= 2 && words[at - 1].is_empty() && words[at - 2].is_empty());
    let shown = words.iter().enumerate().map(|(at, word)| if is_age(word) && cell(at) { "<age>" } else { *word });
    let mut out = shown.collect::<Vec<_>>().join(" ");
    // What follows an age is as far away as from the longest of them.
    while out.contains("<age>    ") {
        out = out.replace("<age>    ", "<age>   ");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_replaced() {
        let run = Run { address: "127.0.0.1:1234".into(), directory: "/tmp/x".into(), program: "kctl".into() };
        let check = |text: &str, want: &str| assert_eq!(normal(text, &run), want);
        check("NAME   READY   AGE\na      1/1     12s\n", "NAME   READY   AGE\na      1/1     <age>\n");
        check("a      5s    nginx\nb      10s   nginx\n", "a      <age>   nginx\nb      <age>   nginx\n");
        check("  uid: 0f8e1d3c-1111-2222-3333-444455556666\n", "  uid: <uid>\n");
        check("  resourceVersion: \"42\"\n", "  resourceVersion: \"<version>\"\n");
        check("at 2026-11-21T10:00:00Z and 2026-11-21T10:00:00.123456Z\n", "at <time> and <time>\n");
        check("created: Sat, 21 Nov 2026 10:00:00 +0000\n", "created: <time>\n");
        check("See 'kctl get -h' at https://127.0.0.1:1234 in /tmp/x/a\n", "See 'kubectl get -h' at https://SERVER in DIR/a\n");
        check("pod/5s created\n", "pod/5s created\n");
        check("--- /tmp/LIVE-123/v1.x\t2026-11-21 10:00:00.123456789 +0000\n", "--- /tmp/<live>/v1.x\t<time>\n");
        check("in /tmp/kctl-edit-12.yaml\"\n", "in /tmp/<file>\"\n");
        check("W1121 17:09:01.123456   12 a.go:4] x\nW1\n", "W1\n");
        check("no end", "no end");
        let old = Run { program: "kubectl.1.27".into(), ..run };
        assert_eq!(normal("run 'kubectl.1.27 get' in /tmp/kubectl.1.27-edit-1\n", &old), "run 'kubectl get' in /tmp/<file>\n");
    }
}
