//! Faults that were not thought of: cargo-mutants makes them of every expression, and a sample of them is tried.
//!
//! ```text
//!   possible   all that cargo-mutants makes
//!   choice     the next one: spread over the lines of the sources
//!   suites     the tests for it, fast ones first; watch runs them until the first failure
//!   record     tests/mutants.md: what became of those that were tried
//! ```
#![expect(dead_code, reason = "the command that uses them comes with the next commit")]

mod choice;
mod possible;
mod record;
mod suites;
mod watch;
