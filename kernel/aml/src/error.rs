//! What can go wrong, and where in which table.
//!
//! Every failure carries a [`Place`] as soon as one is known, so that a message names the byte
//! of firmware that is at fault instead of only the symptom.

use core::fmt;

use crate::host::HostError;
use crate::name::NameSeg;

/// A failure while loading or evaluating AML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmlError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// The term that was being evaluated; `None` if the failure lies outside any table.
    pub place: Option<Place>,
}

/// Results inside the evaluator; places are added at its edge.
pub(crate) type Res<T> = Result<T, ErrorKind>;

/// A byte of a loaded table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The table's signature, such as `DSDT`.
    pub signature: [u8; 4],
    /// The table's position in the list given to [`Aml::load`](crate::Aml::load).
    pub table: u8,
    /// Bytes from the start of the table, its header included.
    pub offset: u32,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A table is shorter than its header or than the length its header claims.
    BadTable,
    /// A term runs past the end of its package, method or table.
    Truncated,
    /// An opcode the evaluator does not have, or none at all; extended ones are `0x5Bxx`.
    Opcode(u16),
    /// Bytes that are not a name where one is due.
    BadName,
    /// A name that resolves to nothing; its last segment.
    NotFound(NameSeg),
    /// A name that is already taken in its scope.
    Exists(NameSeg),
    /// An object of another type than the operator needs.
    WrongType(&'static str),
    /// A value the operator has no meaning for.
    BadValue(&'static str),
    /// An index, field or region access outside its object.
    OutOfBounds,
    /// A division by zero.
    DivideByZero,
    /// A method got fewer or more arguments than it declares; the number declared.
    Arguments(u8),
    /// Terms, packages or calls nested deeper than [`Limits::depth`](crate::Limits).
    TooDeep,
    /// More steps than [`Limits::steps`](crate::Limits): a loop that does not end.
    TooLong,
    /// More sleeping, or waiting for firmware, than [`Limits::sleep_ms`](crate::Limits), which is this.
    TooSleepy(u32),
    /// A pool of fixed size is full; its name.
    Full(Pool),
    /// The kernel heap had no room while loading.
    OutOfHeap,
    /// A `Release` of a mutex that the evaluation does not hold.
    NotHeld,
    /// An `Acquire` below the sync level already held.
    MutexOrder,
    /// `Break` or `Continue` outside a loop, or `Return` outside a method.
    StrayFlow,
    /// The host refused a register access.
    Host(HostError),
    /// The firmware executed `Fatal`.
    Fatal {
        /// The firmware's own type byte.
        kind: u8,
        /// The firmware's own code.
        code: u32,
        /// What it gave with it.
        argument: u64,
    },
}

/// The pools of fixed size that evaluation draws from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Bytes of buffers and strings.
    Bytes,
    /// Elements of packages.
    Cells,
    /// Named objects.
    Nodes,
    /// Field units.
    Fields,
    /// Operation regions.
    Regions,
    /// Mutexes and events.
    Mutexes,
    /// Bytes of tables.
    Code,
}

impl AmlError {
    /// A failure outside any table.
    pub(crate) const fn bare(kind: ErrorKind) -> Self {
        Self { kind, place: None }
    }
}

impl From<ErrorKind> for AmlError {
    fn from(kind: ErrorKind) -> Self {
        Self::bare(kind)
    }
}

impl From<HostError> for AmlError {
    fn from(error: HostError) -> Self {
        Self::bare(ErrorKind::Host(error))
    }
}

impl fmt::Display for AmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        match self.place {
            Some(place) => write!(f, ", in {place}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.signature {
            write!(f, "{}", byte.escape_ascii())?;
        }
        write!(f, " (table {}) at offset {:#x}", self.table, self.offset)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BadTable => f.write_str("table length does not fit its header"),
            Self::Truncated => f.write_str("term runs past its end"),
            Self::Opcode(code) => fmt_opcode(code, f),
            Self::BadName => f.write_str("bytes are not a name"),
            Self::NotFound(name) => write!(f, "name {name} not found"),
            Self::Exists(name) => write!(f, "name {name} exists already"),
            Self::WrongType(wanted) => write!(f, "object is not {wanted}"),
            Self::BadValue(why) => write!(f, "bad value: {why}"),
            Self::OutOfBounds => f.write_str("access outside the object"),
            Self::DivideByZero => f.write_str("division by zero"),
            Self::Arguments(wanted) => write!(f, "method takes {wanted} arguments"),
            Self::TooDeep => f.write_str("nested too deep"),
            Self::TooLong => f.write_str("too many steps"),
            Self::TooSleepy(limit) => {
                write!(f, "wants to sleep longer than the {limit} ms that one evaluation may")
            }
            Self::Full(pool) => write!(f, "no room for more {}", pool.name()),
            Self::OutOfHeap => f.write_str("no heap left to load the tables"),
            Self::NotHeld => f.write_str("release of a mutex that is not held"),
            Self::MutexOrder => f.write_str("mutex acquired below the level held"),
            Self::StrayFlow => f.write_str("Break, Continue or Return out of place"),
            Self::Host(error) => write!(f, "{error}"),
            Self::Fatal { kind, code, argument } => {
                write!(f, "firmware fatal {kind:#x}/{code:#x}, with {argument:#x}")
            }
        }
    }
}

/// Names an opcode by its bytes and, where it is one, by its name in ACPI 6.5, table 20.2.
fn fmt_opcode(code: u16, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let name = crate::opcode::name(code).unwrap_or("no ACPI opcode");
    match code.to_be_bytes() {
        [0, byte] => write!(f, "opcode {byte:#04x} ({name}) is not supported"),
        [prefix, byte] => write!(f, "opcode {prefix:#04x} {byte:#04x} ({name}) is not supported"),
    }
}

impl Pool {
    /// What the pool holds, for messages.
    const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "buffer bytes",
            Self::Cells => "package elements",
            Self::Nodes => "named objects",
            Self::Fields => "field units",
            Self::Regions => "operation regions",
            Self::Mutexes => "mutexes",
            Self::Code => "table bytes",
        }
    }
}

impl core::error::Error for AmlError {}
