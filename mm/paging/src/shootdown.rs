//! TLB shoot-down: one CPU has all others drop translations, and waits until each says that it did.
//!
//! ```text
//!   requester   turn taken -> ranges -> number n + 1 -> flushes itself -> interrupts -> waits for answers -> turn free
//!   each CPU                                 \-> serve: flushes the ranges, answers n + 1 --/
//! ```
//!
//! There is one request at a time. A CPU that waits for the turn serves what others ask meanwhile, so two CPUs that
//! flush at once with interrupts off do not wait for each other for good. Every wait is bounded.
//!
//! A CPU that missed a request drops everything when it serves the next, and while one is behind, requests are for
//! everything. So its answer is true of all requests up to that number. An interrupt handler may serve while the CPU serves: the ranges
//! may change under the outer one then, which flushes too much, after the inner one has flushed what was asked.
//!
//! Architecture and interrupts are the kernel's: it gives the function that flushes one CPU, the one that
//! interrupts others, and calls [`serve`](Shootdown::serve) in the handler and wherever it waits with interrupts off.

use crate::NotFlushed;
use crate::addr::{Address, AddressRange, Space, Virtual};
use crate::sync::{AtomicU64, AtomicUsize, Ordering, fence};

use core::marker::PhantomData;

/// Ranges that a request tells apart; one with more is for everything.
pub const RANGES: usize = 4;

/// The CPUs of one machine that use one set of page tables, at most `CPUS`, and what they ask of each other.
#[derive(Debug)]
pub struct Shootdown<const CPUS: usize, I: Space = Virtual> {
    /// Who has the turn to ask, plus one; or 0.
    turn: AtomicUsize,
    /// Requests so far.
    number: AtomicU64,
    /// How many ranges the last one has, or [`EVERYTHING`]; their starts and lengths.
    count: AtomicUsize,
    ranges: [[AtomicU64; 2]; RANGES],
    /// For each CPU, the number of the last request that it served, plus one; 0 while it takes no part.
    served: [AtomicU64; CPUS],
    space: PhantomData<fn() -> I>,
}

const EVERYTHING: usize = usize::MAX;

/// What the CPU that calls gives to a request and to the serving of one.
pub trait Local<I: Space = Virtual> {
    /// Drops what this CPU has cached for `ranges`; all of it for `None`.
    fn flush(&self, ranges: Option<&[AddressRange<I>]>);

    /// Interrupts `cpu`, so that it calls [`Shootdown::serve`].
    fn interrupt(&self, cpu: usize);

    /// One turn of a wait: `pause`, `yield`, or lower priority.
    fn relax(&self);
}

impl<const CPUS: usize, I: Space> Shootdown<CPUS, I> {
    /// No CPU takes part yet.
    #[cfg(not(loom))]
    #[expect(clippy::new_without_default, reason = "a static is made of it")]
    pub const fn new() -> Self {
        Self {
            turn: AtomicUsize::new(0),
            number: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            ranges: [const { [AtomicU64::new(0), AtomicU64::new(0)] }; RANGES],
            served: [const { AtomicU64::new(0) }; CPUS],
            space: PhantomData,
        }
    }

    /// The same of loom's atomics, which no constant holds.
    #[cfg(loom)]
    pub fn new() -> Self {
        use core::array::from_fn;
        Self {
            turn: AtomicUsize::new(0),
            number: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            ranges: from_fn(|_| from_fn(|_| AtomicU64::new(0))),
            served: from_fn(|_| AtomicU64::new(0)),
            space: PhantomData,
        }
    }

    /// `cpu`, which calls this, takes part: from now on requests wait for it. Before it uses the tables.
    ///
    /// # Panics
    ///
    /// If `cpu` is not below `CPUS`.
    pub fn join(&self, cpu: usize, local: &impl Local<I>) {
        self.served[cpu].store(1, Ordering::Relaxed);
        // Partner of the fence in `request`: either the requester sees that it has to wait for this CPU, or this CPU sees
        // its number, and so flushes after what it cleared.
        fence(Ordering::SeqCst);
        let number = self.number.load(Ordering::Acquire);
        local.flush(None);
        self.served[cpu].fetch_max(number + 1, Ordering::Release);
    }

    /// `cpu` uses the tables no more, until it joins again.
    pub fn leave(&self, cpu: usize) {
        if let Some(served) = self.served.get(cpu) {
            served.store(0, Ordering::Release);
        }
    }

    /// Whether `cpu` takes part.
    pub fn takes_part(&self, cpu: usize) -> bool {
        self.served.get(cpu).is_some_and(|served| served.load(Ordering::Acquire) != 0)
    }

    /// Has every CPU that takes part drop what it cached for `ranges`; returns when all did. `cpu` is the one that calls,
    /// and does not change meanwhile; no handler that interrupts this call requests, too. Waits `patience` turns at the most for the turn, and as many for the answers.
    ///
    /// # Errors
    ///
    /// [`NotFlushed`]: that CPU does not answer, or holds the turn for good.
    pub fn request(
        &self,
        cpu: usize,
        ranges: &[AddressRange<I>],
        local: &impl Local<I>,
        patience: u64,
    ) -> Result<(), NotFlushed> {
        self.take_turn(cpu, local, patience)?;
        // This CPU may have missed one as well; later ones come from itself, while it has the turn.
        self.serve(cpu, local);
        let before = self.number.load(Ordering::Relaxed);
        let behind = (0..CPUS).any(|other| self.is_behind(other, before));
        self.write(if behind { None } else { Some(ranges) });
        let number = before + 1;
        // Release: partner of the Acquires in `serve` and `join`.
        self.number.store(number, Ordering::Release);
        // Partner of the fence in `join`.
        fence(Ordering::SeqCst);
        if !self.serve(cpu, local) {
            // It takes no part, as before others run.
            local.flush(Some(ranges));
        }
        let others = || (0..CPUS).filter(|&other| self.is_behind(other, number));
        others().for_each(|other| local.interrupt(other));
        let mut turns = 0..patience;
        let late = loop {
            let Some(late) = others().next() else { break None };
            if turns.next().is_none() {
                break Some(late);
            }
            local.relax();
        };
        // Release: partner of the Acquire in `take_turn`; the next requester finds the ranges written.
        self.turn.store(0, Ordering::Release);
        late.map_or(Ok(()), |cpu| Err(NotFlushed { cpu }))
    }

    /// Does what is asked of `cpu`, which calls this, if something is; whether it was.
    pub fn serve(&self, cpu: usize, local: &impl Local<I>) -> bool {
        let Some(served) = self.served.get(cpu) else { return false };
        // Acquire: partner of the Release in `request`: the entries are cleared, and the ranges there.
        let number = self.number.load(Ordering::Acquire);
        let Some(last) =
            served.load(Ordering::Relaxed).checked_sub(1).filter(|&last| last < number)
        else {
            return false;
        };
        if last + 1 == number {
            self.flush_asked(local);
        } else {
            local.flush(None);
        }
        // Release: partner of the Acquire in `is_behind`. An interrupt handler may have served more meanwhile.
        served.fetch_max(number + 1, Ordering::Release);
        true
    }

    fn take_turn(
        &self,
        cpu: usize,
        local: &impl Local<I>,
        patience: u64,
    ) -> Result<(), NotFlushed> {
        let mut turns = 0..patience;
        loop {
            // Acquire: partner of the Release in `request`.
            let taken =
                self.turn.compare_exchange(0, cpu + 1, Ordering::Acquire, Ordering::Relaxed);
            match taken {
                Ok(_) => return Ok(()),
                Err(holder) if turns.next().is_none() => {
                    return Err(NotFlushed { cpu: holder - 1 });
                }
                Err(_) => _ = self.serve(cpu, local),
            }
            local.relax();
        }
    }

    /// Whether `cpu` takes part and did not serve request `number` yet.
    fn is_behind(&self, cpu: usize, number: u64) -> bool {
        // Acquire: partner of the Releases in `serve`, `join` and `leave`.
        let served = self.served[cpu].load(Ordering::Acquire);
        served != 0 && served <= number
    }

    fn write(&self, ranges: Option<&[AddressRange<I>]>) {
        let ranges = ranges.filter(|ranges| ranges.len() <= RANGES);
        for (slot, range) in self.ranges.iter().zip(ranges.into_iter().flatten()) {
            slot[0].store(range.start().get(), Ordering::Relaxed);
            slot[1].store(range.len(), Ordering::Relaxed);
        }
        self.count.store(ranges.map_or(EVERYTHING, <[_]>::len), Ordering::Relaxed);
    }

    /// Flushes what the last request names.
    fn flush_asked(&self, local: &impl Local<I>) {
        let mut ranges = [AddressRange::EMPTY; RANGES];
        let count = self.count.load(Ordering::Relaxed);
        let Some(asked) = ranges.get_mut(..count) else { return local.flush(None) };
        for (range, slot) in asked.iter_mut().zip(&self.ranges) {
            let [start, len] = [0, 1].map(|at: usize| slot[at].load(Ordering::Relaxed));
            match AddressRange::new(Address::new(start), len) {
                Some(whole) => *range = whole,
                None => return local.flush(None),
            }
        }
        local.flush(Some(asked));
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
