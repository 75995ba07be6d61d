//! Runs the end-to-end scenarios: `e2e [--programs DIR] [--cache DIR] [--lab NAME] [--keep] [SCENARIO…]`.
//!
//! Named scenarios run on the host that an earlier run left with `--keep`; without names, all run on a new host.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use kctl_tests::scenarios::SCENARIOS;
use kctl_tests::world::World;

struct Arguments {
    programs: PathBuf,
    cache: PathBuf,
    lab: String,
    keep: bool,
    names: Vec<String>,
}

fn parse() -> Result<Arguments> {
    let here = std::env::current_exe()?;
    let programs = here.parent().context("a program lies in a directory")?.to_owned();
    let mut arguments =
        Arguments { cache: programs.join("../e2e"), programs, lab: "e2e".to_owned(), keep: false, names: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} takes a value"));
        match word.as_str() {
            "--programs" => arguments.programs = value()?.into(),
            "--cache" => arguments.cache = value()?.into(),
            "--lab" => arguments.lab = value()?,
            "--keep" => arguments.keep = true,
            name if SCENARIOS.iter().any(|(n, _)| *n == name) => arguments.names.push(word),
            other => {
                let names: Vec<_> = SCENARIOS.iter().map(|(n, _)| *n).collect();
                bail!("{other:?} is not a scenario: {}", names.join(", "));
            }
        }
    }
    Ok(arguments)
}

fn main() -> Result<ExitCode> {
    let arguments = parse()?;
    let world = World::new(&arguments.programs, &arguments.cache, &arguments.lab);
    let named = |name: &str| arguments.names.iter().any(|n| n == name);
    let (mut passed, mut failed) = (0, 0);
    for (name, run) in SCENARIOS.iter().filter(|(n, _)| arguments.names.is_empty() || named(n)) {
        println!("e2e {name} ...");
        let start = Instant::now();
        match run(&world) {
            Ok(()) => {
                passed += 1;
                println!("e2e {name} ... ok ({:.1} s)", start.elapsed().as_secs_f64());
            }
            Err(error) => {
                failed += 1;
                println!("e2e {name} ... FAILED ({:.1} s): {error:?}", start.elapsed().as_secs_f64());
                // The others need the cluster that this one should have left.
                break;
            }
        }
    }
    if !arguments.keep {
        world.down()?;
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
