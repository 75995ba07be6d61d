//! `--feature-gates`: what is not yet on in every cluster, or soon is always.
//!
//! Of upstream's gates a daemon knows those that change what it does. Others may be named, as manifests name them, and do nothing.

use std::collections::BTreeMap;

/// A gate that changes something.
struct Gate {
    name: &'static str,
    stage: Stage,
    on: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Beta,
}

const GATES: &[Gate] = &[Gate { name: "StorageVersionMigrator", stage: Stage::Beta, on: false }];

/// What was said about gates. The default is that nothing was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates(BTreeMap<String, bool>);

impl FeatureGates {
    /// Items of the form `NAME=BOOL`; the last of a name counts.
    ///
    /// # Errors
    /// Another form, in upstream's words.
    pub fn parse(items: &[String]) -> Result<Self, String> {
        let mut gates = BTreeMap::new();
        for item in items.iter().filter(|item| !item.is_empty()) {
            let (name, value) = item.split_once('=').ok_or_else(|| format!("missing bool value for {}", item.trim()))?;
            let (name, value) = (name.trim(), value.trim());
            // A component may stand before the name; this one is the default.
            let name = name.strip_prefix("kube:").unwrap_or(name);
            let on = parse_bool(value).map_err(|why| format!("invalid value of {name}={value}, err: {why}"))?;
            gates.insert(name.to_owned(), on);
        }
        Ok(Self(gates))
    }

    /// Whether a gate is on: as was said of it, or else of all beta features, or else by default. One that no daemon knows is off.
    pub fn is_on(&self, name: &str) -> bool {
        let Some(gate) = GATES.iter().find(|gate| gate.name == name) else { return false };
        let all = match gate.stage {
            Stage::Beta => "AllBeta",
        };
        *self.0.get(name).or_else(|| self.0.get(all)).unwrap_or(&gate.on)
    }

    /// What was said, by name.
    pub fn named(&self) -> impl Iterator<Item = (&str, bool)> {
        self.0.iter().map(|(name, on)| (name.as_str(), *on))
    }

    /// The gates that were named and do nothing.
    pub fn unknown(&self) -> Vec<&str> {
        let known = |name: &str| matches!(name, "AllAlpha" | "AllBeta") || GATES.iter().any(|gate| gate.name == name);
        self.0.keys().map(String::as_str).filter(|name| !known(name)).collect()
    }
}

/// A truth value as Go's flags take it.
///
/// # Errors
/// Go's message.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<FeatureGates, String> {
        FeatureGates::parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_on() {
        let check = |text: &str, on: bool| assert_eq!(parse(text).unwrap().is_on("StorageVersionMigrator"), on, "{text}");
        check("", false);
        check("StorageVersionMigrator=true", true);
        check(" StorageVersionMigrator = T ", true);
        check("kube:StorageVersionMigrator=true", true);
        check("AllBeta=true", true);
        check("AllAlpha=true", false);
        check("StorageVersionMigrator=false,AllBeta=true", false);
        check("StorageVersionMigrator=true,StorageVersionMigrator=false", false);
        assert!(!parse("Other=true").unwrap().is_on("Other"));
        assert_eq!(parse("Other=true,AllBeta=false,StorageVersionMigrator=1").unwrap().unknown(), ["Other"]);
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(parse("A").unwrap_err(), "missing bool value for A");
        let why = "invalid value of A=yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax";
        assert_eq!(parse("A=yes").unwrap_err(), why);
    }
}
