//! `kctl events`: what happened, oldest first.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use jiff::Timestamp;
use machinery::meta;
use serde_json::Value;

use crate::{
    kube::{Error, Request, Result, Session, complete, select, watch::Watch},
    output::{OutputFlags, Printer, format::list_of, tabs},
};

/// Shows events: those of a namespace, or of one object
///
///   kctl events                          kctl events --for pod/web-1 --watch
///   kctl events -A --types=Warning
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct EventsArgs {
    /// Only of one object: TYPE/NAME
    #[arg(long = "for", value_name = "TYPE/NAME", add = ArgValueCompleter::new(complete::resources))]
    about: Option<String>,
    /// Only of these types: Normal, Warning
    #[arg(long, value_delimiter = ',')]
    types: Vec<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Then show what happens
    #[arg(short, long)]
    watch: bool,
    /// No line with the names of columns
    #[arg(long)]
    no_headers: bool,
    #[arg(long, default_value_t = select::CHUNK, hide = true)]
    chunk_size: usize,
    #[command(flatten)]
    output: OutputFlags,
}

pub async fn run(args: EventsArgs, session: &Session) -> Result<()> {
    if args.types.iter().any(|kind| !["normal", "warning"].contains(&kind.to_lowercase().as_str())) {
        return Err(Error::message("valid --types are Normal or Warning"));
    }
    let mut printer = Printer::new(&args.output)?;
    let namespace = if args.all_namespaces { "" } else { &session.namespace };
    let path = if namespace.is_empty() { "/api/v1/events".into() } else { format!("/api/v1/namespaces/{namespace}/events") };
    let request = Request::get(path).query_some("fieldSelector", about(&args, session).await?);
    let (mut events, revision) = select::list(session, request.clone()).await?;
    events.retain(|event| wanted(&args, event));
    events.sort_by_cached_key(last_seen);
    let mut rows = Rows { namespace: args.all_namespaces, headed: args.no_headers, widths: Vec::new() };
    let label = |event: &Value| format!("event/{}", meta::name(event));
    if events.is_empty() && !args.watch {
        if args.all_namespaces {
            eprintln!("No events found.");
        } else {
            eprintln!("No events found in {} namespace.", session.namespace);
        }
        return Ok(());
    }
    if printer.format().is_human() {
        print!("{}", rows.text(&events, Timestamp::now()));
    } else {
        let events = events.into_iter().map(complete_event).collect();
        printer.print(&list_of(events, ""), &label)?;
    }
    if !args.watch {
        return Ok(());
    }
    let mut watch = Watch::open(session, request, &revision).await?;
    while let Some(event) = watch.next().await? {
        if event.kind == "BOOKMARK" || event.kind == "DELETED" || !wanted(&args, &event.object) {
            continue;
        }
        if printer.format().is_human() {
            print!("{}", rows.text(&[event.object], Timestamp::now()));
        } else {
            printer.print(&event.object, &label)?;
        }
    }
    Ok(())
}

/// Items of a list do not say what they are.
fn complete_event(mut event: Value) -> Value {
    event["apiVersion"] = "v1".into();
    event["kind"] = "Event".into();
    event
}

/// The selector of the object that `--for` names.
async fn about(args: &EventsArgs, session: &Session) -> Result<Option<String>> {
    let Some(word) = &args.about else { return Ok(None) };
    let (kind, name) = match word.split('/').collect::<Vec<_>>()[..] {
        [kind, name] if !kind.is_empty() && !name.is_empty() => (kind, name),
        _ => return Err(Error::message("--for must be in resource/name form")),
    };
    let resource = session.resource(kind).await?;
    Ok(Some(format!("involvedObject.kind={},involvedObject.name={name}", resource.kind)))
}

fn wanted(args: &EventsArgs, event: &Value) -> bool {
    let kind = event["type"].as_str().unwrap_or_default();
    args.types.is_empty() || args.types.iter().any(|wanted| wanted.eq_ignore_ascii_case(kind))
}

/// The time of an event: of its series, its last, or its only one.
fn last_seen(event: &Value) -> Option<Timestamp> {
    let times = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]];
    times.into_iter().find_map(|time| machinery::time::parse(time.as_str()?).ok())
}

fn first_seen(event: &Value) -> Option<Timestamp> {
    let times = [&event["firstTimestamp"], &event["eventTime"]];
    times.into_iter().find_map(|time| machinery::time::parse(time.as_str()?).ok())
}

struct Rows {
    namespace: bool,
    /// The names of columns stand already, or are not wanted.
    headed: bool,
    widths: Vec<usize>,
}

impl Rows {
    fn text(&mut self, events: &[Value], now: Timestamp) -> String {
        let mut text = String::new();
        if !std::mem::replace(&mut self.headed, true) {
            text += if self.namespace { "NAMESPACE\t" } else { "" };
            text += "LAST SEEN\tTYPE\tREASON\tOBJECT\tMESSAGE\n";
        }
        for event in events {
            if self.namespace {
                text += &format!("{}\t", meta::namespace(event));
            }
            let part = |path: &[&str]| crate::output::table::escape(meta::text(event, path));
            let object = format!("{}/{}", part(&["involvedObject", "kind"]), part(&["involvedObject", "name"]));
            let message = part(&["message"]);
            text += &format!("{}\t{}\t{}\t{object}\t{}\n", when(event, now), part(&["type"]), part(&["reason"]), message.trim());
        }
        tabs::align_from(&text, tabs::TABLE, &mut self.widths)
    }
}

/// `5m`, or `5m (x3 over 1h)` for what happened several times.
fn when(event: &Value, now: Timestamp) -> String {
    let age = |time: Option<Timestamp>| time.map_or_else(|| "<unknown>".into(), |time| machinery::time::age(time, now));
    let count = event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(0);
    let last = age(last_seen(event));
    if count > 1 { format!("{last} (x{count} over {})", age(first_seen(event))) } else { last }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_and_times() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let event = json!({
            "metadata": {"namespace": "n"}, "involvedObject": {"kind": "Pod", "name": "p"}, "type": "Normal", "reason": "Started",
            "message": "it runs\n", "count": 3, "firstTimestamp": "2026-01-01T10:00:00Z", "lastTimestamp": "2026-01-01T11:55:00Z",
        });
        let mut rows = Rows { namespace: false, headed: false, widths: Vec::new() };
        let want = "LAST SEEN           TYPE     REASON    OBJECT   MESSAGE\n\
                    5m (x3 over 120m)   Normal   Started   Pod/p    it runs\n";
        assert_eq!(rows.text(&[event], now), want);
        let single = json!({"eventTime": "2026-01-01T11:59:00.000000Z"});
        assert_eq!(when(&single, now), "60s");
        assert_eq!(when(&json!({}), now), "<unknown>");
    }
}
