//! Dropping translations on every CPU, where the hardware does not do that by itself.
//!
//! ```text
//!   asks                                    is asked
//!   range, round + 1, calls  ------------>  interrupt: reads the round, drops the range,
//!   waits, with a bound      <------------  answers with the round
//! ```
//!
//! One CPU asks at a time. One that waits, for its turn or for answers, answers meanwhile; so it may have its interrupts
//! off. It may hold no lock that another CPU waits for with interrupts off, but for those that are taken here.
//!
//! A CPU that comes up is asked from when it is [`Up`](super::table::State::Up), and then drops all it cached: who
//! asked before has cleared its entries before.

use super::{caller, table};
use crate::lock::Mutex;
use crate::memory::layout::CPUS;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use hotmem::VirtRange;
use hotmem::addr::VirtAddr;
use hotmem_arch::current::cpu;
use hotmem_arch::irq::Call;

/// Seconds that a CPU may take to answer: it takes microseconds, on a host with other work tenths of a second.
const PATIENCE: u64 = 10;

/// Rounds of asking all CPUs.
#[derive(Debug)]
pub(crate) struct Rounds {
    turn: Mutex<()>,
    /// How many were begun. What the range is, is stored before.
    round: AtomicU64,
    start: AtomicU64,
    len: AtomicU64,
    /// The last round that each CPU answered.
    answered: [AtomicU64; CPUS],
}

/// A CPU does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silent(pub(crate) usize);

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU {} does not drop its translations within {PATIENCE} s", self.0)
    }
}

impl Rounds {
    pub(crate) const fn new() -> Self {
        Self {
            turn: Mutex::new(()),
            round: AtomicU64::new(0),
            start: AtomicU64::new(0),
            len: AtomicU64::new(0),
            answered: [const { AtomicU64::new(0) }; CPUS],
        }
    }

    /// Has `drop_range` drop what the CPU `own` is asked to, and answers; returns whether it was asked.
    pub(crate) fn answer(&self, own: usize, drop_range: impl FnOnce(VirtRange)) -> bool {
        // Acquire: partner of the Release in `ask`, behind which the range is this round's.
        let round = self.round.load(Ordering::Acquire);
        let Some(answered) = self.answered.get(own) else { return false };
        if answered.load(Ordering::Relaxed) == round {
            return false;
        }
        let start = VirtAddr::new(self.start.load(Ordering::Relaxed));
        drop_range(VirtRange::new(start, self.len.load(Ordering::Relaxed)).unwrap_or_default());
        // Release: partner of the Acquire of who waits, behind which the translations are gone.
        answered.store(round, Ordering::Release);
        true
    }

    /// Asks each of `others` to drop `range`, by `call`, and waits for their answers. `own` is the CPU that asks, which
    /// answers others by `drop_own` as long as it waits for its turn; `expired` says that it waited long enough.
    ///
    /// # Errors
    ///
    /// [`Silent`] with a CPU that did not answer.
    pub(crate) fn ask(
        &self,
        range: VirtRange,
        own: usize,
        others: impl Iterator<Item = usize> + Clone,
        call: impl Fn(usize),
        drop_own: impl Fn(VirtRange),
        mut expired: impl FnMut() -> bool,
    ) -> Result<(), Silent> {
        let turn = loop {
            if let Some(turn) = self.turn.try_lock() {
                break turn;
            }
            self.answer(own, &drop_own);
            if expired() {
                return Err(Silent(own));
            }
            cpu::relax();
        };
        self.start.store(range.start().get(), Ordering::Relaxed);
        self.len.store(range.len(), Ordering::Relaxed);
        let round = self.round.fetch_add(1, Ordering::AcqRel) + 1;
        // The own share is done, and no other round is asked before this one has ended.
        if let Some(answered) = self.answered.get(own) {
            answered.store(round, Ordering::Relaxed);
        }
        others.clone().for_each(call);
        for other in others {
            let Some(answered) = self.answered.get(other) else { continue };
            while answered.load(Ordering::Acquire) < round {
                if expired() {
                    return Err(Silent(other));
                }
                cpu::relax();
            }
        }
        drop(turn);
        Ok(())
    }
}

static ROUNDS: Rounds = Rounds::new();

/// Drops what this CPU is asked to drop, if it is.
pub(crate) fn answer(drop_range: impl FnOnce(VirtRange)) {
    let own = table::own();
    if ROUNDS.answer(own.number(), drop_range) {
        own.flushes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Has every other CPU drop what it cached of `range`; this one has done so, and does the same for others by `drop_own`.
///
/// # Errors
///
/// [`Silent`] with a CPU that does not answer: it may go on to use what should be gone.
#[inline]
pub(crate) fn ask_others(range: VirtRange, drop_own: impl Fn(VirtRange)) -> Result<(), Silent> {
    // The entries were cleared before this looks who is up: the own drop, a serializing instruction, is between. Who
    // comes up drops what it cached after it is up. So either it is seen here, or it saw the cleared entries.
    if !table::has_others() { Ok(()) } else { ask_all(range, drop_own) }
}

#[cold]
fn ask_all(range: VirtRange, drop_own: impl Fn(VirtRange)) -> Result<(), Silent> {
    let others = table::others();
    let numbers = others.map(table::Entry::number).fold(0_u64, |set, number| set | 1 << number);
    let others = (0..CPUS).filter(move |number| numbers >> number & 1 != 0);
    let begun = cpu::timestamp();
    let ticks = cpu::timestamp_hertz().saturating_mul(PATIENCE);
    let expired = || cpu::timestamp().wrapping_sub(begun) > ticks;
    let call_one = |number| {
        if let Some(entry) = table::get(number) {
            caller::call(entry, Call::Attend);
        }
    };
    ROUNDS.ask(range, cpu::number(), others, call_one, drop_own, expired)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, Mutex as HostMutex};
    use std::thread;

    fn range(start: u64) -> VirtRange {
        VirtRange::new(VirtAddr::new(start << 12), 0x1000).unwrap()
    }

    #[test]
    fn each_other_cpu_drops_each_range_before_the_asking_ends() {
        let rounds = Arc::new(Rounds::new());
        let dropped: Arc<[HostMutex<Vec<VirtRange>>; 3]> = Arc::default();
        let done = Arc::new(AtomicBool::new(false));
        let cpus: Vec<_> = (1..=3)
            .map(|own| {
                let (rounds, dropped, done) = (rounds.clone(), dropped.clone(), done.clone());
                thread::spawn(move || {
                    while !done.load(Ordering::Acquire) {
                        let note = |range| dropped[own - 1].lock().unwrap().push(range);
                        if !rounds.answer(own, note) {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        for number in 1..=500 {
            rounds.ask(range(number), 0, 1..=3, |_| {}, |_| {}, || false).unwrap();
            for one in dropped.iter() {
                assert_eq!(one.lock().unwrap().last(), Some(&range(number)));
            }
        }
        done.store(true, Ordering::Release);
        cpus.into_iter().for_each(|cpu| cpu.join().unwrap());
        assert!(dropped.iter().all(|one| one.lock().unwrap().len() == 500));
    }

    #[test]
    fn cpus_that_ask_each_other_at_once_all_get_their_answers() {
        let rounds = Arc::new(Rounds::new());
        let finished = Arc::new(AtomicU64::new(0));
        let cpus: Vec<_> = (0..3)
            .map(|own: usize| {
                let (rounds, finished) = (rounds.clone(), finished.clone());
                thread::spawn(move || {
                    // No interrupt comes: each answers while it waits, and when it is done.
                    let others = (0..3).filter(move |&other| other != own);
                    for number in 0..200 {
                        let answer = |_: VirtRange| {};
                        rounds
                            .ask(range(number), own, others.clone(), |_| {}, answer, || false)
                            .unwrap();
                        thread::yield_now();
                        rounds.answer(own, |_| {});
                    }
                    finished.fetch_add(1, Ordering::AcqRel);
                    while finished.load(Ordering::Acquire) < 3 {
                        rounds.answer(own, |_| {});
                        thread::yield_now();
                    }
                })
            })
            .collect();
        cpus.into_iter().for_each(|cpu| cpu.join().unwrap());
    }

    #[test]
    fn a_cpu_that_does_not_answer_is_named_when_the_wait_ends() {
        let rounds = Rounds::new();
        let mut looks = 0;
        let expired = || {
            looks += 1;
            looks > 10
        };
        let called = core::cell::Cell::new(0);
        let call = |number| called.set(called.get() | 1 << number);
        let silent = rounds.ask(range(1), 0, [1, 2].into_iter(), call, |_| {}, expired);
        assert_eq!((silent, called.get()), (Err(Silent(1)), 0b110));
        let message = "CPU 1 does not drop its translations within 10 s";
        assert_eq!(Silent(1).to_string(), message);
    }
}
