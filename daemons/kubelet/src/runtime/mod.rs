//! The runtime: what it has ([`view`]), what is to be done ([`actions`]), what it is asked for ([`sandbox`], [`container`],
//! [`images`]), and the calls ([`client`]).

pub mod actions;
pub mod backoff;
pub mod client;
pub mod container;
pub mod hooks;
pub mod images;
pub mod sandbox;
pub mod view;
