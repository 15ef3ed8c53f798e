//! Runs guests in slices.

use crate::Shared;
use crate::exits::After;
use crate::host::Slot;
use crate::id::VmId;
use crate::platform::Platform;
use crate::program::Loaded;
use crate::slice::Slice;
use crate::status::State;
use crate::switch::{EnabledHere, OwnVcpu};
use crate::vms::{VmError, Vms};
use alloc::string::String;
use hotmem_arch::contract::{Guests, Misdeed};

/// Exits of a slice.
const EXITS: u64 = 64;

impl<M: Shared, P: Platform> Vms<M, P> {
    /// Lets a guest run on CPU `cpu`, for `rounds` rounds of the payload (0: without end), with a `misdeed` after the
    /// first. A guest that was paused goes on. Whoever runs it there calls [`slice`](Self::slice).
    ///
    /// # Errors
    ///
    /// [`VmError`].
    pub fn start(
        &self,
        id: VmId,
        rounds: u64,
        misdeed: Misdeed,
        cpu: usize,
    ) -> Result<(), VmError> {
        let slot = self.slot(id).ok_or(VmError::Full)?;
        let (name, state, is_payload) = {
            let life = slot.life.lock();
            (life.name, life.state, life.program == Loaded::Payload)
        };
        match (state, name) {
            (State::Paused, _) => {}
            (State::Ready | State::Done, _) if state == State::Ready || is_payload => {
                let vcpu = self.fresh_vcpu(id, rounds, misdeed)?;
                *slot.vcpu.lock() = vcpu;
                let mut life = slot.life.lock();
                life.figures = Default::default();
                life.log = String::new();
            }
            (_, Some(name)) => return Err(VmError::State(name, state)),
            (_, None) => return Err(VmError::Full),
        }
        let mut life = slot.life.lock();
        (life.state, life.cpu, life.idle) = (State::Runs, cpu, 0);
        Ok(())
    }

    /// Has a guest stop running until it is started again.
    ///
    /// # Errors
    ///
    /// [`VmError::State`] if it does not run; [`VmError::Busy`] if its CPU does not leave it.
    pub fn pause(&self, id: VmId) -> Result<(), VmError> {
        let slot = self.slot(id).ok_or(VmError::Full)?;
        let (name, cpu) = {
            let mut life = slot.life.lock();
            let name = life.name.ok_or(VmError::Full)?;
            if life.state != State::Runs {
                return Err(VmError::State(name, life.state));
            }
            life.state = State::Paused;
            (name, life.cpu)
        };
        if self.wait_for_vcpu(id, cpu) { Ok(()) } else { Err(VmError::Busy(name)) }
    }

    /// Whether a guest runs.
    pub fn runs(&self) -> bool {
        VmId::all().any(|id| self.state(id) == State::Runs)
    }

    /// Batches of moves of the memory of guests so far.
    pub fn batches(&self) -> u64 {
        self.host.batches()
    }

    /// Whether a guest is to run on CPU `cpu`.
    pub fn runs_on(&self, cpu: usize) -> bool {
        VmId::all().any(|id| self.is_on(id, cpu))
    }

    /// Whether a guest has a timer that does not end its runs: its CPU must be interrupted often.
    pub fn needs_ticks(&self, id: VmId) -> bool {
        let has_timer = |slot: &Slot<M, P>| slot.life.lock().program != Loaded::Payload;
        !P::Guests::TIMER_ENDS_RUNS && self.slot(id).is_some_and(has_timer)
    }

    fn is_on(&self, id: VmId, cpu: usize) -> bool {
        self.slot(id).is_some_and(|slot| {
            let life = slot.life.lock();
            life.state == State::Runs && life.cpu == cpu
        })
    }

    /// Runs each guest of the CPU that runs this for a slice: [`Slice::Idle`] if there is none, [`Slice::Sleeps`] if all
    /// of them sleep.
    pub fn slices(&self) -> Slice {
        VmId::all().map(|id| self.slice(id)).fold(Slice::Idle, Slice::with)
    }

    /// Runs a guest, if this is its CPU, until an interrupt of the host or some other exits. Interrupts are on
    /// afterwards.
    pub fn slice(&self, id: VmId) -> Slice {
        if !self.is_on(id, self.mm().machine().cpu()) {
            return Slice::Idle;
        }
        let Some(slot) = self.slot(id) else { return Slice::Idle };
        let Some(mut vcpu) = slot.vcpu.lock().take() else { return Slice::Idle };
        let slice = match self.enabled.enable::<M, P>(self.mm()) {
            Ok(here) => self.run_some(id, &mut vcpu, &here),
            Err(_) => {
                self.stop(id, &vcpu, "its CPU cannot run guests", None);
                Slice::Idle
            }
        };
        *slot.vcpu.lock() = Some(vcpu);
        slice
    }

    fn run_some(&self, id: VmId, vcpu: &mut OwnVcpu<M, P>, here: &EnabledHere) -> Slice {
        for _ in 0..EXITS {
            if self.state(id) != State::Runs {
                return Slice::Idle;
            }
            let exit = vcpu.run(self.mm(), here);
            match self.handle(id, vcpu, exit) {
                After::GoOn => {}
                After::End(slice) => return slice,
                After::Stop(why, code) => {
                    self.stop(id, vcpu, why, code);
                    return Slice::Idle;
                }
            }
        }
        Slice::More
    }
}
