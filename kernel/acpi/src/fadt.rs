//! The FADT: fixed hardware, and where the DSDT is (ACPI 6.5, 5.2.9).
//!
//! It grew from 116 bytes (revision 1) to 276 (revision 6). Which fields are there is decided by the
//! length, not by the revision. Registers are given twice: as a 32-bit I/O port, and since
//! revision 3 as a generic address, which counts if it is not null.

use hotmem::addr::PhysAddr;
use hotmem_aml::Space;

use super::error::{Signature, TableError};
use super::hardware::Block;
use super::root::Tables;
use super::table::Table;
use super::timer::PmTimer;
use hotmem::paging::ReadPhys;

const FADT: Signature = Signature(*b"FACP");
/// The length of revision 1.
const LEAST: usize = 116;
/// Bytes of a generic address structure (ACPI 6.5, 5.2.3.2).
const GENERIC_ADDRESS: usize = 12;
/// `PWR_BUTTON` in the flags: the power button is a device of the namespace, or the machine has none.
const BUTTON_DEVICE: u64 = 1 << 4;
/// `TMR_VAL_EXT` in the flags: the timer has 32 bits.
const WIDE_TIMER: u64 = 1 << 8;
/// `HW_REDUCED_ACPI` in the flags.
const HW_REDUCED: u64 = 1 << 20;

/// The Arm boot flags: PSCI is there; it is called by HVC, not SMC (ACPI 6.5, table 5.11).
const ARM_BOOT: usize = 129;
const PSCI: u64 = 1 << 0;
const PSCI_BY_HVC: u64 = 1 << 1;

/// How firmware turns the machine off, where it does that for a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerOff {
    /// Not at all.
    No,
    /// PSCI, called by HVC (Arm).
    PsciHvc,
    /// PSCI, called by SMC (Arm).
    PsciSmc,
}

/// How to take the machine from legacy to ACPI mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enable {
    /// The port to write to.
    pub port: u64,
    /// What to write there.
    pub value: u8,
}

/// What the kernel needs of the FADT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fadt {
    /// Where the DSDT is.
    pub dsdt: PhysAddr,
    /// Where the FACS is, if there is one.
    pub facs: Option<PhysAddr>,
    /// How firmware turns the machine off, on Arm.
    pub power_off: PowerOff,
    /// Whether the machine has no fixed hardware at all; then the fields below are `None`.
    pub hardware_reduced: bool,
    /// The system control interrupt, as an ISA interrupt.
    pub sci: Option<u16>,
    /// How to enable ACPI mode; `None` if it always is.
    pub enable: Option<Enable>,
    /// Whether the fixed event registers have a power button.
    pub power_button: bool,
    /// The fixed event registers, status then enable.
    pub pm1_event: [Option<Block>; 2],
    /// The fixed control registers.
    pub pm1_control: [Option<Block>; 2],
    /// The timer.
    pub pm_timer: Option<PmTimer>,
    /// The general-purpose event registers, status then enable.
    pub gpe: [Option<Block>; 2],
    /// The number of the first event of the second GPE block.
    pub gpe1_base: u8,
}

/// Where the fields that name one block are.
struct Fields {
    port: usize,
    len: usize,
    generic: usize,
    /// The length must be a multiple of this; halves of a block are status and enable.
    unit: u8,
}

const PM1A_EVENT: Fields = Fields { port: 56, len: 88, generic: 148, unit: 4 };
const PM1B_EVENT: Fields = Fields { port: 60, len: 88, generic: 160, unit: 4 };
const PM1A_CONTROL: Fields = Fields { port: 64, len: 89, generic: 172, unit: 2 };
const PM1B_CONTROL: Fields = Fields { port: 68, len: 89, generic: 184, unit: 2 };
const PM_TIMER: Fields = Fields { port: 76, len: 91, generic: 208, unit: 4 };
const GPE0: Fields = Fields { port: 80, len: 92, generic: 220, unit: 2 };
const GPE1: Fields = Fields { port: 84, len: 93, generic: 232, unit: 2 };

impl Fadt {
    /// Reads the FADT.
    ///
    /// # Errors
    ///
    /// [`TableError`] if it is missing or broken. Registers that cannot exist are left out.
    pub fn find<P: ReadPhys>(tables: &Tables<'_, P>) -> Result<Self, TableError> {
        tables.find(FADT, LEAST, Self::read)?.ok_or(TableError::Missing(FADT))
    }

    fn read(table: Table<'_>) -> Result<Self, TableError> {
        let hardware_reduced = number(&table, 112, 4) & HW_REDUCED != 0;
        let address = |narrow, wide| match number(&table, wide, 8) {
            0 => number(&table, narrow, 4),
            address => address,
        };
        let (dsdt, facs) = (address(40, 140), address(36, 132));
        let fadt = Self {
            dsdt: PhysAddr::new(dsdt),
            facs: (facs != 0).then_some(PhysAddr::new(facs)),
            power_off: power_off(number(&table, ARM_BOOT, 2)),
            hardware_reduced,
            sci: None,
            enable: None,
            power_button: false,
            pm1_event: [None; 2],
            pm1_control: [None; 2],
            pm_timer: None,
            gpe: [None; 2],
            gpe1_base: 0,
        };
        Ok(if hardware_reduced { fadt } else { fadt.with_fixed_hardware(&table) })
    }

    fn with_fixed_hardware(self, table: &Table<'_>) -> Self {
        let block = |fields| usable(block(table, fields));
        let fadt = Self {
            sci: Some(number(table, 46, 2) as u16),
            enable: usable(command(table)),
            power_button: number(table, 112, 4) & BUTTON_DEVICE == 0,
            pm1_event: [block(&PM1A_EVENT), block(&PM1B_EVENT)],
            pm1_control: [block(&PM1A_CONTROL), block(&PM1B_CONTROL)],
            pm_timer: block(&PM_TIMER)
                .and_then(|block| PmTimer::new(block, number(table, 112, 4) & WIDE_TIMER != 0)),
            gpe: [block(&GPE0), block(&GPE1)],
            gpe1_base: number(table, 94, 1) as u8,
            ..self
        };
        fadt.with_numbered_events(table)
    }

    /// Leaves out a block of events that have no numbers of their own: events are numbered 0..=255, since
    /// methods have two hexadecimal digits for them, and the second block begins behind the first.
    fn with_numbered_events(mut self, table: &Table<'_>) -> Self {
        let events = |block: Option<Block>| block.map_or(0, |block| u32::from(block.len) * 4);
        let first = events(self.gpe[0]);
        if first > 256 {
            self.gpe[0] = usable(Err(table.bad(GPE0.len, first.into())));
        }
        let (first, second) = (events(self.gpe[0]), events(self.gpe[1]));
        let base = u32::from(self.gpe1_base);
        if second != 0 && (base + second > 256 || base < first) {
            self.gpe[1] = usable(Err(table.bad(94, base.into())));
        }
        self
    }
}

/// The registers, unless they cannot exist: the machine is then used without them.
fn usable<T>(registers: Result<Option<T>, TableError>) -> Option<T> {
    registers.unwrap_or_else(|error| {
        log::warn!("acpi: {error}; these registers are left out");
        None
    })
}

/// How to enable ACPI mode; `None` if the machine has no other.
fn command(table: &Table<'_>) -> Result<Option<Enable>, TableError> {
    let (port, value) = (number(table, 48, 4), number(table, 52, 1) as u8);
    if port > 0xFFFF {
        return Err(table.bad(48, port));
    }
    Ok((port != 0 && value != 0).then_some(Enable { port, value }))
}

/// What the Arm boot flags say; on any other machine they are 0.
fn power_off(flags: u64) -> PowerOff {
    match (flags & PSCI, flags & PSCI_BY_HVC) {
        (0, _) => PowerOff::No,
        (_, 0) => PowerOff::PsciSmc,
        (_, _) => PowerOff::PsciHvc,
    }
}

/// A field, or 0 if the table is too short to have it.
fn number(table: &Table<'_>, offset: usize, size: usize) -> u64 {
    table.field(offset, size).unwrap_or(0)
}

/// Decodes one block; `None` if the machine has none.
fn block(table: &Table<'_>, fields: &Fields) -> Result<Option<Block>, TableError> {
    let len = number(table, fields.len, 1) as u8;
    let generic = match table.field(fields.generic, GENERIC_ADDRESS - 4) {
        Some(_) => number(table, fields.generic + 4, 8),
        None => 0,
    };
    let (at, address) = match generic {
        0 => (fields.port, number(table, fields.port, 4)),
        wide => (fields.generic + 4, wide),
    };
    if address == 0 || len == 0 {
        return Ok(None);
    }

    let space = match (generic, number(table, fields.generic, 1)) {
        (0, _) | (_, 1) => Space::SystemIo,
        (_, 0) => Space::SystemMemory,
        (_, other) => return Err(table.bad(fields.generic, other)),
    };
    if !len.is_multiple_of(fields.unit) {
        return Err(table.bad(fields.len, len.into()));
    }
    let last = address.checked_add(u64::from(len) - 1);
    let limit = if space == Space::SystemIo { 0xFFFF } else { u64::MAX };
    match last {
        Some(last) if last <= limit => Ok(Some(Block { space, address, len })),
        _ => Err(table.bad(at, address)),
    }
}
