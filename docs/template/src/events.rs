//! Memory that firmware announces, or wants back.

use crate::interrupts;
use crate::memory::Machine;
use hotmem::Mm;
use hotmem::paging::MappedBytes;
use hotmem_acpi::{AcpiSource, PcHardware, StartError, Tables};
use hotmem_aml::Limits;
use hotmem_hotplug::{Hotplug, Latch, Line, OnStep, OutOfHeap, Policy};

/// The driver of hotplug events.
pub type Events = Hotplug<'static, AcpiSource<PcHardware<fn(&Line)>>, Machine, ()>;

static LATCH: Latch = Latch::new();

/// The handler of the line: masked until the main loop has handled its events.
fn interrupt() {
    interrupts::set_masked(SCI, true);
    LATCH.raise(0, 0);
}

/// The line of ACPI events on a PC.
const SCI: u8 = 9;

/// Starts ACPI.
///
/// # Safety
///
/// The machine is a PC, and nothing else drives its ACPI.
pub unsafe fn init(
    tables: &Tables<'_, MappedBytes>,
    mm: &'static Mm<Machine>,
) -> Result<Events, StartError> {
    let unmask: fn(&Line) = |line| interrupts::set_masked(line.gsi as u8, false);
    // SAFETY: by the contract.
    let hardware = unsafe { PcHardware::new(tables, unmask) };
    let mut source = AcpiSource::new(tables, hardware, &LATCH, Limits::default())?;
    interrupts::handle(SCI, interrupt);
    source.arm()?;
    Hotplug::new(source, mm, (), Policy::default()).map_err(|OutOfHeap| StartError::OutOfHeap)
}

/// Handles what has happened, notifies `out` of it, and sleeps until more does.
pub fn run(events: &mut Events, out: &mut dyn OnStep) {
    while events.run_one(out) {}
    interrupts::sleep_unless(|| events.has_work());
}
