//! How fast the judgement is: 10,000 pods onto 5,000 nodes, without any I/O. Prints; asserts nothing about time.
//!
//! `cargo run -p kube-scheduler --example benchmark [NODES] [PODS]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_scheduler::profile::Profile;
use kube_scheduler::queue::{Moment, Queue};
use kube_scheduler::random::Random;
use kube_scheduler::scheduler::{Outcome, Scheduler};
use kube_scheduler::testing::{PodBuilder, node, pod};

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let (nodes, pods) = (args.next().unwrap_or(5_000), args.next().unwrap_or(10_000));
    println!("{nodes} nodes, {pods} pods");
    println!("{:<22} {:>10} {:>12} {:>10} {:>10} {:>10}", "workload", "placed", "pods/s", "p50", "p99", "max");
    let plain = |n: usize| pod(&format!("p{n}")).cpu("100m").memory("128Mi");
    measure("plain", nodes, pods, plain);
    measure("node affinity", nodes, pods, move |n| plain(n).selector("zone", &format!("z{}", n % 3)));
    let app = move |n: usize| plain(n).label("app", &format!("a{}", n % 10));
    measure("zone spreading", nodes, pods, move |n| app(n).spread("zone", 5, &[("app", &format!("a{}", n % 10))]));
    measure("host anti-affinity", nodes, pods.min(nodes), move |n| {
        plain(n).label("app", "one").anti_affinity("kubernetes.io/hostname", &[("app", "one")])
    });
    measure("does not fit", nodes, pods.min(1_000), |n| pod(&format!("p{n}")).cpu("1000"));
}

fn measure(workload: &str, nodes: usize, pods: usize, make: impl Fn(usize) -> PodBuilder) {
    let mut scheduler = Scheduler::new(vec![Profile::standard()], Queue::default(), Random::new(1));
    for n in 0..nodes {
        let node = node(&format!("n{n}")).cpu("32").label("zone", &format!("z{}", n % 3));
        scheduler.set_node(&node.build(), Moment::ZERO);
    }
    for n in 0..pods {
        let info = Arc::new(make(n).info());
        scheduler.set_pod(&info.key.clone(), Some(info), Moment::ZERO);
    }
    let mut times = Vec::with_capacity(pods);
    let mut placed = 0;
    loop {
        let begun = Instant::now();
        let Some(outcome) = scheduler.schedule_next(Moment::ZERO) else { break };
        times.push(begun.elapsed());
        if let Outcome::Bind { pod, .. } = outcome {
            scheduler.bound(&pod.key, &pod.uid);
            placed += 1;
        }
    }
    let total: Duration = times.iter().sum();
    times.sort();
    let at = |part: f64| times.get(((times.len() as f64 * part) as usize).min(times.len() - 1)).copied().unwrap_or_default();
    let rate = times.len() as f64 / total.as_secs_f64();
    println!("{workload:<22} {placed:>10} {rate:>12.0} {:>10.1?} {:>10.1?} {:>10.1?}", at(0.5), at(0.99), at(1.0));
}
