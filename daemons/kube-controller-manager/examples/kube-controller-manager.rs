//! The controllers alone, for development: `cargo run -p kube-controller-manager --example kube-controller-manager -- --kubeconfig …`

fn main() -> std::process::ExitCode {
    kube_controller_manager::main(std::env::args_os())
}
