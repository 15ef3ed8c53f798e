//! The interrupt presentation of a POWER hypervisor (LoPAR 7.3.10.7 and 14.5.4.7.1): sources are set up
//! by RTAS, and taken and finished by hypercalls.

// UNSAFETY: hypercalls.
#![expect(unsafe_code)]

use super::frame::TrapFrame;
use super::hcall::{H_CPPR, H_EOI, H_XIRR, hcall};
use crate::contract;
use crate::irq::{Call, Claim, Controller, Line, NoCpu, NoInput, Registers, Source, TakeError};
use core::marker::PhantomData;
use hotmem_paging::addr::PhysRange;

/// Lines that can be connected.
const SLOTS: usize = 16;

/// The least favoured priority: everything may interrupt.
const LEAST_FAVOURED: u64 = 0xff;
/// The source's number in what H_XIRR answers; the priority is above.
const SOURCE: u32 = 0x00ff_ffff;

/// The interrupt presentation of this CPU.
#[derive(Debug)]
pub struct Controllers<R> {
    /// The source connected to each slot.
    slots: [Option<u32>; SLOTS],
    registers: PhantomData<fn() -> R>,
}

impl<R: Registers> contract::Controllers<R, TrapFrame> for Controllers<R> {
    const SLOTS: usize = SLOTS;

    fn take<E>(
        mut described: impl Iterator<Item = Controller>,
        _map: impl FnMut(PhysRange) -> Result<R, E>,
    ) -> Result<Self, TakeError<E>> {
        if !described.any(|controller| controller == Controller::Presentation) {
            return Err(TakeError::Missing("interrupt presentation"));
        }
        // SAFETY: the call sets this CPU's priority, no more.
        unsafe { hcall(H_CPPR, [LEAST_FAVOURED, 0, 0, 0]) };
        Ok(Self { slots: [None; SLOTS], registers: PhantomData })
    }

    /// Firmware was told to enable the line's source.
    fn connect(&mut self, slot: usize, line: Line) -> Result<(), NoInput> {
        *self.slots.get_mut(slot).ok_or(NoInput(line))? = Some(line.gsi);
        Ok(())
    }

    fn own_hardware(&self) -> u64 {
        0
    }

    fn join(&self) -> Result<(), NoCpu> {
        Err(NoCpu(0))
    }

    fn call(&self, hardware: u64, _call: Call) -> Result<(), NoCpu> {
        Err(NoCpu(hardware))
    }

    fn claim(&self, _frame: &TrapFrame) -> Option<Claim> {
        // SAFETY: the call takes an interrupt and answers in a register.
        let answer = unsafe { hcall(H_XIRR, [0; 4]) };
        let id = answer.results[0] as u32;
        let source = id & SOURCE;
        (source != 0).then(|| Claim {
            from: Source::slot(self.slots.iter().position(|&slot| slot == Some(source))),
            id,
        })
    }

    fn finish(&self, claim: Claim) {
        // SAFETY: the call ends the interrupt, and restores the priority that was before it.
        unsafe { hcall(H_EOI, [claim.id.into(), 0, 0, 0]) };
    }

    /// Nothing: every source of this presentation is edge-triggered.
    fn set_masked(&self, _line: Line, _masked: bool) {}
}
