//! The kernel's monitor in the user's terminal. `plug` and `unplug` are ours: a DIMM is nothing the guest can make.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use super::options::Args;
use crate::machine::{Config, Dimm, Exit, Machine, PROMPT};
use crate::size::{DimmSpec, human};
use crate::tool;

/// How often the guest's end, its prompt and the keyboard are looked at.
const LOOK: Duration = Duration::from_millis(20);

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
    let echo = SharedEcho::default();
    let screen = WithoutEcho { screen: io::stdout(), echo: Arc::clone(&echo) };
    let mut machine = Machine::start(image, config, Some(Box::new(screen)))?;
    machine.wait_ready()?;

    let lines = typed_lines();
    let mut dimms = Dimms::default();
    let exit = loop {
        if let Some(exit) = machine.ended() {
            break exit;
        }
        // A line is typed after the reply to the one before, so that pasted or piped lines work, too.
        if !lock(&echo).prompt_stands() {
            thread::sleep(LOOK);
            continue;
        }
        match lines.recv_timeout(LOOK) {
            Ok(line) => {
                if let Some(message) = obey(&mut machine, &mut dimms, args, &echo, &line)? {
                    // The guest believes that its prompt still stands, so print it again.
                    print!("{message}\n{PROMPT}");
                    io::stdout().flush()?;
                }
            }
            // A DIMM that went while nothing was typed gives its memory back to this host now.
            Err(RecvTimeoutError::Timeout) => {
                let reaped = dimms.reap(&mut machine);
                // A machine that ends meanwhile takes everything with it.
                if machine.ended().is_none() {
                    reaped?;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break machine.exit(0)?,
        }
    };
    println!("\n{exit}");
    Ok(exit_code(exit))
}

/// The monitor's `exit N` becomes ours; any other end is a failure.
fn exit_code(exit: Exit) -> ExitCode {
    match exit {
        Exit::Left(code) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
        _ => ExitCode::FAILURE,
    }
}

/// The DIMMs that were plugged here, by number. A number is not used again when its DIMM is gone.
#[derive(Default)]
struct Dimms(Vec<Option<Dimm>>);

impl Dimms {
    /// Plugs another one; returns a message for the user. Frees the memory of those that are gone by now.
    fn plug(&mut self, machine: &mut Machine, spec: DimmSpec, fill: Option<u8>) -> Result<String> {
        self.reap(machine)?;
        machine.image().arch.about().check_memory("plug", spec.size)?;
        let dimm = machine.plug(spec, fill)?;
        let text = format!("DIMM {}: {} at {:#x}", self.0.len(), human(dimm.size), dimm.start);
        self.0.push(Some(dimm));
        Ok(text)
    }

    /// Frees the memory behind those that are gone by now.
    fn reap(&mut self, machine: &mut Machine) -> Result<()> {
        for one in &mut self.0 {
            if let Some(dimm) = one
                && machine.reap(dimm)?
            {
                *one = None;
            }
        }
        Ok(())
    }

    /// Requests the unplug of DIMM `number` from the guest.
    fn unplug(&self, machine: &mut Machine, number: usize) -> Result<()> {
        match self.0.get(number) {
            Some(Some(dimm)) => machine.unplug(dimm),
            Some(None) => bail!("DIMM {number} is gone"),
            None => bail!("there is no such DIMM"),
        }
    }
}

/// What the guest will echo behind its prompt, though the terminal showed it already.
#[derive(Default)]
struct Echo {
    expected: VecDeque<u8>,
    /// The line the guest is writing.
    line: Vec<u8>,
    /// Whether the line so far is a prompt and echo, so that more echo may follow.
    behind_prompt: bool,
}

impl Echo {
    /// Expects a line that was typed, and its end.
    fn expect(&mut self, line: &str) {
        self.expected.extend(line.bytes().chain([b'\n']));
    }

    /// Whether the guest waits for a line: nothing stands behind its prompt, and nothing will.
    fn prompt_stands(&self) -> bool {
        self.expected.is_empty() && self.line == PROMPT.as_bytes()
    }

    /// Takes a byte from the guest; whether it is to be shown.
    fn shows(&mut self, byte: u8) -> bool {
        let next = self.expected.front().copied();
        let echo = self.behind_prompt && (next == Some(byte));
        // The guest may end its lines with both.
        let half_an_end = self.behind_prompt && next == Some(b'\n') && byte == b'\r';
        if echo {
            self.expected.pop_front();
        } else if byte == b'\n' && self.behind_prompt {
            // The line ended otherwise: what was expected of it comes no more.
            while self.expected.pop_front().is_some_and(|expected| expected != b'\n') {}
        }

        if byte == b'\n' {
            self.line.clear();
            self.behind_prompt = false;
        } else {
            self.line.push(byte);
            self.behind_prompt = self.behind_prompt && (echo || half_an_end);
            self.behind_prompt |= self.line == PROMPT.as_bytes();
        }
        !echo && !half_an_end
    }
}

/// The echo as the screen and the typist know it.
type SharedEcho = Arc<Mutex<Echo>>;

fn lock(echo: &SharedEcho) -> MutexGuard<'_, Echo> {
    echo.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The screen, with the guest's echo taken out.
struct WithoutEcho<W> {
    screen: W,
    echo: SharedEcho,
}

impl<W: Write> Write for WithoutEcho<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut echo = lock(&self.echo);
        let shown: Vec<u8> = bytes.iter().copied().filter(|&byte| echo.shows(byte)).collect();
        drop(echo);
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
    tool::forward(io::stdin(), sender, |line| line);
    lines
}

/// Executes a typed line; returns a message to print. Mistakes are reported, not fatal.
fn obey(
    machine: &mut Machine,
    dimms: &mut Dimms,
    args: &Args,
    echo: &SharedEcho,
    line: &str,
) -> Result<Option<String>> {
    Ok(match meaning(line) {
        Typed::Guest(line) => {
            lock(echo).expect(&line);
            machine.type_line(&line)?;
            None
        }
        Typed::Wrong(help) => Some(help),
        Typed::Plug(spec) => Some(match dimms.plug(machine, spec, args.fill) {
            Ok(text) => text,
            Err(error) => format!("{error:#}"),
        }),
        Typed::Unplug(number) => {
            dimms.unplug(machine, number).err().map(|error| format!("{error:#}"))
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
    use crate::arch::Arch;
    use crate::machine::fake::{Fake, Habit};

    #[test]
    fn a_dimm_that_is_gone_makes_room_for_the_next_one_any_number_of_times() {
        let mut machine = Fake::start(Habit::Good, &Config::of(Arch::X86_64)).unwrap();
        let mut dimms = Dimms::default();
        for number in 0..50 {
            let text = dimms.plug(&mut machine, "1G".parse().unwrap(), None).unwrap();
            assert_eq!(text, format!("DIMM {number}: 1 GiB at 0x100000000"));
            dimms.unplug(&mut machine, number).unwrap();
            // The reply to this comes after the event that the DIMM is gone.
            assert!(machine.dimms().unwrap().is_empty());
        }
        assert!(dimms.unplug(&mut machine, 48).unwrap_err().to_string().contains("is gone"));
        assert!(dimms.unplug(&mut machine, 50).unwrap_err().to_string().contains("no such"));
    }

    #[test]
    fn the_memory_of_a_dimm_that_is_gone_is_freed_without_another_plug() {
        let mut machine = Fake::start(Habit::Good, &Config::of(Arch::X86_64)).unwrap();
        let mut dimms = Dimms::default();
        dimms.plug(&mut machine, "1G".parse().unwrap(), None).unwrap();
        assert_eq!(machine.backends().unwrap(), 1);
        dimms.unplug(&mut machine, 0).unwrap();
        // The reply to this comes after the event that the DIMM is gone.
        assert_eq!(machine.backends().unwrap(), 1);
        dimms.reap(&mut machine).unwrap();
        assert_eq!(machine.backends().unwrap(), 0);
    }

    #[test]
    fn plug_and_unplug_are_ours_and_everything_else_is_the_guests() {
        assert_eq!(meaning("plug 1G@1"), Typed::Plug("1G@1".parse().unwrap()));
        assert_eq!(meaning(" unplug 2 "), Typed::Unplug(2));
        assert_eq!(meaning("blocks --json"), Typed::Guest("blocks --json".into()));
        assert_eq!(meaning(""), Typed::Guest(String::new()));
    }

    #[test]
    fn what_the_terminal_showed_is_not_shown_again() {
        let echo = SharedEcho::default();
        let mut filter = WithoutEcho { screen: Vec::new(), echo: Arc::clone(&echo) };
        filter.write_all(b"hotmem> ").unwrap();
        assert!(lock(&echo).prompt_stands());
        lock(&echo).expect("stats");
        assert!(!lock(&echo).prompt_stands());
        filter.write_all(b"sta").unwrap();
        filter.write_all(b"ts\r\npresent 512 MiB\r\nok\r\nhotmem> ").unwrap();
        assert_eq!(filter.screen, b"hotmem> present 512 MiB\r\nok\r\nhotmem> ");
        assert!(lock(&echo).prompt_stands());

        filter.screen.clear();
        lock(&echo).expect("x\x01y");
        filter.write_all(b"x\r\nerror: y\n").unwrap();
        assert_eq!(filter.screen, b"\r\nerror: y\n");
    }

    #[test]
    fn only_what_stands_behind_the_prompt_is_echo() {
        let echo = SharedEcho::default();
        let mut filter = WithoutEcho { screen: Vec::new(), echo: Arc::clone(&echo) };
        filter.write_all(b"hotmem> ").unwrap();
        lock(&echo).expect("ok");
        filter.write_all(b"\nok, an event\nhotmem> ok\n").unwrap();
        assert_eq!(filter.screen, b"hotmem> \nok, an event\nhotmem> ok\n");
    }

    #[test]
    fn wrong_commands_are_recognised() {
        for line in ["plug", "plug 1G 2G", "plug nonsense", "unplug", "unplug x"] {
            assert!(matches!(meaning(line), Typed::Wrong(_)), "{line}");
        }
    }
}
