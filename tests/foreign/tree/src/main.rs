//! A kernel for a machine that a device tree describes, with memory that the host gives and takes. It polls for events, with
//! interrupts off.
#![no_std]
#![no_main]

#[cfg(feature = "hotmem")]
extern crate alloc;

mod boot;
#[cfg(feature = "hotmem")]
#[path = "../../x86_64/src/check.rs"]
mod check;
#[cfg(feature = "hotmem")]
mod events; // glue: events
#[path = "../../aarch64/src/machine.rs"]
mod machine;
#[cfg(feature = "hotmem")]
#[path = "../../aarch64/src/memory.rs"]
mod memory; // glue: memory
#[path = "../../aarch64/src/paging.rs"]
mod paging;
#[path = "../../aarch64/src/serial.rs"]
mod serial;

use core::panic::PanicInfo;
use machine::exit;
use paging::{Early, Ram};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("{info}");
    exit(0x7f)
}

/// Called by the boot code.
#[unsafe(no_mangle)]
extern "C" fn kernel_main() -> ! {
    machine::mask_interrupts();
    serial::init();
    // SAFETY: the board has started this kernel.
    let tree = unsafe { boot::tree() };
    let pci = boot::Pci::new(&tree).expect("PCI");
    let (space, bytes, window) = (pci.space, pci.space_bytes >> 20, pci.window);
    println!("the tree has PCI at {space:?}, {bytes} MiB, which forwards {window:#x?}");
    let mut ram = Ram::new(boot::ram(&tree));
    let early = Early::new(&mut ram);
    // SAFETY: the first call; the first tables map all memory to itself.
    let root = unsafe { paging::init(&ram, early) };
    println!("RAM is mapped at {:#x} by the tables at {root:#x}", paging::OFFSET);
    #[cfg(not(feature = "hotmem"))]
    {
        println!("ready");
        while !serial::typed() {}
        exit(0x10);
    }
    #[cfg(feature = "hotmem")]
    {
        // glue: memory {
        // SAFETY: the tables are those in use, and the memory is unused.
        let mm = unsafe { memory::init(&ram, root, &[]) }.expect("a memory manager");
        // glue: }
        // glue: events {
        let mut events = events::init(pci, mm).expect("memory for the driver");
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
