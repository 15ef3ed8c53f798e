//! A whole machine to test the manager on, over the RAM and the MMU of [`hotmem_paging::testing`].
//!
//! Everything here panics where a real machine would misbehave: it is for tests only.

#![expect(clippy::panic, reason = "tests alone use this, and shall fail")]

extern crate std;

mod bench;
mod handler;
mod holder;
mod lock;
mod machine;
mod raw;
mod stubborn;
mod tag;
mod words;

pub use bench::{Bench, Setup, range};
pub use handler::as_handler;
pub use holder::Holder;
pub use hotmem_paging::testing::{
    FakeRam, FakeTables, FaultPlan, GranulePte, LockedMapper, OddPte, Random, ShallowPte, SoftMmu,
    TinyPte,
};
pub use hotmem_paging::testing::{MAX_CPUS, become_cpu, cpu, on_cpu};
pub use hotmem_paging::testing::{MapperRig, check_mapper};
pub use hotmem_paging::testing::{check_format, fail_each_allocation, storm};
pub use lock::{Hold, WatchedLock, locks_held, on_wait, take_holds};
pub use machine::CPUS;
pub use machine::{FakeEarly, FakeMachine, Flat, Granule16, Lmb, Shape, Tiny, TinyShared};
pub use stubborn::Stubborn;
pub use tag::Tag;
pub use words::Word;
