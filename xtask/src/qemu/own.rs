//! The tour's chapters on our own kernel as a guest: a DIMM is pulled while it checks its pages, and its console is that of a
//! run without the pull.

use anyhow::{Result, ensure};

use super::guest::NAME;
use super::guest_report::GuestReport;
use super::tour::Tour;
use crate::machine::{Dimm, Guest, Log};

/// Rounds that there have to be after the DIMM is gone.
const AFTER: u64 = 3;
/// Checks that are typed before the pull: more than it lasts.
const TYPED: u64 = 40;
/// The guest's share of pages that hold the pattern.
const SHARE: u64 = 2;

/// What the guest is to check, and with what.
const CHECK: &str = "pool check";
/// What it does at the end: nothing that it knows of memory has changed.
const END: [&str; 4] = ["pool sum", "firmware", "verify", "exit"];

impl Tour<'_> {
    /// Pulls the DIMM from under the guest while it checks its pages.
    pub(super) fn pull_from_own(&mut self, dimm: &Dimm) -> Result<()> {
        self.report.chapter(format!("Pull {} from under the guest", dimm.id));
        let blocks = self.machine.blocks_of_dimm(dimm)?;
        let mut log = Log::default();
        self.map_before(dimm)?;
        self.start_own(TYPED, &mut log)?;
        let begun = self.machine.wait_checks(NAME, &mut log, 1)?;
        let (before, bytes_on_dimm) = (log.checks(), begun.bytes_in(blocks));
        self.report.fact("rounds before", before.to_string());

        let (gone, nonzero_pages_left) = self.take_away(dimm)?;
        self.machine.wait_log(NAME, &mut log, "going on", |_| true)?;
        let during = log.checks() - before;
        self.explain_pull(&gone, during)?;

        let all = TYPED.max(before + during + AFTER);
        self.type_checks(all - TYPED)?;
        let end = self.run_own_to(all, &mut log)?;
        self.map_after(dimm)?;
        let after = all - before - during;
        self.report.checked(format!("{after} rounds later no word was wrong"));
        self.pauses(&end)?;

        let checksum_without_pull = self.own_undisturbed(end.bytes, &log, all)?;
        self.report.guest = Some(GuestReport {
            bytes_on_dimm,
            rounds_before: before,
            rounds_during: during,
            rounds_after: after,
            // A check that finds a wrong word is an error: there are 0.
            checksum: log.checksum()?,
            checksum_without_pull,
            nonzero_pages_left,
            ..GuestReport::of_kernel("self", &end)
        });
        Ok(())
    }

    /// Lets the guest run, and has it fill its pages and check them so often.
    fn start_own(&mut self, checks: u64, log: &mut Log) -> Result<()> {
        self.machine.run(&format!("vm run {NAME}"))?;
        let guest = self.machine.wait_log(NAME, log, "ready", |log| log.has("hotmem: ready"))?;
        let pages = guest.bytes / SHARE / self.geometry.page;
        self.machine.type_lines(NAME, &[&format!("pool grow {pages}")])?;
        self.type_checks(checks)
    }

    fn type_checks(&mut self, checks: u64) -> Result<()> {
        (0..checks).try_for_each(|_| self.machine.type_lines(NAME, &[CHECK]))
    }

    /// Waits for so many checks, and has the guest leave its machine.
    fn run_own_to(&mut self, checks: u64, log: &mut Log) -> Result<Guest> {
        self.machine.type_lines(NAME, &END)?;
        self.machine.wait_checks(NAME, log, checks)?;
        self.machine.wait_log(NAME, log, "leaving its machine", |_| false)?;
        // What it wrote last.
        let end = self.machine.wait_log(NAME, log, "done", |_| true)?;
        ensure!(log.checks() == checks, "{} checks of {checks}", log.checks());
        ensure!(log.has("memory devices: 0"), "the guest knows of memory devices");
        self.machine.run("verify")?;
        self.report.checked("every invariant holds, and those that the guest checks");
        Ok(end)
    }

    /// Runs the same guest again without a pull, and compares; kills both. Returns its checksum.
    fn own_undisturbed(&mut self, bytes: u64, pulled: &Log, checks: u64) -> Result<String> {
        self.report.chapter("The same guest without the pull");
        self.create_again(bytes)?;
        let mut log = Log::default();
        self.start_own(checks, &mut log)?;
        let done = self.run_own_to(checks, &mut log)?;
        self.machine.run(&format!("vm kill {NAME}"))?;
        ensure!(done.pages_moved == 0, "{} pages moved without a pull", done.pages_moved);
        let checksum = log.checksum()?;
        self.report.fact("rounds", checks.to_string());
        self.report.fact("checksum with the pull", pulled.checksum()?);
        self.report.fact("checksum without", checksum.clone());
        ensure!(checksum == pulled.checksum()?, "the checksums differ");
        let same = pulled.compare(&log)?;
        self.report.checked(format!("{same} lines of both consoles are the same but for times"));
        Ok(checksum)
    }
}
