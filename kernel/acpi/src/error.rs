//! What can be wrong with a table. Every variant carries the value that is at fault.

use core::fmt;

use hotmem::addr::{PhysAddr, PhysRange};

/// The four characters that name a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(pub [u8; 4]);

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

hotmem::errors! {
    /// Why a table cannot be used.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum TableError {
        /// The memory a table should be in cannot be read.
        Unreadable(range: PhysRange) => "cannot read a table at {range}",
        /// A pointer to a table is so high that the table would pass the end of the address space.
        Address(at: PhysAddr) => "a table at {at} would pass the end of memory",
        /// Something else is where a table should be.
        Signature {
            /// Where.
            at: PhysAddr,
            /// What should be there.
            wanted: Signature,
            /// What is there.
            found: Signature,
        } => "found '{found}' instead of '{wanted}' at {at}",
        /// A length that is not between the shortest and the longest the table can have.
        Length {
            /// Which table.
            table: Signature,
            /// Where it is.
            at: PhysAddr,
            /// The length it claims, in bytes.
            length: u32,
        } => "{table} at {at} claims an impossible length of {length} bytes",
        /// Bytes that do not add up to 0 modulo 256.
        Checksum {
            /// Which table.
            table: Signature,
            /// Where it is.
            at: PhysAddr,
            /// What they add up to.
            sum: u8,
        } => "{table} at {at} has a bad checksum: bytes add up to {sum:#x}",
        /// A record that is too short for its kind, or runs past the end of its table.
        Record {
            /// Which table.
            table: Signature,
            /// The record's place, in bytes from the table's start.
            offset: u32,
            /// The record's kind.
            kind: u8,
            /// The length it claims, in bytes.
            length: u8,
        } => "{table}: record of kind {kind} at offset {offset:#x} claims an impossible length of {length} bytes",
        /// A value that no machine can have.
        Value {
            /// Which table.
            table: Signature,
            /// The value's place, in bytes from the table's start.
            offset: u32,
            /// What is there.
            value: u64,
        } => "{table}: impossible value {value:#x} at offset {offset:#x}",
        /// The firmware has no such table.
        Missing(table: Signature) => "there is no {table}",
        /// The kernel heap has no room for what a table of byte code defines.
        NoRoom {
            /// Which table.
            table: Signature,
            /// Where it is.
            at: PhysAddr,
            /// Its length, in bytes.
            length: u32,
        } => "the kernel heap has no room for {table} at {at} of {length} bytes",
    }
}
