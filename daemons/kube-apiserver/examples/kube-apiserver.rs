//! The server alone, for development: `cargo run -p kube-apiserver --example kube-apiserver -- --storage-backend=memory`.

fn main() -> std::process::ExitCode {
    kube_apiserver::main(std::env::args_os())
}
