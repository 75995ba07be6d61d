//! How every `set` command changes objects: a function changes a copy, and what it changed is sent as a patch.

use clap::Args;
use serde_json::Value;

use crate::{
    commands::{
        flags::{ChangeFlags, ManagerFlag},
        targets::{NOTHING_NAMED, Selectors, Targets, patch, two_way},
    },
    kube::{Error, Files, Info, Result, Session, select},
    output::format::DryRun,
};

#[derive(Args, Clone, Debug)]
pub struct SetFlags {
    #[command(flatten)]
    pub files: Files,
    #[command(flatten)]
    pub selectors: Selectors,
    /// Change the objects of the files without asking the server
    #[arg(long)]
    pub local: bool,
    #[command(flatten)]
    pub manager: ManagerFlag,
    #[command(flatten)]
    pub change: ChangeFlags,
}

/// What a command says.
#[derive(Clone, Copy, Debug)]
pub struct Wording {
    /// `image updated`.
    pub done: &'static str,
    /// `failed to patch image update to pod template`.
    pub failed: &'static str,
    /// Objects that do not change are spoken of too.
    pub unchanged_too: bool,
}

impl SetFlags {
    pub fn check(&self) -> Result<()> {
        if self.local && self.change.dry_run() == DryRun::Server {
            return Err(Error::message("cannot specify --local and --dry-run=server - did you mean --dry-run=client?"));
        }
        self.selectors.check()
    }

    /// The objects, from the server or from files alone. What can't be had is in the errors.
    pub async fn infos(&self, words: &[String], session: &Session) -> Result<(Vec<Info>, Vec<Error>)> {
        if !self.local {
            if words.is_empty() && self.files.is_empty() {
                return Err(Error::message(NOTHING_NAMED));
            }
            let targets = Targets { words: words.to_vec(), files: self.files.clone(), selectors: self.selectors.clone() };
            return targets.fetch(session).await;
        }
        if !words.is_empty() {
            return Err(Error::message(
                "error: you must specify resources by --filename when --local is set.\n\
                 Example resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'",
            ));
        }
        Ok((select::local_files(&self.files).await?, Vec::new()))
    }

    /// Changes each object, and says so.
    pub async fn each(
        &self,
        words: &[String],
        session: &Session,
        wording: Wording,
        mut change: impl FnMut(&Info, &mut Value) -> Result<()>,
    ) -> Result<()> {
        let (infos, mut errors) = self.infos(words, session).await?;
        let local = self.local || self.change.dry_run() == DryRun::Client;
        // A local change is no dry run: nothing would be sent in earnest either.
        let mut reporter = self.change.reporter()?;
        for info in &infos {
            let mut object = info.object.clone();
            if let Err(error) = change(info, &mut object) {
                errors.push(error);
                continue;
            }
            if object == info.object && !wording.unchanged_too {
                continue;
            }
            if local {
                reporter.done(info, &object, wording.done)?;
                continue;
            }
            let (kind, body) = two_way(&info.object, &object);
            match patch(session, info, kind, &body, self.manager.or("kctl-set"), self.change.dry_run()).await {
                Ok(after) => reporter.done(info, &after, wording.done)?,
                Err(error) => errors.push(Error::message(format!("{} {}", wording.failed, error.bare()))),
            }
        }
        Error::all(errors)
    }
}
