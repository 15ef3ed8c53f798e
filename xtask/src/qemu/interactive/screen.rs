//! What the guest writes, as whole lines for people: without its prompts and the echo of what was typed, and with one
//! line for each event.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::summary;
use crate::layout::{WIDTH, hanging};
use crate::machine::{PROMPT, Step, reported};
use crate::progress::Bar;

/// Takes a line to show.
pub(super) type Show = Box<dyn FnMut(&str) + Send>;

/// The screen; its clones are the same one.
#[derive(Clone)]
pub(super) struct Screen(Arc<Mutex<State>>);

struct State {
    show: Show,
    /// Show the guest's lines as they are.
    raw: bool,
    /// Show nothing.
    quiet: bool,
    /// The line the guest is writing.
    partial: Vec<u8>,
    /// What was typed, and is not echoed yet.
    expected: VecDeque<String>,
    /// The progress of a command.
    bar: Option<Bar>,
}

impl Screen {
    /// A screen on which nothing was typed; `raw` if the guest's lines are shown as they are.
    pub(super) fn new(raw: bool) -> Self {
        let (partial, expected) = (Vec::new(), VecDeque::new());
        let show: Show = Box::new(|line| println!("{line}"));
        Self(Arc::new(Mutex::new(State { show, raw, quiet: false, partial, expected, bar: None })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows nothing: what comes now was asked for by a program.
    pub(super) fn hush(&self) {
        self.state().quiet = true;
    }

    /// Shows what comes from now on, by `show`.
    pub(super) fn begin(&self, show: Show) {
        let mut state = self.state();
        state.show = show;
        state.quiet = false;
    }

    /// Shows a line that is ours.
    pub(super) fn say(&self, line: &str) {
        (self.state().show)(line);
    }

    /// Expects the echo of a line that is being typed.
    pub(super) fn expect(&self, line: &str) {
        self.state().expected.push_back(line.to_owned());
    }

    /// Whether the guest waits for a line: nothing stands behind its prompt, and nothing will.
    pub(super) fn prompt_stands(&self) -> bool {
        let state = self.state();
        state.expected.is_empty() && state.partial == PROMPT.as_bytes()
    }

    /// Shows the line that the guest did not finish.
    pub(super) fn end(&self) {
        let mut state = self.state();
        if !state.partial.is_empty() {
            state.line();
        }
    }
}

impl State {
    /// The guest has ended a line.
    fn line(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned();
        let mut text = line.as_str();
        while let Some(rest) = text.strip_prefix(PROMPT) {
            text = rest;
        }
        let behind_prompt = text.len() < line.len();
        let echo = self.expected.front().is_some_and(|expected| expected == text);
        let begun = behind_prompt && !text.is_empty();
        let rest = self.expected.front().and_then(|expected| expected.strip_prefix(text));
        if let (true, false, Some(rest)) = (begun, echo, rest) {
            // An event came amid the echo, whose rest follows.
            let rest = rest.to_owned();
            self.expected.pop_front();
            self.expected.push_front(rest);
        } else if echo || (begun && !self.expected.is_empty()) {
            // Control characters are not echoed, so that the echo may differ from what was typed.
            self.expected.pop_front();
        } else if !(self.quiet || behind_prompt && text.is_empty()) {
            self.shown(text);
        }
    }

    fn shown(&mut self, line: &str) {
        if self.raw {
            return (self.show)(line);
        }
        if let Some((done, total)) = reported(line) {
            return self.bar.get_or_insert_with(|| Bar::start("Progress")).at(done, total);
        }
        self.bar = None;
        match Step::parse(line) {
            Some(Ok(step)) => {
                let lines = hanging("* ", &summary::sentence(&step), WIDTH);
                lines.iter().for_each(|line| (self.show)(line));
            }
            _ => (self.show)(line),
        }
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        for &byte in bytes {
            match byte {
                b'\r' => {}
                b'\n' => state.line(),
                _ => state.partial.push(byte),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A screen that shows, and what it has shown.
    fn screen(raw: bool) -> (Screen, Arc<Mutex<Vec<String>>>) {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&shown);
        let screen = Screen::new(raw);
        screen.begin(Box::new(move |line| lines.lock().unwrap().push(line.into())));
        (screen, shown)
    }

    const REMOVED: &str =
        r#"hotmem: step {"operation":"remove","system_bytes":-4096,"instructions":1200,"ost":0}"#;

    #[test]
    fn what_was_typed_is_not_shown_again() {
        let (mut screen, shown) = screen(false);
        screen.write_all(b"hotmem> ").unwrap();
        assert!(screen.prompt_stands());
        screen.expect("stats");
        assert!(!screen.prompt_stands());
        screen.write_all(b"sta").unwrap();
        screen.write_all(b"ts\r\npresent 512 MiB\r\nok\r\nhotmem> ").unwrap();
        assert_eq!(*shown.lock().unwrap(), ["present 512 MiB", "ok"]);
        assert!(screen.prompt_stands());

        screen.expect("x\u{1}y");
        screen.write_all(b"xy\r\nerror: y\nhotmem> ").unwrap();
        assert_eq!(shown.lock().unwrap()[2..], ["error: y"]);
        assert!(screen.prompt_stands());
    }

    #[test]
    fn an_event_is_one_line_for_people_and_does_not_take_the_prompt_away() {
        let (mut screen, shown) = screen(false);
        screen.write_all(format!("hotmem> \n{REMOVED}\nhotmem> ").as_bytes()).unwrap();
        assert_eq!(
            *shown.lock().unwrap(),
            ["* remove: gone, -4 KiB of memory elsewhere, 1,200 instructions"]
        );
        assert!(screen.prompt_stands());
    }

    #[test]
    fn an_event_amid_the_echo_leaves_no_rest_of_it() {
        let (mut screen, shown) = screen(false);
        screen.write_all(b"hotmem> ").unwrap();
        screen.expect("blocks");
        screen.write_all(format!("block\n{REMOVED}\ns\n  none\nok\nhotmem> ").as_bytes()).unwrap();
        assert_eq!(shown.lock().unwrap()[1..], ["  none", "ok"]);
        assert!(screen.prompt_stands());
    }

    #[test]
    fn events_are_shown_as_they_are_where_that_was_asked_for() {
        let (mut screen, shown) = screen(true);
        screen.write_all(format!("{REMOVED}\nhotmem: step odd\n").as_bytes()).unwrap();
        assert_eq!(*shown.lock().unwrap(), [REMOVED, "hotmem: step odd"]);
    }

    #[test]
    fn a_line_without_an_end_is_shown_at_the_end() {
        let (mut screen, shown) = screen(false);
        screen.write_all(b"hotmem: pan").unwrap();
        screen.end();
        assert_eq!(*shown.lock().unwrap(), ["hotmem: pan"]);
    }
}
