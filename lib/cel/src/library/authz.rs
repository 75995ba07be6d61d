//! Authorization checks, behind a trait that the caller implements.

use std::fmt;
use std::sync::Arc;

use machinery::names;

use super::prelude::*;
use crate::types::opaque;

pub(crate) const ROWS: &[Row] = &[
    row("path", "authorizer_path", "authorizer.(string) -> pathcheck", Cost::Nominal, path),
    row("group", "authorizer_group", "authorizer.(string) -> groupcheck", Cost::Nominal, group),
    row(
        "serviceAccount",
        "authorizer_serviceaccount",
        "authorizer.(string, string) -> authorizer",
        Cost::Nominal,
        service_account,
    ),
    row("resource", "groupcheck_resource", "groupcheck.(string) -> resourcecheck", Cost::Nominal, resource),
    row("subresource", "resourcecheck_subresource", "resourcecheck.(string) -> resourcecheck", Cost::Nominal, subresource),
    row("namespace", "resourcecheck_namespace", "resourcecheck.(string) -> resourcecheck", Cost::Nominal, namespace),
    row("name", "resourcecheck_name", "resourcecheck.(string) -> resourcecheck", Cost::Nominal, name),
    row("check", "pathcheck_check", "pathcheck.(string) -> decision", Cost::Check, check),
    row("check", "resourcecheck_check", "resourcecheck.(string) -> decision", Cost::Check, check),
    row("errored", "decision_errored", "decision.() -> bool", Cost::Nominal, errored),
    row("error", "decision_error", "decision.() -> string", Cost::Nominal, error),
    row("allowed", "decision_allowed", "decision.() -> bool", Cost::Nominal, allowed),
    row("reason", "decision_reason", "decision.() -> string", Cost::Nominal, reason),
];

pub(crate) const SELECTORS: &[Row] = &[
    row("fieldSelector", "authorizer_fieldselector", "resourcecheck.(string) -> resourcecheck", Cost::Selector, field_selector),
    row("labelSelector", "authorizer_labelselector", "resourcecheck.(string) -> resourcecheck", Cost::Selector, label_selector),
];

/// Answers checks for the user of the request, or for a service account.
pub trait Authorizer: Sync {
    fn authorize(&self, request: &Request<'_>) -> Decision;
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'r> {
    /// Namespace and name, where the check is not for the request's user.
    pub service_account: Option<(&'r str, &'r str)>,
    pub verb: &'r str,
    pub on: Subject<'r>,
}

/// What a check is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject<'r> {
    Path(&'r str),
    Resource(&'r ResourceRequest),
}

/// A resource to be checked, in all its versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceRequest {
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// As written; one that does not read counts as none.
    pub field_selector: String,
    pub label_selector: String,
}

/// The answer to a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

type Account = Option<Arc<(String, String)>>;

/// The steps to a check.
#[derive(Clone)]
pub enum Check<'a> {
    Authorizer { authorizer: &'a dyn Authorizer, service_account: Account },
    Path { authorizer: &'a dyn Authorizer, service_account: Account, path: String },
    Resource { authorizer: &'a dyn Authorizer, service_account: Account, request: ResourceRequest },
    Group { authorizer: &'a dyn Authorizer, service_account: Account, group: String },
    Decision(Decision),
}

impl Check<'_> {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Authorizer { .. } => opaque::AUTHORIZER,
            Self::Path { .. } => opaque::PATH_CHECK,
            Self::Group { .. } => opaque::GROUP_CHECK,
            Self::Resource { .. } => opaque::RESOURCE_CHECK,
            Self::Decision(_) => opaque::DECISION,
        }
    }
}

impl fmt::Debug for Check<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

fn of<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v Check<'a>, EvalError> {
    match args.first() {
        Some(Value::Opaque(Opaque::Check(check))) => Ok(check),
        _ => Err(EvalError::no_overload()),
    }
}

fn text(args: &[Value<'_>], index: usize) -> Result<String, EvalError> {
    args.get(index).and_then(Value::as_str).map(str::to_owned).ok_or_else(EvalError::no_overload)
}

fn made(check: Check<'_>) -> Outcome<'_> {
    Ok(Value::Opaque(Opaque::Check(Arc::new(check))))
}

fn path<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let Check::Authorizer { authorizer, service_account } = of(args)? else { return Err(EvalError::no_overload()) };
    let path = text(args, 1)?;
    if path.trim().is_empty() {
        return Err(EvalError::failed("path must not be empty"));
    }
    made(Check::Path { authorizer: *authorizer, service_account: service_account.clone(), path })
}

fn group<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let Check::Authorizer { authorizer, service_account } = of(args)? else { return Err(EvalError::no_overload()) };
    made(Check::Group { authorizer: *authorizer, service_account: service_account.clone(), group: text(args, 1)? })
}

fn service_account<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let Check::Authorizer { authorizer, .. } = of(args)? else { return Err(EvalError::no_overload()) };
    let (namespace, name) = (text(args, 1)?, text(args, 2)?);
    if !names::dns1123_subdomain(&name).is_empty() {
        return Err(EvalError::failed("Invalid service account name"));
    }
    if !names::dns1123_label(&namespace).is_empty() {
        return Err(EvalError::failed("Invalid service account namespace"));
    }
    made(Check::Authorizer { authorizer: *authorizer, service_account: Some(Arc::new((namespace, name))) })
}

fn resource<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let Check::Group { authorizer, service_account, group } = of(args)? else { return Err(EvalError::no_overload()) };
    let resource = text(args, 1)?;
    if resource.trim().is_empty() {
        return Err(EvalError::failed("resource must not be empty"));
    }
    let request = ResourceRequest { group: group.clone(), resource, ..ResourceRequest::default() };
    made(Check::Resource { authorizer: *authorizer, service_account: service_account.clone(), request })
}

/// The resource check with one part set.
fn with<'a>(args: &[Value<'a>], set: fn(&mut ResourceRequest, String)) -> Outcome<'a> {
    let Check::Resource { authorizer, service_account, request } = of(args)? else { return Err(EvalError::no_overload()) };
    let mut request = request.clone();
    set(&mut request, text(args, 1)?);
    made(Check::Resource { authorizer: *authorizer, service_account: service_account.clone(), request })
}

fn subresource<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    with(args, |request, value| request.subresource = value)
}

fn namespace<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    with(args, |request, value| request.namespace = value)
}

fn name<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    with(args, |request, value| request.name = value)
}

fn field_selector<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    with(args, |request, value| request.field_selector = value)
}

fn label_selector<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    with(args, |request, value| request.label_selector = value)
}

fn check<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let verb = text(args, 1)?;
    let (authorizer, account, on) = match of(args)? {
        Check::Path { authorizer, service_account, path } => (authorizer, service_account, Subject::Path(path)),
        Check::Resource { authorizer, service_account, request } => (authorizer, service_account, Subject::Resource(request)),
        _ => return Err(EvalError::no_overload()),
    };
    let service_account = account.as_ref().map(|account| (account.0.as_str(), account.1.as_str()));
    made(Check::Decision(authorizer.authorize(&Request { service_account, verb: &verb, on })))
}

fn decision<'v>(args: &'v [Value<'_>]) -> Result<&'v Decision, EvalError> {
    match of(args)? {
        Check::Decision(decision) => Ok(decision),
        _ => Err(EvalError::no_overload()),
    }
}

fn errored<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    decision(args).map(|d| Value::Bool(d.error.is_some()))
}

fn error<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    decision(args).map(|d| Value::string(d.error.clone().unwrap_or_default()))
}

fn allowed<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    decision(args).map(|d| Value::Bool(d.allowed))
}

fn reason<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    decision(args).map(|d| Value::string(d.reason.clone()))
}
