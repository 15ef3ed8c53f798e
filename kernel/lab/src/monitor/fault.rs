//! The command `fault`: a step of the next operation of a kind fails.

use super::listeners::Objector;
use super::words::{CommandError, Words};
use crate::fault::{Faults, Outcome};
use core::fmt;
use hotmem::{ListInUse, Machine, Mm};

macro_rules! kinds {
    ($($variant:ident = $word:literal),* $(,)?) => {
        /// An operation of the operator's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "their commands are described in TABLE")]
        pub enum Kind {
            $($variant),*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name of its command.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),*
                }
            }
        }
    };
}

kinds! {
    Add = "add",
    Online = "online",
    Offline = "offline",
    Remove = "remove",
    Convert = "convert",
}

/// A fault that the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The operation.
    pub kind: Kind,
    /// Which of its steps that can fail does, from 1.
    pub nth: u64,
}

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultCommand {
    /// Nothing is to fail any more.
    Off,
    /// A step of the next operation of a kind.
    Step(Fault),
    /// The call of firmware with this number, from 1 and from now on.
    Firmware(u64),
}

/// What became of a fault, for the operator.
pub(super) struct Became(Fault, Outcome);

impl fmt::Display for Became {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Fault { kind, nth }, outcome) = self;
        match outcome {
            Outcome::Failed(point) => {
                write!(f, "fault: step {nth} of {} failed: {point}", kind.name())
            }
            Outcome::Fewer(seen) => write!(f, "fault: {} had {seen} steps", kind.name()),
        }
    }
}

/// What became of a fault of firmware, for the operator.
pub(super) struct BecameOfFirmware(Outcome);

impl fmt::Display for BecameOfFirmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Outcome::Failed(point) => write!(f, "fault: a {point} failed"),
            Outcome::Fewer(seen) => write!(f, "fault: firmware had {seen} calls"),
        }
    }
}

/// The kernel's faults: those of operations, and of calls of firmware.
#[derive(Clone, Copy, Debug)]
pub struct Sites {
    /// The steps of operations.
    pub steps: &'static Faults,
    /// The calls of firmware.
    pub firmware: &'static Faults,
}

/// The fault that waits for its operation.
#[derive(Debug)]
pub(super) struct Pending {
    faults: &'static Faults,
    firmware: &'static Faults,
    /// Whether a call of firmware is to fail, or has.
    watches_firmware: bool,
    next: Option<Fault>,
    /// Whether a listener asks whether it is to object.
    objects: bool,
}

impl Pending {
    pub(super) const fn new(sites: Sites) -> Self {
        let Sites { steps: faults, firmware } = sites;
        Self { faults, firmware, watches_firmware: false, next: None, objects: false }
    }

    /// Has a fault wait, instead of any other of its kind; or none, and tells what became of one of firmware.
    pub(super) fn set<M: Machine>(
        &mut self,
        mm: &Mm<M>,
        command: FaultCommand,
    ) -> Result<Option<BecameOfFirmware>, ListInUse> {
        match command {
            FaultCommand::Off => {
                self.next = None;
                let outcome = self.firmware.disarm();
                let watched = core::mem::take(&mut self.watches_firmware);
                return Ok(watched.then_some(BecameOfFirmware(outcome)));
            }
            FaultCommand::Firmware(nth) => {
                self.firmware.arm(nth);
                self.watches_firmware = true;
            }
            FaultCommand::Step(fault) => {
                if !self.objects {
                    Objector::start(mm, self.faults)?;
                    self.objects = true;
                }
                self.next = Some(fault);
            }
        }
        Ok(None)
    }

    /// Arms the fault that waits for an operation of this kind, if one does.
    pub(super) fn begin(&mut self, kind: Option<Kind>) -> Option<Fault> {
        let due = self.next.take_if(|next| kind == Some(next.kind))?;
        self.faults.arm(due.nth);
        Some(due)
    }

    /// Ends the fault of a command that has ended.
    pub(super) fn end(&self, due: Fault) -> Became {
        Became(due, self.faults.disarm())
    }
}

impl<'t> Words<'t> {
    pub(super) fn fault(&mut self) -> Result<FaultCommand, CommandError<'t>> {
        const WANTED: &str = "add, online, offline, remove, convert, firmware or off";
        const STEP: &str = "the number of a step, from 1";
        const CALL: &str = "the number of a call, from 1";
        let number = |word: &str| hotmem_hotplug::number::parse(word).filter(|&nth| nth != 0);
        let word = self.word(WANTED)?;
        match word {
            "off" => return Ok(FaultCommand::Off),
            "firmware" => return self.read(CALL, number).map(FaultCommand::Firmware),
            _ => {}
        }
        let kind = Kind::ALL.iter().copied().find(|kind| kind.name() == word);
        let kind = kind.ok_or(CommandError::Bad(word, WANTED))?;
        Ok(FaultCommand::Step(Fault { kind, nth: self.read(STEP, number)? }))
    }
}
