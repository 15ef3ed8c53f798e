//! The parts of the fake machine that the monitor asks for: one CPU, and nothing that can be measured.

use std::fmt;
use std::sync::Arc;

use hotmem::{NodeId, VirtAddr};
use hotmem_lab::monitor::{
    Breach, CpuError, CpuJob, CpuShown, Crash, Did, Hold, Machinery, VmCommand,
};

/// One CPU.
#[derive(Debug)]
pub(crate) struct Parts;

impl Machinery for Parts {
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
        "fake"
    }

    fn peek(&self, _: VirtAddr) -> Option<u64> {
        None
    }

    fn peek_on(&self, _: usize, _: VirtAddr) -> Result<Option<u64>, CpuError> {
        Ok(None)
    }

    fn heap(&self) -> (u64, u64) {
        (0, 0)
    }

    fn try_protection(&self) -> Result<(), Breach> {
        Ok(())
    }

    fn cpus(&self) -> impl Iterator<Item = CpuShown> {
        let (node, did) = (NodeId::ZERO, Did::default());
        let state = "up";
        let (number, hardware, flushes, idle, ticks) = (0, 0, 0, 0, 0);
        std::iter::once(CpuShown { number, hardware, node, state, did, flushes, idle, ticks })
    }

    fn begin_on_others(&self, _: &Arc<CpuJob>) -> Result<(), CpuError> {
        Ok(())
    }

    fn do_here(&self, job: &CpuJob) {
        job(std::thread::yield_now);
    }

    fn do_on(&self, number: usize, job: &Arc<CpuJob>) -> Result<(), CpuError> {
        if number != 0 {
            return Err(CpuError::NotUp(number));
        }
        job(std::thread::yield_now);
        Ok(())
    }

    fn wait_for_others(&self) -> Result<(), CpuError> {
        Ok(())
    }

    fn tick(&self, _: Option<u64>) -> Result<(), CpuError> {
        Err(CpuError::NotUp(0))
    }

    fn start_cpu(&self, hardware: u64) -> Result<usize, CpuError> {
        Err(CpuError::NotStarted(hardware, "the fake machine has one CPU".into()))
    }

    fn vm(&self, command: VmCommand, _: &mut dyn fmt::Write) -> Result<(), String> {
        Err(format!("no guests for {command:?}"))
    }

    fn verify_guests(&self) -> Result<(), String> {
        Ok(())
    }

    fn crash(&self, _: Crash, cpu: usize) -> Result<(), CpuError> {
        Err(CpuError::NotUp(cpu))
    }
}
