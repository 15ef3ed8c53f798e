//! Memory devices on the PCI bus: found, started, and a source of events beside firmware's.

// UNSAFETY: maps the registers of devices.
#![expect(unsafe_code)]

use crate::interrupts::{self, MEMORY_DEVICES, Target};
use crate::memory::{KernelMachine, Window};
use alloc::boxed::Box;
use alloc::vec::Vec;
use hotmem::{Geometry, Mm, Pfn, PhysRange};
use hotmem_arch::current::{cpu, io};
use hotmem_arch::io::{PciFunction, Place};
use hotmem_hotplug::{Line, Trigger};
use hotmem_virtio_mem::pci::{
    ConfigSpace, Function, Message, PciTransport, Registers, find, line_of,
};
use hotmem_virtio_mem::{Board, VirtioMemSource};

/// The memory of virtio-mem devices; `None` if the machine has none.
pub(crate) type MemoryDevices =
    Option<Box<VirtioMemSource<'static, KernelMachine, PciTransport<Window>, KernelBoard>>>;

/// The configuration space of PCI, as the architecture accesses it.
struct Space;

fn place(function: Function, offset: u8) -> Place {
    let Function { bus, device, function } = function;
    Place::Pci(PciFunction { segment: 0, bus, device, function }, offset.into())
}

impl ConfigSpace for Space {
    fn read(&self, function: Function, offset: u8) -> u32 {
        io::read(place(function, offset), 4).map_or(u32::MAX, |word| word as u32)
    }

    fn write(&self, function: Function, offset: u8, value: u32) {
        // A function that was read can be written.
        let _ = io::write(place(function, offset), 4, value.into());
    }
}

impl Registers for Window {
    fn read8(&self, offset: usize) -> u8 {
        self.load(offset).unwrap_or(u8::MAX)
    }

    fn read16(&self, offset: usize) -> u16 {
        self.load(offset).unwrap_or(u16::MAX)
    }

    fn read32(&self, offset: usize) -> u32 {
        self.load(offset).unwrap_or(u32::MAX)
    }

    fn write8(&self, offset: usize, value: u8) {
        let _ = self.store(offset, value);
    }

    fn write16(&self, offset: usize, value: u16) {
        let _ = self.store(offset, value);
    }

    fn write32(&self, offset: usize, value: u32) {
        let _ = self.store(offset, value);
    }
}

/// The clock that bounds waits for devices, and their interrupt lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct KernelBoard {
    lines: Vec<Line>,
}

impl Board for KernelBoard {
    fn ticks(&self) -> u64 {
        cpu::timestamp()
    }

    fn per_second(&self) -> u64 {
        cpu::timestamp_hertz()
    }

    fn unmask(&self) {
        self.lines.iter().for_each(|&line| interrupts::unmask(line));
    }
}

/// Finds the devices, and starts each: what fails is logged, and the rest continues. `isa` returns the line of an ISA
/// interrupt.
pub(crate) fn memory_devices(
    mm: &'static Mm<KernelMachine>,
    isa: impl Fn(u8) -> Option<Line>,
) -> MemoryDevices {
    let found = find(&Space);
    if found.more != 0 {
        log::error!("virtio-mem: {} more devices are not used", found.more);
    }
    let mut functions = found.functions().peekable();
    functions.peek()?;
    let message = interrupts::message(Target::Memory);
    let message = message.map(|message| Message { address: message.address, data: message.data });
    let (mut transports, mut lines) = (Vec::new(), Vec::new());
    for function in functions {
        let transport = PciTransport::new(&Space, function, message, |range| registers(range, mm));
        match transport {
            Ok(mut transport) => {
                if transport.uses_line() && !connect(function, &isa, &mut lines) {
                    transport.give_up_line(&Space, function);
                }
                transports.push((function, transport));
            }
            Err(error) => log::error!("virtio-mem at {function}: {error}"),
        }
    }
    let mut source = VirtioMemSource::new(mm, KernelBoard { lines }, &MEMORY_DEVICES);
    for (function, transport) in transports {
        match source.start(transport) {
            Ok(true) => {}
            Ok(false) => {
                log::warn!("virtio-mem at {function}: no interrupt: it cannot wake the kernel")
            }
            Err(error) => log::error!("virtio-mem at {function}: {error}"),
        }
    }
    (source.device_count() != 0).then(|| Box::new(source))
}

/// Connects the interrupt line of a function, unless it is connected already. Returns whether it is.
fn connect(function: Function, isa: impl Fn(u8) -> Option<Line>, lines: &mut Vec<Line>) -> bool {
    let Some(line) = line_of(&Space, function).and_then(isa) else { return false };
    // A PCI line is active as long as one of its devices does not release it.
    let line = Line { trigger: Trigger::Level, ..line };
    if lines.contains(&line) {
        return true;
    }
    if interrupts::is_connected(line) {
        log::error!("virtio-mem at {function}: {line} is in use");
        return false;
    }
    match interrupts::connect(line, Target::Memory) {
        Ok(()) => {
            lines.push(line);
            true
        }
        Err(error) => {
            log::error!("virtio-mem at {function}: {error}");
            false
        }
    }
}

/// Maps registers of a device, unless the range is memory of the kernel.
fn registers(range: PhysRange, mm: &Mm<KernelMachine>) -> Option<Window> {
    let last = range.start().checked_add(range.len().checked_sub(1)?)?;
    let [first, last] = [range.start(), last].map(KernelMachine::pfn);
    if (first.get()..=last.get()).any(|page| mm.is_ram(Pfn::new(page))) {
        return None;
    }
    // SAFETY: the range is inside of a base address register of the device, and no RAM of the kernel; what is done to it is
    // what the standard says these registers are for.
    unsafe { Window::map(range, mm.machine().tables()) }.ok()
}
