//! The machine's CPUs and their counters.

use alloc::string::String;
use core::fmt::{self, Write};
use hotmem::NodeId;
use hotmem_hotplug::{JsonString, json_list};

/// The state of a CPU that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuShown {
    /// The kernel's number of the CPU.
    pub number: usize,
    /// The firmware's id of the CPU.
    pub hardware: u64,
    /// The node that it is on.
    pub node: NodeId,
    /// The state of its start.
    pub state: &'static str,
    /// Pages that it allocated, and that it freed.
    pub did: Did,
    /// Flush requests of other CPUs that it acknowledged.
    pub flushes: u64,
    /// Milliseconds that it has slept.
    pub idle: u64,
    /// Interrupts of its timer.
    pub ticks: u64,
}

/// The page counters of a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Did {
    /// Pages that it allocated.
    pub allocated: u64,
    /// Pages that it freed.
    pub freed: u64,
}

/// A job that several CPUs run at the same time. Its argument is one iteration of a loop that waits for another CPU.
pub type CpuJob = dyn Fn(fn()) -> Did + Send + Sync;

/// The reason why a CPU did not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuError {
    /// It did not do its job, for this reason.
    NotDone(usize, &'static str),
    /// No CPU with this number is up.
    NotUp(usize),
    /// It did not start, for this reason.
    NotStarted(u64, String),
}

impl fmt::Display for CpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDone(number, why) => write!(f, "CPU {number} {why}"),
            Self::NotUp(number) => write!(f, "CPU {number} is not up"),
            Self::NotStarted(hardware, why) => write!(f, "CPU {hardware:#x}: {why}"),
        }
    }
}

/// The CPUs as one line of JSON: a list.
pub(super) fn json(cpus: impl Iterator<Item = CpuShown>, out: &mut dyn Write) -> fmt::Result {
    json_list(out, cpus, |cpu, out| {
        let CpuShown { number, hardware, node, state, did, flushes, idle, ticks } = cpu;
        write!(
            out,
            "{{\"number\":{number},\"hardware\":{hardware},\"node\":{},\"state\":{},\
             \"allocated\":{},\"freed\":{},\"flushes\":{flushes},\"idle_ms\":{idle},\"ticks\":{ticks}}}",
            node.get(),
            JsonString(state),
            did.allocated,
            did.freed,
        )
    })?;
    writeln!(out)
}

/// The CPUs, as text.
pub(super) fn text(cpus: impl Iterator<Item = CpuShown>, out: &mut dyn Write) -> fmt::Result {
    writeln!(
        out,
        "{:>3}  {:<10} {:>4} {:<8} {:>10} {:>10} {:>8} {:>10} {:>8}",
        "cpu", "hardware", "node", "state", "allocated", "freed", "flushes", "idle", "ticks"
    )?;
    for CpuShown { number, hardware, node, state, did, flushes, idle, ticks } in cpus {
        writeln!(
            out,
            "{number:>3}  {hardware:<#10x} {:>4} {state:<8} {:>10} {:>10} {flushes:>8} {idle:>7} ms {ticks:>8}",
            node.get(),
            did.allocated,
            did.freed
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: CpuShown = CpuShown {
        number: 1,
        hardware: 0x81,
        node: NodeId::ZERO,
        state: "up",
        did: Did { allocated: 5, freed: 4 },
        flushes: 3,
        idle: 2,
        ticks: 9,
    };

    #[test]
    fn a_cpu_is_shown_with_its_counters() {
        let mut shown = String::new();
        json([SHOWN, SHOWN].into_iter(), &mut shown).unwrap();
        let one = "{\"number\":1,\"hardware\":129,\"node\":0,\"state\":\"up\",\"allocated\":5,\"freed\":4,\
                   \"flushes\":3,\"idle_ms\":2,\"ticks\":9}";
        assert_eq!(shown, format!("[{one},{one}]\n"));
        let mut shown = String::new();
        json(core::iter::empty(), &mut shown).unwrap();
        assert_eq!(shown, "[]\n");
        let mut shown = String::new();
        text([SHOWN].into_iter(), &mut shown).unwrap();
        let line =
            "  1  0x81          0 up                5          4        3       2 ms        9";
        assert_eq!(shown.lines().nth(1), Some(line));
    }
}
