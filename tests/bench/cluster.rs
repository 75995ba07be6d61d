//! What a cluster costs: `kctl init` to Ready, memory, CPU and disk writes of each daemon idle and with 100 pods, the start of a
//! pod whose image is there, the size of the executable. Prints; asserts nothing.
//!
//!     cargo build --release -p kctl && cargo run -p kctl-tests --bin bench-cluster [-- --programs DIR]
//!
//! DIR holds `kctl`; without it, the directory of this program. A lab host named `bench` is made, and removed at the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kctl_tests::world::{World, eventually};

/// As the kernel names them: at most 15 characters.
const DAEMONS: &[&str] =
    &["kube-apiserver", "kube-controller", "kube-scheduler", "kubelet", "kube-proxy", "cluster-dns", "etcd", "containerd"];
/// etcd and containerd are not ours.
const OURS: usize = 6;
const WINDOW: Duration = Duration::from_secs(60);
const PODS: usize = 100;
const STARTS: usize = 10;

fn main() -> Result<()> {
    let here = std::env::current_exe()?.parent().context("a program lies in a directory")?.to_owned();
    let programs = std::env::args_os().skip_while(|a| a != "--programs").nth(1).map_or_else(|| here.clone(), PathBuf::from);
    let world = World::new(&programs, &here.join("../e2e"), "bench");
    let size = std::fs::metadata(&world.kctl).with_context(|| world.kctl.display().to_string())?.len();
    println!("executable: {:.1} MB", size as f64 / 1e6);
    world.up()?;
    let result = measure(&world);
    world.down()?;
    result
}

fn measure(world: &World) -> Result<()> {
    let start = Instant::now();
    world.kctl(&["init"])?;
    println!("init, packages present: {:.1} s to Ready", start.elapsed().as_secs_f64());
    world.load_images()?;
    report(world, "idle")?;
    starts(world)?;
    fill(world)?;
    report(world, "with 100 pods")
}

/// What one process has used.
#[derive(Clone, Copy, Default)]
struct Usage {
    resident_kib: u64,
    /// Without pages of the executable, which all daemons share.
    own_kib: u64,
    cpu_ms: u64,
    written: u64,
}

/// One line for each daemon: name, VmRSS, RssAnon, CPU ticks (10 ms), bytes that went to a disk.
const SAMPLE: &str = r#"
for name in $0 "$@"; do
  for pid in $(pgrep -x "$name" | head -1); do
    rss=$(awk '/^VmRSS/ {print $2}' /proc/$pid/status); own=$(awk '/^RssAnon/ {print $2}' /proc/$pid/status)
    ticks=$(sed 's/.*) //' /proc/$pid/stat | awk '{print $12 + $13}'); wrote=$(awk '/^write_bytes/ {print $2}' /proc/$pid/io)
    echo "$name $rss $own $ticks $wrote"
  done
done
"#;

fn sample(world: &World) -> Result<BTreeMap<String, Usage>> {
    let text = world.host(&[&["sh", "-ec", SAMPLE], DAEMONS].concat())?;
    let mut usages = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let name = words.next().context("an empty line")?.to_owned();
        let numbers = words.map(str::parse).collect::<Result<Vec<u64>, _>>().with_context(|| line.to_owned())?;
        let [resident_kib, own_kib, ticks, written] = numbers[..] else { anyhow::bail!("{line:?}") };
        usages.insert(name, Usage { resident_kib, own_kib, cpu_ms: ticks * 10, written });
    }
    Ok(usages)
}

fn report(world: &World, when: &str) -> Result<()> {
    // What the step before has caused comes to its end.
    std::thread::sleep(Duration::from_secs(20));
    let before = sample(world)?;
    std::thread::sleep(WINDOW);
    let after = sample(world)?;
    println!("{when}, over {} s:", WINDOW.as_secs());
    println!("  {:<16} {:>9} {:>9} {:>7} {:>12}", "daemon", "RSS MiB", "own MiB", "CPU %", "written KiB");
    let (mut resident, mut own, mut cpu) = (0, 0, 0);
    for (index, name) in DAEMONS.iter().enumerate() {
        let Some(now) = after.get(*name) else {
            println!("  {name:<16} not running");
            continue;
        };
        let then = before.get(*name).copied().unwrap_or_default();
        let spent = now.cpu_ms.saturating_sub(then.cpu_ms);
        print_line(name, now.resident_kib, now.own_kib, spent, now.written.saturating_sub(then.written));
        if index < OURS {
            resident += now.resident_kib;
            own += now.own_kib;
            cpu += spent;
        }
    }
    print_line("ours together", resident, own, cpu, 0);
    Ok(())
}

fn print_line(name: &str, resident_kib: u64, own_kib: u64, cpu_ms: u64, written: u64) {
    let (resident, own) = (resident_kib as f64 / 1024.0, own_kib as f64 / 1024.0);
    let cpu = cpu_ms as f64 / WINDOW.as_millis() as f64 * 100.0;
    println!("  {name:<16} {resident:>9.1} {own:>9.1} {cpu:>7.2} {:>12}", written / 1024);
}

/// From the request to the Running pod, one after another, in the host.
fn starts(world: &World) -> Result<()> {
    let mut times = Vec::new();
    for n in 0..STARTS {
        let name = format!("start-{n}");
        let start = Instant::now();
        world.kctl(&["run", &name, "--image=localhost/busybox:1", "--restart=Never", "--command", "--", "sleep", "100000"])?;
        world.kctl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"])?;
        times.push(start.elapsed());
    }
    times.sort();
    println!(
        "pod start, image present: median {} ms, longest {} ms",
        times[STARTS / 2].as_millis(),
        times[STARTS - 1].as_millis()
    );
    let names: Vec<String> = (0..STARTS).map(|n| format!("start-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.kctl(&[&["delete", "pod", "--grace-period=1"], &names[..]].concat())?;
    Ok(())
}

/// Pods up to [`PODS`], the system's own among them.
fn fill(world: &World) -> Result<()> {
    let there = world.kctl(&["get", "pods", "-A", "--no-headers"])?.lines().count();
    let replicas = PODS.saturating_sub(there);
    let start = Instant::now();
    let command = [
        "create",
        "deployment",
        "fill",
        "--image=localhost/busybox:1",
        &format!("--replicas={replicas}"),
        "--",
        "sleep",
        "100000",
    ];
    world.kctl(&command)?;
    eventually("all pods", Duration::from_secs(600), || {
        world.kctl(&["rollout", "status", "deployment/fill", "--timeout=30s"]).map(drop)
    })?;
    println!("{replicas} pods more: all ready after {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
