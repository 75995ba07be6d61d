//! What can be wrong with an expression, and how cel-go shows it: the message, the line and a caret.

use std::fmt;
use std::sync::Arc;

/// A source line longer than this (in bytes) is not repeated in an error.
const SNIPPET_BYTES_MAX: usize = 16_384;

/// The text of an expression with its line starts.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub text: Arc<str>,
}

impl Source {
    pub fn new(text: &str) -> Self {
        Self { text: text.into() }
    }

    /// One-based line, zero-based column, both of a place in code points, and the line's text.
    fn locate(&self, offset: u32) -> (u32, u32, &str) {
        let (mut line, mut rest) = (1, offset);
        let mut text: &str = "";
        for part in self.text.split('\n') {
            text = part;
            let length = u32::try_from(part.chars().count()).unwrap_or(u32::MAX);
            if rest <= length {
                return (line, rest, part);
            }
            rest -= length + 1;
            line += 1;
        }
        (line.saturating_sub(1).max(1), u32::try_from(text.chars().count()).unwrap_or(u32::MAX), text)
    }

    pub fn error(&self, offset: u32, message: impl Into<String>) -> CompileError {
        let (line, column, text) = self.locate(offset);
        let snippet = (text.len() <= SNIPPET_BYTES_MAX).then(|| text.replace('\t', " "));
        CompileError { line, column: column + 1, message: message.into(), snippet }
    }
}

/// Why an expression does not compile. Prints as cel-go does: place, message, the source line and a caret beneath it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CompileError {
    /// From 1.
    pub line: u32,
    /// From 1, in code points.
    pub column: u32,
    pub message: String,
    snippet: Option<String>,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR: <input>:{}:{}: {}", self.line, self.column, self.message)?;
        let Some(snippet) = &self.snippet else { return Ok(()) };
        write!(f, "\n | {snippet}\n | ")?;
        let mut chars = snippet.chars();
        for c in chars.by_ref().take(self.column.saturating_sub(1) as usize) {
            f.write_str(if c.len_utf8() > 1 { "\u{ff0e}" } else { "." })?;
        }
        f.write_str(if chars.next().is_some_and(|c| c.len_utf8() > 1) { "\u{ff3e}" } else { "^" })
    }
}

/// Several errors as upstream prints them: one beneath the other.
pub fn display(errors: &[CompileError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Why an evaluation gave no value. Prints as cel-go's error does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression failed: a missing key, an overflow, a conversion.
    #[error("{0}")]
    Failed(String),
    /// One evaluation cost more than [`crate::PER_CALL_LIMIT`].
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
    /// The budget shared by several evaluations is used up.
    #[error("validation failed due to running out of cost budget, no further validation rules will be run")]
    BudgetExhausted,
}

impl EvalError {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    pub(crate) fn no_overload() -> Self {
        Self::failed("no such overload")
    }

    pub(crate) fn no_key(key: impl fmt::Display) -> Self {
        Self::Failed(format!("no such key: {key}"))
    }

    /// True when evaluation was cut short rather than failed: `&&` and `||` do not absorb these.
    pub fn is_interruption(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}
