//! Runs guests in slices, and handles their exits.

use crate::Shared;
use crate::figures::Report;
use crate::host::Slot;
use crate::id::VmId;
use crate::platform::Platform;
use crate::program::Loaded;
use crate::space::Found;
use crate::status::State;
use crate::switch::{EnabledHere, OwnVcpu};
use crate::vms::{VmError, Vms};
use alloc::string::String;
use core::fmt::Write;
use hotmem::paging::GuestAddr;
use hotmem_arch::contract::{Access, GuestCall, GuestExit, Guests, Misdeed};

/// Exits of a slice.
const EXITS: u64 = 64;

/// Exits one after the other in which a guest may do nothing: wait for an interrupt, which never comes, or fault at
/// memory that it has.
const MOST_IDLE: u64 = 1 << 16;

/// How a slice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// The guest does not run.
    Idle,
    /// It can go on.
    More,
    /// It waits for a move.
    Waits,
    /// It has nothing to do before the clock shows this value; it may run earlier.
    Sleeps(u64),
}

impl Slice {
    /// How the slices of two guests ended.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Idle, slice) | (slice, Self::Idle) => slice,
            (Self::Sleeps(one), Self::Sleeps(two)) => Self::Sleeps(one.min(two)),
            (Self::Sleeps(_), slice) | (slice, Self::Sleeps(_)) => slice,
            (Self::Waits, Self::Waits) => Self::Waits,
            (Self::More, _) | (_, Self::More) => Self::More,
        }
    }
}

/// What an exit shows of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Was {
    /// It did something.
    Busy,
    /// It did nothing.
    Idle,
    /// It did nothing, and waits for an interrupt.
    Waiting,
    /// Interrupted by the host: it may have been busy, unless it was waiting just before.
    Interrupted,
}

/// What follows an exit.
enum After {
    /// The guest goes on.
    GoOn,
    /// The slice ends.
    End(Slice),
    /// The guest has ended, or is stopped: the reason, with a code of the architecture.
    Stop(&'static str, Option<u64>),
}

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

    fn handle(&self, id: VmId, vcpu: &mut OwnVcpu<M, P>, exit: GuestExit) -> After {
        match exit {
            GuestExit::Interrupt => {
                self.count(id, Was::Interrupted);
                After::End(Slice::More)
            }
            GuestExit::Fault { at, access } => self.fault(id, at, access),
            GuestExit::Call(call) => self.call(id, vcpu, call),
            GuestExit::Wait if self.count(id, Was::Waiting) < MOST_IDLE => After::GoOn,
            GuestExit::Wait => After::Stop("it waits for interrupts, which never come", None),
            GuestExit::WaitUntil(until) => {
                self.count(id, Was::Busy);
                if P::timestamp() < until { After::End(Slice::Sleeps(until)) } else { After::GoOn }
            }
            GuestExit::Emulated => {
                self.count(id, Was::Busy);
                After::GoOn
            }
            GuestExit::Console(byte) => {
                self.count(id, Was::Busy);
                if let Some(slot) = self.slot(id) {
                    slot.console.lock().push(byte);
                }
                After::GoOn
            }
            GuestExit::Off => {
                self.count(id, Was::Busy);
                self.end(id);
                After::End(Slice::Idle)
            }
            GuestExit::Stopped(why, code) => After::Stop(why, Some(code)),
        }
    }

    /// Counts an exit. Returns how many there were in a row in which the guest did nothing.
    fn count(&self, id: VmId, was: Was) -> u64 {
        let Some(slot) = self.slot(id) else { return 0 };
        let mut life = slot.life.lock();
        life.figures.exits += 1;
        let waited = core::mem::replace(&mut life.waits, was == Was::Waiting);
        life.idle = match was {
            Was::Idle | Was::Waiting => life.idle + 1,
            Was::Interrupted if waited => life.idle,
            Was::Interrupted | Was::Busy => 0,
        };
        life.idle
    }

    fn fault(&self, id: VmId, at: GuestAddr, access: Access) -> After {
        let found = self.host.with_space(id.number(), |space| space.find(at));
        match found.unwrap_or(Found::Nothing) {
            Found::Memory if self.count(id, Was::Idle) < MOST_IDLE => After::GoOn,
            Found::Memory => After::Stop("it faults at memory that it has", Some(at.get())),
            Found::Moving => {
                self.count(id, Was::Busy);
                if let Some(slot) = self.slot(id) {
                    slot.life.lock().figures.waits += 1;
                }
                After::End(Slice::Waits)
            }
            Found::Nothing => {
                let why = match access {
                    Access::Read => "it read where it has no memory",
                    Access::Write => "it wrote where it has no memory",
                    Access::Fetch => "it ran code where it has no memory",
                };
                After::Stop(why, Some(at.get()))
            }
        }
    }

    fn call(&self, id: VmId, vcpu: &mut OwnVcpu<M, P>, call: GuestCall) -> After {
        self.count(id, Was::Busy);
        let Some(slot) = self.slot(id) else { return After::End(Slice::Idle) };
        let mut life = slot.life.lock();
        match life.figures.take(call) {
            Report::Round => {
                drop(life);
                vcpu.reply(0);
                After::GoOn
            }
            Report::Done => {
                drop(life);
                self.end(id);
                After::End(Slice::Idle)
            }
            Report::Unknown => After::Stop("its call is unknown", Some(call.number)),
        }
    }

    /// The program of a guest has ended, unless the guest was paused or killed meanwhile.
    fn end(&self, id: VmId) {
        let Some(slot) = self.slot(id) else { return };
        let mut life = slot.life.lock();
        if life.state == State::Runs {
            life.state = State::Done;
        }
    }

    /// Stops a guest for good; its registers go to the log.
    fn stop(&self, id: VmId, vcpu: &OwnVcpu<M, P>, why: &'static str, code: Option<u64>) {
        let Some(slot) = self.slot(id) else { return };
        let mut text = String::from(why);
        if let Some(code) = code {
            // Writing to a string does not fail.
            let _ = write!(text, " ({code:#x})");
        }
        let mut life = slot.life.lock();
        let name = life.name;
        let _ = write!(text, "\n  {}", vcpu.registers());
        life.state = State::Stopped;
        life.log.clone_from(&text);
        drop(life);
        if let Some(name) = name {
            log::warn!("guest {name} is stopped: {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Slice::{Idle, More, Sleeps, Waits};

    #[test]
    fn a_cpu_sleeps_until_the_first_of_its_guests_wakes_if_all_of_them_sleep() {
        for (one, two, both) in [
            (Idle, Idle, Idle),
            (Idle, Sleeps(5), Sleeps(5)),
            (Sleeps(5), Sleeps(3), Sleeps(3)),
            (Sleeps(5), Waits, Waits),
            (More, Sleeps(5), More),
            (Waits, More, More),
        ] {
            assert_eq!((one.with(two), two.with(one)), (both, both));
        }
    }
}
