//! Typed Kubernetes objects (`k8s-openapi`, v1.36) behind non-generic decode and encode functions.
//!
//! serde's implementations are generic: every crate that calls `serde_json::from_slice::<Pod>` compiles them anew.
//! Here each is compiled once; other crates call [`Kind::decode`] and [`Kind::encode`].
//!
//! **Invariant:** caches never hold these types (a 1.8 KB Pod costs 31 KiB typed); they hold bytes and decode on demand.

mod kind;
mod list;
mod meta;

pub use k8s_openapi::jiff;
pub use k8s_openapi::{ByteString, Metadata, Resource};
pub use kind::{DecodeError, Kind, ResourceId};
pub use list::{RawList, decode_list};
pub use meta::{Meta, OwnerRef};

pub use k8s_openapi::api::{
    admissionregistration::v1 as admissionregistration, apps::v1 as apps, authentication::v1 as authentication,
    authorization::v1 as authorization, autoscaling::v1 as autoscaling_v1, autoscaling::v2 as autoscaling, batch::v1 as batch,
    certificates::v1 as certificates, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
    events::v1 as events, flowcontrol::v1 as flowcontrol, networking::v1 as networking, node::v1 as node, policy::v1 as policy,
    rbac::v1 as rbac, scheduling::v1 as scheduling, storage::v1 as storage,
};
pub use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
pub use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
