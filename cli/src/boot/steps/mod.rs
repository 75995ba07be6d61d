//! The plan of `kctl init`: which steps there are, and what each needs.

mod addons;
mod control_plane;
mod etcd;
mod executable;
mod kernel;
mod kubeconfigs;
mod kubelet;
mod kubeproxy;
mod network;
mod own_image;
mod packages;
mod pki_files;
mod ready;
mod renewal;
mod runtime;
mod wait;

use anyhow::Result;

use super::context::Context;
use super::diagnose::Component;
use super::files::{self, File};
use super::paths;
use super::plan::{Kind, Step};

pub(super) use kubeconfigs::write as write_kubeconfigs;
pub(super) use ready::{node_problem, system_pods};

/// The documented order: etcd, the runtime, the kubelet, static pods, kube-proxy, then objects through the API. What does
/// not depend on each other runs at the same time.
pub(super) fn all() -> Vec<Step<Context>> {
    macro_rules! step {
        ($($module:ident)::+, $name:literal, needs: [$($need:literal),*], $component:expr, $what:literal) => {
            Step {
                name: $name,
                needs: &[$($need),*],
                what: $what,
                component: $component,
                kind: Kind::Changes,
                check: |context| Box::pin($($module)::+::check(context)),
                apply: |context| Box::pin($($module)::+::apply(context)),
            }
        };
    }
    let unit = |name| Some(Component::Unit(name));
    let waits = |step| Step { kind: Kind::Waits, ..step };
    vec![
        step!(packages, "packages", needs: [], None, "install what is missing from the distribution"),
        step!(executable, "executable", needs: [], None, "put kctl where units find it"),
        step!(kernel, "kernel", needs: [], None, "load modules and set sysctls"),
        step!(pki_files, "certificates", needs: [], None, "make keys and certificates"),
        step!(kubeconfigs, "kubeconfigs", needs: ["certificates"], None, "write kubeconfigs"),
        step!(etcd, "etcd", needs: ["packages", "certificates"], unit("etcd.service"), "run etcd.service"),
        step!(runtime, "runtime", needs: ["packages", "kernel"], unit("containerd.service"), "configure and run the container runtime"),
        step!(own_image, "image", needs: ["runtime"], unit("containerd.service"), "put the image of kctl into the runtime"),
        step!(control_plane, "control-plane", needs: ["kubeconfigs", "etcd", "image"], None, "write the manifests of the static pods"),
        step!(kubelet, "kubelet", needs: ["control-plane", "executable", "kernel"], unit("kubelet.service"), "run kubelet.service"),
        waits(
            step!(ready::server, "api-server", needs: ["kubelet"], Some(Component::ControlPlane), "wait until the API server answers"),
        ),
        step!(kubeproxy, "kube-proxy", needs: ["api-server"], unit("kube-proxy.service"), "run kube-proxy.service"),
        step!(network, "network", needs: ["api-server"], Some(Component::ControlPlane), "give pods a network"),
        step!(addons, "add-ons", needs: ["api-server"], Some(Component::ControlPlane), "create roles, cluster DNS and their like"),
        step!(renewal, "renewal", needs: ["executable", "certificates"], unit("kctl-certs.timer"), "renew certificates every day when due"),
        waits(step!(ready::node, "ready", needs: ["kube-proxy", "network", "add-ons", "renewal"], Some(Component::ControlPlane),
              "wait until the node and the system pods are ready")),
    ]
}

/// A later run without `--config`, the renewal of certificates and `kctl status` read it.
pub(super) fn keep_configuration(context: &Context) -> Result<()> {
    let file = File::secret(paths::CLUSTER_FILE, context.cluster.to_yaml()?);
    match file.difference() {
        Some(_) => files::write(context, &file),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::plan;

    #[test]
    fn every_need_is_there_and_comes_first() {
        let steps = all();
        let order: Vec<&str> = plan::order(&steps).into_iter().map(|i| steps[i].name).collect();
        let place = |name: &str| order.iter().position(|n| *n == name).unwrap();
        for step in &steps {
            for need in step.needs {
                assert!(place(need) < place(step.name), "{need} before {}", step.name);
            }
        }
        assert_eq!(order.last(), Some(&"ready"));
    }
}
