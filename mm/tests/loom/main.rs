//! The lock-free interactions of CPUs in the manager, under every interleaving that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p hotmem --test loom --release`, as `cargo xtask ci` runs it. The checked
//! files are the manager's own: they are compiled here again, with the atomics of `sync` and the machine of
//! `machine`.
#![cfg(loom)]

#[expect(dead_code, reason = "the manager uses more of it")]
mod alloc;
mod drain;
mod gauge;
mod machine;
#[expect(dead_code, unreachable_pub, reason = "the manager uses more of it")]
mod memmap;
mod readers;
mod shares;
mod sync;

#[path = "../../src/impossible.rs"]
mod impossible;

#[path = "../../src/wait.rs"]
mod wait;

mod lock {
    pub(crate) use loom::thread::yield_now as relax;
}

pub(crate) use hotmem_paging::{self as paging, addr, geometry};

/// Runs `model` under every interleaving, or with at most `bound` preemptions.
fn explore(bound: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.check(model);
}
