//! The kernel's serial console, as lines.
//!
//! A thread of its own drains the serial line from the first byte on: a full one would stop the guest
//! inside its UART while QEMU holds its big lock, and QMP would never reply again.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use super::exit::Exit;
use super::inbox::{End, Inbox};

/// What the kernel's monitor prints, without a newline, when it waits for a command.
pub(crate) const PROMPT: &str = "hotmem> ";
/// How a line begins that says the kernel has given up.
const PANIC: &str = "hotmem: panic:";
/// How the last line of a kernel begins that leaves with a code.
const EXIT: &str = "hotmem: exit ";

/// What has come in so far.
#[derive(Default)]
struct Received {
    /// Complete lines. One that begins with a prompt is the echo of what was typed behind it.
    lines: Vec<String>,
    /// The line that is still coming in.
    partial: Vec<u8>,
}

/// Both directions of a serial line.
pub(crate) struct Console {
    received: Arc<Inbox<Received>>,
    input: Mutex<Box<dyn Write + Send>>,
}

/// The reply to one monitor command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// All lines before the closing one.
    pub(crate) lines: Vec<String>,
    /// `None` for `ok`, else what follows `error: `.
    pub(crate) error: Option<String>,
}

impl Console {
    /// Starts to drain `output`; every byte also goes to `mirror`.
    pub(crate) fn new(
        output: impl Read + Send + 'static,
        input: impl Write + Send + 'static,
        mirror: Option<Box<dyn Write + Send>>,
    ) -> Self {
        let received = Arc::new(Inbox::default());
        let theirs = Arc::clone(&received);
        thread::spawn(move || drain(output, mirror, &theirs));
        Self { received, input: Mutex::new(Box::new(input)) }
    }

    /// How many lines have come in.
    pub(crate) fn position(&self) -> usize {
        self.received.with(|received| received.lines.len())
    }

    /// All lines from `position` on.
    pub(crate) fn lines_from(&self, position: usize) -> Vec<String> {
        self.received.with(|received| received.lines.get(position..).unwrap_or_default().to_vec())
    }

    /// The last `count` lines, the unfinished one included.
    pub(crate) fn tail(&self, count: usize) -> Vec<String> {
        let mut lines = self.received.with(|received| {
            let partial = String::from_utf8_lossy(&received.partial).into_owned();
            let partial = Some(partial).filter(|line| !line.is_empty());
            received.lines.iter().cloned().chain(partial).collect::<Vec<_>>()
        });
        lines.split_off(lines.len().saturating_sub(count))
    }

    /// What a kernel that has given up said: the line that says so, and the one below it.
    pub(crate) fn panic_message(&self) -> Option<String> {
        self.received.with(|received| {
            let at = received.lines.iter().position(|line| line.starts_with(PANIC))?;
            let message: Vec<_> = received.lines.iter().skip(at).take(2).cloned().collect();
            Some(message.join(" "))
        })
    }

    /// How a kernel said that it leaves: it has given up, or its last line tells the code.
    pub(crate) fn said(&self) -> Option<Exit> {
        if self.panic_message().is_some() {
            return Some(Exit::Panicked);
        }
        let last = self.tail(usize::MAX).into_iter().rfind(|line| !line.is_empty())?;
        last.strip_prefix(EXIT)?.parse().ok().map(Exit::Left)
    }

    /// Waits until `wanted` accepts a line at or after `*position`, and moves `*position` behind it.
    ///
    /// # Errors
    /// When `deadline` passes, the line closes or the kernel panics first.
    pub(crate) fn wait_for<T>(
        &self,
        position: &mut usize,
        deadline: Instant,
        what: &str,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let waited = self.received.wait(deadline, |received| {
            while let Some(line) = received.lines.get(*position) {
                *position += 1;
                if let Some(found) = wanted(line) {
                    return Some(Ok(found));
                }
                if line.starts_with(PANIC) {
                    return Some(Err(anyhow!("the kernel panicked while this waited for {what}")));
                }
            }
            None
        });
        match waited {
            Ok(found) => found,
            Err(End::Closed) => bail!("the guest is gone; it never sent {what}"),
            Err(End::TimedOut) => bail!("timed out waiting for {what}"),
        }
    }

    /// Waits until the guest has hung up and everything it said has come in; not longer than until `deadline`.
    pub(crate) fn wait_closed(&self, deadline: Instant) {
        // Either end is the one that is waited for.
        let _ = self.received.wait(deadline, |_| None::<()>);
    }

    /// Types `text` and a newline.
    ///
    /// # Errors
    /// When the guest is gone.
    pub(crate) fn type_line(&self, text: &str) -> Result<()> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        input
            .write_all(format!("{text}\n").as_bytes())
            .and_then(|()| input.flush())
            .with_context(|| format!("cannot type `{text}` at the monitor"))
    }

    /// Types a command and waits for the closing line of the reply; `each` gets every line as it comes in.
    ///
    /// # Errors
    /// When no reply comes before `deadline`.
    pub(crate) fn command(
        &self,
        text: &str,
        deadline: Instant,
        each: &mut dyn FnMut(&str),
    ) -> Result<Reply> {
        let start = self.position();
        self.type_line(text)?;
        let mut position = start;
        let what = format!("the reply to `{text}`");
        let error = self.wait_for(&mut position, deadline, &what, |line| {
            each(line);
            closing(line)
        })?;

        let mut lines = self.lines_from(start);
        lines.truncate(position - start - 1);
        // What was typed before the prompt stood is echoed without one.
        lines.retain(|line| !line.starts_with(PROMPT) && line != text);
        Ok(Reply { lines, error })
    }
}

/// Reads the line that ends a reply: `ok` is `Some(None)`, `error: why` is `Some(Some(why))`.
fn closing(line: &str) -> Option<Option<String>> {
    if line == "ok" {
        return Some(None);
    }
    line.strip_prefix("error: ").map(|why| Some(why.to_owned()))
}

/// Takes everything that comes in, until the other side closes.
fn drain(
    mut output: impl Read,
    mut mirror: Option<Box<dyn Write + Send>>,
    received: &Inbox<Received>,
) {
    let mut chunk = [0; 4096];
    loop {
        let count = output.read(&mut chunk).unwrap_or(0);
        let bytes = chunk.get(..count).unwrap_or_default();
        if let Some(mirror) = &mut mirror {
            // A reader that went away must not stop the guest.
            let _ = mirror.write_all(bytes).and_then(|()| mirror.flush());
        }

        if count == 0 {
            return received.close();
        }
        received.with(|received| bytes.iter().for_each(|&byte| received.push(byte)));
    }
}

impl Received {
    fn push(&mut self, byte: u8) {
        match byte {
            b'\r' => {}
            b'\n' => {
                let line = String::from_utf8_lossy(&self.partial);
                self.lines.push(one_prompt(&line).to_owned());
                self.partial.clear();
            }
            _ => self.partial.push(byte),
        }
    }
}

/// `line` with at most one prompt before it, and none if nothing follows.
fn one_prompt(line: &str) -> &str {
    let mut rest = line;
    while let Some(shorter) = rest.strip_prefix(PROMPT) {
        if shorter.is_empty() || !shorter.starts_with(PROMPT) {
            return if shorter.is_empty() { "" } else { rest };
        }
        rest = shorter;
    }
    rest
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, pipe};
    use std::time::Duration;

    use super::*;

    /// A console whose guest says `script` when something is typed, then hangs up.
    fn replying(script: &'static [u8]) -> Console {
        let (output, mut guest) = pipe().unwrap();
        let (typed, input) = pipe().unwrap();
        thread::spawn(move || {
            BufReader::new(typed).read_line(&mut String::new()).unwrap();
            guest.write_all(script).unwrap();
        });
        Console::new(output, input, None)
    }

    /// A console whose guest says `script` at once, then hangs up.
    fn saying(script: &str) -> Console {
        let (output, mut guest) = pipe().unwrap();
        guest.write_all(script.as_bytes()).unwrap();
        drop(guest);
        Console::new(output, std::io::sink(), None)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn nothing_that_was_said_before_the_end_is_missed() {
        let (output, mut guest) = pipe().unwrap();
        let console = Console::new(output, std::io::sink(), None);
        console.wait_closed(Instant::now());
        assert_eq!(console.position(), 0);
        let speaker = thread::spawn(move || {
            guest.write_all(b"cannot start\n").unwrap();
        });
        console.wait_closed(soon());
        assert_eq!(console.tail(1), ["cannot start"]);
        speaker.join().unwrap();
    }

    #[test]
    fn a_reply_ends_at_ok_and_leaves_out_prompt_and_echo() {
        let console =
            replying(b"hotmem> blocks\r\nblock 0 online\r\nblock 1 online\r\nok\r\nhotmem> ");
        let reply = console.command("blocks", soon(), &mut |_| {}).unwrap();
        assert_eq!(reply.lines, ["block 0 online", "block 1 online"]);
        assert_eq!(reply.error, None);
    }

    #[test]
    fn an_error_is_returned_with_its_reason() {
        let reply = replying(b"hotmem> online 99\r\nerror: no such block 99\n")
            .command("online 99", soon(), &mut |_| {})
            .unwrap();
        assert_eq!(reply, Reply { lines: vec![], error: Some("no such block 99".into()) });
    }

    #[test]
    fn a_guest_that_goes_away_or_panics_is_an_error_at_once() {
        let gone =
            replying(b"half a li").command("stats", soon(), &mut |_| {}).unwrap_err().to_string();
        assert!(gone.contains("gone") && gone.contains("`stats`"), "{gone}");
        let panicked = replying(b"hotmem: panic: invariant 2\n")
            .command("stats", soon(), &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(panicked.contains("the kernel panicked"), "{panicked}");
        let console = saying("hotmem: panic: panicked at a.rs:1:\ninvariant 2\n  0 main\n");
        assert!(console.wait_for(&mut 0, soon(), "x", |_| None::<()>).is_err());
        assert_eq!(
            console.panic_message().unwrap(),
            "hotmem: panic: panicked at a.rs:1: invariant 2"
        );
    }

    #[test]
    fn the_last_line_says_how_the_kernel_leaves() {
        let said = |text| {
            let console = saying(text);
            console.wait_closed(soon());
            console.said()
        };
        assert_eq!(said("hotmem> exit 7\nhotmem: exit 7\n"), Some(Exit::Left(7)));
        assert_eq!(said("hotmem: exit 0\nanother line\n"), None, "a guest wrote it, say");
        assert_eq!(said("hotmem: exit x\n"), None);
        assert_eq!(said(""), None);
        let panicked = "hotmem: panic: out of luck\n  0: main\nhotmem: exit 0\n";
        assert_eq!(said(panicked), Some(Exit::Panicked));
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let (output, _guest) = pipe().unwrap();
        let console = Console::new(output, std::io::sink(), None);
        let deadline = Instant::now() + Duration::from_millis(30);
        let error =
            console.wait_for(&mut 0, deadline, "`hotmem: ready`", |_| Some(())).unwrap_err();
        assert!(error.to_string().contains("timed out waiting for `hotmem: ready`"));
    }

    #[test]
    fn event_lines_are_seen_whole_though_a_prompt_stood_before_them() {
        let console = saying("hotmem> \nhotmem: step 1\nhotmem> hotmem> \nhotmem: step 2\n");
        let mut position = 0;
        for wanted in ["hotmem: step 1", "hotmem: step 2"] {
            console
                .wait_for(&mut position, soon(), wanted, |line| (line == wanted).then_some(()))
                .unwrap();
        }
    }

    #[test]
    fn an_echo_is_never_taken_for_a_reply() {
        let console = replying(b"hotmem> ok\r\nerror: no command is called ok\r\nhotmem> ");
        let reply = console.command("ok", soon(), &mut |_| {}).unwrap();
        assert_eq!(reply.error.as_deref(), Some("no command is called ok"));
        assert_eq!(one_prompt("hotmem> hotmem> ok"), "hotmem> ok");
    }

    #[test]
    fn bytes_that_are_not_text_do_no_harm() {
        let console = replying(b"\xff\xfe garbage\nok\n");
        assert_eq!(console.command("x", soon(), &mut |_| {}).unwrap().error, None);
    }
}
