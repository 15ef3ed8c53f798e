//! The kernel's monitor in the user's terminal. `plug` and `unplug` are ours: a DIMM is nothing the guest can make.

use std::collections::VecDeque;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::options::Args;
use crate::machine::{Config, Dimm, Exit, Machine, PROMPT};
use crate::size::{DimmSpec, human};

/// What a typed line means.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    Plug(DimmSpec),
    Unplug(usize),
    /// Ours, but wrong; the text says how it should be.
    Wrong(String),
    /// Not ours.
    Guest(String),
}

/// Runs the machine until the guest exits or the input ends.
///
/// # Errors
/// When the machine does not start.
pub(crate) fn run(image: &Path, config: &Config, args: &Args) -> Result<ExitCode> {
    println!(
        "The kernel's monitor; `help` lists its commands. Here also: plug SIZE[@NODE], unplug N. `exit` ends."
    );
    let echo = Echo::default();
    let screen = WithoutEcho { screen: io::stdout(), echo: Arc::clone(&echo) };
    let mut machine = Machine::start(image, config, Some(Box::new(screen)))?;
    machine.wait_ready()?;

    let lines = typed_lines();
    let mut dimms = Vec::new();
    let exit = loop {
        if let Some(exit) = machine.ended() {
            break exit;
        }
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => {
                if let Some(message) = obey(&mut machine, &mut dimms, args, &echo, &line)? {
                    // The guest believes that its prompt still stands, so there shall be one.
                    print!("{message}\n{PROMPT}");
                    io::stdout().flush()?;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break machine.exit(0)?,
        }
    };
    println!("\n{}", exit.describe());
    Ok(exit_code(exit))
}

/// The monitor's `exit N` becomes ours; any other end is a failure.
fn exit_code(exit: Exit) -> ExitCode {
    let code = exit.monitor_code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// What the guest will echo, though the terminal showed it already.
type Echo = Arc<Mutex<VecDeque<u8>>>;

/// The screen, with the guest's echo taken out.
struct WithoutEcho<W> {
    screen: W,
    echo: Echo,
}

impl<W: Write> Write for WithoutEcho<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut echo = self.echo.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            match echo.front() {
                Some(&expected) if byte == expected => drop(echo.pop_front()),
                // The guest may end its lines with both.
                Some(b'\n') if byte == b'\r' => {}
                // The line ended otherwise: what was expected of it comes no more.
                Some(_) if byte == b'\n' => {
                    while echo.pop_front().is_some_and(|expected| expected != b'\n') {}
                    shown.push(byte);
                }
                _ => shown.push(byte),
            }
        }
        self.screen.write_all(&shown)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.screen.flush()
    }
}

/// Lines of the standard input, read by a thread of its own because reading blocks.
fn typed_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(io::Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Does what a line asks for; answers with something to print. Mistakes are told, not fatal.
fn obey(
    machine: &mut Machine,
    dimms: &mut Vec<Dimm>,
    args: &Args,
    echo: &Echo,
    line: &str,
) -> Result<Option<String>> {
    Ok(match meaning(line) {
        Typed::Guest(line) => {
            let mut expected = echo.lock().unwrap_or_else(PoisonError::into_inner);
            expected.extend(line.bytes().chain([b'\n']));
            drop(expected);
            machine.type_line(&line)?;
            None
        }
        Typed::Wrong(help) => Some(help),
        Typed::Plug(spec) => Some(match machine.plug(spec, args.fill) {
            Ok(dimm) => {
                let told =
                    format!("DIMM {}: {} at {:#x}", dimms.len(), human(dimm.size), dimm.start);
                dimms.push(dimm);
                told
            }
            Err(error) => format!("{error:#}"),
        }),
        Typed::Unplug(number) => {
            let asked = dimms
                .get(number)
                .context("there is no such DIMM")
                .and_then(|dimm| machine.unplug(dimm));
            asked.err().map(|error| format!("{error:#}"))
        }
    })
}

/// Reads a typed line.
fn meaning(line: &str) -> Typed {
    let mut words = line.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("plug"), Some(size), None) => match size.parse() {
            Ok(spec) => Typed::Plug(spec),
            Err(error) => Typed::Wrong(format!("{error:#}")),
        },
        (Some("unplug"), Some(number), None) => match number.parse() {
            Ok(number) => Typed::Unplug(number),
            Err(_) => Typed::Wrong(format!("`{number}` is not a DIMM's number")),
        },
        (Some("plug"), ..) => Typed::Wrong("usage: plug SIZE[@NODE]".into()),
        (Some("unplug"), ..) => Typed::Wrong("usage: unplug N, where the first DIMM is 0".into()),
        _ => Typed::Guest(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plug_and_unplug_are_ours_and_everything_else_is_the_guests() {
        assert_eq!(meaning("plug 1G@1"), Typed::Plug("1G@1".parse().unwrap()));
        assert_eq!(meaning(" unplug 2 "), Typed::Unplug(2));
        assert_eq!(meaning("blocks --json"), Typed::Guest("blocks --json".into()));
        assert_eq!(meaning(""), Typed::Guest(String::new()));
    }

    #[test]
    fn what_the_terminal_showed_is_not_shown_again() {
        let echo = Echo::default();
        let mut filter = WithoutEcho { screen: Vec::new(), echo: Arc::clone(&echo) };
        filter.write_all(b"hotmem> ").unwrap();
        echo.lock().unwrap().extend(b"stats\n");
        filter.write_all(b"sta").unwrap();
        filter.write_all(b"ts\r\npresent 512 MiB\r\nok\r\nhotmem> ").unwrap();
        assert_eq!(filter.screen, b"hotmem> present 512 MiB\r\nok\r\nhotmem> ");

        filter.screen.clear();
        echo.lock().unwrap().extend(b"x\x01y\n");
        filter.write_all(b"x\r\nerror: y\n").unwrap();
        assert_eq!(filter.screen, b"\r\nerror: y\n");
    }

    #[test]
    fn mistakes_are_answered_with_how_it_should_be() {
        for line in ["plug", "plug 1G 2G", "plug nonsense", "unplug", "unplug x"] {
            assert!(matches!(meaning(line), Typed::Wrong(_)), "{line}");
        }
    }
}
