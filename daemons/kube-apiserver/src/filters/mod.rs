//! The layers around a request that are neither authentication nor authorization.

pub mod audit;
pub mod browser;
pub mod compress;
pub mod deadline;
pub mod fairness;
pub mod impersonation;
pub mod on_end;
pub mod rotating;
pub mod spans;
