//! Pods: what they say ([`spec`], [`qos`]), what their containers get ([`env`], [`dns`], [`hosts`]), where they come from, and
//! the task that each of them has.

pub mod dns;
pub mod env;
pub mod field_ref;
pub mod hosts;
pub mod qos;
pub mod refs;
pub mod spec;
