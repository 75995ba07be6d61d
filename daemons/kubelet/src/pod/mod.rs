//! Pods: what they say ([`spec`], [`qos`]), what their containers get ([`env`], [`dns`], [`hosts`]), where they come from
//! ([`file_source`], and the API), and the task that each of them has ([`worker`], [`start`]).

pub mod dns;
pub mod env;
pub mod field_ref;
pub mod file_source;
pub mod hosts;
pub mod mirror;
pub mod qos;
pub mod refs;
pub mod spec;
mod start;
pub mod worker;
