//! The node object: what the machine is ([`machine`]), how it is ([`status`]), and telling the API of it ([`report`]).

pub mod machine;
pub mod report;
pub mod status;
