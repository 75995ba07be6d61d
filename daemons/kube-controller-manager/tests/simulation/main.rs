//! Controllers and scheduler against a real API server, in one thread with paused time: hours pass in milliseconds, what
//! goes wrong is drawn from a seed, and a failure names the seed that replays it.
//!
//! Perturbations follow Sieve (OSDI '22): controllers that are killed between any two of their writes, that see the past,
//! that miss what happened while a watch was cut. What must hold is checked while it runs, not only at its end.

mod faults;
mod kubelet;
mod migration;
mod migration_on_etcd;
mod objects;
mod quota;
mod scenarios;
mod world;
