//! Tells a person how far the plan is: a moving line per step on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::plan::Event;

pub(crate) struct Progress {
    begin: Instant,
    terminal: Option<MultiProgress>,
    bars: Mutex<HashMap<&'static str, ProgressBar>>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { begin: Instant::now(), terminal, bars: Mutex::default() }
    }

    pub(crate) fn tell<C>(&self, event: &Event<'_, C>) {
        match event {
            Event::Started { step, reason } => match &self.terminal {
                Some(terminal) => {
                    let style = ProgressStyle::with_template("{spinner} {prefix:<18} {msg} ({elapsed})")
                        .unwrap_or_else(|_| ProgressStyle::default_spinner());
                    let bar =
                        terminal.add(ProgressBar::new_spinner().with_style(style).with_prefix(step.name).with_message(step.what));
                    bar.enable_steady_tick(Duration::from_millis(120));
                    self.lock().insert(step.name, bar);
                }
                None => self.line("....", step.name, &format!("{} ({reason})", step.what)),
            },
            Event::Finished { step, changed: true, elapsed } => {
                self.end(step.name);
                self.line(" ok ", step.name, &format!("{} in {:.1} s", step.what, elapsed.as_secs_f32()));
            }
            Event::Finished { step, changed: false, .. } => self.line("    ", step.name, "unchanged"),
            Event::Failed { step } => {
                self.end(step.name);
                self.line("FAIL", step.name, step.what);
            }
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    fn end(&self, step: &str) {
        if let Some(bar) = self.lock().remove(step) {
            bar.finish_and_clear();
        }
    }

    fn line(&self, mark: &str, step: &str, text: &str) {
        let line = format!("[{:6.1} s] {mark} {step:<18} {text}", self.elapsed().as_secs_f32());
        match &self.terminal {
            Some(terminal) => {
                // An unwritable terminal is not worth failing for.
                let _ = terminal.println(line);
            }
            None => eprintln!("{line}"),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<&'static str, ProgressBar>> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
