//! What a guest asks of its virtual CPUs.

use crate::Shared;
use crate::exits::After;
use crate::id::{VcpuId, VmId};
use crate::platform::Platform;
use crate::program::{Begin, Loaded};
use crate::slice::Slice;
use crate::switch::OwnVcpu;
use crate::vcpus::Power;
use crate::vms::Vms;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hotmem_arch::contract::{CpuReply, CpuRequest, CpuSet, CpuStart};

/// What follows when no virtual CPU of a guest can go on.
const DEADLOCK: After =
    After::Stop("its CPUs wait for one another, and nothing can wake them", None);

impl<M: Shared, P: Platform> Vms<M, P> {
    /// The virtual CPUs of a guest, each with the CPU that it is pinned to.
    pub(crate) fn vcpus(&self, vm: VmId) -> Vec<(VcpuId, usize)> {
        let Some(slot) = self.slot(vm) else { return Vec::new() };
        let life = slot.life.lock();
        let vcpus = life.vcpus.iter().enumerate();
        vcpus.map(|(number, vcpu)| (VcpuId { vm, number }, vcpu.status.cpu)).collect()
    }

    /// Has the CPUs of a guest look at its state, but for that of the virtual CPU `but`.
    pub(crate) fn kick_others(&self, but: VcpuId) {
        let others = self.vcpus(but.vm).into_iter().filter(|(at, _)| *at != but);
        others.for_each(|(_, cpu)| P::kick(cpu));
    }

    /// Has a virtual CPU look at its interrupts and at what was typed: it leaves its guest, or wakes.
    pub(crate) fn wake(&self, at: VcpuId) {
        let Some(slot) = self.slot(at.vm) else { return };
        slot.called.fetch_or(1 << at.number, Ordering::SeqCst);
        let mut life = slot.life.lock();
        let Some(vcpu) = life.vcpus.get_mut(at.number) else { return };
        vcpu.needs_others = false;
        let cpu = vcpu.status.cpu;
        drop(life);
        P::kick(cpu);
    }

    /// Whether a virtual CPU was called since it ran last: it must not sleep.
    pub fn is_woken(&self, at: VcpuId) -> bool {
        let slot = self.slot(at.vm);
        slot.is_some_and(|slot| slot.called.load(Ordering::SeqCst) >> at.number & 1 != 0)
    }

    /// A virtual CPU runs, if it was called or not: what it was called for is answered.
    pub(crate) fn answer(&self, at: VcpuId) {
        let Some(slot) = self.slot(at.vm) else { return };
        if self.is_woken(at) {
            slot.called.fetch_and(!(1 << at.number), Ordering::SeqCst);
        }
        if let Some(vcpu) = slot.life.lock().vcpus.get_mut(at.number) {
            vcpu.needs_others = false;
        }
    }

    /// A virtual CPU waits for another one of its guest: for ever, if all do. One that was called since it ran does not; who
    /// calls it says so before it looks here.
    pub(crate) fn wait_for_cpus(&self, at: VcpuId) -> After {
        let Some(slot) = self.slot(at.vm) else { return After::End(Slice::Idle) };
        let mut life = slot.life.lock();
        if let Some(vcpu) = life.vcpus.get_mut(at.number) {
            vcpu.needs_others = !self.is_woken(at);
        }
        if life.is_deadlocked() { DEADLOCK } else { After::End(Slice::Sleeps(u64::MAX)) }
    }

    /// Whether each virtual CPU of a guest waits for another one.
    fn is_deadlocked(&self, vm: VmId) -> bool {
        self.slot(vm).is_some_and(|slot| slot.life.lock().is_deadlocked())
    }

    /// Calls the virtual CPUs that another one of their guest has called.
    pub(crate) fn wake_all(&self, vm: VmId, called: CpuSet) {
        if !called.is_empty() {
            called.iter().for_each(|number| self.wake(VcpuId { vm, number }));
        }
    }

    /// Carries out a request of the virtual CPU `at`.
    pub(crate) fn cpu_request(
        &self,
        at: VcpuId,
        vcpu: &mut OwnVcpu<M, P>,
        request: CpuRequest,
    ) -> After {
        if request == CpuRequest::Stop && self.begin_stop(at) {
            return if self.is_deadlocked(at.vm) { DEADLOCK } else { After::End(Slice::Off) };
        }
        if let CpuRequest::Reset(cpus) = request
            && let Some(number) = self.first_on(at.vm, cpus)
        {
            return After::Stop("it resets a CPU that runs", Some(number as u64));
        }
        vcpu.reply_to_request(self.reply_of(at.vm, request));
        After::GoOn
    }

    /// The reply to a request of a CPU that stays on.
    pub(crate) fn reply_of(&self, vm: VmId, request: CpuRequest) -> CpuReply {
        match request {
            CpuRequest::Start { cpus, start } => self.start_vcpus(vm, cpus, &start),
            CpuRequest::State(cpus) => self.power_of(vm, cpus),
            CpuRequest::Stop => CpuReply::Denied,
            CpuRequest::Reset(_) => CpuReply::Done,
        }
    }

    /// The first of `cpus` that is not off.
    fn first_on(&self, vm: VmId, cpus: CpuSet) -> Option<usize> {
        let life = self.slot(vm)?.life.lock();
        let power = |number: usize| life.vcpus.get(number).map(|vcpu| vcpu.status.power);
        cpus.iter().find(|number| power(*number).is_some_and(|power| power != Power::Off))
    }

    /// Starts those of `cpus` that are off. Returns the reply for the last one.
    fn start_vcpus(&self, vm: VmId, cpus: CpuSet, start: &CpuStart) -> CpuReply {
        let is_ram = self.host.with_space(vm.number(), |space| space.ram.contains(start.entry));
        if is_ram != Some(true) {
            return CpuReply::BadEntry;
        }
        let started = cpus.iter().map(|number| self.start_vcpu(VcpuId { vm, number }, start));
        started.last().unwrap_or(CpuReply::NoCpu)
    }

    fn start_vcpu(&self, at: VcpuId, start: &CpuStart) -> CpuReply {
        let (Some(slot), Some(place)) = (self.slot(at.vm), self.host.vcpu(at)) else {
            return CpuReply::NoCpu;
        };
        match slot.life.lock().change(at.number, Power::Off, Power::Starting) {
            None => return CpuReply::NoCpu,
            Some(Power::Off) => {}
            Some(power) => return power.reply(),
        }
        // One that is off is in its place.
        if let Some(vcpu) = place.lock().as_mut() {
            let has_board = slot.life.lock().program != Loaded::Payload;
            vcpu.begin(self.mm(), &Begin::Started(*start, has_board));
        }
        let mut life = slot.life.lock();
        life.change(at.number, Power::Starting, Power::On);
        let cpu = life.vcpus.get(at.number).map(|vcpu| vcpu.status.cpu);
        drop(life);
        cpu.into_iter().for_each(P::kick);
        CpuReply::Done
    }

    fn power_of(&self, vm: VmId, cpus: CpuSet) -> CpuReply {
        let Some(slot) = self.slot(vm) else { return CpuReply::NoCpu };
        let life = slot.life.lock();
        let power =
            cpus.iter().last().and_then(|number| Some(life.vcpus.get(number)?.status.power));
        power.map_or(CpuReply::NoCpu, Power::reply)
    }

    /// Has a virtual CPU that is not the last one go off. Returns whether it does.
    fn begin_stop(&self, at: VcpuId) -> bool {
        self.slot(at.vm).is_some_and(|slot| {
            let mut life = slot.life.lock();
            life.has_others_on(at.number)
                && life.change(at.number, Power::On, Power::Stopping) == Some(Power::On)
        })
    }
}
