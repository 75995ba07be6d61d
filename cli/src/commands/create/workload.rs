//! Deployments, jobs and cron jobs.

use clap::Args;
use serde_json::{Value, json};

use super::{CreateFlags, one};
use crate::kube::{Error, Request, Result, Session};

/// Creates a deployment
#[derive(Args, Clone, Debug)]
pub struct DeploymentArgs {
    name: String,
    /// Image of the container; several make several containers
    #[arg(long, required = true, value_delimiter = ',')]
    image: Vec<String>,
    /// How many pods
    #[arg(short, long, default_value_t = 1)]
    replicas: u32,
    /// The port that the container listens on
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    pub(super) flags: CreateFlags,
    /// Command of the container
    #[arg(last = true)]
    command: Vec<String>,
}

impl DeploymentArgs {
    pub(super) fn object(&self) -> Result<Value> {
        if self.image.len() > 1 && !self.command.is_empty() {
            return Err(Error::message("cannot specify multiple --image options and command"));
        }
        let containers: Vec<Value> = self.image.iter().map(|image| self.container(image)).collect();
        let labels = json!({"app": self.name});
        Ok(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "strategy": {},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
            },
            "status": {},
        }))
    }

    fn container(&self, image: &str) -> Value {
        let mut container = json!({"name": container_name(image), "image": image, "resources": {}});
        if !self.command.is_empty() {
            container["command"] = json!(self.command);
        }
        if let Some(port) = self.port {
            container["ports"] = json!([{"containerPort": port}]);
        }
        container
    }
}

/// `nginx` of `registry.local:5000/web/nginx:1.2@sha256:…`, as far as a container may be called so.
pub fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let name = last.split(['@', ':']).next().unwrap_or(last);
    name.chars()
        .filter_map(|c| match c {
            '_' => Some('-'),
            c if c.is_ascii_alphanumeric() || c == '-' => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// Creates a job
#[derive(Args, Clone, Debug)]
pub struct JobArgs {
    name: String,
    /// Image of the container
    #[arg(long, required_unless_present = "from")]
    image: Option<String>,
    /// Run a cron job now: cronjob/NAME
    #[arg(long, value_name = "cronjob/NAME", conflicts_with = "image")]
    from: Option<String>,
    #[command(flatten)]
    flags: CreateFlags,
    /// Command of the container
    #[arg(last = true)]
    command: Vec<String>,
}

pub(super) async fn job(args: JobArgs, session: &Session) -> Result<()> {
    let object = match (&args.from, &args.image) {
        (Some(from), _) => {
            let name =
                from.split_once('/').filter(|(kind, _)| ["cronjob", "cronjobs", "cj"].contains(kind)).map(|(_, name)| name);
            let name = name.ok_or_else(|| Error::message("from must be an existing cronjob: cronjob/NAME"))?;
            let path = format!("/apis/batch/v1/namespaces/{}/cronjobs/{name}", session.namespace);
            of_cron_job(&args.name, &session.json(Request::get(path)).await?)
        }
        (None, image) => json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": args.name},
            "spec": job_spec(&args.name, image.as_deref().unwrap_or_default(), &args.command, "Never"),
            "status": {},
        }),
    };
    one(session, object, &args.flags, "job").await
}

fn job_spec(name: &str, image: &str, command: &[String], restart: &str) -> Value {
    let mut container = json!({"name": name, "image": image, "resources": {}});
    if !command.is_empty() {
        container["command"] = json!(command);
    }
    json!({"template": {"metadata": {}, "spec": {"containers": [container], "restartPolicy": restart}}})
}

fn of_cron_job(name: &str, cron_job: &Value) -> Value {
    let template = &cron_job["spec"]["jobTemplate"];
    let mut annotations = template["metadata"]["annotations"].clone();
    if annotations.is_null() {
        annotations = json!({});
    }
    annotations["cronjob.kubernetes.io/instantiate"] = "manual".into();
    let owner = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "name": machinery::meta::name(cron_job), "uid": machinery::meta::uid(cron_job), "controller": true,
    });
    let mut job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "annotations": annotations, "ownerReferences": [owner]},
        "spec": template["spec"],
    });
    if template["metadata"]["labels"].is_object() {
        job["metadata"]["labels"] = template["metadata"]["labels"].clone();
    }
    job
}

/// Creates a cron job
#[derive(Args, Clone, Debug)]
pub struct CronJobArgs {
    name: String,
    /// Image of the container
    #[arg(long)]
    image: String,
    /// When to run, as cron has it: "*/5 * * * *"
    #[arg(long)]
    schedule: String,
    /// Whether a failed container starts again: OnFailure or Never
    #[arg(long, default_value = "OnFailure")]
    restart: String,
    #[command(flatten)]
    pub(super) flags: CreateFlags,
    /// Command of the container
    #[arg(last = true)]
    command: Vec<String>,
}

impl CronJobArgs {
    pub(super) fn object(&self) -> Value {
        json!({
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": self.name},
            "spec": {
                "jobTemplate": {"metadata": {"name": self.name}, "spec": job_spec(&self.name, &self.image, &self.command, &self.restart)},
                "schedule": self.schedule,
            },
            "status": {},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_named_for_their_image() {
        for (image, name) in [("nginx", "nginx"), ("localhost:5000/a/My_app:1.0", "my-app"), ("x/y@sha256:abc", "y")] {
            assert_eq!(container_name(image), name);
        }
    }
}
