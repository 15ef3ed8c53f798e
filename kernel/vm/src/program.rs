//! What a guest runs.

use hotmem_arch::contract::{LinuxFiles, LinuxStart};

/// The program of a new guest.
#[derive(Clone, Copy, Debug)]
pub enum Program<'f> {
    /// The payload.
    Payload,
    /// A Linux kernel.
    Linux(LinuxFiles<'f>),
}

/// The program in a guest's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// The payload, which can be started again and again.
    #[default]
    Payload,
    /// A Linux kernel, which changes its own memory: it starts once.
    Linux(LinuxStart),
}

impl Loaded {
    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Linux(_) => "linux",
        }
    }
}
