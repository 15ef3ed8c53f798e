//! The CPUs besides the first: their start, their jobs, and the requests that all CPUs serve.
//!
//! ```text
//!   first CPU                                   another
//!   start: stacks, landing page, start  ----->  arrive: own tables, own traps, up
//!   work:  a job into its mailbox, call ----->  idle: takes the job, runs it, clears pages, sleeps
//!   memory/tlb: ranges, call, wait      ----->  interrupt: drops its cached translations, acknowledges
//!   stop:  a panic, call                ----->  halts
//!   tick:  timers on, as a job          ----->  interrupt: allocates and frees
//! ```
//!
//! The first CPU runs the main loop and all operations of the memory manager; the others allocate and free.

pub(crate) mod caller;
pub(crate) mod describe;
pub(crate) mod idle;
#[cfg(acpi)]
pub(crate) mod pressure;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod table;
#[cfg(feature = "lab")]
pub(crate) mod tick;
#[cfg_attr(not(feature = "lab"), expect(dead_code, reason = "only the lab gives jobs"))]
pub(crate) mod work;
