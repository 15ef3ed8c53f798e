//! The interrupt controllers of a PC, together: I/O APICs for the lines, a local APIC for the CPU.

use super::apic::{IO_APIC_BYTES, IoApic, LOCAL_APIC_BYTES, LocalApic, Route};
use super::frame::{FIRST_DEVICE, SPURIOUS, TrapFrame, VECTORS};
use super::pic;
use crate::contract;
use crate::irq::{Claim, Controller, Line, NoInput, Registers, TakeError};
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// Lines that can be connected: one for each device vector.
const SLOTS: usize = VECTORS - FIRST_DEVICE as usize;

/// I/O APICs used at most.
const IO_APICS: usize = 8;

/// All interrupt controllers of the machine.
#[derive(Debug)]
pub struct Controllers<R> {
    local: LocalApic<R>,
    /// Each I/O APIC and the global system interrupt of its first input.
    io: [Option<(IoApic<R>, u32)>; IO_APICS],
}

impl<R: Registers> contract::Controllers<R, TrapFrame> for Controllers<R> {
    const SLOTS: usize = SLOTS;

    fn take<E>(
        described: impl Iterator<Item = Controller>,
        mut map: impl FnMut(PhysRange) -> Result<R, E>,
    ) -> Result<Self, TakeError<E>> {
        let mut registers = |at: PhysAddr, bytes| {
            let range = PhysRange::new(at, bytes).unwrap_or_default();
            map(range).map_err(|error| TakeError::Map(range, error))
        };
        pic::mask_all();
        let mut io = [const { None }; IO_APICS];
        let mut free = io.iter_mut();
        let mut local = None;
        for controller in described {
            match controller {
                Controller::IoApic { at, first } => {
                    if let Some(slot) = free.next() {
                        *slot = Some((IoApic::masked(registers(at, IO_APIC_BYTES)?), first));
                    }
                }
                Controller::LocalApic { at } => local = Some(at),
                Controller::GicDistributor { .. }
                | Controller::GicCpuInterface { .. }
                | Controller::GicRedistributors { .. }
                | Controller::Presentation => {}
            }
        }
        let local = local.ok_or(TakeError::Missing("local APIC"))?;
        let local = LocalApic::enable(registers(local, LOCAL_APIC_BYTES)?, SPURIOUS);
        Ok(Self { local, io })
    }

    fn connect(&mut self, slot: usize, line: Line) -> Result<(), NoInput> {
        let (apic, input) = self.input(line).ok_or(NoInput(line))?;
        let vector = FIRST_DEVICE + (slot % SLOTS) as u8;
        let Line { trigger, polarity, .. } = line;
        let route = Route { vector, destination: self.local.id(), trigger, polarity };
        apic.route(input, route).map_err(|_| NoInput(line))
    }

    fn claim(&self, frame: &TrapFrame) -> Option<Claim> {
        let vector = frame.vector();
        let slot = vector.checked_sub(FIRST_DEVICE).map(usize::from);
        Some(Claim { slot, id: vector.into() })
    }

    fn finish(&self, _claim: Claim) {
        self.local.end_of_interrupt();
    }

    fn set_masked(&self, line: Line, masked: bool) {
        if let Some((apic, input)) = self.input(line) {
            apic.set_masked(input, masked);
        }
    }
}

impl<R: Registers> Controllers<R> {
    /// The I/O APIC and its input that `line` ends in.
    fn input(&self, line: Line) -> Option<(&IoApic<R>, u32)> {
        self.io.iter().flatten().find_map(|(apic, first)| {
            let input = line.gsi.checked_sub(*first)?;
            (input < apic.inputs()).then_some((apic, input))
        })
    }
}
