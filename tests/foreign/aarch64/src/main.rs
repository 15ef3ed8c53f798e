//! A kernel with memory hotplug that UEFI starts. It polls for events, with interrupts off.
#![no_std]
#![no_main]

#[cfg(feature = "hotmem")]
extern crate alloc;

#[cfg(feature = "hotmem")]
#[path = "../../x86_64/src/check.rs"]
mod check;
#[cfg(feature = "hotmem")]
mod events; // glue: events
mod machine;
#[cfg(feature = "hotmem")]
mod memory; // glue: memory
mod paging;
mod serial;

use core::mem;
use core::panic::PanicInfo;
use machine::exit;
use paging::{Early, PAGE, Ram};
use uefi::boot::MemoryType;
use uefi::mem::memory_map::MemoryMap;
use uefi::table::cfg::ConfigTableEntry;
use uefi::{Status, boot, entry, system};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("{info}");
    exit(0x7f)
}

/// Called by UEFI.
#[entry]
fn main() -> Status {
    let rsdp = system::with_config_table(|tables| {
        let acpi = tables.iter().find(|table| table.guid == ConfigTableEntry::ACPI2_GUID);
        acpi.map(|table| table.address as u64)
    });
    // SAFETY: nothing of UEFI is used from here on, but its tables for the lower addresses.
    let map = unsafe { boot::exit_boot_services(None) };
    machine::mask_interrupts();
    serial::init();
    let free = map.entries().filter(|entry| entry.ty == MemoryType::CONVENTIONAL);
    let mut ram = Ram::new(free.map(|entry| (entry.phys_start, entry.page_count * PAGE)));
    // UEFI could free it no more.
    mem::forget(map);
    let early = Early::new(&mut ram);
    // SAFETY: the first call; UEFI maps all memory to itself.
    let root = unsafe { paging::init(&ram, early) };

    println!("RAM is mapped by the tables at {root:#x}, ACPI is at {rsdp:#x?}");
    #[cfg(not(feature = "hotmem"))]
    {
        println!("ready");
        while !serial::typed() {}
        exit(0x10);
    }
    #[cfg(feature = "hotmem")]
    {
        // glue: memory {
        use hotmem::PhysAddr;
        use hotmem_acpi::{Srat, Tables};

        let rsdp = PhysAddr::new(rsdp.expect("ACPI tables"));
        // SAFETY: UEFI maps all memory to itself, and nothing writes firmware's tables.
        let firmware = unsafe { events::firmware() };
        let firmware = Tables::new(&firmware, rsdp).expect("ACPI tables");
        // SAFETY: the tables are those in use, and the memory is unused.
        let mm = unsafe { memory::init(&ram, root, Srat::window(&firmware).as_slice()) };
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
