//! What would stall or exhaust an evaluator without bounds: each ends at once, with an error.

use std::time::{Duration, Instant};

use serde_json::json;

use super::environment;
use crate::{Bindings, Budget, Environment, EvalError, Library, PER_CALL_LIMIT, Type, Value};

/// Far more than any of these takes, and far less than an unbounded one would.
const TIME_MAX: Duration = Duration::from_secs(20);

fn outcome(env: &Environment, expression: &str) -> Result<(), String> {
    let started = Instant::now();
    let list = json!((0..3000).collect::<Vec<i32>>());
    let object = json!({"l": list, "s": "a".repeat(100_000)});
    let result = env.compile(expression).map_err(|e| e[0].message.clone()).and_then(|program| {
        let mut bindings = Bindings::new();
        bindings.bind_json("self", &object);
        let value = program.evaluate(&bindings, &mut Budget::new(PER_CALL_LIMIT)).map(drop);
        value.map_err(|e| e.to_string())
    });
    assert!(started.elapsed() < TIME_MAX, "{} took {:?}", &expression[..expression.len().min(80)], started.elapsed());
    result
}

fn check(expression: &str, wanted: &str) {
    let found = outcome(&environment(), expression).expect_err(expression);
    assert!(found.contains(wanted), "{}: {found}", &expression[..expression.len().min(80)]);
}

#[test]
fn nesting() {
    let deep = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    for n in [1_000, 30_000] {
        check(&deep("(", ")", n), "recursion limit");
        check(&deep("[", "]", n), "recursion limit");
        check(&deep("{1:", "}", n.min(20_000)), "recursion limit");
        check(&format!("self{}", ".a".repeat(n)), "recursion limit");
        check(&format!("self{}", "[0]".repeat(n)), "recursion limit");
        check(&format!("1{}", " + 1".repeat(n / 2)), "recursion limit");
        check(&deep("true ? 1 : (", ")", n.min(6_000)), "recursion limit");
        check(&deep("size(", ")", n.min(10_000)), "recursion limit");
    }
    check(&"a".repeat(100_001), "code point size exceeds limit");
    assert_eq!(outcome(&environment(), &deep("(", ")", 200)), Ok(()));
}

#[test]
fn long_chains_do_not_nest() {
    let chain = vec!["self.s != 'b'"; 2_000].join(" && ");
    assert_eq!(outcome(&environment(), &chain), Ok(()));
    let bangs = "!".repeat(20_000);
    assert_eq!(outcome(&environment(), &format!("{bangs}true")), Ok(()));
}

#[test]
fn comprehensions_run_out_of_budget() {
    check("self.l.all(a, self.l.all(b, self.l.all(c, self.l.all(d, a + b + c + d >= 0))))", "cost limit exceeded");
    check("self.l.map(a, self.l.map(b, self.l.map(c, [a, b, c])))", "cost limit exceeded");
    check("self.l.map(a, self.l).map(b, b.map(c, self.l)).size() > 0", "cost limit exceeded");
    check("lists.range(1000000000)", "cost limit exceeded");
    check("lists.range(3000).map(x, lists.range(3000)) == lists.range(3000).map(x, lists.range(3000))", "cost limit exceeded");
}

#[test]
fn strings_do_not_explode() {
    check("self.s.replace('', self.s)", "cost limit exceeded");
    check("self.s.replace('a', self.s).replace('a', self.s)", "cost limit exceeded");
    check("self.l.map(x, self.s).join(self.s)", "cost limit exceeded");
    let env = environment().library(Library::Bindings, true);
    let doubled = |op: &str| {
        let mut expression = String::new();
        for n in 1..60 {
            expression
                .push_str(&format!("cel.bind(a{n}, {0}{op}{0}, ", if n == 1 { "self.s".into() } else { format!("a{}", n - 1) }));
        }
        format!("{expression}a59.size(){}", ")".repeat(59))
    };
    assert_eq!(outcome(&env, &doubled("+")).expect_err("doubles 59 times"), EvalError::CostLimit.to_string());
}

#[test]
fn sums_of_lists_are_lazy() {
    let env = environment().library(Library::Bindings, true);
    let mut expression = String::from("cel.bind(a0, self.l, ");
    for n in 1..60 {
        expression.push_str(&format!("cel.bind(a{n}, a{0} + a{0}, ", n - 1));
    }
    let all = |body: &str| format!("{expression}{body}{}", ")".repeat(60));
    assert_eq!(outcome(&env, &all("a59.size() > 0")), Ok(()));
    for body in
        ["a59 == a58 + a58", "a59.exists(x, x < 0)", "-1 in a59", "a59.sum() > 0", "a59.sort() == []", "'%s'.format([a59]) == ''"]
    {
        assert_eq!(outcome(&env, &all(body)).expect_err(body), EvalError::CostLimit.to_string(), "{body}");
    }
}

#[test]
fn macros_and_types_do_not_explode() {
    let copies = format!("self{}", ".?a.optMap(x, x)".repeat(40));
    check(&copies, "");
    let types = format!("[1]{}", ".map(x, {x: x})".repeat(40));
    check(&types, "");
    let lists = format!("[1]{}", ".map(x, [x])".repeat(100));
    assert!(outcome(&environment(), &lists).is_ok());
}

#[test]
fn patterns_do_not_explode() {
    check("self.s.matches('((((a{100}){100}){100}){100})')", "invalid matches argument");
    check("self.s.matches('(a+)+$' + self.s)", "");
    let started = outcome(&environment(), "self.s.matches('^(a+)+$')");
    assert_eq!(started, Ok(()));
    check("self.l.exists(x, self.s.matches(string(x) + '[a-z]{1,500}b'))", "cost limit exceeded");
}

#[test]
fn variables_that_name_each_other_in_a_long_chain() {
    const TYPE: &str = "kubernetes.variables";
    let mut env = Environment::new().object_type(TYPE).variable("variables", Type::object(TYPE));
    let mut programs = Vec::new();
    for n in 0..2_000 {
        let expression = if n == 0 { "1".to_owned() } else { format!("variables.v{} + 1", n - 1) };
        let program = std::sync::Arc::new(env.compile(&expression).expect("compiles"));
        env = env.field_type(TYPE, &format!("v{n}"), program.output_type().clone());
        programs.push((format!("v{n}"), program));
    }
    let mut bindings = Bindings::new();
    bindings.bind_variables("variables", TYPE, programs);
    let last = env.compile("variables.v1999").expect("compiles");
    assert!(last.evaluate(&bindings, &mut Budget::new(PER_CALL_LIMIT)).is_err());
    let near = env.compile("variables.v100").expect("compiles");
    assert!(matches!(near.evaluate(&bindings, &mut Budget::new(PER_CALL_LIMIT)), Ok(Value::Int(101))));
}

#[test]
fn a_budget_is_shared() {
    let program = environment().compile("self.l.all(x, x >= 0)").expect("compiles");
    let object = json!({"l": (0..1000).collect::<Vec<i32>>()});
    let mut bindings = Bindings::new();
    bindings.bind_json("self", &object);
    let mut budget = Budget::new(12_000);
    let first = program.evaluate(&bindings, &mut budget).map(|v| v.as_bool());
    assert_eq!(first, Ok(Some(true)));
    assert_eq!(budget.remaining(), 12_000 - 5_003);
    assert!(program.evaluate(&bindings, &mut budget).is_ok());
    assert_eq!(program.evaluate(&bindings, &mut budget).map(drop), Err(EvalError::BudgetExhausted));
    assert_eq!(budget.remaining(), 0);
}

#[test]
fn deep_data_and_little_stack() {
    let run = || {
        let mut value = json!(1);
        for _ in 0..120 {
            value = json!([value]);
        }
        let object = json!({"l": value});
        let deep = format!("{}self.l == self.l{}", "(".repeat(120), ")".repeat(120));
        let chain = format!("self.l{}", ".map(x, x)".repeat(80));
        for expression in [deep, chain, format!("self{}", ".a".repeat(240)), format!("1{}", " + 1".repeat(240))] {
            let Ok(program) = environment().compile(&expression) else { continue };
            let mut bindings = Bindings::new();
            bindings.bind_json("self", &object);
            let _ = program.evaluate(&bindings, &mut Budget::new(PER_CALL_LIMIT)).map(drop);
            let _ = program.estimated_cost(&crate::UnknownSizes);
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(run).expect("a thread starts");
    assert!(thread.join().is_ok());
}
