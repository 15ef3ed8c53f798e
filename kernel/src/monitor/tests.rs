//! The monitor on a fake machine.
