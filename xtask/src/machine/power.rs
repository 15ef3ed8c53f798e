//! The machine's switches: it is stopped, continued and reset from outside, whatever the kernel does at the moment.

use anyhow::Result;
use serde_json::json;

use super::Machine;

impl Machine {
    /// Calls `body` while no CPU runs, then lets them continue.
    ///
    /// # Errors
    /// Those of `body`, or when QEMU does not stop or continue.
    pub(crate) fn stopped<T>(&mut self, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.qmp("stop", json!({}))?;
        let done = body(self)?;
        self.qmp("cont", json!({}))?;
        Ok(done)
    }

    /// Resets the machine, which starts again: see [`Config::restarts`](super::Config::restarts). Its DIMMs stay, and
    /// what the console said before is not searched any more.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub(crate) fn reset(&mut self) -> Result<()> {
        self.stopped(|machine| {
            machine.first_line = machine.console.position();
            machine.steps_seen = machine.first_line;
            machine.scrubs.clear();
            machine.qmp("system_reset", json!({})).map(drop)
        })
    }
}
