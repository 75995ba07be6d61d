//! What an editor session has to say: the head of the file, and what came of each object. Pure.

use machinery::status::Reason;

use crate::kube::{Error, Info};

/// What is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Object,
    LastApplied,
    /// What is yet to be created.
    New,
}

impl Subject {
    /// What is said of an object that was saved.
    pub fn done(self) -> &'static str {
        match self {
            Self::Object | Self::LastApplied => "edited",
            Self::New => "created",
        }
    }

    fn head(self) -> &'static str {
        match self {
            Self::Object | Self::New => {
                "\
# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
"
            }
            Self::LastApplied => {
                "\
# Please edit the 'last-applied-configuration' annotations below.
# Lines beginning with a '#' will be ignored, and an empty file will abort the edit.
#
"
            }
        }
    }
}

/// Why an object has to be edited again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reopened {
    what: String,
    causes: Vec<String>,
}

/// What came of one round: of everything that was in the file when the editor ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    reopened: Vec<Reopened>,
    /// Objects that are there no longer.
    pub gone: usize,
    /// Objects that were refused for a reason that is not in the file.
    pub refused: usize,
}

impl Round {
    /// Takes note of a refusal; what is said of it.
    pub fn add(&mut self, info: &Info, error: &Error) -> String {
        let (resource, name) = (info.resource.full_name(), &info.name);
        if error.is(Reason::Invalid) {
            let causes = error.status().and_then(|status| status.details.as_ref()).map(|details| details.causes.as_slice());
            let causes = causes.unwrap_or_default().iter().map(|cause| format!("{}: {}", cause.field, cause.message));
            self.reopened.push(Reopened { what: format!("{resource} {name:?} was not valid"), causes: causes.collect() });
            format!("error: {resource} {name:?} is invalid")
        } else if error.is_not_found() {
            self.gone += 1;
            format!("error: {resource} {name:?} could not be found on the server")
        } else {
            self.refused += 1;
            format!("error: {resource} {name:?} could not be patched: {}", error.bare())
        }
    }

    /// Takes note of a file that holds no objects; what is said of it, in the name of the first one that was in it.
    pub fn unreadable(&mut self, info: &Info, error: &Error) -> String {
        let cause = format!("<nil>: Invalid value: \"The edited file failed validation\": {}", error.bare());
        let (resource, name) = (info.resource.full_name(), &info.name);
        self.reopened.push(Reopened { what: format!("{resource} {name:?} was not valid"), causes: vec![cause] });
        format!("error: {resource} {name:?} is invalid")
    }

    /// Whether the file must be edited again.
    pub fn is_reopened(&self) -> bool {
        !self.reopened.is_empty()
    }

    /// The comment that the file begins with.
    pub fn header(&self, subject: Subject) -> String {
        let mut header = subject.head().to_owned();
        for Reopened { what, causes } in &self.reopened {
            header += &format!("# {what}{}\n", if causes.is_empty() { "" } else { ":" });
            for cause in causes {
                header += &format!("# * {}\n", cause.trim_end().replace('\n', "\n# "));
            }
            header += "#\n";
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use machinery::{field, gvk::GroupKind, status::Status};
    use serde_json::Value;

    use super::*;
    use crate::kube::Resource;

    #[test]
    fn what_came_of_it() {
        let resource = Resource { group: "apps".into(), plural: "deployments".into(), ..Resource::default() };
        let info = Info { resource, namespace: "n".into(), name: "web".into(), object: Value::Null, source: None };
        let mut round = Round::default();
        assert_eq!((round.is_reopened(), round.header(Subject::Object).lines().count()), (false, 4));
        let mut errors = field::FieldErrors::new();
        errors.invalid(&field::Path::new("spec"), 1, "must be\n2");
        let invalid = Status::invalid(GroupKind::new("apps", "Deployment"), "web", errors);
        let said = round.add(&info, &Error::Status(Box::new(invalid)));
        assert_eq!(said, r#"error: deployments.apps "web" is invalid"#);
        let said = round.unreadable(&info, &Error::message("no YAML"));
        assert_eq!(said, r#"error: deployments.apps "web" is invalid"#);
        assert!(round.is_reopened());
        let header = round.header(Subject::LastApplied);
        let want = "\
# deployments.apps \"web\" was not valid:
# * spec: Invalid value: 1: must be
# 2
#
# deployments.apps \"web\" was not valid:
# * <nil>: Invalid value: \"The edited file failed validation\": no YAML
#
";
        assert!(header.ends_with(want), "{header}");
        let said = round.add(&info, &Error::message("no"));
        assert_eq!((said.as_str(), round.refused), (r#"error: deployments.apps "web" could not be patched: no"#, 1));
    }
}
