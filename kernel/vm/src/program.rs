//! What a guest runs.

use hotmem::paging::GuestAddr;
use hotmem_arch::contract::{CpuStart, KernelStart, LinuxFiles};

/// The program of a new guest.
#[derive(Clone, Copy, Debug)]
pub enum Program<'f> {
    /// The payload.
    Payload,
    /// A Linux kernel.
    Linux(LinuxFiles<'f>),
    /// This kernel.
    Own(OwnFiles<'f>),
}

/// What this kernel is started with as a guest.
#[derive(Clone, Copy, Debug)]
pub struct OwnFiles<'f> {
    /// Its image, an ELF file.
    pub image: &'f [u8],
    /// The words of its command line.
    pub words: &'f [u8],
}

/// The program in a guest's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// The payload, which can be started again and again.
    #[default]
    Payload,
    /// A Linux kernel, which changes its own memory: it starts once.
    Linux(KernelStart),
    /// This kernel, which starts once, too.
    Own(KernelStart),
}

impl Loaded {
    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Linux(_) => "linux",
            Self::Own(_) => "self",
        }
    }
}

/// Where a virtual CPU begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    /// At this address, with these arguments.
    Payload(GuestAddr, [u64; 4]),
    /// In a Linux kernel.
    Linux(KernelStart),
    /// In this kernel.
    Own(KernelStart),
    /// Where another of the guest's CPUs says; with or without a board.
    Started(CpuStart, bool),
}
