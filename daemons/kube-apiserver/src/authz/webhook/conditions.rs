//! `matchConditions`: CEL expressions about a question that must all hold for a webhook to be asked it (KEP-3221).

use cel::{Bindings, Budget, Environment, Program, RUNTIME_BUDGET, Type};
use machinery::field::aggregate;
use serde_json::{Value, json};

const CONDITIONS_MAX: usize = 64;
const SPEC: &str = "kubernetes.SubjectAccessReviewSpec";
const RESOURCE: &str = "kubernetes.ResourceAttributes";
const NON_RESOURCE: &str = "kubernetes.NonResourceAttributes";
const FIELD_SELECTOR: &str = "kubernetes.FieldSelectorAttributes";
const LABEL_SELECTOR: &str = "kubernetes.LabelSelectorAttributes";
const REQUIREMENT: &str = "kubernetes.SelectorRequirement";
/// The fields that are always there for expressions, if only empty.
const RESOURCE_TEXTS: [&str; 7] = ["namespace", "verb", "group", "version", "resource", "subresource", "name"];

/// The conditions of one webhook.
#[derive(Debug, Default)]
pub struct Conditions(Vec<Program>);

impl Conditions {
    /// # Errors
    /// In upstream's words.
    pub fn compile(expressions: &[String]) -> Result<Self, String> {
        let count = expressions.len();
        if count > CONDITIONS_MAX {
            return Err(format!("matchConditions: Too many: {count}: must have at most {CONDITIONS_MAX} items"));
        }
        let environment = environment();
        let mut programs: Vec<Program> = Vec::new();
        for (index, expression) in expressions.iter().enumerate() {
            let at = |why: String| format!("matchConditions[{index}].expression: {why}");
            let invalid = |why: String| at(format!("Invalid value: {expression:?}: {why}"));
            if expression.trim().is_empty() {
                return Err(at("Required value".to_owned()));
            }
            if programs.iter().any(|other| other.source() == expression) {
                return Err(at(format!("Duplicate value: {expression:?}")));
            }
            let program = environment
                .compile(expression)
                .map_err(|errors| invalid(format!("compilation failed: {}", cel::display(&errors))))?;
            if program.output_type() != &Type::Bool {
                return Err(invalid(format!("must evaluate to bool but got {}", program.output_type())));
            }
            programs.push(program);
        }
        Ok(Self(programs))
    }

    /// Whether all hold of the spec of a SubjectAccessReview. One that does not decides, whatever else fails.
    ///
    /// # Errors
    /// Those that cannot be evaluated.
    pub fn hold(&self, spec: &Value) -> Result<bool, String> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let request = seen(spec);
        let mut bindings = Bindings::new();
        bindings.bind_json("request", &request);
        let mut budget = Budget::new(RUNTIME_BUDGET);
        let mut failures = Vec::new();
        for program in &self.0 {
            match program.evaluate(&bindings, &mut budget) {
                Ok(value) if value.as_bool() == Some(false) => return Ok(false),
                Ok(_) => {}
                Err(error) => {
                    failures.push(format!("cel evaluation error: expression '{}' resulted in error: {error}", program.source()))
                }
            }
        }
        if failures.is_empty() { Ok(true) } else { Err(aggregate(failures)) }
    }
}

fn environment() -> Environment {
    let texts = || Type::list(Type::String);
    let requirements = || ("requirements", Type::list(Type::object(REQUIREMENT)));
    let mut resource: Vec<_> = RESOURCE_TEXTS.iter().map(|name| (*name, Type::String)).collect();
    resource.push(("fieldSelector", Type::object(FIELD_SELECTOR)));
    resource.push(("labelSelector", Type::object(LABEL_SELECTOR)));
    let types = [
        (REQUIREMENT, vec![("key", Type::String), ("operator", Type::String), ("values", texts())]),
        (FIELD_SELECTOR, vec![("rawSelector", Type::String), requirements()]),
        (LABEL_SELECTOR, vec![("rawSelector", Type::String), requirements()]),
        (RESOURCE, resource),
        (NON_RESOURCE, vec![("path", Type::String), ("verb", Type::String)]),
        (
            SPEC,
            vec![
                ("resourceAttributes", Type::object(RESOURCE)),
                ("nonResourceAttributes", Type::object(NON_RESOURCE)),
                ("user", Type::String),
                ("groups", texts()),
                ("extra", Type::map(Type::String, texts())),
                ("uid", Type::String),
            ],
        ),
    ];
    let mut environment = Environment::new();
    for (name, fields) in types {
        environment = environment.object_type(name);
        for (field, ty) in fields {
            environment = environment.field_type(name, field, ty);
        }
    }
    environment.variable("request", Type::object(SPEC))
}

/// The spec with what is left out when it is empty: expressions may ask for it.
fn seen(spec: &Value) -> Value {
    let mut all = json!({"user": "", "groups": [], "uid": "", "extra": {}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        all[field] = value.clone();
    }
    if let Some(resource) = all["resourceAttributes"].as_object_mut() {
        for field in RESOURCE_TEXTS {
            resource.entry(field).or_insert_with(|| json!(""));
        }
    } else if let Some(all) = all.as_object_mut() {
        // Indexing has made it.
        all.remove("resourceAttributes");
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expressions: &[&str], spec: &Value, expected: Result<bool, &str>) {
        let expressions: Vec<String> = expressions.iter().map(|text| (*text).to_owned()).collect();
        let got = Conditions::compile(&expressions).unwrap().hold(spec);
        match (&got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(*got, expected, "{expressions:?}"),
            (Err(got), Err(expected)) => assert!(got.contains(expected), "{expressions:?}: {got}"),
            _ => panic!("{expressions:?}: {got:?}, not {expected:?}"),
        }
    }

    #[test]
    fn all_must_hold() {
        let spec = json!({"user": "ann", "resourceAttributes": {"verb": "list", "resource": "pods",
            "labelSelector": {"requirements": [{"key": "a", "operator": "In", "values": ["b"]}]}}});
        check(&[], &spec, Ok(true));
        check(&["request.user == 'ann'", "has(request.resourceAttributes)"], &spec, Ok(true));
        check(&["request.resourceAttributes.namespace == ''", "request.groups.size() == 0"], &spec, Ok(true));
        check(&["'ops' in request.groups"], &spec, Ok(false));
        check(&["has(request.nonResourceAttributes)"], &spec, Ok(false));
        check(&["request.resourceAttributes.labelSelector.requirements.exists(r, r.key == 'a')"], &spec, Ok(true));
        check(&["has(request.resourceAttributes.fieldSelector)"], &spec, Ok(false));
        let error = "cel evaluation error: expression 'request.nonResourceAttributes.path == '/'' resulted in error: no such key";
        check(&["request.nonResourceAttributes.path == '/'"], &spec, Err(error));
        check(&["request.nonResourceAttributes.path == '/'", "false"], &spec, Ok(false));
        let path = json!({"nonResourceAttributes": {"path": "/x", "verb": "get"}});
        check(&["!has(request.resourceAttributes) && request.nonResourceAttributes.verb == 'get'"], &path, Ok(true));
        check(&["request.extra['k'].exists(v, v == 'x')"], &json!({"extra": {"k": ["x"]}}), Ok(true));
    }

    #[test]
    fn what_compiles() {
        let check = |expressions: &[&str], expected: &str| {
            let expressions: Vec<String> = expressions.iter().map(|text| (*text).to_owned()).collect();
            let error = Conditions::compile(&expressions).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        };
        check(&[" "], "matchConditions[0].expression: Required value");
        check(&["true", "true"], "matchConditions[1].expression: Duplicate value: \"true\"");
        check(
            &["request.user"],
            "matchConditions[0].expression: Invalid value: \"request.user\": must evaluate to bool but got string",
        );
        check(
            &["request.x"],
            "matchConditions[0].expression: Invalid value: \"request.x\": compilation failed: ERROR: <input>:1:8",
        );
        check(&["x"; 65], "matchConditions: Too many: 65: must have at most 64 items");
    }
}
