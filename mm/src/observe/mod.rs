//! Looking at memory without changing it. An operation waits for looks before it starts, and then only.
//!
//! ```text
//!   verify     the invariants;   snapshot   what must be equal before and after
//!   explain    whether memory could go;   stats   counts;   dump   what a crash dump takes
//! ```

pub(crate) mod dump;
pub(crate) mod explain;
mod runs;
pub(crate) mod snapshot;
pub(crate) mod stats;
pub(crate) mod verify;
