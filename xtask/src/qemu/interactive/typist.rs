//! Who types: somebody at a terminal, with history and completion, or a pipe.

use std::io::{self, IsTerminal, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Editor, ExternalPrinter, Helper};
use serde::Deserialize;

use super::screen::Show;
use crate::machine::PROMPT;
use crate::tool;

/// A command, as the monitor's `help --json` lists it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Command {
    pub(super) name: String,
    /// The words behind its name, of each form.
    pub(super) forms: Vec<String>,
}

/// The lines that are typed.
pub(super) struct Typist {
    lines: Receiver<String>,
    /// Asks the editor for a line; a pipe is read ahead.
    ask: Option<Sender<()>>,
    asked: bool,
}

impl Typist {
    /// The typist, who completes `commands`, and how lines are shown beside what is being typed.
    ///
    /// # Errors
    /// When the terminal cannot be used.
    pub(super) fn new(commands: Vec<Command>, history: PathBuf) -> Result<(Self, Show)> {
        let (sender, lines) = mpsc::channel();
        if !(stdin().is_terminal() && stdout().is_terminal()) {
            tool::forward(io::stdin(), sender, |line| line);
            return Ok((
                Self { lines, ask: None, asked: false },
                Box::new(|line| println!("{line}")),
            ));
        }
        let config = Config::builder().completion_type(CompletionType::List).build();
        let mut editor = Editor::<Words, DefaultHistory>::with_config(config)
            .context("the terminal cannot be used")?;
        editor.set_helper(Some(Words(commands)));
        // There is none before the first session.
        let _ = editor.load_history(&history);
        let mut printer =
            editor.create_external_printer().context("the terminal cannot be used")?;
        let (ask, asked) = mpsc::channel();
        thread::spawn(move || edit(&mut editor, &asked, &sender, &history));
        let show = move |line: &str| drop(printer.print(format!("{line}\n")));
        Ok((Self { lines, ask: Some(ask), asked: false }, Box::new(show)))
    }

    /// The next line, if it comes in time.
    ///
    /// # Errors
    /// When it does not, or no more will.
    pub(super) fn line(&mut self, time: Duration) -> Result<String, RecvTimeoutError> {
        match &self.ask {
            Some(ask) if !self.asked => {
                // A typist who left is noticed below.
                let _ = ask.send(());
                self.asked = true;
            }
            _ => {}
        }
        let line = self.lines.recv_timeout(time)?;
        self.asked = false;
        if self.ask.is_none() {
            println!("{PROMPT}{line}");
        }
        Ok(line)
    }
}

/// Reads a line whenever one is asked for, until the input ends.
fn edit(
    editor: &mut Editor<Words, DefaultHistory>,
    asked: &Receiver<()>,
    lines: &Sender<String>,
    history: &Path,
) {
    while asked.recv().is_ok() {
        let line = loop {
            match editor.readline(PROMPT) {
                Ok(line) => break line,
                // As in a shell, it gives up the line.
                Err(ReadlineError::Interrupted) => {}
                Err(_) => return,
            }
        };
        // Without history one can still type.
        let _ = editor.add_history_entry(&line);
        let _ = editor.save_history(history);
        if lines.send(line).is_err() {
            return;
        }
    }
}

/// Completes the words of commands.
struct Words(Vec<Command>);

impl Words {
    /// What may follow `before` up to the cursor, and where the word begins that it completes.
    fn candidates(&self, before: &str) -> (usize, Vec<String>) {
        let start = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let (known, word) = before.split_at(start);
        let mut found: Vec<String> = match known.split_whitespace().next() {
            None => self.0.iter().map(|command| command.name.clone()).collect(),
            Some(name) => {
                let of_name = self.0.iter().filter(|command| command.name == name);
                of_name
                    .flat_map(|command| command.forms.iter().flat_map(|form| literals(form)))
                    .collect()
            }
        };
        found.retain(|one| one.starts_with(word));
        found.sort_unstable();
        found.dedup();
        (start, found)
    }
}

/// The words of a form that are typed as they are: what stands for something else is in capitals.
fn literals(form: &str) -> impl Iterator<Item = String> {
    let words = form.split(|c: char| c.is_whitespace() || "[]|,".contains(c));
    let typed = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase() || c == '-');
    words.filter(typed).map(str::to_owned)
}

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(line.get(..at).unwrap_or(line)))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        let command = |name: &str, forms: &[&str]| Command {
            name: name.into(),
            forms: forms.iter().map(|&form| form.to_owned()).collect(),
        };
        Words(vec![
            command("blocks", &["[--json]"]),
            command("offline", &["N", "status|cancel"]),
            command("online", &["N [WAY]"]),
            command(
                "vm",
                &["[--json]", "create NAME SIZE [@NODE] [payload]", "pause|kill|log NAME"],
            ),
        ])
    }

    #[test]
    fn names_are_completed_and_then_the_words_of_their_forms() {
        let words = words();
        assert_eq!(words.candidates("o"), (0, vec!["offline".into(), "online".into()]));
        assert_eq!(words.candidates("offline ").1, ["cancel", "status"]);
        assert_eq!(words.candidates("offline s"), (8, vec!["status".into()]));
        assert_eq!(words.candidates("vm create a 1G p").1, ["pause", "payload"]);
        assert_eq!(words.candidates("blocks --j").1, ["--json"]);
        assert!(words.candidates("nonsense ").1.is_empty());
    }
}
