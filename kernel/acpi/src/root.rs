//! From the RSDP to every other table.
//!
//! ```text
//! RSDP --> XSDT (64-bit pointers) or RSDT (32-bit) --> FADT --> DSDT
//!                                                  --> MADT, SRAT, SSDT, ...
//! ```

use hotmem::addr::PhysAddr;

use super::error::{Signature, TableError};
use super::fadt::Fadt;
use super::physical::Physical;
use super::table::{self, HEADER, Table};

/// Bytes of the RSDP of ACPI 1.0, which its first checksum covers (ACPI 6.5, 5.2.5.3).
const RSDP_FIRST: u64 = 20;
/// Bytes of the RSDP since ACPI 2.0.
const RSDP_WHOLE: u64 = 36;
/// Bound for the length that a newer RSDP claims.
const RSDP_LONGEST: u64 = 4096;

const RSDP: Signature = Signature(*b"RSD ");
const RSDT: Signature = Signature(*b"RSDT");
const XSDT: Signature = Signature(*b"XSDT");
const DSDT: Signature = Signature(*b"DSDT");
const SSDT: Signature = Signature(*b"SSDT");

/// The firmware's tables, found through a checked root.
#[derive(Debug)]
pub struct Tables<'a, P> {
    memory: &'a P,
    root: Table<'a>,
    /// Bytes of a pointer: 4 in an RSDT, 8 in an XSDT.
    pointer: usize,
}

impl<'a, P: Physical> Tables<'a, P> {
    /// Finds the root table through the RSDP at `rsdp`.
    ///
    /// # Errors
    ///
    /// [`TableError`] if the RSDP or the root table is not what it should be.
    pub fn new(memory: &'a P, rsdp: PhysAddr) -> Result<Self, TableError> {
        let first = table::slice(memory, rsdp, RSDP_FIRST)?;
        if !first.starts_with(b"RSD PTR ") {
            let found = table::signature(memory, rsdp)?;
            return Err(TableError::Signature { at: rsdp, wanted: RSDP, found });
        }
        table::check_sum(RSDP, rsdp, first)?;

        let revision = first.get(15).copied().unwrap_or(0);
        let xsdt = if revision >= 2 { extended_root(memory, rsdp) } else { Ok(0) };
        let rsdt = table::le(first, 16, 4).unwrap_or(0);
        if xsdt == Ok(0) {
            return Self::listed(memory, rsdt, RSDT, 4);
        }
        match xsdt.and_then(|xsdt| Self::listed(memory, xsdt, XSDT, 8)) {
            Err(error) if rsdt != 0 => {
                log::warn!("acpi: {error}; the RSDT is used instead");
                Self::listed(memory, rsdt, RSDT, 4).map_err(|_| error)
            }
            tables => tables,
        }
    }

    /// The tables that a root lists, with `pointer` bytes for each.
    fn listed(
        memory: &'a P,
        at: u64,
        signature: Signature,
        pointer: usize,
    ) -> Result<Self, TableError> {
        let root = Table::read(memory, PhysAddr::new(at), signature, HEADER)?;
        let length = root.bytes().len();
        if !(length - HEADER).is_multiple_of(pointer) {
            let (at, length) = (root.address(), length as u32);
            return Err(TableError::Length { table: signature, at, length });
        }
        Ok(Self { memory, root, pointer })
    }

    /// The memory that the tables are in.
    pub(super) const fn memory(&self) -> &'a P {
        self.memory
    }

    /// Where the tables listed in the root are. Null pointers, which real firmware has, are left
    /// out.
    pub fn addresses(&self) -> impl Iterator<Item = PhysAddr> + '_ {
        let count = (self.root.bytes().len() - HEADER) / self.pointer;
        (0..count)
            .filter_map(|index| self.root.field(HEADER + index * self.pointer, self.pointer))
            .filter(|&at| at != 0)
            .map(PhysAddr::new)
    }

    /// The first table named `wanted`, at least `least` bytes long; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`TableError`] if there is one, but broken. Tables of other names are not looked at.
    pub fn find(&self, wanted: Signature, least: usize) -> Result<Option<Table<'a>>, TableError> {
        self.named(wanted).next().map(|at| Table::read(self.memory, at, wanted, least)).transpose()
    }

    /// Hands the DSDT and then every SSDT to `each`, or what is wrong with it: another may have the memory.
    ///
    /// # Errors
    ///
    /// Whatever `each` returns.
    pub fn each_definition_block<E>(
        &self,
        fadt: &Fadt,
        mut each: impl FnMut(Result<Table<'a>, TableError>) -> Result<(), E>,
    ) -> Result<(), E> {
        each(self.dsdt(fadt))?;
        self.named(SSDT).try_for_each(|at| each(Table::read(self.memory, at, SSDT, HEADER)))
    }

    /// The DSDT. One that does not add up is used all the same, as other systems do: without it a machine has
    /// nothing, and what in it makes no sense is left out one by one.
    fn dsdt(&self, fadt: &Fadt) -> Result<Table<'a>, TableError> {
        let table = Table::unsummed(self.memory, fadt.dsdt, DSDT, HEADER)?;
        if let Err(error) = table.check_sum() {
            log::warn!("acpi: {error}; it is used all the same");
        }
        Ok(table)
    }

    /// Where tables named `wanted` are. A pointer into unreadable memory names nothing.
    fn named(&self, wanted: Signature) -> impl Iterator<Item = PhysAddr> + '_ {
        self.addresses().filter(move |&at| table::signature(self.memory, at) == Ok(wanted))
    }
}

/// The XSDT's address out of an RSDP of ACPI 2.0 or later; 0 if it has none.
fn extended_root(memory: &impl Physical, rsdp: PhysAddr) -> Result<u64, TableError> {
    let whole = table::slice(memory, rsdp, RSDP_WHOLE)?;
    let length = table::le(whole, 20, 4).ok_or(TableError::Address(rsdp))?;
    if !(RSDP_WHOLE..=RSDP_LONGEST).contains(&length) {
        let length = length as u32;
        return Err(TableError::Length { table: RSDP, at: rsdp, length });
    }
    table::check_sum(RSDP, rsdp, table::slice(memory, rsdp, length)?)?;
    table::le(whole, 24, 8).ok_or(TableError::Address(rsdp))
}
