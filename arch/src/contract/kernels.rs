//! Kernels that guests run, and where they begin.

use core::fmt;
use hotmem_paging::addr::{GuestAddr, GuestRange};

/// What a Linux kernel is started with.
#[derive(Clone, Copy, Debug)]
pub struct LinuxFiles<'f> {
    /// The kernel, as a distribution ships it.
    pub kernel: &'f [u8],
    /// Its first file system.
    pub initrd: &'f [u8],
    /// Its command line; what its board needs comes before it.
    pub command_line: &'f [u8],
}

/// Where the first CPU of a guest begins in its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelStart {
    /// Its first instruction.
    pub entry: GuestAddr,
    /// What it finds in registers, as the architecture's boot protocol says.
    pub arguments: [u64; 4],
}

/// The reason why a guest cannot start its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoKernel(pub &'static str);

impl fmt::Display for NoKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the guest cannot start its kernel: {}", self.0)
    }
}

impl core::error::Error for NoKernel {}

/// Puts bytes into a guest's memory before it runs: refuses what is not its memory.
pub type Put<'p> = dyn FnMut(GuestAddr, &[u8]) -> Result<(), NoKernel> + 'p;

/// The board of a guest, as a kernel finds it described that begins with a start info (the PVH boot ABI, Xen,
/// `docs/misc/pvh.pandoc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// The root pointer of its ACPI tables.
    pub rsdp: GuestAddr,
    /// Room for the start info, which no kernel is placed at.
    pub start_info: GuestRange,
    /// The map of its memory: ranges, some of them empty, with whether a kernel may use them.
    pub memory: [(GuestRange, bool); 5],
}
