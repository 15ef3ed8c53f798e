//! How long the tour's guest could not go on.
//!
//! ```text
//!   batch:  find 64 pages, allocate targets | clear leaves, flush, copy, new leaves | clear and free what they left
//!   pause:                                  |<------------------------------------->|   no access to these pages
//!   stop:   |<------------------------------------------------------------------------------------------->|
//!           of a guest on the CPU that moves them
//! ```

use anyhow::{Result, ensure};

use super::tour::Tour;
use crate::machine::Guest;
use crate::size::Size;

impl Tour<'_> {
    /// The unit of a pause.
    const fn unit(&self) -> &'static str {
        if self.config.icount.is_some() { "instructions" } else { "cycles" }
    }

    /// Does one CPU count its instructions?
    const fn counts(&self) -> bool {
        self.config.icount.is_some() && self.config.cpus == 1
    }

    /// Reports the pauses of batches of moves. Where instructions are counted, they have a bound.
    pub(super) fn pauses(&mut self, end: &Guest) -> Result<()> {
        let unit = self.unit();
        self.report.fact("longest pause by a batch", format!("{} {unit}", end.longest_pause));
        self.report.fact("for each of its pages", format!("{} {unit}", end.longest_pause_of_page));
        if end.extents_ahead > 0 {
            self.report.fact("extents copied ahead", end.extents_ahead.to_string());
            self.report.fact("changed faster than that", end.extents_hurried.to_string());
        }
        if self.counts() {
            self.check_pauses(end)?;
            self.report.checked("no pause is longer than its bound");
        }
        Ok(())
    }

    /// Extents have bounds of their own: a short one for those that are copied ahead while the guest changes little.
    fn check_pauses(&self, end: &Guest) -> Result<()> {
        let page = self.geometry.page;
        match self.args.guest.extent.map(Size::bytes) {
            None => end.ensure_pauses(page),
            Some(extent) if self.args.guest.writes_little() && end.extents_ahead > 0 => {
                end.ensure_extents(end.bytes / extent)
            }
            Some(extent) => end.ensure_whole_extents(page, extent),
        }
    }

    /// Reports how long the guest stood still, as the kernel and as it saw it.
    pub(super) fn stops(&mut self, end: &Guest) -> Result<()> {
        let unit = self.unit();
        self.report.fact("longest stop by a batch", format!("{} {unit}", end.longest_move));
        if self.counts() {
            end.ensure_stop(self.geometry.page)?;
            self.report.checked("no stop by a batch is longer than its bound");
        }
        self.report.fact("longest stop", format!("{} ticks", end.longest_stop));
        self.report.fact("longest gap in the guest", format!("{} ticks", end.longest_gap));
        self.compare_gap(end)
    }

    /// Compares the gap that the guest saw with the time that the kernel saw it stand still. Where CPUs are threads of a
    /// host, or take turns, a guest also waits for those.
    fn compare_gap(&mut self, end: &Guest) -> Result<()> {
        if !self.counts() {
            return Ok(());
        }
        let (gap, stop) = (end.longest_gap, end.longest_stop);
        ensure!(gap.abs_diff(stop) <= stop / 5, "a gap of {gap} ticks, and a stop of {stop}");
        self.report.checked("the guest's gap is within 20 % of the kernel's figure");
        Ok(())
    }
}
