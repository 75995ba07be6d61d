//! The Linux host: systemd over D-Bus, mounts, cgroups, processes, beneath-a-directory file access.
//!
//! Nothing here knows Kubernetes. Kernel interfaces are read as text and parsed by pure functions beside their tests.

pub mod beneath;
pub mod cgroup;
pub mod journal;
pub mod mounts;
pub mod process;
pub mod systemd;
