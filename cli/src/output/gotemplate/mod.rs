//! `-o go-template=…`: Go's text/template, as far as it says something about JSON objects.
//!
//! Everything of the language is here except methods and `call`, which JSON has no use for; kubectl's own functions
//! (`exists`, `base64decode`) are here too.

mod eval;
mod functions;
mod lex;
mod parse;

use serde_json::Value;

/// Loops inside loops, templates inside templates: no honest template is deeper.
const DEPTH_MAX: usize = 100;
/// Most that one object may be printed as.
const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// A template that was understood.
#[derive(Clone, Debug)]
pub struct GoTemplate {
    text: String,
    parsed: parse::Parsed,
    lenient: bool,
}

impl GoTemplate {
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = parse::parse(text).map_err(|(line, error)| format!("template: output:{line}: {error}"))?;
        Ok(Self { text: text.to_owned(), parsed, lenient: true })
    }

    /// Whether a field that an object has not is `<no value>` (Go's `missingkey=default`), or an error (`missingkey=error`).
    pub fn allow_missing(self, allow: bool) -> Self {
        Self { lenient: allow, ..self }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn render(&self, object: &Value) -> Result<String, String> {
        eval::render(&self.parsed, object, self.lenient)
            .map_err(|error| format!("template: output: executing \"output\": {error}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(text: &str) -> Result<String, String> {
        let object = json!({
            "kind": "Pod", "n": 3, "f": 1.5, "yes": true, "null": null, "secret": "aGk=",
            "metadata": {"name": "a", "labels": {"app": "web", "b": "<x>"}},
            "items": [{"name": "x", "ports": [1, 2]}, {"name": "y"}],
        });
        GoTemplate::parse(text)?.render(&object)
    }

    #[test]
    fn fields_and_text() {
        let check = |text: &str, want: &str| assert_eq!(render(text).as_deref(), Ok(want), "{text}");
        check("plain", "plain");
        check("{{.kind}} {{ .metadata.name }}\n", "Pod a\n");
        check("{{.missing}}|{{.missing.deeper}}|{{.null}}", "<no value>|<no value>|<no value>");
        check("a {{- /* trimmed */ -}}  b", "ab");
        check("a  {{- .n -}}  b", "a3b");
        check("{{.metadata.labels}} {{.items}}", "map[app:web b:<x>] [map[name:x ports:[1 2]] map[name:y]]");
        check("{{\"q\\t\\\"\"}}{{`raw\\t`}}{{1.5}}{{'a'}}", "q\t\"raw\\t1.597");
    }

    #[test]
    fn branches_and_loops() {
        let check = |text: &str, want: &str| assert_eq!(render(text).as_deref(), Ok(want), "{text}");
        check("{{if .yes}}1{{else}}2{{end}}{{if .null}}3{{else if .n}}4{{end}}", "14");
        check("{{range .items}}{{.name}},{{end}}", "x,y,");
        check("{{range $i, $e := .items}}{{$i}}={{$e.name}} {{end}}", "0=x 1=y ");
        check("{{range $k, $v := .metadata.labels}}{{$k}}:{{$v}};{{end}}", "app:web;b:<x>;");
        check("{{range .missing}}x{{else}}none{{end}}", "none");
        check("{{range .items}}{{if eq .name \"y\"}}{{break}}{{end}}{{.name}}{{end}}", "x");
        check("{{range .items}}{{if eq .name \"x\"}}{{continue}}{{end}}{{.name}}{{end}}", "y");
        check("{{with .metadata}}{{.name}} {{$.kind}}{{end}}{{with .null}}x{{else}}-{{end}}", "a Pod-");
        check("{{$x := 1}}{{if .yes}}{{$x = 2}}{{end}}{{$x}}", "2");
        check("{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .kind}}{{block \"u\" .n}}{{.}}{{end}}", "<Pod>3");
        check("{{range 3}}{{.}}{{end}}", "012");
    }

    #[test]
    fn functions() {
        let check = |text: &str, want: &str| assert_eq!(render(text).as_deref(), Ok(want), "{text}");
        check("{{index .items 0 \"name\"}} {{(index .items 1).name}}", "x y");
        check("{{len .items}} {{len .kind}} {{.kind | len}}", "2 3 3");
        check("{{printf \"%s-%d-%v-%q-%5.2f-%03d\" .kind .n .yes .kind .f 7}}", "Pod-3-true-\"Pod\"- 1.50-007");
        check("{{if and .yes (eq .n 3) (ne .kind \"x\")}}y{{end}}{{or .null \"d\"}}{{not .yes}}", "ydfalse");
        check("{{lt 1 2}} {{ge .n 3}} {{eq .kind \"a\" \"Pod\"}}", "true true true");
        check("{{base64decode .secret}} {{exists . \"metadata\" \"name\"}} {{exists . \"x\"}}", "hi true false");
        check("{{html .metadata.labels.b}} {{urlquery \"a b\"}} {{js \"'\"}}", "&lt;x&gt; a+b \\'");
        check("{{slice .kind 1 2}} {{print 1 2 \"a\" 3}} {{println .n}}", "o 1 2a3 3\n");
    }

    #[test]
    fn what_is_wrong() {
        let check = |text: &str, part: &str| {
            let error = render(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        };
        check("{{.kind", "unclosed action");
        check("{{if .kind}}", "unexpected EOF");
        check("{{end}}", "unexpected {{end}}");
        check("{{nothing .kind}}", "function \"nothing\" not defined");
        check("{{$x}}", "undefined variable \"$x\"");
        check("{{.kind.x}}", "can't evaluate field x in type interface {}");
        check("{{.null.x}}", "nil pointer evaluating interface {}.x");
        check("{{index .items 5}}", "index out of range: 5");
        check("{{eq .n \"3\"}}", "incompatible types for comparison");
        check("{{define \"t\"}}{{template \"t\" .}}{{end}}{{template \"t\" .}}", "exceeded maximum template depth");
        check("{{range .n}}{{.}}", "unexpected EOF");
    }
}
