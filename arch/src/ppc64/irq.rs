//! The interrupt presentation of a POWER hypervisor (LoPAR 7.3.10.7 and 14.5.4.7.1): RTAS sets up sources,
//! hypercalls claim and finish interrupts.

// UNSAFETY: hypercalls.
#![expect(unsafe_code)]

use super::frame::{DECREMENTER, TrapFrame};
use super::hcall::{H_CPPR, H_EOI, H_IPI, H_SUCCESS, H_XIRR, hcall};
use super::{own, start, timer};
use crate::area::Launch;
use crate::contract;
use crate::irq::{Call, Claim, Controller, Line, NoCpu, NoInput, Registers, Source, TakeError};
use crate::machine_info::MachineInfo;
use core::arch::asm;
use core::marker::PhantomData;
use core::sync::atomic::Ordering;
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// Lines that can be connected.
const SLOTS: usize = 16;

/// The least favoured priority: every interrupt is presented.
const LEAST_FAVOURED: u64 = 0xff;
/// The source's number in the result of H_XIRR; the priority is above it.
const SOURCE: u32 = 0x00ff_ffff;

/// The source of calls between CPUs, and its priority.
const CALL_SOURCE: u32 = 2;
const CALL_PRIORITY: u64 = 4;

/// Lets interrupts of every priority come to this CPU.
fn accept_all() {
    // SAFETY: the call only sets this CPU's priority.
    unsafe { hcall(H_CPPR, [LEAST_FAVOURED, 0, 0, 0]) };
}

/// Calls the CPU `server` with a priority, or withdraws the call with the least favoured one. Returns the status.
fn set_call(server: u64, priority: u64) -> i64 {
    // SAFETY: the call interrupts a CPU, which takes the interrupt when it enables interrupts.
    unsafe { hcall(H_IPI, [server, priority, 0, 0]) }.status
}

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
        let server = MachineInfo::noted().boot_cpu.map_or(0, u64::from);
        own::area().server.store(server, Ordering::Relaxed);
        accept_all();
        Ok(Self { slots: [None; SLOTS], registers: PhantomData })
    }

    /// RTAS has enabled the line's source already.
    fn connect(&mut self, slot: usize, line: Line) -> Result<(), NoInput> {
        *self.slots.get_mut(slot).ok_or(NoInput)? = Some(line.gsi);
        Ok(())
    }

    fn own_hardware(&self) -> u64 {
        own::area().server.load(Ordering::Relaxed)
    }

    fn join(&self) -> Result<(), NoCpu> {
        accept_all();
        Ok(())
    }

    fn call(&self, hardware: u64, _call: Call) -> Result<(), NoCpu> {
        // SAFETY: a barrier: the other CPU sees all earlier stores.
        unsafe { asm!("sync", options(nostack, preserves_flags)) };
        NoCpu::unless(set_call(hardware, CALL_PRIORITY) == H_SUCCESS, hardware)
    }

    unsafe fn start(
        &self,
        hardware: u64,
        _landing: Option<PhysAddr>,
        launch: &'static Launch,
    ) -> Result<(), NoCpu> {
        let server = u32::try_from(hardware).map_err(|_| NoCpu(hardware))?;
        // SAFETY: by the contract of this function.
        NoCpu::unless(unsafe { start::start(server, launch) }, hardware)
    }

    fn start_timer(&self, hertz: u64) {
        timer::start(hertz);
    }

    fn stop_timer(&self) {
        timer::stop();
    }

    fn claim(&self, frame: &TrapFrame) -> Option<Claim> {
        if frame.vector == DECREMENTER {
            return Some(Claim { from: Source::Timer, id: 0 });
        }
        // SAFETY: the call claims an interrupt and returns it in a register.
        let result = unsafe { hcall(H_XIRR, [0; 4]) };
        let id = result.results[0] as u32;
        let slot = |source| self.slots.iter().position(|&slot| slot == Some(source));
        let from = match id & SOURCE {
            0 => return None,
            CALL_SOURCE => {
                // The call interrupts until it is withdrawn.
                set_call(self.own_hardware(), LEAST_FAVOURED);
                Source::Cpu
            }
            source => Source::slot(slot(source)),
        };
        Some(Claim { from, id })
    }

    fn finish(&self, claim: Claim) {
        if claim.from == Source::Timer {
            // The timer's interrupt does not come by the presentation.
            return;
        }
        // SAFETY: the call ends the interrupt, and restores the previous priority.
        unsafe { hcall(H_EOI, [claim.id.into(), 0, 0, 0]) };
    }

    /// Does nothing: every source of this presentation is edge-triggered.
    fn set_masked(&self, _line: Line, _masked: bool) {}
}
