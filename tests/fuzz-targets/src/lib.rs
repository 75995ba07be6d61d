//! Targets for the fuzzer: for each decoder a function of bytes that panics when something does not hold.
//!
//! That nothing panics, recurses without bound or takes long is the least; what is decoded must also come back from its
//! encoding, diffs must lead where they say, and applying twice must be applying once. `tests/fuzz` runs these functions under
//! libFuzzer, this crate's tests on the seeds in `tests/fuzz/seeds` and on mutations of them.
//!
//! Some targets read text (documents apart by an empty line), others take the bytes as [`choices`] of a generator of valid
//! objects, which gets deeper than chance does.

mod apply;
mod cel;
mod choices;
mod custom;
mod documents;
mod json;
mod jsonpath;
pub mod mutate;
mod patches;
mod protobuf;
mod selectors;
mod strategic;
mod typed;
mod yaml;

/// A target, and its name in `tests/fuzz/seeds` and `tests/fuzz/fuzz_targets`.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("apply", apply::run),
    ("cel", cel::run),
    ("custom_schema", custom::run),
    ("field_selector", selectors::fields),
    ("json", json::run),
    ("json_patch", patches::json),
    ("jsonpath", jsonpath::run),
    ("label_selector", selectors::labels),
    ("merge_patch", patches::merge),
    ("protobuf", protobuf::wire),
    ("protobuf_typed", protobuf::typed),
    ("strategic_patch", strategic::text),
    ("strategic_typed", strategic::typed),
    ("yaml", yaml::run),
];

/// Runs the target of that name.
///
/// # Panics
/// When there is none, or when something does not hold.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of that name");
    target(data);
}
