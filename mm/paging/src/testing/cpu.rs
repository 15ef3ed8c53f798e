//! The CPU of a fake machine that a thread runs as.

use super::std::cell::Cell;
use super::std::thread_local;

/// CPUs of a fake machine at most.
pub const MAX_CPUS: usize = 8;

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// The number of the CPU that this thread runs as: 0, unless [`on_cpu`] or [`become_cpu`] set another.
pub fn cpu() -> usize {
    CPU.get()
}

/// Makes this thread CPU `cpu` from now on.
pub fn become_cpu(cpu: usize) {
    CPU.set(cpu);
}

/// Calls `run` as CPU `cpu`.
pub fn on_cpu<R>(cpu: usize, run: impl FnOnce() -> R) -> R {
    let before = CPU.replace(cpu);
    let result = run();
    CPU.set(before);
    result
}
