//! Handles the exits of guests.

use crate::Shared;
use crate::figures::Report;
use crate::id::VmId;
use crate::platform::Platform;
use crate::slice::Slice;
use crate::space::Found;
use crate::status::State;
use crate::switch::OwnVcpu;
use crate::vms::Vms;
use alloc::string::String;
use core::fmt::Write;
use hotmem::paging::GuestAddr;
use hotmem_arch::contract::{Access, GuestCall, GuestExit};

/// Exits one after the other in which a guest may do nothing: wait for an interrupt, which never comes, or fault at
/// memory that it has.
const MOST_IDLE: u64 = 1 << 16;

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
pub(crate) enum After {
    /// The guest goes on.
    GoOn,
    /// The slice ends.
    End(Slice),
    /// The guest has ended, or is stopped: the reason, with a code of the architecture.
    Stop(&'static str, Option<u64>),
}

impl<M: Shared, P: Platform> Vms<M, P> {
    pub(crate) fn handle(&self, id: VmId, vcpu: &mut OwnVcpu<M, P>, exit: GuestExit) -> After {
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
    pub(crate) fn stop(
        &self,
        id: VmId,
        vcpu: &OwnVcpu<M, P>,
        why: &'static str,
        code: Option<u64>,
    ) {
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
