//! Integration and end-to-end tests.

pub mod images;
