//! Every target on its seeds, and on some thousand mutations of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fuzz_targets::mutate::mutated;
use fuzz_targets::{TARGETS, run};

const ROUNDS: u64 = 2_000;

fn directory(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(of)
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|why| panic!("{}: {why}", directory.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = directory("seeds").join(target);
    names(&directory).into_iter().map(|name| (format!("{target}/{name}"), std::fs::read(directory.join(name)).unwrap())).collect()
}

/// What the target fails on, of these inputs: the first.
fn failure(target: &str, inputs: impl Iterator<Item = (String, Vec<u8>)>) -> Option<String> {
    let fails = |data: &[u8]| std::panic::catch_unwind(|| run(target, data)).is_err();
    inputs.into_iter().find(|(_, data)| fails(data)).map(|(what, data)| format!("{what}: {}", data.escape_ascii()))
}

#[test]
fn seeds_and_mutations() {
    let failures = TARGETS.iter().filter_map(|(target, _)| {
        let seeds = seeds(target);
        let data: Vec<Vec<u8>> = seeds.iter().map(|(_, seed)| seed.clone()).collect();
        let mutations = (0..ROUNDS).map(|round| (format!("{target}, round {round}"), mutated(&data, round)));
        failure(target, seeds.into_iter().chain(mutations))
    });
    let failures: Vec<String> = failures.collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A target that libFuzzer does not run, or a program for a target that there is not, is a mistake.
#[test]
fn every_target_is_a_program_with_seeds() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let programs: BTreeSet<String> = targets.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&directory("fuzz_targets")), programs);
    assert_eq!(names(&directory("seeds")), targets);
    let manifest = std::fs::read_to_string(directory("Cargo.toml")).unwrap();
    for name in &targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

/// The fuzzer does not find its way into an envelope by itself: each JSON seed that has a protobuf form is also one of protobuf.
/// `KCTL_UPDATE=1` writes them.
#[test]
fn protobuf_seeds_are_json_seeds() {
    for (name, seed) in seeds("json") {
        let Some(value) = serde_json::from_slice::<serde_json::Value>(&seed).ok() else { continue };
        let Ok(encoded) = schema::proto::encode(&value) else { continue };
        let file = directory("seeds/protobuf").join(name.trim_start_matches("json/").replace(".json", ".pb"));
        if std::env::var_os("KCTL_UPDATE").is_some() {
            std::fs::write(&file, &encoded).unwrap();
        }
        assert_eq!(std::fs::read(&file).ok(), Some(encoded), "{}", file.display());
    }
}
