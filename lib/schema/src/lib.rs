//! The schema table of all built-in Kubernetes types and resources, protobuf transcoding, OpenAPI.
