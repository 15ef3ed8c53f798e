//! The command `fault`: a step of the next operation of a kind fails.

use super::listeners::{Objector, WatchError};
use super::words::{CommandError, Words};
use crate::fault::{Faults, Outcome};
use core::fmt;
use hotmem::{Machine, Mm};

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

/// The fault that waits for its operation.
#[derive(Debug)]
pub(super) struct Pending {
    faults: &'static Faults,
    next: Option<Fault>,
    /// Whether a listener asks whether it is to object.
    objects: bool,
}

impl Pending {
    pub(super) const fn new(faults: &'static Faults) -> Self {
        Self { faults, next: None, objects: false }
    }

    /// Has a fault wait, instead of any other.
    pub(super) fn set<M: Machine>(
        &mut self,
        mm: &Mm<M>,
        next: Option<Fault>,
    ) -> Result<(), WatchError> {
        if next.is_some() && !self.objects {
            Objector::start(mm, self.faults)?;
            self.objects = true;
        }
        self.next = next;
        Ok(())
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
    pub(super) fn fault(&mut self) -> Result<Option<Fault>, CommandError<'t>> {
        const WANTED: &str = "add, online, offline, remove, convert or off";
        const NUMBER: &str = "the number of a step, from 1";
        let word = self.word(WANTED)?;
        if word == "off" {
            return Ok(None);
        }
        let kind = Kind::ALL.iter().copied().find(|kind| kind.name() == word);
        let kind = kind.ok_or(CommandError::Bad(word, WANTED))?;
        let step = |word: &str| hotmem_hotplug::number::parse(word).filter(|&nth| nth != 0);
        Ok(Some(Fault { kind, nth: self.read(NUMBER, step)? }))
    }
}
