//! Progress of something slow: a spinner on a terminal, plain lines elsewhere. Always on stderr.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

/// Plain output gets a line this often.
const EVERY: Duration = Duration::from_secs(10);

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

    /// Starts the activity `what` if the output is a terminal; otherwise nothing is printed.
    pub(crate) fn on_terminal(what: impl Into<String>) -> Option<Self> {
        stderr().is_terminal().then(|| Self::start(what))
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

    /// Ends the activity and leaves nothing of it.
    pub(crate) fn clear(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
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

/// Work whose end is known, in bytes: a bar with rate and rest on a terminal, now and then a line elsewhere.
pub(crate) struct Bar {
    bar: Option<ProgressBar>,
    what: String,
    started: Instant,
    shown: Instant,
}

impl Bar {
    /// Starts the work `what`. Nothing is shown before there is some progress.
    pub(crate) fn start(what: impl Into<String>) -> Self {
        let now = Instant::now();
        Self { bar: None, what: what.into(), started: now, shown: now }
    }

    /// So many bytes are done, of `total`.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        if stderr().is_terminal() {
            let what = &self.what;
            let bar = self.bar.get_or_insert_with(|| bytes_bar(what, total));
            bar.set_position(done);
        } else if self.shown.elapsed() >= EVERY {
            self.shown = Instant::now();
            eprintln!("{}", progress_line(&self.what, done, total, self.started.elapsed()));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line about work that has taken `elapsed` so far.
fn progress_line(what: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let rate = (done as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    let rest = Duration::from_secs(total.saturating_sub(done) / rate.max(1));
    let percent = done.saturating_mul(100) / total.max(1);
    let (done, total) = (HumanBytes(done), HumanBytes(total));
    format!(
        "{what}: {percent} %, {done} of {total}, {}/s, {} left",
        HumanBytes(rate),
        HumanDuration(rest)
    )
}

fn bytes_bar(what: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let template = "{msg} [{wide_bar}] {percent} % {binary_bytes_per_sec}, {eta} left";
    // The template is a constant, so this branch is always taken.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what.to_owned());
    bar
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_rate_and_rest_and_fits() {
        let gib = 1 << 30;
        let line = progress_line("Using memory", 128 * gib, 512 * gib, Duration::from_secs(60));
        let expected = "Using memory: 25 %, 128.00 GiB of 512.00 GiB, 2.13 GiB/s, 3 minutes left";
        assert_eq!(line, expected);
        assert!(line.len() <= crate::layout::WIDTH);
        // Nothing is done yet.
        assert!(
            progress_line("x", 0, gib, Duration::ZERO)
                .starts_with("x: 0 %, 0 B of 1.00 GiB, 0 B/s")
        );
    }
}
