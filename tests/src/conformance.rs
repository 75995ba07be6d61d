//! What upstream's conformance suite says of us: which tests to run, what its report means, and whether that is progress.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

/// The names in a list of tests: one on a line, `#` begins a comment line.
pub fn names(text: &str) -> BTreeSet<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Tests dealt to processes that run at the same time, and those that must run alone.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shards {
    pub parallel: Vec<Vec<String>>,
    pub serial: Vec<String>,
}

impl Shards {
    pub fn deal(names: &BTreeSet<String>, processes: usize) -> Self {
        let (serial, parallel): (Vec<String>, Vec<String>) = names.iter().cloned().partition(|name| name.contains("[Serial]"));
        let mut shards = vec![Vec::new(); processes.max(1)];
        for (i, name) in parallel.into_iter().enumerate() {
            shards[i % processes.max(1)].push(name);
        }
        shards.retain(|shard| !shard.is_empty());
        Self { parallel: shards, serial }
    }
}

/// The regular expression that ginkgo's `--ginkgo.focus` takes for just these tests.
pub fn focus(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| quote(name)).collect();
    format!("({})$", quoted.join("|"))
}

fn quote(text: &str) -> String {
    text.chars().fold(String::new(), |mut quoted, c| {
        if r"\.+*?()|[]{}^$".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
        quoted
    })
}

/// What became of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// With the suite's message.
    Failed(String),
}

/// The outcomes of those tests in ginkgo's JSON report that were run: a test that was not chosen is "skipped" there
/// without a failure, one that skipped itself has its reason as failure message.
pub fn outcomes(report: &str) -> Result<BTreeMap<String, Outcome>> {
    let report: Value = serde_json::from_str(report).context("ginkgo's report")?;
    let suites = report.as_array().into_iter().flatten();
    let specs = suites.flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten());
    Ok(specs.filter(|spec| spec["LeafNodeType"] == "It").filter_map(outcome).collect())
}

fn outcome(spec: &Value) -> Option<(String, Outcome)> {
    let containers = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
    let words: Vec<&str> = containers.chain([&spec["LeafNodeText"]]).filter_map(Value::as_str).collect();
    let message = spec["Failure"]["Message"].as_str().unwrap_or_default();
    let outcome = match spec["State"].as_str()? {
        "passed" => Outcome::Passed,
        "skipped" | "pending" if message.is_empty() => return None,
        state => Outcome::Failed(format!("{state}: {message}")),
    };
    Some((words.join(" "), outcome))
}

/// A run, compared with the list of tests that pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// In the list, and failed or did not run although chosen.
    pub regressions: BTreeMap<String, String>,
    /// Not in the list, and passed.
    pub progress: BTreeSet<String>,
    /// Not in the list, and failed.
    pub failures: BTreeMap<String, String>,
    pub passed: usize,
}

impl Verdict {
    pub fn of(listed: &BTreeSet<String>, chosen: &BTreeSet<String>, outcomes: &BTreeMap<String, Outcome>) -> Self {
        let mut verdict = Self::default();
        for name in chosen {
            let why = match outcomes.get(name) {
                Some(Outcome::Passed) => {
                    verdict.passed += 1;
                    if !listed.contains(name) {
                        verdict.progress.insert(name.clone());
                    }
                    continue;
                }
                Some(Outcome::Failed(message)) => message.clone(),
                None => "did not run".to_owned(),
            };
            let place = if listed.contains(name) { &mut verdict.regressions } else { &mut verdict.failures };
            place.insert(name.clone(), why);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn lists_and_shards() {
        assert_eq!(names("# passes\nb [Serial]\n\n a \n"), set(&["a", "b [Serial]"]));
        let shards = Shards::deal(&set(&["a", "b", "c", "d [Serial]"]), 2);
        assert_eq!(shards.parallel, [vec!["a", "c"], vec!["b"]]);
        assert_eq!(shards.serial, ["d [Serial]"]);
        assert_eq!(Shards::deal(&set(&["a"]), 0).parallel, [["a"]]);
    }

    #[test]
    fn a_focus_names_nothing_else() {
        assert_eq!(focus(&["[sig] a (b) [C]".to_owned(), "x.y".to_owned()]), r"(\[sig\] a \(b\) \[C\]|x\.y)$");
    }

    #[test]
    fn reports() {
        let report = r#"[{"SpecReports": [
            {"ContainerHierarchyTexts": null, "LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "", "State": "passed"},
            {"ContainerHierarchyTexts": ["[sig] A", "when"], "LeafNodeType": "It", "LeafNodeText": "works [C]", "State": "passed"},
            {"ContainerHierarchyTexts": ["[sig] A"], "LeafNodeType": "It", "LeafNodeText": "fails", "State": "failed",
             "Failure": {"Message": "expected 1"}},
            {"ContainerHierarchyTexts": ["[sig] A"], "LeafNodeType": "It", "LeafNodeText": "gives up", "State": "skipped",
             "Failure": {"Message": "needs 2 nodes"}},
            {"ContainerHierarchyTexts": ["[sig] A"], "LeafNodeType": "It", "LeafNodeText": "other", "State": "skipped"}
        ]}]"#;
        let want = [
            ("[sig] A fails", Outcome::Failed("failed: expected 1".into())),
            ("[sig] A gives up", Outcome::Failed("skipped: needs 2 nodes".into())),
            ("[sig] A when works [C]", Outcome::Passed),
        ];
        assert_eq!(outcomes(report).unwrap(), want.map(|(name, outcome)| (name.to_owned(), outcome)).into());
        assert!(outcomes("no report").is_err());
    }

    #[test]
    fn verdicts() {
        let outcomes = [("kept", Outcome::Passed), ("new", Outcome::Passed), ("bad", Outcome::Failed("x".into()))];
        let outcomes = outcomes.map(|(name, outcome)| (name.to_owned(), outcome)).into();
        let verdict = Verdict::of(&set(&["kept", "gone", "not chosen"]), &set(&["kept", "new", "bad", "gone"]), &outcomes);
        assert_eq!(verdict.passed, 2);
        assert_eq!(verdict.progress, set(&["new"]));
        assert_eq!(verdict.regressions, [("gone".to_owned(), "did not run".to_owned())].into());
        assert_eq!(verdict.failures, [("bad".to_owned(), "x".to_owned())].into());
    }
}
