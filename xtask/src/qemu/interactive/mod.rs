//! The kernel's monitor in the user's terminal. `plug` and `unplug` are ours: a DIMM is nothing the guest can make.

mod screen;
mod typist;

use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::dimms::Dimms;
use super::options::Args;
use crate::machine::{Config, Exit, Machine};
use crate::root;
use crate::size::DimmSpec;
use screen::Screen;
use typist::{Command, Typist};

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

/// Our own commands, in the form of the monitor's.
fn own_commands() -> [Command; 2] {
    [("plug", "SIZE[@NODE]"), ("unplug", "N")]
        .map(|(name, form)| Command { name: name.into(), forms: vec![form.into()] })
}

/// Runs the machine until the guest exits or the input ends.
///
/// # Errors
/// When the machine does not start.
pub(crate) fn run(root: &Path, image: &Path, config: &Config, args: &Args) -> Result<ExitCode> {
    println!("The kernel's monitor; `help` lists its commands. Here also: plug SIZE[@NODE],");
    println!("unplug N. Tab completes, the arrows recall lines, `exit` ends.");
    let screen = Screen::new(args.raw_events());
    let mut machine = Machine::start(image, config, Some(Box::new(screen.clone())))?;
    machine.wait_ready()?;
    screen.hush();
    let mut commands: Vec<Command> = machine.read("help --json")?;
    commands.extend(own_commands());
    let (mut typist, show) = Typist::new(commands, root::target_dir(root).join("monitor-history"))?;
    screen.begin(show);

    let mut dimms = Dimms::default();
    let exit = loop {
        if let Some(exit) = machine.ended() {
            break exit;
        }
        // A line is typed after the reply to the one before, so that pasted or piped lines work, too.
        if !screen.prompt_stands() {
            thread::sleep(LOOK);
            continue;
        }
        match typist.line(LOOK) {
            Ok(line) => {
                if let Some(message) = obey(&mut machine, &mut dimms, args, &screen, &line)? {
                    screen.say(&message);
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
    screen.end();
    println!("{exit}");
    Ok(exit_code(exit))
}

/// The monitor's `exit N` becomes ours; any other end is a failure.
fn exit_code(exit: Exit) -> ExitCode {
    match exit {
        Exit::Left(code) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
        _ => ExitCode::FAILURE,
    }
}

/// Executes a typed line; returns a message to print. Mistakes are reported, not fatal.
fn obey(
    machine: &mut Machine,
    dimms: &mut Dimms,
    args: &Args,
    screen: &Screen,
    line: &str,
) -> Result<Option<String>> {
    Ok(match meaning(line) {
        Typed::Guest(line) => {
            screen.expect(&line);
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

    #[test]
    fn plug_and_unplug_are_ours_and_everything_else_is_the_guests() {
        assert_eq!(meaning("plug 1G@1"), Typed::Plug("1G@1".parse().unwrap()));
        assert_eq!(meaning(" unplug 2 "), Typed::Unplug(2));
        assert_eq!(meaning("blocks --json"), Typed::Guest("blocks --json".into()));
        assert_eq!(meaning(""), Typed::Guest(String::new()));
    }

    #[test]
    fn wrong_commands_are_recognised() {
        for line in ["plug", "plug 1G 2G", "plug nonsense", "unplug", "unplug x"] {
            assert!(matches!(meaning(line), Typed::Wrong(_)), "{line}");
        }
    }
}
