//! Handles the exits of guests.

use crate::Shared;
use crate::figures::Report;
use crate::id::VcpuId;
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
    pub(crate) fn handle(&self, at: VcpuId, vcpu: &mut OwnVcpu<M, P>, exit: GuestExit) -> After {
        match exit {
            GuestExit::Interrupt => {
                self.count(at, Was::Interrupted);
                After::End(Slice::More)
            }
            GuestExit::Fault { at: to, access } => self.fault(at, to, access),
            GuestExit::Call(call) => self.call(at, vcpu, call),
            GuestExit::Wait if self.count(at, Was::Waiting) < MOST_IDLE => After::GoOn,
            GuestExit::Wait => After::Stop("it waits for interrupts, which never come", None),
            GuestExit::WaitUntil(until) => {
                self.count(at, Was::Busy);
                if P::timestamp() < until { After::End(Slice::Sleeps(until)) } else { After::GoOn }
            }
            GuestExit::WaitForCpus => {
                self.count(at, Was::Busy);
                self.wait_for_cpus(at)
            }
            GuestExit::Emulated => {
                self.count(at, Was::Busy);
                After::GoOn
            }
            GuestExit::Console(byte) => {
                self.count(at, Was::Busy);
                if let Some(slot) = self.slot(at.vm) {
                    slot.console.lock().push(byte);
                }
                After::GoOn
            }
            GuestExit::Cpus(request) => {
                self.count(at, Was::Busy);
                self.cpu_request(at, vcpu, request)
            }
            GuestExit::Off => {
                self.count(at, Was::Busy);
                self.turn_off(at);
                After::End(Slice::Idle)
            }
            GuestExit::Stopped(why, code) => After::Stop(why, Some(code)),
        }
    }

    /// Counts an exit. Returns how many there were in a row in which the virtual CPU did nothing.
    fn count(&self, at: VcpuId, was: Was) -> u64 {
        let Some(slot) = self.slot(at.vm) else { return 0 };
        let mut life = slot.life.lock();
        let Some(vcpu) = life.vcpus.get_mut(at.number) else { return 0 };
        vcpu.status.figures.exits += 1;
        let waited = core::mem::replace(&mut vcpu.waits, was == Was::Waiting);
        vcpu.idle = match was {
            Was::Idle | Was::Waiting => vcpu.idle + 1,
            Was::Interrupted if waited => vcpu.idle,
            Was::Interrupted | Was::Busy => 0,
        };
        vcpu.idle
    }

    fn fault(&self, at: VcpuId, to: GuestAddr, access: Access) -> After {
        let found = self.host.with_space(at.vm.number(), |space| space.find(to));
        match found.unwrap_or(Found::Nothing) {
            Found::Memory if self.count(at, Was::Idle) < MOST_IDLE => After::GoOn,
            Found::Memory => After::Stop("it faults at memory that it has", Some(to.get())),
            Found::Moving => {
                self.count(at, Was::Busy);
                if let Some(slot) = self.slot(at.vm)
                    && let Some(vcpu) = slot.life.lock().vcpus.get_mut(at.number)
                {
                    vcpu.status.figures.waits += 1;
                }
                After::End(Slice::Waits)
            }
            Found::Nothing => {
                let why = match access {
                    Access::Read => "it read where it has no memory",
                    Access::Write => "it wrote where it has no memory",
                    Access::Fetch => "it ran code where it has no memory",
                };
                After::Stop(why, Some(to.get()))
            }
        }
    }

    fn call(&self, at: VcpuId, vcpu: &mut OwnVcpu<M, P>, call: GuestCall) -> After {
        self.count(at, Was::Busy);
        let Some(slot) = self.slot(at.vm) else { return After::End(Slice::Idle) };
        let mut life = slot.life.lock();
        let last_round = life.last_round;
        let Some(own) = life.vcpus.get_mut(at.number) else { return After::End(Slice::Idle) };
        let figures = &mut own.status.figures;
        match figures.take(call, &vcpu.stops) {
            Report::Round if figures.rounds != last_round => {
                drop(life);
                vcpu.reply(0);
                After::GoOn
            }
            Report::Round | Report::Done => {
                let has_ended = life.end(at.number);
                drop(life);
                if has_ended {
                    self.kick_others(at);
                }
                After::End(Slice::Off)
            }
            Report::Alone(error) => After::Stop("it could not start its CPUs", Some(error)),
            Report::Unknown => After::Stop("its call is unknown", Some(call.number)),
        }
    }

    /// A guest has turned its machine off, unless it was paused or killed meanwhile.
    fn turn_off(&self, at: VcpuId) {
        let Some(slot) = self.slot(at.vm) else { return };
        let mut life = slot.life.lock();
        if life.state == State::Runs {
            life.state = State::Done;
            drop(life);
            self.kick_others(at);
        }
    }

    /// Stops a guest for good, by what its virtual CPU `at` did; the registers of that go to the log.
    pub(crate) fn stop(
        &self,
        at: VcpuId,
        vcpu: &OwnVcpu<M, P>,
        why: &'static str,
        code: Option<u64>,
    ) {
        let Some(slot) = self.slot(at.vm) else { return };
        let mut text = String::from(why);
        // Writing to a string does not fail.
        if let Some(code) = code {
            let _ = write!(text, " ({code:#x})");
        }
        let mut life = slot.life.lock();
        let name = life.name;
        if life.vcpus.len() > 1 {
            let _ = write!(text, ", on its CPU {}", at.number);
        }
        if let Some(registers) = vcpu.registers() {
            let _ = write!(text, "\n  {registers}");
        }
        life.state = State::Stopped;
        life.log.clone_from(&text);
        drop(life);
        self.kick_others(at);
        if let Some(name) = name {
            log::warn!("guest {name} is stopped: {text}");
        }
    }
}
