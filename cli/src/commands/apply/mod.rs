//! `kctl apply`: makes the cluster as the files say.
//!
//! As kubectl's: client-side by default ([`client_side`]), which keeps what it applied in an annotation ([`configuration`]) and sends
//! the difference ([`three_way`]); with `--server-side` the server does both ([`server_side`]). What left the files is deleted with
//! `--prune`, by label ([`prune`]) or by set ([`set`]).

mod client_side;
mod configuration;
mod last;
pub mod prune;
mod server_side;
mod set;
mod three_way;

use clap::{Args, Subcommand};
pub use client_side::MANAGER as CLIENT_SIDE;
pub use configuration::{annotated, annotated_as_is, bare, last_applied};
pub use last::annotation as write_last_applied;
use serde_json::{Value, json};
use set::ApplySet;
pub use three_way::patch as three_way_patch;

use super::flags::{ManagerFlag, Removal, WriteFlags};
use crate::{
    kube::{Error, Files, Info, Request, Resource, Result, Session, select},
    output::format::DryRun,
};

/// Applies files: creates what is missing and changes what is different
///
///   kctl apply -f app.yaml              kctl apply -f dir/ -R
///   kctl apply -f https://example.com/app.yaml
///   kctl apply -f dir/ --prune -l app=web         deletes what left the files
///   kctl apply -f dir/ --prune --applyset=app     the same, by set
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub struct ApplyArgs {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    removal: Removal,
    /// Delete what was applied before and is no longer in the files: with -l, --all or --applyset
    #[arg(long)]
    prune: bool,
    /// With --prune: everything that was applied, whatever its labels
    #[arg(long)]
    all: bool,
    /// With --prune: kinds that are deleted, GROUP/VERSION/KIND (core/v1/ConfigMap); may be given several times
    #[arg(long, value_name = "KIND", alias = "prune-whitelist")]
    prune_allowlist: Vec<String>,
    /// With --prune: the set, [TYPE/]NAME of the object that keeps it (a secret by default)
    #[arg(long, value_name = "[TYPE/]NAME")]
    applyset: Option<String>,
    /// Apply to a subresource, with --server-side
    #[arg(long)]
    subresource: Option<String>,
    #[command(flatten)]
    write: WriteFlags,
    /// The types' own descriptions serve: nothing changes
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true", hide = true)]
    openapi_patch: bool,
    /// The files win over what others changed; with =false an object that others changed is left as it is
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true", hide_default_value = true)]
    overwrite: bool,
}

#[derive(Subcommand, Clone, Debug)]
enum Other {
    #[command(name = "view-last-applied")]
    View(last::ViewArgs),
    #[command(name = "set-last-applied")]
    Set(last::SetArgs),
    #[command(name = "edit-last-applied")]
    Edit(super::edit::EditLastArgs),
}

/// Which objects are applied, by whom, and what happens when others manage their fields.
#[derive(Args, Clone, Debug)]
pub struct How {
    /// The server merges and keeps who set which field
    #[arg(long)]
    pub server_side: bool,
    /// With --server-side: take over fields that others manage
    #[arg(long)]
    pub force_conflicts: bool,
    #[command(flatten)]
    manager: ManagerFlag,
    /// Only objects of the files with these labels
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
}

impl How {
    pub fn check(&self) -> Result<()> {
        if self.force_conflicts && !self.server_side {
            return Err(Error::message("--force-conflicts only works with --server-side"));
        }
        Ok(())
    }

    /// Who manages the fields.
    pub fn manager<'a>(&'a self, default: &'a str) -> &'a str {
        self.manager.or(default)
    }

    /// The manager of the way that was chosen.
    pub fn own_manager(&self) -> &str {
        self.manager(if self.server_side { server_side::MANAGER } else { client_side::MANAGER })
    }

    /// The objects of the files that the selector takes, and what is wrong with others.
    pub async fn infos(&self, files: &Files, session: &Session) -> Result<(Vec<Info>, Vec<Error>)> {
        let (mut infos, errors) = select::readable_files(session, files).await?;
        if let Some(selector) = &self.selector {
            select::retain(&mut infos, selector)?;
        }
        Ok((infos, errors))
    }
}

impl ApplyArgs {
    /// A request in the name of who applies, tried only if that was asked for.
    fn named(&self, request: Request, manager: &str) -> Request {
        self.write.send(request, self.how.manager(manager))
    }

    fn check(&self) -> Result<()> {
        let dry_run = self.write.dry_run();
        let selected = self.how.selector.as_deref().is_some_and(|selector| !selector.is_empty());
        let refusals = [
            (self.files.is_empty(), "must specify one of -f and -k"),
            (self.how.force_conflicts && !self.how.server_side, "--force-conflicts only works with --server-side"),
            (
                dry_run == DryRun::Client && self.how.server_side,
                "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)",
            ),
            (self.how.server_side && self.removal.force, "--force cannot be used with --server-side"),
            (dry_run == DryRun::Server && self.removal.force, "--dry-run=server cannot be used with --force"),
            (self.all && selected, "cannot set --all and --selector at the same time"),
            (self.applyset.is_some() && !self.prune, "--applyset requires --prune"),
            (self.prune && self.removal.force, "--force cannot be used with --prune"),
            (self.applyset.is_some() && self.all, "--all is incompatible with --applyset"),
            (self.applyset.is_some() && selected, "--selector is incompatible with --applyset"),
            (self.applyset.is_some() && !self.prune_allowlist.is_empty(), "--prune-allowlist is incompatible with --applyset"),
            (
                self.prune && self.applyset.is_none() && !self.all && !selected,
                "all resources selected for prune without explicitly passing --all. To prune all resources, pass the --all flag. If you did not mean to prune all resources, specify a label selector",
            ),
            (
                self.prune && self.applyset.is_none() && self.how.server_side,
                "--prune is in alpha and doesn't currently work on objects created by server-side apply",
            ),
            (self.subresource.is_some() && !self.how.server_side, "--subresource can only be specified for --server-side"),
        ];
        match refusals.iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err(Error::message(*why)),
            None => Ok(()),
        }
    }
}

pub async fn run(mut args: ApplyArgs, session: &Session) -> Result<()> {
    match args.other.take() {
        None => {}
        Some(Other::View(args)) => return last::view(args, session).await,
        Some(Other::Set(args)) => return last::set(args, session).await,
        Some(Other::Edit(args)) => return super::edit::last_applied(args, session).await,
    }
    args.check()?;
    args.files.checked = args.write.checks();
    let pruned = match args.prune && args.applyset.is_none() {
        true => prune::kinds(session, &args.prune_allowlist).await?,
        false => Vec::new(),
    };
    let (infos, errors) = args.how.infos(&args.files, session).await?;
    if infos.is_empty() && errors.is_empty() {
        return Err(Error::message("no objects passed to apply"));
    }
    apply(&args, session, infos, errors, &pruned).await
}

/// Applies each object, then shows and prunes if nothing failed.
async fn apply(
    args: &ApplyArgs,
    session: &Session,
    mut infos: Vec<Info>,
    mut errors: Vec<Error>,
    pruned: &[Resource],
) -> Result<()> {
    let mut set = match &args.applyset {
        Some(name) => Some(ApplySet::new(session, name, args.write.dry_run(), args.how.manager(server_side::MANAGER)).await?),
        None => None,
    };
    if let Some(set) = &mut set {
        set.adopt(session, &mut infos).await?;
    }
    let mut reporter = args.write.reporter()?;
    let whole = args.write.output().is_some_and(|output| !output.is_empty() && output != "name");
    let mut visited = prune::Visited::default();
    if session.namespace_given {
        visited.namespaces.insert(session.namespace.clone());
    }
    let mut applied = Vec::new();
    for info in &infos {
        if info.resource.namespaced {
            visited.namespaces.insert(info.namespace.clone());
        }
        match one(args, session, info).await {
            Ok((object, _)) if whole => applied.push(object),
            Ok((object, what)) => {
                visited.uids.insert(machinery::meta::uid(&object).to_owned());
                set.iter_mut().for_each(|set| set.keep(machinery::meta::uid(&object)));
                reporter.done(info, &object, what)?;
            }
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors)?;
    for object in &applied {
        visited.uids.insert(machinery::meta::uid(object).to_owned());
        set.iter_mut().for_each(|set| set.keep(machinery::meta::uid(object)));
    }
    if let [first, ..] = &infos[..]
        && whole
    {
        let shown = if applied.len() == 1 {
            applied.remove(0)
        } else {
            json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": applied})
        };
        reporter.done(first, &shown, "")?;
    }
    match set {
        Some(set) => set.prune(session).await,
        None => prune::prune(args, session, pruned, &visited, &mut reporter).await,
    }
}

async fn one(args: &ApplyArgs, session: &Session, info: &Info) -> Result<(Value, &'static str)> {
    if info.name.is_empty() {
        let generated = machinery::meta::generate_name(&info.object);
        return Err(Error::message(if generated.is_empty() {
            let source = info.source.as_deref().unwrap_or_default();
            format!("error when retrieving current configuration of {source:?}: resource name may not be empty")
        } else {
            format!("from {generated}: cannot use generate name with apply")
        }));
    }
    if args.how.server_side {
        return Ok((server_side::apply(args, session, info).await?, "serverside-applied"));
    }
    client_side::apply(args, session, info).await
}

fn warn_if_deleting(info: &Info, object: &Value) {
    if machinery::meta::deletion_timestamp(object).is_some() {
        eprintln!("Warning: Detected changes to resource {} which is currently being deleted.", info.name);
    }
}
