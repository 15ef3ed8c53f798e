//! A kernel of the Limine boot protocol: the loader chooses where physical memory is mapped, and starts all CPUs.
#![no_std]
#![no_main]

#[cfg(feature = "hotmem")]
extern crate alloc;

mod boot;
#[cfg(feature = "hotmem")]
#[path = "../../x86_64/src/check.rs"]
mod check;
mod cpus;
#[cfg(feature = "hotmem")]
#[path = "../../../../docs/template/src/events.rs"]
mod events; // glue: events
#[path = "../../../../docs/template/src/interrupts.rs"]
mod interrupts;
#[cfg(feature = "hotmem")]
mod memory; // glue: memory
mod paging;
#[path = "../../../../docs/template/src/serial.rs"]
mod serial;
#[cfg(feature = "hotmem")]
mod work;

use boot::BootInfo;
use core::panic::PanicInfo;
use x86_64::instructions::port::Port;

/// The interrupt line of the timer, which wakes the main loop.
const TIMER: u8 = 0;

/// Ends QEMU (isa-debug-exit) with exit code 2 x `code` + 1.
fn exit(code: u32) -> ! {
    #[cfg(feature = "hotmem")]
    println!("flushes that each CPU served for another: {:?}", memory::SERVED);
    // SAFETY: the port of the exit device.
    unsafe { Port::new(0xf4).write(code) };
    interrupts::stop()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("{info}");
    exit(0x7f)
}

/// Called by the loader.
#[unsafe(no_mangle)]
extern "C" fn kernel_main() -> ! {
    serial::init();
    let mut boot = BootInfo::read();
    let mut frames = boot.early_frames();
    // SAFETY: the first call.
    #[cfg_attr(not(feature = "hotmem"), expect(unused_variables))]
    let tables = unsafe { paging::init(&boot, &mut frames) };
    interrupts::init();
    interrupts::handle(serial::LINE, serial::interrupt);
    interrupts::handle(TIMER, || {});
    if let Some(loader) = boot.loader {
        println!("started by {} {}", loader.name(), loader.version());
    }
    println!("physical memory is mapped at {:?}, this kernel is at {:?}", boot.offset, boot.kernel);
    #[cfg(not(feature = "hotmem"))]
    {
        println!("{} CPUs run", cpus::start(&boot, || {}));
        println!("ready");
        let mut typed = false;
        while !typed {
            cpus::run(&boot);
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

        // SAFETY: the first 4 GiB are mapped, and this kernel leaves firmware's tables alone.
        let firmware = unsafe { memory::firmware() };
        let rsdp = PhysAddr::new(boot.rsdp.as_u64());
        let firmware = Tables::new(&firmware, rsdp).expect("ACPI tables");
        // SAFETY: the tables are not used any more, and usable memory was not.
        let mm = unsafe { memory::init(&boot, tables, Srat::window(&firmware).as_slice()) };
        let mm = mm.expect("a memory manager");
        // glue: }
        println!("{} CPUs run", cpus::start(&boot, work::job));
        // glue: events {
        // SAFETY: this kernel drives no ACPI otherwise.
        let mut events = unsafe { events::init(&firmware, mm) }.expect("ACPI");
        // glue: }
        let mut check = check::Check::new(mm);
        let mut work = work::Work::new(mm);
        println!("ready");
        loop {
            // glue: events {
            events::run(&mut events, &mut serial::Serial);
            // glue: }
            work.after_events(&boot, &events);
            check.after_events(&events);
        }
    }
}
