//! Guests of the kernel, as its monitor shows them.

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::log::Log;
use super::{Dimm, Machine};

/// The pause between two looks at a guest.
const PAUSE: Duration = Duration::from_millis(50);
/// The same at a console. With one CPU the guest does not run while the kernel replies.
const LOOK: Duration = Duration::from_millis(250);

/// The most pages of a batch.
const BATCH: u64 = 64;

/// The most instructions of a pause by an extent of which the guest writes 1 % while it is copied.
const EXTENT: u64 = 100_000;

/// The most instructions of a stop by a batch on a guest's own CPU, in pauses of the longest kind: finding the pages and
/// clearing what they left take longer than the pause.
const STOP: u64 = 6;

/// The most instructions of a pause: for each page of a batch, and for all of them. That of the largest batch is less than
/// the sum, since its pages share a flush.
fn bounds(page: u64) -> (u64, u64) {
    match page {
        4096 => (1_500, 70_000),
        _ => (2_000 * (page / 4096), 2_000 * (page / 4096) * BATCH),
    }
}

/// Bytes of a guest's memory in a memory block.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Held {
    pub(crate) block: u64,
    pub(crate) bytes: u64,
}

/// A virtual CPU, and what it did.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Vcpu {
    /// The CPU that it is pinned to.
    pub(crate) cpu: u32,
    /// Rounds that it has finished.
    pub(crate) rounds: u64,
    /// Accesses that waited for a move.
    pub(crate) waits: u64,
}

/// A guest, and what it did.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Guest {
    pub(crate) name: String,
    /// `payload`, `linux` or `self`.
    pub(crate) program: String,
    pub(crate) state: String,
    /// Bytes that it wrote to its console.
    pub(crate) written: u64,
    /// Its virtual CPUs.
    pub(crate) vcpus: Vec<Vcpu>,
    /// Bytes of its memory.
    pub(crate) bytes: u64,
    /// Where its memory is.
    pub(crate) blocks: Vec<Held>,
    /// Where its tables are.
    pub(crate) table_blocks: Vec<Held>,
    /// Rounds that its payload has finished, on each virtual CPU.
    pub(crate) rounds: u64,
    pub(crate) wrong_words: u64,
    pub(crate) checksum: String,
    /// The largest gap that it saw between two reads of its counter.
    pub(crate) longest_gap: u64,
    /// The longest time that the kernel saw it stand still, in the same ticks.
    pub(crate) longest_stop: u64,
    /// The longest of those stops in which a batch was moved, in instructions.
    pub(crate) longest_move: u64,
    /// The longest time in which a batch of its pages had no translation.
    pub(crate) longest_pause: u64,
    /// The longest share of one page in that of its batch.
    pub(crate) longest_pause_of_page: u64,
    /// Extents that were copied while it ran, before they moved.
    pub(crate) extents_ahead: u64,
    /// Those of them that it changed faster than they were copied.
    pub(crate) extents_hurried: u64,
    pub(crate) pages_moved: u64,
    pub(crate) tables_moved: u64,
}

impl Guest {
    /// Rounds of each virtual CPU.
    pub(crate) fn rounds_of_each(&self) -> Vec<u64> {
        self.vcpus.iter().map(|vcpu| vcpu.rounds).collect()
    }

    /// Bytes of it in these blocks.
    pub(crate) fn bytes_in(&self, blocks: Range<u64>) -> u64 {
        let held = self.blocks.iter().filter(|held| blocks.contains(&held.block));
        held.map(|held| held.bytes).sum()
    }

    /// Checks the pauses of batches of moves on a machine that counts instructions and has pages of `page` bytes.
    ///
    /// # Errors
    /// When one is longer than its bound.
    pub(crate) fn ensure_pauses(&self, page: u64) -> Result<()> {
        let (of_page, of_batch) = bounds(page);
        let (each, all) = (self.longest_pause_of_page, self.longest_pause);
        ensure!(all > 0 && each > 0, "no batch of pages was moved");
        ensure!(all <= of_batch, "a pause of {all} instructions by a batch, of {of_batch} at most");
        ensure!(
            each <= of_page,
            "a pause of {each} instructions for each page, of {of_page} at most"
        );
        Ok(())
    }

    /// Checks the pause of extents that were copied ahead, on a machine that counts instructions.
    ///
    /// # Errors
    /// When none was, or one took longer than its bound.
    pub(crate) fn ensure_extents(&self, extents: u64) -> Result<()> {
        let moved = (self.extents_ahead, self.extents_hurried);
        ensure!(
            moved == (extents, 0),
            "{extents} extents moved, of which {moved:?} as they should"
        );
        let pause = self.longest_pause;
        ensure!(pause > 0, "no pause was counted");
        ensure!(
            pause <= EXTENT,
            "a pause of {pause} instructions by an extent, of {EXTENT} at most"
        );
        Ok(())
    }

    /// Checks the pauses of extents of so many bytes of which the guest may change all while they are copied, or that are
    /// moved in one piece: no page may take longer than in a batch.
    ///
    /// # Errors
    /// When one is longer than its bound.
    pub(crate) fn ensure_whole_extents(&self, page: u64, extent: u64) -> Result<()> {
        let (of_page, of_batch) = bounds(page);
        let (pause, most) = (self.longest_pause, of_batch.max(of_page * (extent / page)));
        ensure!(pause > 0, "no extent was moved");
        ensure!(pause <= most, "a pause of {pause} instructions by an extent, of {most} at most");
        Ok(())
    }

    /// Checks how long a batch of moves stopped a guest that runs on the CPU of the manager; the rest as for
    /// [`ensure_pauses`](Self::ensure_pauses).
    ///
    /// # Errors
    /// When it is longer than its bound.
    pub(crate) fn ensure_stop(&self, page: u64) -> Result<()> {
        let (_, of_batch) = bounds(page);
        let (stop, pause, most) = (self.longest_move, self.longest_pause, of_batch * STOP);
        ensure!(stop > pause, "a stop of {stop} instructions by a batch with a pause of {pause}");
        ensure!(stop <= most, "a stop of {stop} instructions by a batch, of {most} at most");
        Ok(())
    }
}

impl Machine {
    /// All guests.
    ///
    /// # Errors
    /// When the reply is missing or cannot be read.
    pub(crate) fn guests(&mut self) -> Result<Vec<Guest>> {
        self.read("vm list --json")
    }

    /// The guest of this name.
    ///
    /// # Errors
    /// If no guest has the name.
    pub(crate) fn guest(&mut self, name: &str) -> Result<Guest> {
        let mut guests = self.guests()?.into_iter();
        guests.find(|guest| guest.name == name).with_context(|| format!("there is no guest {name}"))
    }

    /// Free bytes of boot memory that is never removed.
    ///
    /// # Errors
    /// When the reply is missing or cannot be read.
    pub(crate) fn boot_free(&mut self) -> Result<u64> {
        let zones = self.json("zones --json")?;
        let zones = zones.as_array().context("zones are not a list")?;
        let system = zones.iter().filter(|zone| zone["zone"] == "system");
        Ok(system.filter_map(|zone| zone["free_bytes"].as_u64()).sum())
    }

    /// Waits until `is_so` holds for a guest that runs or is done.
    ///
    /// # Errors
    /// When the guest stops, or does not get there in time.
    pub(crate) fn wait_guest(
        &mut self,
        name: &str,
        what: &str,
        is_so: impl Fn(&Guest) -> bool,
    ) -> Result<Guest> {
        let deadline = self.soon();
        loop {
            let guest = self.guest(name)?;
            if is_so(&guest) {
                return Ok(guest);
            }
            ensure!(guest.state != "stopped", "guest {name} is stopped instead of {what}");
            if Instant::now() > deadline {
                bail!("guest {name} is not {what} in time: {guest:?}");
            }
            thread::sleep(PAUSE);
        }
    }

    /// Reads the console of a guest until `is_so` holds, or the guest has ended.
    ///
    /// # Errors
    /// When the guest stops, or neither comes in time; the error shows the end of the console.
    pub(crate) fn wait_log(
        &mut self,
        name: &str,
        log: &mut Log,
        what: &str,
        is_so: impl Fn(&Log) -> bool,
    ) -> Result<Guest> {
        let deadline = self.soon();
        loop {
            let guest = self.guest(name)?;
            if guest.written > log.read {
                log.add(&self.run(&format!("vm console {name} {}", log.read))?)?;
            }
            if is_so(log) || guest.state == "done" {
                return Ok(guest);
            }
            let tail = || log.tail(10).join("\n    ");
            if guest.state == "stopped" {
                let why = self.run(&format!("vm log {name}"))?;
                let why = why.first().cloned().unwrap_or_default();
                bail!("guest {name} is stopped instead of {what}: {why}\n    {}", tail());
            }
            ensure!(
                Instant::now() < deadline,
                "guest {name} is not {what} in time\n    {}",
                tail()
            );
            thread::sleep(LOOK);
        }
    }

    /// Types lines at the serial port of a guest.
    ///
    /// # Errors
    /// When the guest has no room for one.
    pub(crate) fn type_lines(&mut self, name: &str, lines: &[&str]) -> Result<()> {
        lines.iter().try_for_each(|line| self.run(&format!("vm type {name} {line}")).map(drop))
    }

    /// Waits until our own kernel, as a guest, has passed so many checks of its pages.
    ///
    /// # Errors
    /// When one fails, or they do not come in time.
    pub(crate) fn wait_checks(&mut self, name: &str, log: &mut Log, checks: u64) -> Result<Guest> {
        let is_over = |log: &Log| log.checks() >= checks || log.has("error: ");
        let guest = self.wait_log(name, log, "checking its pages", is_over)?;
        ensure!(!log.has("error: "), "the guest found an error: {:?}", log.tail(5));
        ensure!(log.checks() >= checks, "the guest ended after {} checks", log.checks());
        Ok(guest)
    }

    /// Waits until a Linux guest has turned itself off, with all of its console read.
    ///
    /// # Errors
    /// When it ends otherwise, or not in time.
    pub(crate) fn wait_power_off(&mut self, name: &str, log: &mut Log) -> Result<Guest> {
        self.wait_log(name, log, "turning itself off", |_| false)?;
        // What it wrote last.
        let end = self.wait_log(name, log, "done", |_| true)?;
        ensure!(log.has("reboot: Power down"), "the guest ended otherwise: {:?}", log.tail(3));
        Ok(end)
    }

    /// The numbers of the blocks of a DIMM.
    ///
    /// # Errors
    /// When the kernel does not report its block size.
    pub(crate) fn blocks_of_dimm(&mut self, dimm: &Dimm) -> Result<Range<u64>> {
        let block = self.geometry()?.block;
        Ok(dimm.start / block..(dimm.start + dimm.size) / block)
    }
}
