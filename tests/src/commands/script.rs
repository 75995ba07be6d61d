//! Sessions as text.

const OLDER: &str = "[kubectl <= 1.";

/// One command and what it must do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// `kctl` or `kubectl` when it is for one of them only.
    pub only: Option<String>,
    pub line: String,
    pub stdin: String,
    /// Of `kctl` and the newest kubectl.
    pub expected: Outcome,
    /// Of older releases, the newer one first.
    pub older: Vec<Older>,
    /// Written before it is run.
    pub files: Vec<(String, String)>,
    /// Remarks and empty lines before it, kept when the file is written anew.
    pub before: String,
    /// The expectation comes from this run.
    learned: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// What releases of kubectl up to 1.`minor` do instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Older {
    pub minor: u32,
    pub expected: Outcome,
}

impl Step {
    /// What a client must do: `minor` is the release of a kubectl, none that of `kctl`.
    pub fn expected(&self, minor: Option<u32>) -> &Outcome {
        let older = minor.and_then(|minor| self.older.iter().rfind(|older| minor <= older.minor));
        older.map_or(&self.expected, |older| &older.expected)
    }

    /// Writes down what a client did. Clients come with the newest first: what is known of older ones is forgotten.
    pub fn learn(&mut self, minor: Option<u32>, got: Outcome) {
        let Some(minor) = minor.filter(|_| self.learned) else {
            (self.expected, self.older, self.learned) = (got, Vec::new(), true);
            return;
        };
        if self.older.last().map_or(&self.expected, |last| &last.expected) != &got {
            self.older.push(Older { minor, expected: got });
        }
    }
}

/// Reads a session.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut next = Step::default();
    for (number, line) in text.lines().enumerate() {
        let (mark, rest) = line.split_at(line.chars().next().map_or(0, char::len_utf8));
        let content = rest.strip_prefix(' ').unwrap_or(rest);
        let wrong = |what: &str| format!("line {}: {what}: {line}", number + 1);
        let append = |text: &mut String| *text += &format!("{content}\n");
        match mark {
            "" | "#" => next.before += &format!("{line}\n"),
            "@" => next.files.push((content.to_owned(), String::new())),
            "|" => append(&mut next.files.last_mut().ok_or_else(|| wrong("content without a file"))?.1),
            "$" => {
                let only =
                    ["kctl", "kubectl"].into_iter().find(|client| rest.strip_prefix(client).is_some_and(|r| r.starts_with(' ')));
                let line = only.map_or(content, |client| rest[client.len()..].trim_start());
                steps.push(Step { only: only.map(str::to_owned), line: line.to_owned(), ..std::mem::take(&mut next) });
            }
            "[" => {
                let step = steps.last_mut().ok_or_else(|| wrong("nothing was run yet"))?;
                let minor = line.strip_prefix(OLDER).and_then(|rest| rest.strip_suffix(']')?.parse().ok());
                let minor = minor.ok_or_else(|| wrong("no release"))?;
                if step.older.last().is_some_and(|last| last.minor <= minor) {
                    return Err(wrong("a newer release comes first"));
                }
                step.older.push(Older { minor, expected: Outcome::default() });
            }
            "<" | ">" | "!" | "?" => {
                let step = steps.last_mut().ok_or_else(|| wrong("nothing was run yet"))?;
                let expected = step.older.last_mut().map_or(&mut step.expected, |older| &mut older.expected);
                match mark {
                    "<" => append(&mut step.stdin),
                    ">" => append(&mut expected.stdout),
                    "!" => append(&mut expected.stderr),
                    _ => expected.code = content.parse().map_err(|_| wrong("no exit code"))?,
                }
            }
            _ => return Err(wrong("an unknown kind of line")),
        }
    }
    Ok(steps)
}

/// Writes a session.
pub fn render(steps: &[Step]) -> String {
    let mut text = String::new();
    let lines = |mark: &str, content: &str| -> String {
        content.lines().map(|line| if line.is_empty() { format!("{mark}\n") } else { format!("{mark} {line}\n") }).collect()
    };
    for step in steps {
        text += &step.before;
        for (name, content) in &step.files {
            text += &format!("@ {name}\n{}", lines("|", content));
        }
        text += &format!("${} {}\n", step.only.as_deref().unwrap_or_default(), step.line);
        text += &lines("<", &step.stdin);
        let outcome = |expected: &Outcome| {
            let code = if expected.code == 0 { String::new() } else { format!("? {}\n", expected.code) };
            lines(">", &expected.stdout) + &lines("!", &expected.stderr) + &code
        };
        text += &outcome(&step.expected);
        for older in &step.older {
            text += &format!("{OLDER}{}]\n{}", older.minor, outcome(&older.expected));
        }
    }
    text
}

/// A command line taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub variables: Vec<(String, String)>,
    pub words: Vec<String>,
    /// It goes on for ever.
    pub endless: bool,
}

impl Line {
    pub fn parse(text: &str) -> Self {
        let (text, endless) = text.strip_suffix(" &").map_or((text, false), |text| (text, true));
        let mut line = Self { endless, ..Self::default() };
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        for word in words(text) {
            match word.split_once('=') {
                Some((name, value)) if line.words.is_empty() && is_name(name) => {
                    line.variables.push((name.to_owned(), value.to_owned()));
                }
                _ => line.words.push(word),
            }
        }
        line
    }
}

/// The words of a line: quotes keep words together, and there is no other syntax of a shell.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# a remark\n@ a.yaml\n| x: 1\n|\n| y: 2\n$ apply -f a.yaml\n> created\n\n$kctl get -f -\n< in\n! wrong\n? 1\n";

    #[test]
    fn a_session_is_read_and_written() {
        let steps = parse(TEXT).unwrap();
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[0].files, [("a.yaml".to_owned(), "x: 1\n\ny: 2\n".to_owned())]);
        assert_eq!((steps[0].line.as_str(), steps[0].expected.stdout.as_str()), ("apply -f a.yaml", "created\n"));
        assert_eq!((steps[1].only.as_deref(), steps[1].stdin.as_str(), steps[1].expected.code), (Some("kctl"), "in\n", 1));
        assert_eq!(render(&steps), TEXT);
        for wrong in ["[kubectl <= 1.30]\n", "$ a\n[kubectl]\n", "$ a\n[kubectl <= 1.27]\n[kubectl <= 1.30]\n"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("> x\n").is_err() && parse("x\n").is_err() && parse("$ a\n? b\n").is_err());
    }

    #[test]
    fn releases_differ() {
        let text = "$ a\n> new\n[kubectl <= 1.33]\n> old\n! oldest\n[kubectl <= 1.30]\n? 1\n";
        let mut steps = parse(text).unwrap();
        assert_eq!(render(&steps), text);
        let check = |step: &Step, minor, want: &str| assert_eq!(step.expected(minor).stdout, want, "{minor:?}");
        for (minor, want) in
            [(None, "new\n"), (Some(36), "new\n"), (Some(33), "old\n"), (Some(31), "old\n"), (Some(30), ""), (Some(27), "")]
        {
            check(&steps[0], minor, want);
        }
        let outcome = |stdout: &str| Outcome { stdout: stdout.into(), ..Outcome::default() };
        for (minor, stdout) in [(36, "a\n"), (33, "a\n"), (32, "b\n"), (27, "b\n")] {
            steps[0].learn(Some(minor), outcome(stdout));
        }
        assert_eq!(render(&steps), "$ a\n> a\n[kubectl <= 1.32]\n> b\n");
    }

    #[test]
    fn lines() {
        let line = Line::parse("KUBE_EDITOR='sh edit.sh' get -o x=y X=z &");
        assert_eq!(line.variables, [("KUBE_EDITOR".to_owned(), "sh edit.sh".to_owned())]);
        assert_eq!((line.words.len(), line.endless), (4, true));
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words("get pod -o 'jsonpath={.a b}' x=\"y z\" ''"), ["get", "pod", "-o", "jsonpath={.a b}", "x=y z", ""]);
    }
}
