//! The node object: what the machine is ([`machine`], [`tunables`]), how it is ([`status`], [`pressure`]), and telling the API of it
//! ([`report`]).

pub mod machine;
pub mod pressure;
pub mod report;
pub mod status;
pub mod tunables;
