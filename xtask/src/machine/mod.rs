//! One running machine: QEMU, its QMP, and the kernel's console.
//!
//! ```text
//!           QMP (Unix socket)                  serial line (pipes)
//!   xtask  <------------------>  QEMU  guest  <-------------------->  xtask
//!          plug, unplug, events               monitor, steps, verdict
//! ```
//! A machine is killed when its handle goes. Nothing waits without a deadline.

mod arguments;
pub(crate) mod config;
mod console;
mod cpu;
mod dimm;
pub(crate) mod exit;
#[cfg(test)]
pub(crate) mod fake;
mod geometry;
mod guest;
mod inbox;
mod installed;
pub(crate) mod kvm;
mod log;
mod map;
mod memory_device;
mod nvdimm;
mod place;
mod pmem;
mod power;
mod process;
mod qmp;
mod region;
mod remains;
mod step;
mod verdict;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use config::{Accel, Config, Disk, Module};
pub(crate) use console::{PROMPT, Reply};
pub(crate) use cpu::Cpu;
pub(crate) use dimm::{Dimm, Request};
pub(crate) use exit::Exit;
pub(crate) use geometry::{Block, DESCRIPTOR, Geometry};
pub(crate) use guest::Guest;
pub(crate) use installed::QemuDir;
pub(crate) use log::{Log, Round};
pub(crate) use map::{Map, Mapped};
pub(crate) use nvdimm::{LABELS, Nvdimm};
pub(crate) use place::{Asked, Place, Spare, UnplugEnd};
pub(crate) use process::{Emulator, Process, tied_to_us};
pub(crate) use remains::Remains;
pub(crate) use step::{Add, Kind, Offline, Online, Placement, Remove, Scrub, Step, Use};
pub(crate) use verdict::Verdict;

use crate::arch::{About, Image};
use crate::scratch::Scratch;
use crate::tool;
use console::Console;
use qmp::Qmp;
use region::Region;

/// The line that says hotplug events are armed.
const READY: &str = "hotmem: ready";
/// How a line begins that reports the progress of a command.
const PROGRESS: &str = "hotmem: progress ";
/// How the line begins by which the kernel declines to start.
const DECLINED: &str = "hotmem: cannot start: ";
/// How long the last words of a guest that is gone may take to come in.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A deadline for machines without a timeout.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A machine that runs.
pub(crate) struct Machine {
    console: Console,
    qmp: Qmp,
    process: Box<dyn Process>,
    image: Image,
    about: &'static About,
    /// What the kernel said when it was asked.
    geometry: Option<Geometry>,
    region: Option<Region>,
    deadline: Instant,
    patience: Duration,
    /// The console's first line since the machine was turned on or reset.
    first_line: usize,
    /// Console lines already searched for steps.
    steps_seen: usize,
    /// Steps read so far that cleared memory.
    scrubs: Vec<Scrub>,
    dimms_made: usize,
    /// The files behind DIMMs, by the name of their memory.
    files: BTreeMap<String, File>,
}

impl Machine {
    /// Starts a machine that runs `image`; its console also goes to `mirror`.
    ///
    /// # Errors
    /// When QEMU does not start; the error holds what it complained about.
    pub(crate) fn start(
        image: &Path,
        config: &Config,
        mirror: Option<Box<dyn Write + Send>>,
    ) -> Result<Self> {
        let scratch = Scratch::new()?;
        let socket = scratch.path().join("qmp");
        let program = config.qemu.program(config.image.arch.about().qemu.name)?;
        let mut command = process::tied_to_us(&program);
        command.args(config.qemu.arguments());
        command.args(config.arguments(image, &socket));

        let (mut emulator, (output, input)) = Emulator::start(&mut command)?;
        // The serial line is drained before QMP connects; see the console's module.
        let console = Console::new(output, input, mirror);
        let deadline = Instant::now() + Duration::from_secs(20);
        let alive = || emulator.wait(Instant::now()).is_err();
        let mut qmp = Qmp::connect(&socket, deadline, alive).map_err(|error| {
            let complaints = emulator.complaints();
            error.context(format!("`{}` does not start\n{complaints}", tool::shown(&command)))
        })?;
        // A kernel that refuses to start may be gone before QMP has introduced itself, or has replied: its exit code shows that.
        if config.gdb.is_none()
            && let Err(error) = qmp.execute("cont", json!({}), deadline)
            && emulator.wait(Instant::now() + LAST_WORDS).is_err()
        {
            return Err(error);
        }
        // The socket is connected: its directory may go, so that nothing stays behind however this ends.
        drop(scratch);
        Ok(Self::assemble(console, qmp, Box::new(emulator), config))
    }

    fn assemble(console: Console, qmp: Qmp, process: Box<dyn Process>, config: &Config) -> Self {
        Self {
            console,
            qmp,
            process,
            image: config.image,
            about: config.image.arch.about(),
            geometry: None,
            region: None,
            deadline: Instant::now() + config.timeout.unwrap_or(FOREVER),
            patience: config.patience,
            first_line: 0,
            steps_seen: 0,
            scrubs: Vec::new(),
            dimms_made: 0,
            files: BTreeMap::new(),
        }
    }

    /// Waits for `hotmem: ready`.
    ///
    /// # Errors
    /// When the kernel does not get there.
    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        self.wait_line(READY).map(|_| ())
    }

    /// Waits until the kernel is ready (`None`), or has declined to start (its reason).
    ///
    /// # Errors
    /// When it neither gets there nor says why.
    pub(crate) fn wait_start(&mut self) -> Result<Option<String>> {
        let Err(error) = self.wait_ready() else {
            return Ok(None);
        };
        let lines = self.console.lines_from(0);
        match lines.iter().find_map(|line| line.strip_prefix(DECLINED)) {
            Some(why) => Ok(Some(why.to_owned())),
            None => Err(error),
        }
    }

    /// Waits for a console line that holds `text`, since the machine was turned on or reset.
    ///
    /// # Errors
    /// When none comes.
    pub(crate) fn wait_line(&mut self, text: &str) -> Result<String> {
        let wanted = |line: &str| line.contains(text).then(|| line.to_owned());
        let (mut position, what) = (self.first_line, format!("`{text}`"));
        let waited = self.console.wait_for(&mut position, self.soon(), &what, wanted);
        waited.map_err(|error| self.explained(error))
    }

    /// When to give up waiting that begins now.
    fn soon(&self) -> Instant {
        self.deadline.min(Instant::now() + self.patience)
    }

    /// Types a command at the monitor; returns the reply, be it `ok` or an error.
    ///
    /// # Errors
    /// When no reply comes.
    pub(crate) fn command(&mut self, text: &str) -> Result<Reply> {
        let reply = self.console.command(text, self.soon(), &mut |_| {});
        reply.map_err(|error| self.explained(error))
    }

    /// As [`run`](Self::run), a command that takes long: `progress` gets the bytes that are done, and all of them, as the
    /// kernel reports them.
    ///
    /// # Errors
    /// When the reply is an error, or none comes.
    pub(crate) fn run_slowly(
        &mut self,
        text: &str,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<String>> {
        let mut each = |line: &str| {
            if let Some((done, total)) = reported(line) {
                progress(done, total);
            }
        };
        let reply = self.console.command(text, self.soon(), &mut each);
        let mut lines = accepted(text, reply.map_err(|error| self.explained(error))?)?;
        lines.retain(|line| reported(line).is_none());
        Ok(lines)
    }

    /// Types a command that has to succeed; returns the lines of the reply.
    ///
    /// # Errors
    /// When the reply is an error, or none comes.
    pub(crate) fn run(&mut self, text: &str) -> Result<Vec<String>> {
        accepted(text, self.command(text)?)
    }

    /// Types a command that has to fail; returns the reason.
    ///
    /// # Errors
    /// When the reply is `ok`, or none comes.
    pub(crate) fn refused(&mut self, text: &str) -> Result<String> {
        let reply = self.command(text)?;
        reply.error.with_context(|| format!("`{text}` was not refused{}", indented(&reply.lines)))
    }

    /// Types a command that prints one line of JSON; returns that.
    ///
    /// # Errors
    /// When it fails or holds no such line.
    pub(crate) fn json(&mut self, text: &str) -> Result<Value> {
        let lines = self.run(text)?;
        let found = lines
            .iter()
            .filter(|line| line.starts_with(['{', '[']))
            .find_map(|line| serde_json::from_str(line).ok());
        found.with_context(|| format!("`{text}` printed no JSON{}", indented(&lines)))
    }

    /// As [`json`](Self::json), read as a `T`.
    ///
    /// # Errors
    /// When it fails, or prints something else.
    pub(crate) fn read<T: DeserializeOwned>(&mut self, text: &str) -> Result<T> {
        let json = self.json(text)?;
        serde_json::from_value(json).with_context(|| format!("what `{text}` prints"))
    }

    /// The kernel that runs.
    pub(crate) fn image(&self) -> Image {
        self.image
    }

    /// The sizes the kernel works with. It is asked once.
    ///
    /// # Errors
    /// When it does not report that.
    pub(crate) fn geometry(&mut self) -> Result<Geometry> {
        if let Some(geometry) = self.geometry {
            return Ok(geometry);
        }
        let geometry = Geometry::of(&self.json("stats --json")?)?;
        self.geometry = Some(geometry);
        Ok(geometry)
    }

    /// The memory blocks that the kernel knows.
    ///
    /// # Errors
    /// When it does not list them.
    pub(crate) fn blocks(&mut self) -> Result<Vec<Block>> {
        self.read("blocks --json")
    }

    /// Types a line without waiting for a reply.
    ///
    /// # Errors
    /// When the guest is gone.
    pub(crate) fn type_line(&mut self, text: &str) -> Result<()> {
        self.console.type_line(text)
    }

    /// The next step the kernel performs, in the order it reports them, but for memory that was cleared: that
    /// is part of an unplug, and kept for [`take_scrubs`](Self::take_scrubs).
    ///
    /// # Errors
    /// When none comes, or it cannot be read.
    pub(crate) fn next_step(&mut self) -> Result<Step> {
        loop {
            let step = self.any_step()?;
            if let Some(step) = self.keep_scrub(step) {
                return Ok(step);
            }
        }
    }

    /// Keeps a step that cleared memory; returns any other.
    fn keep_scrub(&mut self, step: Step) -> Option<Step> {
        match step {
            Step::Scrub(scrub) if scrub.error.is_none() => {
                self.scrubs.push(scrub);
                None
            }
            step => Some(step),
        }
    }

    /// What was cleared since the last call, of the steps read so far.
    pub(crate) fn take_scrubs(&mut self) -> Vec<Scrub> {
        std::mem::take(&mut self.scrubs)
    }

    fn any_step(&mut self) -> Result<Step> {
        let (deadline, what) = (self.soon(), "a `hotmem: step` line");
        let step = self.console.wait_for(&mut self.steps_seen, deadline, what, Step::parse);
        step.and_then(|step| step).map_err(|error| self.explained(error))
    }

    /// The next step, which has to be of the kind `T`.
    ///
    /// # Errors
    /// When it is of another, or none comes.
    pub(crate) fn next<T: Kind>(&mut self) -> Result<T> {
        T::expected(self.next_step()?)
    }

    /// The next step of the kind `T`, whatever comes before it.
    ///
    /// # Errors
    /// When none comes.
    pub(crate) fn later<T: Kind>(&mut self) -> Result<T> {
        loop {
            if let Some(step) = T::of(self.next_step()?) {
                return Ok(step);
            }
        }
    }

    /// As [`next`](Self::next), of an operation that has to succeed.
    ///
    /// # Errors
    /// When it failed; the error says why.
    pub(crate) fn done<T: Kind>(&mut self) -> Result<T> {
        self.next::<T>()?.good()
    }

    /// Steps that came in and were not asked for, but for memory that was cleared.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(crate) fn unread_steps(&mut self) -> Result<Vec<Step>> {
        let lines = self.console.lines_from(self.steps_seen);
        self.steps_seen += lines.len();
        let steps: Vec<Step> =
            lines.iter().filter_map(|line| Step::parse(line)).collect::<Result<_>>()?;
        Ok(steps.into_iter().filter_map(|step| self.keep_scrub(step)).collect())
    }

    /// The console's last `count` lines.
    pub(crate) fn tail(&self, count: usize) -> Vec<String> {
        self.console.tail(count)
    }

    /// How many console lines there are.
    pub(crate) fn position(&self) -> usize {
        self.console.position()
    }

    /// All console lines from `position` on.
    pub(crate) fn lines_from(&self, position: usize) -> Vec<String> {
        self.console.lines_from(position)
    }

    /// The kernel's own verdict on everything so far.
    ///
    /// # Errors
    /// When it gives none.
    pub(crate) fn verdict(&mut self) -> Result<Verdict> {
        let lines = self.run("verdict")?;
        let verdict = lines.iter().find_map(|line| Verdict::parse(line));
        verdict.with_context(|| format!("`verdict` gave none{}", indented(&lines)))
    }

    /// Has the guest exit with `code`; returns how it actually exited.
    ///
    /// # Errors
    /// When it continues to run.
    pub(crate) fn exit(&mut self, code: u32) -> Result<Exit> {
        self.type_line(&format!("exit {code}"))?;
        self.wait_exit()
    }

    /// Waits for the guest's end, and until all it said has come in.
    ///
    /// # Errors
    /// When it continues to run.
    pub(crate) fn wait_exit(&mut self) -> Result<Exit> {
        let deadline = self.soon();
        let end = self.process.wait(deadline)?;
        Ok(self.meaning(end))
    }

    /// What the end of QEMU means, with all that the kernel said.
    fn meaning(&self, end: process::End) -> Exit {
        self.console.wait_closed(Instant::now() + LAST_WORDS);
        end.meaning(self.about, self.console.said())
    }

    /// How the guest ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<Exit> {
        let end = self.process.wait(Instant::now()).ok()?;
        Some(self.meaning(end))
    }

    /// Executes a QMP command.
    ///
    /// # Errors
    /// When QEMU refuses it or does not reply.
    pub(crate) fn qmp(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let deadline = self.soon();
        let executed = self.qmp.execute(command, arguments, deadline);
        executed
            .map_err(|error| if qmp::is_refusal(&error) { error } else { self.explained(error) })
    }

    /// Waits for an event of QEMU's that `wanted` takes, described by `what`.
    fn event<T>(&mut self, what: &str, wanted: impl FnMut(&Value) -> Option<T>) -> Result<T> {
        let waited = self.qmp.wait_event(self.soon(), what, wanted);
        waited.map_err(|error| self.explained(error))
    }

    /// `error`, with the end of a machine that caused it.
    fn explained(&mut self, error: Error) -> Error {
        // A moment for QEMU to end after its pipes have closed.
        let end = self.process.wait(Instant::now() + Duration::from_millis(200));
        let Ok(end) = end else { return error };
        let complaints = self.process.complaints();
        let complaints = complaints.trim();
        let error = match self.console.panic_message() {
            Some(message) => error.context(message),
            None => error,
        };
        let more = if complaints.is_empty() {
            String::new()
        } else {
            format!("; QEMU says: {complaints}")
        };
        anyhow!("{error:#} ({}{more})", self.meaning(end))
    }
}

/// The lines of a reply to the command `text`, which must not be an error.
fn accepted(text: &str, reply: Reply) -> Result<Vec<String>> {
    match reply.error {
        None => Ok(reply.lines),
        Some(why) => bail!("`{text}` failed: {why}{}", indented(&reply.lines)),
    }
}

/// The bytes that are done and all of them, in a line that reports the progress of a command.
pub(crate) fn reported(line: &str) -> Option<(u64, u64)> {
    let (done, total) = line.strip_prefix(PROGRESS)?.split_once(" of ")?;
    Some((done.parse().ok()?, total.parse().ok()?))
}

/// Lines of a reply below a message.
fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n    {line}")).collect()
}
