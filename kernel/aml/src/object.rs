//! What a name, a local or a package element can hold.
//!
//! Objects are small and `Copy`; bytes and elements live in pools and are named by [`Span`]s.
//! A handle that outlives what it names reads other bytes of the pool, or none: it can mislead
//! the AML that kept it, never the evaluator.

use crate::host::PciAddress;
use crate::name::NodeId;

/// A run of bytes or cells in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// An object of AML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obj {
    /// Not initialised.
    Nothing,
    Int(u64),
    /// Characters, without a terminator. Most are ASCII.
    Str(Span),
    Buf(Span),
    /// Cells.
    Pkg(Span),
    Ref(Ref),
    /// A name in a package, resolved when it is used: it may be defined further down.
    Name(LazyName),
    BufferField(BufferField),
    Field(u32),
    Region(u32),
    Mutex(u32),
    Event(u32),
    Method(Method),
    /// `_OSI`, which the evaluator itself provides.
    Osi,
    /// Another name for a node, which is never itself an alias.
    Alias(NodeId),
    Scope,
    Device,
    Processor,
    PowerResource,
    ThermalZone,
}

/// What a reference refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ref {
    Node(NodeId),
    /// A package element.
    Cell(u32),
    /// A byte of a buffer or string.
    Byte(u32),
    /// A local (0..=7) or argument (8..=14) of the frame with that serial number.
    Slot {
        frame: u32,
        slot: u8,
    },
}

/// A name string in a table, and the scope it is to be looked up from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LazyName {
    pub(crate) at: u32,
    pub(crate) scope: NodeId,
}

/// Bits of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BufferField {
    /// The first bit, counted from the start of the pool.
    pub(crate) first: u32,
    pub(crate) bits: u32,
    /// Reads as a buffer however short it is: what `CreateField` makes.
    pub(crate) raw: bool,
}

/// The body of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// 0..=7.
    pub(crate) args: u8,
}

/// What a region is a window into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RegionSpace {
    /// An address space of the machine, by its number in ACPI 6.5, table 5.172. All of 0x80 to 0xFF are
    /// the maker's.
    Machine(u8),
    /// The bytes of the loaded tables, which are only read.
    Tables,
}

/// A window into an address space.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Region {
    pub(crate) space: RegionSpace,
    pub(crate) base: u64,
    pub(crate) len: u64,
    /// The region's own name, by which its PCI function is found.
    pub(crate) node: NodeId,
    /// That function, once known.
    pub(crate) pci: Option<PciAddress>,
}

/// A named run of bits in a region.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) base: FieldBase,
    pub(crate) bit: u32,
    pub(crate) bits: u32,
    pub(crate) flags: FieldFlags,
}

/// How the bits of a field are reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FieldBase {
    Region(u32),
    /// Through an index and a data register (indices of fields).
    Index {
        index: u32,
        data: u32,
    },
    /// After `value` was written to the bank register (index of a field).
    Bank {
        region: u32,
        bank: u32,
        value: u64,
    },
}

/// The index of the mutex `\_GL`, which firmware shares.
pub(crate) const GLOBAL_LOCK: u32 = 0;

/// The flags byte of a field list: access type, lock and update rule (ACPI 6.5, 20.2.5.2).
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldFlags(pub(crate) u8);

/// What to do with the bits of a register around those of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update {
    Preserve,
    Ones,
    Zeros,
}

/// A mutex or an event.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sync {
    /// The sync level of a mutex.
    pub(crate) level: u8,
    /// How often the mutex is held, or the event was signalled.
    pub(crate) count: u32,
    /// The level held before the first acquire.
    pub(crate) before: u8,
}

// Objects are copied everywhere; two words are what that is cheap for.
const _: () = assert!(size_of::<Obj>() == 16);
