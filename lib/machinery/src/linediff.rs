//! The difference of two texts by lines, in the unified form of `diff -u` without its first two lines. Upstream's API server shows
//! with it what a forbidden change was (`k8s.io/apimachinery/pkg/util/diff`).

use std::fmt::Write;

use serde_json::Value;

/// Lines around a change that are shown.
const CONTEXT: usize = 3;
/// Pairs of lines that are compared. Beyond that, everything between the first and the last difference counts as replaced.
const PAIRS_MAX: usize = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Keep,
    Remove,
    Add,
}

/// The difference of two values as indented JSON; empty when there is none.
pub fn of_values(old: &Value, new: &Value) -> String {
    unified(&indented(old), &indented(new))
}

fn indented(value: &Value) -> String {
    use serde::Serialize;
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, serde_json::ser::PrettyFormatter::with_indent(b" "));
    // A Value has only string keys, and a vector takes everything.
    let _ = value.serialize(&mut serializer);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The difference of two texts; empty when there is none.
pub fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let steps = steps(&old, &new);
    let mut out = String::new();
    for (from, to) in hunks(&steps) {
        let before = |wanted: Step| steps[..from].iter().filter(|step| **step == Step::Keep || **step == wanted).count();
        let within = |wanted: Step| steps[from..to].iter().filter(|step| **step == Step::Keep || **step == wanted).count();
        let (mut at_old, mut at_new) = (before(Step::Remove), before(Step::Add));
        let (old_range, new_range) = (range(at_old, within(Step::Remove)), range(at_new, within(Step::Add)));
        // Writing to a String does not fail.
        let _ = writeln!(out, "@@ -{old_range} +{new_range} @@");
        for step in &steps[from..to] {
            let (mark, line) = match step {
                Step::Keep => (' ', old[at_old]),
                Step::Remove => ('-', old[at_old]),
                Step::Add => ('+', new[at_new]),
            };
            let _ = writeln!(out, "{mark}{line}");
            at_old += usize::from(*step != Step::Add);
            at_new += usize::from(*step != Step::Remove);
        }
    }
    out
}

fn range(start: usize, length: usize) -> String {
    match length {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        _ => format!("{},{length}", start + 1),
    }
}

/// How `new` comes from `old`, line by line; what is removed comes before what is added there.
fn steps(old: &[&str], new: &[&str]) -> Vec<Step> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (middle_old, middle_new) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut steps = vec![Step::Keep; head];
    if middle_old.len().saturating_mul(middle_new.len()) > PAIRS_MAX {
        steps.extend(vec![Step::Remove; middle_old.len()]);
        steps.extend(vec![Step::Add; middle_new.len()]);
    } else {
        between(middle_old, middle_new, &mut steps);
    }
    steps.extend(vec![Step::Keep; tail]);
    steps
}

/// By the longest common subsequence.
fn between(old: &[&str], new: &[&str], steps: &mut Vec<Step>) {
    let width = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for a in (0..old.len()).rev() {
        for b in (0..new.len()).rev() {
            common[a * width + b] = if old[a] == new[b] {
                common[(a + 1) * width + b + 1] + 1
            } else {
                common[(a + 1) * width + b].max(common[a * width + b + 1])
            };
        }
    }
    let (mut a, mut b) = (0, 0);
    while a < old.len() || b < new.len() {
        if a < old.len() && b < new.len() && old[a] == new[b] {
            steps.push(Step::Keep);
            (a, b) = (a + 1, b + 1);
        } else if a < old.len() && (b == new.len() || common[(a + 1) * width + b] >= common[a * width + b + 1]) {
            steps.push(Step::Remove);
            a += 1;
        } else {
            steps.push(Step::Add);
            b += 1;
        }
    }
}

/// The stretches to show: changes with the lines around them, put together where they meet.
fn hunks(steps: &[Step]) -> Vec<(usize, usize)> {
    let mut hunks: Vec<(usize, usize)> = Vec::new();
    for (at, _) in steps.iter().enumerate().filter(|(_, step)| **step != Step::Keep) {
        let (from, to) = (at.saturating_sub(CONTEXT), (at + 1 + CONTEXT).min(steps.len()));
        match hunks.last_mut() {
            Some((_, end)) if from <= *end => *end = to,
            _ => hunks.push((from, to)),
        }
    }
    hunks
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(words: &str) -> String {
        words.split(' ').map(|word| format!("{word}\n")).collect()
    }

    #[test]
    fn as_diff_shows_it() {
        let check = |old: &str, new: &str, want: &str| assert_eq!(unified(&lines(old), &lines(new)), want, "{old} | {new}");
        check("a b", "a b", "");
        check("a", "b", "@@ -1 +1 @@\n-a\n+b\n");
        check("a b c", "a c", "@@ -1,3 +1,2 @@\n a\n-b\n c\n");
        check("1 2 3 4 5 x", "1 2 3 4 5 y", "@@ -3,4 +3,4 @@\n 3\n 4\n 5\n-x\n+y\n");
        let near = "@@ -1,8 +1,8 @@\n-x\n+y\n 1\n 2\n 3\n 4\n 5\n 6\n-x\n+y\n";
        check("x 1 2 3 4 5 6 x", "y 1 2 3 4 5 6 y", near);
        let far = "@@ -1,4 +1,4 @@\n-x\n+y\n 1\n 2\n 3\n@@ -6,4 +6,4 @@\n 4\n 5\n 6\n-x\n+y\n";
        check("x 1 2 3 z 4 5 6 x", "y 1 2 3 z 4 5 6 y", far);
        assert_eq!(unified("", "a\n"), "@@ -0,0 +1 @@\n+a\n");
        check("{ a [ b ] }", "{ a [ c b d ] }", "@@ -1,6 +1,8 @@\n {\n a\n [\n+c\n b\n+d\n ]\n }\n");
    }

    #[test]
    fn values_as_json() {
        let old = json!({"containers": [{"name": "a"}], "hostname": "x"});
        let new = json!({"containers": [{"name": "a", "tty": true}], "hostname": "x"});
        let want = "@@ -1,7 +1,8 @@\n {\n  \"containers\": [\n   {\n-   \"name\": \"a\"\n+   \"name\": \"a\",\n+   \"tty\": true\n   }\n  ],\n  \"hostname\": \"x\"\n";
        assert_eq!(of_values(&old, &new), want);
        assert_eq!(of_values(&old, &old), "");
    }

    #[test]
    fn texts_without_end() {
        let many = |word: &str| (0..3000).map(|n| format!("{word}{n}\n")).collect::<String>();
        let diff = unified(&many("a"), &many("b"));
        assert_eq!(diff.lines().count(), 6001);
    }
}
