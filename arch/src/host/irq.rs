//! The interrupt controller: an I/O APIC whose registers have no function.

use super::board::INPUTS;
use super::machine::own;
use super::traps::{Trap, TrapFrame};
use crate::contract;
use crate::irq::{Call, Claim, Controller, Line, NoCpu, NoInput, Registers, Source, TakeError};
use hotmem_paging::addr::PhysRange;

/// Bytes of its registers.
const BYTES: u64 = 4096;

/// The interrupt controller of the machine.
#[derive(Debug)]
pub struct Controllers<R> {
    _registers: R,
    first: u32,
}

impl<R: Registers> contract::Controllers<R, TrapFrame> for Controllers<R> {
    const SLOTS: usize = 8;

    fn take<E>(
        mut described: impl Iterator<Item = Controller>,
        mut map: impl FnMut(PhysRange) -> Result<R, E>,
    ) -> Result<Self, TakeError<E>> {
        let found = described.find_map(|controller| match controller {
            Controller::IoApic { at, first } => Some((at, first)),
            _ => None,
        });
        let (at, first) = found.ok_or(TakeError::Missing("I/O APIC"))?;
        let range = PhysRange::new(at, BYTES).unwrap_or_default();
        let registers = map(range).map_err(|error| TakeError::Map(range, error))?;
        Ok(Self { _registers: registers, first })
    }

    fn connect(&mut self, slot: usize, line: Line) -> Result<(), NoInput> {
        let input = line.gsi.checked_sub(self.first).filter(|&input| input < INPUTS);
        input.ok_or(NoInput)?;
        own().change(|board| board.connect(slot, line));
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

    /// The timer interrupts when the test [rings it](super::Machine::ring_timer).
    fn start_timer(&self, _hertz: u64) {
        own().change(|board| board.timer_runs = true);
    }

    fn stop_timer(&self) {
        own().change(|board| board.timer_runs = false);
    }

    fn claim(&self, frame: &TrapFrame) -> Option<Claim> {
        match frame.0 {
            Trap::Line(gsi) => {
                let slot = own().board().claim(gsi)?;
                Some(Claim { from: Source::Slot(slot), id: gsi })
            }
            Trap::Timer => own().board().timer_rang.then_some(Claim { from: Source::Timer, id: 0 }),
            Trap::BadMemory(_) | Trap::Fault(_) | Trap::Nmi => None,
        }
    }

    fn finish(&self, claim: Claim) {
        if claim.from == Source::Timer {
            own().change(|board| board.timer_rang = false);
        }
    }

    fn set_masked(&self, line: Line, masked: bool) {
        own().change(|board| board.set_masked(line.gsi, masked));
    }
}
