//! ImageLocality: a node that already holds the pod's images starts it sooner.

use crate::event::ClusterEvent;
use crate::framework::{Cycle, Plugin, SCORE_MAX, Scores};
use crate::nodes::Row;
use crate::pod::PodInfo;

const MIB: i64 = 1024 * 1024;
/// Less than this is pulled before anyone notices.
const LEAST: i64 = 23 * MIB;
/// More than this per container does not count.
const MOST_PER_CONTAINER: i64 = 1000 * MIB;

#[derive(Debug)]
pub(crate) struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score(&self, cycle: &Cycle<'_>, feasible: &[Row]) -> Option<Scores> {
        let nodes = cycle.nodes.len().max(1) as f64;
        // An image few nodes have counts less, or those nodes would get everything.
        let images: Vec<_> = cycle
            .pod
            .wants
            .images
            .iter()
            .filter_map(|name| cycle.nodes.image(name))
            .map(|image| (&image.rows, (image.size as f64 * (image.rows.len() as f64 / nodes)) as i64))
            .collect();
        let most = MOST_PER_CONTAINER * cycle.pod.wants.container_count as i64;
        if images.is_empty() || most <= LEAST {
            return None;
        }
        let score = |row: &Row| {
            let held: i64 = images.iter().filter(|(rows, _)| rows.contains(*row)).map(|(_, size)| size).sum();
            SCORE_MAX * (held.clamp(LEAST, most) - LEAST) / (most - LEAST)
        };
        Some(feasible.iter().map(score).collect())
    }

    fn wakes(&self, _event: &ClusterEvent, _pod: &PodInfo) -> bool {
        false
    }
}
