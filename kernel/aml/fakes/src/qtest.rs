//! QEMU's qtest protocol: reads and writes of guest memory, one line each way.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::{Outcome, missing};

/// A QEMU process that speaks the protocol on its standard input and output. Killed when dropped.
#[derive(Debug)]
pub(super) struct Qtest {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Qtest {
    /// Starts QEMU.
    pub(super) fn start(program: &str, package: &str, args: &[String]) -> Outcome<Self> {
        let mut child = Command::new(program)
            .args(["-qtest", "stdio", "-qtest-log", "none"])
            .args(["-display", "none", "-nodefaults", "-no-reboot"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| missing(program, package, &error))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => {
                Ok(Self { child, input, output: BufReader::new(output) })
            }
            _ => Err(format!("{program} has no standard input and output")),
        }
    }

    /// Sends a command and returns what follows `OK`.
    fn ask(&mut self, command: &str) -> Outcome<String> {
        writeln!(self.input, "{command}").map_err(|error| format!("qtest is gone: {error}"))?;
        loop {
            let mut line = String::new();
            let count = self.output.read_line(&mut line);
            if count.map_err(|error| format!("qtest is gone: {error}"))? == 0 {
                return Err(format!("QEMU exited instead of replying to {command:?}"));
            }
            // Interrupts are reported between replies.
            if let Some(reply) = line.strip_prefix("OK") {
                return Ok(reply.trim().to_owned());
            }
            if line.starts_with("FAIL") {
                return Err(format!("qtest refused {command:?}: {}", line.trim()));
            }
        }
    }

    /// Reads a register, by a command such as `inl`.
    pub(super) fn load(&mut self, command: &str, address: u64) -> Outcome<u64> {
        let reply = self.ask(&format!("{command} {address:#x}"))?;
        let value = u64::from_str_radix(reply.trim_start_matches("0x"), 16);
        value.map_err(|_| format!("qtest replied {reply:?} to {command}"))
    }

    /// Writes a register, by a command such as `outl`.
    pub(super) fn store(&mut self, command: &str, address: u64, value: u64) -> Outcome<()> {
        self.ask(&format!("{command} {address:#x} {value:#x}")).map(drop)
    }

    /// Reads guest memory.
    pub(super) fn read(&mut self, address: u64, length: usize) -> Outcome<Vec<u8>> {
        let reply = self.ask(&format!("read {address:#x} {length:#x}"))?;
        let digits = reply.trim_start_matches("0x").as_bytes();
        let bytes: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        bytes.filter(|bytes| bytes.len() == length).ok_or_else(|| "qtest sent no bytes".into())
    }

    /// Writes guest memory.
    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) -> Outcome<()> {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.ask(&format!("write {address:#x} {:#x} 0x{digits}", bytes.len())).map(drop)
    }
}

impl Drop for Qtest {
    fn drop(&mut self) {
        // It may have ended already; either way nothing of it is left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
