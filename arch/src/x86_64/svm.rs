//! Secure Virtual Machine: virtual CPUs under SVM with nested paging (AMD APM vol. 2, chapter 15).
//!
//! ```text
//!   run: registers, ASID, root and flush into the VMCB --> CLGI, VMLOAD, STI, VMRUN --> the guest
//!        cause of the exit  <--  CLI, VMSAVE, host's VMLOAD, STGI  <-- #VMEXIT <-------/
//! ```
//!
//! An interrupt of the host ends a run, whatever the guest's interrupt flag is (V_INTR_MASKING). Between CLGI and STGI
//! the CPU holds back interrupts, NMIs and machine checks, so that none arrives while registers of the guest are loaded.
//! The interrupt is pending after STGI, and taken when the caller enables interrupts.
//!
//! What the CPU does not switch, and a guest could reach, is switched here or intercepted: FS, GS, TR and the
//! registers of system calls (VMLOAD, VMSAVE), x87 and SSE registers (FXSAVE: the kernel uses none, but another guest
//! may), debug registers and all model-specific registers (intercepted). A guest cannot change CR4, so that AVX, which
//! FXSAVE does not save, and protection keys stay off.
//!
//! A Linux kernel changes CR4, debug registers, and those of system calls by itself; the addresses of its breakpoints are
//! saved, too, and it is stopped if it sets a bit of CR4 that CPUID does not show it. Its devices are those of a
//! [`Board`](super::board::Board), and [`emulate`] connects both.
//!
//! The payload has no board. Its CPUs start one another by the command register of the x2APIC, and find their number in
//! its ID register ([`bare`]); a CPU that is started begins in real mode, and sets up CR4 and EFER itself.

pub(crate) mod abilities;
#[cfg(target_arch = "x86_64")]
pub(crate) mod ask;
#[cfg(target_arch = "x86_64")]
mod bare;
#[cfg(target_arch = "x86_64")]
mod emulate;
#[cfg(target_arch = "x86_64")]
mod enter;
mod exit;
mod flush;
#[cfg(target_arch = "x86_64")]
pub(crate) mod vcpu;
mod vmcb;
