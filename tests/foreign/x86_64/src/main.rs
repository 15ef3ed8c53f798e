//! A kernel in the style of tutorials: a heap, interrupts, and a loop that waits for them. With the feature `hotmem`
//! it also manages its memory, some of which comes and goes.
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
#[cfg(feature = "hotmem")]
mod check;
// glue: events {
#[cfg(feature = "hotmem")]
mod events;
// glue: }
#[cfg(not(feature = "hotmem"))]
mod heap;
mod interrupts;
// glue: memory {
#[cfg(feature = "hotmem")]
mod memory;
// glue: }
mod paging;
mod serial;

use boot::BootInfo;
use core::panic::PanicInfo;
use paging::BootFrames;
use x86_64::instructions::port::Port;

/// The interrupt line of the timer, which wakes the main loop.
const TIMER: u8 = 0;

/// Ends QEMU (isa-debug-exit) with exit code 2 x `code` + 1.
fn exit(code: u32) -> ! {
    // SAFETY: the port of the exit device.
    unsafe { Port::new(0xf4).write(code) };
    interrupts::stop()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("{info}");
    exit(0x7f)
}

/// Called by the boot code.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: u32) -> ! {
    serial::init();
    // SAFETY: the loader passed it, and the first GiB is mapped to itself.
    let boot = unsafe { BootInfo::read(start_info) };
    let mut frames = BootFrames::new(&boot);
    // SAFETY: the first call.
    let mut tables = unsafe { paging::init(&boot, &mut frames) };
    #[cfg(not(feature = "hotmem"))]
    {
        paging::map_heap(&mut tables, &mut frames, heap::START, heap::BYTES);
        // SAFETY: its memory is mapped now.
        unsafe { heap::init() };
    }
    interrupts::init();
    interrupts::handle(serial::LINE, serial::interrupt);
    interrupts::handle(TIMER, || {});
    println!("physical memory is mapped at {:?}, ACPI is at {:?}", tables.phys_offset(), boot.rsdp);
    #[cfg(not(feature = "hotmem"))]
    {
        println!("ready");
        loop {
            interrupts::sleep_unless(serial::was_typed);
            if serial::was_typed() {
                exit(0x10);
            }
        }
    }
    // glue: memory {
    #[cfg(feature = "hotmem")]
    {
        use hotmem::paging::MappedBytes;
        use hotmem::{PhysAddr, PhysRange, VirtAddr};

        let offset = VirtAddr::new(tables.phys_offset().as_u64());
        let all = PhysRange::new(PhysAddr::new(0), boot.end()).unwrap_or_default();
        // SAFETY: all memory up to the end of RAM is mapped there, and nothing writes firmware's tables.
        let firmware = unsafe { MappedBytes::new(offset, all) };
        let rsdp = PhysAddr::new(boot.rsdp.as_u64());
        let firmware = hotmem_acpi::Tables::new(&firmware, rsdp).expect("ACPI tables");
        let window = hotmem_acpi::Srat::window(&firmware);
        // SAFETY: the tables and the frames are not used any more.
        let mm = unsafe { memory::init(&boot, tables, frames.next(), window.as_slice()) };
        let mm = mm.expect("a memory manager");
        // glue: }
        // glue: events {
        // SAFETY: this kernel drives no ACPI otherwise.
        let mut events = unsafe { events::init(&firmware, mm) }.expect("ACPI");
        // glue: }
        let mut check = check::Check::new(mm);
        println!("ready");
        loop {
            // glue: events {
            events::run(&mut events);
            // glue: }
            check.after_events(&events);
        }
    }
}
