//! The interrupt controllers of an Arm machine, together: a distributor for the lines, an interface for
//! the CPU.

use super::cpu;
use super::frame::TrapFrame;
use super::gic::{
    self, CPU_INTERFACE_BYTES, CpuInterface, DISTRIBUTOR_BYTES, DISTRIBUTOR_V2_BYTES, Distributor,
    REDISTRIBUTOR_BYTES, Redistributor, Version,
};
use super::gic_cpu::SystemInterface;
use crate::contract;
use crate::irq::{Call, Claim, Controller, Line, NoCpu, NoInput, Registers, Source, TakeError};
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// Lines that can be connected.
const SLOTS: usize = 16;

#[derive(Debug)]
enum Interface<R> {
    Memory(CpuInterface<R>),
    System(SystemInterface),
}

/// All interrupt controllers of the machine.
#[derive(Debug)]
pub struct Controllers<R> {
    distributor: Distributor<R>,
    interface: Interface<R>,
    version: Version,
    /// The interrupt connected to each slot.
    slots: [Option<u32>; SLOTS],
}

/// What firmware describes, by kind.
#[derive(Default)]
struct Described {
    distributor: Option<(PhysAddr, u8)>,
    interface: Option<PhysAddr>,
    redistributors: Option<PhysRange>,
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
        let mut found = Described::default();
        for controller in described {
            match controller {
                Controller::GicDistributor { at, version } => {
                    found.distributor = Some((at, version))
                }
                Controller::GicCpuInterface { at } => found.interface = Some(at),
                Controller::GicRedistributors { range } => found.redistributors = Some(range),
                Controller::LocalApic { .. }
                | Controller::IoApic { .. }
                | Controller::Presentation => {}
            }
        }

        let (at, number) = found.distributor.ok_or(TakeError::Missing("GIC distributor"))?;
        // Version 0: to be found out (ACPI 6.5, table 5.47).
        let system = number >= 3 || number == 0 && cpu::has_gic_registers();
        let version = if system { Version::V3 } else { Version::V2 };
        let bytes = if system { DISTRIBUTOR_BYTES } else { DISTRIBUTOR_V2_BYTES };
        let distributor = Distributor::take(registers(at, bytes)?, version, cpu::mpidr());
        let interface = if system {
            let row = found.redistributors.ok_or(TakeError::Missing("GIC redistributor"))?;
            wake_own(row, &mut registers)?;
            Interface::System(SystemInterface::enable())
        } else {
            let at = found.interface.ok_or(TakeError::Missing("GIC CPU interface"))?;
            Interface::Memory(CpuInterface::enable(registers(at, CPU_INTERFACE_BYTES)?))
        };
        Ok(Self { distributor, interface, version, slots: [None; SLOTS] })
    }

    fn connect(&mut self, slot: usize, line: Line) -> Result<(), NoInput> {
        let place = self.slots.get_mut(slot).filter(|_| self.distributor.has(line.gsi));
        *place.ok_or(NoInput(line))? = Some(line.gsi);
        self.distributor.connect(line.gsi, line.trigger);
        Ok(())
    }

    fn own_hardware(&self) -> u64 {
        cpu::mpidr()
    }

    fn join(&self) -> Result<(), NoCpu> {
        Err(NoCpu(cpu::mpidr()))
    }

    fn call(&self, hardware: u64, _call: Call) -> Result<(), NoCpu> {
        Err(NoCpu(hardware))
    }

    fn claim(&self, _frame: &TrapFrame) -> Option<Claim> {
        let id = match &self.interface {
            Interface::Memory(interface) => interface.acknowledge(),
            Interface::System(interface) => interface.acknowledge(),
        };
        let interrupt = gic::interrupt(id, self.version)?;
        Some(Claim {
            from: Source::slot(self.slots.iter().position(|&slot| slot == Some(interrupt))),
            id,
        })
    }

    fn finish(&self, claim: Claim) {
        match &self.interface {
            Interface::Memory(interface) => interface.finish(claim.id),
            Interface::System(interface) => interface.finish(claim.id),
        }
    }

    fn set_masked(&self, line: Line, masked: bool) {
        self.distributor.set_enabled(line.gsi, !masked);
    }
}

/// Wakes this CPU's redistributor, one of a row.
fn wake_own<R: Registers, E>(
    row: PhysRange,
    registers: &mut impl FnMut(PhysAddr, u64) -> Result<R, TakeError<E>>,
) -> Result<(), TakeError<E>> {
    let missing = TakeError::Missing("GIC redistributor of this CPU");
    for index in 0..row.len() / REDISTRIBUTOR_BYTES {
        let at = row.start().add(index * REDISTRIBUTOR_BYTES);
        let redistributor = Redistributor::new(registers(at, REDISTRIBUTOR_BYTES)?);
        if redistributor.belongs_to(cpu::mpidr()) {
            return if redistributor.wake() { Ok(()) } else { Err(missing) };
        }
        if redistributor.is_last() {
            break;
        }
    }
    Err(missing)
}
