//! The objects that a command changes: by type and name, by file, or by selector.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::Value;

use crate::{
    kube::{
        Error, Files, Info, Query, Request, Result, Session, complete,
        session::{MERGE_PATCH, STRATEGIC_PATCH},
    },
    output::format::DryRun,
};

/// Where a command needs objects and none are named.
pub const NOTHING_NAMED: &str = "You must provide one or more resources by argument or filename.\n\
    Example resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'";

#[derive(Args, Clone, Debug, Default)]
pub struct Targets {
    /// TYPE NAME… or TYPE/NAME…
    #[arg(value_name = "TYPE NAME | TYPE/NAME", add = ArgValueCompleter::new(complete::resources))]
    pub words: Vec<String>,
    #[command(flatten)]
    pub files: Files,
    #[command(flatten)]
    pub selectors: Selectors,
}

#[derive(Args, Clone, Debug, Default)]
pub struct Selectors {
    /// Objects whose labels match (a=b,c!=d,e in (f,g))
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Objects whose fields match (metadata.name=x)
    #[arg(long)]
    pub field_selector: Option<String>,
    /// All objects of the types, in the namespace
    #[arg(long)]
    pub all: bool,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

impl Selectors {
    pub fn check(&self) -> Result<()> {
        if self.all && self.selector.is_some() {
            return Err(Error::message("cannot set --all and --selector at the same time"));
        }
        if self.all && self.field_selector.is_some() {
            return Err(Error::message("cannot set --all and --field-selector at the same time"));
        }
        Ok(())
    }

    pub fn given(&self) -> bool {
        self.all || self.selector.is_some() || self.field_selector.is_some()
    }

    pub fn query(&self, words: &[String], files: &Files) -> Query {
        Query {
            words: words.to_vec(),
            files: files.clone(),
            selector: self.selector.clone(),
            field_selector: self.field_selector.clone(),
            all: self.all,
            all_namespaces: self.all_namespaces,
            ..Query::default()
        }
    }
}

impl Targets {
    pub fn check(&self) -> Result<()> {
        self.selectors.check()?;
        if self.words.is_empty() && self.files.is_empty() {
            return Err(Error::message("one or more resources must be specified as <resource> <name> or <resource>/<name>"));
        }
        Ok(())
    }

    pub fn query(&self) -> Query {
        self.selectors.query(&self.words, &self.files)
    }

    /// The objects as they are on the server. What is missing comes back beside them.
    pub async fn fetch(&self, session: &Session) -> Result<(Vec<Info>, Vec<Error>)> {
        self.check()?;
        self.query().fetch(session).await
    }

    /// Does something to each object; goes on after an error.
    pub async fn each(&self, session: &Session, mut act: impl AsyncFnMut(&Info) -> Result<()>) -> Result<usize> {
        let (infos, mut errors) = self.fetch(session).await?;
        for info in &infos {
            if let Err(error) = act(info).await {
                errors.push(info.during(error, "patching"));
            }
        }
        Error::all(errors)?;
        Ok(infos.len())
    }
}

/// The patch that makes `original` what `changed` is: strategic where the kind's lists are known, else a merge patch.
pub fn two_way(original: &Value, changed: &Value) -> (&'static str, Value) {
    let gvk = machinery::gvk::Gvk::of(original);
    let ty = gvk.as_ref().and_then(|gvk| schema::builtin().type_of(&gvk.group, &gvk.version, &gvk.kind));
    match ty.map(|ty| machinery::patch::strategic::create_two_way(original, changed, ty)) {
        Some(Ok(body)) => (STRATEGIC_PATCH, body),
        _ => (MERGE_PATCH, machinery::patch::merge::create_two_way(original, changed)),
    }
}

/// A patch of one object, in the name of a field manager.
pub async fn patch(
    session: &Session,
    info: &Info,
    kind: &'static str,
    patch: &Value,
    manager: &str,
    dry_run: DryRun,
) -> Result<Value> {
    let request = Request::patch(info.path(), kind, patch);
    session.json(request.query("fieldManager", manager).query_some("dryRun", dry_run.parameter())).await
}
