//! A device leaves a block, and what others have there stays online.

use std::vec::Vec;

use hotmem::testing::range;
use hotmem::{BlockState, Order, Pfn, ZoneKind};

use super::MIB;
use super::beside::{BASE, Beside, KIB, OTHERS, block};
use crate::{Outcome, Request};

/// The other's pages do not move, and one of them is bad: both keep nothing of the device that leaves, and what stays of
/// the block is online all the time.
#[test]
fn what_the_other_has_in_use_or_bad_keeps_no_device_and_stays_online() {
    for eject in [false, true] {
        let mut this = Beside::two();
        let page = this.pin(1);
        let others = this.fixture.bench.mm.block_shares(block(1)).last().unwrap();
        // The page that does not move is in the other's part, not in what leaves.
        let inside = |page: &Pfn| others.pfns.contains(*page);
        let page = if inside(&page) {
            page
        } else {
            let take = || this.fixture.bench.mm.take_pages(Order::ZERO).ok();
            let mut pages: Vec<_> = core::iter::from_fn(take).collect();
            let at = pages.iter().position(inside).unwrap();
            let own = pages.swap_remove(at);
            pages.into_iter().for_each(|page| this.unpin(page));
            this.unpin(page);
            own
        };
        let free = (others.memmap().end.get()..others.pfns.end.get()).map(Pfn::new);
        let bad = free.rev().find(|&pfn| pfn != page).unwrap();
        this.fixture.bench.mm.poison(bad).unwrap();
        let online = Some(BlockState::Online(ZoneKind::Normal));
        let expected: &[_] = if eject {
            this.fixture.script.eject(0);
            &[Outcome::Ejecting, Outcome::Ejected]
        } else {
            this.absent(0);
            this.fixture.script.event(0, Request::Gone);
            &[Outcome::Ejected]
        };
        while this.fixture.driver.run_one(&mut String::new()) {
            assert_eq!(this.state(1), online, "{eject}");
        }
        assert_eq!(this.fixture.script.reported(), expected);
        assert_eq!((this.state(1), this.bytes(1)), (online, OTHERS[0]));
        this.unpin(page);
        this.check_end(&[1]);
    }
}

/// All that the device has of the shared block is the memmap of the rest of it: nothing of it goes offline.
#[test]
fn a_device_that_has_only_descriptors_in_a_shared_block_leaves_it() {
    for eject in [false, true] {
        let large = range(BASE + MIB - 256 * KIB, 16 * MIB + 256 * KIB);
        let mut this = Beside::with_placement(
            hotmem::Placement::PerRange,
            &[&[large], &[range(BASE, MIB - 256 * KIB)]],
        );
        let share = this.fixture.bench.mm.block_shares(block(0)).last().unwrap();
        assert_eq!(share.memmap(), share.pfns);
        let expected: &[_] = if eject {
            this.fixture.script.eject(0);
            &[Outcome::Ejecting, Outcome::Ejected]
        } else {
            this.absent(0);
            this.fixture.script.event(0, Request::Gone);
            &[Outcome::Ejected]
        };
        let steps = (0..1000).take_while(|_| this.fixture.driver.run_one(&mut String::new()));
        assert!(steps.count() < 1000, "{eject}");
        assert_eq!(this.fixture.script.reported(), expected);
        assert_eq!(this.state(0), Some(BlockState::Online(ZoneKind::Normal)));
        this.check_end(&[1]);
    }
}
