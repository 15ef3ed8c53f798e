//! The state of a guest, and what is shown of it.

use crate::figures::Figures;
use crate::name::Name;
use crate::space::Moved;
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
    /// What moves have done to it.
    pub moved: Moved,
}
