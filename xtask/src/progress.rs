//! Progress of something slow: a spinner on a terminal, plain lines elsewhere. Always on stderr.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One running activity.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    what: String,
    started: Instant,
}

impl Progress {
    /// Starts the activity `what` and says so.
    pub(crate) fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = stderr().is_terminal().then(|| spinner(&what));
        if bar.is_none() {
            eprintln!("{what} ...");
        }
        Self { bar, what, started: Instant::now() }
    }

    /// Shows `detail` behind the activity; plain output keeps quiet.
    pub(crate) fn detail(&self, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {detail}", self.what));
        }
    }

    /// Prints a whole line above the spinner.
    pub(crate) fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// Ends the activity and says how long it took.
    pub(crate) fn done(self) {
        let seconds = self.started.elapsed().as_secs_f32();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{} done in {seconds:.1} s", self.what);
    }
}

/// A spinner that moves by itself, so that a silent tool does not look hung.
fn spinner(what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    // The template is a constant, so this branch is always taken.
    if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed_precise}] {wide_msg}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
