//! The next event as a future, for kernels with an executor.

use core::future::poll_fn;
use core::task::Poll;

use hotmem::Machine;

use super::clock::Clock;
use super::driver::Hotplug;
use super::event::HotplugSource;
use super::latch::Latch;
use super::listen::OnStep;

impl<S: HotplugSource, M: Machine, C: Clock> Hotplug<'_, S, M, C> {
    /// [`run_one`](Self::run_one), as soon as there is something to do: `latch`, which the source's interrupt handlers
    /// raise, wakes the task. If the future is dropped, no event is lost.
    ///
    /// ```
    /// use hotmem::Machine;
    /// use hotmem_hotplug::{Clock, Hotplug, HotplugSource, Latch, Quiet};
    ///
    /// async fn serve<S: HotplugSource, M: Machine, C: Clock>(
    ///     mut hotplug: Hotplug<'static, S, M, C>,
    ///     latch: &'static Latch,
    /// ) -> ! {
    ///     loop {
    ///         hotplug.run_next(latch, &mut Quiet).await;
    ///     }
    /// }
    /// ```
    pub async fn run_next(&mut self, latch: &Latch, out: &mut dyn OnStep) {
        poll_fn(|context| {
            // Before the look: an interrupt after it wakes the task.
            latch.wake_by(context.waker());
            if self.run_one(out) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
