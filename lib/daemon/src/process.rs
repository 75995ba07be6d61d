//! What a node's daemons ask of the kernel for their own process.

/// `--oom-score-adj`: how soon the kernel ends this process when memory runs out, from -1000 (never) to 1000. A host that does not
/// let us keeps its own.
pub fn set_oom_score_adj(score: i32) {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        tracing::warn!(score, %error, "this process's OOM score stays as it is");
    }
}
