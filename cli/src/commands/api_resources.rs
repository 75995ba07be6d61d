//! `kctl api-resources` and `kctl api-versions`.

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::{
    kube::{Discovery, Error, Request, Resource, Result, Session},
    output::{Format, OutputFlags, Printer, tabs},
};

/// Lists the kinds that the server serves
#[derive(Args, Clone, Debug)]
pub struct ApiResourcesArgs {
    /// Of this group only
    #[arg(long)]
    api_group: Option<String>,
    /// Of namespaces, or of the cluster (--namespaced=false)
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    namespaced: Option<bool>,
    /// That support all of these verbs
    #[arg(long, value_delimiter = ',')]
    verbs: Vec<String>,
    /// In all of these categories
    #[arg(long, value_delimiter = ',')]
    categories: Vec<String>,
    /// Order
    #[arg(long, value_enum)]
    sort_by: Option<SortBy>,
    /// No line with the names of columns
    #[arg(long)]
    no_headers: bool,
    /// What is remembered will do
    #[arg(long)]
    cached: bool,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SortBy {
    Name,
    Kind,
}

pub async fn run(args: ApiResourcesArgs, session: &Session) -> Result<()> {
    let discovery = if args.cached { Discovery::load(session).await? } else { Discovery::refresh(session).await? };
    let has_all = |wanted: &[String], has: &[String]| wanted.iter().all(|item| has.contains(item));
    let mut found: Vec<&Resource> = discovery
        .preferred()
        .filter(|resource| !resource.verbs.is_empty())
        .filter(|resource| args.api_group.as_ref().is_none_or(|group| *group == resource.group))
        .filter(|resource| args.namespaced.is_none_or(|namespaced| namespaced == resource.namespaced))
        .filter(|resource| has_all(&args.verbs, &resource.verbs) && has_all(&args.categories, &resource.categories))
        .collect();
    found.sort_by(|a, b| match args.sort_by {
        Some(SortBy::Name) => a.plural.cmp(&b.plural),
        Some(SortBy::Kind) => (&a.kind, &a.plural).cmp(&(&b.kind, &b.plural)),
        None => (&a.group, &a.plural).cmp(&(&b.group, &b.plural)),
    });
    let mut printer = Printer::new(&args.output)?;
    match printer.format() {
        Format::Human { wide } => print!("{}", tabs::align(&table(&found, *wide, args.no_headers), tabs::TABLE)),
        Format::Name => found.iter().for_each(|resource| println!("{}", resource.full_name())),
        _ => {
            let items: Vec<_> = found.iter().map(|r| api_resource(r)).collect();
            let list = json!({"apiVersion": "v1", "kind": "APIResourceList", "groupVersion": "", "resources": items});
            printer.print(&list, &|_| String::new())?;
        }
    }
    Ok(())
}

fn api_resource(resource: &Resource) -> serde_json::Value {
    let mut value = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced, "kind": resource.kind,
        "verbs": resource.verbs, "version": resource.version,
    });
    if !resource.group.is_empty() {
        value["group"] = resource.group.as_str().into();
    }
    if !resource.short_names.is_empty() {
        value["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        value["categories"] = json!(resource.categories);
    }
    value
}

fn table(resources: &[&Resource], wide: bool, no_headers: bool) -> String {
    let mut text = String::new();
    if !no_headers {
        text += "NAME\tSHORTNAMES\tAPIVERSION\tNAMESPACED\tKIND";
        text += if wide { "\tVERBS\tCATEGORIES\n" } else { "\n" };
    }
    for resource in resources {
        let Resource { plural, kind, namespaced, .. } = resource;
        text += &format!("{plural}\t{}\t{}\t{namespaced}\t{kind}", resource.short_names.join(","), resource.api_version());
        if wide {
            text += &format!("\t{}\t{}", resource.verbs.join(","), resource.categories.join(","));
        }
        text.push('\n');
    }
    text
}

/// Lists the versions of each group that the server serves
#[derive(Args, Clone, Debug)]
pub struct ApiVersionsArgs {}

pub async fn versions(_: ApiVersionsArgs, session: &Session) -> Result<()> {
    let groups = session.json(Request::get("/apis")).await?;
    let core = session.json(Request::get("/api")).await?;
    let mut found: Vec<String> =
        core["versions"].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    let versions =
        groups["groups"].as_array().into_iter().flatten().flat_map(|group| group["versions"].as_array().into_iter().flatten());
    found.extend(versions.filter_map(|version| version["groupVersion"].as_str().map(str::to_owned)));
    if found.is_empty() {
        return Err(Error::message("couldn't get available api versions from server"));
    }
    found.sort();
    found.iter().for_each(|version| println!("{version}"));
    Ok(())
}
