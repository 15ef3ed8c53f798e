//! The owner of the pages of guests. What a move leaves behind is cleared after the guests go on.

use crate::Shared;
use crate::ahead::Ahead;
use crate::frames::GuestFrames;
use crate::host::Host;
use crate::id::VmId;
use crate::platform::Platform;
use crate::space::Space;
use crate::switch;
use crate::word::PageWord;
use core::marker::PhantomData;
use hotmem::paging::{Guest, UnmapError};
use hotmem::{MovableOps, Move, Part};

/// The owner.
#[derive(Debug)]
pub(crate) struct PageOwner<M: Shared, P: Platform>(pub(crate) &'static Host<M, P>);

/// The guest that the extent of a move belongs to.
fn guest(one: &Move) -> u16 {
    PageWord::decode(one.from().private).vm
}

impl<M: Shared, P: Platform> PageOwner<M, P> {
    /// Calls `each` for every guest that has an extent in `moves`, with its number. The extents of a guest that does
    /// not exist are refused.
    fn for_each_guest(&self, moves: &[Move], each: impl Fn(&mut Space<M, P>, u16)) {
        for (at, one) in moves.iter().enumerate() {
            let number = guest(one);
            let before = moves.get(..at).unwrap_or_default();
            if before.iter().any(|one| guest(one) == number) {
                continue;
            }
            let found = self.0.with_space(number, |space| each(space, number));
            if found.is_none() {
                of(moves, number).for_each(Move::refuse);
            }
        }
    }
}

/// The extents of a guest that were not refused.
fn of(moves: &[Move], number: u16) -> impl Iterator<Item = &Move> + Clone {
    moves.iter().filter(move |one| guest(one) == number && !one.is_refused())
}

impl<M: Shared, P: Platform> PageOwner<M, P> {
    /// Takes out the work on a move that is copied ahead.
    fn take_ahead(&self, one: &Move) -> Option<Ahead> {
        self.0.ahead.lock().take().filter(|ahead| ahead.is_of(one))
    }

    fn keep(&self, ahead: Ahead) {
        *self.0.ahead.lock() = Some(ahead);
    }

    /// Calls `f` with the memory of the guest that has an extent of this move, and a source of frames for its tables.
    fn with<R>(
        &self,
        one: &Move,
        f: impl FnOnce(&mut Space<M, P>, &GuestFrames<'_, M, P>) -> R,
    ) -> Option<R> {
        let (vm, mover) = (guest(one), (*self.0.tables.lock())?);
        let (mm, scrub, platform) = (self.0.mm, self.0.scrubs(), PhantomData);
        let frames = GuestFrames { mm, mover, id: VmId::of_number(vm)?, scrub, platform };
        self.0.with_space(vm, |space| f(space, &frames))
    }

    /// Begins to copy an extent ahead.
    fn begin(&self, one: &Move) -> Option<Ahead> {
        let mut ahead = Ahead::new::<M, P>(one)?;
        let begins = self.with(one, |space, frames| space.begin_ahead(one, &mut ahead, frames));
        (begins == Some(true)).then_some(ahead)
    }

    /// Ends a round. Returns whether it was the last; an error if a CPU does not drop its translations.
    fn end_round(&self, one: &Move, ahead: &mut Ahead) -> Result<bool, UnmapError<Guest>> {
        let unmarked = self.with(one, |space, _| space.unmark(ahead));
        unmarked.unwrap_or(Ok(()))?;
        Ok(ahead.end_round())
    }

    /// Leaves the extent as it was before any of it was copied, and its copy without what is the guest's.
    fn forget(&self, one: &Move, ahead: &Ahead) {
        self.with(one, |space, frames| {
            if space.has(one) {
                space.fold(ahead.range, frames);
            }
        });
        if self.0.scrubs() {
            one.refuse();
            switch::clear_unused(self.0.mm, one);
        }
    }

    /// Clears the leaves of a batch, or of the extent that was copied ahead.
    fn break_all(&self, moves: &[Move]) {
        let under_way = moves.first().and_then(|one| Some((one, self.take_ahead(one)?)));
        let Some((one, mut ahead)) = under_way else {
            return self
                .for_each_guest(moves, |space, number| space.break_batch(of(moves, number)));
        };
        let found = self.with(one, |space, _| space.break_ahead(one, &mut ahead));
        if found.is_none() {
            one.refuse();
        }
        if one.is_refused() { self.forget(one, &ahead) } else { self.keep(ahead) }
    }

    /// Copies what differs of an extent that was copied ahead, and maps the copy.
    fn move_ahead(&self, one: &Move, mut ahead: Ahead) {
        let hurried = ahead.is_hurried();
        ahead.copy::<M, P>(self.0.mm, one, u64::MAX);
        let moves = core::slice::from_ref(one);
        self.for_each_guest(moves, |space, number| space.map_batch(of(moves, number)));
        if one.is_refused() {
            self.forget(one, &ahead);
        } else {
            self.with(one, |space, frames| {
                space.count_ahead(hurried);
                space.fold(ahead.range, frames);
            });
            self.keep(ahead);
        }
        self.0.count_batch();
    }

    /// Copies a part of an extent ahead, which it begins with if it is not the one under way.
    fn copy_part(&self, one: &Move, pages: u64) -> Part {
        let Some(mut ahead) = self.take_ahead(one).or_else(|| self.begin(one)) else {
            return Part::NOTHING;
        };
        if self.with(one, |space, _| space.has(one)) != Some(true) {
            // The guest has ended.
            one.refuse();
            self.forget(one, &ahead);
            return Part::NOTHING;
        }
        let copied = ahead.copy::<M, P>(self.0.mm, one, pages);
        let last = if ahead.is_round_over() { self.end_round(one, &mut ahead) } else { Ok(false) };
        match last {
            Ok(last) => {
                self.keep(ahead);
                Part { pages: copied, last }
            }
            Err(error) => {
                log::error!("guest {}: {error}", guest(one));
                one.refuse();
                self.forget(one, &ahead);
                Part { pages: copied, last: true }
            }
        }
    }

    /// Clears a part of what an extent has left.
    fn clear_part(&self, one: &Move, pages: u64) -> Part {
        let Some(mut ahead) = self.take_ahead(one).filter(|_| self.0.scrubs()) else {
            return Part::NOTHING;
        };
        let (pages, last) = ahead.clear(self.0.mm, one, pages);
        if !last {
            self.keep(ahead);
        }
        Part { pages, last }
    }
}

impl<M: Shared, P: Platform> MovableOps for PageOwner<M, P> {
    fn name(&self) -> &'static str {
        "guest"
    }

    fn copy_ahead(&self, one: &Move, pages: u64) -> Part {
        self.0.in_a_batch(|| self.copy_part(one, pages))
    }

    fn abandon(&self, one: &Move) {
        if let Some(ahead) = self.take_ahead(one) {
            self.0.in_a_batch(|| self.forget(one, &ahead));
        }
    }

    fn clear_behind(&self, one: &Move, pages: u64) -> Part {
        self.0.in_a_batch(|| self.clear_part(one, pages))
    }

    fn isolate(&self, moves: &[Move]) {
        self.0.count_batch();
        self.break_all(moves);
        if moves.iter().all(Move::is_refused) {
            // Nothing is migrated.
            self.0.count_batch();
        }
    }

    fn migrate(&self, moves: &[Move]) {
        if let [one] = moves
            && let Some(ahead) = self.take_ahead(one)
        {
            return self.move_ahead(one, ahead);
        }
        // Without a lock: no guest has a translation for the extents or their targets.
        for one in moves.iter().filter(|one| !one.is_refused()) {
            switch::copy::<M, P>(self.0.mm, one);
        }
        self.for_each_guest(moves, |space, number| space.map_batch(of(moves, number)));
        // The guests go on.
        self.0.count_batch();
        if self.0.scrubs() {
            moves.iter().for_each(|one| switch::clear_unused(self.0.mm, one));
        }
    }
}
