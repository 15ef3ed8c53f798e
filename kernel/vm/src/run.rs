//! Runs guests in slices.

use crate::Shared;
use crate::enabled::EnabledHere;
use crate::exits::After;
use crate::host::{Slot, VcpuPlace};
use crate::id::{VcpuId, VmId};
use crate::life::Life;
use crate::platform::Platform;
use crate::program::Loaded;
use crate::slice::Slice;
use crate::status::State;
use crate::stops::Moment;
use crate::switch::OwnVcpu;
use crate::vcpus::Power;
use crate::vms::{VmError, Vms};
use alloc::boxed::Box;
use hotmem_arch::contract::{Guests, Misdeed};

/// Exits of a slice.
const EXITS: u64 = 64;

impl<M: Shared, P: Platform> Vms<M, P> {
    /// How many virtual CPUs a guest has.
    pub fn vcpu_count(&self, id: VmId) -> usize {
        self.slot(id).map_or(0, |slot| slot.life.lock().vcpus.len())
    }

    /// Lets a guest run, each of its virtual CPUs on one of `cpus`, for `rounds` rounds of the payload (0: without end),
    /// with a `misdeed` after the first. A guest that was paused goes on, and ends when each virtual CPU has done
    /// `rounds` rounds altogether. Whoever runs a virtual CPU calls [`slice`](Self::slice) on its CPU.
    ///
    /// # Errors
    ///
    /// [`VmError`].
    pub fn start(
        &self,
        id: VmId,
        rounds: u64,
        misdeed: Misdeed,
        cpus: &[usize],
    ) -> Result<(), VmError> {
        let slot = self.slot(id).ok_or(VmError::Full)?;
        let goes_on = Self::may_start(&slot.life.lock(), rounds, misdeed, cpus)?;
        if !goes_on {
            let vcpus = self.fresh_vcpus(id, rounds, misdeed)?;
            for (place, vcpu) in slot.vcpus.iter().zip(vcpus) {
                *place.lock() = Some(vcpu);
            }
        }
        let mut life = slot.life.lock();
        if goes_on {
            life.go_on(cpus, rounds);
        } else {
            life.begin(cpus);
        }
        Ok(())
    }

    /// Whether a guest goes on, and does not begin.
    fn may_start(
        life: &Life,
        rounds: u64,
        misdeed: Misdeed,
        cpus: &[usize],
    ) -> Result<bool, VmError> {
        let name = life.name.ok_or(VmError::Full)?;
        let (needs, has, is_payload) =
            (life.vcpus.len(), cpus.len(), life.program == Loaded::Payload);
        let goes_on = match life.state {
            State::Paused => true,
            State::Ready => false,
            State::Done if is_payload => false,
            state => return Err(VmError::State(name, state)),
        };
        if !is_payload && (rounds, misdeed) != (0, Misdeed::None) {
            return Err(VmError::NoPayload(name));
        }
        if goes_on && misdeed != Misdeed::None {
            return Err(VmError::Begun(name));
        }
        let done = life.vcpus.iter().map(|vcpu| vcpu.status.figures.rounds).max().unwrap_or(0);
        if goes_on && (1..=done).contains(&rounds) {
            return Err(VmError::Rounds(name, done));
        }
        if needs > has { Err(VmError::Cpus { needs, has }) } else { Ok(goes_on) }
    }

    /// Has a guest stop running until it is started again.
    ///
    /// # Errors
    ///
    /// [`VmError::State`] if it does not run; [`VmError::Busy`] if a CPU does not leave it.
    pub fn pause(&self, id: VmId) -> Result<(), VmError> {
        let slot = self.slot(id).ok_or(VmError::Full)?;
        let name = {
            let mut life = slot.life.lock();
            let name = life.name.ok_or(VmError::Full)?;
            if life.state != State::Runs {
                return Err(VmError::State(name, life.state));
            }
            life.state = State::Paused;
            name
        };
        if self.wait_for_vcpus(id) { Ok(()) } else { Err(VmError::Busy(name)) }
    }

    /// Whether a guest runs.
    pub fn runs(&self) -> bool {
        VmId::all().any(|id| self.state(id) == State::Runs)
    }

    /// Begins and ends of batches of moves of the memory of guests so far.
    pub fn batches(&self) -> u64 {
        self.host.batches()
    }

    /// Whether a virtual CPU is to run on CPU `cpu`.
    pub fn runs_on(&self, cpu: usize) -> bool {
        self.all_vcpus().any(|at| self.power(at, cpu).is_some())
    }

    /// The virtual CPUs of all guests.
    fn all_vcpus(&self) -> impl Iterator<Item = VcpuId> {
        VmId::all().flat_map(|vm| (0..self.vcpu_count(vm)).map(move |number| VcpuId { vm, number }))
    }

    /// Whether a guest has a timer that does not end its runs: its CPU must be interrupted often.
    pub fn needs_ticks(&self, id: VmId) -> bool {
        let has_timer = |slot: &Slot<M, P>| slot.life.lock().program != Loaded::Payload;
        !P::Guests::TIMER_ENDS_RUNS && self.slot(id).is_some_and(has_timer)
    }

    /// Whether a virtual CPU is on, if its guest runs and it is pinned to `cpu`.
    fn power(&self, at: VcpuId, cpu: usize) -> Option<Power> {
        let life = self.slot(at.vm)?.life.lock();
        let status = life.vcpus.get(at.number)?.status;
        (life.state == State::Runs && status.cpu == cpu).then_some(status.power)
    }

    /// Whether a guest runs, and its virtual CPU `at`, which is pinned to the CPU that runs this, is off.
    pub fn is_off(&self, at: VcpuId) -> bool {
        self.power(at, self.mm().machine().cpu()).is_some_and(|power| power != Power::On)
    }

    /// Runs each virtual CPU of the CPU that runs this for a slice: [`Slice::Idle`] if there is none, [`Slice::Sleeps`]
    /// if all of them sleep.
    pub fn slices(&self) -> Slice {
        self.all_vcpus().map(|at| self.slice(at)).fold(Slice::Idle, Slice::with)
    }

    /// Runs a virtual CPU, if this is its CPU, until an interrupt of the host or some other exits. Interrupts are on
    /// afterwards.
    pub fn slice(&self, at: VcpuId) -> Slice {
        let (Some(slot), Some(place)) = (self.slot(at.vm), self.host.vcpu(at)) else {
            return Slice::Idle;
        };
        let mut vcpu = match self.take_vcpu(at, place) {
            Ok(vcpu) => vcpu,
            Err(slice) => return slice,
        };
        let slice = match self.enabled.enable::<M, P>(self.mm()) {
            Ok(here) => self.run_some(at, &mut vcpu, &here),
            Err(_) => {
                self.stop(at, &vcpu, "its CPU cannot run guests", None);
                Slice::Idle
            }
        };
        *place.lock() = Some(vcpu);
        // In its place again, it can be started.
        slot.life.lock().change(at.number, Power::Stopping, Power::Off);
        slice
    }

    /// Takes a virtual CPU that is on out of its place. One that is in its place after the state of its guest has changed
    /// stays there: the state is read with the place locked.
    fn take_vcpu(&self, at: VcpuId, place: &VcpuPlace<M, P>) -> Result<Box<OwnVcpu<M, P>>, Slice> {
        let mut place = place.lock();
        match self.power(at, self.mm().machine().cpu()) {
            None => Err(Slice::Idle),
            Some(Power::On) => place.take().ok_or(Slice::Idle),
            Some(_) => Err(Slice::Off),
        }
    }

    fn run_some(&self, at: VcpuId, vcpu: &mut OwnVcpu<M, P>, here: &EnabledHere) -> Slice {
        self.answer(at);
        self.hand_typed(at, vcpu);
        for _ in 0..EXITS {
            if self.state(at.vm) != State::Runs {
                return Slice::Idle;
            }
            let now = || Moment {
                ticks: P::timestamp(),
                instructions: P::instructions(),
                batches: self.host.batches(),
            };
            let Some(exit) = vcpu.run(now, here) else { return Slice::Waits };
            self.wake_all(at.vm, vcpu.take_called());
            match self.handle(at, vcpu, exit) {
                After::GoOn => {}
                // What it waits for may be the next byte.
                After::End(Slice::Sleeps(_)) if self.hand_typed(at, vcpu) => {}
                After::End(slice) => return slice,
                After::Stop(why, code) => {
                    self.stop(at, vcpu, why, code);
                    return Slice::Idle;
                }
            }
        }
        Slice::More
    }
}
