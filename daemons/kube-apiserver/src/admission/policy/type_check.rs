//! The warnings of a ValidatingAdmissionPolicy: its expressions checked against the types of what it matches. They never
//! change what the policy does.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::{Decl, ObjectTypes, Type, TypeProvider};
use machinery::gvk::Gvk;
use schema::{Scalar, Shape, TypeRef};
use serde_json::{Value, json};

use crate::admission::expression::{Compiler, Names, Typed, Wanted};
use crate::registry::{Served, TypeSource};

/// Kinds that one rule is checked against, at most.
const KINDS_MAX: usize = 10;

/// A kind's type, and where the types within are found.
#[derive(Clone)]
pub struct KindType {
    pub ty: Type,
    pub types: Arc<dyn TypeProvider>,
}

/// The resources whose kinds a policy's expressions are checked against: those its rules name outright.
pub fn resources(policy: &Value) -> BTreeSet<(String, String, String)> {
    let mut found = BTreeSet::new();
    for rule in policy["spec"]["matchConstraints"]["resourceRules"].as_array().into_iter().flatten() {
        let list =
            |field: &str| -> Vec<&str> { rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect() };
        let (groups, versions) = (list("apiGroups"), list("apiVersions"));
        if groups.iter().chain(&versions).any(|name| name.contains('*')) {
            continue;
        }
        let plain = list("resources").into_iter().filter(|resource| !resource.contains(['*', '/']));
        let all = plain.flat_map(|resource| {
            let versions = &versions;
            groups.iter().flat_map(move |group| versions.iter().map(move |version| (*group, *version, resource)))
        });
        found.extend(all.take(KINDS_MAX).map(|(g, v, r)| (g.to_owned(), v.to_owned(), r.to_owned())));
    }
    found
}

/// The warnings, as the status holds them.
pub fn warnings(policy: &Value, kinds: &[(Gvk, KindType)], params: Option<&KindType>) -> Vec<Value> {
    let mut warnings = Vec::new();
    for (index, validation) in policy["spec"]["validations"].as_array().into_iter().flatten().enumerate() {
        for field in ["expression", "messageExpression"] {
            let Some(text) = validation[field].as_str().filter(|text| !text.is_empty()) else { continue };
            let found: Vec<String> = kinds.iter().filter_map(|(kind, ty)| problem(policy, text, kind, ty, params)).collect();
            if !found.is_empty() {
                warnings.push(json!({"fieldRef": format!("spec.validations[{index}].{field}"), "warning": found.join("\n")}));
            }
        }
    }
    warnings
}

fn problem(policy: &Value, text: &str, kind: &Gvk, ty: &KindType, params: Option<&KindType>) -> Option<String> {
    let mut all = vec![ty.types.clone()];
    all.extend(params.map(|params| params.types.clone()));
    let names = Names { params: policy["spec"]["paramKind"].is_object(), authorizer: true, patches: false };
    let mut compiler = Compiler::with_variables();
    compiler.typed = Some(Typed {
        object: ty.ty.clone(),
        params: params.map_or(Type::Dyn, |params| params.ty.clone()),
        provider: Arc::new(All(all)),
    });
    for variable in policy["spec"]["variables"].as_array().into_iter().flatten() {
        let (name, expression) = (variable["name"].as_str()?, variable["expression"].as_str()?);
        // What is wrong with a variable shows where it is used.
        let _ = compiler.variable(names, name, expression);
    }
    let error = compiler.compile(names, text, Wanted::Anything).err()?;
    let error = error.strip_prefix("compilation failed: ").unwrap_or(&error);
    Some(format!("{kind}: {error}\n"))
}

/// The type of what is served.
pub fn type_of(served: &Served) -> Option<KindType> {
    match &served.types {
        TypeSource::Builtin => {
            let resource = &served.resource;
            let ty = schema::builtin().type_of(&resource.group, &resource.version, &resource.kind)?;
            Some(KindType { ty: Type::object(ty.name()), types: Arc::new(Builtin) })
        }
        TypeSource::Custom(custom) => {
            let decl = Decl::from_schema(custom.schema(), true, &served.resource.kind)?;
            let mut types = ObjectTypes::default();
            decl.add_types(&mut types);
            Some(KindType { ty: decl.ty(), types: Arc::new(types) })
        }
    }
}

/// How the kind is named in messages.
pub fn kind_of(served: &Served) -> Gvk {
    let r = &served.resource;
    Gvk::new(&r.group, &r.version, &r.kind)
}

/// Several sources of types.
struct All(Vec<Arc<dyn TypeProvider>>);

impl TypeProvider for All {
    fn has_type(&self, name: &str) -> bool {
        self.0.iter().any(|types| types.has_type(name))
    }

    fn field(&self, object: &str, field: &str) -> Option<Type> {
        self.0.iter().find_map(|types| types.field(object, field))
    }
}

/// The built-in types, by their full names.
struct Builtin;

impl TypeProvider for Builtin {
    fn has_type(&self, name: &str) -> bool {
        schema::builtin().types().named(name).is_some()
    }

    fn field(&self, object: &str, field: &str) -> Option<Type> {
        let Shape::Object(shape) = schema::builtin().types().named(object)?.shape() else { return None };
        let found = shape.fields().find(|declared| cel::escape(declared.name).as_deref() == Some(field))?;
        Some(of_schema(found.ty))
    }
}

fn of_schema(ty: TypeRef<'_>) -> Type {
    match ty.shape() {
        Shape::Object(_) if !ty.name().is_empty() => Type::object(ty.name()),
        Shape::Map { value, .. } => Type::map(Type::String, of_schema(value)),
        Shape::List { item, .. } => Type::list(of_schema(item)),
        Shape::Scalar(scalar) => match scalar {
            Scalar::String => Type::String,
            Scalar::Int32 | Scalar::Int64 => Type::Int,
            Scalar::Float => Type::Double,
            Scalar::Bool => Type::Bool,
            Scalar::Bytes => Type::Bytes,
            Scalar::Time | Scalar::MicroTime => Type::Timestamp,
            Scalar::Quantity | Scalar::IntOrString => Type::Dyn,
        },
        Shape::Object(_) | Shape::Any => Type::Dyn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> (Gvk, KindType) {
        let ty = schema::builtin().type_of("apps", "v1", "Deployment").expect("a built-in kind");
        (Gvk::new("apps", "v1", "Deployment"), KindType { ty: Type::object(ty.name()), types: Arc::new(Builtin) })
    }

    #[test]
    fn what_is_checked() {
        let check = |rules: Value, expected: &[(&str, &str, &str)]| {
            let got = resources(&json!({"spec": {"matchConstraints": {"resourceRules": rules}}}));
            let got: Vec<_> = got.iter().map(|(g, v, r)| (g.as_str(), v.as_str(), r.as_str())).collect();
            assert_eq!(got, expected, "{rules}");
        };
        let rule = |group: &str, resource: &str| json!([{"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]}]);
        check(rule("apps", "deployments"), &[("apps", "v1", "deployments")]);
        check(rule("*", "deployments"), &[]);
        check(rule("apps", "deployments/status"), &[]);
        check(rule("apps", "*"), &[]);
    }

    #[test]
    fn confusions() {
        let check = |validation: Value, expected: &[(&str, &str)]| {
            let policy = json!({"spec": {"validations": [validation]}});
            let got = warnings(&policy, &[deployment()], None);
            assert_eq!(got.len(), expected.len(), "{validation}: {got:?}");
            for (got, (field, text)) in got.iter().zip(expected) {
                assert_eq!(got["fieldRef"], *field);
                let warning = got["warning"].as_str().expect("a text");
                assert!(warning.contains(text) && warning.starts_with("apps/v1, Kind=Deployment: "), "{warning}");
            }
        };
        check(json!({"expression": "object.spec.replicas > 1"}), &[]);
        check(
            json!({"expression": "object.spec.replicas > '1'", "messageExpression": "'got ' + object.spec.replicas"}),
            &[
                ("spec.validations[0].expression", "found no matching overload for '_>_' applied to '(int, string)'"),
                ("spec.validations[0].messageExpression", "found no matching overload for '_+_' applied to '(string, int)'"),
            ],
        );
        check(
            json!({"expression": "object.spec.nothing == 1"}),
            &[("spec.validations[0].expression", "undefined field 'nothing'")],
        );
        check(
            json!({"expression": "object.metadata.labels['a'] == 'b' && object.spec.template.spec.containers.all(c, c.image != '')"}),
            &[],
        );
    }
}
