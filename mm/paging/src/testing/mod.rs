//! Test doubles for page tables: RAM that can be plugged, an MMU that keeps stale entries, failing allocations,
//! formats for tests only.
//!
//! ```text
//!    Tables<F>  --- stores entries --->  FakeRam  <--- walks ---  SoftMmu<F>
//!        |                                                          ^    |
//!        +--- publish, flush, retire (Tlb) -------------------------+    +--> panics on the use of
//!                                                                             a stale entry
//! ```
//!
//! [`SoftMmu`] walks the tables by itself, as hardware does, and shares no code with the walker that it checks.
//! Everything here panics where a real machine would misbehave: it is for tests only.

#![expect(clippy::panic, reason = "tests alone use this, and shall fail")]

extern crate std;

mod check;
mod cpu;
mod fault;
mod formats;
mod frames;
mod invariants;
mod locked;
mod mmu;
mod ram;
mod random;
mod storm;

pub use check::{MapperRig, RecordingTlb, TlbCalls, check_mapper};
pub use cpu::{MAX_CPUS, become_cpu, cpu, on_cpu};
pub use fault::FaultPlan;
pub use formats::{GranulePte, OddPte, ShallowPte, TinyPte};
pub use frames::FakeTables;
pub use invariants::check_format;
pub use locked::LockedMapper;
pub use mmu::SoftMmu;
pub use ram::FakeRam;
pub use random::Random;
pub use storm::{fail_each_allocation, storm};

/// Vectors, for recorded calls.
pub(crate) use self::std::vec::Vec;

/// Fails the test unless `holds`, or the test fails already.
#[track_caller]
pub(crate) fn fail_unless(holds: bool, what: &str) {
    assert!(holds || std::thread::panicking(), "{what}");
}

#[cfg(test)]
mod tests;
