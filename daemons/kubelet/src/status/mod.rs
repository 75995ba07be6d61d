//! Statuses of pods: made from what the runtime has ([`containers`], [`pod`]).

pub mod containers;
pub mod pod;
