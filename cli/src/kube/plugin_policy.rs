//! Which programs a kubeconfig may have run for credentials (KEP-3104, `credentialPluginPolicy` of kuberc).

use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PluginPolicy {
    #[default]
    AllowAll,
    DenyAll,
    /// Names that are found in PATH, or paths.
    Allowlist(Vec<String>),
}

impl PluginPolicy {
    /// A policy by its name, with the list of the file. It is about safety: what may be a slip is an error.
    ///
    /// # Errors
    /// In client-go's words.
    pub fn new(name: &str, allowed: Option<Vec<String>>) -> Result<Self, String> {
        let policy = match name {
            "" | "AllowAll" => Self::AllowAll,
            "DenyAll" => Self::DenyAll,
            "Allowlist" => return allowlist(allowed).map(Self::Allowlist),
            other => return Err(format!("unknown plugin policy: {other:?}")),
        };
        match allowed {
            None => Ok(policy),
            Some(_) => {
                Err(format!("misconfigured credential plugin allowlist: plugin policy is {name:?} but allowlist is non-nil"))
            }
        }
    }

    /// Whether a program may be run. `look_up` finds programs as they would be found to run them.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, command: &str, look_up: impl Fn(&str) -> Option<PathBuf>) -> Result<(), String> {
        let allowed = match self {
            Self::AllowAll => return Ok(()),
            Self::DenyAll => return Err(format!("plugin {command:?} not allowed: policy set to \"DenyAll\"")),
            Self::Allowlist(allowed) => allowed,
        };
        if allowed.iter().any(|allowed| allowed == command) {
            return Ok(());
        }
        let found = look_up(command).ok_or_else(|| {
            format!("plugin path {command:?} cannot be resolved for credential plugin allowlist check: executable file not found")
        })?;
        if allowed.iter().any(|allowed| look_up(allowed).as_ref() == Some(&found)) {
            return Ok(());
        }
        Err(format!("plugin path {:?} is not permitted by the credential plugin allowlist", found.display().to_string()))
    }
}

fn allowlist(allowed: Option<Vec<String>>) -> Result<Vec<String>, String> {
    let Some(allowed) = allowed else {
        return Err("credential plugin policy set to \"Allowlist\", but allowlist is unspecified".into());
    };
    if allowed.is_empty() {
        return Err(
            "credential plugin policy set to \"Allowlist\", but allowlist is empty; use \"DenyAll\" policy instead".into()
        );
    }
    if let Some(at) = allowed.iter().position(String::is_empty) {
        return Err(format!("misconfigured credential plugin allowlist: empty allowlist entry #{}", at + 1));
    }
    Ok(allowed)
}

/// The file that running a program would run: a path as it is, a name by PATH.
pub fn look_up(command: &str) -> Option<PathBuf> {
    if command.contains('/') {
        return is_program(Path::new(command)).then(|| command.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(command)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let list = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        let check = |name: &str, allowed: Option<Vec<String>>, want: Result<PluginPolicy, &str>| {
            assert_eq!(PluginPolicy::new(name, allowed), want.map_err(str::to_owned), "{name}");
        };
        check("", None, Ok(PluginPolicy::AllowAll));
        check("DenyAll", None, Ok(PluginPolicy::DenyAll));
        check("Allowlist", list(&["a"]), Ok(PluginPolicy::Allowlist(vec!["a".into()])));
        check("denyall", None, Err("unknown plugin policy: \"denyall\""));
        check(
            "DenyAll",
            list(&[]),
            Err("misconfigured credential plugin allowlist: plugin policy is \"DenyAll\" but allowlist is non-nil"),
        );
        check("Allowlist", None, Err("credential plugin policy set to \"Allowlist\", but allowlist is unspecified"));
        check("Allowlist", list(&["a", ""]), Err("misconfigured credential plugin allowlist: empty allowlist entry #2"));
        assert!(PluginPolicy::new("Allowlist", list(&[])).is_err());
    }

    #[test]
    fn programs() {
        let look_up = |command: &str| match command {
            "good" | "/bin/good" => Some("/bin/good".into()),
            "bad" | "/bin/bad" => Some("/bin/bad".into()),
            "/tmp/good" => Some("/tmp/good".into()),
            _ => None,
        };
        let check = |allowed: &[&str], command: &str, want: Result<(), &str>| {
            let policy = PluginPolicy::Allowlist(allowed.iter().map(|&word| word.to_owned()).collect());
            assert_eq!(policy.check(command, look_up), want.map_err(str::to_owned), "{allowed:?} {command}");
        };
        check(&["good"], "good", Ok(()));
        check(&["/bin/good"], "good", Ok(()));
        check(&["good"], "/bin/good", Ok(()));
        check(&["good"], "bad", Err("plugin path \"/bin/bad\" is not permitted by the credential plugin allowlist"));
        check(&["good"], "/tmp/good", Err("plugin path \"/tmp/good\" is not permitted by the credential plugin allowlist"));
        assert!(PluginPolicy::Allowlist(vec!["good".into()]).check("none", look_up).is_err());
        assert_eq!(PluginPolicy::AllowAll.check("none", look_up), Ok(()));
        let denied = PluginPolicy::DenyAll.check("good", look_up);
        assert_eq!(denied, Err("plugin \"good\" not allowed: policy set to \"DenyAll\"".into()));
    }
}
