//! `kctl top`: what nodes and pods use, as metrics.k8s.io says.

use clap::{Args, Subcommand};
use machinery::{meta, quantity::Quantity};
use serde_json::Value;

use crate::{
    kube::{Error, Request, Result, Session, select},
    output::tabs,
};

const MIB: i64 = 1 << 20;
const GROUP: &str = "/apis/metrics.k8s.io/v1beta1";

/// Shows what nodes and pods use (needs a metrics server)
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Shows what nodes use
    #[command(aliases = ["nodes", "no"])]
    Node(NodeArgs),
    /// Shows what pods use
    #[command(aliases = ["pods", "po"])]
    Pod(PodArgs),
}

#[derive(Args, Clone, Debug)]
struct Common {
    name: Option<String>,
    /// Objects whose labels match
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// Order by cpu or memory
    #[arg(long)]
    sort_by: Option<String>,
    /// No line with the names of columns
    #[arg(long)]
    no_headers: bool,
    /// Swap memory too
    #[arg(long)]
    show_swap: bool,
    /// How the metrics travel: nothing changes
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true", hide = true)]
    use_protocol_buffers: bool,
}

#[derive(Args, Clone, Debug)]
struct NodeArgs {
    #[command(flatten)]
    common: Common,
    /// Percentages of the capacity, not of what pods can have
    #[arg(long)]
    show_capacity: bool,
}

#[derive(Args, Clone, Debug)]
struct PodArgs {
    #[command(flatten)]
    common: Common,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// A line for each container
    #[arg(long)]
    containers: bool,
    /// Pods whose fields match
    #[arg(long, default_value = "", hide_default_value = true)]
    field_selector: String,
    /// A last line with the sums
    #[arg(long)]
    sum: bool,
}

/// CPU in thousandths, memory and swap in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    cpu: i64,
    memory: i64,
    swap: i64,
}

impl Usage {
    fn of(usage: &Value) -> Self {
        let amount = |name: &str| Quantity::from_value(&usage[name]).ok();
        Self {
            cpu: amount("cpu").map_or(0, |amount| amount.milli_value()),
            memory: amount("memory").map_or(0, |amount| amount.value()),
            swap: amount("swap").map_or(0, |amount| amount.value()),
        }
    }

    fn add(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.memory += other.memory;
        self.swap += other.swap;
    }

    fn cells(self, swap: bool) -> String {
        let swap = if swap { format!("\t{}Mi", self.swap / MIB) } else { String::new() };
        format!("{}m\t{}Mi{swap}", self.cpu, self.memory / MIB)
    }
}

pub async fn run(args: TopArgs, session: &Session) -> Result<()> {
    let common = match &args.what {
        What::Node(args) => &args.common,
        What::Pod(args) => &args.common,
    };
    if common.sort_by.as_deref().is_some_and(|by| by != "cpu" && by != "memory") {
        return Err(Error::message("--sort-by accepts only cpu or memory"));
    }
    if common.name.is_some() && !common.selector.is_empty() {
        return Err(Error::message("only one of NAME or --selector can be provided"));
    }
    let served = |resource: &crate::kube::Resource| resource.group == "metrics.k8s.io" && resource.version == "v1beta1";
    if !session.discovery().await?.resources.iter().any(served) {
        return Err(Error::message("Metrics API not available"));
    }
    match args.what {
        What::Node(args) => nodes(&args, session).await,
        What::Pod(args) => pods(&args, session).await,
    }
}

/// The metrics of one object, or of all that the selector takes.
async fn metrics(session: &Session, path: String, common: &Common) -> Result<Vec<Value>> {
    match &common.name {
        Some(name) => Ok(vec![session.json(Request::get(format!("{path}/{name}"))).await?]),
        None => {
            let request = Request::get(path).query_some("labelSelector", Some(&common.selector));
            Ok(select::list(session, request).await?.0)
        }
    }
}

async fn nodes(args: &NodeArgs, session: &Session) -> Result<()> {
    let found = metrics(session, format!("{GROUP}/nodes"), &args.common).await?;
    if found.is_empty() {
        return Err(Error::message("metrics not available yet"));
    }
    let nodes = metrics(session, "/api/v1/nodes".into(), &args.common).await?;
    print!("{}", tabs::align(&node_rows(&found, &nodes, args), tabs::TABLE));
    Ok(())
}

fn node_rows(metrics: &[Value], nodes: &[Value], args: &NodeArgs) -> String {
    let mut rows: Vec<(String, Usage)> =
        metrics.iter().map(|item| (meta::name(item).to_owned(), Usage::of(&item["usage"]))).collect();
    sort(&mut rows, args.common.sort_by.as_deref());
    let mut text = String::new();
    if !args.common.no_headers {
        let swap = if args.common.show_swap { "\tSWAP(bytes)\tSWAP(%)" } else { "" };
        text += &format!("NAME\tCPU(cores)\tCPU(%)\tMEMORY(bytes)\tMEMORY(%){swap}\n");
    }
    let field = if args.show_capacity { "capacity" } else { "allocatable" };
    let share = |part: i64, whole: i64| if whole == 0 { "<unknown>".into() } else { format!("{}%", part * 100 / whole) };
    for (name, usage) in &rows {
        let node = nodes.iter().find(|node| meta::name(node) == name);
        let whole = node.map(|node| Usage::of(&node["status"][field])).unwrap_or_default();
        let (cpu, memory) = (share(usage.cpu, whole.cpu), share(usage.memory, whole.memory));
        let capacity = node.and_then(|node| node.pointer("/status/nodeInfo/swap/capacity")?.as_i64());
        let swap = match capacity {
            _ if !args.common.show_swap => String::new(),
            None => "\t<unknown>\t<unknown>".into(),
            Some(capacity) => format!("\t{}Mi\t{}%", usage.swap / MIB, (usage.swap * 100).checked_div(capacity).unwrap_or(0)),
        };
        text += &format!("{name}\t{}m\t{cpu}\t{}Mi\t{memory}{swap}\n", usage.cpu, usage.memory / MIB);
    }
    for node in nodes.iter().filter(|node| !rows.iter().any(|(name, _)| name == meta::name(node))) {
        let unknown = "\t<unknown>".repeat(if args.common.show_swap { 6 } else { 4 });
        text += &format!("{}{unknown}\n", meta::name(node));
    }
    text
}

/// What uses most comes first; without a wish, by name.
fn sort(rows: &mut [(String, Usage)], by: Option<&str>) {
    match by {
        Some("cpu") => rows.sort_by_key(|(_, usage)| std::cmp::Reverse(usage.cpu)),
        Some(_) => rows.sort_by_key(|(_, usage)| std::cmp::Reverse(usage.memory)),
        None => rows.sort_by(|a, b| a.0.cmp(&b.0)),
    }
}

async fn pods(args: &PodArgs, session: &Session) -> Result<()> {
    let path = if args.all_namespaces && args.common.name.is_none() {
        format!("{GROUP}/pods")
    } else {
        format!("{GROUP}/namespaces/{}/pods", session.namespace)
    };
    let mut found = metrics(session, path, &args.common).await?;
    if !args.field_selector.is_empty() {
        // The metrics know no fields of pods.
        let scope = if args.all_namespaces { String::new() } else { format!("/namespaces/{}", session.namespace) };
        let request = Request::get(format!("/api/v1{scope}/pods")).query("fieldSelector", &args.field_selector);
        let (selected, _) = select::list(session, request).await?;
        found.retain(|item| selected.iter().any(|pod| meta::key(pod) == meta::key(item)));
    }
    if found.is_empty() {
        if args.all_namespaces {
            eprintln!("No resources found");
        } else {
            eprintln!("No resources found in {} namespace.", session.namespace);
        }
        return Ok(());
    }
    print!("{}", tabs::align(&pod_rows(&found, args), tabs::TABLE));
    Ok(())
}

fn pod_rows(metrics: &[Value], args: &PodArgs) -> String {
    let columns = usize::from(args.all_namespaces) + usize::from(args.containers);
    let mut text = String::new();
    if !args.common.no_headers {
        text += if args.all_namespaces { "NAMESPACE\t" } else { "" };
        text += if args.containers { "POD\t" } else { "" };
        text += "NAME\tCPU(cores)\tMEMORY(bytes)";
        text += if args.common.show_swap { "\tSWAP(bytes)\n" } else { "\n" };
    }
    let mut rows: Vec<(String, Usage)> = Vec::new();
    let mut total = Usage::default();
    for item in metrics {
        let namespace = if args.all_namespaces { format!("{}\t", meta::namespace(item)) } else { String::new() };
        let mut pod = Usage::default();
        for container in item["containers"].as_array().into_iter().flatten() {
            let usage = Usage::of(&container["usage"]);
            pod.add(usage);
            if args.containers {
                rows.push((format!("{namespace}{}\t{}", meta::name(item), meta::text(container, &["name"])), usage));
            }
        }
        if !args.containers {
            rows.push((format!("{namespace}{}", meta::name(item)), pod));
        }
        total.add(pod);
    }
    sort(&mut rows, args.common.sort_by.as_deref());
    for (name, usage) in rows {
        text += &format!("{name}\t{}\n", usage.cells(args.common.show_swap));
    }
    if args.sum {
        text += &format!("{}\t________\t________\n", "\t".repeat(columns));
        text += &format!("{}\t{}\n", "\t".repeat(columns), total.cells(args.common.show_swap));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn common(sort_by: Option<&str>) -> Common {
        Common {
            name: None,
            selector: String::new(),
            sort_by: sort_by.map(str::to_owned),
            no_headers: false,
            show_swap: false,
            use_protocol_buffers: true,
        }
    }

    #[test]
    fn nodes_with_their_share() {
        let metrics = [json!({"metadata": {"name": "n1"}, "usage": {"cpu": "250m", "memory": "512Mi"}})];
        let node = |name: &str| json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "2", "memory": "2Gi"}}});
        let text = node_rows(&metrics, &[node("n1"), node("n2")], &NodeArgs { common: common(None), show_capacity: false });
        assert_eq!(
            text,
            "NAME\tCPU(cores)\tCPU(%)\tMEMORY(bytes)\tMEMORY(%)\nn1\t250m\t12%\t512Mi\t25%\n\
             n2\t<unknown>\t<unknown>\t<unknown>\t<unknown>\n"
        );
        let metrics = [json!({"metadata": {"name": "n1"}, "usage": {"cpu": "1", "memory": "0", "swap": "256Mi"}})];
        let mut swapping = node("n1");
        swapping["status"]["nodeInfo"] = json!({"swap": {"capacity": 1 << 30}});
        let args = NodeArgs { common: Common { show_swap: true, no_headers: true, ..common(None) }, show_capacity: false };
        assert_eq!(node_rows(&metrics, &[swapping], &args), "n1\t1000m\t50%\t0Mi\t0%\t256Mi\t25%\n");
        assert_eq!(node_rows(&metrics, &[node("n1")], &args), "n1\t1000m\t50%\t0Mi\t0%\t<unknown>\t<unknown>\n");
    }

    #[test]
    fn pods_and_containers() {
        let pod = |name: &str, cpu: &str| {
            let container = |name: &str| json!({"name": name, "usage": {"cpu": cpu, "memory": "1Mi"}});
            json!({"metadata": {"name": name, "namespace": "x"}, "containers": [container("a"), container("b")]})
        };
        let metrics = [pod("p", "1m"), pod("q", "2m")];
        let args = |containers, sum| PodArgs {
            common: common(Some("cpu")),
            all_namespaces: false,
            containers,
            field_selector: String::new(),
            sum,
        };
        assert_eq!(pod_rows(&metrics, &args(false, false)), "NAME\tCPU(cores)\tMEMORY(bytes)\nq\t4m\t2Mi\np\t2m\t2Mi\n");
        assert!(pod_rows(&metrics, &args(true, false)).contains("POD\tNAME\tCPU(cores)\tMEMORY(bytes)\nq\ta\t2m\t1Mi\n"));
        let mut swap = args(false, false);
        swap.common.show_swap = true;
        assert_eq!(pod_rows(&metrics, &swap), "NAME\tCPU(cores)\tMEMORY(bytes)\tSWAP(bytes)\nq\t4m\t2Mi\t0Mi\np\t2m\t2Mi\t0Mi\n");
        assert!(pod_rows(&metrics, &args(false, true)).ends_with("\t________\t________\n\t6m\t4Mi\n"));
    }
}
