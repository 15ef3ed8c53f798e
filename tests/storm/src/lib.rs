//! Storms of memory hotplug: random events on plugged memory, against a model that predicts what they do.
//!
//! ```text
//!   seed --> generate --> log of events --> Player --> Driver: the fake machine, or a kernel in QEMU
//!                            |                 |
//!                            |                 model: what must hold after each event
//!                            \--> shrink: the fewest events that still fail
//! ```
//!
//! A log follows from its seed alone, and any part of a log is a log: an event whose object is not there is refused,
//! as the model predicts, or does nothing. So a failing log can be cut down event by event.
//!
//! Both kinds of machine have the same monitor, at which the [`Player`] types. What differs between them is how DIMMs
//! are plugged and taken out, and how time passes: that is the [`Driver`].
//!
//! A log is text, one event on a line; [`Event`] describes the lines. `#` begins a comment.

mod contents;
mod driver;
mod event;
mod generate;
mod log;
mod model;
mod play;
mod region;
mod run;
mod shrink;
mod stats;

pub use driver::{Driver, End, Layout, Reply, undoes};
pub use event::{
    BOOT_BLOCKS, Event, Force, Kind, Memmap, Place, Policy, REGION_BLOCKS, REGIONS, Run,
    SLOT_BLOCKS, SLOTS, WINDOW_BLOCKS, Wait, Zone,
};
pub use generate::generate;
pub use hotmem_paging::testing::Random;
pub use log::{load, read, write};
pub use play::{Failed, Player};
pub use run::{Logs, Storm};
pub use shrink::{Shrunk, shrink};
pub use stats::Stats;
