//! The tour's chapters on a guest: it runs on a DIMM, the DIMM is pulled, and its result is that of a run without
//! the pull.

use std::fs::File;

use anyhow::{Result, bail, ensure};

use super::guest_report::{GuestReport, GuestSpec, Program, VcpuRounds};
use super::page::Entry;
use super::tour::Tour;
use crate::machine::{Dimm, Guest, Kind as _, Offline, Remains, Remove, Request, Step, Verdict};
use crate::size::{both, human};

/// The name of the guest.
pub(super) const NAME: &str = "guest";
/// Rounds after the DIMM is gone.
const AFTER: u64 = 3;

impl Tour<'_> {
    /// Creates the guest, which has to lie on the only DIMM; `None` if this machine runs no guests, with the reason.
    pub(super) fn create_guest(&mut self, spec: GuestSpec, dimm: &Dimm) -> Result<Option<Verdict>> {
        let size = spec.size.bytes();
        self.report.chapter(format!("Create a guest of {}", human(size)));
        let free = self.machine.boot_free()?;
        let vcpus = self.args.guest.vcpus;
        let reply = self.machine.command(&self.args.guest.create_line(NAME, size))?;
        if let Some(why) = reply.error {
            self.report.push(Entry::Quote(why.clone()));
            return Ok(Some(Verdict::Refused(why)));
        }
        let guest = self.machine.guest(NAME)?;
        let blocks = self.machine.blocks_of_dimm(dimm)?;
        let on = guest.bytes_in(blocks);
        ensure!(on == size, "{on} bytes of the guest lie on {}, of {size}", dimm.id);
        self.report.text(match spec.program {
            Program::Payload => {
                "It is a program that writes a word computed from address and round to each word of its memory, \
                 reads all of them back, and reports a checksum. It has no devices, and gets no events about memory."
            }
            Program::Own => {
                "It is this kernel, started a second time from its image. It has a serial port, where the tour types \
                 commands: it fills pages of its own with a pattern, and checks them again and again. Its firmware \
                 tables name no memory device."
            }
            Program::Linux => {
                "It is a Linux kernel as Debian ships it, which starts a program of ours: that writes a word \
                 computed from place and round to each word of its memory, reads all of them back, and reports a \
                 checksum. Nothing in it shows that memory comes or goes."
            }
        });
        if vcpus > 1 {
            self.report.text(format!(
                "It has {vcpus} virtual CPUs, each on a CPU of its own. The first starts the others{}.",
                if spec.program == Program::Payload { ", and each works on its share of the memory" } else { "" }
            ));
        }
        self.report.fact("its memory lies in", held(&guest));
        let tables: u64 = guest.table_blocks.iter().map(|held| held.bytes).sum();
        self.report.fact("its second-stage tables", both(tables));
        let taken = free.saturating_sub(self.machine.boot_free()?);
        self.report.fact("boot memory it took", both(taken));
        ensure!(taken == 0, "the guest took {taken} bytes of boot memory");
        Ok(None)
    }

    /// Pulls the DIMM from under the guest.
    pub(super) fn pull(&mut self, dimm: &Dimm) -> Result<()> {
        self.report.chapter(format!("Pull {} from under the guest", dimm.id));
        let blocks = self.machine.blocks_of_dimm(dimm)?;
        self.map_before(dimm)?;
        self.machine.run(&self.args.guest.run_line(NAME, 0))?;
        let before =
            self.machine.wait_guest(NAME, "in its second round", |guest| guest.rounds > 0)?;
        let bytes_on_dimm = before.bytes_in(blocks);
        self.report.fact("rounds before", before.rounds.to_string());
        let (gone, nonzero_pages_left) = self.take_away(dimm)?;
        let during = gone.rounds - before.rounds;
        self.explain_pull(&gone, during)?;
        self.each_went_on(&before, &gone)?;

        let end = self.after(&gone)?;
        self.map_after(dimm)?;
        let undisturbed = self.undisturbed(&end)?;
        self.report.guest = Some(GuestReport {
            kind: "payload",
            bytes_on_dimm,
            rounds_before: before.rounds,
            rounds_during: during,
            rounds_after: end.rounds - gone.rounds,
            vcpus: VcpuRounds::between(&before, &gone, &end),
            wrong_words: end.wrong_words,
            checksum: end.checksum.clone(),
            checksum_without_pull: undisturbed.checksum,
            pages_moved: end.pages_moved,
            longest_pause: end.longest_pause,
            longest_pause_of_page: end.longest_pause_of_page,
            extents_ahead: end.extents_ahead,
            extents_hurried: end.extents_hurried,
            longest_gap: Some(end.longest_gap),
            longest_stop: Some(end.longest_stop),
            longest_move: Some(end.longest_move),
            nonzero_pages_left,
        });
        Ok(())
    }

    /// Draws memory while the guest does not run: for the picture every page is looked at, and a guest of this CPU would
    /// stand still for as long.
    pub(super) fn map_before(&mut self, dimm: &Dimm) -> Result<()> {
        self.map(format!("before {} goes", dimm.id))
    }

    /// As [`map_before`](Self::map_before), after the pull.
    pub(super) fn map_after(&mut self, dimm: &Dimm) -> Result<()> {
        self.map(format!("after {} went", dimm.id))
    }

    /// Reads the file behind a DIMM that is gone. Returns how many of its pages are not zero, unless it was filled
    /// with something else.
    fn left_on(&mut self, dimm: &Dimm, file: File) -> Result<Option<u64>> {
        if self.args.fill.is_some_and(|byte| byte != 0) {
            return Ok(None);
        }
        let is_its = |step: &&Step| matches!(step, Step::Add(add) if add.start() == dimm.start);
        let Some(Step::Add(add)) = self.report.steps.iter().find(is_its) else {
            bail!("{} was never added", dimm.id)
        };
        let left = Remains::of(file, 0, self.geometry.page, add)?;
        if self.args.clears() {
            ensure!(left.pages == 0, "the file behind {} holds {left:x?}", dimm.id);
        }
        self.report.fact("pages of its file that hold data", left.pages.to_string());
        Ok(Some(left.pages))
    }

    /// Has QEMU ask for a DIMM that the guest lies on, and waits until it is gone.
    /// Returns the guest, and what [`left_on`](Self::left_on) found.
    pub(super) fn take_away(&mut self, dimm: &Dimm) -> Result<(Guest, Option<u64>)> {
        let blocks = self.machine.blocks_of_dimm(dimm)?;
        let file = self.machine.file_behind(dimm)?;
        self.machine.unplug(dimm)?;
        self.next::<Offline>()?.good()?;
        let remove = self.next::<Remove>()?.good()?;
        self.machine.wait_deleted(dimm)?;
        let left = self.left_on(dimm, file)?;
        self.elsewhere = self.elsewhere.saturating_add(remove.system_bytes);
        let gone = self.machine.guest(NAME)?;
        self.compare_status(dimm, Request::Ejection, remove.ost, true)?;
        ensure!(gone.state == "running", "the guest is {} after the pull", gone.state);
        ensure!(gone.bytes_in(blocks) == 0, "the guest still has memory on {}", dimm.id);
        Ok((gone, left))
    }

    /// Reports what happened to the guest during the pull.
    pub(super) fn explain_pull(&mut self, gone: &Guest, during: u64) -> Result<()> {
        ensure!(
            during > 0,
            "the guest finished no round between the request and the end of the DIMM"
        );
        self.report.text(
            "QEMU asked for the DIMM back while the guest computed. The kernel moved the guest's pages and its \
             tables, a batch at a time, and let it run between two batches.",
        );
        self.report.fact("rounds during the pull", during.to_string());
        self.report.fact("pages moved", gone.pages_moved.to_string());
        self.report.fact("tables moved", gone.tables_moved.to_string());
        self.report.fact("its memory lies in", held(gone));
        self.report.checked("the DIMM is gone");
        Ok(())
    }

    /// Lets the guest go on for some rounds after the pull, and pauses it.
    fn after(&mut self, gone: &Guest) -> Result<Guest> {
        let last = gone.rounds + AFTER;
        self.machine.wait_guest(NAME, "far enough", |guest| guest.rounds >= last)?;
        let end = self.stop_at_a_round()?;
        self.machine.run("verify")?;
        self.report.checked("every invariant holds");
        ensure!(end.wrong_words == 0, "{} words of the guest are wrong", end.wrong_words);
        self.report.checked(format!("{} rounds later no word was wrong", end.rounds - gone.rounds));
        self.pauses(&end)?;
        self.stops(&end)?;
        Ok(end)
    }

    /// Tells how many rounds each of several virtual CPUs finished during the pull: one at least.
    fn each_went_on(&mut self, before: &Guest, gone: &Guest) -> Result<()> {
        let each = gone.rounds_of_each().into_iter().zip(before.rounds_of_each());
        let each: Vec<u64> = each.map(|(gone, before)| gone - before).collect();
        ensure!(each.iter().all(|rounds| *rounds > 0), "rounds during the pull: {each:?}");
        if each.len() > 1 {
            self.report.fact("of each virtual CPU", listed(&each));
            let waits: Vec<u64> = gone.vcpus.iter().map(|vcpu| vcpu.waits).collect();
            self.report.fact("accesses that waited", listed(&waits));
        }
        Ok(())
    }

    /// Pauses the guest; one with several virtual CPUs goes on until all of them have done as many rounds.
    fn stop_at_a_round(&mut self) -> Result<Guest> {
        self.machine.run(&format!("vm pause {NAME}"))?;
        let paused = self.machine.guest(NAME)?;
        let each = paused.rounds_of_each();
        if each.len() == 1 {
            return Ok(paused);
        }
        let last = each.iter().max().map_or(1, |most| most + 1);
        self.machine.run(&format!("vm run {NAME} {last}"))?;
        self.machine.wait_guest(NAME, "done", |guest| guest.state == "done")
    }

    /// Kills the guest, and creates the same again.
    pub(super) fn create_again(&mut self, bytes: u64) -> Result<()> {
        self.machine.run(&format!("vm kill {NAME}"))?;
        self.machine.run(&self.args.guest.create_line(NAME, bytes))?;
        Ok(())
    }

    /// The same guest again, for as many rounds, without a pull; kills both.
    fn undisturbed(&mut self, pulled: &Guest) -> Result<Guest> {
        self.report.chapter("The same guest without the pull");
        self.create_again(pulled.bytes)?;
        self.machine.run(&self.args.guest.run_line(NAME, pulled.rounds))?;
        let done = self.machine.wait_guest(NAME, "done", |guest| guest.state == "done")?;
        self.machine.run(&format!("vm kill {NAME}"))?;
        self.report.fact("rounds", done.rounds.to_string());
        if done.vcpus.len() > 1 {
            self.report.fact("of each virtual CPU", listed(&done.rounds_of_each()));
        }
        self.report.fact("checksum with the pull", pulled.checksum.clone());
        self.report.fact("checksum without", done.checksum.clone());
        ensure!(done.pages_moved == 0, "{} pages moved without a pull", done.pages_moved);
        ensure!(done.rounds == pulled.rounds, "{} rounds of {}", done.rounds, pulled.rounds);
        ensure!(done.checksum == pulled.checksum, "the checksums differ");
        self.report.checked("both checksums are the same");
        Ok(done)
    }
}

/// Figures of several virtual CPUs.
fn listed(figures: &[u64]) -> String {
    figures.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// The blocks that hold a guest.
fn held(guest: &Guest) -> String {
    let blocks = guest.blocks.iter();
    let blocks = blocks.map(|held| format!("block {} ({})", held.block, human(held.bytes)));
    blocks.collect::<Vec<_>>().join(", ")
}
