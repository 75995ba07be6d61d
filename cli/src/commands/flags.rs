//! The flags of commands that change objects.

use clap::Args;

use crate::{
    kube::{Request, Result},
    output::{
        OutputFlags,
        format::{DryRun, DryRunFlag, Reporter},
    },
};

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
        let request = request.query("fieldManager", manager).query("fieldValidation", self.validate.validate.parameter());
        self.change.ask(request)
    }
}

/// How strictly the server looks at unknown and duplicate fields.
#[derive(Args, Clone, Copy, Debug, Default)]
struct ValidateFlag {
    /// Unknown and duplicate fields are errors (strict), warnings (warn) or nothing (ignore)
    #[arg(long, value_name = "strict|warn|ignore", num_args = 0..=1, default_missing_value = "strict", require_equals = true, default_value = "strict", hide_default_value = true)]
    validate: Validate,
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
