//! Guests of this architecture: under SVM with nested paging.

// UNSAFETY: turns virtualization on.
#![expect(unsafe_code)]

use super::board::apic;
use super::board::linux::{self, Decimal};
use super::svm::vcpu::{Vcpu, request_flush};
use super::svm::{abilities, ask};
use super::{X86_64, npt, payload};
use crate::contract::{
    Clock, Described, GuestSpace, Guests, KernelStart, LinuxFiles, NoGuests, NoKernel, Put,
};
use ::x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use ::x86_64::registers::model_specific::{Efer, EferFlags, Msr};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, compiler_fence};
use hotmem_paging::addr::{GuestAddr, GuestRange};

/// The register in which firmware disables SVM.
const VM_CR: u32 = 0xc001_0114;

impl Guests for X86_64 {
    type GuestFormat = npt::Npt;
    type Vcpu = Vcpu;

    const GUEST_RAM: GuestAddr = GuestAddr::new(0);
    const GUEST_LIMIT: GuestAddr = GuestAddr::new(1 << 48);
    const MOST_CPUS: usize = apic::MOST_CPUS;
    const ELF_MACHINE: u16 = 62;
    const GUEST_FLUSH_REACHES_ALL: bool = false;
    const TIMER_ENDS_RUNS: bool = false;

    /// Nested paging sets Dirty as the host's paging does (APM vol. 2 15.25).
    fn marks_writes() -> bool {
        true
    }

    /// A word with each round of one instruction: `memcpy` copies what is not whole words apart.
    unsafe fn copy_guest_memory(from: NonNull<u8>, to: NonNull<u8>, bytes: usize) {
        // SAFETY: by the contract of this function; a page is whole words, and the direction flag is clear.
        unsafe {
            asm!(
                "rep movsq",
                inout("rcx") bytes / 8 => _,
                inout("rsi") from.as_ptr() => _,
                inout("rdi") to.as_ptr() => _,
                options(nostack, preserves_flags),
            );
        }
    }

    fn enable_guests() -> Result<(), NoGuests> {
        let leaves = ask::leaves();
        // SAFETY: a CPU with SVM has the register, and reading it changes nothing.
        let vm_cr = if leaves.has_svm() { unsafe { Msr::new(VM_CR).read() } } else { 0 };
        abilities::check(&leaves, vm_cr)?;
        // SAFETY: the CPU has SVM, and firmware has not disabled it; the bit adds instructions and nothing else.
        unsafe { Efer::update(|efer| efer.insert(EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE)) };
        // SAFETY: the kernel uses no floating-point instruction; those that save the registers of guests must not trap.
        unsafe {
            Cr0::update(|cr0| cr0.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED))
        };
        // SAFETY: as above: FXSAVE saves the SSE registers, too.
        unsafe { Cr4::update(|cr4| cr4.insert(Cr4Flags::OSFXSR)) };
        Ok(())
    }

    /// Absent entries are never cached, and walks see stores in their order, as with the kernel's own tables.
    fn publish_guest_entries() {
        compiler_fence(Ordering::SeqCst);
    }

    /// The CPU keeps translations of guests while the host runs, and drops them at the next entry.
    fn drop_guest_translations(_space: &GuestSpace, _ranges: &[GuestRange]) {
        request_flush();
    }

    fn linux(
        files: &LinuxFiles<'_>,
        ram: GuestRange,
        cpus: usize,
        put: &mut Put<'_>,
    ) -> Result<KernelStart, NoKernel> {
        let kernel = linux::Kernel::of(files.kernel)?;
        // Nothing on the board tells the rate of the counter.
        let rate = Decimal::new(Self::timestamp_hertz() / 1000);
        let board = b"console=ttyS0 pci=off tsc=reliable tsc_early_khz=";
        let command_line = [board.as_slice(), rate.digits(), b" ", files.command_line];
        linux::place(&kernel, files.initrd, &command_line, (ram.end().get(), cpus), put)
    }

    fn describe(ram: GuestRange, cpus: usize, put: &mut Put<'_>) -> Result<Described, NoKernel> {
        linux::describe(ram.end().get(), cpus, put)
    }

    fn payload() -> &'static [u8] {
        payload::bytes()
    }
}
