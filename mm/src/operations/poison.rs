//! Takes a bad page out of use, and notifies the listeners; or only queues it where nothing else can be done: in the
//! handler of a machine check.
//!
//! ```text
//!   machine check --> poison_later --> [ pfn | . | pfn | . ] <-- poison_queued --- main loop
//!                     no lock, no wait                       a page stays queued while poison is busy
//! ```
//!
//! The handler may have interrupted any code, the allocator with a zone's lock held or another call of its own: see
//! [`later`](super::later).

use crate::addr::Pfn;
use crate::alloc::poison::{PoisonError, Quarantine, Quarantined};
use crate::machine::Machine;
use crate::operations::Operations;
use crate::operations::later::QueueFull;
use crate::operations::notify::News;

impl<M: Machine> Operations<M> {
    /// See [`Mm::poison`](crate::Mm::poison).
    pub(crate) fn poison(&self, pfn: Pfn) -> Result<Quarantined, PoisonError> {
        let operation = self.allocator.moment().ok_or(PoisonError::Busy)?;
        let memmap = operation.seen();
        let kind = Quarantine::of(&self.allocator, *memmap).poison(pfn)?;
        // An offline may be under way: a listener that steps it would wait for this turn. The list is kept unchanged
        // for the notification.
        let listeners = self.listeners.keep();
        drop(operation);
        listeners.notify(&News::Poisoned(pfn, kind));
        Ok(kind)
    }

    /// See [`Mm::poison_later`](crate::Mm::poison_later).
    pub(crate) fn poison_later(&self, pfn: Pfn) -> Result<(), QueueFull> {
        self.later.put(pfn)
    }

    /// See [`Mm::poison_queued`](crate::Mm::poison_queued).
    pub(crate) fn poison_queued(
        &self,
        each: &mut dyn FnMut(Pfn, Result<Quarantined, PoisonError>),
    ) -> usize {
        let mut busy = 0;
        for noted in self.later.iter() {
            let pfn = noted.pfn;
            let result = self.poison(pfn);
            if result == Err(PoisonError::Busy) {
                busy += 1;
            } else if noted.forget() {
                each(pfn, result);
            }
        }
        busy
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::operations::later::SLOTS;
    use crate::testing::{Bench, Setup, Tiny, range};
    use crate::{BlockState, NodeId, Order, Owner, Placement, Stepped, ZoneKind};
    use std::thread;
    use std::vec::Vec;

    const MIB: u64 = 1 << 20;
    const DIMM: u64 = 64 * MIB;

    fn bench() -> Bench<Tiny> {
        let ram = [(0, 16 * MIB, 0)].into_iter().collect();
        let setup = Setup { ram, block: MIB, window: (DIMM, 64 * MIB), kernelcore: None };
        let bench = Bench::new(&setup);
        bench.plug(range(DIMM, 2 * MIB));
        bench.add(range(DIMM, 2 * MIB), Placement::PerBlock);
        bench.online(range(DIMM, 2 * MIB));
        bench
    }

    type Results = Vec<(Pfn, Result<Quarantined, PoisonError>)>;

    fn empty(bench: &Bench<Tiny>) -> (Results, usize) {
        let mut results = Vec::new();
        let busy = bench.mm.poison_queued(&mut |pfn, result| results.push((pfn, result)));
        (results, busy)
    }

    #[test]
    fn a_page_is_queued_under_every_lock_and_stays_queued_while_an_operation_runs() {
        let (bench, pfn) = (bench(), Pfn::new(DIMM / 4096 + 9));
        let operation = bench.mm.allocator().operation().unwrap();
        let zones = ZoneKind::ALL.map(|kind| bench.mm.allocator().nodes.lock(NodeId::ZERO, kind));
        let id = bench.mm.block_at(range(DIMM, 1).start());
        let gate = bench.mm.allocator().memmap.hold_off_readers(id).unwrap();
        assert_eq!(bench.mm.poison_later(pfn), Ok(()));
        assert_eq!(bench.mm.poison_later(pfn), Ok(()));
        drop(gate);
        zones.into_iter().rev().for_each(drop);
        assert_eq!(empty(&bench), (Vec::new(), 1));
        drop(operation);
        assert_eq!(empty(&bench).0, [(pfn, Ok(Quarantined::Page))]);
        assert_eq!(empty(&bench), (Vec::new(), 0));
        bench.check();
    }

    #[test]
    fn a_full_queue_names_the_page_it_has_no_room_for_and_has_room_again_when_emptied() {
        let bench = bench();
        let first = DIMM / 4096 + 16;
        for n in 0..SLOTS as u64 {
            assert_eq!(bench.mm.poison_later(Pfn::new(first + n)), Ok(()));
        }
        let next = Pfn::new(first + SLOTS as u64);
        assert_eq!(bench.mm.poison_later(next), Err(QueueFull(next)));
        assert_eq!(bench.mm.poison_later(Pfn::new(first)), Ok(()), "it is noted already");
        assert_eq!(empty(&bench).0.len(), SLOTS);
        assert_eq!(bench.mm.poison_later(next), Ok(()));
        assert_eq!(bench.mm.poison_later(Pfn::new(u64::MAX)), Err(QueueFull(Pfn::new(u64::MAX))));
        bench.check();
    }

    #[test]
    fn pages_queued_by_many_cpus_are_each_reported_once() {
        let bench = bench();
        let first = DIMM / 4096 + 16;
        thread::scope(|scope| {
            for n in 0..4 {
                let mm = &bench.mm;
                let note = move |at: u64| mm.poison_later(Pfn::new(first + 8 * n + at));
                scope.spawn(move || (0..8).for_each(|at| assert_eq!(note(at), Ok(()))));
            }
        });
        let results = empty(&bench).0;
        assert_eq!(results.len(), 32);
        assert!(results.iter().all(|&(_, result)| result == Ok(Quarantined::Page)), "{results:?}");
        bench.check();
    }

    #[test]
    fn free_pages_turn_bad_at_any_step_of_an_offline_of_their_block() {
        for steps in 0..300 {
            let bench = bench();
            let (id, other) = (bench.blocks(range(DIMM, MIB))[0], Pfn::new(DIMM / 4096 + 256 + 77));
            let mut op = bench.mm.start_offline(id).unwrap();
            for _ in 0..steps {
                match op.step(1).unwrap() {
                    Stepped::Going(more) => op = more,
                    Stepped::Done => return assert!(steps > 3),
                }
            }
            // In the middle of the isolated pages, at their end, and in another block of the zone.
            for pfn in [Pfn::new(DIMM / 4096 + 77), Pfn::new(DIMM / 4096 + 255), other] {
                assert_eq!(bench.mm.poison(pfn), Ok(Quarantined::Page));
                assert_eq!(bench.mm.poison(pfn), Err(PoisonError::Already(pfn)));
                bench.check();
            }
            while let Stepped::Going(more) = op.step(1).unwrap() {
                op = more;
            }
            let block = bench.mm.block(id).unwrap();
            assert_eq!((block.state, block.poisoned), (BlockState::Offline, true));
            bench.check();
            assert!(bench.mm.online(id, ZoneKind::Movable).is_err());
        }
    }

    #[test]
    fn a_used_page_waits_for_the_end_of_an_offline_or_is_refused_at_once() {
        let bench = bench();
        let id = bench.blocks(range(DIMM, MIB))[0];
        let movable = bench.alloc_movable(Order::ZERO).unwrap();
        let kernel = bench.mm.take_pages(Order::ZERO).unwrap();
        let op = bench.mm.start_offline(id).unwrap();
        for pfn in [movable, kernel] {
            assert_eq!(bench.mm.poison_later(pfn), Ok(()));
        }
        let in_use = (kernel, Err(PoisonError::InUse(kernel, Owner::Kernel, "kernel")));
        assert_eq!(empty(&bench), ([in_use].into_iter().collect(), 1));
        op.cancel();
        let (results, busy) = empty(&bench);
        let [(pfn, Err(PoisonError::InUse(..)))] = results[..] else { panic!("{results:?}") };
        assert_eq!((pfn, busy), (movable, 0));
        bench.check();
    }
}
