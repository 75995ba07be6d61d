//! The kubelet alone, for trying it beside other programs: `cargo run -p kubelet --example kubelet -- --help`.

fn main() -> std::process::ExitCode {
    kubelet::main(std::env::args_os())
}
