//! Commands on guests, which the kernel carries out.

use super::words::{CommandError, Words};
use core::fmt;
use hotmem::NodeId;
use hotmem_hotplug::number;

/// Text of a command, kept: `N` bytes at most.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kept<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

/// A word of a command: the name of a guest.
pub type VmName = Kept<15>;

/// The words of a line that is typed.
pub type VmLine = Kept<120>;

impl<const N: usize> Kept<N> {
    pub(super) fn new(text: &str) -> Option<Self> {
        let mut kept = Self { bytes: [0; N], len: 0 };
        kept.push(text).then_some(kept)
    }

    /// Adds `text` behind it, if that fits.
    fn push(&mut self, text: &str) -> bool {
        let (at, bytes) = (usize::from(self.len), text.as_bytes());
        let Some(room) = self.bytes.get_mut(at..at + bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.len = (at + bytes.len()) as u8;
        true
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Debug for Kept<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What a new guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmProgram {
    /// The payload.
    Payload,
    /// The Linux kernel that the machine was booted with.
    Linux,
    /// This kernel, by the image that the machine was booted with.
    Own,
}

/// An operation on guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmCommand {
    /// Show all guests.
    List {
        /// As JSON.
        json: bool,
    },
    /// Create a guest.
    Create {
        /// Its name.
        name: VmName,
        /// Bytes of its memory.
        bytes: u64,
        /// Bytes of each of its extents; a page if not given.
        extent: Option<u64>,
        /// Its memory is of this node only.
        node: Option<NodeId>,
        /// Its virtual CPUs.
        vcpus: u64,
        /// What it will run.
        program: VmProgram,
    },
    /// Show what a guest wrote to its serial port, in whole lines.
    Console {
        /// Its name.
        name: VmName,
        /// The first byte that is shown.
        from: u64,
    },
    /// Type a line at the serial port of a guest.
    Type {
        /// Its name.
        name: VmName,
        /// The line, without its end.
        line: VmLine,
    },
    /// Let a guest run.
    Run {
        /// Its name.
        name: VmName,
        /// The number of rounds; 0 for ever.
        rounds: u64,
        /// Bytes that the payload works on; all of its memory if not given.
        bytes: Option<u64>,
        /// What it does wrong after the first.
        misdeed: Option<VmName>,
    },
    /// Have a guest stop running for some time.
    Pause(VmName),
    /// End a guest.
    Kill(VmName),
    /// Show why a guest was stopped.
    Log(VmName),
    /// Check the invariants.
    Verify,
}

impl<'t> Words<'t> {
    pub(super) fn vm(&mut self) -> Result<VmCommand, CommandError<'t>> {
        Ok(match self.next() {
            None => VmCommand::List { json: false },
            Some("--json") => VmCommand::List { json: true },
            Some("list") => VmCommand::List { json: self.json()? },
            Some("create") => self.create()?,
            Some("run") => {
                let name = self.name()?;
                let rounds = self.maybe("a number of rounds", number::parse)?.unwrap_or(0);
                let mut word = self.next();
                let mut bytes = None;
                if word == Some("--bytes") {
                    bytes = Some(self.read("a number of bytes", number::parse_size)?);
                    word = self.next();
                }
                let misdeed = word.map(|word| {
                    let what = "--bytes, store, firmware, call, wait, jump, search or emulator";
                    VmName::new(word).ok_or(CommandError::Bad(word, what))
                });
                VmCommand::Run { name, rounds, bytes, misdeed: misdeed.transpose()? }
            }
            Some("pause") => VmCommand::Pause(self.name()?),
            Some("kill") => VmCommand::Kill(self.name()?),
            Some("log") => VmCommand::Log(self.name()?),
            Some("console") => {
                let name = self.name()?;
                let from = self.maybe("the number of a byte", number::parse)?.unwrap_or(0);
                VmCommand::Console { name, from }
            }
            Some("type") => VmCommand::Type { name: self.name()?, line: self.line()? },
            Some("verify") => VmCommand::Verify,
            Some(word) => {
                let what = "list, create, run, pause, kill, log, console, type or verify";
                return Err(CommandError::Bad(word, what));
            }
        })
    }

    fn name(&mut self) -> Result<VmName, CommandError<'t>> {
        self.read("a name of at most 15 characters", VmName::new)
    }

    /// The words that are left, with a space between two.
    fn line(&mut self) -> Result<VmLine, CommandError<'t>> {
        let what = "a line of at most 120 bytes";
        let mut line = self.read(what, VmLine::new)?;
        while let Some(word) = self.next() {
            if !(line.push(" ") && line.push(word)) {
                return Err(CommandError::Bad(word, what));
            }
        }
        Ok(line)
    }

    fn create(&mut self) -> Result<VmCommand, CommandError<'t>> {
        let name = self.name()?;
        let bytes = self.read("a size in bytes", number::parse_size)?;
        let (mut node, mut program, mut vcpus, mut extent) = (None, None, None, None);
        while let Some(word) = self.next() {
            let parse = |number: &str| NodeId::new(u32::try_from(number::parse(number)?).ok()?);
            match (word, word.strip_prefix('@').map(parse)) {
                ("payload", _) if program.is_none() => program = Some(VmProgram::Payload),
                ("linux", _) if program.is_none() => program = Some(VmProgram::Linux),
                ("self", _) if program.is_none() => program = Some(VmProgram::Own),
                ("--vcpus", _) if vcpus.is_none() => {
                    vcpus = Some(self.read("a number of virtual CPUs", number::parse)?);
                }
                ("--extent", _) if extent.is_none() => {
                    extent = Some(self.read("the bytes of an extent", number::parse_size)?);
                }
                (_, Some(Some(number))) if node.is_none() => node = Some(number),
                _ => {
                    let what = "@NODE, payload, linux, self, --vcpus or --extent";
                    return Err(CommandError::Bad(word, what));
                }
            }
        }
        let program = program.unwrap_or(VmProgram::Payload);
        let vcpus = vcpus.unwrap_or(1);
        Ok(VmCommand::Create { name, bytes, extent, node, vcpus, program })
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Command;
    use super::super::parse::parse;
    use super::*;

    fn vm(line: &str) -> Result<VmCommand, String> {
        match parse(line) {
            Ok(Some(Command::Vm(command))) => Ok(command),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_words_of_each_command_are_read() {
        let name = VmName::new("a").unwrap();
        assert_eq!(vm("vm"), Ok(VmCommand::List { json: false }));
        assert_eq!(vm("vm list --json"), Ok(VmCommand::List { json: true }));
        let run = |rounds, misdeed| Ok(VmCommand::Run { name, rounds, bytes: None, misdeed });
        let with = |bytes, node, vcpus, program| {
            Ok(VmCommand::Create { name, bytes, extent: None, node, vcpus, program })
        };
        let create = |bytes, node, program| with(bytes, node, 1, program);
        let (payload, linux) = (VmProgram::Payload, VmProgram::Linux);
        assert_eq!(vm("vm create a 256M"), create(256 << 20, None, payload));
        assert_eq!(vm("vm create a 1G @3 payload"), create(1 << 30, NodeId::new(3), payload));
        assert_eq!(vm("vm create a 1G linux"), create(1 << 30, None, linux));
        assert_eq!(vm("vm create a 1G self"), create(1 << 30, None, VmProgram::Own));
        assert_eq!(vm("vm create a 1G --vcpus 3"), with(1 << 30, None, 3, payload));
        assert_eq!(
            vm("vm create a 1G --vcpus 0x2 linux @1"),
            with(1 << 30, NodeId::new(1), 2, linux)
        );
        let large = VmCommand::Create {
            name,
            bytes: 8 << 20,
            extent: Some(2 << 20),
            node: None,
            vcpus: 1,
            program: payload,
        };
        assert_eq!(vm("vm create a 8M --extent 2M"), Ok(large));
        let few = |misdeed| VmCommand::Run { name, rounds: 3, bytes: Some(20 << 10), misdeed };
        assert_eq!(vm("vm run a 3 --bytes 20K"), Ok(few(None)));
        assert_eq!(vm("vm run a 3 --bytes 20K wait"), Ok(few(VmName::new("wait"))));
        assert_eq!(vm("vm run a"), run(0, None));
        assert_eq!(vm("vm run a 12"), run(12, None));
        assert_eq!(vm("vm run a 2 wait"), run(2, VmName::new("wait")));
        assert_eq!(vm("vm pause a"), Ok(VmCommand::Pause(name)));
        assert_eq!(vm("vm kill a"), Ok(VmCommand::Kill(name)));
        assert_eq!(vm("vm log a"), Ok(VmCommand::Log(name)));
        assert_eq!(vm("vm console a"), Ok(VmCommand::Console { name, from: 0 }));
        assert_eq!(vm("vm console a 71"), Ok(VmCommand::Console { name, from: 71 }));
        assert_eq!(vm("vm verify"), Ok(VmCommand::Verify));
        let line = VmLine::new("pool grow").unwrap();
        assert_eq!(vm("vm type a pool   grow"), Ok(VmCommand::Type { name, line }));
    }

    #[test]
    fn wrong_words_are_refused_with_a_reason() {
        for (line, why) in [
            (
                "vm stop a",
                "\"stop\" is not list, create, run, pause, kill, log, console, type or verify",
            ),
            ("vm create", "a name of at most 15 characters is missing"),
            ("vm create 1234567890123456 1G", "is not a name of at most 15 characters"),
            ("vm create a", "a size in bytes is missing"),
            ("vm create a 1G @x", "\"@x\" is not @NODE, payload, linux, self, --vcpus or --extent"),
            (
                "vm create a 1G @1 @2",
                "\"@2\" is not @NODE, payload, linux, self, --vcpus or --extent",
            ),
            (
                "vm create a 1G linux payload",
                "\"payload\" is not @NODE, payload, linux, self, --vcpus or --extent",
            ),
            ("vm create a 1G --vcpus", "a number of virtual CPUs is missing"),
            ("vm create a 1G --vcpus two", "\"two\" is not a number of virtual CPUs"),
            ("vm create a 1G --vcpus -1", "\"-1\" is not a number of virtual CPUs"),
            ("vm create a 1G --vcpus 1 --vcpus 2", "\"--vcpus\" is not @NODE"),
            ("vm create a 1G --extent", "the bytes of an extent is missing"),
            ("vm run a 0 --bytes", "a number of bytes is missing"),
            ("vm console a b", "\"b\" is not the number of a byte"),
            ("vm run a b", "\"b\" is not a number of rounds"),
            ("vm type a", "a line of at most 120 bytes is missing"),
            ("vm kill a b", "unexpected argument \"b\""),
        ] {
            let error = vm(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        let long = format!("vm type a x {}", "y".repeat(119));
        assert!(vm(&long).unwrap_err().contains("is not a line of at most 120 bytes"));
        assert!(vm(&long.replace(" x ", " ")).is_ok());
    }
}
