//! Kustomizations: `-k DIR` and `kctl kustomize DIR`.
//!
//! What most of them use is here: resources and bases, prefixes and suffixes, namespaces, labels, annotations, images,
//! replicas, generators of config maps and secrets with hashes in their names, strategic and JSON patches. Any other field
//! is refused by name: a field that is passed over would be an object that is not what was asked for.

mod file;
mod generate;
mod order;
mod patch;
mod references;
mod transform;

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Error, Result, manifest};
use file::Kustomization;
pub use generate::letters;

/// Bases of bases: a deeper tree is most likely a circle.
const DEPTH_MAX: usize = 32;
const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// An object, and the names that others may know it by.
#[derive(Clone, Debug, PartialEq)]
struct Item {
    object: Value,
    /// Its name at every level below, the first of which is the one in its file.
    former: Vec<String>,
    /// Its name ends with a hash of its content when all is done.
    hashed: bool,
}

impl Item {
    fn new(object: Value) -> Self {
        let name = machinery::meta::name(&object).to_owned();
        Self { object, former: vec![name], hashed: false }
    }

    fn kind(&self) -> &str {
        machinery::meta::kind(&self.object)
    }
}

/// The objects of a directory's kustomization, in the order in which they can be created.
pub fn build(directory: &str) -> Result<Vec<Value>> {
    if directory.contains("://") || directory.starts_with("git@") || directory.contains("?ref=") {
        return Err(Error::message(format!("{directory:?}: kustomizations are read from directories only")));
    }
    let mut items = load(Path::new(directory), 0)?;
    for item in items.iter_mut().filter(|item| item.hashed) {
        let hash = generate::hash(&item.object);
        transform::rename(item, |name| format!("{name}-{hash}"));
    }
    references::follow(&mut items);
    order::sort(&mut items);
    Ok(items.into_iter().map(|item| item.object).collect())
}

/// The file that makes a directory a kustomization.
fn find(directory: &Path) -> Result<PathBuf> {
    let found: Vec<PathBuf> = NAMES.iter().map(|name| directory.join(name)).filter(|path| path.is_file()).collect();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::Plain(format!(
            "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory '{}'",
            std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned()).display()
        ))),
        _ => Err(Error::message(format!("Found multiple kustomization files under: {}", directory.display()))),
    }
}

fn load(directory: &Path, depth: usize) -> Result<Vec<Item>> {
    if depth > DEPTH_MAX {
        return Err(Error::message(format!("{}: kustomizations are nested too deeply", directory.display())));
    }
    if !directory.is_dir() {
        let place = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        return Err(Error::message(format!(
            "must build at directory: not a valid directory: evalsymlink failure on '{}' : lstat {}: no such file or directory",
            directory.display(),
            place.display()
        )));
    }
    let path = find(directory)?;
    let text = read(&path)?;
    let kustomization = Kustomization::parse(&text)
        .map_err(|error| Error::message(format!("invalid Kustomization in {}: {error}", path.display())))?;
    let mut items = Vec::new();
    for resource in &kustomization.resources {
        accumulate(directory, resource, depth, &mut items)?;
    }
    generate::run(&kustomization, directory, &mut items)?;
    let mut patches = Vec::new();
    for source in kustomization.patches() {
        let text = match (&source.patch, &source.path) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => read(&directory.join(path))?,
            (None, None) => return Err(Error::message("must specify one of patch and path in a patch")),
        };
        patches.push((text, source));
    }
    for (text, source) in &patches {
        patch::apply(&mut items, text, source).map_err(Error::message)?;
    }
    transform::apply(&kustomization, &mut items);
    references::follow(&mut items);
    Ok(items)
}

/// A file with objects, or a directory with a kustomization.
fn accumulate(directory: &Path, resource: &str, depth: usize, items: &mut Vec<Item>) -> Result<()> {
    if resource.contains("://") {
        return Err(Error::message(format!("resource {resource:?}: only files and directories are read")));
    }
    let path = directory.join(resource);
    let found = if path.is_dir() {
        load(&path, depth + 1)?
    } else {
        let text = read(&path).map_err(|error| Error::message(format!("accumulating resources: {}", error.bare())))?;
        let documents = manifest::parse_objects(&path.display().to_string(), &text)?;
        documents.into_iter().map(Item::new).collect()
    };
    for item in found {
        let id = |item: &Item| {
            let object = &item.object;
            let meta = machinery::meta::namespace(object).to_owned();
            (machinery::meta::api_version(object).to_owned(), item.kind().to_owned(), meta, item.former.clone())
        };
        if items.iter().any(|other| id(other) == id(&item)) {
            let name = machinery::meta::name(&item.object);
            return Err(Error::message(format!("may not add resource with an already registered id: {}/{name}", item.kind())));
        }
        items.push(item);
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::message(format!("reading {}: {error}", path.display())))
}

/// The objects as one stream of YAML documents.
pub fn to_yaml(objects: &[Value]) -> String {
    objects.iter().map(machinery::yaml::to_string).collect::<Vec<_>>().join("---\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files, gone when dropped.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("kctl-kustomize-{name}-{}", std::process::id()));
            for (file, text) in files {
                let path = root.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Self(root)
        }

        fn build(&self, directory: &str) -> Result<Vec<Value>> {
            build(self.0.join(directory).to_str().unwrap())
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0); // in the temporary directory
        }
    }

    const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      containers:
      - {name: c, image: 'nginx:1.0', envFrom: [{configMapRef: {name: settings}}]}
";

    #[test]
    fn an_overlay_of_a_base() {
        let tree = Tree::new(
            "overlay",
            &[
                ("base/web.yaml", WEB),
                (
                    "base/kustomization.yaml",
                    "resources: [web.yaml]\nconfigMapGenerator:\n- {name: settings, literals: [mode=fast]}\n",
                ),
                (
                    "prod/kustomization.yaml",
                    "resources: [../base]\nnamePrefix: prod-\nnamespace: shop\ncommonLabels: {tier: front}\n\
                     images: [{name: nginx, newTag: '1.29'}]\nreplicas: [{name: web, count: 4}]\n\
                     patches:\n- patch: |-\n    apiVersion: apps/v1\n    kind: Deployment\n    metadata: {name: web}\n    spec: {paused: true}\n\
                     - target: {kind: Deployment}\n  patch: '[{op: add, path: /metadata/annotations, value: {x: z}}]'\n",
                ),
            ],
        );
        let objects = tree.build("prod").unwrap();
        let names: Vec<&str> = objects.iter().map(machinery::meta::name).collect();
        assert_eq!(names.len(), 2);
        assert!(names[0].starts_with("prod-settings-") && names[1] == "prod-web", "{names:?}");
        let web = &objects[1];
        let spec = &web["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(spec["image"], "nginx:1.29");
        assert_eq!(spec["envFrom"][0]["configMapRef"]["name"], names[0]);
        assert_eq!((&web["spec"]["replicas"], &web["spec"]["paused"]), (&4.into(), &true.into()));
        assert_eq!(web["metadata"]["namespace"], "shop");
        assert_eq!(web["spec"]["selector"]["matchLabels"]["tier"], "front");
        assert_eq!(web["spec"]["template"]["metadata"]["labels"]["tier"], "front");
        assert_eq!(web["metadata"]["annotations"]["x"], "z");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let check = |text: &str, part: &str| {
            let tree = Tree::new("refused", &[("kustomization.yaml", text)]);
            let error = tree.build("").unwrap_err().text();
            assert!(error.contains(part), "{text}: {error}");
        };
        check("helmCharts: []\n", "helmCharts");
        check("resources: [nowhere.yaml]\n", "nowhere.yaml");
        check("resources: ['https://example.com/x']\n", "only files and directories");
        check("resources: [.]\n", "nested too deeply");
        let empty = Tree::new("none", &[("x", "")]);
        assert!(empty.build("").unwrap_err().text().contains("unable to find one of 'kustomization.yaml'"));
    }
}
