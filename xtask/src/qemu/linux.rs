//! The tour's chapters on a Linux guest: a DIMM is pulled while its program computes, and its console is that of a boot
//! without the pull.

use anyhow::{Result, ensure};

use super::guest::NAME;
use super::guest_report::GuestReport;
use super::tour::Tour;
use crate::machine::{Dimm, Guest, Log, Round};

/// Rounds that there have to be after the DIMM is gone.
const AFTER: u64 = 3;

impl Tour<'_> {
    /// Pulls the DIMM from under the guest while its program computes.
    pub(super) fn pull_from_linux(&mut self, dimm: &Dimm) -> Result<()> {
        self.report.chapter(format!("Pull {} from under the guest", dimm.id));
        let blocks = self.machine.blocks_of_dimm(dimm)?;
        let mut log = Log::default();
        self.map_before(dimm)?;
        self.machine.run(&format!("vm run {NAME}"))?;
        let what = "in its second round";
        let begun = self.machine.wait_log(NAME, &mut log, what, |log| log.round().is_some())?;
        let before = log.last_round()?;
        let bytes_on_dimm = begun.bytes_in(blocks);
        self.report.fact("rounds before", before.number.to_string());
        if self.args.guest.vcpus > 1 {
            let cpus = log.cpus();
            self.report.fact("CPUs that it uses in turn", cpus.to_string());
            ensure!(cpus == u64::from(self.args.guest.vcpus), "the guest uses {cpus} CPUs");
        }

        let (gone, nonzero_pages_left) = self.take_away(dimm)?;
        self.machine.wait_log(NAME, &mut log, "going on", |_| true)?;
        let during = log.last_round()?.number - before.number;
        self.explain_pull(&gone, during)?;

        let enough = before.number + during + AFTER;
        let end = self.run_linux_to(enough, &mut log)?;
        self.map_after(dimm)?;
        let last = log.last_round()?;
        ensure!(last.wrong_words == 0, "{} words of the guest are wrong", last.wrong_words);
        let after = last.number - before.number - during;
        self.report.checked(format!("{after} rounds later no word was wrong"));
        self.pauses(&end)?;

        let undisturbed = self.linux_undisturbed(end.bytes, &log, &last)?;
        self.report.guest = Some(GuestReport {
            bytes_on_dimm,
            rounds_before: before.number,
            rounds_during: during,
            rounds_after: after,
            wrong_words: last.wrong_words,
            checksum: last.checksum,
            checksum_without_pull: undisturbed.checksum,
            nonzero_pages_left,
            ..GuestReport::of_kernel("linux", &end)
        });
        Ok(())
    }

    /// Lets the guest go on up to this round, and pauses it.
    fn run_linux_to(&mut self, round: u64, log: &mut Log) -> Result<Guest> {
        self.machine.wait_log(NAME, log, "far enough", |log| log.has_round(round))?;
        self.machine.run(&format!("vm pause {NAME}"))?;
        // What it wrote last.
        let end = self.machine.wait_log(NAME, log, "paused", |_| true)?;
        self.machine.run("verify")?;
        self.report.checked("every invariant holds");
        Ok(end)
    }

    /// Boots the same guest again without a pull, and compares; kills both.
    fn linux_undisturbed(&mut self, bytes: u64, pulled: &Log, last: &Round) -> Result<Round> {
        self.report.chapter("The same guest without the pull");
        self.create_again(bytes)?;
        self.machine.run(&format!("vm run {NAME}"))?;
        let mut log = Log::default();
        let done = self.run_linux_to(last.number, &mut log)?;
        self.machine.run(&format!("vm kill {NAME}"))?;
        ensure!(done.pages_moved == 0, "{} pages moved without a pull", done.pages_moved);
        let log = log.up_to(last.number);
        let round = log.last_round()?;
        self.report.fact("rounds", round.number.to_string());
        self.report.fact("checksum with the pull", last.checksum.clone());
        self.report.fact("checksum without", round.checksum.clone());
        ensure!(round == *last, "the last rounds differ: {last:?}, and without a pull {round:?}");
        // What several CPUs write comes in any order.
        if self.args.guest.vcpus == 1 {
            let same = pulled.clone().up_to(last.number).compare(&log)?;
            self.report
                .checked(format!("{same} lines of both consoles are the same but for times"));
        }
        Ok(round)
    }
}
