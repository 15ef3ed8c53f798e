//! Memory is cleared before its device goes, so that the next user of the device cannot read what was in it.
//!
//! Each range has a line of its own, between those of its blocks that went offline and of its removal.

use hotmem::{BlockId, Machine, Mm, PhysRange, ScrubError, Scrubbed};

use super::blocks::plus;
use super::clock::Clock;
use super::driver::Hotplug;
use super::event::HotplugSource;
use super::listen::OnStep;
use super::lost::addresses;
use super::step::{Operation, Step};
use super::underway::{Ejecting, Figures, Scrubbing};

impl<'m, S: HotplugSource, M: Machine, C: Clock> Hotplug<'m, S, M, C> {
    /// Has memory cleared before it is removed, or not. By default it is not.
    pub fn set_scrub(&mut self, scrub: bool) {
        self.scrub = scrub;
    }

    /// Clears some memory of a device whose blocks are offline. Returns `false` if there is nothing left to clear.
    pub(super) fn step_scrub(
        &mut self,
        ejecting: &mut Ejecting<'m, M>,
        out: &mut dyn OnStep,
    ) -> Result<bool, ScrubError> {
        let mut state = ejecting.scrubbing;
        let range = ejecting.ranges.as_slice().get(state.part).copied();
        let Some(range) = range.filter(|_| self.scrub) else { return Ok(false) };
        let numbers = self.numbers(range);
        state.next = state.next.max(numbers.start);
        if state.next >= numbers.end {
            self.write_scrub(range, &state.figures, out);
            state = Scrubbing { part: state.part + 1, ..Scrubbing::default() };
        } else {
            let id = BlockId::new(state.next);
            let more = self.scrub_block(id, range, self.budget, &mut state.figures)?;
            state.next += u64::from(!more);
        }
        ejecting.scrubbing = state;
        Ok(true)
    }

    /// Clears all blocks of a range that the operator removes, without memory that is gone.
    pub(super) fn scrub_range(
        &mut self,
        range: PhysRange,
        out: &mut dyn OnStep,
    ) -> Result<(), ScrubError> {
        if !self.scrub {
            return Ok(());
        }
        let mut figures = Figures::default();
        for number in self.numbers(range) {
            let id = BlockId::new(number);
            if self.gone_in(id).is_none() {
                while self.scrub_block(id, range, u64::MAX, &mut figures)? {}
                continue;
            }
            for share in self.mm.block_shares(id).filter(|share| !self.is_lost(id, share)) {
                let Some(part) = addresses::<M>(share.pfns).intersection(range) else { continue };
                while self.scrub_block(id, part, u64::MAX, &mut figures)? {}
            }
        }
        self.write_scrub(range, &figures, out);
        Ok(())
    }

    /// Clears up to `budget` pages of what `range` has of a block, which other devices may share. Returns whether there is
    /// more to clear.
    fn scrub_block(
        &self,
        id: BlockId,
        range: PhysRange,
        budget: u64,
        figures: &mut Figures,
    ) -> Result<bool, ScrubError> {
        figures.instructions = figures.instructions.or(self.clock.instructions().map(|_| 0));
        let done = self.in_turn(|mm: &Mm<M>| mm.scrub_part(id, range, budget));
        figures.instructions = plus(figures.instructions, done.instructions);
        match done.result {
            Ok(Scrubbed { pages, more }) => {
                figures.pages += pages;
                Ok(more)
            }
            // Bad memory must not be written, and its device is the one that should go.
            Err(error @ ScrubError::Poisoned(_)) => {
                log::warn!("{error}: it leaves with its content");
                figures.skipped += 1;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn write_scrub(&mut self, range: PhysRange, figures: &Figures, out: &mut dyn OnStep) {
        let Figures { pages, skipped, instructions } = *figures;
        let bytes = pages.saturating_mul(M::PAGE_BYTES);
        let operation = Operation::Scrub { bytes, skipped };
        self.write(out, &Step { range: Some(range), operation, instructions, error: None });
    }
}
