//! Exits of a guest with a [`Board`]: instructions that are emulated, and interrupts of its local APIC.
//!
//! ```text
//!   before an entry: timer due? vector pending? --> inject it, or ask for an exit when the guest can take it
//!   after an exit:   port, register, CPUID, HLT ... --> board --> the guest goes on, or an exit for the host
//! ```

use super::enter::Registers;
use super::exit::{self, Exit};
use super::vmcb::{self, Vmcb, intercept};
use crate::contract::{CpuRequest, CpuSet, GuestExit};
use crate::x86_64::board::apic::LocalApic;
use crate::x86_64::board::ports::{Access, Effect};
use crate::x86_64::board::refusal::Refusal;
use crate::x86_64::board::registers::{self, Register};
use crate::x86_64::board::{Board, apic, command, cpuid};
use core::arch::x86_64::__cpuid_count;

/// Bytes of instructions, without prefixes.
const CPUID_BYTES: u64 = 2;
pub(super) const MSR_BYTES: u64 = 2;
const WBINVD_BYTES: u64 = 2;
const ICEBP_BYTES: u64 = 1;

/// The results of a call that the hypervisor lacks, and of one by user code (Linux,
/// include/uapi/linux/kvm_para.h): by its name it could have some.
const NO_CALL: u64 = -1000_i64 as u64;
const NOT_PERMITTED: u64 = -1_i64 as u64;

/// In RFLAGS: interrupts are on.
const INTERRUPTS_ON: u64 = 1 << 9;

/// The end of a guest that set bits of CR4 which its CPU lacks.
pub(super) const fn refused_cr4(vmcb: &Vmcb) -> Option<GuestExit> {
    let cr4 = vmcb.save.cr4;
    let stopped = GuestExit::Stopped("it set bits of CR4 that its CPU lacks", cr4);
    if cr4 & !vmcb::CR4_BITS != 0 { Some(stopped) } else { None }
}

/// A guest with a board, between two entries.
pub(super) struct Guest<'a> {
    /// The number of the CPU.
    pub(super) number: usize,
    pub(super) apic: &'a mut LocalApic,
    pub(super) board: &'a mut Board,
    /// CPUs that this one called.
    pub(super) called: &'a mut CpuSet,
    pub(super) vmcb: &'a mut Vmcb,
    pub(super) registers: &'a mut Registers,
    /// An exit leaves the address of the next instruction.
    pub(super) knows_next: bool,
    /// Returns the ticks of the time stamp counter in a second.
    pub(super) counter_hertz: fn() -> u64,
}

/// What an instruction that is emulated ends with.
enum Done {
    /// The guest goes on behind it.
    Next,
    /// The host has to know of this; the guest goes on behind the instruction.
    Exit(GuestExit),
}

impl Guest<'_> {
    /// Before an entry at time `now`: injects an interrupt of the APIC if the guest can take one.
    pub(super) fn inject(&mut self, now: u64) {
        if self.board.has_mail(self.number) {
            self.apic.request_all(&self.board.take_mail(self.number));
        }
        self.apic.look(now);
        let Vmcb { control, save } = &mut *self.vmcb;
        control.interrupts = vmcb::MASK_INTERRUPTS | u64::from(self.apic.task_class());
        control.first &= !intercept::WINDOW;
        let Some(vector) = self.apic.pending() else { return };
        if control.event == 0 && control.shadow & 1 == 0 && save.rflags & INTERRUPTS_ON != 0 {
            self.apic.deliver(vector);
            control.event = exit::interrupt(vector);
        } else {
            control.interrupts |= vmcb::window(vector);
            control.first |= intercept::WINDOW;
        }
    }

    /// After an exit: emulates what the guest did. `None` if the exit is not of this kind; `Some(None)` if the guest goes
    /// on.
    pub(super) fn serve(&mut self, exit: &Exit, now: u64) -> Option<Option<GuestExit>> {
        self.apic.set_task_class(self.vmcb.control.interrupts as u8 & 0xf);
        self.take_back(exit.event);
        if let Some(stopped) = refused_cr4(self.vmcb) {
            return Some(Some(stopped));
        }
        let done = match Emulated::of(exit.code)? {
            // The window is open: `inject` uses it.
            Emulated::Window => return Some(None),
            Emulated::Raise(event) => {
                self.vmcb.control.event = event;
                return Some(None);
            }
            Emulated::Breakpoint => {
                self.skip(ICEBP_BYTES);
                self.vmcb.control.event = exit::DEBUG;
                return Some(None);
            }
            Emulated::Nothing => self.next(WBINVD_BYTES),
            Emulated::Cpuid => self.cpuid(),
            Emulated::Port => self.port(exit),
            Emulated::Register => self.register(exit, now),
            Emulated::Call => self.call(exit.cpl),
            Emulated::Halt => return Some(self.halt()),
        };
        match done {
            Ok(Done::Next) => Some(None),
            Ok(Done::Exit(exit)) => Some(Some(exit)),
            Err(Refusal::Protection) => {
                self.vmcb.control.event = exit::GENERAL_PROTECTION;
                Some(None)
            }
            Err(Refusal::Stop(why, more)) => Some(Some(GuestExit::Stopped(why, more))),
        }
    }

    /// An interrupt whose delivery the exit interrupted is requested again.
    fn take_back(&mut self, event: u64) {
        if let Some(vector) = exit::interrupted_vector(event) {
            self.apic.take_back(vector);
            self.vmcb.control.event = 0;
        }
    }

    fn skip(&mut self, bytes: u64) {
        self.vmcb.skip(bytes, self.knows_next);
    }

    fn next(&mut self, bytes: u64) -> Result<Done, Refusal> {
        self.skip(bytes);
        Ok(Done::Next)
    }

    fn cpuid(&mut self) -> Result<Done, Refusal> {
        let (leaf, sub) = (self.vmcb.save.rax as u32, self.registers.rcx as u32);
        let host = |leaf, sub| {
            let found = __cpuid_count(leaf, sub);
            [found.eax, found.ebx, found.ecx, found.edx]
        };
        let kilohertz = ((self.counter_hertz)() / 1000) as u32;
        let shown = cpuid::shown((leaf, sub), self.number as u32, kilohertz, host);
        let [eax, ebx, ecx, edx] = shown.map(u64::from);
        self.vmcb.save.rax = eax;
        (self.registers.rbx, self.registers.rcx, self.registers.rdx) = (ebx, ecx, edx);
        self.next(CPUID_BYTES)
    }

    fn port(&mut self, exit: &Exit) -> Result<Done, Refusal> {
        let [info, next] = exit.info;
        let access = Access::of(info);
        if access.is_string {
            let why = "it accessed a port by a string instruction";
            return Err(Refusal::Stop(why, access.port.into()));
        }
        let rax = self.vmcb.save.rax;
        let effect = if access.is_input {
            self.vmcb.save.rax = access.merged(rax, self.board.ports.input(access));
            Effect::None
        } else {
            self.board.ports.output(access, rax as u32)
        };
        self.vmcb.continue_at(next);
        match effect {
            Effect::None => Ok(Done::Next),
            Effect::Send(byte) => Ok(Done::Exit(GuestExit::Console(byte))),
            Effect::Off => Ok(Done::Exit(GuestExit::Off)),
            Effect::Fail(value) => {
                Err(Refusal::Stop("it left its machine with a failure", value.into()))
            }
            Effect::Restart => Err(Refusal::Stop("it restarted its machine", access.port.into())),
        }
    }

    fn register(&mut self, exit: &Exit, now: u64) -> Result<Done, Refusal> {
        let number = self.registers.rcx as u32;
        let register = Register::of(number)?;
        if exit.info[0] & 1 == 0 {
            let value = self.read(register, now)?;
            self.vmcb.save.rax = value & 0xffff_ffff;
            self.registers.rdx = value >> 32;
        } else {
            let low = self.vmcb.save.rax & 0xffff_ffff;
            let value = self.registers.rdx << 32 | low;
            self.write(register, number, value)?;
            if number == apic::COMMAND {
                let request = self.command(value)?;
                self.skip(MSR_BYTES);
                return Ok(
                    request.map_or(Done::Next, |request| Done::Exit(GuestExit::Cpus(request)))
                );
            }
        }
        self.next(MSR_BYTES)
    }

    fn read(&self, register: Register, now: u64) -> Result<u64, Refusal> {
        Ok(match register {
            Register::Timestamp => now,
            Register::Efer => registers::shown_efer(self.vmcb.save.efer),
            Register::Pat => self.vmcb.save.pat,
            Register::ApicBase => self.apic.base(),
            Register::Apic(number) => self.apic.read(number)?,
            Register::Zero => 0,
        })
    }

    fn write(&mut self, register: Register, number: u32, value: u64) -> Result<(), Refusal> {
        let save = &mut self.vmcb.save;
        match register {
            Register::Efer => save.efer = registers::written_efer(save.efer, save.cr0, value)?,
            Register::Pat => save.pat = registers::checked_pat(value)?,
            Register::Apic(number) => self.apic.write(number, value)?,
            Register::ApicBase if value == self.apic.base() => {}
            Register::ApicBase => return Err(Refusal::Stop("it left x2APIC mode", value)),
            Register::Timestamp => {
                return Err(Refusal::Stop("it set its time stamp counter", number.into()));
            }
            Register::Zero => {}
        }
        Ok(())
    }

    /// Carries out a command of the APIC: sends an interrupt, or returns what it asks of CPUs.
    fn command(&mut self, command: u64) -> Result<Option<CpuRequest>, Refusal> {
        let own = self.number;
        let Some((cpus, vector)) = command::interrupt(command, own as u64) else {
            return command::request(command, own as u64);
        };
        let called = self.board.send(cpus, vector);
        *self.called = self.called.with(called.without(CpuSet::one(own as u64)));
        Ok(None)
    }

    fn call(&mut self, cpl: u8) -> Result<Done, Refusal> {
        self.vmcb.save.rax = if cpl == 0 { NO_CALL } else { NOT_PERMITTED };
        self.next(exit::VMMCALL_BYTES)
    }

    /// The guest waits: for what the APIC has next.
    fn halt(&mut self) -> Option<GuestExit> {
        self.skip(exit::HLT_BYTES);
        // Another CPU may wake it, or end the guest.
        let forever =
            if self.board.has_others() { GuestExit::WaitForCpus } else { GuestExit::Wait };
        if self.vmcb.save.rflags & INTERRUPTS_ON == 0 {
            return Some(forever);
        }
        match (self.apic.pending(), self.apic.deadline()) {
            _ if self.board.has_mail(self.number) => None,
            (Some(_), _) => None,
            (None, Some(deadline)) => Some(GuestExit::WaitUntil(deadline)),
            (None, None) => Some(forever),
        }
    }
}

/// The exits of this kind.
enum Emulated {
    /// The guest can take an interrupt now.
    Window,
    /// The guest gets this exception.
    Raise(u64),
    /// ICEBP, whose exception comes behind it.
    Breakpoint,
    /// WBINVD and INVD: no device sees memory without the caches.
    Nothing,
    Cpuid,
    Port,
    Register,
    Call,
    Halt,
}

impl Emulated {
    const fn of(code: u64) -> Option<Self> {
        Some(match code {
            0x41 => Self::Raise(exit::DEBUG),
            0x51 => Self::Raise(exit::ALIGNMENT),
            0x64 => Self::Window,
            0x6f => Self::Raise(exit::GENERAL_PROTECTION),
            0x72 => Self::Cpuid,
            0x76 | 0x89 => Self::Nothing,
            0x78 => Self::Halt,
            0x7b => Self::Port,
            0x7c => Self::Register,
            0x81 => Self::Call,
            0x88 => Self::Breakpoint,
            // RSM, INVLPGA, the instructions of SVM, RDTSCP, MONITOR, MWAIT, XSETBV, RDPRU, INVLPGB, INVPCID, MCOMMIT,
            // TLBSYNC: CPUID does not show them.
            0x73 | 0x7a | 0x80 | 0x82..=0x87 | 0x8a..=0x8e | 0xa0..=0xa4 => {
                Self::Raise(exit::INVALID_OPCODE)
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
