//! What all HorizontalPodAutoscalers have in common: the `--horizontal-pod-autoscaler-…` flags.

use std::time::Duration;

use daemon::duration;

use crate::args::period;

/// Values as upstream's flags have them; [`Default`] gives upstream's defaults.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Autoscaling {
    /// How often each HorizontalPodAutoscaler is looked at.
    #[arg(id = "horizontal-pod-autoscaler-sync-period", long, default_value = "15s", value_parser = period,
          value_name = "DURATION")]
    pub sync_period: Duration,
    /// Nothing is made smaller than what was recommended within this time.
    #[arg(id = "horizontal-pod-autoscaler-downscale-stabilization", long, default_value = "5m0s",
          value_parser = duration::parse, value_name = "DURATION")]
    pub downscale_stabilization: Duration,
    /// A ratio of what is measured to what is wanted that is no farther from 1 changes nothing.
    #[arg(id = "horizontal-pod-autoscaler-tolerance", long, default_value_t = 0.1, value_parser = tolerance,
          value_name = "RATIO")]
    pub tolerance: f64,
    /// For how long after a pod's start its CPU may be left out.
    #[arg(id = "horizontal-pod-autoscaler-cpu-initialization-period", long, default_value = "5m0s",
          value_parser = duration::parse, value_name = "DURATION")]
    pub cpu_initialization_period: Duration,
    /// For how long after a pod's start a change of its readiness is taken to be its first.
    #[arg(id = "horizontal-pod-autoscaler-initial-readiness-delay", long, default_value = "30s",
          value_parser = duration::parse, value_name = "DURATION")]
    pub initial_readiness_delay: Duration,
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            sync_period: Duration::from_secs(15),
            downscale_stabilization: Duration::from_secs(300),
            tolerance: 0.1,
            cpu_initialization_period: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
        }
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio: &f64| ratio.is_finite() && *ratio >= 0.0);
    ratio.ok_or_else(|| format!("{text:?} is not a ratio of 0 or more"))
}
