//! Exceptions, the interrupt controllers, and the handlers of their lines.

use core::arch::global_asm;
use core::sync::atomic::{AtomicUsize, Ordering};
use pic8259::ChainedPics;
use spin::{Mutex, Once};
use x86_64::VirtAddr;
use x86_64::instructions::interrupts::without_interrupts;
use x86_64::instructions::{hlt, interrupts};
use x86_64::structures::idt::InterruptDescriptorTable;

const FIRST: u8 = 32;
const LINES: usize = 16;

// SAFETY: these vectors are used for nothing else.
static PICS: Mutex<ChainedPics> = Mutex::new(unsafe { ChainedPics::new(FIRST, FIRST + 8) });
static IDT: Once<InterruptDescriptorTable> = Once::new();
static HANDLERS: [AtomicUsize; LINES] = [const { AtomicUsize::new(0) }; LINES];

// A stub of 16 bytes for each line, which saves what a function of C may change.
global_asm!(
    r#"
    .text
    .balign 16
    .global irq_stubs
irq_stubs:
    .set line, 0
    .rept 16
    .balign 16
    pushq %rdi
    movl $line, %edi
    jmp irq_common
    .set line, line + 1
    .endr
irq_common:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %rbp
    movq %rsp, %rbp
    andq $-16, %rsp
    cld
    call irq
    movq %rbp, %rsp
    popq %rbp
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    popq %rdi
    iretq
    .balign 16
    .global fault_stub
fault_stub:
    andq $-16, %rsp
    movq %cr2, %rdi
    call fault
"#,
    options(att_syntax)
);

unsafe extern "C" {
    static irq_stubs: u8;
    static fault_stub: u8;
}

#[unsafe(no_mangle)]
extern "C" fn irq(line: u8) {
    let handler = HANDLERS[line as usize].load(Ordering::Acquire);
    if handler != 0 {
        // SAFETY: `handle` stored a function.
        unsafe { core::mem::transmute::<usize, fn()>(handler)() };
    }
    // SAFETY: the line interrupted, and is handled.
    unsafe { PICS.lock().notify_end_of_interrupt(FIRST + line) };
}

#[unsafe(no_mangle)]
extern "C" fn fault(at: u64) -> ! {
    panic!("exception; the last fault was at {at:#x}");
}

/// Takes over exceptions and the controllers, with every line masked.
pub fn init() {
    let idt = IDT.call_once(|| {
        let mut idt = InterruptDescriptorTable::new();
        let (irqs, fault) = (&raw const irq_stubs as u64, &raw const fault_stub as u64);
        // SAFETY: the stubs save what they change, or do not return.
        unsafe {
            idt.page_fault.set_handler_addr(VirtAddr::new(fault));
            idt.general_protection_fault.set_handler_addr(VirtAddr::new(fault));
            idt.invalid_opcode.set_handler_addr(VirtAddr::new(fault));
            for line in 0..LINES {
                let stub = VirtAddr::new(irqs + 16 * line as u64);
                idt[FIRST + line as u8].set_handler_addr(stub);
            }
        }
        idt
    });
    idt.load();
    // SAFETY: the controllers of a PC.
    unsafe {
        let mut pics = PICS.lock();
        pics.initialize();
        pics.write_masks(0xff, 0xff);
    }
    interrupts::enable();
}

/// Calls `handler` for interrupts of `line`, and lets them come.
pub fn handle(line: u8, handler: fn()) {
    HANDLERS[line as usize % LINES].store(handler as usize, Ordering::Release);
    set_masked(line, false);
}

/// Keeps a line from interrupting, or lets it.
pub fn set_masked(line: u8, masked: bool) {
    without_interrupts(|| {
        let mut pics = PICS.lock();
        // SAFETY: only the mask of this line changes, and that of the line between the two controllers.
        unsafe {
            let [low, high] = pics.read_masks();
            let lines = u16::from_le_bytes([low, high]) & !(1 << 2);
            let lines = if masked { lines | 1 << line } else { lines & !(1 << line) };
            let [low, high] = lines.to_le_bytes();
            pics.write_masks(low, high);
        }
    });
}

/// Sleeps until an interrupt, unless there is work already.
pub fn sleep_unless(work: impl FnOnce() -> bool) {
    interrupts::disable();
    if work() {
        interrupts::enable();
    } else {
        interrupts::enable_and_hlt();
    }
}

/// Stops for ever.
pub fn stop() -> ! {
    loop {
        hlt();
    }
}
