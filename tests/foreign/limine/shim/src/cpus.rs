//! The other CPUs: found in ACPI's MADT, started by INIT and SIPI.

use crate::enter::Parked;
use crate::memory::{APIC, Memory};
use core::arch::global_asm;
use core::ptr::{read_unaligned, read_volatile, write_volatile};

/// CPUs at most.
const MOST: usize = 16;
/// Where their first code runs, and the words for it.
const START: u64 = 0x8000;
const WORDS: u64 = 0x8f00;

// A CPU comes in real mode, and goes to the code of `enter`. The words at 0x8f00: its registers there, then the tables of
// this program, and a pointer to segments.
global_asm!(
    r#"
    .text
    .balign 16
    .global cpu_start, cpu_end
    .code16
cpu_start:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    movl $0x20, %eax
    movl %eax, %cr4
    movl 0x8f30, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax
    wrmsr
    lgdtl 0x8f38
    movl $0x80010011, %eax
    movl %eax, %cr0
    ljmpl $0x08, $(0x8000 + (1f - cpu_start))
    .code64
1:  movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movq 0x8f00, %rdi
    movq 0x8f08, %rsi
    movq 0x8f10, %rdx
    movq 0x8f18, %rcx
    movq 0x8f20, %rax
    xorl %r8d, %r8d
    movl $1, 0x8f28
    jmpq *%rax
    .balign 8
cpu_segments:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
cpu_end:
"#,
    options(att_syntax)
);

unsafe extern "C" {
    static cpu_start: u8;
    static cpu_end: u8;
}

/// A CPU as the protocol describes it.
#[repr(C)]
pub struct Cpu {
    processor: u32,
    /// The number of its local APIC.
    pub apic: u32,
    reserved: u64,
    goto: u64,
    extra: u64,
}

/// CPUs: number of the processor, and of its local APIC.
pub struct Found {
    list: [(u32, u32); MOST],
    count: usize,
}

impl Found {
    /// All of them.
    pub fn as_slice(&self) -> &[(u32, u32)] {
        &self.list[..self.count]
    }
}

impl Cpu {
    /// All CPUs, that of `id` first.
    pub fn list(memory: &mut Memory, id: u32, found: &[(u32, u32)]) -> &'static [Self] {
        let at = memory.take((found.len() * size_of::<Self>()) as u64);
        // SAFETY: cleared memory that nothing else uses.
        let list = unsafe { core::slice::from_raw_parts_mut(at as *mut Self, found.len()) };
        for (cpu, &(processor, apic)) in list.iter_mut().zip(found) {
            (cpu.processor, cpu.apic) = (processor, apic);
        }
        list.sort_unstable_by_key(|cpu| cpu.apic != id);
        list
    }
}

/// Reads a value of firmware's tables.
fn read<T: Copy>(at: u64) -> T {
    // SAFETY: firmware's tables are in the first GiB, which is mapped to itself.
    unsafe { read_unaligned(at as *const T) }
}

/// The number of this CPU's local APIC, and all CPUs that are enabled.
pub fn find(rsdp: u64) -> (u32, Found) {
    let list = u64::from(read::<u32>(rsdp + 16));
    let length = |table: u64| u64::from(read::<u32>(table + 4));
    let tables = (list + 36..list + length(list)).step_by(4).map(|at| u64::from(read::<u32>(at)));
    let madt = { tables }.find(|&table| read::<[u8; 4]>(table) == *b"APIC").expect("CPUs");
    let mut found = Found { list: [(0, 0); MOST], count: 0 };
    let mut at = madt + 44;
    while at < madt + length(madt) {
        let [kind, bytes, processor, apic] = read::<[u8; 4]>(at);
        if kind == 0 && read::<u32>(at + 4) & 1 != 0 {
            found.list[found.count] = (processor.into(), apic.into());
            found.count += 1;
        }
        at += u64::from(bytes);
    }
    // SAFETY: a register that is mapped.
    (unsafe { read_volatile((APIC + 0x20) as *const u32) } >> 24, found)
}

/// Starts a CPU, which then waits for the kernel with `argument`, on `stack`.
pub fn start(cpu: &Cpu, root: u64, parked: &Parked, argument: u64, stack: u64) {
    let (begin, end) = (&raw const cpu_start, &raw const cpu_end);
    let bytes = end as usize - begin as usize;
    let segments = START + bytes as u64 - 24;
    let words =
        [argument, parked.root, parked.segments, stack, Parked::CODE, 0, root, 23 | segments << 16];
    // SAFETY: low memory that nothing uses, and the registers of the local APIC. Another CPU reads it later only.
    unsafe {
        begin.copy_to(START as *mut u8, bytes);
        for (at, &word) in (WORDS..).step_by(8).zip(&words) {
            write_volatile(at as *mut u64, word);
        }
        let command = |command: u32| {
            write_volatile((APIC + 0x310) as *mut u32, cpu.apic << 24);
            write_volatile((APIC + 0x300) as *mut u32, command);
        };
        // INIT, then SIPI with the page's number until the CPU runs.
        command(0x4500);
        for _ in 0..1000 {
            command(0x4600 | (START >> 12) as u32);
            for _ in 0..100_000 {
                if read_volatile((WORDS + 0x28) as *const u32) == 1 {
                    return;
                }
                core::hint::spin_loop();
            }
        }
    }
    panic!("CPU {} does not start", cpu.apic)
}
