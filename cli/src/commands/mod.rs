//! Everything that `kctl` does with a cluster through its API: one file per command.
//!
//! A command is a clap struct, whose comment is the help, and a `run`. What they share is in `kube` (connection, objects) and
//! `output` (forms); [`targets`], [`pairs`] and [`pods`] are shared by a few.

mod annotate;
mod api_resources;
mod apply;
mod attach;
mod auth;
mod autoscale;
mod certificate;
mod cluster_info;
mod config;
mod cp;
mod create;
mod debug;
mod delete;
mod describe;
mod detach;
mod diff;
mod drain;
mod edit;
mod events;
mod exec;
mod explain;
mod expose;
mod flags;
mod get;
mod kuberc;
mod kustomize;
mod label;
mod logs;
mod options;
mod pairs;
mod patch;
pub mod plugin;
mod pods;
mod port_forward;
mod proxy;
mod raw;
mod replace;
mod rollout;
mod run;
mod scale;
mod set;
mod stream;
mod taint;
mod targets;
mod top;
mod version;
mod wait;

use std::process::ExitCode;

use crate::kube::{Error, Globals, Result, Session};

#[derive(clap::Subcommand, Clone, Debug)]
pub enum Command {
    Get(get::GetArgs),
    Describe(describe::DescribeArgs),
    Apply(apply::ApplyArgs),
    Create(create::CreateArgs),
    Replace(replace::ReplaceArgs),
    Diff(diff::DiffArgs),
    Kustomize(kustomize::KustomizeArgs),
    Run(run::RunArgs),
    Delete(delete::DeleteArgs),
    Edit(edit::EditArgs),
    Patch(patch::PatchArgs),
    Scale(scale::ScaleArgs),
    Autoscale(autoscale::AutoscaleArgs),
    Set(set::SetArgs),
    Label(label::LabelArgs),
    Annotate(annotate::AnnotateArgs),
    Expose(expose::ExposeArgs),
    Rollout(rollout::RolloutArgs),
    #[command(alias = "log")]
    Logs(logs::LogsArgs),
    Exec(exec::ExecArgs),
    Attach(attach::AttachArgs),
    Debug(debug::DebugArgs),
    PortForward(port_forward::PortForwardArgs),
    Cp(cp::CpArgs),
    Proxy(proxy::ProxyArgs),
    Wait(wait::WaitArgs),
    Events(events::EventsArgs),
    Top(top::TopArgs),
    Cordon(drain::CordonArgs),
    Uncordon(drain::UncordonArgs),
    Drain(drain::DrainArgs),
    Taint(taint::TaintArgs),
    Certificate(certificate::CertificateArgs),
    Explain(explain::ExplainArgs),
    ApiResources(api_resources::ApiResourcesArgs),
    ApiVersions(api_resources::ApiVersionsArgs),
    Auth(auth::AuthArgs),
    Config(config::ConfigArgs),
    Plugin(plugin::PluginArgs),
    Kuberc(kuberc::KubercArgs),
    Options(options::OptionsArgs),
    ClusterInfo(cluster_info::ClusterInfoArgs),
    Version(version::VersionArgs),
}

/// Runs a command to its end and prints its error.
pub fn main(command: Command, globals: &Globals) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Error::from(error).report(),
    };
    let outcome = runtime.block_on(run(command, globals));
    // A read of standard input may be waiting for ever.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

async fn run(command: Command, globals: &Globals) -> Result<()> {
    let session = match command {
        Command::Config(args) => return config::run(args, globals),
        Command::Kustomize(args) => return kustomize::run(args),
        Command::Plugin(args) => return plugin::run(args),
        Command::Kuberc(args) => return kuberc::run(args, globals),
        Command::Options(_) => {
            options::run();
            return Ok(());
        }
        Command::Version(args) => return version::run(args, globals).await,
        Command::Create(ref args) if args.names_users() => Session::new(&Globals { user: None, ..globals.clone() })?,
        Command::Set(ref args) if args.names_users() => Session::new(&Globals { user: None, ..globals.clone() })?,
        _ => Session::new(globals)?,
    };
    if let Command::Proxy(args) = command {
        return proxy::run(args, session).await;
    }
    let session = &session;
    match command {
        Command::Get(args) => get::run(args, session).await,
        Command::Describe(args) => describe::run(args, session).await,
        Command::Apply(args) => apply::run(args, session).await,
        Command::Create(args) => create::run(args, session).await,
        Command::Replace(args) => replace::run(args, session).await,
        Command::Diff(args) => diff::run(args, session).await,
        Command::Run(args) => run::run(args, session).await,
        Command::Delete(args) => delete::run(args, session).await,
        Command::Edit(args) => edit::run(args, session).await,
        Command::Patch(args) => patch::run(args, session).await,
        Command::Scale(args) => scale::run(args, session).await,
        Command::Autoscale(args) => autoscale::run(args, session).await,
        Command::Set(args) => set::run(args, session).await,
        Command::Label(args) => label::run(args, session).await,
        Command::Annotate(args) => annotate::run(args, session).await,
        Command::Expose(args) => expose::run(args, session).await,
        Command::Rollout(args) => rollout::run(args, session).await,
        Command::Logs(args) => logs::run(args, session).await,
        Command::Exec(args) => exec::run(args, session).await,
        Command::Attach(args) => attach::run(args, session).await,
        Command::Debug(args) => debug::run(args, session).await,
        Command::PortForward(args) => port_forward::run(args, session).await,
        Command::Cp(args) => cp::run(args, session).await,
        Command::Wait(args) => wait::run(args, session).await,
        Command::Events(args) => events::run(args, session).await,
        Command::Top(args) => top::run(args, session).await,
        Command::Cordon(args) => drain::cordon(args, session).await,
        Command::Uncordon(args) => drain::uncordon(args, session).await,
        Command::Drain(args) => drain::drain(args, session).await,
        Command::Taint(args) => taint::run(args, session).await,
        Command::Certificate(args) => certificate::run(args, session).await,
        Command::Explain(args) => explain::run(args, session).await,
        Command::ApiResources(args) => api_resources::run(args, session).await,
        Command::ApiVersions(args) => api_resources::versions(args, session).await,
        Command::Auth(args) => auth::run(args, session).await,
        Command::ClusterInfo(args) => cluster_info::run(args, session).await,
        Command::Config(_)
        | Command::Version(_)
        | Command::Kustomize(_)
        | Command::Plugin(_)
        | Command::Kuberc(_)
        | Command::Proxy(_)
        | Command::Options(_) => Ok(()), // done above
    }
}
