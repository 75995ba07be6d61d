//! `-o custom-columns=NAME:.metadata.name,…`.

use serde_json::Value;

use crate::{
    kube::{Error, Result},
    output::format::Template,
};

#[derive(Clone, Debug)]
pub struct CustomColumns(Vec<(String, Template)>);

impl CustomColumns {
    pub fn parse(spec: &str) -> Result<Self> {
        if spec.is_empty() {
            return Err(Error::message("custom-columns format specified but no custom columns given"));
        }
        spec.split(',').map(column).collect::<Result<_>>().map(Self)
    }

    /// A file with two lines: headers, and the fields below them.
    pub fn parse_file(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let (headers, fields) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let headers: Vec<_> = headers.split_whitespace().collect();
        let fields: Vec<_> = fields.split_whitespace().collect();
        if headers.is_empty() || headers.len() != fields.len() {
            return Err(Error::message(format!(
                "number of headers ({}) and field specifications ({}) don't match",
                headers.len(),
                fields.len()
            )));
        }
        let pairs = headers.iter().zip(fields);
        pairs.map(|(header, field)| Ok(((*header).to_owned(), Template::relaxed(field)?))).collect::<Result<_>>().map(Self)
    }

    pub fn header(&self) -> String {
        self.0.iter().map(|(header, _)| header.as_str()).collect::<Vec<_>>().join("\t") + "\n"
    }

    pub fn row(&self, object: &Value) -> String {
        let cells = self.0.iter().map(|(_, field)| {
            let values = field.values(object);
            let shown: Vec<String> = values.iter().map(crate::output::format::plain).collect();
            if shown.is_empty() { "<none>".to_owned() } else { super::table::escape(&shown.join(",")) }
        });
        cells.collect::<Vec<_>>().join("\t") + "\n"
    }
}

fn column(spec: &str) -> Result<(String, Template)> {
    let Some((header, field)) = spec.split_once(':') else {
        return Err(Error::message(format!("unexpected custom-columns spec: {spec}, expected <header>:<json-path-expr>")));
    };
    Ok((header.to_owned(), Template::relaxed(field)?))
}
