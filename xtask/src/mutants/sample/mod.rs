//! Faults that were not thought of: cargo-mutants makes them of every expression, and a sample of them is tried.
//!
//! ```text
//!   possible   all that cargo-mutants makes
//!   watch      a program of tests until the first failure
//! ```
#![expect(dead_code, reason = "the command that uses them comes with the next commits")]

mod possible;
mod watch;
