//! The monitor: commands that an operator, or a test harness, types at the prompt, and their output.
//!
//! ```text
//!   bytes --> LineEditor --> parse: Command --> Monitor::run --> lines, then `ok` or `error: why`
//! ```
//!
//! For any input, the output ends in exactly one line `ok` or `error: ...`. All of this code runs on the host as
//! well; [`Machinery`] provides what needs the machine.

mod bench;
mod command;
mod cpus;
mod fault;
mod held;
mod holds;
mod life;
mod line;
mod listeners;
mod machinery;
mod mapping;
mod memory;
mod movers;
mod page;
mod parse;
mod pmem;
mod refused;
#[cfg(test)]
mod round_trip;
mod run;
mod show;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod together;
mod usage;
mod vm;
mod walk;
mod words;

pub use command::{Command, CpusCommand, PmemCommand};
pub use cpus::{CpuError, CpuJob, CpuShown, Did};
pub use fault::{Fault, FaultCommand, Kind, Sites};
pub use holds::Hold;
pub use life::{CacheCommand, Life, PoolCommand, Watch};
pub use line::{Edit, LineEditor, LineError, MAX_LINE};
pub use listeners::Objection;
pub use machinery::{Breach, Crash, Machinery};
pub use parse::parse;
pub use run::{After, Monitor};
pub use together::allocate_and_free;
pub use usage::Sample;
pub use vm::{Kept, VmCommand, VmLine, VmName, VmProgram};
pub use words::CommandError;
