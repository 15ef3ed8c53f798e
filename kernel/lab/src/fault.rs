//! Steps that fail on purpose: an operation that fails at any of them leaves everything as it was.
//!
//! ```text
//!   fault add 3 --> pending --- the next add begins ---> armed --- its third step that can fail does ---> undo
//! ```
//!
//! The kernel asks before each step of an operation, and the lab before those of its own listener and owner of pages. An
//! allocation of a page by anyone else asks nothing.
//!
//! Calls of firmware are counted by themselves, from the moment when that was asked for: requests come when they come.
//!
//! ```text
//!   fault firmware 3 --> armed --- the third access of byte code, or call of a service ---> an error instead
//! ```

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// A kind of steps that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The turn: another operation is under way.
    Turn,
    /// A page for a memmap or a table, or the target of a move.
    Allocation,
    /// A frame for a page table, from the reserve or allocated.
    Table,
    /// A call of the mapper.
    Mapper,
    /// A listener objects.
    Listener,
    /// An owner does not move an extent.
    Move,
    /// An access of firmware's byte code to a register, or a call of a service of firmware.
    Firmware,
}

impl Point {
    const ALL: [Self; 7] = [
        Self::Turn,
        Self::Allocation,
        Self::Table,
        Self::Mapper,
        Self::Listener,
        Self::Move,
        Self::Firmware,
    ];
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Turn => "turn",
            Self::Allocation => "allocation",
            Self::Table => "table frame",
            Self::Mapper => "mapper",
            Self::Listener => "listener",
            Self::Move => "page move",
            Self::Firmware => "call of firmware",
        })
    }
}

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The step failed.
    Failed(Point),
    /// The operation had this many steps only.
    Fewer(u64),
}

/// The step that is to fail. Operations run one at a time, so one CPU at a time counts.
#[derive(Debug)]
pub struct Faults {
    /// The number of the step; 0 for none.
    nth: AtomicU64,
    /// Steps since it was armed.
    seen: AtomicU64,
    /// The index of the kind that failed, plus one; or 0.
    failed: AtomicU8,
}

impl Default for Faults {
    fn default() -> Self {
        Self::new()
    }
}

impl Faults {
    /// Nothing fails.
    pub const fn new() -> Self {
        Self { nth: AtomicU64::new(0), seen: AtomicU64::new(0), failed: AtomicU8::new(0) }
    }

    /// The `nth` step from now on fails, once; 0 for none.
    pub fn arm(&self, nth: u64) {
        self.seen.store(0, Ordering::Relaxed);
        self.failed.store(0, Ordering::Relaxed);
        self.nth.store(nth, Ordering::Relaxed);
    }

    /// Nothing fails from now on.
    pub fn disarm(&self) -> Outcome {
        self.nth.store(0, Ordering::Relaxed);
        let failed = usize::from(self.failed.load(Ordering::Relaxed)).checked_sub(1);
        let failed = failed.and_then(|index| Point::ALL.get(index));
        failed.map_or(Outcome::Fewer(self.seen.load(Ordering::Relaxed)), |&at| Outcome::Failed(at))
    }

    /// Whether a step of this kind may succeed.
    #[inline]
    pub fn allows(&self, point: Point) -> bool {
        match self.nth.load(Ordering::Relaxed) {
            0 => true,
            nth => self.count(nth, point),
        }
    }

    #[cold]
    fn count(&self, nth: u64, point: Point) -> bool {
        let fails = self.seen.fetch_add(1, Ordering::Relaxed) + 1 == nth;
        if fails {
            self.failed.store(point as u8 + 1, Ordering::Relaxed);
        }
        !fails
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_with_the_number_fails_once_and_is_named() {
        let faults = Faults::new();
        assert!(Point::ALL.iter().all(|&point| faults.allows(point)));
        for (nth, &point) in (1..).zip(&Point::ALL) {
            faults.arm(nth);
            let allowed = Point::ALL.map(|point| faults.allows(point));
            assert_eq!(allowed, Point::ALL.map(|other| other != point));
            assert_eq!(faults.disarm(), Outcome::Failed(point));
        }
        let most = Point::ALL.len() as u64;
        faults.arm(most + 1);
        assert!(Point::ALL.iter().all(|&point| faults.allows(point)));
        assert_eq!(faults.disarm(), Outcome::Fewer(most));
        assert!(faults.allows(Point::Turn));
    }
}
