//! Named health checks behind `/healthz`, `/livez` and `/readyz`, answered in upstream's text form.

use std::fmt::Write;
use std::sync::{Arc, RwLock};

type CheckFn = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Which endpoint a check counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `/livez`, `/readyz` and `/healthz`.
    Live,
    /// `/readyz` only: the daemon lives, but must not be sent work.
    Ready,
}

/// Which endpoint was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Healthz,
    Livez,
    Readyz,
}

impl Endpoint {
    /// The endpoint of a path such as `/readyz`.
    pub fn of(path: &str) -> Option<Self> {
        match path.trim_end_matches('/') {
            "/healthz" => Some(Self::Healthz),
            "/livez" => Some(Self::Livez),
            "/readyz" => Some(Self::Readyz),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Healthz => "healthz",
            Self::Livez => "livez",
            Self::Readyz => "readyz",
        }
    }

    fn asks(self, scope: Scope) -> bool {
        scope == Scope::Live || self == Self::Readyz
    }
}

/// The checks of a daemon. Clones share them; checks must answer at once, from memory.
#[derive(Clone, Default)]
pub struct Checks {
    checks: Arc<RwLock<Vec<(String, Scope, CheckFn)>>>,
}

/// An answer: whether all is well, and the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub healthy: bool,
    pub text: String,
}

impl Checks {
    pub fn new() -> Self {
        let checks = Self::default();
        checks.add("ping", Scope::Live, || Ok(()));
        checks
    }

    pub fn add(&self, name: &str, scope: Scope, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.checks.write().unwrap_or_else(|e| e.into_inner()).push((name.to_owned(), scope, Arc::new(check)));
    }

    /// `exclude` names checks to leave out (`?exclude=`); `verbose` lists each.
    pub fn report(&self, endpoint: Endpoint, verbose: bool, exclude: &[String]) -> Report {
        let mut text = String::new();
        let mut healthy = true;
        for (name, _, check) in self.checks.read().unwrap_or_else(|e| e.into_inner()).iter().filter(|(_, s, _)| endpoint.asks(*s))
        {
            if exclude.contains(name) {
                let _ = writeln!(text, "[+]{name} excluded: ok");
                continue;
            }
            match check() {
                Ok(()) => {
                    let _ = writeln!(text, "[+]{name} ok");
                }
                Err(_reason) => {
                    // The reason may name internals: it is logged, not told to a client that may be anonymous.
                    tracing::debug!(check = name, reason = _reason, "health check failed");
                    healthy = false;
                    let _ = writeln!(text, "[-]{name} failed: reason withheld");
                }
            }
        }
        let name = endpoint.name();
        match (healthy, verbose) {
            (true, false) => text = "ok".to_owned(),
            (true, true) => {
                let _ = writeln!(text, "{name} check passed");
            }
            (false, _) => {
                let _ = writeln!(text, "{name} check failed");
            }
        }
        Report { healthy, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_check_does_not_count_for_livez() {
        let checks = Checks::new();
        checks.add("informer-sync", Scope::Ready, || Err("not yet".into()));
        assert_eq!(checks.report(Endpoint::Livez, false, &[]), Report { healthy: true, text: "ok".into() });
        let ready = checks.report(Endpoint::Readyz, false, &[]);
        assert!(!ready.healthy);
        assert_eq!(ready.text, "[+]ping ok\n[-]informer-sync failed: reason withheld\nreadyz check failed\n");
        assert!(checks.report(Endpoint::Readyz, false, &["informer-sync".into()]).healthy);
    }

    #[test]
    fn verbose_lists_what_passed() {
        assert_eq!(Checks::new().report(Endpoint::Healthz, true, &[]).text, "[+]ping ok\nhealthz check passed\n");
    }
}
