//! The state of each virtual CPU of a guest.
//!
//! ```text
//!          another starts it                     its own request
//!   Off ----> Starting ----> On ----> Done     On ----> Stopping ----> Off
//!             registers set    | program ended           place filled
//!                              \--------------- runs on the CPU that it is pinned to
//! ```

use crate::figures::Figures;
use hotmem_arch::contract::CpuReply;

/// Whether a virtual CPU is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Power {
    /// It is off: another one can start it.
    #[default]
    Off,
    /// Another one starts it.
    Starting,
    /// It runs when the guest does.
    On,
    /// It goes off: its CPU still has it.
    Stopping,
    /// Its program has ended.
    Done,
}

impl Power {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::On => "on",
            Self::Stopping => "stopping",
            Self::Done => "done",
        }
    }

    /// What a guest is told that asks for it.
    pub(crate) const fn reply(self) -> CpuReply {
        match self {
            Self::Off => CpuReply::IsOff,
            Self::Starting => CpuReply::IsStarting,
            Self::On | Self::Stopping | Self::Done => CpuReply::IsOn,
        }
    }
}

/// What is known of a virtual CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuStatus {
    /// The CPU that it is pinned to.
    pub cpu: usize,
    /// Whether it is on.
    pub power: Power,
    /// What it has reported.
    pub figures: Figures,
}

/// The same, with what only the host needs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct VcpuLife {
    pub(crate) status: VcpuStatus,
    /// Exits one after the other in which it has done nothing.
    pub(crate) idle: u64,
    /// The last of them was a wait for an interrupt.
    pub(crate) waits: bool,
    /// It waits for another virtual CPU of its guest, and nothing else.
    pub(crate) needs_others: bool,
}
