//! Why a guest left: decodes the exit that a control block reports (AMD APM vol. 2, appendix C).
//!
//! Nothing here touches a register, so that tests can pass any words.

use crate::contract::Access;
use hotmem_paging::addr::GuestAddr;

/// The fields of a control block that an exit stored, and the registers that say more about it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exit {
    pub(crate) code: u64,
    pub(crate) info: [u64; 2],
    /// The event that was being delivered: EXITINTINFO.
    pub(crate) event: u64,
    /// The privilege level of the guest's code.
    pub(crate) cpl: u8,
    /// RCX: the number of a model-specific register.
    pub(crate) rcx: u64,
}

/// The reason of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// An event of the host, which the host takes as soon as it enables its interrupts.
    Host,
    /// A machine check. The host does not take it by itself.
    MachineCheck,
    /// The nested tables do not allow an access.
    Fault { at: GuestAddr, access: Access },
    /// VMMCALL by the guest's kernel.
    Call,
    /// VMMCALL by its user code, which may not call the host.
    UserCall,
    /// HLT.
    Halt,
    /// What this host does not emulate, and more about it.
    Stopped(&'static str, u64),
}

/// Bytes of the instructions after which a guest continues, without prefixes (APM vol. 3).
pub(crate) const HLT_BYTES: u64 = 1;
pub(crate) const VMMCALL_BYTES: u64 = 3;

/// In [`Exit::event`] and in the field that injects an event: the event is valid; its type; its vector.
const VALID: u64 = 1 << 31;
const TYPE: u64 = 7 << 8;
const EXCEPTION: u64 = 3 << 8;
const SOFTWARE: u64 = 4 << 8;
const VECTOR: u64 = 0xff;
/// The field has an error code, in its upper half.
const HAS_ERROR: u64 = 1 << 11;

/// Exceptions to inject: a debug exception, an invalid instruction, a general-protection exception and an alignment check
/// without a selector.
pub(crate) const DEBUG: u64 = VALID | EXCEPTION | 1;
pub(crate) const INVALID_OPCODE: u64 = VALID | EXCEPTION | 6;
pub(crate) const GENERAL_PROTECTION: u64 = VALID | HAS_ERROR | EXCEPTION | 13;
pub(crate) const ALIGNMENT: u64 = VALID | HAS_ERROR | EXCEPTION | 17;

/// The event that delivers an interrupt.
pub(crate) const fn interrupt(vector: u8) -> u64 {
    VALID | vector as u64
}

/// The vector of the interrupt that was being delivered, by [`Exit::event`].
pub(crate) const fn interrupted_vector(event: u64) -> Option<u8> {
    if event & (VALID | TYPE) == VALID { Some(event as u8) } else { None }
}

const MACHINE_CHECK: u64 = 0x52;
const INTR: u64 = 0x60;
const INIT: u64 = 0x63;
const HLT: u64 = 0x78;
const IOIO: u64 = 0x7b;
const MSR: u64 = 0x7c;
const VMMCALL: u64 = 0x81;
const NESTED_FAULT: u64 = 0x400;
/// The CPU refused to enter the guest.
const INVALID: u64 = u64::MAX;

// The causes of a nested page fault (APM vol. 2 15.25.6).
const FAULT_WRITE: u64 = 1 << 1;
const FAULT_RESERVED: u64 = 1 << 3;
const FAULT_FETCH: u64 = 1 << 4;

/// The cause of an exit.
pub(crate) const fn cause(exit: &Exit) -> Cause {
    let [info, address] = exit.info;
    match exit.code {
        INTR..=INIT => Cause::Host,
        MACHINE_CHECK => Cause::MachineCheck,
        NESTED_FAULT => fault(info, address),
        VMMCALL if exit.cpl == 0 => Cause::Call,
        VMMCALL => Cause::UserCall,
        HLT => Cause::Halt,
        IOIO if info & 1 == 0 => Cause::Stopped("it wrote to a port", info >> 16),
        IOIO => Cause::Stopped("it read from a port", info >> 16),
        MSR if info & 1 == 0 => Cause::Stopped("it read a model-specific register", low(exit.rcx)),
        MSR => Cause::Stopped("it wrote to a model-specific register", low(exit.rcx)),
        INVALID => Cause::Stopped("SVM refuses its state", info),
        code => Cause::Stopped(name(code), code),
    }
}

/// The lower half of a register.
const fn low(register: u64) -> u64 {
    register & 0xffff_ffff
}

const fn fault(info: u64, address: u64) -> Cause {
    if info & FAULT_RESERVED != 0 {
        // Trying again would fault for ever.
        return Cause::Stopped("its nested page tables have reserved bits", address);
    }
    let access = if info & FAULT_FETCH != 0 {
        Access::Fetch
    } else if info & FAULT_WRITE != 0 {
        Access::Write
    } else {
        Access::Read
    };
    Cause::Fault { at: GuestAddr::new(address), access }
}

/// The event to inject at the next entry, since the exit interrupted its delivery; 0 for none.
///
/// Software interrupts, INT3 and INTO are not injected again: the exit left the guest at the instruction, which runs again.
/// Only the fields that the manual defines are kept.
pub(crate) const fn interrupted_event(event: u64) -> u64 {
    let kind = event & TYPE;
    let vector = event & VECTOR;
    let repeats = kind == SOFTWARE || kind == EXCEPTION && matches!(vector, 3 | 4);
    // Types 0 (interrupt), 2 (NMI), 3 (exception). An entry refuses all others, and exceptions of another vector.
    let known = match kind >> 8 {
        0 | 2 => true,
        3 => vector < 32 && vector != 2,
        _ => false,
    };
    if event & VALID == 0 || repeats || !known {
        return 0;
    }
    let error = if event & HAS_ERROR != 0 { event & !low(u64::MAX) } else { 0 };
    VALID | kind | vector | event & HAS_ERROR | error
}

/// The names of the exits that only stop a guest.
const fn name(code: u64) -> &'static str {
    match code {
        0x00..=0x0f => "it read a control register",
        0x10..=0x1f => "it changed a control register",
        0x20..=0x3f => "it used a debug register",
        0x41 => "it caused a debug exception",
        0x51 => "it caused an alignment check",
        0x40..=0x5f => "it caused an exception",
        0x6f => "it ran RDPMC",
        0x72 => "it ran CPUID",
        0x73 => "it ran RSM",
        0x76 => "it ran INVD",
        0x7a => "it ran INVLPGA",
        0x7d => "it switched tasks",
        0x7e => "its floating-point unit froze",
        0x7f => "it shut down (triple fault)",
        0x80 => "it ran VMRUN",
        0x82 => "it ran VMLOAD",
        0x83 => "it ran VMSAVE",
        0x84 => "it ran STGI",
        0x85 => "it ran CLGI",
        0x86 => "it ran SKINIT",
        0x87 => "it ran RDTSCP",
        0x88 => "it ran ICEBP",
        0x89 => "it ran WBINVD",
        0x8a => "it ran MONITOR",
        0x8b | 0x8c => "it ran MWAIT",
        0x8d => "it ran XSETBV",
        0x8e => "it ran RDPRU",
        0xa0 | 0xa1 => "it ran INVLPGB",
        0xa2 => "it ran INVPCID",
        0xa3 => "it ran MCOMMIT",
        0xa4 => "it ran TLBSYNC",
        _ => "its exit is unknown",
    }
}

#[cfg(test)]
mod tests;
