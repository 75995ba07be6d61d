//! JSONPath: a template and the data for it.

use machinery::jsonpath::{JsonPath, relaxed};
use serde_json::json;

use crate::documents::{halves, value};

pub(crate) fn run(data: &[u8]) {
    let (template, data) = halves(data);
    let Ok(template) = std::str::from_utf8(template) else { return };
    let data =
        value(data).unwrap_or_else(|| json!({"items": [{"a": 1, "b": ["x", null]}, {"a": 2.5, "c": {"d": true}}], "n": "s"}));
    if let Ok(path) = relaxed(template) {
        let _ = JsonPath::parse(&path).map(|path| path.allow_missing(true).render(&data));
    }
    let Ok(path) = JsonPath::parse(template) else { return };
    let strict = path.render(&data);
    let json = path.render_json(&data);
    assert_eq!(strict.is_ok(), json.is_ok());
    let lenient = path.allow_missing(true).render(&data);
    // A filter asks what is there, and may be answered by a text where a field is missing.
    if let (Ok(strict), Ok(lenient)) = (strict, lenient)
        && !template.contains("?(")
    {
        assert_eq!(strict, lenient, "what is there is found in either mode");
    }
}
