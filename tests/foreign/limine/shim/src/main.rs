//! A program that QEMU starts by PVH, and that starts a kernel by the Limine protocol: base revision 3, x86_64, and of the
//! requests those for the offset of physical memory, the memory map, ACPI, the kernel's address, stacks and CPUs.
//!
//! Its command line says where the kernel's ELF lies, and what the offset is derived from:
//! `initrdmem=0xADDRESS,0xBYTES hhdm=NUMBER`.
#![no_std]
#![no_main]

#[expect(dead_code, reason = "a kernel needs more of it")]
#[path = "../../../../../docs/template/src/boot.rs"]
mod boot;
mod command;
mod cpus;
mod elf;
mod enter;
mod memory;
mod requests;
#[expect(dead_code, reason = "nothing is typed")]
#[path = "../../../../../docs/template/src/serial.rs"]
mod serial;

use boot::BootInfo;
use command::Command;
use core::panic::PanicInfo;
use cpus::Cpu;
use memory::Memory;
use requests::Facts;
use x86_64::instructions::{hlt, port::Port};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("the loader: {info}");
    // SAFETY: the port of QEMU's exit device.
    unsafe { Port::new(0xf4_u16).write(0x7f_u32) };
    loop {
        hlt();
    }
}

/// Called by the boot code.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: u32) -> ! {
    serial::init();
    // SAFETY: QEMU passed it, and the first GiB is mapped to itself.
    let (boot, command) = unsafe { (BootInfo::read(start_info), Command::read(start_info)) };
    let offset = command.offset();
    // SAFETY: the first call.
    let mut memory = unsafe { Memory::new(&boot, offset) };
    memory.map_all(&boot);
    let kernel = elf::load(command.file(), &mut memory);
    let stack = requests::stack_size(kernel.words());
    let (id, others) = cpus::find(boot.rsdp.as_u64());
    let cpus = Cpu::list(&mut memory, id, others.as_slice());
    let parked = enter::Parked::new(&mut memory);
    for cpu in cpus.iter().filter(|cpu| cpu.apic != id) {
        let stack = memory.stack(stack);
        cpus::start(cpu, memory.root(), &parked, memory.high(cpu), stack);
    }
    let stack = memory.stack(stack);
    requests::respond(&kernel, Facts { boot: &boot, id, cpus, file: command.file() }, &mut memory);
    parked.enter(kernel.entry, stack)
}
