//! Growth by need: how much is plugged or unplugged while the size that the host requests is only the ceiling.
//!
//! ```text
//!   free    0 ........ low ........ high ........ 2 * high - low ........
//!                 |--> plugged until above        given back down to  <--|
//! ```
//!
//! So what has just been plugged is never given back at once, and what has just been given back is not plugged at once.
//! A unit above the high mark stays: a piece that comes back without its end has a memmap of its own.

use hotmem::{Machine, Marks, Mm, Watch};
use hotmem_hotplug::{Growth, GrowthRefused};

/// When the memory of devices is plugged.
#[derive(Debug, Default)]
pub(crate) struct Need {
    watch: Option<&'static Watch>,
    /// The marks, if it is plugged by need.
    marks: Option<Marks>,
    /// Free memory was above the upper end, and what is above the high mark has not all been given back since.
    gives_back: bool,
}

impl Need {
    pub(crate) fn set_watch(&mut self, watch: &'static Watch) {
        self.watch = Some(watch);
    }

    pub(crate) fn growth(&self) -> Growth {
        self.marks.map_or(Growth::Eager, Growth::Need)
    }

    pub(crate) fn is_eager(&self) -> bool {
        self.marks.is_none()
    }

    /// Changes it. Nothing has changed if that fails.
    pub(crate) fn set<M: Machine>(
        &mut self,
        growth: Growth,
        mm: &Mm<M>,
    ) -> Result<(), GrowthRefused> {
        match (growth, self.watch) {
            (Growth::Need(_), None) => return Err(GrowthRefused::NoWatch),
            (Growth::Need(marks), Some(watch)) => {
                mm.watch(watch, marks).map_err(GrowthRefused::Watch)?;
                self.marks = Some(marks);
            }
            (Growth::Eager, watch) => {
                // A watch that is registered wakes the kernel no more.
                if let Some(watch) = watch.filter(|_| self.marks.is_some()) {
                    mm.watch(watch, Marks::NEVER).map_err(GrowthRefused::Watch)?;
                }
                self.marks = None;
            }
        }
        self.gives_back = false;
        Ok(())
    }

    /// The watch and the marks, if memory is plugged by need.
    fn by_need(&self) -> Option<(&'static Watch, Marks)> {
        self.watch.zip(self.marks)
    }

    /// Whether memory is short; never without need.
    pub(crate) fn is_short(&self) -> bool {
        self.by_need().is_some_and(|(watch, _)| watch.is_low())
    }

    /// Bytes that are to be plugged, if `pending` more are on their way to become free.
    pub(crate) fn wanted<M: Machine>(&self, mm: &Mm<M>, pending: u64) -> u64 {
        let Some((watch, marks)) = self.by_need() else { return u64::MAX };
        if !watch.is_low() {
            return 0;
        }
        let soon = mm.free_of(watch).saturating_add(pending);
        marks.high().saturating_add(1).saturating_sub(soon)
    }

    /// Bytes that can be given back, in whole units of `unit`.
    pub(crate) fn surplus<M: Machine>(&self, mm: &Mm<M>, unit: u64) -> u64 {
        let Some((watch, marks)) = self.by_need() else { return 0 };
        let (free, upper) = (mm.free_of(watch), upper(marks));
        let above = free.saturating_sub(marks.high().saturating_add(unit)) / unit * unit;
        if self.gives_back || free > upper { above } else { 0 }
    }

    /// Takes note of free memory above the upper end, or of the end of a shrink: `left` bytes can still be given back.
    /// Returns whether a shrink begins.
    pub(crate) fn note_surplus(&mut self, left: u64) -> bool {
        !core::mem::replace(&mut self.gives_back, left != 0) && self.gives_back
    }

    /// Whether memory that is out of use may go, if `returning` bytes come back into use at once.
    pub(crate) fn can_spare<M: Machine>(&self, mm: &Mm<M>, returning: u64) -> bool {
        self.by_need().is_some_and(|(watch, marks)| {
            mm.free_of(watch).saturating_add(returning) >= marks.low()
        })
    }
}

/// The free bytes above which memory is given back.
const fn upper(marks: Marks) -> u64 {
    marks.high().saturating_add(marks.high() - marks.low())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_only_well_above_what_ends_a_growth() {
        let between = |low, high| upper(Marks::new(low, high).unwrap());
        assert_eq!(between(10, 16), 22);
        assert_eq!(between(16, 16), 16);
        assert_eq!(between(1, u64::MAX), u64::MAX);
    }
}
