//! `kctl wait`: returns when objects are as wanted.

use std::time::Duration;

use clap::Args;
use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::time::Instant;

use super::targets::Targets;
use crate::{
    kube::{Error, Info, Request, Result, Session, globals::duration, select, watch::Watch},
    output::{
        OutputFlags,
        format::{DryRun, Reporter, Template},
    },
};

const CONCURRENT: usize = 16;
const FOREVER: Duration = Duration::from_secs(7 * 24 * 3600);
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Waits until objects have a condition, a value, exist, or are gone
///
///   kctl wait --for=condition=Available deploy/web --timeout=60s
///   kctl wait --for=jsonpath='{.status.phase}'=Running pod/a
///   kctl wait --for=delete pod/a         kctl wait --for=create cm/x
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct WaitArgs {
    #[command(flatten)]
    targets: Targets,
    /// condition=NAME[=VALUE], jsonpath='{PATH}'[=VALUE], delete or create; of several, each in its turn
    #[arg(long = "for", value_name = "WHAT")]
    conditions: Vec<String>,
    /// How long; 0 looks once, a negative time waits for ever
    #[arg(long, default_value = "30s", allow_hyphen_values = true)]
    timeout: String,
    /// Look at the objects of the files as they are there
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    output: OutputFlags,
}

/// What is waited for.
#[derive(Debug)]
enum Wanted {
    Deleted,
    Created,
    Condition { kind: String, status: String },
    Field { path: Template, value: Option<String> },
}

impl Wanted {
    fn parse(text: &str) -> Result<Self> {
        let lower = text.to_lowercase();
        if lower == "delete" {
            return Ok(Self::Deleted);
        }
        if lower == "create" {
            return Ok(Self::Created);
        }
        if lower.starts_with("condition=") {
            let rest = &text["condition=".len()..];
            let (kind, status) = rest.split_once('=').unwrap_or((rest, "true"));
            return Ok(Self::Condition { kind: kind.to_owned(), status: status.to_owned() });
        }
        if lower.starts_with("jsonpath=") {
            let rest = &text["jsonpath=".len()..];
            let rest = rest.trim_matches('\'');
            let (path, value) = match rest.rfind('}') {
                Some(end) => (&rest[..=end], &rest[end + 1..]),
                None => rest.split_once('=').unwrap_or((rest, "")),
            };
            let value = value.trim_start_matches('\'').trim_start_matches('=').trim_matches('\'');
            if rest.ends_with('=') {
                return Err(Error::message("jsonpath wait has to have a value after equal sign"));
            }
            let value = (!value.is_empty()).then(|| value.to_owned());
            return Ok(Self::Field { path: Template::relaxed(path)?, value });
        }
        let shown = if text.is_empty() { "[]".to_owned() } else { format!("{text:?}") };
        Err(Error::message(format!("unrecognized condition: {shown}")))
    }

    fn met(&self, object: Option<&Value>) -> Result<bool> {
        Ok(match (self, object) {
            (Self::Deleted, object) => object.is_none(),
            (Self::Created, object) => object.is_some(),
            (_, None) => false,
            (Self::Condition { kind, status }, Some(object)) => {
                let generation = object["metadata"]["generation"].as_i64();
                let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
                let found = conditions
                    .into_iter()
                    .find(|condition| condition["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(kind)));
                found.is_some_and(|condition| {
                    let observed = condition["observedGeneration"].as_i64().or(object["status"]["observedGeneration"].as_i64());
                    let current = generation.zip(observed).is_none_or(|(generation, observed)| observed >= generation);
                    current && condition["status"].as_str().is_some_and(|s| s.eq_ignore_ascii_case(status))
                })
            }
            (Self::Field { path, value }, Some(object)) => {
                let found = path.values(object);
                match (found.as_slice(), value) {
                    ([], _) => false,
                    ([_, _, ..], _) => return Err(Error::message("given jsonpath expression matches more than one value")),
                    ([Value::Object(_) | Value::Array(_)], Some(_)) => {
                        return Err(Error::message("jsonpath leads to a nested object or list which can not be compared"));
                    }
                    ([_], None) => true,
                    ([found], Some(value)) => crate::output::format::plain(found).trim() == value,
                }
            }
        })
    }
}

pub async fn run(args: WaitArgs, session: &Session) -> Result<()> {
    let wanted = args.conditions.iter().map(|text| Wanted::parse(text)).collect::<Result<Vec<_>>>()?;
    let Some(first) = wanted.first() else { return Err(Error::message("unrecognized condition: []")) };
    let mut reporter = Reporter::new(&args.output, DryRun::No)?;
    if args.local {
        let infos = select::local_files(&args.targets.files).await?;
        return Error::all(infos.iter().filter_map(|info| look_once(info, &wanted, &mut reporter)).collect());
    }
    args.targets.check()?;
    let timeout = match args.timeout.strip_prefix('-') {
        Some(_) => FOREVER,
        None => duration(&args.timeout).map_err(Error::message)?,
    };
    let until = Instant::now() + timeout;
    let infos = infos(&args, &wanted, session, until).await?;
    if infos.is_empty() {
        if matches!(first, Wanted::Deleted) {
            return Ok(());
        }
        return Err(Error::message("no matching resources found"));
    }
    if timeout.is_zero() {
        return Error::all(infos.iter().filter_map(|info| look_once(info, &wanted, &mut reporter)).collect());
    }
    let waits = stream::iter(&infos).map(|info| each(session, info, &wanted, until)).buffered(CONCURRENT);
    let outcomes: Vec<_> = waits.collect().await;
    let mut errors = Vec::new();
    for (info, outcome) in infos.iter().zip(outcomes) {
        let (seen, error) = outcome;
        for (wanted, object) in wanted.iter().zip(&seen) {
            let what = if matches!(wanted, Wanted::Deleted) { "deleted" } else { "condition met" };
            reporter.done(info, object.as_ref().unwrap_or(&info.object), what)?;
        }
        errors.extend(error);
    }
    Error::all(errors)
}

/// What was seen as one condition after the other was met, and why the next was not.
async fn each(session: &Session, info: &Info, wanted: &[Wanted], until: Instant) -> (Vec<Option<Value>>, Option<Error>) {
    let mut seen = Vec::new();
    for wanted in wanted {
        match one(session, info, wanted, None, until).await {
            Ok(object) => seen.push(object),
            Err(error) => return (seen, Some(error)),
        }
    }
    (seen, None)
}

/// Without time to wait, what is now decides.
fn look_once(info: &Info, wanted: &[Wanted], reporter: &mut Reporter) -> Option<Error> {
    for wanted in wanted {
        let said = match wanted.met(Some(&info.object)) {
            Ok(true) => reporter.done(info, &info.object, "condition met"),
            Ok(false) => Err(Error::message(format!("condition not met for {}/{}", info.resource.plural, info.name))),
            Err(error) => Err(error),
        };
        if let Err(error) = said {
            return Some(error);
        }
    }
    None
}

async fn infos(args: &WaitArgs, wanted: &[Wanted], session: &Session, until: Instant) -> Result<Vec<Info>> {
    let created = wanted.iter().any(|wanted| matches!(wanted, Wanted::Created));
    let deleted = wanted.iter().any(|wanted| matches!(wanted, Wanted::Deleted));
    loop {
        let (infos, mut errors) = args.targets.fetch(session).await?;
        let missing = errors.iter().any(Error::is_not_found);
        if created && (missing || infos.is_empty()) && Instant::now() < until {
            tokio::time::sleep(RETRY_DELAY).await;
            continue;
        }
        if created && missing {
            return Err(Error::message("timed out waiting for the condition"));
        }
        if deleted {
            errors.retain(|error| !error.is_not_found());
        }
        Error::all(errors)?;
        return Ok(infos);
    }
}

/// Waits until an object that was deleted is gone, or another has its name.
pub async fn gone(session: &Session, info: &Info, uid: Option<&str>, until: Instant) -> Result<()> {
    one(session, info, &Wanted::Deleted, uid, until).await.map(drop)
}

/// Waits for one condition of one object, and returns the object as it was then.
async fn one(session: &Session, info: &Info, wanted: &Wanted, uid: Option<&str>, until: Instant) -> Result<Option<Value>> {
    let late = || Error::message(format!("timed out waiting for the condition on {}/{}", info.resource.plural, info.name));
    let mut tried = false;
    loop {
        if tried && Instant::now() >= until {
            return Err(late());
        }
        tried = true;
        let path = info.resource.path(&info.namespace, None);
        let request = Request::get(path).query("fieldSelector", format!("metadata.name={}", info.name));
        let mut list = session.json(request.clone()).await?;
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let object = list["items"].get_mut(0).map(Value::take);
        let ours = |object: &Value| uid.is_none_or(|uid| machinery::meta::uid(object) == uid);
        let object = object.filter(ours);
        if wanted.met(object.as_ref())? {
            return Ok(object);
        }
        let watch = async {
            let mut watch = Watch::open(session, request, &revision).await?;
            while let Some(event) = watch.next().await? {
                let object = match event.kind.as_str() {
                    "BOOKMARK" => continue,
                    "DELETED" => None,
                    _ => Some(event.object).filter(ours),
                };
                if wanted.met(object.as_ref())? {
                    return Ok(Some(object));
                }
            }
            Ok(None)
        };
        match tokio::time::timeout_at(until, watch).await {
            Err(_) => return Err(late()),
            Ok(Ok(Some(object))) => return Ok(object),
            Ok(Ok(None)) => {}
            // The watch was too old or cut: look again.
            Ok(Err(Error::Status(status))) if status.code() == 410 => {}
            Ok(Err(Error::Connect(_))) => tokio::time::sleep(RETRY_DELAY).await,
            Ok(Err(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_and_fields() {
        let pod = json!({
            "metadata": {"generation": 2},
            "status": {"phase": "Running", "observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "True", "observedGeneration": 1}]},
        });
        let met = |text: &str| Wanted::parse(text).unwrap().met(Some(&pod)).unwrap();
        assert!(
            met("condition=Ready") && met("condition=ready=true") && !met("condition=Ready=False") && !met("condition=Other")
        );
        assert!(!met("condition=Old"), "an outdated condition says nothing");
        assert!(
            met("jsonpath={.status.phase}=Running")
                && met("jsonpath='{.status.phase}'=Running")
                && met("jsonpath=.status.phase=Running")
        );
        assert!(!met("jsonpath={.status.phase}=Pending") && met("jsonpath={.status.phase}") && !met("jsonpath={.status.x}"));
        assert!(met("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True"));
        assert!(!met("delete") && met("create") && Wanted::Deleted.met(None).unwrap());
        assert!(Wanted::parse("sometime").is_err());
    }
}
