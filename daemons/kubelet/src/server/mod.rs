//! The kubelet's own API on port 10250: logs, exec, attach, port-forward, pods, metrics.
//!
//! (Being written by Z, the lead; F: please leave this directory to me and implement [`Backend`] over your runtime.)
