//! The SPCR: the serial port that firmware used as its console (Serial Port Console Redirection Table,
//! Microsoft, version 1.10).

use super::error::{Signature, TableError};
use super::root::Tables;
use super::table::Table;
use hotmem::paging::ReadPhys;
use hotmem_hotplug::{Line, Polarity, Trigger};

const SPCR: Signature = Signature(*b"SPCR");
/// Where the interrupt's fields end.
const LEAST: usize = 58;
/// Kinds of interrupts, as bits: by an I/O APIC, by a GIC.
const GLOBAL: u64 = 1 << 1 | 1 << 3;

/// A checked SPCR.
#[derive(Clone, Copy, Debug)]
pub struct Spcr<'a>(Table<'a>);

impl<'a> Spcr<'a> {
    /// Reads the SPCR; `None` if the machine has no SPCR.
    ///
    /// # Errors
    ///
    /// [`TableError`] if it is broken.
    pub fn find<P: ReadPhys>(tables: &Tables<'a, P>) -> Result<Option<Self>, TableError> {
        tables.find(SPCR, LEAST, |table| Ok(Self(table)))
    }

    /// The line of the port, if it has one: level-triggered and active high, as that of every serial port
    /// which is not an ISA device.
    pub fn line(&self) -> Option<Line> {
        let kind = self.0.field(52, 1)?;
        let gsi = self.0.field(54, 4)? as u32;
        let (trigger, polarity) = (Trigger::Level, Polarity::ActiveHigh);
        (kind & GLOBAL != 0).then_some(Line { gsi, trigger, polarity })
    }
}
