//! A tree over an object.

use serde_json::Value;

use super::{
    DEPTH_MAX, OUTPUT_BYTES_MAX, functions,
    parse::{Node, Operand, Parsed, Pipeline},
};

/// A value; `None` is what a path that leads nowhere gives (`<no value>`).
pub type Datum = Option<Value>;

type Result<T> = std::result::Result<T, String>;

/// With `lenient`, a key that an object has not leads nowhere; else it is an error.
pub fn render(parsed: &Parsed, object: &Value, lenient: bool) -> Result<String> {
    let variables = vec![(String::new(), Some(object.clone()))];
    let mut state = State { parsed, lenient, out: String::new(), variables, depth: 0 };
    state.nodes(&parsed.nodes, &Some(object.clone()))?;
    Ok(state.out)
}

/// How a list of nodes ended.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct State<'a> {
    parsed: &'a Parsed,
    lenient: bool,
    out: String,
    /// The innermost last. `$` is the one without a name.
    variables: Vec<(String, Datum)>,
    depth: usize,
}

impl State<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Datum) -> Result<Flow> {
        let mark = self.variables.len();
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                self.variables.truncate(mark);
                return Ok(flow);
            }
        }
        self.variables.truncate(mark);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Datum) -> Result<Flow> {
        match node {
            Node::Text(text) => self.print(text)?,
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.print(&functions::text(&value))?;
                }
            }
            Node::If { condition, then, otherwise } => {
                let mark = self.variables.len();
                let value = self.pipeline(condition, dot)?;
                let flow = self.nodes(if functions::truth(&value) { then } else { otherwise }, dot);
                self.variables.truncate(mark);
                return flow;
            }
            Node::With { value, then, otherwise } => {
                let mark = self.variables.len();
                let value = self.pipeline(value, dot)?;
                let flow = if functions::truth(&value) { self.nodes(then, &value) } else { self.nodes(otherwise, dot) };
                self.variables.truncate(mark);
                return flow;
            }
            Node::Range { over, body, otherwise } => return self.range(over, body, otherwise, dot),
            Node::Template { name, argument } => {
                let parsed = self.parsed;
                let nodes = parsed.named.get(name).ok_or_else(|| format!("template {name:?} not defined"))?;
                let argument = match argument {
                    Some(pipeline) => self.pipeline(pipeline, dot)?,
                    None => None,
                };
                if self.depth >= DEPTH_MAX {
                    return Err("exceeded maximum template depth".into());
                }
                self.depth += 1;
                let outer = std::mem::replace(&mut self.variables, vec![(String::new(), argument.clone())]);
                self.nodes(nodes, &argument)?;
                self.variables = outer;
                self.depth -= 1;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn range(&mut self, over: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Datum) -> Result<Flow> {
        let plain = Pipeline { variables: Vec::new(), ..over.clone() };
        let items: Vec<(Value, Value)> = match self.pipeline(&plain, dot)? {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect(),
            Some(Value::Object(fields)) => {
                let mut items: Vec<(String, Value)> = fields.into_iter().collect();
                items.sort_by(|a, b| a.0.cmp(&b.0));
                items.into_iter().map(|(key, value)| (key.into(), value)).collect()
            }
            Some(Value::Number(count)) if count.is_i64() => {
                (0..count.as_i64().unwrap_or(0).min(1 << 20)).map(|at| (at.into(), at.into())).collect()
            }
            Some(other) => return Err(format!("range can't iterate over {}", functions::text(&Some(other)))),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let mark = self.variables.len();
        for (key, value) in items {
            let value = Some(value);
            match over.variables.as_slice() {
                [] => {}
                [one] => self.variables.push((one.clone(), value.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), Some(key)));
                    self.variables.push((second.clone(), value.clone()));
                }
            }
            let flow = self.nodes(body, &value)?;
            self.variables.truncate(mark);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn print(&mut self, text: &str) -> Result<()> {
        if self.out.len() + text.len() > OUTPUT_BYTES_MAX {
            return Err("the output is too long".into());
        }
        self.out.push_str(text);
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Datum) -> Result<Datum> {
        let mut value = None;
        for (at, command) in pipeline.commands.iter().enumerate() {
            let piped = (at > 0).then(|| value.take());
            value = self.command(command, piped, dot)?;
        }
        for name in &pipeline.variables {
            if pipeline.declares {
                self.variables.push((name.clone(), value.clone()));
            } else {
                let found = self.variables.iter_mut().rev().find(|(other, _)| other == name);
                found.ok_or_else(|| format!("undefined variable \"${name}\""))?.1 = value.clone();
            }
        }
        Ok(value)
    }

    fn command(&mut self, operands: &[Operand], piped: Option<Datum>, dot: &Datum) -> Result<Datum> {
        let [first, arguments @ ..] = operands else { return Err("missing value for command".into()) };
        let Operand::Function(name) = first else {
            if !arguments.is_empty() || piped.is_some() {
                return Err("can't give argument to non-function".into());
            }
            return self.operand(first, dot);
        };
        // Both may stop early, so that what comes after a question about it is not evaluated.
        if name == "and" || name == "or" {
            let mut value = None;
            for argument in arguments {
                value = self.operand(argument, dot)?;
                if functions::truth(&value) == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(piped.unwrap_or(value));
        }
        let mut values = arguments.iter().map(|argument| self.operand(argument, dot)).collect::<Result<Vec<_>>>()?;
        values.extend(piped);
        functions::call(name, &values)
    }

    fn operand(&mut self, operand: &Operand, dot: &Datum) -> Result<Datum> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Field(fields) => self.field(dot, fields),
            Operand::Literal(value) => Ok(Some(value.clone())),
            Operand::Function(name) => functions::call(name, &[]),
            Operand::Nested(pipeline, fields) => {
                let value = self.pipeline(pipeline, dot)?;
                self.field(&value, fields)
            }
            Operand::Variable(name, fields) => {
                let found = self.variables.iter().rev().find(|(other, _)| other == name);
                self.field(&found.ok_or_else(|| format!("undefined variable \"${name}\""))?.1, fields)
            }
        }
    }

    /// Follows fields. What is no object has none.
    fn field(&self, from: &Datum, fields: &[String]) -> Result<Datum> {
        let Some(mut value) = from.as_ref() else { return Ok(None) };
        for name in fields {
            match value {
                Value::Object(map) => match map.get(name) {
                    Some(next) => value = next,
                    None if self.lenient => return Ok(None),
                    None => return Err(format!("map has no entry for key {name:?}")),
                },
                Value::Null => return Err(format!("nil pointer evaluating interface {{}}.{name}")),
                _ => return Err(format!("can't evaluate field {name} in type interface {{}}")),
            }
        }
        Ok(Some(value.clone()))
    }
}
