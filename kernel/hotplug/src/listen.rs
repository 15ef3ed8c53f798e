//! What is notified of each operation: a console, a function, or nothing.

use core::fmt;

use super::step::Step;

/// Notified of each operation that the driver has run, right after it.
///
/// Everything that text can be written to is one: it gets the [line](super::StepLine) of each operation. [`Quiet`] is
/// one that ignores them, and [`Each`] one that calls a function.
pub trait OnStep {
    /// An operation was run. `line` is [`StepLine`](super::StepLine) of the step, without a line end.
    fn on_step(&mut self, step: &Step<'_>, line: &dyn fmt::Display);
}

impl<W: fmt::Write> OnStep for W {
    fn on_step(&mut self, _step: &Step<'_>, line: &dyn fmt::Display) {
        // If the console fails, there is nowhere left to report it.
        let _ = writeln!(self, "{line}");
    }
}

/// Ignores operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl OnStep for Quiet {
    fn on_step(&mut self, _step: &Step<'_>, _line: &dyn fmt::Display) {}
}

/// Calls a function with each operation.
///
/// ```
/// use hotmem::Machine;
/// use hotmem_hotplug::{Clock, Each, Hotplug, HotplugSource, Operation, Step};
///
/// fn serve_one<S: HotplugSource, M: Machine, C: Clock>(hotplug: &mut Hotplug<'_, S, M, C>) -> u64 {
///     let mut added = 0;
///     hotplug.run_one(&mut Each(|step: &Step<'_>| {
///         if let Operation::Add { .. } = step.operation
///             && step.error.is_none()
///             && let Some(range) = step.range
///         {
///             added += range.len();
///         }
///     }));
///     added
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Each<F>(pub F);

impl<F: FnMut(&Step<'_>)> OnStep for Each<F> {
    fn on_step(&mut self, step: &Step<'_>, _line: &dyn fmt::Display) {
        (self.0)(step);
    }
}
