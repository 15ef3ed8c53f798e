//! A kernel with memory hotplug: README.md says how to start it, and what is where.
#![no_std]
#![no_main]

mod boot;
mod events;
mod interrupts;
mod memory;
mod paging;
mod serial;

use boot::BootInfo;
use core::panic::PanicInfo;
use hotmem::{Mm, PhysAddr};
use hotmem_acpi::{Srat, Tables};
use hotmem_hotplug::{Each, Operation, Step};
use paging::BootFrames;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("{info}");
    interrupts::stop()
}

/// Called by the boot code.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: u32) -> ! {
    serial::init();
    // SAFETY: the loader passed it, and the first GiB is mapped to itself.
    let boot = unsafe { BootInfo::read(start_info) };
    let mut frames = BootFrames::new(&boot);
    // SAFETY: the first call.
    let tables = unsafe { paging::init(&boot, &mut frames) };
    interrupts::init();
    interrupts::handle(serial::LINE, serial::interrupt);

    // SAFETY: these are the tables in use, and this kernel leaves firmware's alone.
    let firmware = unsafe { memory::firmware(&boot, &tables) };
    let rsdp = PhysAddr::new(boot.rsdp.as_u64());
    let firmware = Tables::new(&firmware, rsdp).expect("ACPI tables");
    let window = Srat::window(&firmware);
    // SAFETY: the tables and the frames are not used any more.
    let mm = unsafe { memory::init(&boot, tables, frames.next, window.as_slice()) }
        .expect("a memory manager");
    // From here on there is a heap: `Box`, `Vec` and all that `alloc` has.
    // SAFETY: this kernel drives no ACPI otherwise.
    let mut events = unsafe { events::init(&firmware, mm) }.expect("ACPI");
    show(mm);
    println!("ready: plug memory, or press a key to see what there is");
    loop {
        events::run(&mut events, &mut Each(say));
        if serial::typed() {
            show(mm);
        }
    }
}

/// Says what became of memory.
fn say(step: &Step<'_>) {
    let Some(range) = step.range else { return };
    match (step.operation, step.error) {
        (Operation::Add { .. }, None) => println!("memory came: {range}"),
        (Operation::Add { .. }, Some(error)) => println!("memory was refused: {error}"),
        (Operation::Remove { .. }, None) => println!("memory went: {range}"),
        (Operation::Offline | Operation::Remove { .. }, Some(error)) => {
            println!("memory stays: {error}");
        }
        _ => {}
    }
}

/// Shows how much memory there is.
fn show(mm: &Mm<memory::Machine>) {
    let pages = mm.stats().pages;
    println!("memory: {} MiB, {} MiB free", pages.present >> 8, pages.free >> 8);
}
