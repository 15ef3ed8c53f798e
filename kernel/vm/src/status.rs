//! The state of a guest, and what is shown of it.

use crate::figures::Figures;
use crate::name::Name;
use crate::vcpus::VcpuStatus;
use alloc::vec::Vec;
use core::fmt;
use hotmem::BlockId;

/// The state of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// There is none.
    #[default]
    Absent,
    /// It is being created, or taken apart.
    Changing,
    /// It has not run yet.
    Ready,
    /// It runs.
    Runs,
    /// It was paused.
    Paused,
    /// Its program has ended.
    Done,
    /// It did what the host does not allow, or does not emulate.
    Stopped,
}

impl State {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Changing => "changing",
            Self::Ready => "ready",
            Self::Runs => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A guest, as it is shown.
#[derive(Clone, Debug)]
pub struct VmStatus {
    /// Its name.
    pub name: Name,
    /// Its program: `payload`, `linux` or `self`.
    pub program: &'static str,
    /// Its state.
    pub state: State,
    /// Its virtual CPUs.
    pub vcpus: Vec<VcpuStatus>,
    /// Bytes of its memory.
    pub bytes: u64,
    /// The blocks that hold its memory, with the bytes in each.
    pub blocks: Vec<(BlockId, u64)>,
    /// The blocks that hold its tables, with the bytes in each.
    pub table_blocks: Vec<(BlockId, u64)>,
    /// What all of them have reported.
    pub figures: Figures,
    /// Bytes that it wrote to its serial port.
    pub written: u64,
    /// Pages of its memory that were moved so far.
    pub pages_moved: u64,
    /// Tables that were moved so far.
    pub tables_moved: u64,
    /// The longest time in which a batch of its pages had no translation, in instructions.
    pub longest_pause: u64,
    /// The longest share of one page in the pause of its batch, rounded up.
    pub longest_pause_of_page: u64,
    /// Extents that were moved after they had been copied while it ran.
    pub extents_ahead: u64,
    /// Those of them that it changed faster than they were copied: their pause is as long as what differed then.
    pub extents_hurried: u64,
}
