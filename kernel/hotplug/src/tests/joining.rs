//! Devices that join a block which is offline while another one of it goes: they come online once that is over.

use hotmem::testing::range;
use hotmem::{AutoOnline, BlockState, OnlineAs};

use super::MIB;
use super::beside::{BASE, Beside, KIB, OTHERS, block};
use crate::Outcome;

/// Device 0 alone, with the block that it will share offline; what is added from now on is for the kernel.
fn with_an_offline_block() -> Beside {
    let this = Beside::of(&[&[range(BASE, MIB + 256 * KIB)]]);
    this.fixture.bench.mm.offline(block(1)).unwrap();
    this.fixture.bench.mm.set_auto_online(AutoOnline::Online(OnlineAs::Kernel));
    this
}

/// Device 1 comes.
fn join(this: &mut Beside) {
    let other = range(BASE + MIB + 256 * KIB, OTHERS[0]);
    this.fixture.script.insert(1, &[other, range(BASE + 2 * MIB, OTHERS[1])]);
    this.fixture.run();
}

#[test]
fn one_that_joins_an_offline_block_at_any_step_of_an_eject_is_online_when_that_ends() {
    let mut joined = 0;
    for steps in 0.. {
        let mut this = with_an_offline_block();
        if !this.begin_eject(steps) {
            break;
        }
        join(&mut this);
        let reported = this.fixture.script.reported();
        assert!(reported.contains(&Outcome::Ejected), "after {steps} steps: {reported:?}");
        this.check_neighbour();
        joined += 1;
    }
    assert!(joined >= 3, "{joined}");
}

#[test]
fn one_that_joins_an_offline_block_with_memory_that_is_gone_is_online_when_that_is_removed() {
    let mut this = with_an_offline_block();
    let page = this.lose_in_part();
    join(&mut this);
    assert_eq!(this.fixture.script.reported(), [Outcome::Inserted]);
    assert_eq!(this.state(1), Some(BlockState::Offline));
    this.lose_the_rest(page);
    this.check_neighbour();
}
