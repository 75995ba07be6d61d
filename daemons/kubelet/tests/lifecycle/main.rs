//! Static pods from their file to their end, without an API server, against a runtime that records what it is asked for.

mod runtime;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser as _;
use daemon::Shutdown;
use runtime::FakeRuntime;

/// A kubelet with its directories, and the runtime that it talks to.
struct Host {
    directory: PathBuf,
    runtime: FakeRuntime,
    shutdown: Shutdown,
}

impl Host {
    async fn start(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("kubelet-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("manifests")).unwrap();
        let at = |part: &str| directory.join(part).display().to_string();
        let config = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: {}\npodLogsDir: {}\n\
             containerRuntimeEndpoint: unix://{}\ncgroupsPerQOS: false\nfailSwapOn: false\nhealthzPort: 0\nport: 0\naddress: 127.0.0.1\n",
            at("manifests"),
            at("logs"),
            at("cri.sock"),
        );
        std::fs::write(directory.join("config.yaml"), config).unwrap();
        let runtime = FakeRuntime::default();
        runtime.add_image("image:1");
        runtime.serve(&directory.join("cri.sock"));
        let args = kubelet::Args::parse_from([
            "kubelet",
            "--config",
            &at("config.yaml"),
            "--root-dir",
            &at("root"),
            "--cert-dir",
            &at("pki"),
            "--hostname-override=n1",
        ]);
        daemon::install_crypto();
        let shutdown = Shutdown::new();
        // On one thread of its own, as the daemon runs.
        let token = shutdown.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(kubelet::run(args, token)).unwrap();
        });
        Self { directory, runtime, shutdown }
    }

    fn write(&self, name: &str, spec: &str) {
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {spec}\n");
        // As an editor does it: beside, then renamed.
        let file = self.directory.join(format!("{name}.tmp"));
        std::fs::write(&file, text).unwrap();
        std::fs::rename(file, self.directory.join("manifests").join(format!("{name}.yaml"))).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.directory.join("manifests").join(format!("{name}.yaml"))).unwrap();
    }

    /// Waits until the runtime was asked for exactly this, in this order.
    #[track_caller]
    fn expect(&self, want: &[&str]) -> impl Future<Output = ()> {
        let runtime = self.runtime.clone();
        let want: Vec<String> = want.iter().map(|w| (*w).to_owned()).collect();
        async move {
            for _ in 0..200 {
                if runtime.calls() == want {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(runtime.calls(), want);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shutdown.trigger();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_its_file_to_its_end() {
    let host = Host::start("end").await;
    host.write("p", "{terminationGracePeriodSeconds: 7, initContainers: [{name: i, image: 'image:1'}], containers: [{name: a, image: 'image:1'}]}");
    let mut want = vec!["sandbox#0", "create i#0", "start i"];
    host.expect(&want).await;
    host.runtime.end("i", 0);
    want.extend(["create a#0", "start a"]);
    host.expect(&want).await;
    host.remove("p");
    want.extend(["stop a 7s", "stop-sandbox", "remove a", "remove i", "remove-sandbox"]);
    host.expect(&want).await;
    assert_eq!(std::fs::read_dir(host.directory.join("root/pods")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_ends_runs_again_once_at_once_then_waits() {
    let host = Host::start("crash").await;
    host.write("p", "{containers: [{name: a, image: 'image:1'}]}");
    let mut want = vec!["sandbox#0", "create a#0", "start a"];
    host.expect(&want).await;
    host.runtime.end("a", 1);
    want.extend(["create a#1", "start a"]);
    host.expect(&want).await;
    host.runtime.end("a", 1);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let calls: Vec<String> = host.runtime.calls().into_iter().filter(|c| !c.starts_with("remove")).collect();
    assert_eq!(calls, want);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_is_another_pod_after_the_first() {
    let host = Host::start("change").await;
    host.write("p", "{terminationGracePeriodSeconds: 3, containers: [{name: a, image: 'image:1'}]}");
    let mut want = vec!["sandbox#0", "create a#0", "start a"];
    host.expect(&want).await;
    host.write("p", "{containers: [{name: b, image: 'other:1'}]}");
    want.extend([
        "stop a 3s",
        "stop-sandbox",
        "remove a",
        "remove-sandbox",
        "sandbox#0",
        "pull other:1",
        "create b#0",
        "start b",
    ]);
    host.expect(&want).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_sandbox_takes_everything_with_it() {
    let host = Host::start("lost").await;
    host.write("p", "{containers: [{name: a, image: 'image:1'}]}");
    let mut want = vec!["sandbox#0", "create a#0", "start a"];
    host.expect(&want).await;
    host.runtime.end("a", 255);
    host.runtime.lose_sandboxes();
    want.extend(["sandbox#1", "create a#1", "start a"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calls: Vec<String> = host.runtime.calls().into_iter().filter(|c| !c.starts_with("remove")).collect();
    assert_eq!(calls, want);
}
