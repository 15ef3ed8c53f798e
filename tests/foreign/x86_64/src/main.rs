//! A kernel in the style of tutorials: a heap, interrupts, and a loop that waits for them. With the feature `hotmem`
//! it also manages its memory, some of which comes and goes.
#![no_std]
#![no_main]

extern crate alloc;

#[cfg_attr(not(feature = "bootloader"), path = "../../../../docs/template/src/boot.rs")]
#[cfg_attr(feature = "bootloader", path = "loaded.rs")]
mod boot;
#[cfg(feature = "hotmem")]
mod check;
#[cfg(feature = "hotmem")]
#[path = "../../../../docs/template/src/events.rs"]
mod events; // glue: events
#[cfg(not(feature = "hotmem"))]
mod heap;
#[path = "../../../../docs/template/src/interrupts.rs"]
mod interrupts;
#[cfg(all(feature = "hotmem", not(feature = "recursive")))]
#[path = "../../../../docs/template/src/memory.rs"]
mod memory; // glue: memory
#[cfg(feature = "recursive")]
#[path = "recursive.rs"]
mod memory;
#[path = "../../../../docs/template/src/paging.rs"]
mod paging;
#[path = "../../../../docs/template/src/serial.rs"]
mod serial;
#[cfg(not(feature = "bootloader"))]
mod stack;

use boot::BootInfo;
use core::panic::PanicInfo;
use paging::BootFrames;
use x86_64::instructions::port::Port;

/// The interrupt line of the timer, which wakes the main loop.
const TIMER: u8 = 0;

/// Ends QEMU (isa-debug-exit) with exit code 2 x `code` + 1.
fn exit(code: u32) -> ! {
    #[cfg(not(feature = "bootloader"))]
    println!("stack: {} of {} bytes used", stack::used(), stack::bytes());
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
#[cfg(not(feature = "bootloader"))]
#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: u32) -> ! {
    // SAFETY: the loader passed it, and the first GiB is mapped to itself.
    run(&unsafe { BootInfo::read(start_info) })
}

#[cfg(feature = "bootloader")]
bootloader::entry_point!(kernel_main);

/// Called by the loader.
#[cfg(feature = "bootloader")]
fn kernel_main(info: &'static bootloader::BootInfo) -> ! {
    run(&BootInfo::new(info))
}

fn run(boot: &BootInfo) -> ! {
    serial::init();
    let mut frames = BootFrames::new(boot);
    // SAFETY: the first call, with the first tables, which map all RAM that the boot code knows.
    #[cfg_attr(all(feature = "hotmem", not(feature = "bootloader")), expect(unused_mut))]
    let mut tables = unsafe { paging::init(boot, &mut frames) };
    #[cfg(feature = "bootloader")]
    {
        use x86_64::structures::paging::Translate;

        boot.unmap(&mut tables);
        let left = tables.translate_addr(boot.offset);
        println!("the loader mapped physical memory at {:?}, now {left:?} is there", boot.offset);
    }
    #[cfg(not(feature = "hotmem"))]
    heap::init(&mut tables, &mut frames);
    interrupts::init();
    interrupts::handle(serial::LINE, serial::interrupt);
    interrupts::handle(TIMER, || {});
    println!("physical memory is mapped at {:?}, ACPI is at {:?}", tables.phys_offset(), boot.rsdp);
    #[cfg(not(feature = "hotmem"))]
    {
        println!("ready");
        let mut typed = false;
        while !typed {
            interrupts::sleep_unless(|| {
                typed = serial::typed();
                typed
            });
        }
        exit(0x10);
    }
    #[cfg(feature = "hotmem")]
    {
        // glue: memory {
        use hotmem::PhysAddr;
        use hotmem_acpi::{Srat, Tables};

        // SAFETY: these are the tables in use, and this kernel leaves firmware's alone.
        let firmware = unsafe { memory::firmware(boot, &tables) };
        let rsdp = PhysAddr::new(boot.rsdp.as_u64());
        let firmware = Tables::new(&firmware, rsdp).expect("ACPI tables");
        let window = Srat::window(&firmware);
        // SAFETY: the tables and the frames are not used any more.
        let mm = unsafe { memory::init(boot, tables, frames.next, window.as_slice()) };
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
            events::run(&mut events, &mut serial::Serial);
            // glue: }
            check.after_events(&events);
        }
    }
}
