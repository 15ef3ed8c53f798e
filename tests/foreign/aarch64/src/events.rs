//! Memory that firmware announces, or wants back: looked for again and again, without an interrupt.

use crate::machine::{hertz, ticks};
use crate::memory::{LIMIT, Machine};
use core::ptr::NonNull;
use hotmem::paging::{MappedBytes, pointer_to};
use hotmem::{Mm, PhysAddr, PhysRange, VirtAddr};
use hotmem_acpi::{AcpiSource, MappedHardware, StartError, Tables};
use hotmem_aml::Limits;
use hotmem_hotplug::{Hotplug, Latch, Line, OnStep, OutOfHeap, Policy};

/// The driver of hotplug events.
pub type Events = Hotplug<'static, AcpiSource<MappedHardware<fn(&Line)>>, Machine, ()>;

static LATCH: Latch = Latch::new();
/// Devices are below RAM, and UEFI maps them to themselves.
const RAM: u64 = 1 << 30;

fn registers(range: PhysRange) -> Option<NonNull<u8>> {
    (range.end().get() <= RAM).then(|| pointer_to(VirtAddr::new(range.start().get())))
}

/// The memory that firmware's tables lie in.
///
/// # Safety
///
/// All memory is mapped to itself, and nothing writes firmware's tables.
pub unsafe fn firmware() -> MappedBytes {
    let all = PhysRange::new(PhysAddr::new(0), LIMIT).unwrap_or_default();
    // SAFETY: by the contract.
    unsafe { MappedBytes::new(VirtAddr::new(0), all) }
}

/// Starts ACPI. Its byte code runs on UEFI's stack.
///
/// # Safety
///
/// The machine is QEMU's, and nothing else drives its ACPI.
pub unsafe fn init(
    tables: &Tables<'_, MappedBytes>,
    mm: &'static Mm<Machine>,
) -> Result<Events, StartError> {
    let polled: fn(&Line) = |_| ();
    // SAFETY: by the contract.
    let hardware = unsafe { MappedHardware::new(registers, (ticks, hertz()), polled) };
    let mut source = AcpiSource::new(tables, hardware, &LATCH, Limits::SMALL_STACK)?;
    source.arm()?;
    Hotplug::new(source, mm, (), Policy::default()).map_err(|OutOfHeap| StartError::OutOfHeap)
}

/// Looks what has happened, handles it, and notifies `out` of it.
pub fn run(events: &mut Events, out: &mut dyn OnStep) {
    (0..events.source().lines().len()).for_each(|line| LATCH.raise(line, 0));
    while events.run_one(out) {}
}
