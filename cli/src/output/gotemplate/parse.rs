//! Pieces of a template as a tree.

use std::iter::{Cloned, Peekable};
use std::{collections::BTreeMap, slice, vec::IntoIter};

use serde_json::Value;

use super::{
    functions,
    lex::{Piece, Token, pieces},
};

#[derive(Clone, Debug, Default)]
pub struct Parsed {
    pub nodes: Vec<Node>,
    /// Of `define` and `block`.
    pub named: BTreeMap<String, Vec<Node>>,
}

#[derive(Clone, Debug)]
pub enum Node {
    Text(String),
    Print(Pipeline),
    If { condition: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    With { value: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    Range { over: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    Template { name: String, argument: Option<Pipeline> },
    Break,
    Continue,
}

/// `$i, $e := command | command`.
#[derive(Clone, Debug, Default)]
pub struct Pipeline {
    pub variables: Vec<String>,
    /// `:=`; else `=` to a variable that is there.
    pub declares: bool,
    pub commands: Vec<Vec<Operand>>,
}

#[derive(Clone, Debug)]
pub enum Operand {
    Dot,
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Literal(Value),
    Function(String),
    Nested(Box<Pipeline>, Vec<String>),
}

type Tokens<'a> = Peekable<Cloned<slice::Iter<'a, Token>>>;
type Result<T> = std::result::Result<T, (usize, String)>;

pub fn parse(text: &str) -> Result<Parsed> {
    let mut parser = Parser { pieces: pieces(text)?.into_iter().peekable(), named: BTreeMap::new(), line: 1, depth: 0 };
    let (nodes, end) = parser.nodes()?;
    match end {
        Stop::Text => Ok(Parsed { nodes, named: parser.named }),
        Stop::End => Err((parser.line, "unexpected {{end}}".into())),
        Stop::Else(_) => Err((parser.line, "unexpected {{else}}".into())),
    }
}

/// What ended a list of nodes.
enum Stop {
    Text,
    End,
    /// With what follows the word: `if x`, `with x`.
    Else(Vec<Token>),
}

struct Parser {
    pieces: Peekable<IntoIter<Piece>>,
    named: BTreeMap<String, Vec<Node>>,
    line: usize,
    depth: usize,
}

impl Parser {
    fn nodes(&mut self) -> Result<(Vec<Node>, Stop)> {
        self.depth += 1;
        if self.depth > super::DEPTH_MAX {
            return Err((self.line, "nested too deeply".into()));
        }
        let mut nodes = Vec::new();
        let end = loop {
            let Some(piece) = self.pieces.next() else { break Stop::Text };
            let (tokens, line) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens, line) => (tokens, line),
            };
            self.line = line;
            let (word, rest) = match tokens.split_first() {
                None => return Err((line, "missing value for command".into())),
                Some((Token::Word(word), rest)) => (word.as_str(), rest),
                Some(_) => ("", &tokens[..]),
            };
            match word {
                "end" => break Stop::End,
                "else" => break Stop::Else(rest.to_vec()),
                "define" => {
                    let (name, body) = (self.name(rest.first())?, self.body()?);
                    self.named.insert(name, body);
                }
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                _ => nodes.push(self.node(word, rest, &tokens)?),
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn node(&mut self, word: &str, rest: &[Token], tokens: &[Token]) -> Result<Node> {
        match word {
            "if" | "with" | "range" => {
                let head = self.pipeline(rest)?;
                let (then, otherwise) = self.branches()?;
                Ok(match word {
                    "if" => Node::If { condition: head, then, otherwise },
                    "with" => Node::With { value: head, then, otherwise },
                    _ => Node::Range { over: head, body: then, otherwise },
                })
            }
            "template" | "block" => {
                let name = self.name(rest.first())?;
                let argument = if rest.len() > 1 { Some(self.pipeline(&rest[1..])?) } else { None };
                if word == "block" {
                    let body = self.body()?;
                    self.named.insert(name.clone(), body);
                }
                Ok(Node::Template { name, argument })
            }
            _ => Ok(Node::Print(self.pipeline(tokens)?)),
        }
    }

    fn name(&self, token: Option<&Token>) -> Result<String> {
        match token {
            Some(Token::Literal(Value::String(name))) => Ok(name.clone()),
            _ => Err((self.line, "a name in quotes was expected".into())),
        }
    }

    /// Nodes until `{{end}}`.
    fn body(&mut self) -> Result<Vec<Node>> {
        match self.nodes()? {
            (nodes, Stop::End) => Ok(nodes),
            (_, Stop::Else(_)) => Err((self.line, "unexpected {{else}}".into())),
            (_, Stop::Text) => Err((self.line, "unexpected EOF".into())),
        }
    }

    /// What stands before and after `{{else}}`, until `{{end}}`.
    fn branches(&mut self) -> Result<(Vec<Node>, Vec<Node>)> {
        let (then, end) = self.nodes()?;
        let tokens = match end {
            Stop::End => return Ok((then, Vec::new())),
            Stop::Text => return Err((self.line, "unexpected EOF".into())),
            Stop::Else(tokens) => tokens,
        };
        match tokens.split_first() {
            None => Ok((then, self.body()?)),
            // One {{end}} ends both.
            Some((Token::Word(word), rest)) if word == "if" || word == "with" => {
                let node = self.node(word, rest, &tokens)?;
                Ok((then, vec![node]))
            }
            Some(_) => Err((self.line, "unexpected token after {{else".into())),
        }
    }

    fn pipeline(&self, tokens: &[Token]) -> Result<Pipeline> {
        let mut pipeline = Pipeline::default();
        let mut rest = tokens;
        let at = tokens.iter().position(|token| matches!(token, Token::Declare | Token::Assign));
        if let Some(at) = at {
            for token in tokens[..at].iter().filter(|token| **token != Token::Comma) {
                match token {
                    Token::Variable(name, fields) if fields.is_empty() => pipeline.variables.push(name.clone()),
                    _ => return Err((self.line, "a variable was expected before :=".into())),
                }
            }
            pipeline.declares = tokens[at] == Token::Declare;
            rest = &tokens[at + 1..];
        }
        let mut tokens = rest.iter().cloned().peekable();
        self.commands(&mut tokens, &mut pipeline, 0)?;
        if tokens.next().is_some() {
            return Err((self.line, "unexpected right paren".into()));
        }
        Ok(pipeline)
    }

    /// Commands until the end, or until the parenthesis that closes.
    fn commands(&self, tokens: &mut Tokens<'_>, pipeline: &mut Pipeline, depth: usize) -> Result<()> {
        if depth > super::DEPTH_MAX {
            return Err((self.line, "nested too deeply".into()));
        }
        let mut command = Vec::new();
        while let Some(token) = tokens.next_if(|token| !matches!(token, Token::Close(_))) {
            command.push(match token {
                Token::Dot => Operand::Dot,
                Token::Field(fields) => Operand::Field(fields),
                Token::Variable(name, fields) => Operand::Variable(name, fields),
                Token::Literal(value) => Operand::Literal(value),
                Token::Word(name) if functions::is_known(&name) => Operand::Function(name),
                Token::Word(name) => return Err((self.line, format!("function {name:?} not defined"))),
                Token::Pipe => {
                    if command.is_empty() {
                        return Err((self.line, "missing value for command".into()));
                    }
                    pipeline.commands.push(std::mem::take(&mut command));
                    continue;
                }
                Token::Open => {
                    let mut nested = Pipeline::default();
                    self.commands(tokens, &mut nested, depth + 1)?;
                    match tokens.next() {
                        Some(Token::Close(fields)) => Operand::Nested(Box::new(nested), fields),
                        _ => return Err((self.line, "unclosed left paren".into())),
                    }
                }
                other => return Err((self.line, format!("unexpected {other:?} in operand"))),
            });
        }
        if command.is_empty() {
            return Err((self.line, "missing value for command".into()));
        }
        pipeline.commands.push(command);
        Ok(())
    }
}
