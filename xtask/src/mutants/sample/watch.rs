//! A program of tests until the first of them fails.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::machine::tied_to_us;
use crate::tool;

/// Time between two looks at a program that prints nothing.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of memory with which a program is ended: a fault may make it allocate for ever.
const LARGE: u64 = 4 << 30;

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Passed,
    /// By the test of this name.
    Failed(String),
    /// Otherwise: why.
    Broken(String),
}

/// Runs a program of tests, and ends it once a test has failed, or none has ended for `patience`, or it has too much
/// memory.
///
/// # Errors
///
/// When it cannot be started or ended.
pub(super) fn watch(command: Command, patience: Duration) -> Result<End> {
    let mut command = tied(&command);
    // A group of its own, with the processes that tests start: all are ended together.
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut program = command.spawn().with_context(|| tool::shown(&command))?;
    let (sender, lines) = channel();
    let pipe = program.stdout.take().context("a pipe")?;
    tool::forward(pipe, sender, |line| line);

    let mut heard = Instant::now();
    loop {
        match lines.recv_timeout(PAUSE) {
            Ok(line) => match result(&line) {
                Some((name, false)) => {
                    end(&mut program)?;
                    return Ok(End::Failed(name.to_owned()));
                }
                Some(_) => heard = Instant::now(),
                None => {}
            },
            Err(RecvTimeoutError::Disconnected) => {
                let status = program.wait()?;
                return Ok(match status.success() {
                    true => End::Passed,
                    false => End::Broken(format!("the tests' end ({status})")),
                });
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let why = match heard.elapsed() > patience {
            true => format!("the time limit ({} s without a result)", patience.as_secs()),
            false if memory(&program) > LARGE => "the limit of memory (4 GiB)".to_owned(),
            false => continue,
        };
        end(&mut program)?;
        return Ok(End::Broken(why));
    }
}

/// The same command, whose program ends with this one: a terminal interrupts its own group only.
fn tied(command: &Command) -> Command {
    let mut tied = tied_to_us(Path::new(command.get_program()));
    tied.args(command.get_args()).stdin(Stdio::null());
    if let Some(folder) = command.get_current_dir() {
        tied.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    tied
}

/// The test that a line says the result of, and whether that is good.
fn result(line: &str) -> Option<(&str, bool)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    // What a test prints may stand between its name and its result.
    Some((name, !result.ends_with("FAILED")))
}

/// Ends a program and all that it started.
fn end(program: &mut Child) -> Result<()> {
    // It may have ended by itself meanwhile. A shell has `kill` built in; not each machine has the program.
    let kill = format!("kill -KILL -{}", program.id());
    Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status()?;
    program.wait()?;
    Ok(())
}

/// Bytes of memory that a program has now, 0 if that cannot be read.
fn memory(program: &Child) -> u64 {
    let text =
        std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(script: &str, patience: Duration) -> End {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        watch(shell, patience).unwrap()
    }

    #[test]
    fn the_first_test_that_fails_ends_the_program() {
        let script = "echo 'test a::b ... ok'; echo 'test a::c ... FAILED'; sleep 1000";
        assert_eq!(ended(script, Duration::MAX), End::Failed("a::c".to_owned()));
    }

    #[test]
    fn a_program_passes_by_its_exit_code() {
        assert_eq!(ended("echo 'test a ... ok'", Duration::MAX), End::Passed);
        let End::Broken(why) = ended("echo 'test a ... ok'; kill -ABRT $$", Duration::MAX) else {
            panic!("it passed");
        };
        assert!(why.contains("signal: 6"), "{why}");
    }

    #[test]
    fn a_program_without_results_is_ended_with_what_it_started() {
        let script = "sleep 1000 & echo 'test a has been running for over 60 seconds'; wait";
        let End::Broken(why) = ended(script, Duration::from_secs(1)) else { panic!("it passed") };
        assert_eq!(why, "the time limit (1 s without a result)");
    }

    #[test]
    fn results_are_read_from_the_lines_of_tests() {
        assert_eq!(result("test a::b ... ok"), Some(("a::b", true)));
        assert_eq!(result("test a::b - should panic ... FAILED"), Some(("a::b", false)));
        assert_eq!(result("test a ... text of its own FAILED"), Some(("a", false)));
        assert_eq!(result("test result: ok. 1 passed; 0 failed"), None);
        assert_eq!(result("test a has been running for over 60 seconds"), None);
    }

    #[test]
    fn the_memory_of_a_program_is_known() {
        let mut shell = Command::new("sleep").arg("1000").spawn().unwrap();
        assert!((1..1 << 30).contains(&memory(&shell)));
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert_eq!(memory(&shell), 0);
    }
}
