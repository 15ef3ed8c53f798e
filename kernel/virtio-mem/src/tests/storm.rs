//! Sizes at random, with memory in use, and refusals in between: everything is checked after each.

use std::vec::Vec;

use hotmem::Order;
use hotmem::testing::Holder;

use super::{MIB, Rig, UNIT};
use crate::Kind;

/// A generator of numbers (xorshift64*).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

#[test]
fn memory_follows_sizes_at_random_with_half_of_it_in_use() {
    for seed in 1..=6 {
        let mut random = Random(seed);
        let mut this = Rig::new();
        let before = this.bench.snapshot();
        let holder = Holder::register(this.bench);
        let mut handles: Vec<u64> = Vec::new();
        for _ in 0..40 {
            let size = random.below(65) * MIB / 2 / UNIT * UNIT;
            if random.below(4) == 0 {
                let kind = [Kind::Plug, Kind::Unplug][random.below(2) as usize];
                let refuses = (kind, 1 + random.below(3) as u16, 1 + random.below(3) as u32);
                this.fakes[0].0.borrow_mut().refuses = Some(refuses);
            }
            this.request(0, size);
            this.fakes[0].0.borrow_mut().refuses = None;
            for _ in 0..3 {
                this.wait();
            }
            let plugged = this.fakes[0].plugged();
            // What is in use always fits into boot memory and half of what is plugged.
            assert_eq!((plugged, this.online()), (size, size), "seed {seed}: {}", this.report());
            holder.check(this.bench);
            let most = (size / 2 / 4096).min(2048) as usize;
            while handles.len() > most {
                let at = random.below(handles.len() as u64) as usize;
                holder.release(this.bench, handles.swap_remove(at));
            }
            while handles.len() < most {
                let Some(handle) = holder.take_in_zone(this.bench, Order::ZERO) else { break };
                handles.push(handle);
            }
        }
        handles.drain(..).for_each(|handle| holder.release(this.bench, handle));
        this.request(0, 0);
        assert_eq!(this.bench.snapshot(), before, "seed {seed}");
    }
}
