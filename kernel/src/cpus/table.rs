//! The state of each CPU, by its number.

use crate::memory::layout::CPUS;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use hotmem::NodeId;
use hotmem_arch::current::cpu::{self, CpuArea};

/// The state of a CPU's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// No CPU has this number.
    Absent,
    /// It was started, did not come in time, and may still come: its number is kept for it.
    Missing,
    /// It was started.
    Starting,
    /// It runs, but does not take its own traps yet.
    Arriving,
    /// It runs jobs and idles.
    Up,
    /// It has stopped, at another CPU's request.
    Stopped,
}

impl State {
    const ALL: [Self; 6] =
        [Self::Absent, Self::Missing, Self::Starting, Self::Arriving, Self::Up, Self::Stopped];

    /// Its name.
    #[cfg_attr(not(feature = "lab"), expect(dead_code, reason = "only the lab prints it"))]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Missing => "missing",
            Self::Starting => "starting",
            Self::Arriving => "arriving",
            Self::Up => "up",
            Self::Stopped => "stopped",
        }
    }
}

/// The NMIs of a CPU that are not logged yet.
#[derive(Debug)]
pub(crate) struct Nmis {
    count: AtomicU64,
    /// The instruction that the last one interrupted.
    at: AtomicU64,
}

impl Nmis {
    const fn none() -> Self {
        Self { count: AtomicU64::new(0), at: AtomicU64::new(0) }
    }

    /// Counts one that interrupted `instruction`.
    pub(crate) fn note(&self, instruction: u64) {
        self.at.store(instruction, Ordering::Relaxed);
        // Release: who sees the count sees the instruction.
        self.count.fetch_add(1, Ordering::Release);
    }

    /// How many there are, and the instruction that the last one interrupted; from now on there are none.
    pub(crate) fn take(&self) -> Option<(u64, u64)> {
        let count = self.count.swap(0, Ordering::Acquire);
        (count != 0).then(|| (count, self.at.load(Ordering::Relaxed)))
    }
}

/// A CPU.
#[derive(Debug)]
#[repr(align(128))]
#[cfg_attr(not(feature = "lab"), expect(dead_code, reason = "only the lab prints the counts"))]
pub(crate) struct Entry {
    pub(crate) area: CpuArea,
    /// The firmware's id of the CPU.
    hardware: AtomicU64,
    /// The number of its node.
    node: AtomicU32,
    state: AtomicU8,
    /// Pages that its jobs allocated.
    pub(crate) allocated: AtomicU64,
    /// Pages that its jobs freed.
    pub(crate) freed: AtomicU64,
    /// Flush requests of other CPUs that it acknowledged.
    pub(crate) flushes: AtomicU64,
    /// Ticks of the clock that it has slept.
    pub(crate) idle: AtomicU64,
    /// Whether it has decided to sleep, with interrupts off: only an interrupt ends that.
    pub(crate) sleeps: AtomicBool,
    /// Interrupts of its timer.
    pub(crate) ticks: AtomicU64,
    /// Whether it handles a trap. Only the CPU itself changes it.
    pub(crate) handles: AtomicBool,
    pub(crate) nmi: Nmis,
}

/// All CPUs; the first is the one that boots.
static TABLE: [Entry; CPUS] = {
    let mut table = [const { Entry::new(0) }; CPUS];
    let mut number = 0;
    while number < CPUS {
        table[number] = Entry::new(number);
        number += 1;
    }
    table
};

/// A bit for each CPU that is up.
static UP: AtomicU64 = AtomicU64::new(1);

const _: () = assert!(CPUS <= 64);

impl Entry {
    pub(super) const fn new(number: usize) -> Self {
        Self {
            area: CpuArea::new(number),
            hardware: AtomicU64::new(0),
            node: AtomicU32::new(0),
            state: AtomicU8::new(State::Absent as u8),
            allocated: AtomicU64::new(0),
            freed: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            sleeps: AtomicBool::new(false),
            ticks: AtomicU64::new(0),
            handles: AtomicBool::new(false),
            nmi: Nmis::none(),
        }
    }

    /// Its number.
    pub(crate) fn number(&self) -> usize {
        self.area.number()
    }

    /// The firmware's id of the CPU.
    pub(crate) fn hardware(&self) -> u64 {
        self.hardware.load(Ordering::Relaxed)
    }

    /// The node that the CPU is on.
    #[inline]
    pub(crate) fn node(&self) -> NodeId {
        NodeId::new(self.node.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Sets the firmware's id of the CPU, and its node.
    pub(crate) fn identify(&self, hardware: u64, node: NodeId) {
        self.hardware.store(hardware, Ordering::Relaxed);
        self.node.store(node.get(), Ordering::Relaxed);
    }

    /// The state of its start.
    pub(crate) fn state(&self) -> State {
        let raw = self.state.load(Ordering::SeqCst);
        State::ALL.into_iter().find(|&state| state as u8 == raw).unwrap_or(State::Absent)
    }

    /// Sets the state. In [`State::Up`] the CPU is among [`others`].
    pub(crate) fn set(&self, state: State) {
        self.state.store(state as u8, Ordering::SeqCst);
        let bit = 1 << self.number();
        if state == State::Up {
            UP.fetch_or(bit, Ordering::SeqCst);
        } else {
            UP.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// Changes the state from `from` to `to`, unless it is another one; the CPU and its starter may both try.
    pub(crate) fn advance(&self, from: State, to: State) -> bool {
        let order = Ordering::SeqCst;
        self.state.compare_exchange(from as u8, to as u8, order, order).is_ok()
    }
}

/// Makes the CPU that runs this the first CPU.
pub(crate) fn enter_first() {
    let [first, ..] = &TABLE;
    cpu::enter(&first.area);
    first.set(State::Up);
}

/// The CPU that runs this.
pub(crate) fn own() -> &'static Entry {
    let [first, ..] = &TABLE;
    TABLE.get(cpu::number()).unwrap_or(first)
}

/// The CPU with this number, if there is one.
pub(crate) fn get(number: usize) -> Option<&'static Entry> {
    TABLE.get(number).filter(|entry| entry.state() != State::Absent)
}

/// The node of the CPU with this number.
#[inline]
pub(crate) fn node_of(number: usize) -> NodeId {
    TABLE.get(number).map_or(NodeId::ZERO, Entry::node)
}

/// Whether the CPU with this number has come, and therefore has stacks.
pub(crate) fn has_stacks(number: usize) -> bool {
    use State::{Arriving, Stopped, Up};
    TABLE.get(number).is_some_and(|entry| matches!(entry.state(), Arriving | Up | Stopped))
}

/// Every CPU that exists, or that may still come.
pub(crate) fn all() -> impl Iterator<Item = &'static Entry> {
    TABLE.iter().filter(|entry| entry.state() != State::Absent)
}

/// Whether CPUs other than the one that runs this are up.
#[inline]
pub(crate) fn has_others() -> bool {
    UP.load(Ordering::SeqCst) & !(1 << cpu::number()) != 0
}

/// The CPUs that are up, except the one that runs this.
pub(crate) fn others() -> impl Iterator<Item = &'static Entry> {
    let up = UP.load(Ordering::SeqCst) & !(1 << cpu::number());
    TABLE.iter().filter(move |entry| up >> entry.number() & 1 != 0)
}

/// The reason why a CPU gets no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoEntry {
    /// It has come already, and has this number.
    Came(usize),
    /// Others have all of so many entries.
    Full(usize),
}

impl fmt::Display for NoEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Came(number) => write!(f, "it runs already, as CPU {number}"),
            Self::Full(entries) => write!(f, "there is room for {entries} CPUs only"),
        }
    }
}

/// An entry for the CPU with the firmware id `hardware` on `node`, which is not running: its old entry, or a free one.
///
/// # Errors
///
/// [`NoEntry`]
pub(crate) fn claim(hardware: u64, node: NodeId) -> Result<&'static Entry, NoEntry> {
    claim_in(&TABLE, hardware, node)
}

fn claim_in(table: &[Entry], hardware: u64, node: NodeId) -> Result<&Entry, NoEntry> {
    let of =
        |absent: bool| table.iter().filter(move |entry| (entry.state() == State::Absent) == absent);
    let entry = match of(false).find(|entry| entry.hardware() == hardware) {
        Some(known) if known.state() == State::Missing => known,
        Some(known) => return Err(NoEntry::Came(known.number())),
        None => of(true).next().ok_or(NoEntry::Full(table.len()))?,
    };
    entry.identify(hardware, node);
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_cpu_gets_its_old_entry_or_a_free_one_unless_it_has_come() {
        let table = [Entry::new(9), Entry::new(10), Entry::new(11)];
        let claim = |hardware| claim_in(&table, hardware, NodeId::ZERO).map(Entry::number);
        for (entry, state) in table.iter().zip([State::Stopped, State::Missing, State::Absent]) {
            entry.identify(entry.number() as u64, NodeId::ZERO);
            entry.set(state);
        }
        assert_eq!((claim(9), claim(10), claim(77)), (Err(NoEntry::Came(9)), Ok(10), Ok(11)));
        assert_eq!(table[2].hardware(), 77);
        table[2].set(State::Arriving);
        assert_eq!((claim(77), claim(78)), (Err(NoEntry::Came(11)), Err(NoEntry::Full(3))));
        assert_eq!(NoEntry::Came(11).to_string(), "it runs already, as CPU 11");
        assert_eq!(NoEntry::Full(3).to_string(), "there is room for 3 CPUs only");
    }
}
