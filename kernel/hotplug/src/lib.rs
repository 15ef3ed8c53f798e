//! The memory-hotplug driver: from a firmware's request to the reply.
//!
//! ```text
//! HotplugSource (ACPI, ...)          Hotplug                       Mm (the memory manager)
//!    next_event --- Insert ------> which device?  ------------------> add, online
//!               <-- reply --------  the actual outcome
//!    next_event --- Eject -------> offline every block -------------> offline, scrub, remove
//!               <-- eject, reply     any failure: everything is restored
//! ```
//!
//! One source, or a list of them ([`Sources`]), each with devices of its own: the driver serves them in turns.
//!
//! Nothing here knows an architecture or a firmware, so all of it runs on the host. It belongs to the
//! main loop: no function may be called from an interrupt handler.
//!
//! What holds after every request:
//! - the actual outcome was reported to the firmware;
//! - memory of a refused eject is online where it was online, in the zone it was in;
//! - the table of owners says for each plugged range whether the memory manager has it;
//! - no heap was used.
//!
//! A kernel's main loop, with any source of events:
//!
//! ```no_run
//! use hotmem::{Machine, Mm};
//! use hotmem_hotplug::{Hotplug, HotplugSource, OutOfHeap, Policy, Quiet};
//!
//! fn serve<S: HotplugSource, M: Machine>(
//!     source: S,
//!     mm: &Mm<M>,
//!     wait_for_interrupt: impl Fn(),
//! ) -> Result<(), OutOfHeap> {
//!     let mut hotplug = Hotplug::new(source, mm, (), Policy::default())?;
//!     loop {
//!         while hotplug.run_one(&mut Quiet) {}
//!         wait_for_interrupt();
//!     }
//! }
//! ```
//!
//! [`Quiet`] ignores what was done; a console gets a line for each operation, and [`Each`] calls a function.
//!
//! # Interrupts, polling, tasks
//!
//! An interrupt handler masks its line and raises a bit ([`Latch`]). The main loop does the rest, and has the source
//! unmask the line:
//!
//! ```
//! use hotmem_hotplug::Latch;
//!
//! static LATCH: Latch = Latch::new();
//!
//! fn mask(_line: u8) {} // The interrupt controller's.
//! fn end_of_interrupt(_line: u8) {}
//!
//! fn interrupt_handler(line: u8) {
//!     mask(line);
//!     LATCH.raise(0, 0);
//!     end_of_interrupt(line);
//! }
//! ```
//!
//! Without interrupts a timer raises the bit, or the main loop itself does so before it calls
//! [`run_one`](Hotplug::run_one): the source then looks whether anything has happened. A kernel with an executor awaits
//! [`run_next`](Hotplug::run_next).
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod absent;
mod blocks;
mod clock;
mod driver;
mod eject;
mod event;
mod gone;
mod growth;
mod insert;
mod json;
mod latch;
mod line;
mod listen;
mod lost;
mod next;
pub mod number;
mod operator;
mod owners;
mod pmem;
mod report;
mod scrub;
mod shown;
mod sources;
mod step;
#[cfg(test)]
mod tests;
mod touched;
mod underway;
mod waiting;

pub use absent::SourceError;
pub use clock::Clock;
pub use driver::{BUDGET, Hotplug, PATIENCE, Policy};
pub use eject::EjectProgress;
pub use event::{
    DeviceId, Event, Holds, HotplugSource, MAX_PLUGGED, MAX_RANGES, Outcome, Persistent, Ranges,
    Refusal, Request, TooManyRanges,
};
pub use growth::{Growth, GrowthError, GrowthRefused};
pub use json::{JsonString, OrNull, json_list};
pub use latch::{Latch, MAX_LINES, Raised};
pub use line::{Line, Polarity, Trigger};
pub use listen::{Each, OnStep, Quiet};
pub use operator::OperatorError;
pub use owners::{Claim, OutOfHeap, Plugged};
pub use pmem::PmemError;
pub use report::{Reason, Verdict};
pub use shown::shown;
pub use sources::{OneOf, Sources};
pub use step::{Failure, Operation, Replied, Step, StepLine};
pub use touched::MAX_BLOCKS;
