//! A kernel of the Limine boot protocol: the loader chooses where physical memory is mapped, and starts all CPUs.
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
#[path = "../../x86_64/src/check.rs"]
mod check;
mod cpus;
#[path = "../../../../docs/template/src/events.rs"]
mod events;
#[path = "../../../../docs/template/src/interrupts.rs"]
mod interrupts;
mod memory;
mod paging;
#[path = "../../../../docs/template/src/serial.rs"]
mod serial;
mod work;

use boot::BootInfo;
use core::panic::PanicInfo;
use hotmem::PhysAddr;
use hotmem_acpi::{Srat, Tables};
use x86_64::instructions::port::Port;

/// The interrupt line of the timer, which wakes the main loop.
const TIMER: u8 = 0;

/// Ends QEMU (isa-debug-exit) with exit code 2 x `code` + 1.
fn exit(code: u32) -> ! {
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
    let tables = unsafe { paging::init(&boot, &mut frames) };
    interrupts::init();
    interrupts::handle(serial::LINE, serial::interrupt);
    interrupts::handle(TIMER, || {});
    println!("physical memory is mapped at {:?}, this kernel is at {:?}", boot.offset, boot.kernel);

    // glue: memory {
    // SAFETY: the first 4 GiB are mapped, and this kernel leaves firmware's tables alone.
    let firmware = unsafe { memory::firmware() };
    let rsdp = PhysAddr::new(boot.rsdp.as_u64());
    let firmware = Tables::new(&firmware, rsdp).expect("ACPI tables");
    // SAFETY: the tables are not used any more, and usable memory was not.
    let mm = unsafe { memory::init(&boot, tables, Srat::window(&firmware).as_slice()) };
    let mm = mm.expect("a memory manager");
    let count = cpus::start(&boot, memory::join, memory::serve, work::job);
    // glue: }
    println!("{count} CPUs run");
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
