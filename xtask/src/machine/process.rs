//! The QEMU process: started with pipes, killed when its owner goes, judged by its exit code.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::exit::Exit;
use crate::arch::About;
use crate::tool;

/// How QEMU ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl End {
    /// What that means on this architecture, after the kernel said how it leaves.
    pub(crate) fn meaning(self, about: &About, said: Option<Exit>) -> Exit {
        match self {
            Self::Code(code) => (about.read_exit)(code, said),
            Self::Signal(signal) => Exit::Signal(signal),
        }
    }
}

/// Something that runs a guest.
pub(crate) trait Process: Send {
    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs at `deadline`.
    fn wait(&mut self, deadline: Instant) -> Result<End>;

    /// What it wrote to its standard error.
    fn complaints(&self) -> String;
}

/// A running QEMU.
pub(crate) struct Emulator {
    child: Child,
    complaints: Arc<Mutex<String>>,
}

/// A command for `program` that the kernel of this host ends when this process is killed, where
/// util-linux's setpriv is there to ask for that.
pub(crate) fn tied_to_us(program: &Path) -> Command {
    if tool::find("setpriv").is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// The guest's serial line: its output and its input.
pub(crate) type Serial = (Box<dyn Read + Send>, Box<dyn Write + Send>);

impl Emulator {
    /// Starts `command`, with pipes to its standard input and output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(command: &mut Command) -> Result<(Self, Serial)> {
        let line = tool::shown(command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;

        let pipes = (child.stdout.take(), child.stdin.take(), child.stderr.take());
        let (Some(output), Some(input), Some(mut errors)) = pipes else {
            bail!("`{line}` has no pipes");
        };
        let complaints = Arc::new(Mutex::new(String::new()));
        let theirs = Arc::clone(&complaints);
        thread::spawn(move || {
            let mut chunk = [0; 1024];
            while let Ok(count @ 1..) = errors.read(&mut chunk) {
                let text =
                    String::from_utf8_lossy(chunk.get(..count).unwrap_or_default()).into_owned();
                theirs.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        Ok((Self { child, complaints }, (Box::new(output), Box::new(input))))
    }
}

impl Process for Emulator {
    fn wait(&mut self, deadline: Instant) -> Result<End> {
        loop {
            if let Some(status) = self.child.try_wait().context("cannot wait for QEMU")? {
                let signal = status.signal().unwrap_or_default();
                return Ok(status.code().map_or(End::Signal(signal), End::Code));
            }
            if Instant::now() >= deadline {
                bail!("QEMU still runs");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn complaints(&self) -> String {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended already; either way it must not be left running or unreaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;

    fn shell(script: &str) -> Emulator {
        Emulator::start(Command::new("sh").args(["-c", script])).unwrap().0
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn an_end_is_read_as_its_architecture_means_it() {
        let x86 = Arch::X86_64.about();
        assert_eq!(End::Code(47).meaning(x86, None), Exit::Left(7));
        let (ppc, said) = (Arch::Ppc64.about(), Some(Exit::Left(0)));
        assert_eq!(End::Code(0).meaning(ppc, said), Exit::Left(0));
        assert_eq!(End::Signal(9).meaning(ppc, said), Exit::Signal(9));
    }

    #[test]
    fn the_end_is_seen_with_its_code_or_its_signal() {
        assert_eq!(shell("exit 33").wait(soon()).unwrap(), End::Code(33));
        assert_eq!(shell("kill -9 $$").wait(soon()).unwrap(), End::Signal(9));
    }

    #[test]
    fn a_tied_program_is_the_same_process() {
        let mut command = tied_to_us(Path::new("sh"));
        command.args(["-c", "exit 35"]);
        let (mut process, _) = Emulator::start(&mut command).unwrap();
        assert_eq!(process.wait(soon()).unwrap(), End::Code(35));
    }

    #[test]
    fn complaints_are_kept() {
        let mut process = shell("echo no such machine >&2; exit 1");
        process.wait(soon()).unwrap();
        while Instant::now() < soon() && process.complaints().is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(process.complaints(), "no such machine\n");
    }

    #[test]
    fn a_process_that_goes_on_is_reported_and_then_killed() {
        let mut process = shell("exec sleep 1000");
        assert!(process.wait(Instant::now()).is_err());
        let id = process.child.id();
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}
