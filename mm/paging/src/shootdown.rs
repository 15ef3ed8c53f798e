//! TLB shoot-down: one CPU requests that all others drop translations, and waits for their acknowledgements.
//!
//! ```text
//!   requester   turn taken -> ranges -> number n + 1 -> flushes itself -> interrupts -> waits for all -> turn free
//!   each CPU                                 \-> serve: flushes the ranges, acknowledges n + 1 --/
//! ```
//!
//! There is one request at a time. A CPU that waits for the turn serves the requests of others, so two CPUs that
//! flush at once with interrupts off do not wait for each other for ever. Every wait is bounded.
//!
//! A CPU that missed a request drops everything when it serves the next one, and while a CPU is behind, requests cover
//! everything. So an acknowledgement is true of all requests up to its number. An interrupt handler may serve while
//! the CPU serves: then the ranges may change under the outer call, which flushes too much, after the inner one has
//! flushed the requested ranges.
//!
//! The kernel provides the architecture and the interrupts: it passes the functions that flush one CPU and that
//! interrupt others, and calls [`serve`](Shootdown::serve) in the handler and wherever it waits with interrupts off.

use crate::NotFlushed;
use crate::addr::{Address, AddressRange, Space, Virtual};
use crate::sync::{AtomicU64, AtomicUsize, Ordering, fence};

use core::marker::PhantomData;

/// Ranges in a request at most; a request with more covers everything.
pub const RANGES: usize = 4;

/// The CPUs of one machine that use one set of page tables, at most `CPUS`, and their requests.
#[derive(Debug)]
pub struct Shootdown<const CPUS: usize, I: Space = Virtual> {
    /// The holder of the turn, plus one; or 0.
    turn: AtomicUsize,
    /// Requests so far.
    number: AtomicU64,
    /// The number of ranges in the last one, or [`EVERYTHING`]; their starts and lengths.
    count: AtomicUsize,
    ranges: [[AtomicU64; 2]; RANGES],
    /// For each CPU, the number of the last request that it served, plus one; 0 while it does not take part.
    served: [AtomicU64; CPUS],
    space: PhantomData<fn() -> I>,
}

const EVERYTHING: usize = usize::MAX;

/// The functions of the calling CPU for a request and for serving one.
pub trait Local<I: Space = Virtual> {
    /// Drops this CPU's cached translations for `ranges`; all of them for `None`.
    fn flush(&self, ranges: Option<&[AddressRange<I>]>);

    /// Interrupts `cpu`, so that it calls [`Shootdown::serve`].
    fn interrupt(&self, cpu: usize);

    /// One iteration of a wait: `pause`, `yield`, or lower priority.
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

    /// The same with loom's atomics, which cannot be created in constants.
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

    /// Makes `cpu`, which calls this, take part: from now on requests wait for it. Called before it uses the tables.
    ///
    /// # Panics
    ///
    /// If `cpu` is not below `CPUS`.
    pub fn join(&self, cpu: usize, local: &impl Local<I>) {
        self.served[cpu].store(1, Ordering::Relaxed);
        // Partner of the fence in `request`: either the requester sees that it must wait for this CPU, or this CPU
        // sees its number, and so flushes after the entries were cleared.
        fence(Ordering::SeqCst);
        let number = self.number.load(Ordering::Acquire);
        local.flush(None);
        self.served[cpu].fetch_max(number + 1, Ordering::Release);
    }

    /// `cpu` no longer uses the tables, until it joins again.
    pub fn leave(&self, cpu: usize) {
        if let Some(served) = self.served.get(cpu) {
            served.store(0, Ordering::Release);
        }
    }

    /// Whether `cpu` takes part.
    pub fn takes_part(&self, cpu: usize) -> bool {
        self.served.get(cpu).is_some_and(|served| served.load(Ordering::Acquire) != 0)
    }

    /// Makes every CPU that takes part drop its cached translations for `ranges`; returns when all have. `cpu` is
    /// the calling CPU, and does not change during the call; no handler that interrupts this call makes a request,
    /// too. Waits at most `patience` polls for the turn, and as many for the acknowledgements.
    ///
    /// # Errors
    ///
    /// [`NotFlushed`]: that CPU does not acknowledge, or never releases the turn.
    pub fn request(
        &self,
        cpu: usize,
        ranges: &[AddressRange<I>],
        local: &impl Local<I>,
        patience: u64,
    ) -> Result<(), NotFlushed> {
        self.take_turn(cpu, local, patience)?;
        // This CPU may have missed a request as well; later ones come from itself, while it has the turn.
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

    /// Serves the request to `cpu`, which calls this, if there is one; returns whether there was.
    pub fn serve(&self, cpu: usize, local: &impl Local<I>) -> bool {
        let Some(served) = self.served.get(cpu) else { return false };
        // Acquire: partner of the Release in `request`: the entries are cleared, and the ranges are written.
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
        // Release: partner of the Acquire in `is_behind`. An interrupt handler may have served a later request
        // already.
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

    /// Whether `cpu` takes part and has not served request `number` yet.
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

    /// Flushes the ranges of the last request.
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
