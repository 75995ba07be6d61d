//! kctl: Kubernetes in one executable.
fn main() {}
