//! Noise: bytes, and tokens in any order, go through compiler, estimate and evaluator without a panic.

use serde_json::json;

use super::environment;
use crate::{Bindings, Budget, UnknownSizes};

/// Rounds of each kind.
const ROUNDS: u64 = 6_000;

/// A small generator (xorshift), seeded by the round.
struct Random(u64);

impl Random {
    fn new(round: u64) -> Self {
        Self(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % n
    }
}

fn run(expression: &str) -> bool {
    let object = json!({"a": 1, "b": {"c": "x"}, "l": [1, 2.5, "3", null], "s": "h\u{e9}llo"});
    let program = match environment().compile(expression) {
        Ok(program) => program,
        Err(errors) => {
            assert!(!crate::display(&errors).is_empty(), "{expression}");
            return false;
        }
    };
    let _ = program.estimated_cost(&UnknownSizes);
    let mut bindings = Bindings::new();
    bindings.bind_json("self", &object);
    let list = json!([3, 1, 2]);
    bindings.bind_json("l", &list);
    if let Ok(value) = program.evaluate(&bindings, &mut Budget::new(50_000)) {
        let _ = value.to_json();
    }
    true
}

#[test]
fn bytes() {
    for round in 0..ROUNDS {
        let mut random = Random::new(round);
        let length = random.below(40);
        let bytes: Vec<u8> = (0..length).map(|_| u8::try_from(random.below(256)).unwrap_or(0)).collect();
        run(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn tokens() {
    const TOKENS: [&str; 66] = [
        "self",
        "l",
        "s",
        "i",
        "x",
        "y",
        ".",
        ".?",
        "[",
        "[?",
        "]",
        "(",
        ")",
        "{",
        "}",
        ",",
        ":",
        "?",
        "+",
        "-",
        "*",
        "/",
        "%",
        "!",
        "==",
        "!=",
        "<",
        "<=",
        "in",
        "&&",
        "||",
        "1",
        "0",
        "2u",
        "1.5",
        "'a'",
        "b'b'",
        "\"\"",
        "r'\\d'",
        "null",
        "true",
        "false",
        "has(",
        ".all(x,",
        ".map(x,",
        ".exists(y,",
        ".filter(x,",
        ".size()",
        ".transformMap(x, y,",
        ".optMap(x,",
        ".orValue(",
        "duration('1h')",
        "timestamp(0)",
        "type(",
        "int(",
        "string(",
        "dyn(",
        "optional.of(",
        "quantity('1')",
        "ip('::1')",
        ".a",
        ".b.c",
        "int",
        "list",
        "sets.contains(",
        ".format([",
    ];
    let mut compiled = 0;
    for round in 0..ROUNDS * 5 {
        let mut random = Random::new(round + 1_000_000);
        let count = 1 + random.below(9);
        let text: Vec<&str> = (0..count).map(|_| TOKENS[random.below(TOKENS.len())]).collect();
        let mut text = text.join(" ");
        // Close what was opened, most of the time: what compiles is worth more.
        for (open, close) in [('(', ')'), ('[', ']'), ('{', '}')] {
            let missing = text.matches(open).count().saturating_sub(text.matches(close).count());
            text.push_str(&close.to_string().repeat(if random.below(8) == 0 { 0 } else { missing }));
        }
        compiled += usize::from(run(&text));
    }
    assert!(compiled > 500, "{compiled}");
}

#[test]
fn mutated_expressions() {
    let cases: Vec<&str> = include_str!("cases.jsonl").lines().collect();
    for round in 0..ROUNDS {
        let mut random = Random::new(round + 2_000_000);
        let case: serde_json::Value = serde_json::from_str(cases[random.below(cases.len())]).expect("a line is JSON");
        let mut chars: Vec<char> = case["expr"].as_str().unwrap_or_default().chars().collect();
        for _ in 0..=random.below(3) {
            let at = random.below(chars.len() + 1);
            match random.below(3) {
                0 if at < chars.len() => {
                    chars.remove(at);
                }
                1 if at < chars.len() => {
                    let other = random.below(chars.len());
                    chars.swap(at, other);
                }
                _ => chars.insert(at, char::from(u8::try_from(32 + random.below(95)).unwrap_or(b' '))),
            }
        }
        run(&chars.into_iter().collect::<String>());
    }
}
