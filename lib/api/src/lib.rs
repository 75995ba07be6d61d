//! Typed Kubernetes objects behind non-generic decode and encode functions.
