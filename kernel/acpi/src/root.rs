//! From the RSDP to every other table.
//!
//! ```text
//! RSDP --> XSDT (64-bit pointers) or RSDT (32-bit) --> FADT --> DSDT
//!                                                  --> MADT, SRAT, SSDT, ...
//! ```

use hotmem::addr::PhysAddr;

use super::error::{Signature, TableError};
use super::table::{self, HEADER, Table};
use hotmem::paging::ReadPhys;

/// Bytes of the RSDP of ACPI 1.0, which its first checksum covers (ACPI 6.5, 5.2.5.3).
const RSDP_FIRST: u64 = 20;
/// Bytes of the RSDP since ACPI 2.0.
const RSDP_WHOLE: u64 = 36;
/// Bound for the length that a newer RSDP claims.
const RSDP_LONGEST: u64 = 4096;
/// Tables that a root can list: ten times as many as large machines have. Each may be long, and is read
/// whole.
const MOST: usize = 1024;

const RSDP: Signature = Signature(*b"RSD ");
const RSDT: Signature = Signature(*b"RSDT");
const XSDT: Signature = Signature(*b"XSDT");
pub(super) const DSDT: Signature = Signature(*b"DSDT");
const SSDT: Signature = Signature(*b"SSDT");
/// What an SSDT was called before ACPI 2.0 (ACPI 6.5, 5.2.11.3).
const PSDT: Signature = Signature(*b"PSDT");

/// The firmware's tables, found through a checked root.
#[derive(Debug)]
pub struct Tables<'a, P> {
    memory: &'a P,
    root: Table<'a>,
    /// Bytes of a pointer: 4 in an RSDT, 8 in an XSDT.
    pointer: usize,
}

impl<'a, P: ReadPhys> Tables<'a, P> {
    /// Finds the root table through the RSDP at `rsdp`.
    ///
    /// UEFI and most loaders hand its address over. A BIOS leaves it in the last 128 KiB below 1 MiB, aligned to 16
    /// bytes, or in the first KiB of the extended BIOS data area (ACPI 6.5, 5.2.5.1):
    ///
    /// ```
    /// use hotmem::paging::ReadPhys;
    /// use hotmem::{PhysAddr, PhysRange};
    ///
    /// fn find_rsdp(memory: &impl ReadPhys) -> Option<PhysAddr> {
    ///     let area = PhysRange::new(PhysAddr::new(0xe_0000), 0x2_0000)?;
    ///     let bytes = memory.bytes(area)?;
    ///     let place = bytes.chunks(16).position(|row| row.starts_with(b"RSD PTR "))?;
    ///     Some(area.start().add(16 * place as u64))
    /// }
    /// ```
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
        let tables = Self { memory, root, pointer };
        let (size, at) = (root.bytes().len() - HEADER, root.address());
        let rest = size % pointer;
        if rest != 0 {
            log::warn!(
                "acpi: {signature} at {at}: {rest} bytes at its end are not a whole pointer"
            );
        }
        let more = (size / pointer).saturating_sub(MOST);
        if more != 0 {
            log::warn!(
                "acpi: {signature} at {at}: {more} tables past the first {MOST} are left out"
            );
        }
        Ok(tables)
    }

    /// The memory that the tables are in.
    pub(super) const fn memory(&self) -> &'a P {
        self.memory
    }

    /// Where the tables listed in the root are, each once. Null pointers, which real firmware has, are left
    /// out.
    pub fn addresses(&self) -> impl Iterator<Item = PhysAddr> + '_ {
        let all = ((self.root.bytes().len() - HEADER) / self.pointer).min(MOST);
        let listed = |index: usize| {
            self.root.field(HEADER + index * self.pointer, self.pointer).unwrap_or(0)
        };
        let again = move |index: usize, at| (0..index).any(|other| listed(other) == at);
        let found = (0..all).map(move |index| (index, listed(index)));
        let found = found.filter(move |&(index, at)| at != 0 && !again(index, at));
        found.map(|(_, at)| PhysAddr::new(at))
    }

    /// The first table named `wanted` that is at least `least` bytes long and passes `check`; `None` if
    /// none is named so. A broken one does not hide a sound one behind it.
    ///
    /// # Errors
    ///
    /// [`TableError`] of the first one if all are broken. Tables of other names are not looked at.
    pub fn find<T>(
        &self,
        wanted: Signature,
        least: usize,
        check: impl Fn(Table<'a>) -> Result<T, TableError>,
    ) -> Result<Option<T>, TableError> {
        let mut broken = None;
        for at in self.named(|name| name == wanted) {
            match Table::read(self.memory, at, wanted, least).and_then(&check) {
                Ok(found) => {
                    if let Some(error) = broken {
                        log::warn!("acpi: {error}; the {wanted} at {at} is used instead");
                    }
                    return Ok(Some(found));
                }
                Err(error) => broken = broken.or(Some(error)),
            }
        }
        broken.map_or(Ok(None), Err)
    }

    /// Hands the DSDT, which is at `dsdt`, and then every SSDT to `each`, or what is wrong with it: another may have
    /// the memory.
    ///
    /// # Errors
    ///
    /// Whatever `each` returns.
    pub fn each_definition_block<E>(
        &self,
        dsdt: PhysAddr,
        mut each: impl FnMut(Result<Table<'a>, TableError>) -> Result<(), E>,
    ) -> Result<(), E> {
        each(self.dsdt(dsdt))?;
        self.named(|name| name == SSDT || name == PSDT).try_for_each(|at| {
            let name = table::signature(self.memory, at);
            each(name.and_then(|name| Table::read(self.memory, at, name, HEADER)))
        })
    }

    /// The DSDT. One that does not add up is used all the same, as other systems do: without it a machine has
    /// nothing, and what in it makes no sense is left out one by one.
    fn dsdt(&self, at: PhysAddr) -> Result<Table<'a>, TableError> {
        let table = Table::unsummed(self.memory, at, DSDT, HEADER)?;
        if let Err(error) = table.check_sum() {
            log::warn!("acpi: {error}; it is used all the same");
        }
        Ok(table)
    }

    /// Where the tables are whose names are wanted. A pointer into unreadable memory names nothing.
    fn named(&self, wanted: impl Fn(Signature) -> bool) -> impl Iterator<Item = PhysAddr> {
        self.addresses().filter(move |&at| table::signature(self.memory, at).is_ok_and(&wanted))
    }
}

/// The XSDT's address out of an RSDP of ACPI 2.0 or later; 0 if it has none.
fn extended_root(memory: &impl ReadPhys, rsdp: PhysAddr) -> Result<u64, TableError> {
    let whole = table::slice(memory, rsdp, RSDP_WHOLE)?;
    let length = table::le(whole, 20, 4).ok_or(TableError::Address(rsdp))?;
    if !(RSDP_WHOLE..=RSDP_LONGEST).contains(&length) {
        let length = length as u32;
        return Err(TableError::Length { table: RSDP, at: rsdp, length });
    }
    table::check_sum(RSDP, rsdp, table::slice(memory, rsdp, length)?)?;
    table::le(whole, 24, 8).ok_or(TableError::Address(rsdp))
}
