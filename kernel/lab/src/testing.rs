//! A machine for the monitor of a fake machine: what it asks for beside the memory manager.

use crate::monitor::{Breach, CpuError, CpuJob, CpuShown, Crash, Did, Hold, Machinery, VmCommand};
use core::fmt;
use hotmem::{NodeId, VirtAddr};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A machine without counters, guests and memory contents. Its second CPU is a thread, which clones share.
#[derive(Clone, Debug)]
pub struct Blank {
    /// Whether it protects its kernel.
    pub protects: bool,
    /// The job of the second CPU.
    other: Rc<RefCell<Option<JoinHandle<Did>>>>,
}

impl Default for Blank {
    fn default() -> Self {
        Self { protects: true, other: Rc::default() }
    }
}

fn check_did(did: Did) {
    assert!(did.allocated != 0 && did.freed == did.allocated, "{did:?}");
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
        assert!(self.other.replace(Some(other)).is_none(), "the other CPU has a job");
        Ok(())
    }

    fn first_sleeps() -> bool {
        true
    }

    fn do_here(&self, job: &CpuJob) {
        check_did(job(std::thread::yield_now));
    }

    fn do_on(&self, number: usize, job: &Arc<CpuJob>) -> Result<(), CpuError> {
        let done = job(std::thread::yield_now);
        if number == 0 && done.freed == 0 { Ok(()) } else { Err(CpuError::NotUp(number)) }
    }

    fn wait_for_others(&self) -> Result<(), CpuError> {
        let did = self.other.take().and_then(|other| other.join().ok());
        did.map(check_did).ok_or(CpuError::NotDone(1, "has no job, or panicked"))
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
        if self.protects { Ok(()) } else { Err(Breach::Written(VirtAddr::new(0x1000))) }
    }
}
