//! [`Profile`]: the plugins and weights that a scheduler name stands for.

use crate::event::ClusterEvent;
use crate::framework::Plugin;
use crate::plugins;
use crate::pod::PodInfo;

#[derive(Debug)]
pub struct Profile {
    /// `spec.schedulerName` of the pods it places.
    pub name: String,
    plugins: Vec<(Box<dyn Plugin>, i64)>,
    pub preempts: bool,
}

impl Profile {
    pub fn new(name: &str, plugins: Vec<(Box<dyn Plugin>, i64)>, preempts: bool) -> Self {
        Self { name: name.to_owned(), plugins, preempts }
    }

    /// `default-scheduler` with everything on.
    pub fn standard() -> Self {
        Self::new("default-scheduler", plugins::defaults(), true)
    }

    pub fn plugins(&self) -> impl Iterator<Item = &dyn Plugin> {
        self.plugins.iter().map(|(plugin, _)| plugin.as_ref())
    }

    pub fn scorers(&self) -> impl Iterator<Item = (&dyn Plugin, i64)> {
        self.plugins.iter().filter(|(_, weight)| *weight > 0).map(|(plugin, weight)| (plugin.as_ref(), *weight))
    }

    /// Why the pod must not be queued, and who says so.
    pub fn gate(&self, pod: &PodInfo) -> Option<(&'static str, String)> {
        self.plugins().find_map(|plugin| Some((plugin.name(), plugin.pre_enqueue(pod)?)))
    }

    /// One of the plugins that rejected the pod may now think otherwise.
    pub fn wakes(&self, rejected_by: impl Fn(&str) -> bool, event: &ClusterEvent, pod: &PodInfo) -> bool {
        self.plugins().filter(|plugin| rejected_by(plugin.name())).any(|plugin| plugin.wakes(event, pod))
    }
}
