//! The CPUs: their start by the loader, and interrupts from one to another.

use crate::boot::BootInfo;
use crate::paging::register;
use core::arch::global_asm;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicUsize, Ordering};
use limine::mp::Cpu;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::{interrupts, tables::sidt};
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::structures::idt::InterruptDescriptorTable;

/// CPUs at most.
pub const MOST: usize = 8;
/// The vector of interrupts from another CPU.
const VECTOR: u8 = 0xf0;
/// That of interrupts which the local APIC takes back.
const SPURIOUS: u32 = 0xff;

/// Registers of the local APIC.
const END: u64 = 0xb0;
const SPURIOUS_VECTOR: u64 = 0xf0;
const COMMAND: u64 = 0x300;
const TARGET: u64 = 0x310;

global_asm!(
    r#"
    .text
    .balign 16
    .global ipi_stub, spurious_stub
ipi_stub:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %rbp
    movq %rsp, %rbp
    andq $-16, %rsp
    cld
    call ipi
    movq %rbp, %rsp
    popq %rbp
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
spurious_stub:
    iretq
"#,
    options(att_syntax)
);

unsafe extern "C" {
    static ipi_stub: u8;
    static spurious_stub: u8;
}

static IDT: Once<InterruptDescriptorTable> = Once::new();
/// What each other CPU is to do now, and how many have begun and ended the last of it.
static JOB: Once<fn()> = Once::new();
static NUMBER: AtomicUsize = AtomicUsize::new(0);
static RUNNING: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);

#[unsafe(no_mangle)]
extern "C" fn ipi() {
    // glue: memory {
    #[cfg(feature = "hotmem")]
    crate::memory::serve();
    // glue: }
    // SAFETY: the interrupt is handled.
    unsafe { register(END).write_volatile(0) };
}

/// The CPU that runs this.
pub fn current() -> usize {
    (__cpuid(1).ebx >> 24) as usize
}

/// Interrupts `cpu`.
pub fn interrupt(cpu: usize) {
    interrupts::without_interrupts(|| {
        // SAFETY: the registers of the CPU that runs this; the vector has a handler.
        unsafe {
            while register(COMMAND).read_volatile() & 1 << 12 != 0 {}
            register(TARGET).write_volatile((cpu as u32) << 24);
            register(COMMAND).write_volatile(1 << 14 | u32::from(VECTOR));
        }
    });
}

/// Has all CPUs run; each other one calls `job` for each [`run`]. Returns how many.
pub fn start(boot: &BootInfo, job: fn()) -> usize {
    extern "C" fn begin(_cpu: &Cpu) -> ! {
        init_this();
        serve()
    }
    JOB.call_once(|| job);
    IDT.call_once(|| {
        // SAFETY: this CPU's table, which stays.
        let mut idt = unsafe { (*sidt().base.as_ptr::<InterruptDescriptorTable>()).clone() };
        let (stub, spurious) = (&raw const ipi_stub as u64, &raw const spurious_stub as u64);
        // SAFETY: the stubs save what they change.
        unsafe { idt[VECTOR].set_handler_addr(VirtAddr::new(stub)) };
        // SAFETY: as above.
        unsafe { idt[SPURIOUS as u8].set_handler_addr(VirtAddr::new(spurious)) };
        idt
    });
    init_this();
    let others = boot.others.iter().filter(|cpu| cpu.lapic_id as usize != current());
    let mut count = 1;
    for cpu in others {
        assert!((cpu.lapic_id as usize) < MOST, "CPUs are numbered from 0 on");
        cpu.goto_address.write(begin);
        count += 1;
    }
    while RUNNING.load(Ordering::Acquire) < count {
        core::hint::spin_loop();
    }
    count
}

/// Lets this CPU take interrupts from others.
fn init_this() {
    IDT.get().expect("set before").load();
    // SAFETY: no translation is global from now on; the interrupts have handlers.
    unsafe {
        Cr4::update(|flags| flags.remove(Cr4Flags::PAGE_GLOBAL));
        register(SPURIOUS_VECTOR).write_volatile(1 << 8 | SPURIOUS);
    }
    // glue: memory {
    #[cfg(feature = "hotmem")]
    crate::memory::join();
    // glue: }
    RUNNING.fetch_add(1, Ordering::Release);
}

/// Runs the job each time that there is one.
fn serve() -> ! {
    for number in 0.. {
        loop {
            interrupts::disable();
            if NUMBER.load(Ordering::Acquire) > number {
                break;
            }
            interrupts::enable_and_hlt();
        }
        interrupts::enable();
        JOB.get().expect("set before")();
        DONE.fetch_add(1, Ordering::Release);
    }
    unreachable!("numbers do not end")
}

/// Has the other CPUs run the job at the same time, and waits for them.
pub fn run(boot: &BootInfo) {
    let others =
        || boot.others.iter().map(|cpu| cpu.lapic_id as usize).filter(|&cpu| cpu != current());
    let all = DONE.load(Ordering::Relaxed) + others().count();
    NUMBER.fetch_add(1, Ordering::Release);
    others().for_each(interrupt);
    while DONE.load(Ordering::Acquire) < all {
        core::hint::spin_loop();
    }
}
