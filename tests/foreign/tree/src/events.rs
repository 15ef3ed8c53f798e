//! Memory whose size the host requests of virtio-mem devices: looked at again and again, without an interrupt.

use crate::boot::Pci;
use crate::machine::{hertz, ticks};
use crate::memory::Machine;
use core::ptr::NonNull;
use hotmem::{Mm, PhysAddr, PhysRange};
use hotmem_hotplug::{Hotplug, Latch, OnStep, OutOfHeap, Policy};
use hotmem_virtio_mem::VirtioMemSource;
use hotmem_virtio_mem::pci::{Ecam, MappedRegisters, PciTransport, start_polled};

/// The devices, with a clock that bounds waits for them.
type Source = VirtioMemSource<'static, Machine, PciTransport<MappedRegisters>, (fn() -> u64, u64)>;
/// The driver of hotplug events.
pub type Events = Hotplug<'static, Source, Machine, ()>;

static LATCH: Latch = Latch::new();
/// Where RAM begins: devices are below, and mapped to themselves.
const RAM: u64 = 1 << 30;

fn registers(range: PhysRange) -> Option<MappedRegisters> {
    let first = NonNull::new(range.start().get() as *mut u8)?;
    // SAFETY: the first tables map all devices below RAM, which are the kernel's.
    (range.end().get() <= RAM).then(|| unsafe { MappedRegisters::new(first, range.len() as usize) })
}

/// Starts the memory devices on `pci`.
pub fn init(pci: Pci, mm: &'static Mm<Machine>) -> Result<Events, OutOfHeap> {
    // SAFETY: the first tables map the configuration space, which is the kernel's.
    let space = Ecam::new(unsafe { MappedRegisters::new(pci.space, pci.space_bytes) });
    let (start, bytes) = pci.window;
    let window = PhysRange::new(PhysAddr::new(start), bytes).unwrap_or_default();
    let mut source = Source::new(mm, (ticks, hertz()), &LATCH);
    start_polled(&mut source, &space, &[window], registers);
    Hotplug::new(source, mm, (), Policy::default())
}

/// Looks what is requested, plugs or unplugs it, and notifies `out` of it.
pub fn run(events: &mut Events, out: &mut dyn OnStep) {
    while events.run_one(out) {}
}
