//! The registers of a guest without a board: those by which its CPUs start one another.

use super::emulate::{MSR_BYTES, refused_cr4};
use super::enter::Registers;
use super::exit::{self, Exit};
use super::vmcb::Vmcb;
use crate::contract::GuestExit;
use crate::x86_64::board::refusal::Refusal;
use crate::x86_64::board::{apic, command, registers};

/// The code of an exit by RDMSR or WRMSR.
const REGISTER: u64 = 0x7c;

/// A guest, between two entries.
pub(super) struct Bare<'a> {
    /// The number of the CPU.
    pub(super) number: u64,
    pub(super) vmcb: &'a mut Vmcb,
    pub(super) registers: &'a mut Registers,
    /// An exit leaves the address of the next instruction.
    pub(super) knows_next: bool,
}

impl Bare<'_> {
    /// After an exit: emulates the register that the guest accessed. `None` if the exit is not of this kind;
    /// `Some(None)` if the guest goes on.
    pub(super) fn serve(&mut self, exit: &Exit) -> Option<Option<GuestExit>> {
        if let Some(stopped) = refused_cr4(self.vmcb) {
            return Some(Some(stopped));
        }
        if exit.code != REGISTER {
            return None;
        }
        let writes = exit.info[0] & 1 != 0;
        let done = match (self.registers.rcx as u32, writes) {
            (apic::ID, false) => {
                (self.vmcb.save.rax, self.registers.rdx) = (self.number, 0);
                Ok(None)
            }
            (apic::COMMAND, true) => {
                let asked = command::request(self.value(), self.number);
                asked.map(|request| request.map(GuestExit::Cpus))
            }
            (registers::EFER, true) => self.write_efer().map(|()| None),
            _ => return None,
        };
        match done {
            Ok(exit) => {
                self.vmcb.skip(MSR_BYTES, self.knows_next);
                Some(exit)
            }
            Err(Refusal::Protection) => {
                self.vmcb.control.event = exit::GENERAL_PROTECTION;
                Some(None)
            }
            Err(Refusal::Stop(why, more)) => Some(Some(GuestExit::Stopped(why, more))),
        }
    }

    /// What the guest writes.
    const fn value(&self) -> u64 {
        self.registers.rdx << 32 | self.vmcb.save.rax & 0xffff_ffff
    }

    fn write_efer(&mut self) -> Result<(), Refusal> {
        let (save, value) = (&self.vmcb.save, self.value());
        self.vmcb.save.efer = registers::written_efer(save.efer, save.cr0, value)?;
        Ok(())
    }
}
