//! Errors of commands, printed as kubectl prints them, and the exit code that goes with each.

use std::process::ExitCode;

use machinery::status::{Reason, Status};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug)]
pub enum Error {
    /// The server's answer.
    Status(Box<Status>),
    /// Printed after `error: `.
    Message(String),
    /// A wrong use of `command`: the message and where help is.
    Usage {
        command: &'static str,
        message: String,
    },
    /// Printed as it is.
    Plain(String),
    /// Nothing listens at `host`.
    Refused {
        host: String,
    },
    /// The server was not reached or did not answer.
    Connect(String),
    NoResource {
        resource: String,
        group: String,
        version: String,
    },
    /// Each printed on its own line.
    Many(Vec<Error>),
    /// Everything is said already.
    Exit(u8),
}

impl Error {
    pub fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// Keeps a single error as it is.
    pub fn all(mut errors: Vec<Error>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Many(errors)),
        }
    }

    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            _ => None,
        }
    }

    pub fn is(&self, reason: Reason) -> bool {
        self.status().is_some_and(|status| status.reason == reason)
    }

    pub fn is_not_found(&self) -> bool {
        self.is(Reason::NotFound)
    }

    /// Says which file or action the server refused.
    pub fn during(mut self, what: impl std::fmt::Display) -> Self {
        match &mut self {
            Self::Status(status) => status.message = format!("{what}: {}", status.message),
            Self::Message(message) => *message = format!("{what}: {message}"),
            _ => {}
        }
        self
    }

    /// A resource that is not served, in the words of commands that look it up by themselves.
    pub fn without_prefix(self) -> Self {
        match self {
            Self::NoResource { .. } => Self::Plain(self.bare()),
            error => error,
        }
    }

    /// The message alone, to stand inside another one.
    pub fn bare(&self) -> String {
        match self {
            Self::Status(status) => status.message.clone(),
            Self::Message(message) | Self::Usage { message, .. } => message.clone(),
            _ => self.text().trim_start_matches("error: ").to_owned(),
        }
    }

    /// What is printed to stderr.
    pub fn text(&self) -> String {
        match self {
            Self::Status(status) if status.reason == Reason::Invalid => invalid(status),
            Self::Many(errors) => errors.iter().map(Self::line).collect::<Vec<_>>().join("\n"),
            Self::Message(_) | Self::Usage { .. } => prefixed(self.line()),
            _ => self.line(),
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exit(code) => *code,
            _ => 1,
        }
    }

    /// Prints the error.
    pub fn report(&self) -> ExitCode {
        let text = self.text();
        if !text.is_empty() {
            eprintln!("{}", text.trim_end_matches('\n'));
        }
        ExitCode::from(self.exit_code())
    }

    fn line(&self) -> String {
        match self {
            Self::Status(status) if status.reason == Reason::Unauthorized => {
                format!("error: You must be logged in to the server ({})", status.message)
            }
            Self::Status(status) if status.reason.as_str().is_empty() => format!("Error from server: {}", status.message),
            Self::Status(status) => format!("Error from server ({}): {}", status.reason.as_str(), status.message),
            Self::Message(message) | Self::Plain(message) => message.clone(),
            Self::Usage { command, message } => {
                format!("{message}\nSee 'kctl {command} -h' for help and examples")
            }
            Self::Refused { host } => {
                format!("The connection to the server {host} was refused - did you specify the right host or port?")
            }
            Self::Connect(message) => format!("Unable to connect to the server: {message}"),
            Self::NoResource { resource, group, version } => {
                let mut text = format!("the server doesn't have a resource type {resource:?}");
                if !group.is_empty() {
                    text += &format!(" in group {group:?}");
                }
                if !version.is_empty() {
                    text += &format!("{} version {version:?}", if group.is_empty() { " in" } else { " and" });
                }
                prefixed(text)
            }
            Self::Many(errors) => errors.iter().map(Self::line).collect::<Vec<_>>().join("\n"),
            Self::Exit(_) => String::new(),
        }
    }
}

/// What the system says of a file, as Go says it.
pub fn io_text(error: &std::io::Error) -> String {
    let text = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory",
        std::io::ErrorKind::PermissionDenied => "permission denied",
        std::io::ErrorKind::IsADirectory => "is a directory",
        std::io::ErrorKind::AddrNotAvailable => "cannot assign requested address",
        std::io::ErrorKind::AddrInUse => "address already in use",
        _ => return error.to_string(),
    };
    text.to_owned()
}

fn prefixed(text: String) -> String {
    if text.starts_with("error: ") { text } else { format!("error: {text}") }
}

/// `The Deployment "x" is invalid: spec.y: Required value`, one line for each cause when there are several.
fn invalid(status: &Status) -> String {
    let mut text = String::from("The request is invalid");
    let Some(details) = &status.details else {
        return if status.message.is_empty() { text } else { format!("{text}: {}", status.message) };
    };
    if !details.kind.is_empty() || !details.name.is_empty() {
        text = format!("The {} {:?} is invalid", details.kind, details.name);
    } else if !status.message.is_empty() && details.causes.is_empty() {
        text += &format!(": {}", status.message);
    }
    let mut causes: Vec<String> = Vec::new();
    for cause in &details.causes {
        let cause = format!("{}: {}", cause.field, cause.message);
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    match causes.len() {
        0 => text,
        1 => format!("{text}: {}", causes[0]),
        _ => format!("{text}: \n{}", causes.iter().map(|cause| format!("* {cause}")).collect::<Vec<_>>().join("\n")),
    }
}

impl From<std::io::Error> for Error {
    /// That nobody reads the output any more ends a command quietly.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::Exit(0);
        }
        Self::Message(error.to_string())
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Self::Message(format!("{error:#}"))
    }
}

impl From<client::ConfigError> for Error {
    fn from(error: client::ConfigError) -> Self {
        Self::Message(format!("{:#}", anyhow::Error::from(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worded_as_kubectl() {
        let check = |error: Error, text: &str| assert_eq!(error.text(), text);
        let missing = || Error::from(Status::not_found(machinery::gvk::GroupResource::new("", "pods"), "x"));
        check(missing(), "Error from server (NotFound): pods \"x\" not found");
        check(Error::Many(vec![missing(), Error::message("b")]), "Error from server (NotFound): pods \"x\" not found\nb");
        check(
            missing().during("error when creating \"f\""),
            "Error from server (NotFound): error when creating \"f\": pods \"x\" not found",
        );
        check(Error::message("no"), "error: no");
        check(
            Error::NoResource { resource: "foo".into(), group: String::new(), version: String::new() },
            "error: the server doesn't have a resource type \"foo\"",
        );
    }
}
