//! The registers that the entry code saves at a trap.

use super::{cpu, machine_check};
use crate::contract::{self, TrapFrame as _};
use ::x86_64::registers::control::Cr2;
use core::fmt;
use hotmem_paging::addr::{PhysAddr, VirtAddr};

/// Vectors below this are exceptions of the CPU.
pub const EXCEPTIONS: usize = 32;
/// Vectors with an entry: exceptions, then interrupts of devices.
pub const VECTORS: usize = 48;
/// First vector for devices.
pub const FIRST_DEVICE: u8 = 32;
/// The vector of calls between CPUs.
pub const CALL: u8 = 0xf0;
/// The vector of the timer of a local APIC.
pub const TIMER: u8 = 0xef;
/// The vector that a local APIC raises when an interrupt went away before the CPU took it.
pub const SPURIOUS: u8 = 0xff;

/// Non-maskable interrupt.
pub const NMI: u8 = 2;
/// Double fault.
pub const DOUBLE_FAULT: u8 = 8;
/// General protection fault.
pub const GENERAL_PROTECTION: u8 = 13;
/// Machine check.
pub const MACHINE_CHECK: u8 = 18;
/// Page fault.
pub const PAGE_FAULT: u8 = 14;

/// The registers of the interrupted code, as the entry code saved them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the registers they are named after")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl TrapFrame {
    /// The vector.
    pub fn vector(&self) -> u8 {
        self.vector as u8
    }

    /// The name of the exception (Intel SDM vol. 3A, table 7-1).
    fn name(&self) -> &'static str {
        match self.vector {
            0 => "divide error",
            1 => "debug exception",
            2 => "non-maskable interrupt",
            3 => "breakpoint",
            4 => "overflow",
            5 => "bound range exceeded",
            6 => "invalid opcode",
            7 => "device not available",
            8 => "double fault",
            10 => "invalid TSS",
            11 => "segment not present",
            12 => "stack-segment fault",
            13 => "general protection fault",
            14 => "page fault",
            16 => "floating-point error",
            17 => "alignment check",
            18 => "machine check",
            19 => "SIMD floating-point exception",
            20 => "virtualization exception",
            21 => "control protection exception",
            29 => "VMM communication exception",
            30 => "security exception",
            _ => "unknown exception",
        }
    }
}

impl contract::TrapFrame for TrapFrame {
    fn is_exception(&self) -> bool {
        (self.vector as usize) < EXCEPTIONS
    }

    fn instruction(&self) -> u64 {
        self.rip
    }

    fn frame_pointer(&self) -> u64 {
        self.rbp
    }

    fn fault_address(&self) -> Option<VirtAddr> {
        // CR2 keeps the address until the next page fault, and handling a page fault causes none.
        (self.vector() == PAGE_FAULT).then(|| VirtAddr::new(Cr2::read_raw()))
    }

    fn takes_nmi(&mut self) -> bool {
        let is_nmi = self.vector() == NMI;
        if is_nmi {
            self.rip = cpu::wake(self.rip);
        }
        is_nmi
    }

    fn takes_bad_memory(&mut self, report: &mut dyn FnMut(PhysAddr) -> bool) -> bool {
        let goes_on = self.vector() == MACHINE_CHECK && machine_check::take(report);
        if goes_on {
            self.rip = cpu::wake(self.rip);
        }
        goes_on
    }
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (vector {}, error {:#x}) at {:#x}",
            self.name(),
            self.vector,
            self.error,
            self.rip
        )?;
        if let Some(address) = self.fault_address() {
            write!(f, " accessing {address}")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "  rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}",
            self.rax, self.rbx, self.rcx, self.rdx
        )?;
        writeln!(
            f,
            "  rsi {:016x} rdi {:016x} rbp {:016x} rsp {:016x}",
            self.rsi, self.rdi, self.rbp, self.rsp
        )?;
        writeln!(
            f,
            "  r8  {:016x} r9  {:016x} r10 {:016x} r11 {:016x}",
            self.r8, self.r9, self.r10, self.r11
        )?;
        writeln!(
            f,
            "  r12 {:016x} r13 {:016x} r14 {:016x} r15 {:016x}",
            self.r12, self.r13, self.r14, self.r15
        )?;
        write!(f, "  cs {:04x} ss {:04x} rflags {:08x}", self.cs, self.ss, self.rflags)
    }
}
