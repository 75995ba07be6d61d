//! An editor session: one file with all objects, edited until what is in it is taken.

use serde_json::{Value, json};

use super::{
    editor::{self, TemporaryFile},
    report::{Round, Subject},
};
use crate::{
    kube::{Error, Info, Result, manifest},
    output::format::{Reporter, json_text},
};

/// An object as it is shown in the editor.
pub struct Item {
    pub info: Info,
    pub original: Value,
}

/// What is in the file, and how.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub subject: Subject,
    pub as_json: bool,
    /// Whether lines end as on Windows.
    pub crlf: bool,
}

impl Form {
    fn text(self, document: &Value) -> String {
        if self.as_json { json_text(document) + "\n" } else { machinery::yaml::to_string(document) }
    }

    /// The file with its comment; JSON has none.
    fn shown(self, round: &Round, content: &str) -> String {
        let text = if self.as_json { content.to_owned() } else { round.header(self.subject) + content };
        if self.crlf { text.replace('\n', "\r\n") } else { text }
    }
}

/// Has the objects edited, and saves those that are different afterwards.
///
/// # Errors
/// When the editor fails, when nothing valid came of it, when an object became another one.
pub async fn edit(
    items: &[Item],
    form: Form,
    reporter: &mut Reporter,
    save: impl AsyncFn(&Item, &Value) -> Result<Value>,
) -> Result<()> {
    let Some(first) = items.first() else { return Err(Error::message("edit cancelled, no objects found")) };
    let file = TemporaryFile::new(if form.as_json { "json" } else { "yaml" })?;
    let mut shown = form.shown(&Round::default(), &form.text(&document(items)));
    let mut failed = false;
    loop {
        std::fs::write(file.path(), &shown)?;
        editor::open(file.path())?;
        let content = without_comments(&std::fs::read_to_string(file.path())?);
        if failed && content == without_comments(&shown) {
            return kept(file, Error::message("Edit cancelled, no valid changes were saved."));
        }
        let mut round = Round::default();
        match parse(&content) {
            // Written differently, it says the same.
            Ok(edited) if edited.iter().eq(items.iter().map(|item| &item.original)) => {
                eprintln!("Edit cancelled, no changes made.");
                return Ok(());
            }
            Ok(edited) => {
                if let Err(error) = take(items, &edited, form.subject, reporter, &mut round, &save).await {
                    return kept(file, error);
                }
            }
            Err(error) => eprintln!("{}", round.unreadable(&first.info, &error)),
        }
        if round.refused > 0 {
            eprintln!("You can run `kctl replace -f {}` to try this update again.", file.keep().display());
            return Err(Error::Exit(1));
        }
        if round.gone > 0 {
            eprintln!("The edits you made on deleted resources have been saved to {:?}", file.keep());
            return Err(Error::Exit(1));
        }
        if !round.is_reopened() {
            return Ok(());
        }
        shown = form.shown(&round, &content);
        failed = true;
    }
}

fn kept(file: TemporaryFile, error: Error) -> Result<()> {
    eprintln!("A copy of your changes has been stored to {:?}", file.keep());
    Err(error)
}

/// Saves what is different; what cannot be saved and may be edited again is noted in `round`.
async fn take(
    items: &[Item],
    edited: &[Value],
    subject: Subject,
    reporter: &mut Reporter,
    round: &mut Round,
    save: &impl AsyncFn(&Item, &Value) -> Result<Value>,
) -> Result<()> {
    for object in edited {
        let item = original(items, object)?;
        if *object == item.original {
            reporter.done(&item.info, object, "skipped")?;
            continue;
        }
        match save(item, object).await {
            Ok(after) => reporter.done(&item.info, &after, subject.done())?,
            // What is wrong with the edit itself, and everything about an annotation or a new object, ends the session.
            Err(error) if error.status().is_none() || subject != Subject::Object => return Err(error),
            Err(error) => eprintln!("{}", round.add(&item.info, &error)),
        }
    }
    Ok(())
}

/// What is shown: the object, or a list of them.
fn document(items: &[Item]) -> Value {
    match items {
        [one] => one.original.clone(),
        many => {
            let items: Vec<&Value> = many.iter().map(|item| &item.original).collect();
            json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
        }
    }
}

/// Which object an edited one was: that with its uid; what was applied last has none, and is known by its name.
fn original<'i>(items: &'i [Item], edited: &Value) -> Result<&'i Item> {
    let uid = machinery::meta::uid(edited);
    let same = |item: &&Item| {
        let known = &item.original;
        machinery::meta::uid(known) == uid
            && (!uid.is_empty()
                || items.len() == 1
                || (&known["kind"], machinery::meta::name(known), machinery::meta::namespace(known))
                    == (&edited["kind"], machinery::meta::name(edited), machinery::meta::namespace(edited)))
    };
    items.iter().find(same).ok_or_else(|| {
        let (kind, name) = (machinery::meta::kind(edited), machinery::meta::name(edited));
        Error::message(format!("no original object found for {kind} {name:?}"))
    })
}

fn parse(text: &str) -> Result<Vec<Value>> {
    let edited = manifest::parse_objects("the edited file", text)?;
    if edited.is_empty() { Err(Error::message("the file holds no object")) } else { Ok(edited) }
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::Resource;

    fn item(uid: &str, name: &str) -> Item {
        let original = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "uid": uid}});
        let info = Info {
            resource: Resource::default(),
            namespace: String::new(),
            name: name.into(),
            object: Value::Null,
            source: None,
        };
        Item { info, original }
    }

    #[test]
    fn who_an_edited_object_was() {
        let items = [item("1", "a"), item("2", "b"), item("", "c"), item("", "d")];
        let check = |uid: &str, name: &str, want: Option<&str>| {
            let edited = item(uid, name).original;
            assert_eq!(original(&items, &edited).ok().map(|item| item.info.name.as_str()), want, "{uid} {name}");
        };
        check("2", "b", Some("b"));
        check("2", "renamed", Some("b"));
        check("", "d", Some("d"));
        check("", "renamed", None);
        check("9", "a", None);
        assert!(original(&items[2..3], &item("", "renamed").original).is_ok());
        assert_eq!(document(&items[..1]), items[0].original);
        assert_eq!(document(&items[..2])["items"][1], items[1].original);
    }
}
