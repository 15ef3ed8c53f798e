//! The machine's switches: it is stopped, continued and reset from outside, whatever the kernel does at the moment.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Exit, Machine};

impl Machine {
    /// Waits for the guest's end, which has to be `wanted`.
    ///
    /// # Errors
    /// When it ends otherwise, or continues to run.
    pub(crate) fn wait_end(&mut self, wanted: Exit) -> Result<()> {
        let exit = self.wait_exit()?;
        ensure!(exit == wanted, "{exit}, and not: {wanted}");
        Ok(())
    }

    /// Has the kernel leave.
    ///
    /// # Errors
    /// When it ends otherwise, or continues to run.
    pub(crate) fn leave(&mut self) -> Result<()> {
        self.type_line("exit 0")?;
        self.wait_end(Exit::Left(0))
    }

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
