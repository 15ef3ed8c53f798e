//! The MADT: which interrupt controllers there are (ACPI 6.5, 5.2.12).

use hotmem::addr::{PhysAddr, PhysRange};

use super::controller::Controller;
use super::error::{Signature, TableError};
use super::root::Tables;
use super::table::{Record, Table};
use hotmem::paging::ReadPhys;
use hotmem_hotplug::{Line, Polarity, Trigger};

const MADT: Signature = Signature(*b"APIC");
/// Where the records start.
const RECORDS: usize = 44;

/// Kinds of records.
const LOCAL_APIC: u8 = 0;
const IO_APIC: u8 = 1;
const OVERRIDE: u8 = 2;
const LOCAL_APIC_ADDRESS: u8 = 5;
const LOCAL_X2APIC: u8 = 9;
const GIC_CPU: u8 = 11;
const GIC_DISTRIBUTOR: u8 = 12;
const GIC_REDISTRIBUTORS: u8 = 14;

/// A checked MADT.
#[derive(Clone, Copy, Debug)]
pub struct Madt<'a>(Table<'a>);

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Its APIC identifier.
    pub id: u8,
    /// Where its registers are.
    pub address: PhysAddr,
    /// The global system interrupt of its first input.
    pub gsi_base: u32,
}

/// A CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// What the machine calls it: the identifier of its local APIC, or its affinity (MPIDR).
    pub hardware: u64,
    /// The number by which the SRAT names it, if that is not `hardware`: its ACPI UID, with a GIC.
    pub uid: Option<u32>,
    /// Whether it may be used: there may be no such CPU, or firmware keeps it.
    pub enabled: bool,
}

/// An ISA interrupt that is wired in another way than ISA's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// The ISA interrupt, 0..=15.
    pub source: u8,
    /// The global system interrupt it arrives at.
    pub gsi: u32,
    /// Its trigger; `None` as its bus has it.
    pub trigger: Option<Trigger>,
    /// Its polarity; `None` as its bus has it.
    pub polarity: Option<Polarity>,
}

impl<'a> Madt<'a> {
    /// Reads the MADT; `None` if the machine has no MADT.
    ///
    /// # Errors
    ///
    /// [`TableError`] if it is broken.
    pub fn find<P: ReadPhys>(tables: &Tables<'a, P>) -> Result<Option<Self>, TableError> {
        tables.find(MADT, RECORDS, Self::check)
    }

    fn check(table: Table<'a>) -> Result<Self, TableError> {
        let table = table.with_whole_records(RECORDS, |kind| match kind {
            LOCAL_APIC => 8,
            LOCAL_X2APIC => 16,
            IO_APIC | LOCAL_APIC_ADDRESS => 12,
            OVERRIDE => 10,
            GIC_CPU => 40,
            GIC_DISTRIBUTOR => 24,
            GIC_REDISTRIBUTORS => 16,
            _ => 2,
        })?;
        for record in table.records(RECORDS).filter(|record| record.kind == OVERRIDE) {
            let flags = record.field(8, 2).unwrap_or(0);
            // Two bits each; 0b10 is reserved (ACPI 6.5, table 5.26).
            if flags & 0b11 == 0b10 || flags >> 2 & 0b11 == 0b10 {
                let error = table.bad(record.offset + 8, flags);
                log::warn!("acpi: {error}; that interrupt is taken as its bus has it");
            }
        }
        Ok(Self(table))
    }

    /// Where each CPU finds its local APIC.
    pub fn local_apic(&self) -> PhysAddr {
        let wide = self
            .0
            .records(RECORDS)
            .filter(|record| record.kind == LOCAL_APIC_ADDRESS)
            .find_map(|record| record.field(4, 8));
        PhysAddr::new(wide.or_else(|| self.0.field(36, 4)).unwrap_or(0))
    }

    /// The I/O APICs.
    pub fn io_apics(&self) -> impl Iterator<Item = IoApic> + use<'a> {
        self.0.records(RECORDS).filter(|record| record.kind == IO_APIC).filter_map(|record| {
            Some(IoApic {
                id: record.field(2, 1)? as u8,
                address: PhysAddr::new(record.field(4, 4)?),
                gsi_base: record.field(8, 4)? as u32,
            })
        })
    }

    /// The CPUs, in the order of the table.
    pub fn processors(&self) -> impl Iterator<Item = Processor> + use<'a> {
        self.0.records(RECORDS).filter_map(|record| processor(&record))
    }

    /// Every controller there is.
    pub fn controllers(&self) -> impl Iterator<Item = Controller> + use<'a> {
        let local = Controller::LocalApic { at: self.local_apic() };
        let io = self.io_apics();
        let io = io.map(|apic| Controller::IoApic { at: apic.address, first: apic.gsi_base });
        io.chain([local]).chain(self.0.records(RECORDS).filter_map(|record| gic(&record)))
    }

    /// The ISA interrupts that are wired in another way than ISA's own.
    pub fn overrides(&self) -> impl Iterator<Item = Override> + use<'a> {
        self.0.records(RECORDS).filter(|record| record.kind == OVERRIDE).filter_map(|record| {
            let flags = record.field(8, 2)?;
            Some(Override {
                source: record.field(3, 1)? as u8,
                gsi: record.field(4, 4)? as u32,
                polarity: match flags & 0b11 {
                    0b01 => Some(Polarity::ActiveHigh),
                    0b11 => Some(Polarity::ActiveLow),
                    _ => None,
                },
                trigger: match flags >> 2 & 0b11 {
                    0b01 => Some(Trigger::Edge),
                    0b11 => Some(Trigger::Level),
                    _ => None,
                },
            })
        })
    }

    /// Where ISA interrupt `irq` arrives: edge-triggered and active high unless overridden.
    pub fn isa_line(&self, irq: u8) -> Line {
        self.line(irq.into(), Trigger::Edge, Polarity::ActiveHigh)
    }

    /// Where the system control interrupt `sci` of the FADT arrives: level-triggered and active low
    /// unless overridden (ACPI 6.5, 5.2.9, `SCI_INT`).
    pub fn sci_line(&self, sci: u16) -> Line {
        self.line(sci, Trigger::Level, Polarity::ActiveLow)
    }

    fn line(&self, irq: u16, trigger: Trigger, polarity: Polarity) -> Line {
        match self.overrides().find(|other| u16::from(other.source) == irq) {
            Some(other) => Line {
                gsi: other.gsi,
                trigger: other.trigger.unwrap_or(trigger),
                polarity: other.polarity.unwrap_or(polarity),
            },
            None => Line { gsi: irq.into(), trigger, polarity },
        }
    }
}

/// The CPU that a record describes (ACPI 6.5, 5.2.12.2, 5.2.12.12 and 5.2.12.14).
fn processor(record: &Record<'_>) -> Option<Processor> {
    let (hardware, uid, flags) = match record.kind {
        LOCAL_APIC => (record.field(3, 1)?, None, record.field(4, 4)?),
        LOCAL_X2APIC => (record.field(4, 4)?, None, record.field(8, 4)?),
        GIC_CPU => (record.field(68, 8)?, Some(record.field(8, 4)? as u32), record.field(12, 4)?),
        _ => return None,
    };
    Some(Processor { hardware, uid, enabled: flags & 1 != 0 })
}

/// The part of a GIC that a record describes (ACPI 6.5, 5.2.12.14 to 5.2.12.17).
fn gic(record: &Record<'_>) -> Option<Controller> {
    let address = |offset| Some(PhysAddr::new(record.field(offset, 8)?));
    match record.kind {
        GIC_CPU => {
            // Version 3 has no interface in memory.
            let at = address(32).filter(|at| at.get() != 0)?;
            Some(Controller::GicCpuInterface { at })
        }
        GIC_DISTRIBUTOR => {
            let version = record.field(20, 1)? as u8;
            Some(Controller::GicDistributor { at: address(8)?, version })
        }
        GIC_REDISTRIBUTORS => {
            let range = PhysRange::new(address(4)?, record.field(12, 4)?)?;
            Some(Controller::GicRedistributors { range })
        }
        _ => None,
    }
}
