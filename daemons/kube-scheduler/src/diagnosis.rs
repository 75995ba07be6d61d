//! Why a pod could not be placed, in upstream's words: these sentences are what users search for.

use std::collections::BTreeSet;
use std::fmt;

use crate::framework::Verdicts;

/// The outcome of a failed attempt.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    pub node_count: usize,
    pub verdicts: Verdicts,
    /// A plugin refused before looking at nodes.
    pub pre_filter: String,
    /// What is said of nodes that were not looked at one by one, and how many there are.
    pub absent: Option<(String, usize)>,
    /// What came of trying to preempt.
    pub post_filter: String,
    /// Plugins to ask when something changes.
    pub plugins: BTreeSet<&'static str>,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.node_count == 0 && self.pre_filter.is_empty() {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.node_count)?;
        if self.pre_filter.is_empty() {
            let mut reasons: Vec<String> =
                self.verdicts.histogram().iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            if let Some((reason, count)) = &self.absent
                && *count > 0
            {
                reasons.push(format!("{count} {reason}"));
            }
            reasons.sort();
            if !reasons.is_empty() {
                write!(f, " {}.", reasons.join(", "))?;
            }
        } else {
            write!(f, " {}.", self.pre_filter)?;
        }
        if !self.post_filter.is_empty() {
            write!(f, " {}", self.post_filter)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::{Cure, Rejection};

    #[test]
    fn reasons_are_counted_and_sorted_as_text() {
        let mut verdicts = Verdicts::new((0..12).collect());
        verdicts.reject_all(&(0..10).collect(), "TaintToleration", Cure::None, "node(s) had untolerated taint(s)");
        let both = vec!["Insufficient cpu".into(), "Insufficient memory".into()];
        verdicts.reject_with(10, Rejection { plugin: "NodeResourcesFit", cure: Cure::Preemption, reasons: both });
        verdicts.reject(11, "NodeResourcesFit", Cure::Preemption, "Insufficient cpu");
        let diagnosis = Diagnosis { node_count: 12, verdicts, post_filter: "preemption: no.".into(), ..Default::default() };
        assert_eq!(
            diagnosis.to_string(),
            "0/12 nodes are available: 1 Insufficient memory, 10 node(s) had untolerated taint(s), 2 Insufficient cpu. preemption: no."
        );
    }

    #[test]
    fn without_nodes() {
        assert_eq!(Diagnosis::default().to_string(), "no nodes available to schedule pods");
    }
}
