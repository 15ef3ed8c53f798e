//! The interrupt controllers of an Arm machine, together: a distributor for the lines, an interface for
//! the CPU.

// UNSAFETY: implements a function with a safety contract.
#![expect(unsafe_code)]

use super::frame::TrapFrame;
use super::gic::{
    self, CPU_INTERFACE_BYTES, CpuInterface, DISTRIBUTOR_BYTES, DISTRIBUTOR_V2_BYTES, Distributor,
    Redistributor, Redistributors, Version,
};
use super::gic_cpu::SystemInterface;
use super::{cpu, start, timer};
use crate::area::Launch;
use crate::contract;
use crate::irq::{Call, Claim, Controller, Line, NoCpu, NoInput, Registers, Source, TakeError};
use aarch64_cpu::asm::barrier;
use core::sync::atomic::{AtomicU64, Ordering};
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// Lines that can be connected.
const SLOTS: usize = 16;

/// The controllers' part for each CPU.
#[derive(Debug)]
enum Interface<R> {
    /// Version 2.
    Memory(CpuInterface<R>),
    /// Version 3.
    System(SystemInterface, Redistributors<R>),
}

/// All interrupt controllers of the machine.
#[derive(Debug)]
pub struct Controllers<R> {
    distributor: Distributor<R>,
    interface: Interface<R>,
    version: Version,
    /// The interrupt connected to each slot.
    slots: [Option<u32>; SLOTS],
    /// Version 2: the affinity plus one of the CPU that has the bit, set when the CPU takes interrupts.
    bits: [AtomicU64; 8],
}

/// The controllers that firmware describes, by kind.
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
        // Version 0: not given, so the CPU's registers decide (ACPI 6.5, table 5.47).
        let system = number >= 3 || number == 0 && cpu::has_gic_registers();
        let version = if system { Version::V3 } else { Version::V2 };
        let bytes = if system { DISTRIBUTOR_BYTES } else { DISTRIBUTOR_V2_BYTES };
        let distributor = Distributor::take(registers(at, bytes)?, version, cpu::mpidr());
        let interface = if system {
            let row = found.redistributors.ok_or(TakeError::Missing("GIC redistributor"))?;
            let row = Redistributors::new(registers(row.start(), row.len())?, row.len());
            Interface::System(SystemInterface::enable(), row)
        } else {
            let at = found.interface.ok_or(TakeError::Missing("GIC CPU interface"))?;
            Interface::Memory(CpuInterface::take(registers(at, CPU_INTERFACE_BYTES)?))
        };
        let (slots, bits) = ([None; SLOTS], [const { AtomicU64::new(0) }; 8]);
        let this = Self { distributor, interface, version, slots, bits };
        let missing = TakeError::Missing("GIC redistributor of this CPU");
        this.enable_here().map_err(|_| missing)?;
        Ok(this)
    }

    fn connect(&mut self, slot: usize, line: Line) -> Result<(), NoInput> {
        let place = self.slots.get_mut(slot).filter(|_| self.distributor.has(line.gsi));
        *place.ok_or(NoInput)? = Some(line.gsi);
        self.distributor.connect(line.gsi, line.trigger);
        Ok(())
    }

    fn own_hardware(&self) -> u64 {
        cpu::affinity(cpu::mpidr())
    }

    fn join(&self) -> Result<(), NoCpu> {
        if let Interface::System(..) = self.interface {
            SystemInterface::enable();
        }
        self.enable_here()
    }

    fn call(&self, hardware: u64, _call: Call) -> Result<(), NoCpu> {
        // Firmware may name a CPU by more bits of its MPIDR_EL1.
        let affinity = cpu::affinity(hardware);
        match &self.interface {
            Interface::System(interface, _) => interface.call(gic::call_word(affinity)),
            Interface::Memory(_) => {
                let has = |bit: &AtomicU64| bit.load(Ordering::Relaxed) == affinity + 1;
                let bit = self.bits.iter().position(has).ok_or(NoCpu(hardware))?;
                // The other CPU sees all earlier stores.
                barrier::dsb(barrier::ISHST);
                self.distributor.call(1 << bit);
            }
        }
        Ok(())
    }

    unsafe fn start(
        &self,
        hardware: u64,
        _landing: Option<PhysAddr>,
        launch: &'static Launch,
    ) -> Result<(), NoCpu> {
        // SAFETY: by the contract of this function.
        NoCpu::unless(unsafe { start::start(hardware, launch) }, hardware)
    }

    fn start_timer(&self, hertz: u64) {
        self.set_private(timer::interrupt(), true);
        timer::start(hertz);
    }

    fn stop_timer(&self) {
        timer::stop();
        self.set_private(timer::interrupt(), false);
    }

    fn claim(&self, _frame: &TrapFrame) -> Option<Claim> {
        let id = match &self.interface {
            Interface::Memory(interface) => interface.acknowledge(),
            Interface::System(interface, _) => interface.acknowledge(),
        };
        let interrupt = gic::interrupt(id, self.version)?;
        let slot = || self.slots.iter().position(|&slot| slot == Some(interrupt));
        let from = if interrupt == gic::CALL {
            Source::Cpu
        } else if interrupt == timer::interrupt() {
            timer::go_on();
            Source::Timer
        } else {
            Source::slot(slot())
        };
        Some(Claim { from, id })
    }

    fn finish(&self, claim: Claim) {
        match &self.interface {
            Interface::Memory(interface) => interface.finish(claim.id),
            Interface::System(interface, _) => interface.finish(claim.id),
        }
    }

    fn set_masked(&self, line: Line, masked: bool) {
        self.distributor.set_enabled(line.gsi, !masked);
    }
}

impl<R: Registers> Controllers<R> {
    /// Version 3: the redistributor of the CPU that runs this.
    fn own_redistributor(&self) -> Option<Redistributor<'_, R>> {
        match &self.interface {
            Interface::System(_, row) => row.of(cpu::mpidr()),
            Interface::Memory(_) => None,
        }
    }

    /// Enables or disables a private interrupt of the CPU that runs this.
    fn set_private(&self, id: u32, enabled: bool) {
        match self.own_redistributor() {
            Some(own) => own.set_private(id, enabled),
            None => self.distributor.set_private(id, enabled),
        }
    }

    /// Enables interrupts to the CPU that runs this, with the calls of other CPUs.
    fn enable_here(&self) -> Result<(), NoCpu> {
        let affinity = cpu::affinity(cpu::mpidr());
        match &self.interface {
            Interface::System(..) => {
                let own =
                    self.own_redistributor().filter(|own| own.wake()).ok_or(NoCpu(affinity))?;
                if timer::stop_guests() {
                    own.expect_guests();
                }
                Ok(())
            }
            Interface::Memory(interface) => {
                let bit = self.distributor.own_bit().trailing_zeros() as usize;
                // A machine with one CPU may have no targets (IHI 0048B 4.3.12), and makes no calls.
                if let Some(bit) = self.bits.get(bit) {
                    bit.store(affinity + 1, Ordering::Relaxed);
                }
                self.distributor.take_calls();
                interface.enable();
                Ok(())
            }
        }
    }
}
