//! The layers around a request that are neither authentication nor authorization.

pub mod audit;
pub mod compress;
pub mod fairness;
pub mod impersonation;
pub mod rotating;
