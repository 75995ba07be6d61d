//! The objects that a command line means: `TYPE`, `TYPE NAME…`, `TYPE/NAME…`, `TYPE,TYPE`, `all`, files, selectors.

use futures::{StreamExt, stream};
use serde_json::Value;

use super::{Error, Files, Request, Resource, Result, Session};

/// Items asked for at once; a list goes on until it is whole.
pub const CHUNK: usize = 500;
/// Objects that are fetched at the same time.
const CONCURRENT: usize = 8;

/// What the arguments and flags of a command say.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub words: Vec<String>,
    pub files: Files,
    pub selector: Option<String>,
    pub field_selector: Option<String>,
    /// `--all`: every object of the types.
    pub all: bool,
    pub all_namespaces: bool,
    pub subresource: Option<String>,
    /// A type alone means all its objects, as for `get`.
    pub types_mean_all: bool,
}

/// An object, or all objects of a type that the query selects.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    Object { resource: Resource, namespace: String, name: String },
    Collection { resource: Resource, namespace: String },
}

impl Target {
    pub fn resource(&self) -> &Resource {
        match self {
            Self::Object { resource, .. } | Self::Collection { resource, .. } => resource,
        }
    }

    pub fn path(&self) -> String {
        match self {
            Self::Object { resource, namespace, name } => resource.path(namespace, Some(name)),
            Self::Collection { resource, namespace } => resource.path(namespace, None),
        }
    }
}

/// One object with what it is.
#[derive(Clone, Debug)]
pub struct Info {
    pub resource: Resource,
    /// Empty for objects of the cluster.
    pub namespace: String,
    pub name: String,
    /// From the server or from a file.
    pub object: Value,
    /// The file.
    pub source: Option<String>,
}

impl Info {
    /// `deployment.apps/web`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.resource.label(), self.name)
    }

    pub fn path(&self) -> String {
        self.resource.path(&self.namespace, Some(&self.name))
    }

    /// Adds where the object came from to an error of the server.
    pub fn during(&self, error: Error, doing: &str) -> Error {
        match &self.source {
            Some(source) => error.during(format!("error when {doing} {source:?}")),
            None => error,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Words {
    /// Types, and names of objects of the one type.
    Types(Vec<String>, Vec<String>),
    /// `TYPE/NAME` each.
    Tuples(Vec<(String, String)>),
}

/// The grammar of `TYPE NAME`, without looking anything up.
pub fn words(words: &[String]) -> Result<Words> {
    let slashes = words.iter().filter(|word| word.contains('/')).count();
    if slashes > 0 && slashes != words.len() {
        return Err(Error::message(
            "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form \
             (e.g. 'kctl get resource/<resource_name>' instead of 'kctl get resource resource/<resource_name>'",
        ));
    }
    if slashes > 0 {
        return words.iter().map(|word| tuple(word)).collect::<Result<Vec<_>>>().map(Words::Tuples);
    }
    let types: Vec<String> = words.first().map_or_else(Vec::new, |word| word.split(',').map(str::to_owned).collect());
    let names = words.get(1..).unwrap_or_default();
    if types.len() > 1 && !names.is_empty() {
        let tuples = types.iter().flat_map(|kind| names.iter().map(|name| (kind.clone(), name.clone())));
        return Ok(Words::Tuples(tuples.collect()));
    }
    Ok(Words::Types(types, names.to_vec()))
}

fn tuple(word: &str) -> Result<(String, String)> {
    let mut parts = word.split('/');
    let (Some(kind), Some(name), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Error::message("arguments in resource/name form may not have more than one slash"));
    };
    if kind.is_empty() || name.is_empty() || kind.contains(',') {
        return Err(Error::message("arguments in resource/name form must have a single resource and name"));
    }
    Ok((kind.to_owned(), name.to_owned()))
}

impl Query {
    /// What to ask the server for. Files are not looked at.
    pub async fn targets(&self, session: &Session) -> Result<Vec<Target>> {
        let namespace = if self.all_namespaces { String::new() } else { session.namespace.clone() };
        let selecting = self.selector.is_some() || self.field_selector.is_some() || self.all;
        let (types, names) = match words(&self.words)? {
            Words::Tuples(_) if selecting => {
                return Err(Error::message("selectors and the all flag cannot be used when passing resource/name arguments"));
            }
            Words::Tuples(tuples) => {
                let mut targets = Vec::new();
                for (kind, name) in tuples {
                    targets.push(self.object(session.resource(&kind).await?, &namespace, name)?);
                }
                return Ok(targets);
            }
            Words::Types(types, names) => (types, names),
        };
        if !names.is_empty() && selecting {
            return Err(Error::message("name cannot be provided when a selector is specified"));
        }
        if types.is_empty() {
            return Err(Error::message(if selecting {
                "at least one resource must be specified to use a selector"
            } else {
                "you must specify the type of resource, or a file (-f)"
            }));
        }
        let mut resources: Vec<Resource> = Vec::new();
        for kind in &types {
            let category: Vec<_> = session.discovery().await?.category(kind).cloned().collect();
            let found = if category.is_empty() { vec![session.resource(kind).await?] } else { category };
            for resource in found {
                if !resources.contains(&resource) {
                    resources.push(resource);
                }
            }
        }
        if !names.is_empty() {
            let resource = &resources[0];
            return names.into_iter().map(|name| self.object(resource.clone(), &namespace, name)).collect();
        }
        if !selecting && !self.types_mean_all {
            return Err(Error::message("resource(s) were provided, but no name was specified"));
        }
        if self.subresource.is_some() {
            return Err(Error::message("subresource cannot be used when bulk resources are specified"));
        }
        let scope = |resource: &Resource| if resource.namespaced { namespace.clone() } else { String::new() };
        Ok(resources.into_iter().map(|resource| Target::Collection { namespace: scope(&resource), resource }).collect())
    }

    fn object(&self, resource: Resource, namespace: &str, name: String) -> Result<Target> {
        if resource.namespaced && namespace.is_empty() {
            return Err(Error::message("a resource cannot be retrieved by name across all namespaces"));
        }
        let namespace = if resource.namespaced { namespace.to_owned() } else { String::new() };
        Ok(Target::Object { resource, namespace, name })
    }

    /// The request for a target's objects.
    pub fn request(&self, target: &Target) -> Request {
        let mut path = target.path();
        if let Some(subresource) = &self.subresource {
            path += &format!("/{subresource}");
        }
        match target {
            Target::Object { .. } => Request::get(path),
            Target::Collection { .. } => Request::get(path)
                .query_some("labelSelector", self.selector.as_deref())
                .query_some("fieldSelector", self.field_selector.as_deref()),
        }
    }

    /// Says what was looked for, when the server says that it can't be.
    pub fn about(&self, target: &Target, mut error: Error) -> Error {
        let Target::Collection { resource, .. } = target else { return error };
        let Error::Status(status) = &mut error else { return error };
        if ![400, 404].contains(&status.code()) {
            return error;
        }
        let what = format!("{}, Resource={}", resource.api_version_of_group(), resource.plural);
        let (labels, fields) = (self.selector.as_deref().unwrap_or(""), self.field_selector.as_deref().unwrap_or(""));
        let message = &status.message;
        status.message = if labels.is_empty() && fields.is_empty() {
            format!("Unable to list {what:?}: {message}")
        } else {
            format!("Unable to find {what:?} that match label selector {labels:?}, field selector {fields:?}: {message}")
        };
        error
    }

    /// The objects as the server has them now; those of files by their names. What cannot be had is in the errors.
    pub async fn fetch(&self, session: &Session) -> Result<(Vec<Info>, Vec<Error>)> {
        let mut infos = Vec::new();
        let mut errors = Vec::new();
        if !self.files.is_empty() {
            let found = from_files(session, &self.files).await?;
            let answers = stream::iter(&found).map(|info| session.json(Request::get(info.path()))).buffered(CONCURRENT);
            let answers: Vec<_> = answers.collect().await;
            for (info, answer) in found.into_iter().zip(answers) {
                match answer {
                    Ok(object) => infos.push(Info { object, ..info }),
                    Err(error) => errors.push(error),
                }
            }
            if self.words.is_empty() {
                return Ok((infos, errors));
            }
        }
        let targets = self.targets(session).await?;
        let answers: Vec<_> =
            stream::iter(&targets).map(|target| self.objects(session, target)).buffered(CONCURRENT).collect().await;
        for answer in answers {
            match answer {
                Ok(found) => infos.extend(found),
                Err(error) => errors.push(error),
            }
        }
        Ok((infos, errors))
    }

    async fn objects(&self, session: &Session, target: &Target) -> Result<Vec<Info>> {
        match target {
            Target::Object { resource, namespace, name } => {
                let object = session.json(self.request(target)).await?;
                let (resource, namespace, name) = (resource.clone(), namespace.clone(), name.clone());
                Ok(vec![Info { resource, namespace, name, object, source: None }])
            }
            Target::Collection { resource, .. } => {
                let (items, _) = list(session, self.request(target)).await?;
                Ok(items.into_iter().map(|item| info(resource.clone(), item)).collect())
            }
        }
    }
}

/// An item of a list: it knows its kind only from the list.
pub fn info(resource: Resource, mut object: Value) -> Info {
    if let Some(fields) = object.as_object_mut() {
        fields.entry("kind").or_insert_with(|| resource.kind.clone().into());
        fields.entry("apiVersion").or_insert_with(|| resource.api_version().into());
    }
    let name = machinery::meta::name(&object).to_owned();
    let namespace = machinery::meta::namespace(&object).to_owned();
    Info { resource, namespace, name, object, source: None }
}

/// All items of a list, page by page, and the resourceVersion of the last.
pub async fn list(session: &Session, request: Request) -> Result<(Vec<Value>, String)> {
    let mut items = Vec::new();
    let mut next = String::new();
    loop {
        let page = request.clone().query("limit", CHUNK).query_some("continue", Some(&next));
        let mut page = session.json(page).await?;
        if let Value::Array(found) = page["items"].take() {
            items.extend(found);
        }
        next = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        if next.is_empty() {
            return Ok((items, page["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()));
        }
    }
}

/// The objects in files, each with its resource and namespace.
pub async fn from_files(session: &Session, files: &Files) -> Result<Vec<Info>> {
    let (infos, errors) = readable_files(session, files).await?;
    Error::all(errors)?;
    Ok(infos)
}

/// Keeps the objects that a label selector takes.
///
/// # Errors
/// When it is none.
pub fn retain(infos: &mut Vec<Info>, selector: &str) -> Result<()> {
    let selector = machinery::selector::LabelSelector::parse(selector).map_err(|error| Error::message(error.to_string()))?;
    infos.retain(|info| selector.matches_object(&info.object));
    Ok(())
}

/// The objects in files that the server knows, and what is wrong with the others.
pub async fn readable_files(session: &Session, files: &Files) -> Result<(Vec<Info>, Vec<Error>)> {
    let documents = files.read().await?;
    let mut infos = Vec::with_capacity(documents.len());
    let mut errors = Vec::new();
    for document in documents {
        let (kind, name) = (document.kind().to_owned(), document.name().to_owned());
        let Some(resource) = session.resource_of(document.api_version(), &kind).await? else {
            errors.push(Error::message(format!(
                "resource mapping not found for name: {name:?} namespace: {:?} from {:?}: no matches for kind {kind:?} in version {:?}\n\
                 ensure CRDs are installed first",
                machinery::meta::namespace(&document.value),
                document.source,
                document.api_version(),
            )));
            continue;
        };
        let mut object = document.value;
        let own = machinery::meta::namespace(&object).to_owned();
        let namespace = match (resource.namespaced, own.is_empty()) {
            (false, _) => String::new(),
            (true, true) => {
                machinery::meta::metadata_mut(&mut object).insert("namespace".into(), session.namespace.clone().into());
                session.namespace.clone()
            }
            (true, false) if session.namespace_given && own != session.namespace => {
                errors.push(Error::message(format!(
                    "the namespace from the provided object {own:?} does not match the namespace {:?}. \
                     You must pass '--namespace={own}' to perform this operation.",
                    session.namespace
                )));
                continue;
            }
            (true, false) => own,
        };
        infos.push(Info { resource, namespace, name, object, source: Some(document.source) });
    }
    Ok((infos, errors))
}

/// The objects in files without asking a server: resources are those that every server has.
pub async fn local_files(files: &Files) -> Result<Vec<Info>> {
    let documents = files.read().await?;
    let info = |document: super::manifest::Document| {
        let object = document.value;
        let gvk = machinery::gvk::Gvk::of(&object).unwrap_or_else(|| machinery::gvk::Gvk::new("", "v1", ""));
        let builtin = schema::builtin().by_kind(&gvk.group, &gvk.version, &gvk.kind);
        let resource = Resource {
            plural: builtin.map_or_else(|| gvk.kind.to_lowercase(), |builtin| builtin.plural.clone()),
            singular: gvk.kind.to_lowercase(),
            namespaced: builtin.is_none_or(|builtin| builtin.namespaced),
            group: gvk.group,
            version: gvk.version,
            kind: gvk.kind,
            ..Resource::default()
        };
        let (namespace, name) = (machinery::meta::namespace(&object).to_owned(), machinery::meta::name(&object).to_owned());
        Info { resource, namespace, name, object, source: Some(document.source) }
    };
    Ok(documents.into_iter().map(info).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_of_words() {
        let check = |line: &str, want: Words| {
            let list: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(words(&list).unwrap(), want, "{line}");
        };
        let types = |types: &[&str], names: &[&str]| {
            Words::Types(types.iter().map(|s| (*s).into()).collect(), names.iter().map(|s| (*s).into()).collect())
        };
        let tuples = |tuples: &[(&str, &str)]| Words::Tuples(tuples.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect());
        check("", types(&[], &[]));
        check("pods", types(&["pods"], &[]));
        check("pods,svc", types(&["pods", "svc"], &[]));
        check("pod a b", types(&["pod"], &["a", "b"]));
        check("pod/a svc/b", tuples(&[("pod", "a"), ("svc", "b")]));
        check("pod,svc a", tuples(&[("pod", "a"), ("svc", "a")]));
        for wrong in ["pod/a b", "pod/a/b", "/a", "pod/", "pod,svc/a"] {
            let list: Vec<String> = wrong.split_whitespace().map(str::to_owned).collect();
            assert!(words(&list).is_err(), "{wrong}");
        }
    }
}
