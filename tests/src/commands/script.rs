//! Sessions as text.

/// One command and what it must do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// `kctl` or `kubectl` when it is for one of them only.
    pub only: Option<String>,
    pub line: String,
    pub stdin: String,
    pub expected: Outcome,
    /// Written before it is run.
    pub files: Vec<(String, String)>,
    /// Remarks and empty lines before it, kept when the file is written anew.
    pub before: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
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
            "<" | ">" | "!" | "?" => {
                let step = steps.last_mut().ok_or_else(|| wrong("nothing was run yet"))?;
                match mark {
                    "<" => append(&mut step.stdin),
                    ">" => append(&mut step.expected.stdout),
                    "!" => append(&mut step.expected.stderr),
                    _ => step.expected.code = content.parse().map_err(|_| wrong("no exit code"))?,
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
        text += &lines(">", &step.expected.stdout);
        text += &lines("!", &step.expected.stderr);
        if step.expected.code != 0 {
            text += &format!("? {}\n", step.expected.code);
        }
    }
    text
}

/// The words of a line: quotes keep words together, and there is no other syntax of a shell.
pub fn words(line: &str) -> Vec<String> {
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
        assert!(parse("> x\n").is_err() && parse("x\n").is_err() && parse("$ a\n? b\n").is_err());
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words("get pod -o 'jsonpath={.a b}' x=\"y z\" ''"), ["get", "pod", "-o", "jsonpath={.a b}", "x=y z", ""]);
    }
}
