//! The flags of commands that change objects.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{
    delete::{Cascade, FOREVER},
    patch,
};
use crate::{
    kube::{
        Error, Request, Result,
        globals::duration,
        session::{JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH},
    },
    output::{
        OutputFlags,
        format::{DryRun, DryRunFlag, Reporter},
    },
};

/// In whose name objects are changed.
#[derive(Args, Clone, Debug, Default)]
pub struct ManagerFlag {
    /// Name in metadata.managedFields of who set the fields
    #[arg(long, value_name = "NAME")]
    field_manager: Option<String>,
}

impl ManagerFlag {
    /// The name given, else that of the command.
    pub fn or<'a>(&'a self, command: &'a str) -> &'a str {
        self.field_manager.as_deref().unwrap_or(command)
    }
}

/// How a command shows what it changed, and whether it only tries.
#[derive(Args, Clone, Debug, Default)]
pub struct ChangeFlags {
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    dry_run: DryRunFlag,
}

impl ChangeFlags {
    pub fn dry_run(&self) -> DryRun {
        self.dry_run.dry_run
    }

    /// What `-o` says.
    pub fn output(&self) -> Option<&str> {
        self.output.output.as_deref()
    }

    /// # Errors
    /// When `-o` names no form.
    pub fn reporter(&self) -> Result<Reporter> {
        Reporter::new(&self.output, self.dry_run())
    }

    /// The reporter of a change that is made here, whatever `--dry-run` says.
    ///
    /// # Errors
    /// When `-o` names no form.
    pub fn local_reporter(&self) -> Result<Reporter> {
        Reporter::new(&self.output, DryRun::No)
    }

    /// The request, tried only if that was asked for.
    pub fn ask(&self, request: Request) -> Request {
        request.query_some("dryRun", self.dry_run().parameter())
    }
}

/// The same of a command that sends whole objects, which the server looks through.
#[derive(Args, Clone, Debug, Default)]
pub struct WriteFlags {
    #[command(flatten)]
    change: ChangeFlags,
    #[command(flatten)]
    validate: ValidateFlag,
}

impl std::ops::Deref for WriteFlags {
    type Target = ChangeFlags;

    fn deref(&self) -> &ChangeFlags {
        &self.change
    }
}

impl WriteFlags {
    /// Whether what is sent is looked at before.
    pub fn checks(&self) -> bool {
        !matches!(self.validate.validate, Validate::Ignore)
    }

    /// The request in the name of this field manager, tried only if that was asked for.
    pub fn send(&self, request: Request, manager: &str) -> Request {
        self.change.ask(self.validate.ask(request.query("fieldManager", manager)))
    }
}

/// Changes to an object that a command makes.
#[derive(Args, Clone, Debug)]
pub struct OverrideFlags {
    /// JSON that changes the object before it is sent
    #[arg(long, value_name = "JSON")]
    overrides: Option<String>,
    /// How --overrides is meant: json is RFC 6902, merge RFC 7386, strategic merges lists by their keys
    #[arg(long, value_name = "json|merge|strategic", default_value = "merge", hide_default_value = true)]
    override_type: String,
}

impl OverrideFlags {
    /// # Errors
    /// When the changes cannot be read, or not be made.
    pub fn apply(&self, object: Value) -> Result<Value> {
        let Some(overrides) = self.overrides.as_deref().filter(|overrides| !overrides.is_empty()) else { return Ok(object) };
        let kind = match self.override_type.as_str() {
            "" | "merge" => MERGE_PATCH,
            "json" => JSON_PATCH,
            "strategic" => STRATEGIC_PATCH,
            other => return Err(Error::message(format!("invalid override type: {other}"))),
        };
        let patch = serde_json::from_str(overrides).map_err(|_| {
            let why = machinery::gojson::syntax_error(overrides.as_bytes()).unwrap_or_default();
            Error::message(if kind == JSON_PATCH { why } else { "Invalid JSON Patch".into() })
        })?;
        patch::locally(&object, &patch, kind)
    }
}

/// How objects are deleted that have to go.
#[derive(Args, Clone, Debug)]
pub struct Removal {
    /// Delete and create anew what cannot be changed
    #[arg(long)]
    pub force: bool,
    /// What happens to the objects that belong to deleted ones
    #[arg(long, value_enum, default_value = "background", num_args = 0..=1, default_missing_value = "background", require_equals = true, hide_default_value = true)]
    cascade: Cascade,
    /// Seconds that a deleted pod has to end by itself
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    pub grace_period: i64,
    /// How long deleted objects may take to be gone
    #[arg(long, value_parser = duration, default_value = "0s", hide_default_value = true)]
    pub timeout: Duration,
    /// Return when deleted objects are gone
    #[arg(long)]
    pub wait: bool,
}

impl Removal {
    /// How long to wait: a timeout of 0 is none.
    pub fn patience(&self) -> Duration {
        if self.timeout.is_zero() { FOREVER } else { self.timeout }
    }

    /// The body of a deletion.
    pub fn options(&self) -> Value {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": self.cascade.policy()});
        if self.grace_period >= 0 {
            options["gracePeriodSeconds"] = self.grace_period.into();
        }
        options
    }
}

/// How strictly the server looks at unknown and duplicate fields.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct ValidateFlag {
    /// Unknown and duplicate fields are errors (strict), warnings (warn) or nothing (ignore)
    #[arg(long, value_name = "strict|warn|ignore", num_args = 0..=1, default_missing_value = "strict", require_equals = true, default_value = "strict", hide_default_value = true)]
    validate: Validate,
}

impl ValidateFlag {
    /// The request, with how strictly it is looked at.
    pub fn ask(self, request: Request) -> Request {
        request.query("fieldValidation", self.validate.parameter())
    }
}

#[derive(Clone, Copy, Debug, Default)]
enum Validate {
    #[default]
    Strict,
    Warn,
    Ignore,
}

impl std::str::FromStr for Validate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "strict" | "true" => Ok(Self::Strict),
            "warn" => Ok(Self::Warn),
            "ignore" | "false" => Ok(Self::Ignore),
            _ => Err(format!("invalid - validate option {text:?}; must be one of: strict (or true), warn, ignore (or false)")),
        }
    }
}

impl Validate {
    /// The query parameter `fieldValidation`.
    fn parameter(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Warn => "Warn",
            Self::Ignore => "Ignore",
        }
    }
}
