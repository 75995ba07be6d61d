//! `kctl get`: shows objects.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::Value;

use crate::{
    kube::{
        Error, Files, Info, Query, Request, Resource, Result, Session, complete,
        select::{CHUNK, Target, info},
        watch::Watch,
    },
    output::{
        Format, OutputFlags, Printer, Table, TableOptions,
        format::{Template, list_of},
        table::{self, Column},
        tabs,
    },
};

/// Shows objects: all of a type, or those named
///
///   kctl get pods                        pods of the namespace
///   kctl get pods,services -A            of all namespaces
///   kctl get deploy/web -o yaml          one object in full
///   kctl get pods -l app=web -w          and what happens to them
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct GetArgs {
    /// TYPE[,TYPE…] [NAME…] or TYPE/NAME…
    #[arg(value_name = "TYPE [NAME] | TYPE/NAME", add = ArgValueCompleter::new(complete::resources))]
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: OutputFlags,
    /// Objects whose labels match (a=b,c!=d,e in (f,g))
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Objects whose fields match (metadata.name=x,status.phase!=Running)
    #[arg(long)]
    field_selector: Option<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Then show every change
    #[arg(short, long)]
    watch: bool,
    /// Show changes only
    #[arg(long)]
    watch_only: bool,
    /// Show what kind of change it was
    #[arg(long)]
    output_watch_events: bool,
    /// Order by a field: a JSONPath expression
    #[arg(long, value_name = "FIELD")]
    sort_by: Option<String>,
    /// Nothing found is no error and nothing is said
    #[arg(long)]
    ignore_not_found: bool,
    /// No line with the names of columns
    #[arg(long)]
    no_headers: bool,
    /// Labels in the last column
    #[arg(long)]
    show_labels: bool,
    /// A column for each of these labels
    #[arg(short = 'L', long, value_delimiter = ',', value_name = "LABEL")]
    label_columns: Vec<String>,
    /// Names with their kind
    #[arg(long)]
    show_kind: bool,
    /// Objects per request; 0 is all at once
    #[arg(long, default_value_t = CHUNK)]
    chunk_size: usize,
    /// A subresource: status, scale, …
    #[arg(long)]
    subresource: Option<String>,
    /// Print what the server answers at this path
    #[arg(long, value_name = "PATH")]
    raw: Option<String>,
    /// The server makes the columns; else names and ages are shown
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true", hide_default_value = true)]
    server_print: bool,
}

impl GetArgs {
    fn check(&self) -> Result<()> {
        let raw = self.raw.is_some();
        let refusals = [
            (raw && !self.words.is_empty(), "arguments may not be passed when --raw is specified"),
            (
                raw && self.selector.is_some(),
                "--raw may not be specified with other flags that filter the server request or alter the output",
            ),
            (raw && self.output.output.is_some(), "--raw and --output are mutually exclusive"),
            (
                self.output_watch_events && !self.watch && !self.watch_only,
                "--output-watch-events option can only be used with --watch or --watch-only",
            ),
        ];
        match refusals.iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err(Error::message(*why)),
            None => Ok(()),
        }
    }

    /// What is asked for when rows are wanted.
    fn accept(&self) -> &'static str {
        if self.server_print { table::ACCEPT } else { crate::kube::session::JSON }
    }
}

pub async fn run(args: GetArgs, session: &Session) -> Result<()> {
    args.check()?;
    if let Some(path) = &args.raw {
        let body = session.bytes(Request::get(path.clone()).endless()).await?;
        print!("{}", String::from_utf8_lossy(&body));
        return Ok(());
    }
    let printer = Printer::new(&args.output)?;
    let query = Query {
        words: args.words.clone(),
        files: args.files.clone(),
        selector: args.selector.clone(),
        field_selector: args.field_selector.clone(),
        all: false,
        all_namespaces: args.all_namespaces,
        subresource: args.subresource.clone(),
        types_mean_all: true,
    };
    if query.words.is_empty() && query.files.is_empty() {
        return Err(Error::Plain(
            "You must specify the type of resource to get. Use \"kctl api-resources\" for a complete list of supported resources.\n\n\
             error: Required resource not specified.\n\
             Use \"kctl explain <resource>\" for a detailed description of that resource (e.g. kctl explain pods).\nSee 'kctl get -h' for help and examples"
                .into(),
        ));
    }
    let targets = targets(&query, session).await?;
    let outcome = if args.watch || args.watch_only {
        follow(&args, session, &query, &targets, printer).await
    } else if printer.format().is_human() {
        tables(&args, session, &query, &targets).await
    } else {
        objects(&args, session, &query, &targets, printer).await
    };
    match outcome {
        Err(error) if args.ignore_not_found && error.is_not_found() => Ok(()),
        outcome => outcome,
    }
}

/// Files are read by the names in them.
async fn targets(query: &Query, session: &Session) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    if !query.files.is_empty() {
        for Info { resource, namespace, name, .. } in crate::kube::select::from_files(session, &query.files).await? {
            targets.push(Target::Object { resource, namespace, name });
        }
    }
    if !query.words.is_empty() {
        targets.extend(query.targets(session).await?);
    }
    Ok(targets)
}

/// Rows for people, grouped by type.
async fn tables(args: &GetArgs, session: &Session, query: &Query, targets: &[Target]) -> Result<()> {
    let mut groups: Vec<(Resource, Table)> = Vec::new();
    let mut errors = Vec::new();
    for target in targets {
        match table_of(args, session, query, target).await {
            Ok(found) => match groups.last_mut() {
                Some((resource, table)) if resource == target.resource() => table.rows.extend(found.rows),
                _ => groups.push((target.resource().clone(), found)),
            },
            Err(error) if args.ignore_not_found && error.is_not_found() => {}
            Err(error) => errors.push(error),
        }
    }
    let with_kind = args.show_kind
        || groups.iter().any(|(resource, _)| resource.kind != groups[0].0.kind || resource.group != groups[0].0.group);
    let mut written = false;
    for (resource, mut group) in groups {
        if let Some(field) = &args.sort_by {
            Template::relaxed(field)?;
            // A field that no row has is nothing to order by, and ends the output: as kubectl does it.
            if sort(&mut group.rows, field, |row| &row.object).is_err() {
                continue;
            }
        }
        let text = group.render(&options(args, &resource, with_kind));
        if text.is_empty() {
            continue;
        }
        if written && !args.no_headers {
            println!();
        }
        print!("{}", tabs::align(&text, tabs::TABLE));
        written = true;
    }
    if !written && errors.is_empty() && !args.ignore_not_found {
        if !args.all_namespaces && targets.iter().all(|target| target.resource().namespaced) {
            eprintln!("No resources found in {} namespace.", session.namespace);
        } else {
            eprintln!("No resources found");
        }
    }
    Error::all(errors)
}

fn options(args: &GetArgs, resource: &Resource, with_kind: bool) -> TableOptions {
    TableOptions {
        wide: matches!(args.output.output.as_deref(), Some("wide")),
        no_headers: args.no_headers,
        show_labels: args.show_labels,
        label_columns: args.label_columns.clone(),
        namespace: args.all_namespaces && resource.namespaced,
        kind: with_kind.then(|| resource.label()),
    }
}

async fn table_of(args: &GetArgs, session: &Session, query: &Query, target: &Target) -> Result<Table> {
    let mut request = query.request(target).accept(args.accept());
    if args.sort_by.is_some() {
        request = request.query("includeObject", "Object");
    }
    let mut all = Table::default();
    let mut next = String::new();
    loop {
        let mut page = request.clone();
        if matches!(target, Target::Collection { .. }) && args.chunk_size > 0 {
            page = page.query("limit", args.chunk_size).query_some("continue", Some(&next));
        }
        let answer = session.json(page).await.map_err(|error| query.about(target, error))?;
        next = answer["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        let found = rows(answer);
        if all.columns.is_empty() {
            all.columns = found.columns;
        }
        all.rows.extend(found.rows);
        if next.is_empty() {
            return Ok(all);
        }
    }
}

/// A table, whatever the server sent.
fn rows(mut answer: Value) -> Table {
    if answer["kind"] == "Table" {
        return Table::parse(answer).unwrap_or_default();
    }
    let objects = match answer["items"].take() {
        Value::Array(items) => items,
        _ => vec![answer],
    };
    Table::of_objects(objects, jiff::Timestamp::now())
}

/// Whole objects for programs: one object as it is, everything else as a list.
async fn objects(args: &GetArgs, session: &Session, query: &Query, targets: &[Target], mut printer: Printer) -> Result<()> {
    let single = matches!(targets, [Target::Object { .. }]);
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for target in targets {
        let answer = match target {
            Target::Object { resource, .. } => {
                session.json(query.request(target)).await.map(|object| vec![(resource.clone(), object)])
            }
            Target::Collection { resource, .. } => collection(args, session, query.request(target))
                .await
                .map(|items| items.into_iter().map(|item| (resource.clone(), info(resource.clone(), item).object)).collect()),
        };
        match answer {
            Ok(objects) => found.extend(objects),
            Err(error) if args.ignore_not_found && error.is_not_found() => {}
            Err(error) if single => return Err(error),
            Err(error) => errors.push(error),
        }
    }
    if found.is_empty() && args.ignore_not_found {
        return Error::all(errors);
    }
    if let Some(field) = &args.sort_by {
        sort(&mut found, field, |(_, object)| object)?;
    }
    if let Format::CustomColumns { headers, .. } = printer.format_mut() {
        *headers = !args.no_headers;
    }
    let resources: Vec<Resource> = found.iter().map(|(resource, _)| resource.clone()).collect();
    let label = |object: &Value| {
        let kind = machinery::meta::kind(object);
        let resource = resources
            .iter()
            .find(|resource| resource.kind == kind && resource.api_version() == machinery::meta::api_version(object));
        let kind = resource.map_or_else(|| kind.to_lowercase(), Resource::label);
        format!("{kind}/{}", machinery::meta::name(object))
    };
    if single && found.len() == 1 {
        printer.print(&found[0].1, &label)?;
    } else {
        let objects = found.into_iter().map(|(_, object)| object).collect();
        printer.print(&list_of(objects, ""), &label)?;
    }
    Error::all(errors)
}

async fn collection(args: &GetArgs, session: &Session, request: Request) -> Result<Vec<Value>> {
    if args.chunk_size > 0 {
        return Ok(crate::kube::select::list(session, request).await?.0);
    }
    let mut answer = session.json(request).await?;
    Ok(answer["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// Orders by a field as kubectl does: numbers and quantities by value, text naturally, what has no such field first.
fn sort<T>(items: &mut [T], field: &str, object: impl Fn(&T) -> &Value) -> Result<()> {
    let field = Template::relaxed(field)?;
    let key = |item: &T| field.values(object(item)).into_iter().next();
    if !items.is_empty() && items.iter().all(|item| key(item).is_none()) {
        return Err(Error::message(format!("couldn't find any field with path {:?} in the list of objects", field.text())));
    }
    items.sort_by_cached_key(|item| SortKey::of(key(item)));
    Ok(())
}

#[derive(Clone, Debug)]
enum SortKey {
    Absent,
    Bool(bool),
    Number(f64),
    Text(String),
}

impl SortKey {
    fn of(value: Option<Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::Absent,
            Some(Value::Bool(value)) => Self::Bool(value),
            Some(Value::Number(number)) => Self::Number(number.as_f64().unwrap_or(0.0)),
            Some(Value::String(text)) => match text.parse::<machinery::quantity::Quantity>() {
                Ok(quantity) => Self::Number(quantity.milli_value() as f64 / 1000.0),
                Err(_) => Self::Text(text),
            },
            Some(other) => Self::Text(other.to_string()),
        }
    }
}

impl SortKey {
    /// Where the variant stands among the others: what is absent comes first.
    fn rank(&self) -> u8 {
        match self {
            Self::Absent => 0,
            Self::Bool(_) => 1,
            Self::Number(_) => 2,
            Self::Text(_) => 3,
        }
    }
}

impl PartialEq for SortKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for SortKey {}

impl PartialOrd for SortKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SortKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// The objects as they are, then every change. A watch that ends is taken up where it ended.
async fn follow(args: &GetArgs, session: &Session, query: &Query, targets: &[Target], mut printer: Printer) -> Result<()> {
    let [target] = targets else {
        return Err(Error::message("you may only specify a single resource type"));
    };
    let resource = target.resource();
    let human = printer.format().is_human();
    let mut shown = Rows {
        columns: Vec::new(),
        options: options(args, resource, args.show_kind),
        widths: Vec::new(),
        events: args.output_watch_events,
    };
    let label = |object: &Value| format!("{}/{}", resource.label(), machinery::meta::name(object));

    let mut request = query.request(target);
    if human {
        request = request.accept(table::ACCEPT);
    }
    let first = session.json(request).await?;
    let mut revision = first["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    if human && let Some(object) = first["rows"].get(0).filter(|_| matches!(target, Target::Object { .. })) {
        let own = object["object"]["metadata"]["resourceVersion"].as_str();
        revision = own.unwrap_or(&revision).to_owned();
    }
    if !args.watch_only {
        if human {
            shown.print(rows(first), "ADDED");
        } else {
            let items = first["items"].as_array().cloned().unwrap_or_else(|| vec![first.clone()]);
            for item in items {
                let item = info(resource.clone(), item).object;
                printer.print(&as_event(args, "ADDED", item), &label)?;
            }
        }
    }
    let mut request = match target {
        Target::Object { resource, namespace, name } => {
            Request::get(resource.path(namespace, None)).query("fieldSelector", format!("metadata.name={name}"))
        }
        Target::Collection { .. } => query.request(target),
    };
    if human {
        request = request.accept(table::ACCEPT);
    }
    loop {
        let mut watch = Watch::open(session, request.clone(), &revision).await?;
        while let Some(event) = watch.next().await? {
            let object = if human { &event.object["rows"][0]["object"] } else { &event.object };
            let version = [&object["metadata"]["resourceVersion"], &event.object["metadata"]["resourceVersion"]];
            if let Some(version) = version.into_iter().find_map(|version| version.as_str().filter(|v| !v.is_empty())) {
                revision = version.to_owned();
            }
            if event.kind == "BOOKMARK" {
                continue;
            }
            if human {
                shown.print(rows(event.object), &event.kind);
            } else {
                printer.print(&as_event(args, &event.kind, event.object), &label)?;
            }
        }
    }
}

fn as_event(args: &GetArgs, kind: &str, object: Value) -> Value {
    if args.output_watch_events { serde_json::json!({"type": kind, "object": object}) } else { object }
}

/// Rows of a watch: one header, and columns that never become narrower.
struct Rows {
    columns: Vec<Column>,
    options: TableOptions,
    widths: Vec<usize>,
    events: bool,
}

impl Rows {
    fn print(&mut self, mut table: Table, event: &str) {
        // A server names the columns once, in the first table.
        if table.columns.is_empty() {
            table.columns.clone_from(&self.columns);
        } else {
            self.columns.clone_from(&table.columns);
        }
        let mut text = table.render(&self.options);
        if self.events && !text.is_empty() {
            let headed = !self.options.no_headers;
            let lines = text.lines().enumerate().map(|(at, line)| {
                let first = if at == 0 && headed { "EVENT" } else { event };
                format!("{first}\t{line}\n")
            });
            text = lines.collect();
        }
        if !text.is_empty() {
            print!("{}", tabs::align_from(&text, tabs::TABLE, &mut self.widths));
            self.options.no_headers = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sorts_by_value() {
        let sorted = |values: &[Value]| {
            let mut items: Vec<Value> = values.iter().map(|value| json!({"a": value})).collect();
            sort(&mut items, ".a", |item| item).unwrap();
            items.into_iter().map(|mut item| item["a"].take()).collect::<Vec<_>>()
        };
        assert_eq!(sorted(&[json!(10), json!(9), json!(null)]), [json!(null), json!(9), json!(10)]);
        assert_eq!(sorted(&[json!("1Gi"), json!("2k"), json!("100m")]), [json!("100m"), json!("2k"), json!("1Gi")]);
        assert_eq!(sorted(&[json!("b"), json!("a")]), [json!("a"), json!("b")]);
        let mut none = [json!({"b": 1})];
        assert!(sort(&mut none, ".a", |item| item).is_err());
    }
}
