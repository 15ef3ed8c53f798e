//! The machine that the monitor runs on in its tests.

// UNSAFETY: vouches for the memory that the source announces.
#![expect(unsafe_code)]

use super::super::{Breach, CpuError, CpuJob, CpuShown, Crash, Did, Hold, Machinery, VmCommand};
use core::convert::Infallible;
use core::fmt;
use hotmem::{NodeId, PhysRange, VirtAddr};
use hotmem_hotplug::{Clock, DeviceId, Event, HotplugSource, Outcome, Ranges, Request};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Announces memory once; ejects nothing.
pub(super) struct Plug(pub(super) Vec<PhysRange>);

// SAFETY: the ranges are those of fake DIMMs.
unsafe impl HotplugSource for Plug {
    type Error = Infallible;

    fn next_event(&mut self) -> Option<Event<Infallible>> {
        let mut ranges = Ranges::default();
        ranges.push(self.0.pop()?).unwrap();
        let request = Request::Insert { ranges, node: NodeId::default() };
        Some(Event { device: DeviceId::new(self.0.len() as u16), request, since: None })
    }

    fn has_work(&self) -> bool {
        !self.0.is_empty()
    }

    fn reply(&mut self, _: DeviceId, _: Outcome) -> Result<Option<u32>, Infallible> {
        Ok(Some(0))
    }

    fn eject(&mut self, _: DeviceId) -> Result<(), Infallible> {
        Ok(())
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        device.number()
    }
}

/// A machine without counters and memory contents. The field is whether it protects its kernel. Its second CPU is
/// a thread.
pub(super) struct Blank(pub(super) bool, pub(super) Other);

/// The job of the second CPU.
pub(super) type Other = Rc<RefCell<Option<JoinHandle<Did>>>>;

fn check_did(did: Did) {
    assert!(did.allocated != 0 && did.freed == did.allocated, "{did:?}");
}

impl Clock for Blank {
    fn instructions(&self) -> Option<u64> {
        None
    }
}

impl Machinery for Blank {
    fn instructions(&self) -> Option<u64> {
        None
    }

    fn holds(&self) -> Option<Vec<Hold>> {
        None
    }

    fn age(&self, stamp: u64) -> u64 {
        stamp
    }

    fn mode(&self) -> impl fmt::Display {
        "a \"fake\" CPU"
    }

    fn peek(&self, _: VirtAddr) -> Option<u64> {
        None
    }

    fn peek_on(&self, number: usize, at: VirtAddr) -> Result<Option<u64>, CpuError> {
        if number == 0 { Ok(self.peek(at)) } else { Err(CpuError::NotUp(number)) }
    }

    fn heap(&self) -> (u64, u64) {
        (1, 2)
    }

    fn cpus(&self) -> impl Iterator<Item = CpuShown> {
        let cpu = |number| CpuShown {
            number,
            hardware: 1,
            node: NodeId::ZERO,
            state: "up",
            did: Did::default(),
            flushes: 0,
            idle: 0,
            ticks: 0,
        };
        (0..2).map(cpu)
    }

    fn begin_on_others(&self, job: &Arc<CpuJob>) -> Result<(), CpuError> {
        let job = Arc::clone(job);
        let other = std::thread::spawn(move || job(std::thread::yield_now));
        assert!(self.1.replace(Some(other)).is_none(), "the other CPU has a job");
        Ok(())
    }

    fn do_here(&self, job: &CpuJob) {
        check_did(job(std::thread::yield_now));
    }

    fn do_on(&self, number: usize, job: &Arc<CpuJob>) -> Result<(), CpuError> {
        let done = job(std::thread::yield_now);
        if number == 0 && done.freed == 0 { Ok(()) } else { Err(CpuError::NotUp(number)) }
    }

    fn wait_for_others(&self) -> Result<(), CpuError> {
        check_did(self.1.take().unwrap().join().unwrap());
        Ok(())
    }

    fn tick(&self, _hertz: Option<u64>) -> Result<(), CpuError> {
        Err(CpuError::NotDone(1, "has another job"))
    }

    fn start_cpu(&self, hardware: u64) -> Result<usize, CpuError> {
        Err(CpuError::NotStarted(hardware, "there is none".into()))
    }

    fn vm(&self, command: VmCommand, _out: &mut dyn fmt::Write) -> Result<(), String> {
        Err(format!("no guests for {command:?}"))
    }

    fn verify_guests(&self) -> Result<(), String> {
        Ok(())
    }

    fn crash(&self, _crash: Crash, cpu: usize) -> Result<(), CpuError> {
        Err(CpuError::NotUp(cpu))
    }

    fn try_protection(&self) -> Result<(), Breach> {
        if self.0 { Ok(()) } else { Err(Breach::Written(VirtAddr::new(0x1000))) }
    }
}
