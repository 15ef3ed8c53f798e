//! The switch into a guest and back.

// UNSAFETY: the instructions of SVM, and those that save floating-point registers.
#![expect(unsafe_code)]

use super::vmcb::Vmcb;
use core::arch::{asm, naked_asm};
use core::fmt;
use core::mem::offset_of;

/// The registers of a guest that the control block does not hold.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Registers {
    pub(super) rbx: u64,
    pub(super) rcx: u64,
    pub(super) rdx: u64,
    pub(super) rsi: u64,
    pub(super) rdi: u64,
    pub(super) rbp: u64,
    pub(super) r8: u64,
    pub(super) r9: u64,
    pub(super) r10: u64,
    pub(super) r11: u64,
    pub(super) r12: u64,
    pub(super) r13: u64,
    pub(super) r14: u64,
    pub(super) r15: u64,
}

/// Runs the guest of the control block at the physical address `at` with `registers`, until an exit. `host` is the
/// physical address of a page for the host's own registers that VMSAVE stores. `_vmcb` points to the block, so that the
/// compiler knows that it changes.
///
/// VMRUN keeps RAX, RSP, RIP, RFLAGS, the segments that matter in 64-bit mode, and the control registers of the host, and
/// an exit loads them again. STI takes effect in the guest only: interrupts are held back until VMRUN, and CLI comes
/// before STGI.
///
/// # Safety
///
/// SVM is on, with a page for the host's state; interrupts are off. The control block was filled by
/// [`Vmcb::begin_at`], its ASID and root name tables that show only memory of the guest, and what the CPU keeps of
/// translations agrees with them or is dropped by this entry. `host` is a page of no other use.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn enter(
    _at: u64,
    _registers: &mut Registers,
    _host: u64,
    _vmcb: &mut Vmcb,
) {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "push rdx",
        "push rsi",
        "clgi",
        "mov rax, rdx", "vmsave rax",
        "mov rax, rdi", "vmload rax",
        "mov rbx, [rsi + {rbx}]", "mov rcx, [rsi + {rcx}]", "mov rdx, [rsi + {rdx}]",
        "mov rdi, [rsi + {rdi}]", "mov rbp, [rsi + {rbp}]", "mov r8, [rsi + {r8}]",
        "mov r9, [rsi + {r9}]", "mov r10, [rsi + {r10}]", "mov r11, [rsi + {r11}]",
        "mov r12, [rsi + {r12}]", "mov r13, [rsi + {r13}]", "mov r14, [rsi + {r14}]",
        "mov r15, [rsi + {r15}]", "mov rsi, [rsi + {rsi}]",
        "sti",
        "vmrun rax",
        "cli",
        "vmsave rax",
        "xchg rsi, [rsp]",
        "mov [rsi + {rbx}], rbx", "mov [rsi + {rcx}], rcx", "mov [rsi + {rdx}], rdx",
        "mov [rsi + {rdi}], rdi", "mov [rsi + {rbp}], rbp", "mov [rsi + {r8}], r8",
        "mov [rsi + {r9}], r9", "mov [rsi + {r10}], r10", "mov [rsi + {r11}], r11",
        "mov [rsi + {r12}], r12", "mov [rsi + {r13}], r13", "mov [rsi + {r14}], r14",
        "mov [rsi + {r15}], r15",
        "pop [rsi + {rsi}]",
        "pop rax", "vmload rax",
        "stgi",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        rbx = const offset_of!(Registers, rbx), rcx = const offset_of!(Registers, rcx),
        rdx = const offset_of!(Registers, rdx), rsi = const offset_of!(Registers, rsi),
        rdi = const offset_of!(Registers, rdi), rbp = const offset_of!(Registers, rbp),
        r8 = const offset_of!(Registers, r8), r9 = const offset_of!(Registers, r9),
        r10 = const offset_of!(Registers, r10), r11 = const offset_of!(Registers, r11),
        r12 = const offset_of!(Registers, r12), r13 = const offset_of!(Registers, r13),
        r14 = const offset_of!(Registers, r14), r15 = const offset_of!(Registers, r15),
    )
}

/// Takes a machine check that made a guest exit, as if it had interrupted the host here (APM vol. 2 15.12.15).
pub(super) fn take_machine_check() {
    // SAFETY: enters the gate of vector 18, which every CPU that runs guests has; its handler returns here, or ends
    // the kernel.
    unsafe { asm!("int 18") };
}

/// The x87 and SSE registers of a guest, in the layout of FXSAVE (APM vol. 2, 11.4.4).
#[repr(C, align(16))]
pub(super) struct FloatingPoint([u32; 128]);

impl fmt::Debug for FloatingPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FloatingPoint(..)")
    }
}

/// The control words after FNINIT, and after a reset: all exceptions are masked.
const CONTROL: (usize, u32) = (0, 0x37f);
const MXCSR: (usize, u32) = (6, 0x1f80);

impl FloatingPoint {
    /// The registers at their beginning.
    pub(super) const fn new() -> Self {
        let mut words = [0; 128];
        words[CONTROL.0] = CONTROL.1;
        words[MXCSR.0] = MXCSR.1;
        Self(words)
    }

    /// Loads the registers of this CPU.
    ///
    /// If no exception is pending, FXRSTOR leaves the addresses of the last x87 instruction as they are; FILD
    /// overwrites those of another guest, once no exception of it is pending.
    pub(super) fn load(&self) {
        // SAFETY: the kernel uses none of these registers, and the area has the layout and alignment of FXRSTOR, with
        // an MXCSR that `new` or FXSAVE wrote.
        unsafe {
            asm!("fnclex", "emms", "fild dword ptr [{area}]", "fxrstor64 [{area}]",
                area = in(reg) &raw const self.0, options(nostack, preserves_flags));
        }
    }

    /// Stores the registers of this CPU.
    pub(super) fn store(&mut self) {
        // SAFETY: the area has the size and alignment that FXSAVE writes.
        unsafe {
            asm!("fxsave64 [{area}]", area = in(reg) &raw mut self.0,
                options(nostack, preserves_flags));
        }
    }
}

/// The addresses of a guest's breakpoints, which neither an entry nor an exit switches (APM vol. 2 15.5.1). An exit clears
/// DR7, so that they do not concern the host.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breakpoints([u64; 4]);

impl Breakpoints {
    /// Loads the registers of this CPU.
    pub(super) fn load(&self) {
        let [first, second, third, fourth] = self.0;
        // SAFETY: an address has an effect only while DR7 enables its breakpoint, and the kernel enables none.
        unsafe {
            asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
                in(reg) first, in(reg) second, in(reg) third, in(reg) fourth,
                options(nomem, nostack, preserves_flags));
        }
    }

    /// Stores the registers of this CPU.
    pub(super) fn store(&mut self) {
        let Self([first, second, third, fourth]) = self;
        // SAFETY: reading the registers changes nothing.
        unsafe {
            asm!(
                "mov {}, dr0",
                "mov {}, dr1",
                "mov {}, dr2",
                "mov {}, dr3",
                out(reg) * first,
                out(reg) * second,
                out(reg) * third,
                out(reg) * fourth,
                options(nomem, nostack, preserves_flags)
            );
        }
    }
}
