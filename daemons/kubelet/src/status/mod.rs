//! Statuses of pods: made from what the runtime has ([`containers`], [`pod`]), written to the API ([`manager`]).

pub mod containers;
pub mod manager;
pub mod pod;
