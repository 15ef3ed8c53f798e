//! Logs as text: one event on a line, and comments behind `#`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::event::Event;

/// The first line of a log.
const HEAD: &str = "# hotmem storm";

/// A log as text; `note` says where it is from.
pub fn write(note: &str, log: &[Event]) -> String {
    let events: String = log.iter().map(|event| format!("{event}\n")).collect();
    format!("{HEAD}: {note}\n{events}")
}

/// The events of a log.
///
/// # Errors
///
/// The first line that is not an event, with its number.
pub fn read(text: &str) -> Result<Vec<Event>> {
    let bare = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
    let lines = text.lines().map(bare).enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(number, line)| line.parse().with_context(|| format!("line {}", number + 1)))
        .collect()
}

/// The events of the log in a file.
///
/// # Errors
///
/// A file that cannot be read; the first line that is not an event.
pub fn load(path: &Path) -> Result<Vec<Event>> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    read(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::generate;

    #[test]
    fn a_log_is_read_as_it_was_written() {
        let log = generate(1, 5000, 3);
        assert_eq!(read(&write("seed 1", &log)).unwrap(), log);
    }

    #[test]
    fn a_line_that_is_not_an_event_is_named_with_its_number() {
        for (line, words) in [
            ("fly", "no event 'fly'"),
            ("plug 4 1 now", "no slot 4"),
            ("plug 0 3 now", "3 blocks"),
            ("pmem-add 2 device force", "no region 2"),
            ("offline p0.2", "'p0.2'"),
            ("add 7+2 block", "not within 8"),
            ("add 18446744073709551615+2 block", "not within 8"),
            ("online s0 movable", "'s0'"),
            ("online w8 movable", "'w8'"),
            ("free", "a word is missing"),
            ("free 1 2", "too many words"),
        ] {
            let error = read(&format!("# x\n\nsettle # y\n{line}\n")).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains("line 4") && error.contains(words), "{error}");
        }
    }
}
