//! What firmware reports about the machine, in the form that the kernel gets it.

use crate::aarch64::table_loader::ScriptError;
use crate::ranges::RangeList;
use core::fmt;
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// Bytes of command line that are kept.
pub const COMMAND_LINE_BYTES: usize = 2048;

/// How firmware describes the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// ACPI tables, found from the root pointer (RSDP) at this address.
    Acpi(PhysAddr),
    /// The device tree of a POWER hypervisor, which these bytes hold, with its run-time services.
    Papr(PhysRange),
}

/// The kernel command line, copied.
pub type CommandLine = Text<COMMAND_LINE_BYTES>;

/// Text of firmware's, copied: at most `N` bytes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
    truncated: bool,
}

/// What firmware's description of memory names and the kernel does not use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Bytes of memory that is there, and is marked as memory that may be taken away again.
    pub hotpluggable: u64,
    /// Reservations that have no place: there is nothing that could be kept free for them.
    pub unplaced: u32,
    /// The name of the first of them.
    pub first_unplaced: Text<32>,
}

/// The machine as firmware handed it over, copied out of the memory that will be reused.
///
/// RAM that shares a 4 KiB page with something reserved (tables, device windows, firmware's own) is given up.
#[derive(Clone, Copy, Debug)]
pub struct BootInfo {
    /// RAM the kernel may use, its own image included, in whole 4 KiB pages.
    pub ram: RangeList,
    /// What firmware's description names and the kernel does not use.
    pub left_out: LeftOut,
    /// Where firmware's tables are.
    pub firmware: Firmware,
    /// The command line.
    pub command_line: CommandLine,
}

/// Why a hand-off cannot be used. Each names the value that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoffError {
    /// A structure lies, in part, where early code cannot read.
    Unreachable {
        /// Its address.
        address: u64,
        /// Its bytes.
        bytes: u64,
    },
    /// The start info does not begin with the magic number 0x336ec578.
    BadMagic {
        /// What it begins with.
        found: u32,
    },
    /// A version of the start info without a memory map.
    OldVersion {
        /// The version.
        version: u32,
    },
    /// More memory map entries than any firmware has.
    TooManyEntries {
        /// How many it claims.
        entries: u32,
    },
    /// No usable RAM at all.
    NoRam,
    /// No ACPI root pointer.
    NoRsdp,
    /// What should be a device tree has this instead.
    DeviceTree(&'static str),
    /// The device tree names no firmware configuration device.
    NoFwCfg,
    /// The ACPI tables could not be put together.
    Tables(ScriptError),
    /// The hypervisor did not agree to this, without which the kernel cannot run.
    NotGranted(&'static str),
}

impl fmt::Display for HandoffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unreachable { address, bytes } => {
                write!(f, "{bytes} bytes at {address:#x} cannot be read this early")
            }
            Self::BadMagic { found } => {
                write!(f, "start info has magic {found:#x}, not 0x336ec578")
            }
            Self::OldVersion { version } => {
                write!(f, "start info version {version} has no memory map")
            }
            Self::TooManyEntries { entries } => write!(f, "a memory map of {entries} entries"),
            Self::NoRam => f.write_str("the memory map has no usable RAM"),
            Self::NoRsdp => f.write_str("no ACPI root pointer was handed over"),
            Self::DeviceTree(what) => write!(f, "the device tree has {what}"),
            Self::NoFwCfg => f.write_str("the device tree has no firmware configuration device"),
            Self::Tables(error) => fmt::Display::fmt(&error, f),
            Self::NotGranted(what) => write!(f, "the hypervisor does not grant {what}"),
        }
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Text<N> {
    /// No text.
    pub const fn new() -> Self {
        Self { bytes: [0; N], len: 0, truncated: false }
    }

    /// Copies `source` up to its first NUL; what does not fit is cut off, and remembered as cut.
    pub fn copy(source: &[u8]) -> Self {
        let text = source.split(|&byte| byte == 0).next().unwrap_or(&[]);
        let mut copy = Self::new();
        copy.len = text.len().min(N);
        copy.truncated = text.len() > N;
        for (to, from) in copy.bytes.iter_mut().zip(text) {
            *to = *from;
        }
        copy
    }

    /// The bytes, which need not be UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// Whether some of it did not fit.
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}
