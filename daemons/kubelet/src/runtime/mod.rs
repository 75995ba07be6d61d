//! The runtime: what it has ([`view`]), what is to be done ([`actions`]), what it is asked for ([`sandbox`], [`container`]), and
//! the calls ([`client`]).

pub mod actions;
pub mod backoff;
pub mod client;
pub mod container;
pub mod sandbox;
pub mod view;
