//! `kctl autoscale`: a horizontal pod autoscaler for something that has replicas.

use clap::Args;
use machinery::quantity::Quantity;
use serde_json::{Value, json};

use super::{create, create::CreateFlags, targets::Targets};
use crate::{
    kube::{Error, Info, Result, Session},
    output::format::DryRun,
};

/// Makes an autoscaler for a deployment, replica set, stateful set or replication controller
///
///   kctl autoscale deploy/web --min=2 --max=10 --cpu=80%
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct AutoscaleArgs {
    #[command(flatten)]
    targets: Targets,
    /// The fewest pods; the server's default when not given
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    min: i32,
    /// The most pods
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    max: i32,
    /// Target use of CPU: 80% of what pods request, or an amount (500m)
    #[arg(long)]
    cpu: Option<String>,
    /// Target use of memory: 80% of what pods request, or an amount (200Mi)
    #[arg(long)]
    memory: Option<String>,
    /// As --cpu, in percent
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide = true)]
    cpu_percent: i32,
    /// The autoscaler's name; that of its target when not given
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    flags: CreateFlags,
}

pub async fn run(args: AutoscaleArgs, session: &Session) -> Result<()> {
    if args.cpu_percent != -1 {
        eprintln!(
            "Flag --cpu-percent has been deprecated, Use --cpu with percentage or resource quantity format (e.g., '70%' for utilization or '500m' for milliCPU)."
        );
    }
    if args.max == -1 {
        return Err(Error::message("required flag(s) \"max\" not set"));
    }
    if args.max < 1 {
        return Err(Error::message(format!("--max=MAXPODS is required and must be at least 1, max: {}", args.max)));
    }
    if args.max < args.min {
        let (min, max) = (args.min, args.max);
        return Err(Error::message(format!("--max=MAXPODS must be larger or equal to --min=MINPODS, max: {max}, min: {min}")));
    }
    if args.cpu_percent != -1 && (args.cpu.is_some() || args.memory.is_some()) {
        return Err(Error::message("--cpu-percent cannot be used with --cpu or --memory"));
    }
    let (infos, errors) = args.targets.fetch(session).await?;
    Error::all(errors)?;
    let dry_run = args.flags.write.dry_run();
    let mut reporter = args.flags.write.reporter()?;
    for target in &infos {
        let name = target.resource.full_name();
        if !target.resource.subresources.iter().any(|subresource| subresource == "scale") {
            return Err(Error::message(format!("cannot autoscale a {}: no scale subresource for {name}", target.resource.kind)));
        }
        let mut object = autoscaler(&args, target)?;
        let info = create::info(session, &mut object, &args.flags).await?;
        let created = create::submit(session, &info, &args.flags).await?;
        reporter.done(&info, &created, if dry_run == DryRun::Client { "created" } else { "autoscaled" })?;
    }
    if infos.is_empty() { Err(Error::message("no objects passed to autoscale")) } else { Ok(()) }
}

fn autoscaler(args: &AutoscaleArgs, target: &Info) -> Result<Value> {
    let mut spec = json!({
        "maxReplicas": args.max,
        "scaleTargetRef": {"apiVersion": target.resource.api_version(), "kind": target.resource.kind, "name": target.name},
    });
    if args.min > 0 {
        spec["minReplicas"] = args.min.into();
    }
    let mut metrics = Vec::new();
    if args.cpu_percent > 0 {
        metrics.push(metric("cpu", json!({"averageUtilization": args.cpu_percent, "type": "Utilization"})));
    }
    for (name, amount, unit) in [("cpu", &args.cpu, "m"), ("memory", &args.memory, "Mi")] {
        if let Some(amount) = amount {
            metrics.push(metric(name, aim(name, amount, unit)?));
        }
    }
    if !metrics.is_empty() {
        spec["metrics"] = metrics.into();
    }
    let name = args.name.as_deref().unwrap_or(&target.name);
    Ok(json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name}, "spec": spec,
        "status": {"currentMetrics": null, "desiredReplicas": 0},
    }))
}

fn metric(name: &str, aim: Value) -> Value {
    json!({"type": "Resource", "resource": {"name": name, "target": aim}})
}

/// `80%` is a share of the request; a bare number has the resource's usual unit.
fn aim(resource: &str, text: &str, unit: &str) -> Result<Value> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::message("empty input"));
    }
    if let Some(percent) = text.strip_suffix('%') {
        let number = percent.parse::<i32>().ok().filter(|number| *number >= 0);
        let number = number.ok_or_else(|| Error::message(format!("invalid percentage value: {percent}")))?;
        return Ok(json!({"averageUtilization": number, "type": "Utilization"}));
    }
    let amount = if text.parse::<f64>().is_ok() { format!("{text}{unit}") } else { text.to_owned() };
    let quantity = Quantity::parse(&amount).map_err(|_| Error::message(format!("invalid resource {resource} value: {text}")))?;
    Ok(json!({"averageValue": quantity.canonical(), "type": "AverageValue"}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_aim_for() {
        let check = |text: &str, want: Result<Value, &str>| {
            let got = aim("cpu", text, "m").map_err(|error| error.bare());
            assert_eq!(got, want.map_err(str::to_owned), "{text}");
        };
        check("80%", Ok(json!({"averageUtilization": 80, "type": "Utilization"})));
        check("500", Ok(json!({"averageValue": "500m", "type": "AverageValue"})));
        check("1.5", Ok(json!({"averageValue": "1500u", "type": "AverageValue"})));
        check("2", Ok(json!({"averageValue": "2m", "type": "AverageValue"})));
        check("1", Ok(json!({"averageValue": "1m", "type": "AverageValue"})));
        check("2k", Ok(json!({"averageValue": "2k", "type": "AverageValue"})));
        check("-1%", Err("invalid percentage value: -1"));
        check("x", Err("invalid resource cpu value: x"));
    }
}
