//! The state of each CPU, by its number.

use crate::memory::layout::CPUS;
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
    /// Interrupts of its timer.
    pub(crate) ticks: AtomicU64,
    /// Whether it handles a trap. Only the CPU itself changes it.
    pub(crate) handles: AtomicBool,
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
            ticks: AtomicU64::new(0),
            handles: AtomicBool::new(false),
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

/// An entry for the CPU with the firmware id `hardware` on `node`, which is not running: its old entry, or a free one.
/// `None` if the CPU has come already, or there is no room.
pub(crate) fn claim(hardware: u64, node: NodeId) -> Option<&'static Entry> {
    let known = all().find(|entry| entry.hardware() == hardware);
    let entry = match known {
        Some(known) => Some(known).filter(|entry| entry.state() == State::Missing),
        None => TABLE.iter().find(|entry| entry.state() == State::Absent),
    };
    entry.inspect(|entry| entry.identify(hardware, node))
}
