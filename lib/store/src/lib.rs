//! The Storage trait with its etcd and memory back-ends, and the watch cache above it.
